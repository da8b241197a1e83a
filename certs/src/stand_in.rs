//! What is served in place of a certificate that an authority has yet to issue: one that nobody
//! trusts, so that the listener is there and the proof that the authority asks for can be given.
//!
//! Made in memory; never written anywhere.

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls::pki_types::UnixTime;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::load::{self, Certificate};

/// The subject of a stand-in, for whoever looks at it in a browser.
const SUBJECT: &str = "Cardea stand-in: the certificate is not issued yet";

/// How long one is good. Nobody trusts it anyway.
const LIFETIME_SECS: u64 = 365 * 24 * 60 * 60;

/// Makes a stand-in for some hosts.
pub(crate) fn make(hosts: &[String], now: UnixTime) -> Result<Certificate, Error> {
    let failed = |source| Error::Issue {
        what: "a stand-in certificate",
        source,
    };
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::new(hosts).map_err(failed)?;
    params.not_before = epoch + Duration::from_secs(now.as_secs().saturating_sub(3600));
    params.not_after = epoch + Duration::from_secs(now.as_secs() + LIFETIME_SECS);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, SUBJECT);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = Zeroizing::new(key.serialize_pem());
    let bundle = Zeroizing::new(format!("{}{}", *key, certificate.pem()));
    let made = load::parse(bundle.as_bytes(), "(stand-in)".as_ref())?;
    Ok(Certificate {
        warnings: Box::new([]),
        is_stand_in: true,
        ..made
    })
}

//! A certificate that is there: what it is for, and until when.
//!
//! Must not: take anything from a file that could not be served.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use instant_acme::CertificateIdentifier;
use rustls::pki_types::UnixTime;

use crate::settings::Managed;
use crate::storage::Storage;

/// The digest of a certificate.
pub(crate) type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

/// The certificate that a bundle holds.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    /// What tells it from any other: two may end at the same second.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// What an authority knows it by (RFC 9773 section 4.1).
    pub(crate) identifier: Option<CertificateIdentifier<'static>>,
}

impl Bundle {
    /// The certificate that there is, if it is for all the hosts. One that is damaged, or for
    /// others, is as good as none.
    pub(crate) fn read(managed: &Managed, storage: &Storage) -> Option<Self> {
        let path = storage.bundle(&managed.name);
        let bytes = storage.read(&path).ok()??;
        let certificate = cardea_certs::parse(&bytes, &path).ok()?;
        let names = &certificate.details.names;
        let covers = |host: &String| {
            let host = host.to_ascii_lowercase();
            names.iter().any(|name| **name == host) || certificate.details.covers(&host)
        };
        if !managed.hosts.iter().all(covers) {
            return None;
        }
        let leaf = certificate.certified.cert.first()?;
        let identifier = CertificateIdentifier::try_from(leaf).ok();
        let hash = digest::digest(&digest::SHA256, leaf);
        Some(Self {
            fingerprint: hash.as_ref().try_into().ok()?,
            not_before: moment(certificate.details.not_before),
            not_after: moment(certificate.details.not_after),
            identifier: identifier.map(CertificateIdentifier::into_owned),
        })
    }

    /// Whether there is a file, and nothing in it that could be served.
    pub(crate) fn is_damaged(path: &Path, storage: &Storage) -> bool {
        let bytes = storage.read(path).ok().flatten();
        bytes.is_some_and(|bytes| cardea_certs::parse(&bytes, path).is_err())
    }
}

fn moment(at: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.as_secs())
}

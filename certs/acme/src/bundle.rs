//! A certificate that is there: what it is for, and until when.
//!
//! Must not: take anything from a file that could not be served.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::CertificateIdentifier;
use rustls::pki_types::UnixTime;

use crate::settings::Managed;
use crate::storage::Storage;

/// The certificate that a bundle holds.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
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
        Some(Self {
            not_before: moment(certificate.details.not_before),
            not_after: moment(certificate.details.not_after),
            identifier: identifier.map(CertificateIdentifier::into_owned),
        })
    }
}

fn moment(at: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.as_secs())
}

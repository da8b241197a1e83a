//! What an operator is told about staples.
//!
//! Must not: leave out what to do.

use std::sync::Arc;

use cardea_certs::ocsp::Unusable;
use rustls::pki_types::UnixTime;

/// Why there is nothing new to staple.
#[derive(Debug, thiserror::Error)]
pub enum StapleError {
    /// The responder could not be asked.
    #[error("{url} gave no answer: {detail}")]
    Fetch {
        /// The responder.
        url: String,
        /// What happened.
        detail: String,
    },
    /// Its answer is no good.
    #[error("what {url} answered cannot be used")]
    Unusable {
        /// The responder.
        url: String,
        /// Why not.
        source: Unusable,
    },
    /// The storage failed.
    #[error("the answer cannot be kept over a restart")]
    Storage(#[source] Box<crate::Error>),
}

impl StapleError {
    /// What an operator can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Fetch { url, .. } => {
                format!("Let the gateway reach {url}, or set `ocsp: off`.")
            }
            Self::Unusable {
                source: Unusable::Revoked { .. },
                ..
            } => "Replace the certificate: clients that ask will refuse it.".to_owned(),
            Self::Unusable { url, .. } => {
                format!("Look at what stands between the gateway and {url}, and ask the authority.")
            }
            Self::Storage(error) => error.remedy(),
        }
    }
}

/// Something that an operator should hear.
#[derive(Debug)]
#[non_exhaustive]
pub enum StapleEvent {
    /// There is a new answer, and it is stapled.
    Stapled {
        /// The name of the certificate.
        certificate: Arc<str>,
        /// Until when the answer counts.
        until: UnixTime,
    },
    /// There is none; the one before stays for as long as it counts.
    Failed {
        /// The name of the certificate.
        certificate: Arc<str>,
        /// Why not.
        error: Arc<StapleError>,
    },
}

/// How the staple of a certificate is doing.
#[derive(Debug, Clone)]
pub struct StapleStatus {
    /// Until when what is stapled counts; none if nothing is.
    pub until: Option<UnixTime>,
    /// When the authority is asked next.
    pub next: UnixTime,
    /// Why the last attempt failed, if it did.
    pub error: Option<Arc<StapleError>>,
}

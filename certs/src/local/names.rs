//! Certificates of the local authority for whatever name of this machine a client asks for, made on
//! the spot: a developer invents `shop.localhost` and opens it.
//!
//! In the life of a request, for development alone: one lock for each handshake, and a fraction of
//! a millisecond for each new name.
//!
//! Must not: make one for a name that is not this machine's.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;

use super::{LEAF_RENEW_SECS, LEAF_SECS, Opened, issue};
use crate::error::Error;

/// Certificates kept; beyond, all are made again.
const NAMES_MAX: usize = 1024;

/// Makes certificates for names below `localhost`.
pub struct LocalNames {
    authority: issue::Authority,
    made: Mutex<HashMap<Box<str>, Made>>,
}

struct Made {
    certified: Arc<CertifiedKey>,
    renew_at: u64,
}

impl LocalNames {
    /// With the authority in a directory, which is made if there is none.
    pub fn open(directory: &Path, now: UnixTime) -> Result<Arc<Self>, Error> {
        let opened = Opened::with(directory, &[], now)?;
        Ok(Arc::new(Self {
            authority: opened.authority,
            made: Mutex::default(),
        }))
    }

    /// The certificate for a host; none if it is not one of this machine.
    pub(crate) fn certified(&self, host: &str, now: UnixTime) -> Option<Arc<CertifiedKey>> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host != "localhost" && !host.ends_with(".localhost") {
            return None;
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(&*host).filter(|it| now.as_secs() < it.renew_at) {
            return Some(Arc::clone(&known.certified));
        }
        let leaf = issue::issue(&self.authority, std::slice::from_ref(&host), now).ok()?;
        let certified = Arc::new(leaf.certified().ok()?);
        if made.len() >= NAMES_MAX {
            made.clear();
        }
        let entry = Made {
            certified: Arc::clone(&certified),
            renew_at: now.as_secs() + LEAF_SECS - LEAF_RENEW_SECS,
        };
        made.insert(host.into_boxed_str(), entry);
        Some(certified)
    }
}

impl fmt::Debug for LocalNames {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LocalNames").finish_non_exhaustive()
    }
}

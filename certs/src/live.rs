//! The certificates in use, and their exchange while connections arrive.
//!
//! Here the two lives meet: the life of a configuration puts a new [`CertificateStore`] in place,
//! handshakes load whichever is there. A handshake sees one store from beginning to end. Nothing
//! here parses on a worker's thread.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::{Error, Failure};
use crate::files::ContentHash;
use crate::load::{Certificate, Source};
use crate::store::{CertificateSpec, CertificateStore, Entry, Observed};

/// The certificates in use.
#[derive(Debug)]
pub struct LiveCertificates {
    store: ArcSwap<CertificateStore>,
    /// Held by whoever replaces the store, so that two replacements do not undo each other. What
    /// is in it: files already reported as unusable, so that each is reported once.
    rejected: Mutex<HashMap<Arc<str>, Rejected>>,
}

/// The state of files that were refused.
#[derive(Debug, PartialEq, Eq)]
enum Rejected {
    Content(ContentHash),
    Unreadable(String),
}

/// What a look at the files brought.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// The certificates that are served from new files now.
    pub replaced: Vec<Arc<str>>,
    /// The certificates that have new files which cannot be served; the old ones still are. Told
    /// once for each content.
    pub failed: Vec<Failure>,
}

impl LiveCertificates {
    /// Starts with a store.
    pub fn new(store: CertificateStore) -> Arc<Self> {
        Arc::new(Self {
            store: ArcSwap::from_pointee(store),
            rejected: Mutex::default(),
        })
    }

    /// The store in use.
    pub fn load(&self) -> Arc<CertificateStore> {
        self.store.load_full()
    }

    /// Puts another store in place: the configuration changed. Handshakes under way finish with
    /// the one they began with.
    pub fn swap(&self, store: CertificateStore) {
        let mut rejected = self.replacing();
        rejected.clear();
        self.store.store(Arc::new(store));
    }

    /// Looks at all files and serves what is new in them. A certificate whose new files are no
    /// good keeps the old ones.
    pub fn refresh(&self, now: UnixTime) -> Refreshed {
        let mut rejected = self.replacing();
        let store = self.store.load_full();
        let mut entries = store.entries().to_vec();
        let mut refreshed = Refreshed::default();
        let mut is_restamped = false;
        let plan = store.plan();
        let places = plan.certificates.iter().zip(&mut entries);
        for ((spec, entry), observed) in places.zip(store.observe(now)) {
            let outcome = match observed {
                Observed::Same => Outcome::Kept,
                Observed::Restamped(stamps) => {
                    entry.restamp(stamps);
                    is_restamped = true;
                    Outcome::Kept
                }
                Observed::Changed(source) => {
                    let state = Rejected::Content(source.hash);
                    if rejected.get(&spec.name) == Some(&state) {
                        continue;
                    }
                    match successor(entry, spec, &source, now) {
                        Ok(successor) => {
                            *entry = successor;
                            Outcome::Replaced
                        }
                        Err(error) => Outcome::Failed(state, error),
                    }
                }
                Observed::Unreadable(error) => {
                    Outcome::Failed(Rejected::Unreadable(error.to_string()), error)
                }
            };
            settle(&spec.name, outcome, &mut rejected, &mut refreshed);
        }
        if !refreshed.replaced.is_empty() {
            let successor = CertificateStore::assemble(Arc::clone(plan), entries, now);
            self.store.store(Arc::new(successor));
        } else if is_restamped {
            self.store.store(Arc::new(store.restamped(entries)));
        }
        refreshed
    }

    /// What rustls asks for a certificate. A listener may name its own default; if the store in
    /// use has no such certificate, the store's default stands in.
    pub fn resolver(self: &Arc<Self>, default: Option<Arc<str>>) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Resolver {
            live: Arc::clone(self),
            default,
        })
    }

    /// A panic while replacing left the store as it was, so there is nothing to distrust.
    fn replacing(&self) -> MutexGuard<'_, HashMap<Arc<str>, Rejected>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of one certificate in a refresh.
enum Outcome {
    Kept,
    Replaced,
    Failed(Rejected, Error),
}

/// The certificate from new files, if it is fit to take the place of the one in use. Files that
/// are past or ahead of their time do not replace a certificate that is valid: most likely they
/// are the wrong ones. (When starting there is no choice, and they are served with a warning.)
fn successor(
    current: &Entry,
    spec: &CertificateSpec,
    source: &Source,
    now: UnixTime,
) -> Result<Entry, Error> {
    let entry = Entry::load(spec, source)?;
    let details = &entry.certificate.details;
    if entry.certificate.is_timely(now) || !current.certificate.is_timely(now) {
        Ok(entry)
    } else if now.as_secs() < details.not_before.as_secs() {
        Err(Error::NotYetValid {
            path: spec.chain.clone(),
            not_before: details.not_before,
        })
    } else {
        Err(Error::Expired {
            path: spec.chain.clone(),
            not_after: details.not_after,
        })
    }
}

/// Tells an outcome, but the same failure only once.
fn settle(
    name: &Arc<str>,
    outcome: Outcome,
    rejected: &mut HashMap<Arc<str>, Rejected>,
    refreshed: &mut Refreshed,
) {
    match outcome {
        Outcome::Kept => {
            rejected.remove(name);
        }
        Outcome::Replaced => {
            rejected.remove(name);
            refreshed.replaced.push(Arc::clone(name));
        }
        Outcome::Failed(state, _) if rejected.get(name) == Some(&state) => {}
        Outcome::Failed(state, error) => {
            rejected.insert(Arc::clone(name), state);
            refreshed.failed.push(Failure {
                certificate: Arc::clone(name),
                error,
            });
        }
    }
}

/// Answers rustls from whatever store is in use at the moment.
#[derive(Debug)]
struct Resolver {
    live: Arc<LiveCertificates>,
    default: Option<Arc<str>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let store = self.live.store.load();
        let by_host = client
            .server_name()
            .and_then(|host| store.lookup(host, client.signature_schemes()));
        let by_listener = || store.certificate(self.default.as_deref()?);
        let certificate: &Arc<Certificate> = by_host
            .or_else(by_listener)
            .or_else(|| store.default_certificate())?;
        Some(Arc::clone(&certificate.certified))
    }
}

#[cfg(test)]
mod tests;

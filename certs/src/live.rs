//! The certificates in use, and their exchange while connections arrive.
//!
//! Here the two lives meet: the life of a configuration puts a new [`CertificateStore`] in place,
//! handshakes load whichever is there. A handshake sees one store from beginning to end. Nothing
//! here parses on a worker's thread.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::{Error, Failure};
use crate::load::{Certificate, Source};
use crate::local::LocalNames;
use crate::store::{CertificateSpec, CertificateStore, Entry, Observed};

/// The certificates in use.
#[derive(Debug)]
pub struct LiveCertificates {
    store: ArcSwap<CertificateStore>,
    /// Held by whoever replaces the store, so that two replacements do not undo each other.
    replacing: Mutex<()>,
}

/// What a look at the files brought.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// The certificates that are served from new files now.
    pub replaced: Vec<Arc<str>>,
    /// The certificates that have new files which cannot be served; the old ones still are.
    pub failed: Vec<Failure>,
}

impl LiveCertificates {
    /// Starts with a store.
    pub fn new(store: CertificateStore) -> Arc<Self> {
        Arc::new(Self {
            store: ArcSwap::from_pointee(store),
            replacing: Mutex::default(),
        })
    }

    /// The store in use.
    pub fn load(&self) -> Arc<CertificateStore> {
        self.store.load_full()
    }

    /// Whether a certificate has a name, or a domain chose one for it.
    pub fn has_name(&self, host: &str) -> bool {
        self.store.load().lookup(host, &[]).is_some()
    }

    /// Puts another store in place: the configuration changed. Handshakes under way finish with
    /// the one they began with.
    pub fn swap(&self, store: CertificateStore) {
        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.store.store(Arc::new(store));
    }

    /// Looks at all files and serves what is new in them. A certificate whose new files are no
    /// good keeps the old ones.
    pub fn refresh(&self, now: UnixTime) -> Refreshed {
        self.refresh_those(now, |_| true)
    }

    /// As `refresh`, of the certificates that some files are of.
    pub fn refresh_files(&self, files: &BTreeSet<PathBuf>, now: UnixTime) -> Refreshed {
        self.refresh_those(now, |spec| {
            files.contains(&spec.chain) || files.contains(&spec.key)
        })
    }

    fn refresh_those(
        &self,
        now: UnixTime,
        is_concerned: impl Fn(&CertificateSpec) -> bool,
    ) -> Refreshed {
        // A panic while replacing left the store as it was, so there is nothing to distrust.
        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let store = self.store.load_full();
        let mut entries = store.entries().to_vec();
        let mut refreshed = Refreshed::default();
        let mut is_restamped = false;
        let mut is_alike = true;
        let plan = store.plan();
        let places = plan.certificates.iter().zip(&mut entries);
        for (spec, entry) in places.filter(|(spec, _)| is_concerned(spec)) {
            let outcome = match entry.observe(spec, now) {
                Observed::Same => continue,
                Observed::Restamped(stamps) => {
                    entry.restamp(stamps);
                    is_restamped = true;
                    continue;
                }
                Observed::Changed(source) => successor(entry, spec, &source, now),
                Observed::Unreadable(error) => Err(error),
            };
            let certificate = Arc::clone(&spec.name);
            match outcome {
                Ok(successor) => {
                    is_alike &= store.finds_alike(entry, &successor);
                    *entry = successor;
                    refreshed.replaced.push(certificate);
                }
                Err(error) => refreshed.failed.push(Failure { certificate, error }),
            }
        }
        if !refreshed.replaced.is_empty() && !is_alike {
            let successor = CertificateStore::assemble(Arc::clone(plan), entries, now);
            self.store.store(Arc::new(successor));
        } else if is_restamped || !refreshed.replaced.is_empty() {
            self.store.store(Arc::new(store.with_entries(entries)));
        }
        refreshed
    }

    /// Staples to certificates what `staple` has for them, or takes away what it has not. Costs
    /// nothing where all of it is stapled already.
    pub fn staple<'s>(&self, staple: impl Fn(&Certificate) -> Option<&'s [u8]>) {
        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let store = self.store.load_full();
        let mut entries: Option<Vec<Entry>> = None;
        for (position, entry) in store.entries().iter().enumerate() {
            let wanted = staple(&entry.certificate);
            if entry.certificate.staple() == wanted {
                continue;
            }
            let entries = entries.get_or_insert_with(|| store.entries().to_vec());
            if let Some(place) = entries.get_mut(position) {
                let stapled = entry.certificate.stapled(wanted.map(<[u8]>::to_vec));
                place.certificate = Arc::new(stapled);
            }
        }
        if let Some(entries) = entries {
            self.store.store(Arc::new(store.with_entries(entries)));
        }
    }

    /// What rustls asks for a certificate. A listener may name its own default; if the store in
    /// use has no such certificate, the store's default stands in. Where there is a local
    /// authority, it comes before either for names of this machine.
    pub fn resolver(
        self: &Arc<Self>,
        default: Option<Arc<str>>,
        local: Option<Arc<LocalNames>>,
    ) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Resolver {
            live: Arc::clone(self),
            default,
            local,
        })
    }
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
    let is_worthless = current.certificate.is_stand_in || !current.certificate.is_timely(now);
    if entry.certificate.is_timely(now) || is_worthless {
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

/// Answers rustls from whatever store is in use at the moment.
#[derive(Debug)]
struct Resolver {
    live: Arc<LiveCertificates>,
    default: Option<Arc<str>>,
    local: Option<Arc<LocalNames>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let store = self.live.store.load();
        let host = client.server_name();
        let by_host = host.and_then(|host| store.lookup(host, client.signature_schemes()));
        if let (None, Some(host), Some(local)) = (by_host, host, &self.local)
            && let Some(certified) = local.certified(host, UnixTime::now())
        {
            return Some(certified);
        }
        let by_listener = || store.certificate(self.default.as_deref()?);
        let certificate: &Arc<Certificate> = by_host
            .or_else(by_listener)
            .or_else(|| store.default_certificate())?;
        Some(Arc::clone(&certificate.certified))
    }
}

#[cfg(test)]
mod tests;

//! The certificates in use, and their exchange while connections arrive.
//!
//! Here the two lives meet: the life of a configuration puts a new [`CertificateStore`] in place,
//! handshakes load whichever is there. A handshake sees one store from beginning to end. Nothing
//! here parses on a worker's thread.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::{Error, Failure};
use crate::load::{Certificate, Source};
use crate::local::LocalNames;
use crate::store::{CertificateSpec, CertificateStore, Entry, Observed, Plan};

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
    /// The certificates that are served now and were not in the plan before.
    pub came: Vec<Arc<str>>,
    /// The certificates that are served no more.
    pub went: Vec<Arc<str>>,
    /// The certificates that have new files which may not be whole yet; the old ones still are
    /// served, until somebody looks again.
    pub held: Vec<Arc<str>>,
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
        self.replace(&self.replacing(), store);
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
        let replacing = self.replacing();
        let store = self.store.load_full();
        let mut entries = store.entries().to_vec();
        let mut refreshed = Refreshed::default();
        let mut change = Change::None;
        let plan = store.plan();
        let places = plan.certificates.iter().zip(&mut entries);
        for (spec, entry) in places.filter(|(spec, _)| is_concerned(spec)) {
            change = change.max(look(&store, entry, spec, now, &mut refreshed));
        }
        self.replace(
            &replacing,
            match change {
                Change::None => return refreshed,
                Change::Found => CertificateStore::assemble(Arc::clone(plan), entries, now),
                Change::Alike => store.with_entries(entries),
            },
        );
        refreshed
    }

    /// Turns to a plan that has more certificates, or fewer, and looks at some files of those it
    /// keeps. Each counts for itself: one that cannot be served is left out, or stays as it is,
    /// and takes no other with it.
    pub fn follow(&self, plan: &Plan, files: &BTreeSet<PathBuf>, now: UnixTime) -> Refreshed {
        let replacing = self.replacing();
        let store = self.store.load_full();
        let mut refreshed = Refreshed::default();
        let mut served = Plan {
            certificates: Vec::with_capacity(plan.certificates.len()),
            assignments: plan.assignments.clone(),
        };
        let mut entries = Vec::with_capacity(plan.certificates.len());
        for spec in &plan.certificates {
            let entry = match store.entry_of(spec) {
                Some(entry) => {
                    let mut entry = entry.clone();
                    if files.contains(&spec.chain) || files.contains(&spec.key) {
                        look(&store, &mut entry, spec, now, &mut refreshed);
                    }
                    entry
                }
                None => match Entry::first(spec, now) {
                    Ok(entry) => {
                        refreshed.came.push(Arc::clone(&spec.name));
                        entry
                    }
                    Err(error) => {
                        let certificate = Arc::clone(&spec.name);
                        refreshed.failed.push(Failure { certificate, error });
                        continue;
                    }
                },
            };
            served.certificates.push(spec.clone());
            entries.push(entry);
        }
        let successor = CertificateStore::assemble(Arc::new(served), entries, now);
        let gone = store.certificates().map(|(spec, _)| &spec.name);
        let gone = gone.filter(|name| successor.certificate(name).is_none());
        refreshed.went.extend(gone.cloned());
        self.replace(&replacing, successor);
        refreshed
    }

    /// Has names that several certificates have go to the one that is valid by now: the one that
    /// had them may have ended. Costs next to nothing where none has.
    pub fn keep_in_order(&self, now: UnixTime) {
        let replacing = self.replacing();
        let store = self.store.load_full();
        if store.is_over(now) {
            let (plan, entries) = (Arc::clone(store.plan()), store.entries().to_vec());
            self.replace(&replacing, CertificateStore::assemble(plan, entries, now));
        }
    }

    /// The files that may not have been whole when they were last looked at.
    pub fn held_files(&self) -> BTreeSet<PathBuf> {
        self.store.load().held_files()
    }

    /// Held while the store is replaced.
    fn replacing(&self) -> MutexGuard<'_, ()> {
        // A panic while replacing left the store as it was, so there is nothing to distrust.
        self.replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, _replacing: &MutexGuard<'_, ()>, store: CertificateStore) {
        self.store.store(Arc::new(store));
    }

    /// Staples to certificates what `staple` has for them, or takes away what it has not. Costs
    /// nothing where all of it is stapled already.
    pub fn staple<'s>(&self, staple: impl Fn(&Certificate) -> Option<&'s [u8]>) {
        let replacing = self.replacing();
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
            self.replace(&replacing, store.with_entries(entries));
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

/// What a look at the files of a certificate means for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    None,
    /// Everything is found as before.
    Alike,
    /// Something may be found otherwise.
    Found,
}

/// Looks at the files of an entry, and puts what is new in them in its place.
fn look(
    store: &CertificateStore,
    entry: &mut Entry,
    spec: &CertificateSpec,
    now: UnixTime,
    refreshed: &mut Refreshed,
) -> Change {
    let certificate = Arc::clone(&spec.name);
    let outcome = match entry.observe(spec, now) {
        Observed::Same => return Change::None,
        Observed::Restamped(stamps) => {
            entry.restamp(stamps);
            return Change::Alike;
        }
        Observed::Changed(source) => successor(entry, spec, &source, now),
        Observed::Unreadable(error) => Err(error),
    };
    match outcome {
        Ok(Some(successor)) => {
            let is_alike = store.finds_alike(entry, &successor);
            *entry = successor;
            refreshed.replaced.push(certificate);
            if is_alike {
                Change::Alike
            } else {
                Change::Found
            }
        }
        Ok(None) => {
            entry.hold();
            refreshed.held.push(certificate);
            Change::Alike
        }
        Err(error) => {
            refreshed.failed.push(Failure { certificate, error });
            Change::None
        }
    }
}

/// The certificate from new files, if it is fit to take the place of the one in use; none if there
/// may be more of it to come. Files that are past or ahead of their time do not replace a
/// certificate that is valid: most likely they are the wrong ones. (When starting there is no
/// choice, and they are served with a warning.)
fn successor(
    current: &Entry,
    spec: &CertificateSpec,
    source: &Source,
    now: UnixTime,
) -> Result<Option<Entry>, Error> {
    let entry = Entry::load(spec, source)?;
    let details = &entry.certificate.details;
    if current.is_worthless(now) {
        Ok(Some(entry))
    } else if now.as_secs() < details.not_before.as_secs() {
        Err(Error::NotYetValid {
            path: spec.chain.clone(),
            not_before: details.not_before,
        })
    } else if now.as_secs() > details.not_after.as_secs() {
        Err(Error::Expired {
            path: spec.chain.clone(),
            not_after: details.not_after,
        })
    } else if current.outlasts(&entry, source, now) {
        Ok(None)
    } else {
        Ok(Some(entry))
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

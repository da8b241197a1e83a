//! All certificates of the gateway, and which of them a client gets.
//!
//! Life of a configuration: [`CertificateStore::build`] loads what is new, keeps what did not
//! change, and reports every problem at once. Life of a request: [`CertificateStore::lookup`]
//! answers each handshake by hashing, whatever the number of certificates, and allocates nothing.
//!
//! A store never changes; a different set of certificates is a different store (see `live`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rustls::SignatureScheme;
use rustls::pki_types::UnixTime;

use crate::error::{Error, Failure, Notice, Warning};
use crate::files::ContentHash;
use crate::load::{Certificate, Details, Source, Stamps};
use crate::stand_in;

mod names;

use names::NameIndex;

/// From this long before the end of its time on, a certificate is worth a warning. Authorities
/// that renew by themselves do so with a third of 90 days, or of fewer, left.
const EXPIRES_SOON_SECS: u64 = 14 * 24 * 60 * 60;

/// Certificates for which a thread of their own is worth its while.
const PART_LEAST: usize = 64;

/// A certificate as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSpec {
    /// Its name in configuration, logs and metrics.
    pub name: Arc<str>,
    /// The PEM file with the certificate and its issuers.
    pub chain: PathBuf,
    /// The PEM file with the private key; may be the same file.
    pub key: PathBuf,
    /// Whether clients get it that name no host, or one that no certificate has. Of several, the
    /// first.
    pub default: bool,
    /// The hosts that it will be for, if an authority has yet to issue it: while its files are not
    /// there, or damaged, something that nobody trusts stands in. None if they have to be there.
    pub stands_in_for: Option<Box<[String]>>,
}

/// A host that a domain claims, and the domain's choice for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAssignment {
    /// A host, or `*.` and a suffix for every host below; in lower case.
    pub host: Box<str>,
    /// The certificate by name. Without one the names in the certificates decide, even where a
    /// wider wildcard of another domain makes a choice.
    pub certificate: Option<Arc<str>>,
}

/// What a store is built from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The certificates, in the order of the configuration.
    pub certificates: Vec<CertificateSpec>,
    /// The hosts of domains. Needed only if one of them chooses a certificate.
    pub assignments: Vec<HostAssignment>,
}

/// An immutable set of loaded certificates.
#[derive(Debug, Default)]
pub struct CertificateStore {
    plan: Arc<Plan>,
    entries: Vec<Entry>,
    by_name: Arc<HashMap<Arc<str>, usize>>,
    index: Arc<NameIndex>,
}

/// A certificate in its place in the plan; as many as the plan has.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) certificate: Arc<Certificate>,
    /// What the files were when they were read; none if they were not there.
    stamps: Option<Stamps>,
    /// Whether there are newer files, which may not be whole yet.
    is_held: bool,
}

impl CertificateStore {
    /// A store without certificates: every handshake fails.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Loads all certificates of a plan. Files whose content the previous store has loaded are
    /// not parsed again, and files that certainly did not change are not even read. Every problem
    /// is reported; with any, there is no store.
    pub fn build(plan: Plan, previous: &Self, now: UnixTime) -> Result<Self, Vec<Failure>> {
        let mut failures = relation_failures(&plan);
        let mut entries = Vec::with_capacity(plan.certificates.len());
        let loaded = load_entries(&plan.certificates, previous, now);
        for (spec, loaded) in plan.certificates.iter().zip(loaded) {
            match loaded {
                Ok(entry) => entries.push(entry),
                Err(error) => failures.push(Failure {
                    certificate: Arc::clone(&spec.name),
                    error,
                }),
            }
        }
        if !failures.is_empty() {
            return Err(failures);
        }
        Ok(Self::assemble(Arc::new(plan), entries, now))
    }

    pub(crate) fn assemble(plan: Arc<Plan>, entries: Vec<Entry>, now: UnixTime) -> Self {
        debug_assert_eq!(plan.certificates.len(), entries.len());
        let by_name: HashMap<Arc<str>, usize> = plan
            .certificates
            .iter()
            .enumerate()
            .map(|(position, spec)| (Arc::clone(&spec.name), position))
            .collect();
        let index = NameIndex::build(&plan, &by_name, &entries, now);
        Self {
            plan,
            entries,
            by_name: Arc::new(by_name),
            index: Arc::new(index),
        }
    }

    /// Whether a certificate can take the place of another without anything being found otherwise:
    /// it has the same names, and shares none of them.
    pub(crate) fn finds_alike(&self, before: &Entry, after: &Entry) -> bool {
        let (before, after) = (&before.certificate, &after.certificate);
        before.details.names == after.details.names && self.index.is_alone(&before.details.names)
    }

    /// Whether a name belongs to another certificate by now, because one began or ended.
    pub(crate) fn is_over(&self, now: UnixTime) -> bool {
        self.index.is_over(now)
    }

    /// This store with other entries that are found by the same names.
    pub(crate) fn with_entries(&self, entries: Vec<Entry>) -> Self {
        Self {
            plan: Arc::clone(&self.plan),
            entries,
            by_name: Arc::clone(&self.by_name),
            index: Arc::clone(&self.index),
        }
    }

    /// The certificate for a client: by the host it names, and the signatures it understands.
    /// Names chosen by domains come first, then names that stand in certificates; exact ones
    /// before wildcards. `None` if no certificate has the name.
    pub fn lookup(&self, host: &str, schemes: &[SignatureScheme]) -> Option<&Arc<Certificate>> {
        let position = self.position(host, schemes)?;
        self.entries.get(position).map(|entry| &entry.certificate)
    }

    /// The place in the configuration of what [`lookup`](Self::lookup) finds, for explanations.
    pub fn spec_for(&self, host: &str, schemes: &[SignatureScheme]) -> Option<&CertificateSpec> {
        self.plan.certificates.get(self.position(host, schemes)?)
    }

    /// The facts about what [`lookup`](Self::lookup) finds, for warnings.
    pub fn details_for(&self, host: &str) -> Option<&Details> {
        let entry = self.entries.get(self.position(host, &[])?)?;
        Some(&entry.certificate.details)
    }

    fn position(&self, host: &str, schemes: &[SignatureScheme]) -> Option<usize> {
        let candidates = self.index.find(host)?;
        let suits = |position: &&u32| {
            let entry = self.entries.get(**position as usize);
            entry.is_some_and(|entry| entry.certificate.can_sign(schemes))
        };
        // Where no certificate suits, the first stands for all: rustls then refuses the client
        // with the alert that says why.
        let chosen = candidates.iter().find(suits).or(candidates.first())?;
        Some(*chosen as usize)
    }

    /// The certificate for clients that name no host, or one that no certificate has: the one
    /// marked so, else the first.
    pub fn default_certificate(&self) -> Option<&Arc<Certificate>> {
        let marked = self.plan.certificates.iter().position(|spec| spec.default);
        self.entries
            .get(marked.unwrap_or(0))
            .map(|entry| &entry.certificate)
    }

    /// A certificate by its name in the configuration.
    pub fn certificate(&self, name: &str) -> Option<&Arc<Certificate>> {
        let entry = self.entries.get(*self.by_name.get(name)?)?;
        Some(&entry.certificate)
    }

    /// All certificates with their places in the configuration, in its order.
    pub fn certificates(&self) -> impl Iterator<Item = (&CertificateSpec, &Arc<Certificate>)> {
        let certificates = self.entries.iter().map(|entry| &entry.certificate);
        self.plan.certificates.iter().zip(certificates)
    }

    /// What an operator should hear about certificates that are served nevertheless.
    pub fn notices(&self, now: UnixTime) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (spec, entry) in self.plan.certificates.iter().zip(&self.entries) {
            let certificate = &entry.certificate;
            let found = timeliness(certificate, now)
                .into_iter()
                .chain(entry.stamps.and_then(|stamps| stamps.warning(&spec.key)))
                .chain(certificate.is_stand_in.then_some(Warning::NotIssued))
                .chain(certificate.warnings.iter().cloned());
            notices.extend(found.map(|warning| Notice {
                certificate: Arc::clone(&spec.name),
                warning,
            }));
        }
        notices
    }

    /// What an operator should hear again and again: certificates that clients refuse for their
    /// dates, or soon will.
    pub fn expiring(&self, now: UnixTime) -> Vec<Notice> {
        let issued = self.certificates().filter(|(_, one)| !one.is_stand_in);
        let late = issued.filter_map(|(spec, certificate)| {
            Some(Notice {
                certificate: Arc::clone(&spec.name),
                warning: timeliness(certificate, now)?,
            })
        });
        late.collect()
    }

    /// The names of the certificates whose files hold something else than when they were loaded,
    /// or cannot be read any more.
    pub fn changed_files(&self, now: UnixTime) -> Vec<Arc<str>> {
        let specs = self.plan.certificates.iter().zip(&self.entries);
        specs
            .filter(|(spec, entry)| {
                let observed = entry.observe(spec, now);
                !matches!(observed, Observed::Same | Observed::Restamped(_))
            })
            .map(|(spec, _)| Arc::clone(&spec.name))
            .collect()
    }

    /// The entry of a certificate that is found in the same files.
    pub(crate) fn entry_of(&self, spec: &CertificateSpec) -> Option<&Entry> {
        let position = *self.by_name.get(&spec.name)?;
        let before = self.plan.certificates.get(position)?;
        let same_files = before.chain == spec.chain && before.key == spec.key;
        self.entries.get(position).filter(|_| same_files)
    }

    /// The files that may not have been whole when they were last looked at.
    pub(crate) fn held_files(&self) -> BTreeSet<PathBuf> {
        let held = self.plan.certificates.iter().zip(&self.entries);
        let held = held.filter(|(_, entry)| entry.is_held);
        held.map(|(spec, _)| spec.chain.clone()).collect()
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn by_content(&self) -> HashMap<ContentHash, &Arc<Certificate>> {
        let certificates = self.entries.iter().map(|entry| &entry.certificate);
        certificates
            .map(|certificate| (certificate.hash, certificate))
            .collect()
    }
}

/// How the files of a certificate look now.
pub(crate) enum Observed {
    /// As they were when it was loaded.
    Same,
    /// Of the same content, though the file system says otherwise, or could not tell.
    Restamped(Stamps),
    /// Different.
    Changed(Source),
    /// Gone, or out of reach.
    Unreadable(Error),
}

impl Entry {
    pub(crate) fn load(spec: &CertificateSpec, source: &Source) -> Result<Self, Error> {
        Ok(Self {
            certificate: Arc::new(source.certificate(&spec.chain, &spec.key)?),
            stamps: Some(source.stamps()),
            is_held: false,
        })
    }

    /// An entry of which nothing was known before.
    pub(crate) fn first(spec: &CertificateSpec, now: UnixTime) -> Result<Self, Error> {
        load_entry(spec, &CertificateStore::empty(), &HashMap::new(), now)
    }

    /// What stands in for a certificate that is not issued yet.
    fn stand_in(hosts: &[String], now: UnixTime) -> Result<Self, Error> {
        Ok(Self {
            certificate: Arc::new(stand_in::make(hosts, now)?),
            stamps: None,
            is_held: false,
        })
    }

    /// What stands in for a certificate that was issued, and came to harm.
    fn stand_in_for_damaged(
        spec: &CertificateSpec,
        hosts: &[String],
        error: &Error,
        now: UnixTime,
    ) -> Result<Self, Error> {
        let damaged = Warning::Damaged {
            path: spec.chain.clone(),
            detail: error.to_string(),
        };
        let certificate = Certificate {
            warnings: Box::new([damaged]),
            ..stand_in::make(hosts, now)?
        };
        Ok(Self {
            certificate: Arc::new(certificate),
            stamps: None,
            is_held: false,
        })
    }

    pub(crate) fn restamp(&mut self, stamps: Stamps) {
        self.stamps = Some(stamps);
        self.is_held = false;
    }

    /// Keeps what is served, as its newer files may not be whole yet.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Whether anything is better than what this serves.
    pub(crate) fn is_worthless(&self, now: UnixTime) -> bool {
        self.certificate.is_stand_in || !self.certificate.is_timely(now)
    }

    /// Whether a successor is better left for later: its chain was written a moment ago and may be
    /// the beginning of one. A leaf without its issuers parses as well as a whole chain does.
    pub(crate) fn outlasts(&self, successor: &Self, source: &Source, now: UnixTime) -> bool {
        source.is_fresh(now)
            && !self.is_worthless(now)
            && self.certificate.may_be_cut_short_in(&successor.certificate)
    }

    fn is_unchanged(&self, spec: &CertificateSpec, now: UnixTime) -> bool {
        let holds = |stamps: Stamps| stamps.still_hold(&spec.chain, &spec.key, now);
        self.stamps.is_some_and(holds)
    }

    pub(crate) fn observe(&self, spec: &CertificateSpec, now: UnixTime) -> Observed {
        if self.is_unchanged(spec, now) {
            return Observed::Same;
        }
        match Source::read(&spec.chain, &spec.key, now) {
            Ok(source) if source.hash == self.certificate.hash => {
                Observed::Restamped(source.stamps())
            }
            Ok(source) => Observed::Changed(source),
            Err(error) if self.certificate.is_stand_in && is_missing(&error) => Observed::Same,
            Err(error) => Observed::Unreadable(error),
        }
    }
}

/// Loads certificates, in their order. Reading and parsing thousands of them takes a while, so all
/// processors have a part in it.
fn load_entries(
    specs: &[CertificateSpec],
    previous: &CertificateStore,
    now: UnixTime,
) -> Vec<Result<Entry, Error>> {
    let known = previous.by_content();
    let load = |specs: &[CertificateSpec]| -> Vec<_> {
        let load = |spec| load_entry(spec, previous, &known, now);
        specs.iter().map(load).collect()
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let part = specs.len().div_ceil(processors).max(PART_LEAST);
    if specs.len() <= part {
        return load(specs);
    }
    thread::scope(|scope| {
        let parts: Vec<_> = specs.chunks(part).collect();
        let threads: Vec<_> = parts
            .iter()
            .map(|part| thread::Builder::new().spawn_scoped(scope, || load(part)))
            .collect();
        let results = threads.into_iter().zip(&parts).map(|(thread, part)| {
            let loaded = thread.ok().and_then(|thread| thread.join().ok());
            // A thread that could not be had leaves its part to this one.
            loaded.unwrap_or_else(|| load(part))
        });
        results.flatten().collect()
    })
}

fn load_entry(
    spec: &CertificateSpec,
    previous: &CertificateStore,
    known: &HashMap<ContentHash, &Arc<Certificate>>,
    now: UnixTime,
) -> Result<Entry, Error> {
    let before = previous.entry_of(spec);
    if let Some(entry) = before.filter(|entry| entry.is_unchanged(spec, now)) {
        return Ok(entry.clone());
    }
    let source = match (
        Source::read(&spec.chain, &spec.key, now),
        &spec.stands_in_for,
    ) {
        (Ok(source), _) => source,
        (Err(error), Some(hosts)) if is_missing(&error) => return Entry::stand_in(hosts, now),
        (Err(error), _) => return Err(error),
    };
    match known.get(&source.hash) {
        Some(certificate) => Ok(Entry {
            certificate: Arc::clone(certificate),
            stamps: Some(source.stamps()),
            is_held: false,
        }),
        None => {
            let entry = match (Entry::load(spec, &source), &spec.stands_in_for) {
                (Ok(entry), _) => entry,
                // It is ordered anew: no reason to serve nothing at all.
                (Err(error), Some(hosts)) => {
                    let issued = before.filter(|before| !before.certificate.is_stand_in);
                    return match issued {
                        Some(entry) => Ok(entry.clone()),
                        None => Entry::stand_in_for_damaged(spec, hosts, &error, now),
                    };
                }
                (Err(error), None) => return Err(error),
            };
            let outlasting = before.filter(|before| before.outlasts(&entry, &source, now));
            let Some(outlasting) = outlasting else {
                return Ok(entry);
            };
            let mut kept = outlasting.clone();
            kept.hold();
            Ok(kept)
        }
    }
}

/// Whether a file is not there, and nothing else is wrong.
fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// Names that are taken twice, and names that nothing has.
fn relation_failures(plan: &Plan) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut names = HashSet::new();
    for spec in &plan.certificates {
        if !names.insert(&spec.name) {
            failures.push(Failure {
                certificate: Arc::clone(&spec.name),
                error: Error::DuplicateName {
                    name: Arc::clone(&spec.name),
                },
            });
        }
    }
    for assignment in &plan.assignments {
        if let Some(name) = &assignment.certificate
            && !names.contains(name)
        {
            failures.push(Failure {
                certificate: Arc::clone(name),
                error: Error::UnknownCertificate {
                    name: Arc::clone(name),
                    wanted_by: format!("the host `{}`", assignment.host),
                },
            });
        }
    }
    failures
}

fn timeliness(certificate: &Certificate, now: UnixTime) -> Option<Warning> {
    let details = &certificate.details;
    let (not_before, not_after) = (details.not_before, details.not_after);
    let lifetime_secs = not_after.as_secs().saturating_sub(not_before.as_secs());
    // A certificate made for a week is not about to expire on its first day.
    let soon_secs = EXPIRES_SOON_SECS.min(lifetime_secs / 3);
    if now.as_secs() < not_before.as_secs() {
        Some(Warning::NotYetValid { not_before })
    } else if now.as_secs() > not_after.as_secs() {
        Some(Warning::Expired { not_after })
    } else if not_after.as_secs() - now.as_secs() < soon_secs {
        Some(Warning::ExpiresSoon { not_after })
    } else {
        None
    }
}

#[cfg(test)]
mod tests;

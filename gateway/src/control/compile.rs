//! From a document to a snapshot, beside the running one. What did not change is shared with the
//! configuration before it, state included: domains, upstreams, limiters, certificates.
//!
//! Must not: touch anything that traffic is using, bind a socket, or stop at the first problem.

use std::path::PathBuf;
use std::sync::Arc;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::Document;
use redis::SharedRedis;

use crate::policy::rate_limit::Limiters;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;
use crate::traffic::upstream::compile::Upstreams;

pub mod acme;
pub mod certificates;
pub mod domains;
pub mod listeners;
pub mod redis;
pub mod settings;
pub mod streams;
pub mod tls;

pub use acme::Acme;
pub use certificates::Certificates;
pub use domains::Domains;
pub use listeners::{BindKey, Listeners, Transport};
pub use streams::Streams;

/// A configuration, compiled, with everything the next one may share with it.
#[derive(Debug)]
pub struct Compiled {
    /// What it was compiled from.
    pub document: Arc<Document>,
    /// What traffic reads.
    pub snapshot: Arc<Snapshot>,
    /// The upstreams by name.
    pub upstreams: Upstreams,
    /// The rate limiters by place.
    pub limiters: Limiters,
    /// The certificates and what serves them.
    pub certificates: Certificates,
    /// The Redis that gateways share.
    pub redis: Option<SharedRedis>,
    /// The certificates that authorities are asked for.
    pub acme: Option<Acme>,
    /// The domains by name.
    pub domains: Domains,
    /// The listeners and the addresses they are bound to.
    pub listeners: Listeners,
}

impl Compiled {
    /// The files of certificates, authorities, revocation lists and secrets that it was compiled
    /// from.
    pub fn files(&self) -> Vec<PathBuf> {
        self.certificates
            .files()
            .chain(self.other_files())
            .collect()
    }

    /// These files without those of certificates for clients, which are looked at by themselves. A
    /// file may be both.
    pub fn other_files(&self) -> impl Iterator<Item = PathBuf> {
        let policies = self.listeners.policies().files();
        let secrets = self.certificates.secrets();
        let secrets = secrets.map_or(&[][..], |secrets| secrets.files());
        let redis = self.redis.as_ref().map_or(&[][..], SharedRedis::files);
        let secrets = secrets.iter().chain(redis).cloned();
        policies.chain(secrets).chain(self.upstreams.files())
    }

    /// Whether a file of authorities, revocation lists or secrets holds something else by now, so
    /// that the same document means another snapshot.
    pub fn is_outdated(&self) -> bool {
        let secrets = self.certificates.secrets();
        self.listeners.policies().is_outdated()
            || secrets.is_some_and(|secrets| secrets.is_outdated())
            || self
                .redis
                .as_ref()
                .is_some_and(|it| it.is_outdated(&self.document))
    }
}

/// Compiles a document. Warnings come with the result; errors refuse the document.
pub fn compile(
    document: Arc<Document>,
    generation: u64,
    previous: Option<&Compiled>,
    metrics: &Arc<Metrics>,
) -> Result<(Compiled, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let upstreams = problems.take(Upstreams::compile(
        previous.map(|p| &p.upstreams),
        &document,
    ));
    let certificates = problems.take(Certificates::compile(
        previous.map(|p| &p.certificates),
        &document,
    ));
    let (redis, acme) = orders(&mut problems, previous, &document);
    let mut limiters = Limiters::new(previous.map(|p| &p.limiters));
    let domains = upstreams.as_ref().and_then(|upstreams| {
        let before = unless_defaults_changed(previous, &document);
        problems.take(Domains::compile(
            before,
            &document,
            upstreams,
            &mut limiters,
            metrics,
        ))
    });
    let streams = upstreams
        .as_ref()
        .map(|upstreams| Streams::compile(&document, upstreams, metrics));
    let needed = (certificates.as_ref(), domains.as_ref(), streams.as_ref());
    let listeners = problems.take(listeners(needed, previous, &document, metrics));
    let parts = problems.take(settings::compile(&document, &mut limiters));
    let (Some(upstreams), Some(certificates), Some(domains), Some(listeners), Some(parts)) =
        (upstreams, certificates, domains, listeners, parts)
    else {
        return Err(problems.0);
    };
    if problems.refuse() {
        return Err(problems.0);
    }
    let snapshot = Snapshot {
        generation,
        listeners: listeners.plans(),
        domains: domains.in_order(),
        hosts: domains.hosts(),
        forwarding: parts.forwarding,
        style: parts.style,
        chain: parts.chain,
        timeouts: parts.timeouts,
        slot: metrics.route_slot("", ""),
        access_log: parts.access_log,
        challenges: previous.map_or_else(Arc::default, |p| Arc::clone(&p.snapshot.challenges)),
        on_demand: previous.map_or_else(Arc::default, |p| Arc::clone(&p.snapshot.on_demand)),
    };
    let compiled = Compiled {
        document,
        snapshot: Arc::new(snapshot),
        upstreams,
        limiters,
        certificates,
        redis,
        acme,
        domains,
        listeners,
    };
    Ok((compiled, problems.0))
}

/// The listeners, if all they are made of is there.
fn listeners(
    needed: (Option<&Certificates>, Option<&Domains>, Option<&Streams>),
    previous: Option<&Compiled>,
    document: &Document,
    metrics: &Metrics,
) -> Found<Listeners> {
    let (Some(certificates), Some(domains), Some(streams)) = needed else {
        return (None, Vec::new());
    };
    let parts = listeners::Parts {
        certificates,
        domains,
        streams,
    };
    let before = previous.map(|previous| &previous.listeners);
    Listeners::compile(before, document, &parts, metrics)
}

/// What authorities are asked for, and what it is shared by.
fn orders(
    problems: &mut Problems,
    previous: Option<&Compiled>,
    document: &Document,
) -> (Option<SharedRedis>, Option<Acme>) {
    let before = previous.and_then(|previous| previous.redis.as_ref());
    let redis = problems.take(SharedRedis::compile(before, document));
    let redis = redis.flatten();
    let acme = problems.take(Acme::compile(document, redis.as_ref()));
    (redis, acme.flatten())
}

/// The domains before, unless what all of them have in common changed.
fn unless_defaults_changed<'c>(
    previous: Option<&'c Compiled>,
    document: &Document,
) -> Option<(&'c Domains, &'c Document)> {
    let before = previous.filter(|previous| {
        let before = &previous.document;
        before.policies == document.policies && before.responses == document.responses
    });
    before.map(|before| (&before.domains, &*before.document))
}

/// The problems found so far, errors and warnings.
#[derive(Debug, Default)]
pub struct Problems(Vec<Diagnostic>);

/// What a part of the compiler returns: its result, if there is one, and what it found.
pub type Found<T> = (Option<T>, Vec<Diagnostic>);

impl Problems {
    fn take<T>(&mut self, (value, found): Found<T>) -> Option<T> {
        self.0.extend(found);
        value
    }

    fn refuse(&self) -> bool {
        self.0.iter().any(Diagnostic::is_error)
    }
}

//! Listeners: their plans, and the addresses they want to be bound to. A listener keeps its
//! identity by its name across configurations.
//!
//! Must not: bind anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{self, Document, Underscores};
use cardea_config::origin::Located;
use cardea_http1::Limits;

use super::Found;
use super::certificates::Certificates;
use super::domains::Domains;
use crate::snapshot::{ListenerId, ListenerPlan};
use crate::telemetry::metrics::Metrics;
use crate::traffic::route::PathRules;

/// An address of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindKey {
    /// The listener.
    pub id: ListenerId,
    /// The address as configured.
    pub address: SocketAddr,
}

/// The listeners of a configuration.
#[derive(Debug)]
pub struct Listeners {
    ids: BTreeMap<Arc<str>, (ListenerId, Arc<AtomicU64>)>,
    next: u32,
    plans: Vec<Arc<ListenerPlan>>,
    wanted: BTreeSet<BindKey>,
}

impl Listeners {
    /// Compiles the listeners.
    pub fn compile(
        previous: Option<&Self>,
        document: &Document,
        certificates: &Certificates,
        domains: &Domains,
        metrics: &Metrics,
    ) -> Found<Self> {
        let mut listeners = Self {
            ids: BTreeMap::new(),
            next: previous.map_or(0, |before| before.next),
            plans: Vec::new(),
            wanted: BTreeSet::new(),
        };
        let mut found = Vec::new();
        for settings in &document.listeners {
            let name = settings.name.shared();
            let known = previous.and_then(|before| before.ids.get(&name).cloned());
            let (id, open) = known.unwrap_or_else(|| {
                listeners.next += 1;
                (ListenerId(listeners.next), Arc::default())
            });
            for bind in &settings.bind {
                let keys = bind.addresses().iter().map(|address| BindKey {
                    id,
                    address: *address,
                });
                listeners.wanted.extend(keys);
            }
            listeners
                .ids
                .insert(Arc::clone(&name), (id, Arc::clone(&open)));
            match plan(settings, id, open, document, certificates, domains, metrics) {
                Ok(plan) => listeners.plans.push(Arc::new(plan)),
                Err(problem) => found.push(*problem),
            }
        }
        listeners.plans.sort_by_key(|plan| plan.id);
        if found.iter().any(Diagnostic::is_error) {
            return (None, found);
        }
        (Some(listeners), found)
    }

    /// The plans, ordered by id.
    pub fn plans(&self) -> Box<[Arc<ListenerPlan>]> {
        self.plans.iter().cloned().collect()
    }

    /// The addresses they want.
    pub fn wanted(&self) -> &BTreeSet<BindKey> {
        &self.wanted
    }

    /// The listener of an id.
    pub fn name(&self, id: ListenerId) -> Option<&str> {
        let plan = self.plans.iter().find(|plan| plan.id == id)?;
        Some(&plan.name)
    }
}

fn plan(
    settings: &Located<model::Listener>,
    id: ListenerId,
    open: Arc<AtomicU64>,
    document: &Document,
    certificates: &Certificates,
    domains: &Domains,
    metrics: &Metrics,
) -> Result<ListenerPlan, Box<Diagnostic>> {
    let name = settings.name.shared();
    let hosts = domains.hosts_of(settings, document);
    let tls = match &settings.tls {
        Some(tls) => Some(certificates.listener_tls(tls, &name, settings.origin)?),
        None => None,
    };
    let http = &settings.http;
    Ok(ListenerPlan {
        id,
        hosts,
        limits: limits(http, document.forwarding.underscores),
        paths: PathRules::from(http),
        requests_per_connection_max: u64::from(http.requests_per_connection_max.max(1)),
        connections_max: u64::from(settings.connections_max),
        head_timeout: settings.timeouts.head.0,
        idle_timeout: settings.timeouts.idle.0,
        handshake_timeout: settings.timeouts.handshake.0,
        handshakes_max: settings
            .tls
            .as_ref()
            .map_or(0, |tls| tls.handshakes_max as usize),
        tls,
        open,
        slot: metrics.listener_slot(&name),
        name,
    })
}

fn limits(http: &model::HttpLimits, underscores: Underscores) -> Limits {
    let narrow = |bytes: model::ByteSize| u32::try_from(bytes.0).unwrap_or(u32::MAX);
    Limits {
        head_bytes_max: narrow(http.head_bytes_max),
        field_count_max: http.field_count_max,
        target_bytes_max: narrow(http.uri_bytes_max),
        underscores: match underscores {
            Underscores::Reject => cardea_http1::Underscores::Reject,
            Underscores::Drop => cardea_http1::Underscores::Drop,
            Underscores::Keep => cardea_http1::Underscores::Keep,
        },
        ..Limits::default()
    }
}

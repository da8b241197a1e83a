//! Listeners: their plans, and the addresses they want to be bound to. A listener keeps its
//! identity by its name across configurations, as long as its protocol stays.
//!
//! Must not: bind anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{self, Document, HeaderMode, Protocol, Underscores};
use cardea_http1::Limits;

use super::Found;
use super::certificates::Certificates;
use super::domains::Domains;
use super::streams::Streams;
use super::tls::{self, Policies};
use crate::snapshot::{ListenerId, ListenerPlan};
use crate::telemetry::metrics::{ListenerSlot, Metrics};
use crate::traffic::connection::proxy_header::ProxyRules;
use crate::traffic::headers::HeaderName;
use crate::traffic::route::{HostTable, PathRules};
use crate::traffic::stream::ListenerStreams;
use crate::traffic::tls::ListenerTls;

/// An address of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindKey {
    /// The listener.
    pub id: ListenerId,
    /// The address as configured.
    pub address: SocketAddr,
    /// Whose port it is.
    pub transport: Transport,
}

/// Ports of TCP and UDP have nothing to do with one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// For connections.
    Tcp,
    /// For datagrams.
    Udp,
}

impl From<Protocol> for Transport {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http | Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

/// What listeners are made of beside their settings.
#[derive(Debug)]
pub struct Parts<'p> {
    /// The certificates.
    pub certificates: &'p Certificates,
    /// The domains.
    pub domains: &'p Domains,
    /// The streams.
    pub streams: &'p Streams,
}

/// The listeners of a configuration.
#[derive(Debug)]
pub struct Listeners {
    ids: BTreeMap<(Arc<str>, Protocol), (ListenerId, Arc<AtomicU64>)>,
    next: u32,
    plans: Vec<Arc<ListenerPlan>>,
    wanted: BTreeSet<BindKey>,
    policies: Policies,
}

impl Listeners {
    /// Compiles the listeners.
    pub fn compile(
        previous: Option<&Self>,
        document: &Document,
        parts: &Parts<'_>,
        metrics: &Metrics,
    ) -> Found<Self> {
        let mut listeners = Self {
            ids: BTreeMap::new(),
            next: previous.map_or(0, |before| before.next),
            plans: Vec::new(),
            wanted: BTreeSet::new(),
            policies: Policies::default(),
        };
        let mut tls = tls::Compiler::new(document, parts.certificates);
        for settings in &document.listeners {
            let name = settings.name.shared();
            let identity = (Arc::clone(&name), settings.protocol);
            let known = previous.and_then(|before| before.ids.get(&identity).cloned());
            let (id, open) = known.unwrap_or_else(|| {
                listeners.next += 1;
                (ListenerId(listeners.next), Arc::default())
            });
            for bind in &settings.bind {
                let keys = bind.addresses().iter().map(|address| BindKey {
                    id,
                    address: *address,
                    transport: settings.protocol.into(),
                });
                listeners.wanted.extend(keys);
            }
            listeners.ids.insert(identity, (id, Arc::clone(&open)));
            let secure = settings.tls.as_ref();
            let secure = secure.map(|secure| tls.listener(secure, settings));
            // Without a TLS side that it should have, there is no listener.
            if secure.as_ref().is_some_and(Option::is_none) {
                continue;
            }
            let own = Own {
                id,
                open,
                tls: secure.flatten(),
                hosts: parts.domains.hosts_of(settings, document),
                streams: parts.streams.of_listener(settings, document),
                slot: metrics.listener_slot(&name),
            };
            let underscores = document.forwarding.underscores;
            listeners
                .plans
                .push(Arc::new(plan(settings, own, underscores)));
        }
        let found;
        (listeners.policies, found) = tls.finish();
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

    /// How TLS is spoken on them.
    pub fn policies(&self) -> &Policies {
        &self.policies
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

/// What a listener has beside its settings.
struct Own {
    id: ListenerId,
    open: Arc<AtomicU64>,
    tls: Option<ListenerTls>,
    hosts: Arc<HostTable>,
    streams: Option<Box<ListenerStreams>>,
    slot: ListenerSlot,
}

fn plan(settings: &model::Listener, own: Own, underscores: Underscores) -> ListenerPlan {
    let Own {
        id,
        open,
        tls,
        hosts,
        streams,
        slot,
    } = own;
    let http = &settings.http;
    ListenerPlan {
        id,
        name: settings.name.shared(),
        hosts,
        streams,
        limits: limits(http, underscores),
        http2: http2(settings),
        takes_cleartext_http2: settings.http2.cleartext,
        upgrades_to_http2: settings.http2.upgrade,
        paths: PathRules::from(http),
        requests_per_connection_max: u64::from(http.requests_per_connection_max.max(1)),
        connections_max: u64::from(settings.connections_max),
        head_timeout: settings.timeouts.head.0,
        idle_timeout: settings.timeouts.idle.0,
        proxy_protocol: settings.proxy_protocol.as_ref().map(proxy_rules),
        handshake_timeout: settings.timeouts.handshake.0,
        handshakes_max: settings
            .tls
            .as_ref()
            .map_or(0, |tls| tls.handshakes_max as usize),
        silent_max: settings
            .tls
            .as_ref()
            .map_or(0, |tls| tls.silent_max as usize),
        tls,
        open,
        slot,
    }
}

fn http2(settings: &model::Listener) -> cardea_http2::Limits {
    let (http, http2) = (&settings.http, &settings.http2);
    let head_bytes_max = narrow(http.head_bytes_max);
    cardea_http2::Limits {
        streams_max: http2.streams_max,
        stream_window_bytes: narrow(http2.stream_window),
        connection_window_bytes: narrow(http2.connection_window),
        head_bytes_max,
        field_count_max: http.field_count_max,
        // As sent, a head is no longer than it is.
        block_bytes_max: head_bytes_max,
        control_frames_max: http2.control_frames_max,
        resets_max: http2.resets_max,
        ..cardea_http2::Limits::default()
    }
}

fn narrow(bytes: model::ByteSize) -> u32 {
    u32::try_from(bytes.0).unwrap_or(u32::MAX)
}

fn proxy_rules(settings: &model::ListenerProxyProtocol) -> ProxyRules {
    ProxyRules {
        from: settings.from.iter().map(|network| network.0).collect(),
        is_required: settings.mode == HeaderMode::Required,
        timeout: settings.timeout.0,
        bytes_max: usize::try_from(settings.header_bytes_max.0).unwrap_or(usize::MAX),
        fields: settings
            .request_headers
            .iter()
            .map(|(name, value)| (HeaderName::new(name), *value))
            .collect(),
    }
}

fn limits(http: &model::HttpLimits, underscores: Underscores) -> Limits {
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

//! The snapshot: everything that traffic reads of a configuration, compiled and immutable. The
//! two lives meet here and nowhere else: control builds a snapshot and swaps it in, an exchange
//! loads one once and keeps it to its end.
//!
//! Must not: change after it was published. What changes by itself (endpoint sets, health,
//! counters) lives behind the shared parts it points to.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use cardea_acme::{Challenges, OnDemand};
use cardea_config::model::Protocol;
use cardea_http1::Limits;
use ipnet::IpNet;

use crate::policy::Chain;
use crate::telemetry::metrics::{ListenerSlot, RouteSlot};
use crate::traffic::access_log::Format;
use crate::traffic::connection::proxy_header::ProxyRules;
use crate::traffic::domain::Domain;
use crate::traffic::exchange::Timeouts;
use crate::traffic::headers::HeaderName;
use crate::traffic::respond::ResponseStyle;
use crate::traffic::route::{HostTable, PathRules};
use crate::traffic::stream::{ListenerStreams, Stream};
use crate::traffic::tls::ListenerTls;

/// Names a listener for as long as the process lives, across reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// All that traffic reads of one configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the configurations that took effect, from one.
    pub generation: u64,
    /// The listeners, ordered by id.
    pub listeners: Box<[Arc<ListenerPlan>]>,
    /// The domains, in the order of the document.
    pub domains: Box<[Arc<Domain>]>,
    /// Every host of every listener, to tell a misdirected request from an unknown host.
    pub hosts: Arc<HostTable>,
    /// How the client's identity is told to origins.
    pub forwarding: Forwarding,
    /// How our own responses look where no domain is known.
    pub style: Arc<ResponseStyle>,
    /// The policies of requests for which no domain is known.
    pub chain: Chain,
    /// The deadlines before a route is known.
    pub timeouts: Arc<Timeouts>,
    /// Where requests are counted for which no domain is known.
    pub slot: RouteSlot,
    /// How access-log lines are written; none for no log.
    pub access_log: Option<Arc<Format>>,
    /// What authorities that look for proof are shown.
    pub challenges: Arc<Challenges>,
    /// What handshakes wish for that has no certificate yet.
    pub on_demand: Arc<OnDemand>,
}

impl Snapshot {
    /// The plan of a listener, if this configuration still has it.
    pub fn listener(&self, id: ListenerId) -> Option<&Arc<ListenerPlan>> {
        let at = self
            .listeners
            .binary_search_by_key(&id, |plan| plan.id)
            .ok()?;
        self.listeners.get(at)
    }
}

/// How connections of one listener are served.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Its identity across reloads.
    pub id: ListenerId,
    /// The name that logs and metrics carry.
    pub name: Arc<str>,
    /// The hosts served here: an index into `Snapshot::domains`.
    pub hosts: Arc<HostTable>,
    /// The streams; none where there is nothing but domains.
    pub streams: Option<Box<ListenerStreams>>,
    /// What the codec refuses.
    pub limits: Limits,
    /// What a connection of HTTP/2 may cost.
    pub http2: cardea_http2::Limits,
    /// Whether connections without TLS may speak HTTP/2.
    pub takes_cleartext_http2: bool,
    /// Whether a request without TLS may have its connection go on in HTTP/2.
    pub upgrades_to_http2: bool,
    /// How paths are normalised.
    pub paths: PathRules,
    /// Requests served on one connection before it is closed.
    pub requests_per_connection_max: u64,
    /// Open connections, over all workers.
    pub connections_max: u64,
    /// From the first byte of a request to the end of its head, absolute.
    pub head_timeout: Duration,
    /// The wait for a first or next request.
    pub idle_timeout: Duration,
    /// Proxies in front that say where connections come from; none for none.
    pub proxy_protocol: Option<ProxyRules>,
    /// From accept to the end of the TLS handshake, absolute.
    pub handshake_timeout: Duration,
    /// TLS handshakes that wait for their turn at once, per worker.
    pub handshakes_max: usize,
    /// Clients that have the word in a TLS handshake, per worker.
    pub silent_max: usize,
    /// The TLS side; none for a plain listener.
    pub tls: Option<ListenerTls>,
    /// Connections open now, over all workers; it outlives the plan.
    pub open: Arc<AtomicU64>,
    /// Where connections are counted.
    pub slot: ListenerSlot,
}

impl ListenerPlan {
    /// Whether what no stream takes is served as HTTP.
    pub fn serves_http(&self) -> bool {
        let streams = self.streams.as_ref();
        streams.is_none_or(|streams| streams.protocol == Protocol::Http)
    }

    /// The stream that takes a connection whose client asks for a host, or for none.
    pub fn stream_of(&self, server_name: Option<&str>) -> Option<&Arc<Stream>> {
        self.streams.as_ref()?.find(server_name, &self.hosts)
    }
}

/// How the client's identity is told to origins.
#[derive(Debug, Clone, Default)]
pub struct Forwarding {
    /// Peers whose word about the client is believed.
    pub trusted_proxies: Box<[IpNet]>,
    /// Whether `X-Forwarded-*` is sent.
    pub x_forwarded: bool,
    /// Whether `Forwarded` (RFC 7239) is sent.
    pub forwarded: bool,
    /// How origins are told of the client's certificate.
    pub client_certificate: ClientCertificateFields,
    /// The field that carries the request id; none for none.
    pub request_id: Option<HeaderName>,
    /// Whose request ids are kept.
    pub request_id_from: RequestIdFrom,
}

/// The fields by which origins are told of the client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientCertificateFields {
    /// Whether `X-Forwarded-Client-Cert` is sent, as Envoy has it.
    pub xfcc: bool,
    /// Whether `Client-Cert` and `Client-Cert-Chain` (RFC 9440) are sent.
    pub rfc9440: bool,
}

/// Whose request ids are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestIdFrom {
    /// Nobody's.
    Never,
    /// Those of trusted proxies.
    #[default]
    Trusted,
    /// Everybody's.
    Always,
}

/// The place where control publishes and workers look.
#[derive(Debug)]
pub struct Published {
    generation: AtomicU64,
    snapshot: ArcSwap<Snapshot>,
}

impl Published {
    /// Publishes the first snapshot.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            generation: AtomicU64::new(snapshot.generation),
            snapshot: ArcSwap::new(snapshot),
        }
    }

    /// Puts another snapshot in its place; exchanges under way keep the one they have.
    pub fn swap(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        self.snapshot.store(snapshot);
        self.generation.store(generation, Ordering::Release);
    }

    /// The snapshot in force.
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// A worker's handle on the snapshot in force: one relaxed-cost load per request, and a shared
/// reference count touched once per generation.
#[derive(Debug)]
pub struct WorkerSnapshot {
    published: Arc<Published>,
    generation: Cell<u64>,
    held: RefCell<Rc<HeldSnapshot>>,
    /// The one before, for connections of listeners that it had: the kernel may have accepted them
    /// before anybody could tell it not to.
    before: RefCell<Option<Before>>,
}

#[derive(Debug)]
struct Before {
    snapshot: Rc<HeldSnapshot>,
    since: Instant,
}

/// How long the snapshot before is kept for connections that come late.
const LATE_TIME_MAX: Duration = Duration::from_secs(10);

/// A snapshot with a reference count of the worker's own: an exchange that keeps it writes to no
/// memory that another worker reads.
#[derive(Debug)]
pub struct HeldSnapshot(Arc<Snapshot>);

impl Deref for HeldSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl WorkerSnapshot {
    /// A handle on what is published.
    pub fn new(published: Arc<Published>) -> Self {
        let snapshot = published.load();
        Self {
            generation: Cell::new(snapshot.generation),
            held: RefCell::new(Rc::new(HeldSnapshot(snapshot))),
            before: RefCell::new(None),
            published,
        }
    }

    /// The snapshot in force; the caller keeps it for a whole exchange.
    pub fn load(&self) -> Rc<HeldSnapshot> {
        let latest = self.published.generation.load(Ordering::Acquire);
        if latest != self.generation.get() {
            let snapshot = self.published.load();
            self.generation.set(snapshot.generation);
            let before = self.held.replace(Rc::new(HeldSnapshot(snapshot)));
            self.before.replace(Some(Before {
                snapshot: before,
                since: Instant::now(),
            }));
        }
        Rc::clone(&self.held.borrow())
    }

    /// The snapshot to serve a listener's connections by: the one in force, or for a while the one
    /// before, if only that has the listener.
    pub fn of(&self, listener: ListenerId) -> Rc<HeldSnapshot> {
        let now = self.load();
        if now.listener(listener).is_some() {
            return now;
        }
        let before = self.before.borrow();
        let before = before.as_ref().map(|before| &before.snapshot);
        match before.filter(|before| before.listener(listener).is_some()) {
            Some(before) => Rc::clone(before),
            None => now,
        }
    }

    /// Lets the snapshot before go once nobody can come late for it.
    pub fn forget(&self) {
        let mut before = self.before.borrow_mut();
        if before
            .as_ref()
            .is_some_and(|it| it.since.elapsed() > LATE_TIME_MAX)
        {
            *before = None;
        }
    }
}

//! Metrics: what is counted, where, and how Prometheus gets to see it.
//!
//! A configuration, as it compiles, asks for a slot for each of its domains, routes, upstreams and
//! listeners. A worker counts under those slots in cells that it alone writes, so that counting
//! costs it no locked instruction and no cache line of another worker. A scrape adds the workers
//! up.
//!
//! Must not: have a metric that is not in the table of [`names`], or a label that a client chooses.

pub mod buckets;
pub mod names;

mod cells;
mod collect;
mod process;
mod slots;
mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Registry, TextEncoder};
use tracing_appender::non_blocking::ErrorCounter;

use cells::{Cells, Chunks, OwnCells, WorkerCells};
use slots::{Lease, Slots};

use crate::traffic::upstream::compile::Upstreams;

pub use cells::{DatagramDrop, HandshakeEnd, ProxyHeaderEnd, StreamEnd};
pub use slots::OVERFLOW;
pub use worker::{RequestSample, WorkerMetrics};

/// Routes that are counted apart; what is beyond is counted together, as [`OVERFLOW`].
pub const ROUTES_MAX: usize = 65_536;

/// Domains that are counted apart.
pub const DOMAINS_MAX: usize = 32_768;

/// Upstreams that are counted apart.
pub const UPSTREAMS_MAX: usize = 16_384;

/// Listeners that are counted apart.
pub const LISTENERS_MAX: usize = 1024;

/// Streams that are counted apart.
pub const STREAMS_MAX: usize = 8192;

/// Where the requests of a route are counted, for as long as something holds this.
#[derive(Debug, Clone)]
pub struct RouteSlot {
    /// Beside the lease, which is somewhere else in memory: every request asks for it.
    id: RouteSlotId,
    _lease: Arc<Lease>,
}

/// Where the requests of an upstream are counted, for as long as something holds this.
#[derive(Debug, Clone)]
pub struct UpstreamSlot {
    id: UpstreamSlotId,
    _lease: Arc<Lease>,
}

/// Where the connections of a listener are counted, for as long as something holds this.
#[derive(Debug, Clone)]
pub struct ListenerSlot(Arc<Lease>);

/// Where the connections and sessions of a stream are counted, for as long as something holds this.
#[derive(Debug, Clone)]
pub struct StreamSlot(Arc<Lease>);

/// Names a [`RouteSlot`] for whoever knows that it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteSlotId {
    route: u32,
    domain: u32,
}

/// Names an [`UpstreamSlot`] for whoever knows that it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamSlotId(u32);

/// Names a [`ListenerSlot`] for whoever knows that it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerSlotId(u32);

/// Names a [`StreamSlot`] for whoever knows that it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSlotId(u32);

impl RouteSlot {
    /// Its name.
    pub fn id(&self) -> RouteSlotId {
        self.id
    }
}

impl UpstreamSlot {
    /// Its name.
    pub fn id(&self) -> UpstreamSlotId {
        self.id
    }
}

impl ListenerSlot {
    /// Its name.
    pub fn id(&self) -> ListenerSlotId {
        ListenerSlotId(self.0.slot)
    }
}

impl StreamSlot {
    /// Its name.
    pub fn id(&self) -> StreamSlotId {
        StreamSlotId(self.0.slot)
    }
}

/// What the access log counts. Its writer and, rarely, the workers share it.
#[derive(Debug, Default)]
pub struct LogCounts {
    /// Lines written.
    pub lines: AtomicU64,
    /// Lines lost.
    pub dropped: AtomicU64,
    /// Failures to open or write.
    pub errors: AtomicU64,
}

/// What came of orders of certificates.
#[derive(Debug, Default)]
pub struct OrderCounts {
    /// Issued, here or by another gateway that shares the storage.
    pub stored: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Not ordered, though somebody asked for them.
    pub denied: AtomicU64,
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
    registry: Registry,
    /// The handles that no worker has taken yet.
    handles: Mutex<Vec<Option<WorkerMetrics>>>,
}

/// What the collector reads.
#[derive(Debug)]
struct Shared {
    workers: Vec<Arc<WorkerCells>>,
    routes: Slots<2>,
    domains: Slots<1>,
    upstreams: Slots<1>,
    listeners: Slots<1>,
    streams: Slots<1>,
    reloads: Mutex<Reloads>,
    log: Arc<LogCounts>,
    diagnostics_dropped: OnceLock<ErrorCounter>,
    upstreams_in_force: Mutex<Option<Upstreams>>,
    certificates: Mutex<Vec<(String, i64)>>,
    staples: Mutex<Vec<(String, i64)>>,
    orders: Arc<OrderCounts>,
}

/// How reloads went.
#[derive(Debug, Clone, Copy, Default)]
struct Reloads {
    generation: u64,
    /// Unix time, seconds.
    last: Option<f64>,
    last_refused: bool,
    applied: u64,
    unchanged: u64,
    refused: u64,
}

impl Metrics {
    /// The metrics of a process with so many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        let cells = || WorkerCells {
            own: OwnCells::default(),
            routes: Chunks::new(ROUTES_MAX),
            domains: Chunks::new(DOMAINS_MAX),
            upstreams: Chunks::new(UPSTREAMS_MAX),
            listeners: Chunks::new(LISTENERS_MAX),
            streams: Chunks::new(STREAMS_MAX),
        };
        let workers: Vec<_> = (0..workers).map(|_| Arc::new(cells())).collect();
        let domains = Slots::new(DOMAINS_MAX, None);
        let shared = Arc::new(Shared {
            routes: Slots::new(ROUTES_MAX, domains.overflow()),
            domains,
            upstreams: Slots::new(UPSTREAMS_MAX, None),
            listeners: Slots::new(LISTENERS_MAX, None),
            streams: Slots::new(STREAMS_MAX, None),
            reloads: Mutex::default(),
            log: Arc::default(),
            diagnostics_dropped: OnceLock::new(),
            upstreams_in_force: Mutex::default(),
            certificates: Mutex::default(),
            staples: Mutex::default(),
            orders: Arc::default(),
            workers,
        });
        let registry = Registry::new();
        collect::Collected::new(Arc::clone(&shared))
            .and_then(|collected| registry.register(Box::new(collected)))
            .expect("the names in the table are valid and differ, which its tests see to");
        let handles = shared.workers.iter().map(Arc::clone);
        let handles = handles.map(|cells| Some(WorkerMetrics::new(cells)));
        Arc::new(Self {
            handles: Mutex::new(handles.collect()),
            shared,
            registry,
        })
    }

    /// The handle of a worker. There is one, for that one thread writes the worker's cells is what
    /// makes them cheap.
    pub fn worker(&self, index: usize) -> Option<WorkerMetrics> {
        lock(&self.handles).get_mut(index)?.take()
    }

    /// Where the requests of a route are counted.
    pub fn route_slot(&self, domain: &str, route: &str) -> RouteSlot {
        let Shared { workers, .. } = &*self.shared;
        let domain_lease = self.shared.domains.acquire([domain], None, |slot| {
            clear(workers, slot, |cells| &cells.domains);
        });
        let key = [domain, route];
        let routes = &self.shared.routes;
        let lease = routes.acquire(key, Some(&domain_lease), |slot| {
            clear(workers, slot, |cells| &cells.routes);
        });
        let id = RouteSlotId {
            route: lease.slot,
            domain: lease.parent_slot(),
        };
        RouteSlot { id, _lease: lease }
    }

    /// Where the requests of an upstream are counted.
    pub fn upstream_slot(&self, name: &str) -> UpstreamSlot {
        let Shared { workers, .. } = &*self.shared;
        let lease = self.shared.upstreams.acquire([name], None, |slot| {
            clear(workers, slot, |cells| &cells.upstreams);
        });
        let id = UpstreamSlotId(lease.slot);
        UpstreamSlot { id, _lease: lease }
    }

    /// Where the connections of a listener are counted.
    pub fn listener_slot(&self, name: &str) -> ListenerSlot {
        let Shared { workers, .. } = &*self.shared;
        ListenerSlot(self.shared.listeners.acquire([name], None, |slot| {
            clear(workers, slot, |cells| &cells.listeners);
        }))
    }

    /// Where the connections and sessions of a stream are counted.
    pub fn stream_slot(&self, name: &str) -> StreamSlot {
        let Shared { workers, .. } = &*self.shared;
        StreamSlot(self.shared.streams.acquire([name], None, |slot| {
            clear(workers, slot, |cells| &cells.streams);
        }))
    }

    /// Takes note that a configuration took effect.
    pub fn reload_applied(&self, generation: u64) {
        self.note_reload(|reloads| {
            reloads.generation = generation;
            reloads.applied += 1;
            reloads.last_refused = false;
        });
    }

    /// Takes note that a configuration was read and says what the one in force says.
    pub fn reload_unchanged(&self) {
        self.note_reload(|reloads| {
            reloads.unchanged += 1;
            reloads.last_refused = false;
        });
    }

    /// Takes note that a configuration was refused; the one before serves on.
    pub fn reload_refused(&self) {
        self.note_reload(|reloads| {
            reloads.refused += 1;
            reloads.last_refused = true;
        });
    }

    fn note_reload(&self, note: impl FnOnce(&mut Reloads)) {
        let mut reloads = lock(&self.shared.reloads);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        reloads.last = Some(now.unwrap_or_default().as_secs_f64());
        note(&mut reloads);
    }

    /// Says which upstreams are in force; how they are doing is looked up at every scrape.
    pub fn set_upstreams(&self, upstreams: &Upstreams) {
        *lock(&self.shared.upstreams_in_force) = Some(upstreams.clone());
    }

    /// Says when the certificates in force expire, by name, Unix time.
    pub fn set_certificates(&self, certificates: Vec<(String, i64)>) {
        *lock(&self.shared.certificates) = certificates;
    }

    /// Says until when the staples of certificates count, by the names of these, Unix time.
    pub fn set_staples(&self, staples: Vec<(String, i64)>) {
        *lock(&self.shared.staples) = staples;
    }

    /// Where orders of certificates are counted.
    pub fn order_counts(&self) -> Arc<OrderCounts> {
        Arc::clone(&self.shared.orders)
    }

    /// Where the access log counts.
    pub fn log_counts(&self) -> Arc<LogCounts> {
        Arc::clone(&self.shared.log)
    }

    /// Says where lost lines of the diagnostics log are counted. There is one such log, and the
    /// first word on it stands.
    pub fn set_diagnostics(&self, dropped: ErrorCounter) {
        let _ = self.shared.diagnostics_dropped.set(dropped);
    }

    /// Everything, in the text format of Prometheus.
    pub fn text(&self) -> String {
        let families = self.registry.gather();
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_else(|error| {
                tracing::error!(%error, "metrics_not_encoded");
                String::new()
            })
    }

    /// The media type of [`Self::text`].
    pub const MEDIA_TYPE: &'static str = prometheus::TEXT_FORMAT;

    /// Where other parts of the process register metrics of their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// Sets a slot to zero in every worker.
fn clear<C: Cells>(
    workers: &[Arc<WorkerCells>],
    slot: u32,
    cells: impl Fn(&WorkerCells) -> &Chunks<C>,
) {
    for worker in workers {
        if let Some(cells) = cells(worker).seen(slot) {
            cells.clear();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of a count that several threads add to.
fn shared_value(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

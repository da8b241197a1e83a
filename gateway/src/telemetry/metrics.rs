//! The metrics: counters that each worker keeps in its own memory, and their sums for whoever
//! scrapes. Label sets become slots when a snapshot compiles; counting is an add to a number that
//! nobody else writes.
//!
//! Must not: lock, look anything up, or use a read-modify-write instruction while counting.

mod collect;
mod histogram;
mod slots;
mod worker;

pub use slots::{ListenerSlot, RouteSlot, UpstreamSlot};
pub use worker::{HandshakeEnd, RequestSample, WorkerMetrics};

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slots::{Labels, Slots};
use worker::{ListenerCounters, Shard, UpstreamCounters};

use self::worker::RouteCounters;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    shards: Box<[Arc<Shard>]>,
    labels: Mutex<AllLabels>,
    generation: AtomicU64,
    reloads_applied: AtomicU64,
    reloads_refused: AtomicU64,
    last_reload_successful: AtomicI64,
    last_reload_seconds: AtomicU64,
    log_lines_dropped: Arc<AtomicU64>,
    certificates: Mutex<Vec<(String, i64)>>,
}

#[derive(Debug, Default)]
struct AllLabels {
    routes: Labels<(Arc<str>, Arc<str>)>,
    upstreams: Labels<Arc<str>>,
    listeners: Labels<Arc<str>>,
}

impl Metrics {
    /// Metrics of a process with so many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..workers).map(|_| Arc::default()).collect(),
            labels: Mutex::default(),
            generation: AtomicU64::new(0),
            reloads_applied: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            last_reload_successful: AtomicI64::new(0),
            last_reload_seconds: AtomicU64::new(0),
            log_lines_dropped: Arc::default(),
            certificates: Mutex::default(),
        })
    }

    /// A worker's counters.
    pub fn worker(&self, index: usize) -> Option<WorkerMetrics> {
        self.shards
            .get(index)
            .map(|shard| WorkerMetrics::new(Arc::clone(shard)))
    }

    /// Where requests of a route are counted. Empty names stand for requests without one.
    pub fn route_slot(&self, domain: &Arc<str>, route: &Arc<str>) -> RouteSlot {
        let key = (Arc::clone(domain), Arc::clone(route));
        let slot = self.labels().routes.slot(key);
        self.shards
            .iter()
            .for_each(|shard| shard.routes.ensure(slot));
        RouteSlot(slot)
    }

    /// Where requests to an upstream are counted.
    pub fn upstream_slot(&self, name: &Arc<str>) -> UpstreamSlot {
        let slot = self.labels().upstreams.slot(Arc::clone(name));
        self.shards
            .iter()
            .for_each(|shard| shard.upstreams.ensure(slot));
        UpstreamSlot(slot)
    }

    /// Where connections of a listener are counted.
    pub fn listener_slot(&self, name: &Arc<str>) -> ListenerSlot {
        let slot = self.labels().listeners.slot(Arc::clone(name));
        self.shards
            .iter()
            .for_each(|shard| shard.listeners.ensure(slot));
        ListenerSlot(slot)
    }

    /// Forgets label sets that the configuration in force no longer has. Their slots are used
    /// again two configurations later, when no exchange holds them any more.
    pub fn retain(
        &self,
        route: impl Fn(&str, &str) -> bool,
        upstream: impl Fn(&str) -> bool,
        listener: impl Fn(&str) -> bool,
    ) {
        let mut labels = self.labels();
        let freed = labels.routes.retain(|(domain, name)| route(domain, name));
        self.clear(&freed, |shard| &shard.routes, RouteCounters::clear);
        let freed = labels.upstreams.retain(|name| upstream(name));
        self.clear(&freed, |shard| &shard.upstreams, UpstreamCounters::clear);
        let freed = labels.listeners.retain(|name| listener(name));
        self.clear(&freed, |shard| &shard.listeners, ListenerCounters::clear);
    }

    fn clear<T: Default>(
        &self,
        freed: &[u32],
        slots: impl Fn(&Shard) -> &Slots<T>,
        clear: impl Fn(&T),
    ) {
        for shard in &self.shards {
            freed
                .iter()
                .filter_map(|slot| slots(shard).get(*slot))
                .for_each(&clear);
        }
    }

    /// Notes that a configuration took effect.
    pub fn reload_applied(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
        self.reloads_applied.fetch_add(1, Ordering::Relaxed);
        self.note_reload(true);
    }

    /// Notes that a configuration was refused.
    pub fn reload_refused(&self) {
        self.reloads_refused.fetch_add(1, Ordering::Relaxed);
        self.note_reload(false);
    }

    fn note_reload(&self, successful: bool) {
        self.last_reload_successful
            .store(i64::from(successful), Ordering::Relaxed);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        self.last_reload_seconds
            .store(now.as_secs(), Ordering::Relaxed);
    }

    /// Sets when certificates expire, seconds since 1970, by name.
    pub fn set_certificates(&self, certificates: Vec<(String, i64)>) {
        *self
            .certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = certificates;
    }

    /// Where the access log counts the lines it drops.
    pub fn log_lines_dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.log_lines_dropped)
    }

    fn labels(&self) -> std::sync::MutexGuard<'_, AllLabels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

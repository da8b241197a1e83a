//! The counters of one worker. Only that worker writes them, so an increment is a load and a store
//! in a cache line that nobody else dirties.
//!
//! Must not: be written from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::Histogram;
use super::slots::{ListenerSlot, RouteSlot, Slots, UpstreamSlot};
use crate::traffic::respond::Reason;

/// Adds to a number that only the calling thread writes.
pub(super) fn add(number: &AtomicU64, more: u64) {
    number.store(
        number.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}

pub(super) fn read(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

pub(super) fn zero(number: &AtomicU64) {
    number.store(0, Ordering::Relaxed);
}

/// Status classes counted: 1xx to 5xx.
pub(super) const CLASSES: usize = 5;

/// All counters of one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shard {
    pub(super) routes: Slots<RouteCounters>,
    pub(super) upstreams: Slots<UpstreamCounters>,
    pub(super) listeners: Slots<ListenerCounters>,
    pub(super) reasons: Reasons,
    pub(super) accept_failures: AtomicU64,
    pub(super) pool_idle: AtomicU64,
    pub(super) buffers_in_use: AtomicU64,
}

/// How often the gateway answered by itself, by reason.
#[derive(Debug)]
pub(super) struct Reasons(pub(super) Box<[AtomicU64]>);

impl Default for Reasons {
    fn default() -> Self {
        Self(Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

#[derive(Debug, Default)]
pub(super) struct RouteCounters {
    pub(super) classes: [AtomicU64; CLASSES],
    pub(super) duration: Histogram,
    pub(super) bytes_received: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct UpstreamCounters {
    pub(super) classes: [AtomicU64; CLASSES],
    pub(super) duration: Histogram,
    pub(super) retries: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct ListenerCounters {
    pub(super) opened: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) handshakes: [AtomicU64; HandshakeEnd::ALL.len()],
}

impl RouteCounters {
    pub(super) fn clear(&self) {
        self.classes
            .iter()
            .chain([&self.bytes_received, &self.bytes_sent])
            .for_each(zero);
        self.duration.clear();
    }
}

impl UpstreamCounters {
    pub(super) fn clear(&self) {
        self.classes.iter().chain([&self.retries]).for_each(zero);
        self.duration.clear();
    }
}

impl ListenerCounters {
    pub(super) fn clear(&self) {
        let all = [&self.opened, &self.closed, &self.refused];
        self.handshakes.iter().chain(all).for_each(zero);
    }
}

/// How a TLS handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeEnd {
    /// A new session.
    Full,
    /// An earlier session was resumed.
    Resumed,
    /// The peers did not agree, or the client went away.
    Failed,
    /// It took too long.
    TimedOut,
    /// Too many were under way.
    Refused,
}

impl HandshakeEnd {
    /// Every end, in the order of the counters.
    pub(super) const ALL: [Self; 5] = [
        Self::Full,
        Self::Resumed,
        Self::Failed,
        Self::TimedOut,
        Self::Refused,
    ];

    /// The label's value.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
        }
    }
}

/// A finished exchange, as the counters see it.
#[derive(Debug)]
pub struct RequestSample {
    /// The route's slot.
    pub route: RouteSlot,
    /// The upstream's slot, if one was asked.
    pub upstream: Option<UpstreamSlot>,
    /// The status counted.
    pub status: u16,
    /// Why the gateway answered by itself or cut the exchange short.
    pub reason: Option<Reason>,
    /// The whole exchange.
    pub duration: Duration,
    /// Until the head of the upstream's response.
    pub upstream_duration: Option<Duration>,
    /// Body bytes from the client.
    pub bytes_received: u64,
    /// Body bytes to the client.
    pub bytes_sent: u64,
    /// Attempts after the first.
    pub retries: u32,
}

/// A worker's handle on its counters.
#[derive(Debug)]
pub struct WorkerMetrics {
    shard: Arc<Shard>,
}

impl WorkerMetrics {
    pub(super) fn new(shard: Arc<Shard>) -> Self {
        Self { shard }
    }

    /// Counts an exchange.
    pub fn request_finished(&self, sample: &RequestSample) {
        let class = usize::from(sample.status / 100).clamp(1, CLASSES) - 1;
        if let Some(route) = self.shard.routes.get(sample.route.0) {
            count(&route.classes, class);
            route.duration.observe(sample.duration);
            add(&route.bytes_received, sample.bytes_received);
            add(&route.bytes_sent, sample.bytes_sent);
        }
        if let Some(reason) = sample.reason {
            count(&self.shard.reasons.0, reason as usize);
        }
        let Some(upstream) = sample
            .upstream
            .and_then(|slot| self.shard.upstreams.get(slot.0))
        else {
            return;
        };
        add(&upstream.retries, u64::from(sample.retries));
        if let Some(duration) = sample.upstream_duration {
            count(&upstream.classes, class);
            upstream.duration.observe(duration);
        } else {
            // An upstream that did not answer failed, whatever the client was told.
            count(&upstream.classes, CLASSES - 1);
        }
    }

    /// Counts a connection as open.
    pub fn connection_opened(&self, listener: ListenerSlot) {
        self.listener(listener, |counters| add(&counters.opened, 1));
    }

    /// Counts a connection as closed.
    pub fn connection_closed(&self, listener: ListenerSlot) {
        self.listener(listener, |counters| add(&counters.closed, 1));
    }

    /// Counts a connection that was closed at once because there are too many.
    pub fn connection_refused(&self, listener: ListenerSlot) {
        self.listener(listener, |counters| add(&counters.refused, 1));
    }

    /// Counts a TLS handshake.
    pub fn handshake_finished(&self, listener: ListenerSlot, end: HandshakeEnd) {
        self.listener(listener, |counters| {
            count(&counters.handshakes, end as usize)
        });
    }

    /// Counts an accept that failed.
    pub fn accept_failed(&self) {
        add(&self.shard.accept_failures, 1);
    }

    /// Sets how many connections to endpoints are idle.
    pub fn set_pool_idle(&self, count: usize) {
        self.shard.pool_idle.store(count as u64, Ordering::Relaxed);
    }

    /// Sets how many buffers are in use.
    pub fn set_buffers_in_use(&self, count: usize) {
        self.shard
            .buffers_in_use
            .store(count as u64, Ordering::Relaxed);
    }

    fn listener(&self, slot: ListenerSlot, change: impl FnOnce(&ListenerCounters)) {
        if let Some(counters) = self.shard.listeners.get(slot.0) {
            change(counters);
        }
    }
}

fn count(numbers: &[AtomicU64], at: usize) {
    if let Some(number) = numbers.get(at) {
        add(number, 1);
    }
}

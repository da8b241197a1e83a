//! A worker's side of the metrics: plain calls that add to the worker's own cells.
//!
//! Must not: be shared. The handle moves to the worker's thread and stays there; that nobody else
//! has it is what makes a load and a store enough.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use cardea_http2::Fault;

use super::cells::{self, ListenerCells, StreamCells, UpstreamCells, WorkerCells};
use super::{DatagramDrop, HandshakeEnd, ProxyHeaderEnd, StreamEnd};
use super::{ListenerSlotId, RouteSlotId, StreamSlotId, UpstreamSlotId};
use crate::traffic::respond::Reason;

/// A worker's counters. There is one for each worker; it can be sent to a thread, but not shared.
#[derive(Debug)]
pub struct WorkerMetrics {
    cells: Arc<WorkerCells>,
    /// Keeps it from being shared.
    _alone: PhantomData<Cell<()>>,
}

/// What there is to count about a finished request.
#[derive(Debug, Clone, Copy)]
pub struct RequestSample {
    /// Where it is counted.
    pub route: RouteSlotId,
    /// The upstream it was sent to, if it was.
    pub upstream: Option<UpstreamSlotId>,
    /// The status that was sent, or that of the reason why none was.
    pub status: u16,
    /// Why the gateway answered by itself or ended the exchange early, if it did.
    pub reason: Option<Reason>,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// From the first attempt to the head of the upstream's response, if there was one.
    pub upstream_duration: Option<Duration>,
    /// Body bytes received from the client.
    pub bytes_received: u64,
    /// Body bytes sent to the client.
    pub bytes_sent: u64,
    /// Attempts after the first.
    pub retries: u32,
}

/// The status of an exchange that became a tunnel.
const SWITCHING_PROTOCOLS: u16 = 101;

impl WorkerMetrics {
    pub(super) fn new(cells: Arc<WorkerCells>) -> Self {
        Self {
            cells,
            _alone: PhantomData,
        }
    }

    /// Counts a request. A tunnel's duration is that of its use, so it is not put among those of
    /// requests.
    pub fn request_finished(&self, sample: &RequestSample) {
        self.cells.own.requests.add(1);
        let class = cells::class_of(sample.status);
        if let Some(route) = self.cells.routes.owned(sample.route.route) {
            if let Some(count) = route.classes.get(class) {
                count.add(1);
            }
            route.bytes_received.add(sample.bytes_received);
            route.bytes_sent.add(sample.bytes_sent);
            if sample.status != SWITCHING_PROTOCOLS {
                route.observe(sample.duration);
            }
        }
        if let Some(reason) = sample.reason {
            self.count_reason(sample.route.domain, reason);
        }
        if let Some(upstream) = sample.upstream
            && let Some(upstream) = self.cells.upstreams.owned(upstream.0)
        {
            count_upstream(upstream, sample, class);
        }
    }

    fn count_reason(&self, domain: u32, reason: Reason) {
        if let Some(domain) = self.cells.domains.owned(domain)
            && let Some(count) = domain.reasons.get(reason as usize)
        {
            count.add(1);
        }
    }

    /// Requests served by this worker so far.
    pub fn requests(&self) -> u64 {
        self.cells.own.requests.value()
    }

    /// Counts a connection that was accepted.
    pub fn connection_opened(&self, listener: ListenerSlotId) {
        self.at_listener(listener, |cells| cells.opened.add(1));
    }

    /// Counts the end of a connection that was counted when it was opened.
    pub fn connection_closed(&self, listener: ListenerSlotId) {
        self.at_listener(listener, |cells| cells.closed.add(1));
    }

    /// Counts a connection that was closed because there were too many.
    pub fn connection_refused(&self, listener: ListenerSlotId) {
        self.at_listener(listener, |cells| cells.refused.add(1));
    }

    /// Counts a look for the header of a proxy.
    pub fn proxy_header_received(&self, listener: ListenerSlotId, end: ProxyHeaderEnd) {
        self.at_listener(listener, |cells| {
            if let Some(count) = cells.proxy_headers.get(end as usize) {
                count.add(1);
            }
        });
    }

    /// Counts a TLS handshake with a client.
    pub fn handshake_finished(&self, listener: ListenerSlotId, end: HandshakeEnd) {
        self.at_listener(listener, |cells| {
            if let Some(count) = cells.handshakes.get(end as usize) {
                count.add(1);
            }
        });
    }

    /// Counts a moment for which a connection of HTTP/2 was not read.
    pub fn http2_paused(&self, listener: ListenerSlotId) {
        self.at_listener(listener, |cells| cells.http2_pauses.add(1));
    }

    /// Counts a rule of HTTP/2 that a client broke.
    pub fn http2_fault(&self, listener: ListenerSlotId, fault: Fault) {
        self.at_listener(listener, |cells| {
            if let Some(count) = cells.http2_faults.0.get(fault as usize) {
                count.add(1);
            }
        });
    }

    /// Counts a connection or session that a stream took.
    pub fn stream_opened(&self, stream: StreamSlotId) {
        self.at_stream(stream, |cells| cells.opened.add(1));
    }

    /// Counts bytes that a stream moved: from the client, and to it.
    pub fn stream_moved(&self, stream: StreamSlotId, received: u64, sent: u64) {
        self.at_stream(stream, |cells| {
            cells.received.add(received);
            cells.sent.add(sent);
        });
    }

    /// Counts the end of a connection or session that was counted when it was opened.
    pub fn stream_ended(&self, stream: StreamSlotId, end: StreamEnd) {
        self.at_stream(stream, |cells| {
            cells.closed.add(1);
            if let Some(count) = cells.ends.get(end as usize) {
                count.add(1);
            }
        });
    }

    /// Counts a datagram of a stream that was dropped.
    pub fn datagram_dropped(&self, stream: StreamSlotId, why: DatagramDrop) {
        self.at_stream(stream, |cells| {
            if let Some(count) = cells.dropped.get(why as usize) {
                count.add(1);
            }
        });
    }

    /// Counts an accept that failed.
    pub fn accept_failed(&self) {
        self.cells.own.accept_failures.add(1);
    }

    /// Counts a connection made to an endpoint.
    pub fn upstream_connected(&self, upstream: UpstreamSlotId) {
        self.at_upstream(upstream, |cells| cells.opened.add(1));
    }

    /// Counts an attempt sent on a connection that was kept.
    pub fn upstream_reused(&self, upstream: UpstreamSlotId) {
        self.at_upstream(upstream, |cells| cells.reused.add(1));
    }

    /// Counts a connection to an endpoint that could not be made.
    pub fn upstream_connect_failed(&self, upstream: UpstreamSlotId) {
        self.at_upstream(upstream, |cells| cells.failed.add(1));
    }

    /// Counts an exchange that became a tunnel.
    pub fn tunnel_opened(&self) {
        self.cells.own.tunnels_opened.add(1);
    }

    /// Counts the end of a tunnel.
    pub fn tunnel_closed(&self) {
        self.cells.own.tunnels_closed.add(1);
    }

    /// How long work waits for the worker.
    pub fn set_delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.cells.own.delay.set(micros);
    }

    /// Says how many connections to endpoints the worker keeps.
    pub fn set_pool_idle(&self, connections: usize) {
        self.cells.own.pool_idle.set(connections as u64);
    }

    /// Says how many requests wait for the worker to begin with them.
    pub fn set_requests_waiting(&self, requests: usize) {
        self.cells.own.requests_waiting.set(requests as u64);
    }

    /// Says how many buffers the worker's connections hold.
    pub fn set_buffers_in_use(&self, buffers: usize) {
        self.cells.own.buffers_in_use.set(buffers as u64);
    }

    fn at_listener(&self, listener: ListenerSlotId, count: impl FnOnce(&ListenerCells)) {
        if let Some(cells) = self.cells.listeners.owned(listener.0) {
            count(cells);
        }
    }

    fn at_stream(&self, stream: StreamSlotId, count: impl FnOnce(&StreamCells)) {
        if let Some(cells) = self.cells.streams.owned(stream.0) {
            count(cells);
        }
    }

    fn at_upstream(&self, upstream: UpstreamSlotId, count: impl FnOnce(&UpstreamCells)) {
        if let Some(cells) = self.cells.upstreams.owned(upstream.0) {
            count(cells);
        }
    }
}

/// A response of the upstream counts by its class; when the gateway answered in its place, none.
fn count_upstream(upstream: &UpstreamCells, sample: &RequestSample, class: usize) {
    match sample.upstream_duration {
        Some(duration) => {
            if let Some(count) = upstream.classes.get(class) {
                count.add(1);
            }
            upstream.observe(duration);
        }
        None => upstream.unanswered.add(1),
    }
    if sample.retries > 0 {
        upstream.retries.add(u64::from(sample.retries));
    }
}

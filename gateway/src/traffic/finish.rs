//! The last phase of an exchange: its counters and its access-log line. It runs once, after the
//! response, and explicitly: nothing of it hides in a destructor.
//!
//! Must not: wait. Counters are the worker's own, and a log line goes into the worker's buffer.

use std::time::Duration;

use super::access_log::Record;
use super::exchange::Exchange;
use super::respond::Reason;
use super::worker::Worker;
use crate::telemetry::metrics::RequestSample;

/// Counts and logs an exchange, and takes its request back.
pub fn finish(worker: &Worker, exchange: Exchange<'_>) {
    let duration = exchange.started.elapsed();
    let status = logged_status(&exchange);
    let slot = match (exchange.route, exchange.domain) {
        (Some(route), _) => &route.slot,
        (None, Some(domain)) => &domain.slot,
        (None, None) => &exchange.snapshot.slot,
    };
    worker.metrics.request_finished(&RequestSample {
        route: slot.id(),
        upstream: exchange.backend.map(|backend| backend.slot.id()),
        status,
        reason: exchange.reason,
        duration,
        upstream_duration: exchange.upstream.first_byte,
        bytes_received: exchange.bytes_received,
        bytes_sent: exchange.bytes_sent,
        retries: exchange.upstream.retries,
    });
    if let Some(format) = &exchange.snapshot.access_log {
        worker
            .log
            .write(format, &record(&exchange, status, duration));
    }
    worker.give_request(exchange.request);
}

/// The status that logs and metrics carry: the one sent, or that of the reason why none was.
fn logged_status(exchange: &Exchange<'_>) -> u16 {
    match (exchange.status, exchange.reason) {
        (0, reason) => reason.map_or(Reason::ClientClosed.status(), Reason::status),
        (sent, _) => sent,
    }
}

fn record<'r>(exchange: &'r Exchange<'_>, status: u16, duration: Duration) -> Record<'r> {
    let request = &exchange.request;
    Record {
        started: exchange.started,
        client: exchange.client_address,
        peer: exchange.client.peer,
        introduction: exchange.client.introduction.as_deref(),
        method: request.method_bytes(),
        authority: request.authority_bytes(),
        path: if request.path.is_empty() {
            request.target.whole.of(&request.headers.bytes)
        } else {
            &request.path
        },
        query: request.query_bytes(),
        headers: &request.headers,
        protocol: request.protocol,
        tls: exchange.client.tls.as_deref(),
        status,
        reason: exchange.reason.map(Reason::code),
        bytes_received: exchange.bytes_received,
        bytes_sent: exchange.bytes_sent,
        duration,
        request_id: exchange.request_id.as_bytes(),
        listener: &exchange.listener.name,
        domain: exchange.domain.map(|domain| &*domain.name),
        route: exchange.route.map(|route| &*route.name),
        upstream: exchange.backend.map(|backend| &*backend.upstream.name),
        endpoint: exchange.upstream.endpoint,
        upstream_connect: exchange.upstream.connect,
        upstream_first_byte: exchange.upstream.first_byte,
        retries: exchange.upstream.retries,
        generation: exchange.snapshot.generation,
        stream: None,
    }
}

//! A connection of a stream: an endpoint for it, then bytes both ways until both sides are done.
//!
//! Must not: read from a client for whom there is no endpoint yet, but for the first words that
//! told which stream is to have it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::snapshot::ListenerPlan;
use crate::telemetry::metrics::StreamEnd;
use crate::traffic::exchange::Client;
use crate::traffic::flow::{self, End, Ends};
use crate::traffic::socket::Socket;
use crate::traffic::stream::{Lead, Stream, Trace};
use crate::traffic::timer::Direction;
use crate::traffic::upstream::connect::{ConnectError, Purpose, connect};
use crate::traffic::upstream::introduce;
use crate::traffic::upstream::local::Chosen;
use crate::traffic::upstream::outlier::Outcome;
use crate::traffic::upstream::pool::Connection;
use crate::traffic::upstream::retry::{Attempt, Failed, Sent};
use crate::traffic::upstream::set::Tried;
use crate::traffic::worker::Worker;

/// A connection that a stream took.
#[derive(Debug)]
pub(super) struct Taken {
    /// The stream.
    pub(super) stream: Arc<Stream>,
    /// What the client said in the clear and the endpoint has to hear, TLS's first words.
    pub(super) words: Vec<u8>,
    /// The name in them.
    pub(super) server_name: Option<Box<str>>,
}

impl Taken {
    /// A connection of which nothing was read that the endpoint has to hear.
    pub(super) fn unread(stream: &Arc<Stream>) -> Self {
        Self {
            stream: Arc::clone(stream),
            words: Vec::new(),
            server_name: None,
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    plan: &ListenerPlan,
    socket: &Socket,
    client: &Client,
    taken: Taken,
) {
    let Taken {
        stream,
        words,
        server_name,
    } = taken;
    worker.metrics.stream_opened(stream.slot.id());
    let mut passage = Passage {
        worker,
        stream: &stream,
        socket,
        started: Instant::now(),
        upstream: None,
        endpoint: None,
        connect: None,
        retries: 0,
        moved: Moved::default(),
    };
    let end = passage.run(client, words).await;
    let (received, sent) = passage.moved.bytes();
    let trace = Trace {
        listener: &plan.name,
        stream: &stream,
        protocol: if stream.passes_tls { "TLS" } else { "TCP" },
        client,
        server_name: server_name.as_deref(),
        started: passage.started,
        upstream: passage
            .upstream
            .as_ref()
            .map(|lead| &*lead.backend.upstream.name),
        endpoint: passage.endpoint.as_ref().map(|endpoint| endpoint.address),
        connect: passage.connect,
        retries: passage.retries,
        received,
        sent,
        end,
    };
    trace.finish(worker);
}

/// A connection on its way.
struct Passage<'p> {
    worker: &'p Rc<Worker>,
    stream: &'p Stream,
    socket: &'p Socket,
    started: Instant,
    upstream: Option<Lead>,
    endpoint: Option<Chosen>,
    connect: Option<Duration>,
    retries: u32,
    moved: Moved,
}

/// Bytes that went through.
#[derive(Debug, Default)]
struct Moved {
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Moved {
    fn bytes(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }
}

impl flow::Count for Passage<'_> {
    fn add(&self, from_client: u64, from_endpoint: u64) {
        let Moved { received, sent } = &self.moved;
        received.set(received.get() + from_client);
        sent.set(sent.get() + from_endpoint);
        let metrics = &self.worker.metrics;
        metrics.stream_moved(self.stream.slot.id(), from_client, from_endpoint);
    }
}

impl Passage<'_> {
    async fn run(&mut self, client: &Client, words: Vec<u8>) -> StreamEnd {
        let opened = self.open(client).await;
        let connection = match opened {
            Ok(connection) => connection,
            Err(end) => {
                // Only a reset tells a client that nobody was there from one who had nothing to say.
                self.socket.reset_on_close();
                return end;
            }
        };
        let active = self.endpoint.as_ref().map(Chosen::begin);
        let end = self.converse(&connection.socket, words).await;
        drop(active);
        match end {
            End::Closed => StreamEnd::Closed,
            End::Idle => StreamEnd::Idle,
            End::ClientReset => {
                connection.socket.reset_on_close();
                StreamEnd::ClientReset
            }
            End::EndpointReset => {
                self.socket.reset_on_close();
                StreamEnd::EndpointReset
            }
        }
    }

    async fn converse(&self, endpoint: &Socket, words: Vec<u8>) -> End {
        let idle = self.stream.connection_idle;
        let mut written = 0;
        endpoint.set_deadline(Direction::Write, idle);
        while let Some(rest) = words.get(written..).filter(|rest| !rest.is_empty()) {
            match endpoint.write(rest, &[]).await {
                Ok(count) => written += count,
                Err(_) => return End::EndpointReset,
            }
        }
        flow::Count::add(self, written as u64, 0);
        // A connection may last; what was said at its beginning need not.
        drop(words);
        let ends = Ends {
            client: self.socket,
            endpoint,
            idle,
        };
        flow::run(self.worker, &ends, self).await
    }

    /// Connects to an endpoint, and to another if that fails, as the upstream's settings have it.
    async fn open(&mut self, client: &Client) -> Result<Connection, StreamEnd> {
        let worker = self.worker;
        let lead = Lead::of(worker, self.stream, client.peer.ip())?;
        let lead = self.upstream.insert(lead);
        let version = lead.upstream.upstream().settings.proxy_protocol;
        let local = || self.socket.local_address().ok();
        let header = version.map(|version| introduce::for_client(version, client, local, b""));
        let mut tried = Tried::default();
        let mut last = None;
        let mut _permit = None;
        loop {
            let chosen = lead.choose(worker, &tried);
            let endpoint = chosen.map_err(|none| last.unwrap_or(none))?;
            let endpoint = &*self.endpoint.insert(endpoint);
            let begun = Instant::now();
            let (header, timeout) = (header.as_deref(), self.stream.connect);
            let connected =
                connect(endpoint, Purpose::Stream, header, timeout, &worker.wheel).await;
            self.connect = Some(begun.elapsed());
            let slot = lead.backend.slot.id();
            let error = match connected {
                Ok(connection) => {
                    worker.metrics.upstream_connected(slot);
                    endpoint.record(Outcome::Success);
                    return Ok(connection);
                }
                Err(error) => error,
            };
            worker.metrics.upstream_connect_failed(slot);
            tracing::debug!(
                upstream = &*lead.backend.upstream.name,
                endpoint = %endpoint.address,
                error = %crate::telemetry::logs::chain(&error),
                "connect_failed"
            );
            let (end, outcome) = judged(&error);
            if let Some(outcome) = outcome {
                endpoint.record(outcome);
            }
            let attempt = Attempt {
                failed: Failed::Connecting,
                sent: Sent::Nothing,
                is_idempotent: false,
                retries: self.retries,
            };
            match lead.upstream.retry(&attempt) {
                Ok(permit) => _permit = Some(permit),
                Err(_) => return Err(end),
            }
            tried.insert(endpoint.id);
            last = Some(end);
            self.retries += 1;
        }
    }
}

/// How a connection ends that cannot be opened, and what that says about the endpoint.
fn judged(error: &ConnectError) -> (StreamEnd, Option<Outcome>) {
    match error {
        ConnectError::Saturated => (StreamEnd::Saturated, None),
        ConnectError::Timeout(_) => (StreamEnd::ConnectTimeout, Some(Outcome::Timeout)),
        ConnectError::Failed(_) => (StreamEnd::ConnectFailed, Some(Outcome::ConnectFailure)),
        ConnectError::Tls(_) => (StreamEnd::TlsFailed, Some(Outcome::ConnectFailure)),
    }
}

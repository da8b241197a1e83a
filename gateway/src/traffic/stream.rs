//! The compiled streams: who takes which connection of a listener, and where it goes. What TCP and
//! UDP have in common of a connection's life stands here too: the choice of an endpoint at its
//! beginning, its access-log line at its end.
//!
//! Must not: move bytes (`flow` and `udp` do) or look at them.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea_config::model::Protocol;
use smallvec::SmallVec;

use super::access_log::{Record, StreamFacts};
use super::balance::hash::hash;
use super::domain::Backend;
use super::exchange::{Client, Protocol as RequestProtocol};
use super::headers::Headers;
use super::route::host::HostRule;
use super::route::{HostTable, WeightedChoice};
use super::upstream::breaker::RequestPermit;
use super::upstream::local::{Chosen, LocalUpstream, NoEndpoint};
use super::upstream::set::Tried;
use super::worker::Worker;
use crate::telemetry::metrics::{StreamEnd, StreamSlot};

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// The name that logs and metrics carry.
    pub name: Arc<str>,
    /// Whether TLS goes to the endpoint as it is.
    pub passes_tls: bool,
    /// Where its connections go.
    pub backends: SmallVec<[Backend; 1]>,
    /// Which of the backends takes a connection.
    pub weights: WeightedChoice,
    /// Connecting to an endpoint.
    pub connect: Duration,
    /// The longest silence of a connection.
    pub connection_idle: Duration,
    /// The longest silence of a session of UDP.
    pub session_idle: Duration,
    /// Where its connections and sessions are counted.
    pub slot: StreamSlot,
}

/// What streams a listener has.
#[derive(Debug)]
pub struct ListenerStreams {
    /// What is served where no stream takes a connection.
    pub protocol: Protocol,
    /// Whether a stream takes TLS as it is, so that first words have to be kept.
    pub pass_tls: bool,
    /// Sessions of UDP, over all workers.
    pub sessions_max: u64,
    /// Bytes of a datagram.
    pub datagram_bytes_max: usize,
    /// By the host that the client asks for: an index into `streams`.
    pub hosts: HostTable,
    /// The streams.
    pub streams: Box<[Arc<Stream>]>,
}

impl ListenerStreams {
    /// Who takes a connection whose client asks for a host, or for none. Between a stream and a
    /// domain of the listener, whoever claims the host more closely has it.
    pub fn find(&self, server_name: Option<&str>, domains: &HostTable) -> Option<&Arc<Stream>> {
        let host = server_name.unwrap_or_default().as_bytes();
        let claim = self.hosts.claim(host)?;
        if self.protocol == Protocol::Http
            && let Some(other) = domains.claim(host)
            && closeness(other.rule) > closeness(claim.rule)
        {
            return None;
        }
        self.streams.get(claim.target as usize)
    }
}

/// How closely a rule describes a host.
fn closeness(rule: HostRule<'_>) -> usize {
    match rule {
        HostRule::Exact(_) => usize::MAX,
        HostRule::Wildcard(suffix) => suffix.len(),
        HostRule::Default => 0,
    }
}

/// The upstream that a connection goes to, for as long as it does.
#[derive(Debug)]
pub struct Lead {
    /// The backend that was drawn.
    pub backend: Backend,
    /// The worker's part of the upstream.
    pub upstream: Rc<LocalUpstream>,
    key: Option<u64>,
    _admitted: RequestPermit,
}

impl Lead {
    /// Draws one of a stream's backends for a client, within the upstream's cap.
    pub fn of(worker: &Worker, stream: &Stream, client: IpAddr) -> Result<Self, StreamEnd> {
        let chosen = stream.weights.choose(worker.random.next());
        let backend = chosen.and_then(|index| stream.backends.get(index));
        let backend = backend.ok_or(StreamEnd::Unhealthy)?;
        let upstream = worker.upstreams.of(&backend.upstream);
        let admitted = upstream.admit().map_err(|_| StreamEnd::Saturated)?;
        // Whatever the balance goes by, the address is all that is known of a client here.
        let by_key = upstream.upstream().settings.balance.hash_by();
        let key = by_key.map(|_| match client.to_canonical() {
            IpAddr::V4(address) => hash(&address.octets()),
            IpAddr::V6(address) => hash(&address.octets()),
        });
        Ok(Self {
            backend: backend.clone(),
            upstream,
            key,
            _admitted: admitted,
        })
    }

    /// Chooses an endpoint that was not tried.
    pub fn choose(&self, worker: &Worker, tried: &Tried) -> Result<Chosen, StreamEnd> {
        let chosen = self.upstream.choose(worker.random.next(), self.key, tried);
        chosen.map_err(|none| match none {
            NoEndpoint::Unresolved => StreamEnd::Unresolved,
            NoEndpoint::Exhausted => StreamEnd::Unhealthy,
        })
    }
}

/// What there is to say of a connection or session once it has ended.
#[derive(Debug)]
pub struct Trace<'t> {
    /// The listener it came through.
    pub listener: &'t str,
    /// The stream that took it.
    pub stream: &'t Stream,
    /// `TCP`, `TLS` or `UDP`.
    pub protocol: &'static str,
    /// Whoever was at the other end.
    pub client: &'t Client,
    /// The name that the client asked for, where its TLS went to the endpoint.
    pub server_name: Option<&'t str>,
    /// When it began.
    pub started: Instant,
    /// The upstream.
    pub upstream: Option<&'t str>,
    /// The endpoint, or the one tried last.
    pub endpoint: Option<SocketAddr>,
    /// How long connecting took.
    pub connect: Option<Duration>,
    /// Attempts to connect after the first.
    pub retries: u32,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// How it ended.
    pub end: StreamEnd,
}

impl Trace<'_> {
    /// Counts the end and writes the access-log line.
    pub fn finish(&self, worker: &Worker) {
        worker.metrics.stream_ended(self.stream.slot.id(), self.end);
        let snapshot = worker.snapshot.load();
        let Some(format) = &snapshot.access_log else {
            return;
        };
        let is_whole = self.end == StreamEnd::Closed;
        let record = Record {
            started: self.started,
            client: self.client.peer.ip(),
            peer: self.client.peer,
            introduction: self.client.introduction.as_deref(),
            method: b"",
            authority: b"",
            path: b"",
            query: None,
            headers: &Headers::default(),
            protocol: RequestProtocol::Http11,
            tls: self.client.tls.as_deref(),
            status: 0,
            reason: (!is_whole).then(|| self.end.as_str()),
            bytes_received: self.received,
            bytes_sent: self.sent,
            duration: self.started.elapsed(),
            request_id: b"",
            listener: self.listener,
            domain: None,
            route: None,
            upstream: self.upstream,
            endpoint: self.endpoint,
            upstream_connect: self.connect,
            upstream_first_byte: None,
            retries: self.retries,
            generation: snapshot.generation,
            stream: Some(StreamFacts {
                name: &self.stream.name,
                protocol: self.protocol,
                server_name: self.server_name,
            }),
        };
        worker.log.write(format, &record);
    }
}

//! One request and its response, from the first byte to the log line, whatever the protocol.
//! The codec fills it, routing and policies read and edit it, the upstream side forwards it,
//! and the last phase turns it into metrics and an access-log line.
//!
//! Must not: know how bytes travel (`connection` and `upstream` do) or hold a body.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cardea_certs::peer::PeerCertificate;
use cardea_certs::server::PolicyIdentity;
use cardea_http1::{Framing, Method, Span, Target, Version};

use super::domain::{Backend, Domain, Route};
use super::grpc_web::Web;
use super::headers::Headers;
use super::proxy_protocol::Tlvs;
use super::respond::Reason;
use super::upstream::adaptive::Waiting;
use super::upstream::pool::OwnPool;
use crate::snapshot::{ListenerPlan, Snapshot};

/// What every exchange of a connection shares: who is at the other end and how they came.
#[derive(Debug)]
pub struct Client {
    /// The address the connection came from; behind a proxy that says so (PROXY protocol), the one
    /// that it names.
    pub peer: SocketAddr,
    /// What the proxy said, if one did.
    pub introduction: Option<Box<Introduction>>,
    /// The TLS session, if the connection has one.
    pub tls: Option<Box<TlsIdentity>>,
    /// Connections to endpoints that were made for it and wait for its next request.
    pub own: OwnPool,
}

impl Client {
    /// A client of whom only the address is known.
    pub fn new(peer: SocketAddr) -> Self {
        Self {
            peer,
            introduction: None,
            tls: None,
            own: OwnPool::default(),
        }
    }
}

/// What a proxy said of a connection before it began (PROXY protocol).
#[derive(Debug)]
pub struct Introduction {
    /// The proxy: the address the connection really came from.
    pub proxy: SocketAddr,
    /// Where the client wanted to; none if the proxy named no addresses.
    pub destination: Option<SocketAddr>,
    /// The values that came with the addresses, as they came.
    pub values: Box<[u8]>,
}

impl Introduction {
    /// The values that came with the addresses.
    pub fn values(&self) -> Tlvs<'_> {
        Tlvs(&self.values)
    }
}

/// What a handshake established.
#[derive(Debug)]
pub struct TlsIdentity {
    /// The name the client asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// The policy that it was made under.
    pub policy: PolicyIdentity,
    /// The certificate that the client showed, verified.
    pub peer: Option<Box<PeerCertificate>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// Whether HTTP/2 was agreed on.
    pub is_http2: bool,
}

/// The protocol that a request is made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Protocol {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

impl From<Version> for Protocol {
    fn from(version: Version) -> Self {
        match version {
            Version::Http10 => Self::Http10,
            Version::Http11 => Self::Http11,
        }
    }
}

/// The request of an exchange.
#[derive(Debug)]
pub struct Request {
    /// The fields, with the edits made so far.
    pub headers: Headers,
    /// The method, interned.
    pub method: Method,
    /// The method as sent, a span of `headers.bytes`.
    pub method_text: Span,
    /// The host asked for, in lower case and without its port.
    pub host: Vec<u8>,
    /// The authority as sent, port included, a span of `headers.bytes`.
    pub authority: Span,
    /// The host as sent, without its port, a span of `headers.bytes`.
    pub host_text: Span,
    /// The port of the authority, if it names one.
    pub port: Option<u16>,
    /// The request target as sent, spans of `headers.bytes`.
    pub target: Target,
    /// The path, normalised once: the string that is matched, authorised and forwarded.
    pub path: Vec<u8>,
    /// The host the upstream is told instead of the client's, when a rewrite set one.
    pub host_forwarded: Option<Box<str>>,
    /// The protocol the request was made in.
    pub protocol: Protocol,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether whoever sent it takes fields after the body of its response (`TE: trailers`).
    pub takes_trailers: bool,
    /// Whether it is handled before the handshake of its connection is done, so that somebody else
    /// may have sent it again (RFC 8470).
    pub is_early: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            headers: Headers::default(),
            method: Method::Get,
            method_text: Span::default(),
            host: Vec::new(),
            authority: Span::default(),
            host_text: Span::default(),
            port: None,
            target: Target::default(),
            path: Vec::new(),
            host_forwarded: None,
            protocol: Protocol::Http11,
            framing: Framing::None,
            takes_trailers: false,
            is_early: false,
        }
    }
}

impl Request {
    /// The method as sent.
    pub fn method_bytes(&self) -> &[u8] {
        self.method_text.of(&self.headers.bytes)
    }

    /// The authority as sent.
    pub fn authority_bytes(&self) -> &[u8] {
        self.authority.of(&self.headers.bytes)
    }

    /// The query without its `?`.
    pub fn query_bytes(&self) -> Option<&[u8]> {
        self.target.query.map(|span| span.of(&self.headers.bytes))
    }

    /// Whether a body follows the head.
    pub fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }

    /// Empties the request for the next one, keeping its memory.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.host.clear();
        self.path.clear();
        self.host_forwarded = None;
        self.is_early = false;
    }
}

/// The deadlines of one exchange; the most specific `timeouts` policy wins field by field.
/// A zero switches a deadline off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// The whole exchange, from the head of the request to the end of the response.
    pub request: Duration,
    /// The longest wait for more of a request body.
    pub body_progress: Duration,
    /// The least average rate of a request body, bytes per second.
    pub body_rate_min: u64,
    /// The longest wait for the client to take more of a response.
    pub write_progress: Duration,
    /// The least average rate at which the client takes a response, bytes per second.
    pub write_rate_min: u64,
    /// Connecting to an endpoint, its TLS handshake included.
    pub connect: Duration,
    /// From the request sent to the head of the response.
    pub upstream_head: Duration,
    /// The longest wait for more of a response body.
    pub upstream_body: Duration,
    /// The longest silence of a tunnel.
    pub tunnel_idle: Duration,
}

/// What happened on the upstream side, for the log.
#[derive(Debug, Default)]
pub struct UpstreamTrace {
    /// The endpoint that answered, or was tried last.
    pub endpoint: Option<SocketAddr>,
    /// How long connecting took; `None` for a reused connection.
    pub connect: Option<Duration>,
    /// From the first attempt to the response head.
    pub first_byte: Option<Duration>,
    /// Attempts after the first.
    pub retries: u32,
    /// When its turn came, if it had to wait for it.
    pub turn: Option<Instant>,
    /// Counts it as waiting for its answer, once it was sent whole.
    pub waiting: Option<Waiting>,
}

/// One request and its response.
#[derive(Debug)]
pub struct Exchange<'t> {
    /// The configuration this exchange runs on from beginning to end.
    pub snapshot: &'t Snapshot,
    /// The listener it came through.
    pub listener: &'t ListenerPlan,
    /// Whoever is at the other end of the connection.
    pub client: &'t Client,
    /// The client's address: the peer's, or the one a trusted proxy vouches for.
    pub client_address: IpAddr,
    /// Whether the peer may speak for the client: it is one of the trusted proxies.
    pub peer_is_trusted: bool,
    /// The request.
    pub request: Box<Request>,
    /// The domain that claimed the host.
    pub domain: Option<&'t Domain>,
    /// The route that took the request.
    pub route: Option<&'t Route>,
    /// Bytes of the request's path, as it was matched, that the prefix covers by which the route
    /// took it: all of an exact path, none for a regular expression.
    pub matched_bytes: usize,
    /// The deadlines; defaults until a route is known.
    pub timeouts: &'t Timeouts,
    /// The time that the whole exchange may take: that of `timeouts`, or less where the client says
    /// how long it waits. Zero for no limit.
    pub time_max: Duration,
    /// The largest request body, in bytes; none for no limit.
    pub body_bytes_max: Option<u64>,
    /// The id that the log, the origin and the client are told.
    pub request_id: RequestId,
    /// Why the gateway answered by itself or ended the exchange early.
    pub reason: Option<Reason>,
    /// The status sent, zero before one is.
    pub status: u16,
    /// Body bytes received from the client.
    pub bytes_received: u64,
    /// Body bytes sent to the client.
    pub bytes_sent: u64,
    /// When the head of the request was complete.
    pub started: Instant,
    /// The upstream that was asked.
    pub backend: Option<&'t Backend>,
    /// What happened on the upstream side.
    pub upstream: UpstreamTrace,
    /// Notes that a policy's request phase leaves for its response phase.
    pub notes: Notes,
    /// What its client wants, if it is a call of gRPC-Web.
    pub web: Option<Web>,
}

/// Notes from the request phase of a policy to its response phase.
#[derive(Debug, Default)]
pub struct Notes {
    /// The tightest rate limit that the request was counted against.
    pub rate: Option<RateNote>,
}

/// Where a client stands with a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateNote {
    /// Requests per window.
    pub quota: u64,
    /// The window, seconds.
    pub window_s: u64,
    /// Requests that would pass now.
    pub remaining: u64,
    /// Until the whole quota is back, seconds.
    pub reset_s: u64,
}

/// A request id: the client's, where it may choose one, or 128 random bits in hexadecimal.
#[derive(Debug, Clone, Copy)]
pub struct RequestId {
    bytes: [u8; RequestId::LENGTH_MAX],
    length: u8,
}

impl RequestId {
    /// The longest id accepted from a client, bytes.
    pub const LENGTH_MAX: usize = 64;

    /// No id.
    pub const NONE: Self = Self {
        bytes: [0; Self::LENGTH_MAX],
        length: 0,
    };

    /// An id from random bits.
    pub fn from_random(high: u64, low: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; Self::LENGTH_MAX];
        let bits = (u128::from(high) << 64) | u128::from(low);
        for (position, byte) in bytes.iter_mut().take(32).enumerate() {
            let nibble = (bits >> (124 - 4 * position)) & 0xf;
            *byte = DIGITS[nibble as usize];
        }
        Self { bytes, length: 32 }
    }

    /// A client's id, if it is short and made of characters that are safe everywhere.
    pub fn try_from_client(id: &[u8]) -> Option<Self> {
        let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte);
        if id.is_empty() || id.len() > Self::LENGTH_MAX || !id.iter().all(safe) {
            return None;
        }
        let mut bytes = [0; Self::LENGTH_MAX];
        bytes[..id.len()].copy_from_slice(id);
        Some(Self {
            bytes,
            length: id.len() as u8,
        })
    }

    /// The id's characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl Exchange<'_> {
    /// What is left of the time that the whole exchange may take; zero for no limit.
    pub fn left(&self) -> Duration {
        if self.time_max.is_zero() {
            return Duration::ZERO;
        }
        let left = self.time_max.saturating_sub(self.started.elapsed());
        left.max(Duration::from_millis(1))
    }

    /// A deadline within what is left of the whole exchange's.
    pub fn within(&self, deadline: Duration) -> Duration {
        match (self.left(), deadline) {
            (Duration::ZERO, deadline) => deadline,
            (left, Duration::ZERO) => left,
            (left, deadline) => left.min(deadline),
        }
    }

    /// Whether the exchange has used up its time.
    pub fn is_overdue(&self) -> bool {
        !self.time_max.is_zero() && self.started.elapsed() >= self.time_max
    }

    /// The reason to give for a fault: a wait that ended because the exchange's time was up is
    /// nobody's slowness in particular.
    pub fn blamed(&self, fault: Reason) -> Reason {
        let is_wait = matches!(
            fault,
            Reason::BodyTimeout
                | Reason::ClientTooSlow
                | Reason::UpstreamConnectTimeout
                | Reason::UpstreamHeadTimeout
                | Reason::UpstreamBodyTimeout
        );
        if is_wait && self.is_overdue() {
            Reason::RequestTimeout
        } else {
            fault
        }
    }

    /// Notes why the exchange ends; the first reason stands.
    pub fn fail(&mut self, reason: Reason) {
        self.reason.get_or_insert(reason);
    }

    /// The certificate that the client showed, if it showed one.
    pub fn peer_certificate(&self) -> Option<&PeerCertificate> {
        self.client.tls.as_deref()?.peer.as_deref()
    }

    /// Whether the client came over TLS.
    pub fn is_secure(&self) -> bool {
        self.client.tls.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_hexadecimal_or_safe() {
        let id = RequestId::from_random(0x0123_4567_89ab_cdef, 1);
        assert_eq!(id.as_bytes(), b"0123456789abcdef0000000000000001");
        assert!(RequestId::try_from_client(b"abc-1").is_some());
        assert!(RequestId::try_from_client(b"").is_none());
        assert!(RequestId::try_from_client(b"a b").is_none());
        assert!(RequestId::try_from_client(b"a\"b").is_none());
        assert!(RequestId::try_from_client(&[b'a'; 65]).is_none());
    }

    #[test]
    fn an_exchange_stays_small() {
        assert!(
            size_of::<Exchange<'_>>() <= 512,
            "{}",
            size_of::<Exchange<'_>>()
        );
    }
}

//! A finished exchange as a line. Everything is written straight into the worker's buffer.
//!
//! Must not: allocate, or trust a byte that a client sent.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cardea_certs::peer::PeerCertificate;
use cardea_http1::{Known, write};

use super::escape;
use super::field::{self, Value};
use super::format::{Format, Piece};
use super::time::Clock;
use crate::traffic::exchange::{Introduction, Protocol, TlsIdentity};
use crate::traffic::headers::Headers;
use crate::traffic::proxy_protocol::{Tls, Tlvs, kind};
use crate::traffic::proxy_value::{self, Said};

/// One finished exchange.
#[derive(Debug)]
pub struct Record<'r> {
    /// When the head of the request was complete.
    pub started: Instant,
    /// The client's address.
    pub client: IpAddr,
    /// The peer's address: the client's, or its proxy's.
    pub peer: SocketAddr,
    /// What a proxy in front of the listener said.
    pub introduction: Option<&'r Introduction>,
    /// The method as sent.
    pub method: &'r [u8],
    /// The authority as sent.
    pub authority: &'r [u8],
    /// The normalised path, or the target as sent if it could not be.
    pub path: &'r [u8],
    /// The query without its `?`.
    pub query: Option<&'r [u8]>,
    /// The request's fields.
    pub headers: &'r Headers,
    /// The protocol the request was made in.
    pub protocol: Protocol,
    /// The TLS session.
    pub tls: Option<&'r TlsIdentity>,
    /// The status sent, or counted.
    pub status: u16,
    /// Why the gateway answered by itself.
    pub reason: Option<&'static str>,
    /// Body bytes from the client.
    pub bytes_received: u64,
    /// Body bytes to the client.
    pub bytes_sent: u64,
    /// The whole exchange.
    pub duration: Duration,
    /// The request id.
    pub request_id: &'r [u8],
    /// The listener's name.
    pub listener: &'r str,
    /// The domain's name.
    pub domain: Option<&'r str>,
    /// The route's name.
    pub route: Option<&'r str>,
    /// The upstream's name.
    pub upstream: Option<&'r str>,
    /// The endpoint asked last.
    pub endpoint: Option<SocketAddr>,
    /// How long connecting took.
    pub upstream_connect: Option<Duration>,
    /// Until the head of the upstream's response.
    pub upstream_first_byte: Option<Duration>,
    /// Attempts after the first.
    pub retries: u32,
    /// The configuration it ran on.
    pub generation: u64,
    /// The stream that took a connection; then there is no request.
    pub stream: Option<StreamFacts<'r>>,
}

/// What there is to say of a stream's connection or session.
#[derive(Debug, Clone, Copy)]
pub struct StreamFacts<'r> {
    /// The stream's name.
    pub name: &'r str,
    /// `TCP`, `TLS` or `UDP`.
    pub protocol: &'static str,
    /// The name that the client asked for, where its TLS went to the endpoint.
    pub server_name: Option<&'r str>,
}

impl<'r> Record<'r> {
    /// The certificate that the client showed.
    pub(super) fn peer_certificate(&self) -> Option<&'r PeerCertificate> {
        self.tls?.peer.as_deref()
    }

    /// What a proxy said under a number.
    pub(super) fn proxy_value(&self, kind: u8) -> Option<&'r [u8]> {
        self.introduction?.values().find(kind)
    }

    /// What a proxy said of the TLS that the client spoke to it.
    pub(super) fn proxy_tls(&self) -> Option<Tls<'r>> {
        self.introduction?.values().tls()
    }

    /// What a proxy said that has no field of its own.
    pub(super) fn proxy_rest(&self) -> Option<Tlvs<'r>> {
        let values = self.introduction?.values();
        let is_other = |(kind, _): &(u8, &[u8])| is_unnamed(*kind);
        values
            .iter()
            .any(|value| is_other(&value))
            .then_some(values)
    }
}

impl Format {
    /// Writes a record as one line.
    pub(super) fn write(&self, record: &Record<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
        match self {
            Self::Json => {
                out.extend_from_slice(b"{\"time\":\"");
                clock.write_rfc3339(record.started, out);
                out.push(b'"');
                field::write_json(record, out);
                out.push(b'}');
            }
            Self::Common => common(record, clock, out),
            Self::Combined => {
                common(record, clock, out);
                for known in [Known::Referer, Known::UserAgent] {
                    out.extend_from_slice(b" \"");
                    header(out, record.headers.known(known));
                    out.push(b'"');
                }
            }
            Self::Template(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(plain) => out.extend_from_slice(plain.as_bytes()),
                        Piece::Time => clock.write_rfc3339(record.started, out),
                        Piece::TimeCommon => clock.write_common(record.started, out),
                        Piece::Target => target(record, out),
                        Piece::Field(field) => text_value(out, field.value(record)),
                        Piece::Header(name) => header(out, record.headers.value(name)),
                        Piece::ProxyValue(which) => {
                            let said = record.introduction;
                            match said.and_then(|said| proxy_value::find(said, *which)) {
                                Some(Said::Number(number)) => write::decimal(out, number),
                                Some(Said::Bytes(bytes)) => header(out, Some(bytes)),
                                None => header(out, None),
                            }
                        }
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

fn common(record: &Record<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
    address(out, record.client);
    out.extend_from_slice(b" - - [");
    clock.write_common(record.started, out);
    out.extend_from_slice(b"] \"");
    if let Some(stream) = &record.stream {
        out.extend_from_slice(b"- ");
        escape::text(out, stream.name.as_bytes());
        out.push(b' ');
        out.extend_from_slice(stream.protocol.as_bytes());
        out.extend_from_slice(b"\" - ");
        write::decimal(out, record.bytes_sent);
        return;
    }
    escape::text(out, record.method);
    out.push(b' ');
    target(record, out);
    out.push(b' ');
    out.extend_from_slice(record.protocol.as_str().as_bytes());
    out.extend_from_slice(b"\" ");
    write::decimal(out, u64::from(record.status));
    out.push(b' ');
    write::decimal(out, record.bytes_sent);
}

fn target(record: &Record<'_>, out: &mut Vec<u8>) {
    escape::text(out, record.path);
    if let Some(query) = record.query {
        out.push(b'?');
        escape::text(out, query);
    }
}

fn header(out: &mut Vec<u8>, value: Option<&[u8]>) {
    text_value(out, value.map_or(Value::Absent, Value::Text));
}

/// Writes a field of a JSON object: its key, which brings the comma before it, and its value.
/// Inlined, so that the table of fields becomes one run of writes without a decision.
#[inline(always)]
pub(super) fn json_value(out: &mut Vec<u8>, key: &'static str, value: Value<'_>) {
    let quoted = |out: &mut Vec<u8>| {
        out.extend_from_slice(key.as_bytes());
        out.push(b'"');
    };
    match value {
        Value::Absent => return,
        Value::Text(text) => {
            quoted(out);
            escape::json(out, text);
        }
        Value::Word(word) => {
            quoted(out);
            out.extend_from_slice(word.as_bytes());
        }
        Value::Ip(ip) => {
            quoted(out);
            address(out, ip);
        }
        Value::Socket(socket) => {
            quoted(out);
            socket_address(out, socket);
        }
        Value::Number(number) => {
            out.extend_from_slice(key.as_bytes());
            write::decimal(out, number);
            return;
        }
        Value::Millis(duration) => {
            out.extend_from_slice(key.as_bytes());
            millis(out, duration);
            return;
        }
        Value::Tlvs(values) => {
            out.extend_from_slice(key.as_bytes());
            json_values(out, values);
            return;
        }
        Value::Flag(flag) => {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(word_of(flag).as_bytes());
            return;
        }
    }
    out.push(b'"');
}

fn text_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Absent | Value::Text(b"") => out.push(b'-'),
        Value::Text(text) => escape::text(out, text),
        Value::Word(word) => out.extend_from_slice(word.as_bytes()),
        Value::Number(number) => write::decimal(out, number),
        Value::Millis(duration) => millis(out, duration),
        Value::Flag(flag) => out.extend_from_slice(word_of(flag).as_bytes()),
        Value::Tlvs(values) => text_values(out, values),
        Value::Ip(ip) => address(out, ip),
        Value::Socket(socket) => socket_address(out, socket),
    }
}

/// The values that have no field of their own, by their numbers, each once.
fn others<'v>(values: Tlvs<'v>) -> impl Iterator<Item = (u8, &'v [u8])> {
    let is_first = move |at: usize, kind: u8| {
        let mut earlier = values.iter().take(at);
        earlier.all(|(other, _)| other != kind)
    };
    let unnamed = values.iter().enumerate();
    unnamed.filter_map(move |(at, (kind, value))| {
        (is_unnamed(kind) && is_first(at, kind)).then_some((kind, value))
    })
}

/// Whether a value of a proxy has no field of its own.
fn is_unnamed(number: u8) -> bool {
    !matches!(
        number,
        kind::ALPN | kind::AUTHORITY | kind::CRC32C | kind::NOOP | kind::UNIQUE_ID | kind::TLS
    )
}

fn json_values(out: &mut Vec<u8>, values: Tlvs<'_>) {
    for (position, (kind, value)) in others(values).enumerate() {
        out.push(if position == 0 { b'{' } else { b',' });
        // Writing to a vector does not fail.
        let _ = write!(out, "\"{kind:#04x}\":\"");
        escape::json(out, value);
        out.push(b'"');
    }
    out.push(b'}');
}

fn text_values(out: &mut Vec<u8>, values: Tlvs<'_>) {
    for (position, (kind, value)) in others(values).enumerate() {
        if position > 0 {
            out.push(b',');
        }
        let _ = write!(out, "{kind:#04x}=");
        escape::text(out, value);
    }
}

fn word_of(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, value: Duration) {
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    write::decimal(out, micros / 1000);
    let rest = micros % 1000;
    out.extend_from_slice(&[
        b'.',
        b'0' + (rest / 100) as u8,
        b'0' + (rest / 10 % 10) as u8,
        b'0' + (rest % 10) as u8,
    ]);
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            write::decimal(out, u64::from(a));
            for octet in [b, c, d] {
                out.push(b'.');
                write::decimal(out, u64::from(octet));
            }
        }
        // Writing to a vector does not fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn socket_address(out: &mut Vec<u8>, socket: SocketAddr) {
    match socket.ip().to_canonical() {
        ip @ IpAddr::V4(_) => address(out, ip),
        ip @ IpAddr::V6(_) => {
            out.push(b'[');
            address(out, ip);
            out.push(b']');
        }
    }
    out.push(b':');
    write::decimal(out, u64::from(socket.port()));
}

//! The request as an origin receives it: one canonical head, written once per exchange and sent
//! again unchanged if an attempt has to be repeated, and the body after it.
//!
//! Must not: forward what belongs to the client's connection (RFC 9110 §7.6.1), or let a client
//! say who it is: the fields that carry its identity are ours.

use std::io::{self, Write};
use std::net::IpAddr;

use cardea_http1::{ChunkedDecoder, Field, Form, Framing, Known, Limits, Step, write};
use cardea_http2::HeadWriter;

use crate::traffic::body::{Body, BodyError, Pace};
use crate::traffic::exchange::Exchange;
use crate::traffic::http2::Stream;
use crate::traffic::peer;

/// Body bytes that leave with the head, in one write, and can be sent again: small requests.
const TOGETHER_BYTES_MAX: usize = 16 * 1024;

/// A serialised request.
#[derive(Debug)]
pub struct Outgoing {
    /// The head, and the start of the body if it was there already.
    pub bytes: Vec<u8>,
    /// Bytes of the head among them.
    pub head_bytes: usize,
    /// Whether that is the whole request, so that it can be sent again.
    pub is_whole: bool,
    /// Bytes of the body among them.
    pub body_bytes: u64,
    /// Whether the request asks for an upgrade.
    pub is_upgrade: bool,
}

impl Outgoing {
    /// Serialises the head, and as much of the body as was received with the request.
    pub fn new(
        mut bytes: Vec<u8>,
        exchange: &Exchange<'_>,
        is_upgrade: bool,
        body: &mut Body<'_>,
    ) -> Result<Self, BodyError> {
        write_head(&mut bytes, exchange, is_upgrade);
        let head_bytes = bytes.len();
        let limit = bytes.len() + TOGETHER_BYTES_MAX;
        let mut body_bytes = 0;
        while bytes.len() < limit {
            let Some(piece) = body.next_received()? else {
                break;
            };
            let piece = body.piece(piece);
            body_bytes += piece.len() as u64;
            match exchange.request.framing {
                Framing::Chunked => write_chunk(&mut bytes, piece),
                _ => bytes.extend_from_slice(piece),
            }
        }
        if body.is_done() {
            write_end(&mut bytes, exchange.request.framing, body.trailers());
        }
        Ok(Self {
            bytes,
            head_bytes,
            is_whole: body.is_done(),
            body_bytes,
            is_upgrade,
        })
    }
}

impl Outgoing {
    /// The lines of the head, the first one first.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let head = self.bytes.get(..self.head_bytes).unwrap_or_default();
        let mut rest = head;
        std::iter::from_fn(move || {
            let end = memchr::memmem::find(rest, b"\r\n")?;
            let (line, after) = rest.split_at_checked(end)?;
            rest = after.get(2..).unwrap_or_default();
            (!line.is_empty()).then_some(line)
        })
    }

    /// Sends the request on a stream: the same head, field by field, and what is there of its body.
    pub async fn send_on(
        &self,
        stream: &Stream,
        exchange: &Exchange<'_>,
        is_secure: bool,
        pace: &mut Pace,
    ) -> io::Result<()> {
        let body = self.bytes.get(self.head_bytes..).unwrap_or_default();
        let is_end = self.is_whole && body.is_empty() && !self.is_upgrade;
        stream.send_request(is_end, |head| {
            self.write_fields(head, exchange.request.takes_trailers, is_secure);
        })?;
        if is_end || self.is_upgrade {
            return Ok(());
        }
        if exchange.request.framing != Framing::Chunked {
            return stream.send(body, self.is_whole, pace).await;
        }
        let mut decoder = ChunkedDecoder::new(&Limits::default());
        let mut rest = body;
        loop {
            match decoder.next(rest) {
                Ok(Step::Data { start, end }) => {
                    let piece = rest.get(start..end).unwrap_or_default();
                    stream.send(piece, false, pace).await?;
                    rest = rest.get(end..).unwrap_or_default();
                }
                Ok(Step::End { .. }) => {
                    let trailers = (decoder.trailer_bytes(), decoder.trailers());
                    return stream.send_end(trailers, pace).await;
                }
                // The rest is sent as it comes.
                Ok(Step::Need { .. }) => return Ok(()),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// What is one head in HTTP/1.1 is another in HTTP/2 (RFC 9113 section 8.3.1).
    fn write_fields(&self, head: &mut HeadWriter<'_>, takes_trailers: bool, is_secure: bool) {
        let mut lines = self.lines();
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let scheme: &[u8] = if is_secure { b"https" } else { b"http" };
        if self.is_upgrade {
            head.field(b":method", b"CONNECT");
            head.field(b":protocol", b"websocket");
        } else {
            head.field(b":method", method);
        }
        head.field(b":scheme", scheme);
        for line in lines {
            let at = memchr::memchr(b':', line).unwrap_or(line.len());
            let (name, value) = line.split_at(at);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            match Known::of(name) {
                // It is written first.
                Known::Host => {
                    head.field(b":authority", value);
                    head.field(b":path", target);
                }
                Known::Connection | Known::Upgrade | Known::TransferEncoding | Known::Te => {}
                Known::SecWebSocketKey if self.is_upgrade => {}
                _ => head.field(name, value),
            }
        }
        if takes_trailers {
            head.field(b"te", b"trailers");
        }
    }
}

/// Writes one chunk of a chunked body.
pub fn write_chunk(out: &mut Vec<u8>, piece: &[u8]) {
    write::chunk_start(out, piece.len() as u64);
    out.extend_from_slice(piece);
    write::chunk_end(out);
}

/// Writes what ends a body: for a chunked one the last chunk and the trailer fields.
pub fn write_end(out: &mut Vec<u8>, framing: Framing, (bytes, trailers): (&[u8], &[Field])) {
    if framing != Framing::Chunked {
        return;
    }
    write::last_chunk(out);
    write::fields(out, bytes, trailers.iter().copied());
    write::head_end(out);
}

fn write_head(out: &mut Vec<u8>, exchange: &Exchange<'_>, is_upgrade: bool) {
    let request = &exchange.request;
    out.extend_from_slice(request.method_bytes());
    out.push(b' ');
    match request.target.form {
        Form::Asterisk => out.push(b'*'),
        _ => out.extend_from_slice(&request.path),
    }
    if let Some(query) = request.query_bytes() {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = match &request.host_forwarded {
        Some(host) => host.as_bytes(),
        None => request.authority_bytes(),
    };
    write::field(out, b"host", host);
    // What a trusted peer said is told in the fields of our own, which continue it.
    let forwarding = &exchange.snapshot.forwarding;
    request.headers.write_received(out, |known| match known {
        Known::XForwardedFor
        | Known::XForwardedProto
        | Known::XForwardedHost
        | Known::XForwardedPort => !forwarding.x_forwarded,
        Known::Forwarded => !forwarding.forwarded,
        other => !stays_here(other) && !peer::is_told_anew(other, exchange),
    });
    request.headers.write_added(out, |known| !stays_here(known));
    if request.is_early && request.headers.values_of("early-data").next().is_none() {
        write::field(out, b"early-data", b"1");
    }
    write_identity(out, exchange);
    write_framing(out, request.framing);
    if is_upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    } else if exchange.web.is_some() {
        // Without it an origin of HTTP/1.1 may leave the status out (RFC 9110 §6.5.1).
        out.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Fields that the codec writes itself, or that end at the gateway. Hop-by-hop fields were
/// removed when the head was read.
pub fn stays_here(known: Known) -> bool {
    matches!(
        known,
        Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Expect
    )
}

fn write_framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(length) => write::content_length(out, length),
        Framing::Chunked => write::chunked(out),
        Framing::None | Framing::UntilClose => {}
    }
}

/// Who the client is: overwritten unless the peer is a trusted proxy, continued if it is one.
/// A field that a policy set is the policy's.
fn write_identity(out: &mut Vec<u8>, exchange: &Exchange<'_>) {
    let forwarding = &exchange.snapshot.forwarding;
    if forwarding.x_forwarded {
        write_x_forwarded(out, exchange);
    }
    if forwarding.forwarded {
        write_forwarded(out, exchange);
    }
    peer::write_fields(out, exchange);
    if let Some(name) = &forwarding.request_id {
        write::field(
            out,
            name.as_str().as_bytes(),
            exchange.request_id.as_bytes(),
        );
    }
}

fn write_x_forwarded(out: &mut Vec<u8>, exchange: &Exchange<'_>) {
    let headers = &exchange.request.headers;
    if !headers.is_added(Known::XForwardedFor) {
        out.extend_from_slice(b"x-forwarded-for: ");
        for (known, _, value) in headers.iter() {
            if known == Known::XForwardedFor {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        }
        write_address(out, exchange.client.peer.ip());
        out.extend_from_slice(b"\r\n");
    }
    if !headers.is_added(Known::XForwardedProto) {
        let told = headers.known(Known::XForwardedProto);
        let scheme = told.unwrap_or(scheme(exchange));
        write::field(out, b"x-forwarded-proto", scheme);
    }
    if !headers.is_added(Known::XForwardedHost) {
        let told = headers.known(Known::XForwardedHost);
        let host = told.unwrap_or(exchange.request.authority_bytes());
        write::field(out, b"x-forwarded-host", host);
    }
    if !headers.is_added(Known::XForwardedPort) {
        out.extend_from_slice(b"x-forwarded-port: ");
        match headers.known(Known::XForwardedPort) {
            Some(port) => out.extend_from_slice(port),
            None => write::decimal(out, u64::from(port(exchange))),
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn scheme(exchange: &Exchange<'_>) -> &'static [u8] {
    match exchange.is_secure() {
        true => b"https",
        false => b"http",
    }
}

/// The port the client asked for: the one it named, else the well-known one of its scheme.
fn port(exchange: &Exchange<'_>) -> u16 {
    let well_known = if exchange.is_secure() { 443 } else { 80 };
    exchange.request.port.unwrap_or(well_known)
}

/// RFC 7239: one element for this hop, after those of a trusted peer.
fn write_forwarded(out: &mut Vec<u8>, exchange: &Exchange<'_>) {
    let headers = &exchange.request.headers;
    if headers.is_added(Known::Forwarded) {
        return;
    }
    out.extend_from_slice(b"forwarded: ");
    for (known, _, value) in headers.iter() {
        if known == Known::Forwarded {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
    out.extend_from_slice(b"for=");
    match exchange.client.peer.ip() {
        IpAddr::V4(_) => write_address(out, exchange.client.peer.ip()),
        IpAddr::V6(_) => {
            // Colons and brackets need a quoted string (RFC 7239 §6).
            out.extend_from_slice(b"\"[");
            write_address(out, exchange.client.peer.ip());
            out.extend_from_slice(b"]\"");
        }
    }
    out.extend_from_slice(b";host=\"");
    out.extend_from_slice(exchange.request.authority_bytes());
    out.extend_from_slice(b"\";proto=");
    out.extend_from_slice(scheme(exchange));
    out.extend_from_slice(b"\r\n");
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    if let IpAddr::V4(address) = address {
        for (position, octet) in address.octets().into_iter().enumerate() {
            if position > 0 {
                out.push(b'.');
            }
            write::decimal(out, u64::from(octet));
        }
        return;
    }
    // Writing to a vector does not fail.
    let _ = write!(out, "{address}");
}

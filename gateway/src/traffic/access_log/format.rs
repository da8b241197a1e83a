//! How a line is written: JSON, the Common and Combined Log Formats, or a template. Each writes
//! straight into the worker's buffer; what came from a client is escaped byte by byte.
//!
//! Must not: allocate per line, or trust a byte that a client sent.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cardea_http1::{Known, Version, write};

use super::time::Moment;
use crate::traffic::exchange::TlsIdentity;
use crate::traffic::headers::Headers;

/// One finished exchange.
#[derive(Debug)]
pub struct Record<'r> {
    /// The client's address.
    pub client: IpAddr,
    /// The peer's address: the client's, or its proxy's.
    pub peer: SocketAddr,
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
    /// The version the request was made in.
    pub version: Version,
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
}

/// A compiled format.
#[derive(Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// The Common Log Format.
    Common,
    /// The Combined Log Format.
    Combined,
    /// Text with fields in it.
    Template(Box<[Piece]>),
}

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Text(Box<str>),
    /// A field of the record.
    Field(Field),
}

/// A template that cannot be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A brace without its partner.
    #[error("a `{{` without its `}}`")]
    Unclosed,
    /// No such field.
    #[error("there is no field `{0}`; there is: {all}", all = Field::names())]
    Unknown(String),
}

macro_rules! fields {
    ($($name:literal $Field:ident)*) => {
        /// A field of a template.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Field { $(#[doc = concat!("`{", $name, "}`")] $Field),* }

        impl Field {
            /// The field of a name.
            pub fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$Field),)* _ => None }
            }

            /// Every name.
            pub fn names() -> String {
                [$($name),*].join(", ")
            }
        }
    };
}

fields! {
    "time" Time "client" Client "peer" Peer "method" Method "host" Host "path" Path "query" Query
    "protocol" Protocol "status" Status "reason" Reason "bytes_received" BytesReceived
    "bytes_sent" BytesSent "duration_ms" DurationMs "request_id" RequestId "listener" Listener
    "domain" Domain "route" Route "upstream" Upstream "endpoint" Endpoint "retries" Retries
    "user_agent" UserAgent "referer" Referer "tls_version" TlsVersion "generation" Generation
}

impl Format {
    /// Compiles a template: `{client} {method} {path} {status}`; `{{` stands for a brace.
    pub fn template(text: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('{') {
                plain.push('{');
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').ok_or(FormatError::Unclosed)?;
            let field = Field::of(name).ok_or_else(|| FormatError::Unknown(name.to_owned()))?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(Piece::Field(field));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self::Template(pieces.into()))
    }

    /// Writes a record as one line.
    pub fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json => record.write_json(out),
            Self::Common => record.write_common(out),
            Self::Combined => {
                record.write_common(out);
                for known in [Known::Referer, Known::UserAgent] {
                    out.extend_from_slice(b" \"");
                    text(out, record.headers.known(known).unwrap_or(b"-"));
                    out.push(b'"');
                }
            }
            Self::Template(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(plain) => out.extend_from_slice(plain.as_bytes()),
                        Piece::Field(field) => record.write_field(*field, out),
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

impl Record<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        Moment::now().write_rfc3339(out);
        out.push(b'"');
        key(out, "client");
        address(out, self.client);
        out.push(b'"');
        json(out, "method", Some(self.method));
        json(out, "host", Some(self.authority));
        json(out, "path", Some(self.path));
        json(out, "query", self.query);
        json(out, "protocol", Some(self.protocol().as_bytes()));
        number(out, "status", u64::from(self.status));
        json(out, "reason", self.reason.map(str::as_bytes));
        number(out, "bytes_received", self.bytes_received);
        number(out, "bytes_sent", self.bytes_sent);
        millis(out, "duration_ms", Some(self.duration));
        json(
            out,
            "request_id",
            Some(self.request_id).filter(|id| !id.is_empty()),
        );
        json(out, "listener", Some(self.listener.as_bytes()));
        json(out, "domain", self.domain.map(str::as_bytes));
        json(out, "route", self.route.map(str::as_bytes));
        json(out, "upstream", self.upstream.map(str::as_bytes));
        if let Some(endpoint) = self.endpoint {
            key(out, "endpoint");
            socket_address(out, endpoint);
            out.push(b'"');
        }
        millis(out, "upstream_connect_ms", self.upstream_connect);
        millis(out, "upstream_first_byte_ms", self.upstream_first_byte);
        if self.retries > 0 {
            number(out, "retries", u64::from(self.retries));
        }
        json(out, "user_agent", self.headers.known(Known::UserAgent));
        json(out, "referer", self.headers.known(Known::Referer));
        if let Some(tls) = self.tls {
            json(out, "tls_version", Some(tls.version.as_bytes()));
            json(out, "tls_cipher", Some(tls.cipher.as_bytes()));
            json(
                out,
                "tls_server_name",
                tls.server_name.as_deref().map(str::as_bytes),
            );
        }
        number(out, "generation", self.generation);
        out.push(b'}');
    }

    fn write_common(&self, out: &mut Vec<u8>) {
        address(out, self.client);
        out.extend_from_slice(b" - - [");
        Moment::now().write_common(out);
        out.extend_from_slice(b"] \"");
        text(out, self.method);
        out.push(b' ');
        text(out, self.path);
        if let Some(query) = self.query {
            out.push(b'?');
            text(out, query);
        }
        out.push(b' ');
        out.extend_from_slice(self.protocol().as_bytes());
        out.extend_from_slice(b"\" ");
        write::decimal(out, u64::from(self.status));
        out.push(b' ');
        write::decimal(out, self.bytes_sent);
    }

    fn write_field(&self, field: Field, out: &mut Vec<u8>) {
        let name =
            |out: &mut Vec<u8>, name: Option<&str>| text(out, name.unwrap_or("-").as_bytes());
        match field {
            Field::Time => Moment::now().write_rfc3339(out),
            Field::Client => address(out, self.client),
            Field::Peer => socket_address(out, self.peer),
            Field::Method => text(out, self.method),
            Field::Host => text(out, self.authority),
            Field::Path => text(out, self.path),
            Field::Query => text(out, self.query.unwrap_or_default()),
            Field::Protocol => out.extend_from_slice(self.protocol().as_bytes()),
            Field::Status => write::decimal(out, u64::from(self.status)),
            Field::Reason => name(out, self.reason),
            Field::BytesReceived => write::decimal(out, self.bytes_received),
            Field::BytesSent => write::decimal(out, self.bytes_sent),
            Field::DurationMs => thousandths(out, self.duration),
            Field::RequestId => text(out, self.request_id),
            Field::Listener => name(out, Some(self.listener)),
            Field::Domain => name(out, self.domain),
            Field::Route => name(out, self.route),
            Field::Upstream => name(out, self.upstream),
            Field::Endpoint => match self.endpoint {
                Some(endpoint) => socket_address(out, endpoint),
                None => out.push(b'-'),
            },
            Field::Retries => write::decimal(out, u64::from(self.retries)),
            Field::UserAgent => text(out, self.headers.known(Known::UserAgent).unwrap_or(b"-")),
            Field::Referer => text(out, self.headers.known(Known::Referer).unwrap_or(b"-")),
            Field::TlsVersion => name(out, self.tls.map(|tls| tls.version)),
            Field::Generation => write::decimal(out, self.generation),
        }
    }

    fn protocol(&self) -> &'static str {
        match self.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
}

fn json(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    let Some(value) = value else { return };
    key(out, name);
    text(out, value);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    write::decimal(out, value);
}

fn millis(out: &mut Vec<u8>, name: &str, value: Option<Duration>) {
    let Some(value) = value else { return };
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    thousandths(out, value);
}

/// Milliseconds with three decimals.
fn thousandths(out: &mut Vec<u8>, value: Duration) {
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

/// Text from anywhere: quotes, backslashes, controls and bytes beyond ASCII are escaped, so that
/// a value stays inside its quotes and its line, in JSON and in plain text alike.
fn text(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while !rest.is_empty() {
        let plain = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\');
        let length = rest
            .iter()
            .position(|byte| !plain(byte))
            .unwrap_or(rest.len());
        let (kept, after) = rest.split_at(length);
        out.extend_from_slice(kept);
        let Some((byte, after)) = after.split_first() else {
            return;
        };
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.extend_from_slice(b"\\u00");
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
        rest = after;
    }
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (position, octet) in address.octets().into_iter().enumerate() {
                if position > 0 {
                    out.push(b'.');
                }
                write::decimal(out, u64::from(octet));
            }
        }
        // Writing to a vector does not fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn socket_address(out: &mut Vec<u8>, address_port: SocketAddr) {
    match address_port.ip().to_canonical() {
        ip @ IpAddr::V4(_) => address(out, ip),
        ip @ IpAddr::V6(_) => {
            out.push(b'[');
            address(out, ip);
            out.push(b']');
        }
    }
    out.push(b':');
    write::decimal(out, u64::from(address_port.port()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::headers::HeaderName;

    fn line(format: &Format, path: &[u8], agent: &[u8]) -> String {
        let mut headers = Headers::default();
        headers.append(&HeaderName::new("user-agent"), agent);
        let record = Record {
            client: "192.0.2.1".parse().unwrap(),
            peer: "[2001:db8::1]:4000".parse().unwrap(),
            method: b"GET",
            authority: b"example.com",
            path,
            query: Some(b"a=1"),
            headers: &headers,
            version: Version::Http11,
            tls: None,
            status: 200,
            reason: None,
            bytes_received: 0,
            bytes_sent: 12,
            duration: Duration::from_micros(1234),
            request_id: b"abc",
            listener: "web",
            domain: Some("shop"),
            route: Some("api"),
            upstream: Some("app"),
            endpoint: Some("127.0.0.1:3000".parse().unwrap()),
            upstream_connect: None,
            upstream_first_byte: Some(Duration::from_millis(1)),
            retries: 0,
            generation: 1,
        };
        let mut out = Vec::new();
        format.write(&record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_is_json_whatever_the_client_sent() {
        for hostile in [
            &b"/a"[..],
            b"/\"}\n{\"",
            b"/\\",
            b"/\x00\x1b[2J",
            b"/\xff\xfe",
            b"/\r\n",
        ] {
            let line = line(&Format::Json, hostile, hostile);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(parsed["status"], 200);
            assert_eq!(parsed["duration_ms"], 1.234);
            let path: Vec<u8> = parsed["path"]
                .as_str()
                .unwrap()
                .chars()
                .map(|c| c as u8)
                .collect();
            assert_eq!(path, hostile);
        }
    }

    #[test]
    fn a_text_line_stays_one_line() {
        let found = line(&Format::Combined, b"/x\n1.2.3.4 - - \"", b"curl \"8\"");
        assert_eq!(found.matches('\n').count(), 1);
        assert!(found.starts_with("192.0.2.1 - - ["), "{found}");
        assert!(found.contains("\"GET /x\\u000a1.2.3.4 - - \\u0022?a=1 HTTP/1.1\" 200 12 \"-\" \"curl \\u00228\\u0022\""), "{found}");
    }

    #[test]
    fn templates_name_their_fields() {
        let format = Format::template("{{{peer} {status} {endpoint} {reason}").unwrap();
        assert_eq!(
            line(&format, b"/", b""),
            "{[2001:db8::1]:4000 200 127.0.0.1:3000 -\n"
        );
        assert_eq!(Format::template("{status"), Err(FormatError::Unclosed));
        assert_eq!(
            Format::template("{stat}"),
            Err(FormatError::Unknown("stat".into()))
        );
    }
}

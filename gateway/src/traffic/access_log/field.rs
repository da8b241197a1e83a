//! The fields of a line: their names, what they mean, and where they come from, in one table. JSON
//! has all of them, a template those it names.
//!
//! Must not: change the meaning of a name. Names are a promise to whoever reads the log.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cardea_http1::Known;

use super::record::{Record, json_value};
use crate::traffic::proxy_protocol::{Tlvs, kind};

/// What a field has in it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'v> {
    /// Nothing: JSON leaves the field out, text has a dash.
    Absent,
    /// Bytes from anywhere, to be escaped.
    Text(&'v [u8]),
    /// A word of ours that needs no escape.
    Word(&'static str),
    /// A number.
    Number(u64),
    /// Milliseconds with three decimals.
    Millis(Duration),
    /// Yes or no.
    Flag(bool),
    /// An address.
    Ip(IpAddr),
    /// An address and a port.
    Socket(SocketAddr),
    /// Values of a proxy, some of them without a field of their own.
    Tlvs(Tlvs<'v>),
}

impl<'v> Value<'v> {
    fn name(name: &'v str) -> Self {
        Self::Text(name.as_bytes())
    }

    fn optional<T>(value: Option<T>, present: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Absent, present)
    }
}

macro_rules! fields {
    ($($Field:ident $name:literal $help:literal |$record:ident| $value:expr;)*) => {
        /// A field of a line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Field { $(#[doc = $help] $Field),* }

        impl Field {
            /// Every field, in the order that JSON has after `time`.
            pub const ALL: &'static [Self] = &[$(Self::$Field),*];

            /// Its name, in JSON and in templates.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Field => $name),* }
            }

            /// What it means.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$Field => $help),* }
            }

            pub(super) fn value<'v>(self, record: &Record<'v>) -> Value<'v> {
                match self { $(Self::$Field => { let $record = record; $value })* }
            }
        }

        /// Writes every field that has a value, each after a comma.
        pub(super) fn write_json(record: &Record<'_>, out: &mut Vec<u8>) {
            $(
                let $record = record;
                json_value(out, concat!(",\"", $name, "\":"), $value);
            )*
        }
    };
}

fields! {
    Client "client" "The client's address: the peer's, or the one that a trusted proxy gave."
        |record| Value::Ip(record.client);
    Peer "peer" "The address and port that the connection came from, as a proxy in front says if there is one."
        |record| Value::Socket(record.peer);
    Proxy "proxy" "The proxy that said so (PROXY protocol): where the connection really came from."
        |record| Value::optional(record.introduction, |it| Value::Socket(it.proxy));
    ProxyDestination "proxy_destination" "The address and port that the client connected to, as the proxy says."
        |record| Value::optional(record.introduction.and_then(|it| it.destination), Value::Socket);
    ProxyAuthority "proxy_authority" "The host that the client asked the proxy for."
        |record| Value::optional(record.proxy_value(kind::AUTHORITY), Value::Text);
    ProxyAlpn "proxy_alpn" "The protocol that the client agreed on with the proxy."
        |record| Value::optional(record.proxy_value(kind::ALPN), Value::Text);
    ProxyUniqueId "proxy_unique_id" "The proxy's id of the connection."
        |record| Value::optional(record.proxy_value(kind::UNIQUE_ID), Value::Text);
    ProxyTlsVersion "proxy_tls_version" "The version of the TLS that the client spoke to the proxy."
        |record| Value::optional(record.proxy_tls().and_then(|it| it.tlvs.find(kind::TLS_VERSION)), Value::Text);
    ProxyTlsName "proxy_tls_name" "Whom the certificate names that the client showed the proxy, if the proxy verified it."
        |record| Value::optional(record.proxy_tls().filter(|it| it.is_verified).and_then(|it| it.tlvs.find(kind::TLS_COMMON_NAME)), Value::Text);
    ProxyTlvs "proxy_tlvs" "What else the proxy said, by number: `{\"0xea\":\"…\"}`."
        |record| Value::optional(record.proxy_rest(), Value::Tlvs);
    Method "method" "The method, as it was sent."
        |record| of_request(record, Value::Text(record.method));
    Host "host" "The host that was asked for, as it was sent."
        |record| of_request(record, Value::Text(record.authority));
    Path "path" "The path, normalised: the string that was matched and forwarded."
        |record| of_request(record, Value::Text(record.path));
    Query "query" "The query, without its question mark."
        |record| Value::optional(record.query, Value::Text);
    Protocol "protocol" "`HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`; of a stream `TCP`, `TLS` as it was, or `UDP`."
        |record| Value::Word(record.stream.map_or(record.protocol.as_str(), |it| it.protocol));
    Status "status" "The status that was sent; without one, that of the reason."
        |record| of_request(record, Value::Number(u64::from(record.status)));
    Reason "reason" "Why the gateway answered by itself or ended the exchange early; why a stream's connection ended before both sides had ended it."
        |record| Value::optional(record.reason, Value::Word);
    BytesReceived "bytes_received" "Body bytes received from the client; of a stream, all bytes."
        |record| Value::Number(record.bytes_received);
    BytesSent "bytes_sent" "Body bytes sent to the client; of a stream, all bytes."
        |record| Value::Number(record.bytes_sent);
    DurationMs "duration_ms" "From the head of the request to the end of the response, milliseconds; of a stream, the whole connection."
        |record| Value::Millis(record.duration);
    RequestId "request_id" "The id that the origin was told, too."
        |record| Value::optional((!record.request_id.is_empty()).then_some(record.request_id), Value::Text);
    Listener "listener" "The listener that the connection came through."
        |record| Value::name(record.listener);
    Domain "domain" "The domain that claimed the host."
        |record| Value::optional(record.domain, Value::name);
    Route "route" "The route that took the request."
        |record| Value::optional(record.route, Value::name);
    Stream "stream" "The stream that took the connection or the datagrams."
        |record| Value::optional(record.stream, |stream| Value::name(stream.name));
    Upstream "upstream" "The upstream that the request was meant for."
        |record| Value::optional(record.upstream, Value::name);
    Endpoint "endpoint" "The endpoint that answered, or was tried last."
        |record| Value::optional(record.endpoint, Value::Socket);
    UpstreamConnectMs "upstream_connect_ms" "How long connecting to the endpoint took; none if a connection was kept."
        |record| Value::optional(record.upstream_connect, Value::Millis);
    UpstreamFirstByteMs "upstream_first_byte_ms" "From the first attempt to the head of the upstream's response."
        |record| Value::optional(record.upstream_first_byte, Value::Millis);
    Retries "retries" "Attempts after the first; none if there were none."
        |record| Value::optional((record.retries > 0).then_some(record.retries), |it| Value::Number(u64::from(it)));
    UserAgent "user_agent" "The `User-Agent` field."
        |record| Value::optional(record.headers.known(Known::UserAgent), Value::Text);
    Referer "referer" "The `Referer` field."
        |record| Value::optional(record.headers.known(Known::Referer), Value::Text);
    TlsVersion "tls_version" "`TLSv1.2` or `TLSv1.3`."
        |record| Value::optional(record.tls, |tls| Value::Word(tls.version));
    TlsCipher "tls_cipher" "The cipher suite."
        |record| Value::optional(record.tls, |tls| Value::Word(tls.cipher));
    TlsServerName "tls_server_name" "The name that the client asked for in its handshake."
        |record| Value::optional(server_name(record), Value::name);
    TlsResumed "tls_resumed" "Whether an earlier session was resumed."
        |record| Value::optional(record.tls, |tls| Value::Flag(tls.resumed));
    ClientSubject "client_subject" "Whom the client's certificate names, as RFC 4514 writes it."
        |record| Value::optional(record.peer_certificate(), |peer| Value::name(&peer.subject));
    ClientName "client_name" "The first URI, else host, else mail address in the client's certificate."
        |record| Value::optional(record.peer_certificate().and_then(|peer| peer.first_name()), Value::name);
    ClientFingerprint "client_fingerprint" "The SHA-256 of the client's certificate."
        |record| Value::optional(record.peer_certificate(), |peer| Value::name(&peer.fingerprint));
    Generation "generation" "The configuration that the exchange ran on."
        |record| Value::Number(record.generation);
}

/// What a stream has not.
fn of_request<'v>(record: &Record<'v>, value: Value<'v>) -> Value<'v> {
    match record.stream {
        Some(_) => Value::Absent,
        None => value,
    }
}

fn server_name<'v>(record: &Record<'v>) -> Option<&'v str> {
    let passed = record.stream.and_then(|stream| stream.server_name);
    passed.or_else(|| record.tls?.server_name.as_deref())
}

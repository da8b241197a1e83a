//! Listeners and certificates: where connections come in and what proves who we are.
//!
//! Must not: load anything; paths are paths here.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::acme::CertificateOrder;
use super::proxy_protocol::ListenerProxyProtocol;
use super::tls::ListenerTls;

use super::value::{Bind, ByteSize, HostPattern, Name, Period};
use super::{FilePath, text};
use crate::origin::Located;

/// A listener. It serves HTTP, with `tls` HTTPS; or it hands connections or datagrams to streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its name, in logs and metrics, and for domains to refer to.
    pub name: Name,
    /// The addresses it listens on.
    pub bind: Vec<Located<Bind>>,
    /// What it serves.
    #[serde(default, skip_serializing_if = "Protocol::is_http")]
    pub protocol: Protocol,
    /// The only hosts served here, whatever else the domains claim; empty for all.
    #[serde(default)]
    pub hosts: Vec<HostPattern>,
    /// Open connections; beyond, new ones are closed at once.
    #[serde(default = "connections_max", deserialize_with = "text::positive")]
    pub connections_max: u32,
    /// What a request may look like.
    #[serde(default)]
    pub http: HttpLimits,
    /// What a connection of HTTP/2 may cost.
    #[serde(default)]
    pub http2: Http2Limits,
    /// How many clients of UDP there may be, and how large their datagrams.
    #[serde(default, skip_serializing_if = "UdpLimits::is_default")]
    pub udp: UdpLimits,
    /// Deadlines before a route is known.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
    /// Proxies in front of it that say where connections come from; none if not set.
    #[serde(default)]
    pub proxy_protocol: Option<ListenerProxyProtocol>,
    /// The TLS side.
    #[serde(default, deserialize_with = "text::sound")]
    pub tls: Option<ListenerTls>,
}

fn connections_max() -> u32 {
    50_000
}

/// What a listener serves.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP, for domains; with `tls`, streams may take hosts before them.
    #[default]
    Http,
    /// Connections, for streams.
    Tcp,
    /// Datagrams, for a stream.
    Udp,
}

impl Protocol {
    /// Whether it is HTTP.
    pub fn is_http(&self) -> bool {
        *self == Self::Http
    }

    /// Its name in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

super::section! {
    /// How many clients of UDP there may be, and how large their datagrams.
    pub struct UdpLimits {
        /// Sessions: addresses and ports of clients that were heard lately. Beyond, datagrams of
        /// others are dropped.
        #[serde(deserialize_with = "text::positive")]
        pub sessions_max: u32 = 10_000,
        /// Bytes of a datagram, either way; larger ones are dropped.
        #[serde(deserialize_with = "datagram")]
        pub datagram_bytes_max: ByteSize = DATAGRAM_MOST,
    }
}

impl UdpLimits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// No datagram is larger, bytes: its length is a number of 16 bits.
const DATAGRAM_MOST: ByteSize = ByteSize(64 * 1024);

fn datagram<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    text::within(deserializer, LENGTH_LEAST..=DATAGRAM_MOST, "useful limit")
}

super::section! {
    /// What a request may look like.
    pub struct HttpLimits {
        /// Bytes of a request's head.
        #[serde(deserialize_with = "length")]
        pub head_bytes_max: ByteSize = ByteSize(32 * 1024),
        /// Fields in a request's head.
        #[serde(deserialize_with = "text::positive")]
        pub field_count_max: u32 = 100,
        /// Bytes of a request target.
        #[serde(deserialize_with = "length")]
        pub uri_bytes_max: ByteSize = ByteSize(8 * 1024),
        /// Requests on one connection before it is closed.
        #[serde(deserialize_with = "text::positive")]
        pub requests_per_connection_max: u32 = 10_000,
        /// `%2F` and `%5C` in paths, which origins may or may not take for slashes.
        pub encoded_slashes: EncodedSlashes = EncodedSlashes::Reject,
        /// Whether `//` in a path is read as `/`.
        pub merge_slashes: bool = true,
    }
}

super::section! {
    /// What a connection of HTTP/2 may cost. Its heads have the limits of `http`.
    pub struct Http2Limits {
        /// Whether connections without TLS may speak it, to clients that know so beforehand (h2c).
        pub cleartext: bool = true,
        /// Whether a request of HTTP/1.1 without TLS and without a body may have its connection go on
        /// in HTTP/2 (`Upgrade: h2c`). HTTP/2 has given that up (RFC 9113); it is for old clients.
        pub upgrade: bool = false,
        /// Streams that a client may have open at once.
        #[serde(deserialize_with = "text::positive")]
        pub streams_max: u32 = 100,
        /// Bytes of a request's body that are taken in before the origin takes them.
        #[serde(deserialize_with = "window")]
        pub stream_window: ByteSize = ByteSize(256 * 1024),
        /// The same over all streams of a connection: the most that one makes the gateway hold.
        #[serde(deserialize_with = "window")]
        pub connection_window: ByteSize = ByteSize(1024 * 1024),
        /// Frames that ask for nothing, such as PING and empty DATA, within ten seconds; beyond, the
        /// connection is closed.
        #[serde(deserialize_with = "text::positive")]
        pub control_frames_max: u32 = 500,
        /// Streams that a client resets, or has reset by breaking a rule, within ten seconds; each
        /// request that is served allows one more. Beyond, the connection is closed.
        #[serde(deserialize_with = "text::positive")]
        pub resets_max: u32 = 200,
    }
}

/// The window that every client may begin with (RFC 9113 section 6.9.2).
const WINDOW_LEAST: ByteSize = ByteSize(65_535);

/// The largest that there can be (RFC 9113 section 6.9.1).
const WINDOW_MOST: ByteSize = ByteSize(0x7fff_ffff);

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    text::within(deserializer, WINDOW_LEAST..=WINDOW_MOST, "useful window")
}

/// No request has a shorter head or target than this, bytes.
const LENGTH_LEAST: ByteSize = ByteSize(64);

/// Nothing longer is read, bytes: every connection may take as much.
const LENGTH_MOST: ByteSize = ByteSize(1 << 30);

fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    text::within(deserializer, LENGTH_LEAST..=LENGTH_MOST, "useful limit")
}

/// What happens to encoded slashes in paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodedSlashes {
    /// The request is refused.
    Reject,
    /// They stay as they are, and are no slashes to routing.
    Keep,
}

super::section! {
    /// Deadlines before a route is known.
    pub struct ListenerTimeouts {
        /// From the first byte of a request to the end of its head, absolute.
        pub head: Period = Period::from_secs(10),
        /// The wait for a first or next request on a connection.
        pub idle: Period = Period::from_secs(60),
        /// From accept to the end of the TLS handshake, absolute.
        pub handshake: Period = Period::from_secs(10),
    }
}

/// A certificate: served to clients that ask for one of the names in it. It is in files, or an
/// authority is asked for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Its name, in metrics and for listeners and domains to refer to.
    pub name: Name,
    /// The PEM file with the certificate and its chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<FilePath>,
    /// The PEM file with the private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<FilePath>,
    /// What an authority is asked for, instead of files; `acme` says whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<Box<CertificateOrder>>,
    /// Whether clients get it that name no host, or one that no certificate has.
    #[serde(default)]
    pub default: bool,
}

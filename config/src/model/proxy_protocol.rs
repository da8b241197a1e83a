//! The PROXY protocol: who may say at a listener where a connection comes from, and what an upstream
//! is told of it.
//!
//! Must not: read or write a header.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::text;
use super::value::{ByteSize, Network, Period};

/// How proxies in front of a listener say where connections come from: by a header of the PROXY
/// protocol, version 1 or 2, before anything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerProxyProtocol {
    /// The proxies: peers whose header is read and believed. Anybody else is served as if there
    /// were no such setting, so that a header is no request (400) and no TLS.
    pub from: Vec<Network>,
    /// Whether a connection from there has to begin with a header.
    #[serde(default = "required")]
    pub mode: HeaderMode,
    /// How long a whole header may take from accept, absolute.
    #[serde(default = "timeout", deserialize_with = "text::positive")]
    pub timeout: Period,
    /// Bytes of a header of version 2. One of version 1 has 107 at most.
    #[serde(default = "header_bytes_max", deserialize_with = "length")]
    pub header_bytes_max: ByteSize,
}

/// Whether a connection from a proxy has to begin with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeaderMode {
    /// It is closed if it does not.
    Required,
    /// Without one it is served as what it is: the proxy's own.
    Optional,
}

/// The header that a connection to an endpoint begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProxyProtocol {
    /// A line of text: the addresses.
    V1,
    /// A binary block: the addresses, the request id, and of clients that speak TLS the version,
    /// the host they asked for and whom their certificate names.
    V2,
}

fn required() -> HeaderMode {
    HeaderMode::Required
}

fn timeout() -> Period {
    Period::from_secs(3)
}

fn header_bytes_max() -> ByteSize {
    ByteSize(4 * 1024)
}

/// The longest header without values, that of `AF_UNIX`, bytes.
const LENGTH_LEAST: ByteSize = ByteSize(232);

/// What the gateway reads a header into, bytes.
const LENGTH_MOST: ByteSize = ByteSize(8 * 1024);

fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    text::within(deserializer, LENGTH_LEAST..=LENGTH_MOST, "useful limit")
}

//! Streams: which connections and datagrams are passed on as they are, and where to.
//!
//! Must not: say anything about what is in them; whoever passes bytes on does not look.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::route::Backends;
use super::text;
use super::value::{HostPattern, Name, Period};
use crate::origin::Located;

/// A stream: connections, or datagrams, that are passed on without a look into them. Connections
/// over TLS are told apart by the name that the client asks for in its first words (SNI).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Its name, in logs and metrics.
    pub name: Name,
    /// The listeners that it takes connections from: of protocol `tcp` or `udp`, or of `http` with
    /// `tls`, where it takes its hosts before the domains do.
    pub listeners: Vec<Located<Name>>,
    /// The hosts it claims, on listeners with `tls`; everything that no other stream claims if
    /// empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Located<HostPattern>>,
    /// What becomes of TLS, on listeners with `tls`; `terminate` if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<StreamTls>,
    /// Where its connections go: an upstream, or several with weights.
    pub to: Backends,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: StreamTimeouts,
}

impl Stream {
    /// Whether it is served on a listener.
    pub fn is_on(&self, listener: &Name) -> bool {
        self.listeners.iter().any(|name| name.value == *listener)
    }

    /// Whether it passes TLS on as it is.
    pub fn passes_tls(&self) -> bool {
        self.tls == Some(StreamTls::Passthrough)
    }
}

/// What becomes of the TLS of a stream's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamTls {
    /// It goes to the endpoint as it is, which has the certificate.
    Passthrough,
    /// It ends here; what was in it goes to the endpoint.
    Terminate,
}

super::section! {
    /// Deadlines of a stream.
    pub struct StreamTimeouts {
        /// Connecting to an endpoint, its TLS handshake included.
        #[serde(deserialize_with = "text::positive")]
        pub connect: Period = Period::from_secs(5),
        /// How long nothing may cross in either direction before it ends; an hour for connections
        /// and a minute for sessions of UDP if not set.
        #[serde(deserialize_with = "text::positive")]
        pub idle: Option<Period> = None,
    }
}

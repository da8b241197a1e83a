//! The rules of an upstream, compiled. Two upstreams with equal rules are the same upstream to a
//! reload, so everything that matters must take part in the comparison.
//!
//! Must not: hold anything that changes while it is in use.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};

use super::adaptive::AdaptiveSettings;
use super::breaker::Caps;
use super::endpoint::Endpoint;
use super::health::HealthSettings;
use super::outlier::OutlierSettings;
use super::retry::RetrySettings;
use crate::traffic::balance::Balance;
use crate::traffic::proxy_protocol::Version;

/// The rules of an upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The endpoints as configured.
    pub sources: Box<[Source]>,
    /// How requests are spread over them.
    pub balance: Balance,
    /// Which protocols they are spoken to in.
    pub protocol: Protocol,
    /// How to speak TLS to them; none for plain connections.
    pub tls: Option<TlsClient>,
    /// The header that connections to them begin with; none for none.
    pub proxy_protocol: Option<Version>,
    /// How connections to them are kept.
    pub pool: PoolSettings,
    /// How much may be under way.
    pub caps: Caps,
    /// How each worker limits what waits for them by itself; none for not at all.
    pub adaptive: Option<AdaptiveSettings>,
    /// When attempts are repeated.
    pub retry: RetrySettings,
    /// How they are checked; none for not at all.
    pub health: Option<HealthSettings>,
    /// When failed requests take one out; none for never.
    pub outlier: Option<OutlierSettings>,
}

impl Settings {
    /// Whether connections may turn out to be of HTTP/2, which exchanges share. One that says whom it
    /// is for is for nobody else.
    pub fn may_share(&self) -> bool {
        if self.proxy_protocol.is_some() {
            return false;
        }
        match self.protocol {
            Protocol::Agreed => self.tls.is_some(),
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        }
    }
}

/// Which protocols endpoints are spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// What they choose in the TLS handshake; HTTP/1.1 without TLS.
    Agreed,
    /// HTTP/1.1
    Http1,
    /// HTTP/2, without TLS as well.
    Http2,
}

/// A configured endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub target: Target,
    /// The weight of each address it stands for.
    pub weight: u32,
}

/// Where a configured endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// At an address.
    Address(SocketAddr),
    /// At the addresses of a name.
    Name {
        /// The name.
        host: Arc<str>,
        /// The port at each of them.
        port: u16,
    },
}

impl Target {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }

    /// The name, if it has one.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Address(_) => None,
            Self::Name { host, .. } => Some(host),
        }
    }

    pub(super) fn shared_host(&self) -> Option<Arc<str>> {
        match self {
            Self::Address(_) => None,
            Self::Name { host, .. } => Some(Arc::clone(host)),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// How connections to endpoints are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// Idle connections a worker keeps to one endpoint.
    pub idle_per_worker_max: usize,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// Requests sent on one connection; zero is any number.
    pub requests_per_connection_max: u64,
}

/// How to speak TLS to endpoints.
#[derive(Debug, Clone)]
pub struct TlsClient {
    /// The trusted roots, our certificate, the protocols; shared, so that sessions resume.
    pub config: Arc<ClientConfig>,
    /// The same for what only HTTP/1.1 can do.
    pub http1: Arc<ClientConfig>,
    /// The same for streams, which offer no protocol.
    pub raw: Arc<ClientConfig>,
    /// The name that an endpoint must prove; none for the one it is configured under.
    pub server_name: Option<ServerName<'static>>,
}

impl PartialEq for TlsClient {
    /// Whether a connection made under one may be used under the other. What differs in anything,
    /// the contents of files included, has a configuration of its own.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
            && Arc::ptr_eq(&self.http1, &other.http1)
            && Arc::ptr_eq(&self.raw, &other.raw)
            && self.server_name == other.server_name
    }
}

impl TlsClient {
    /// The name that an endpoint must prove.
    pub fn server_name_of(
        &self,
        endpoint: &Endpoint,
    ) -> Result<ServerName<'static>, InvalidDnsNameError> {
        if let Some(name) = &self.server_name {
            return Ok(name.clone());
        }
        match &endpoint.host {
            // A name may be written with the dot of the root, a certificate never is.
            Some(host) => ServerName::try_from(host.trim_end_matches('.').to_owned()),
            None => Ok(ServerName::IpAddress(IpAddr::into(endpoint.address.ip()))),
        }
    }
}

#[cfg(test)]
impl Settings {
    /// Endpoints at these places, everything else as plain as it can be.
    pub(crate) fn sample(places: &[&str]) -> Self {
        let source = |place: &&str| {
            let target = match place.parse() {
                Ok(address) => Target::Address(address),
                Err(_) => {
                    let (host, port) = place.rsplit_once(':').expect("a name and a port");
                    Target::Name {
                        host: host.into(),
                        port: port.parse().expect("a port"),
                    }
                }
            };
            Source { target, weight: 1 }
        };
        Self {
            sources: places.iter().map(source).collect(),
            balance: Balance::RoundRobin,
            protocol: Protocol::Agreed,
            tls: None,
            proxy_protocol: None,
            pool: PoolSettings {
                idle_per_worker_max: 1,
                idle_timeout: Duration::from_secs(1),
                requests_per_connection_max: 0,
            },
            caps: Caps::default(),
            adaptive: None,
            retry: RetrySettings::default(),
            health: None,
            outlier: None,
        }
    }
}

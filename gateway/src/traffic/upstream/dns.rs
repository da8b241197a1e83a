//! Names to addresses, for endpoints that are configured by name: the hosts file first, then DNS,
//! both address families.
//!
//! Must not: decide what a failure means for an upstream. It reports; the control path keeps the
//! last answer.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};

use super::describe;

/// Addresses taken from one answer; what a name server sends beyond them is left out.
pub const ADDRESSES_MAX: usize = 256;

/// How long an answer for one address family waits for the other's. Some name servers never answer
/// for IPv6; their upstreams should not wait for the whole timeout at each refresh.
const FAMILY_GRACE: Duration = Duration::from_millis(500);

/// How long a negative answer is believed; after that the backoff decides when to ask again.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(1);

/// The files that say how this host resolves names.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverSettings {
    /// The name servers; none for those of the system.
    pub servers: Box<[SocketAddr]>,
    /// An answer is believed at least this long.
    pub ttl_min: Duration,
    /// An answer is believed at most this long.
    pub ttl_max: Duration,
    /// How long a lookup may take, all attempts together.
    pub timeout: Duration,
}

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The addresses, at least one unless a family failed.
    pub addresses: Vec<IpAddr>,
    /// Whether IPv4 could not be asked for, so that earlier addresses may still hold.
    pub ipv4_failed: bool,
    /// Whether IPv6 could not be asked for.
    pub ipv6_failed: bool,
    /// How long to believe it.
    pub valid_for: Duration,
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// It is no name that DNS knows how to ask for.
    #[error("not a domain name")]
    Name(#[source] NetError),
    /// The settings of the resolver cannot be used.
    #[error("the resolver cannot be set up")]
    Unusable(#[source] NetError),
    /// The name exists nowhere, or has no address.
    #[error("the name has no address")]
    NoAddress,
    /// The name servers did not answer, or not well.
    #[error("the lookup failed")]
    Failed(#[source] NetError),
    /// The name servers did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Resolves names.
#[derive(Debug)]
pub struct Resolver {
    settings: ResolverSettings,
    system: Mutex<Option<(Stamp, Arc<System>)>>,
}

/// When the system's files were last written, and how long they were.
type Stamp = [Option<(SystemTime, u64)>; SYSTEM_FILES.len()];

/// What was read from the system's files.
struct System {
    hosts: Hosts,
    dns: TokioResolver,
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

/// What one address family says.
type Family = Result<Option<Lookup>, DnsError>;

impl Resolver {
    /// A resolver; the system's files are read at the first lookup and whenever they changed.
    pub fn new(settings: ResolverSettings) -> Self {
        Self {
            settings,
            system: Mutex::default(),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &ResolverSettings {
        &self.settings
    }

    /// Looks a name up.
    pub async fn resolve(&self, host: &str) -> Result<Answer, DnsError> {
        let name =
            Name::from_str_relaxed(host).map_err(|error| DnsError::Name(NetError::from(error)))?;
        let system = self.system()?;
        if let Some(addresses) = system.in_hosts_file(&name) {
            return Ok(self.answer(addresses, [false, false], self.settings.ttl_max));
        }
        let timeout = self.settings.timeout;
        let both = both_families(
            system.lookup(&name, RecordType::A, timeout),
            system.lookup(&name, RecordType::AAAA, timeout),
        );
        let (ipv4, ipv6) = both.await;
        let failed = [ipv4.is_err(), ipv6.is_err()];
        let now = Instant::now();
        let mut addresses = Vec::new();
        let mut valid_for = self.settings.ttl_max;
        let mut error = None;
        for family in [ipv4, ipv6] {
            match family {
                Ok(Some(lookup)) => {
                    addresses.extend(lookup.answers().iter().filter_map(|it| it.data.ip_addr()));
                    let left = lookup.valid_until().saturating_duration_since(now);
                    valid_for = valid_for.min(left);
                }
                Ok(None) => {}
                Err(family_error) => error = error.or(Some(family_error)),
            }
        }
        match (addresses.is_empty(), error) {
            (false, _) => Ok(self.answer(addresses, failed, valid_for)),
            (true, Some(error)) => Err(error),
            (true, None) => Err(DnsError::NoAddress),
        }
    }

    fn answer(&self, mut addresses: Vec<IpAddr>, failed: [bool; 2], left: Duration) -> Answer {
        addresses.truncate(ADDRESSES_MAX);
        keep_usable(&mut addresses, is_routable);
        let [ipv4_failed, ipv6_failed] = failed;
        let ttl_max = self.settings.ttl_max.max(self.settings.ttl_min);
        let valid_for = left.clamp(self.settings.ttl_min, ttl_max);
        Answer {
            addresses,
            ipv4_failed,
            ipv6_failed,
            valid_for,
        }
    }

    /// What the system's files say now.
    fn system(&self) -> Result<Arc<System>, DnsError> {
        let stamp = stamp();
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read_at, system)) = &*system
            && *read_at == stamp
        {
            return Ok(Arc::clone(system));
        }
        let read = Arc::new(System {
            // A host without a hosts file is in order.
            hosts: Hosts::from_system().unwrap_or_default(),
            dns: self.dns().map_err(DnsError::Unusable)?,
        });
        *system = Some((stamp, Arc::clone(&read)));
        Ok(read)
    }

    fn dns(&self) -> Result<TokioResolver, NetError> {
        let provider = TokioRuntimeProvider::default();
        let system = self
            .settings
            .servers
            .is_empty()
            .then(read_system_conf)
            .and_then(|read| {
                read.inspect_err(|error| {
                    // The hosts file and `localhost` do without.
                    tracing::warn!(error = describe(error), "this host has no name server");
                })
                .ok()
            });
        let (config, mut options) = system.unwrap_or_else(|| {
            let servers = self.settings.servers.iter().map(name_server).collect();
            let mut options = ResolverOpts::default();
            // Two attempts within the time that a lookup may take.
            options.timeout = self.settings.timeout / 2;
            options.attempts = 1;
            (ResolverConfig::from_name_servers(servers), options)
        });
        limit(&mut options, &self.settings);
        TokioResolver::builder_with_config(config, provider)
            .with_options(options)
            .build()
    }
}

/// Makes the resolver's cache agree with how long we believe an answer.
fn limit(options: &mut ResolverOpts, settings: &ResolverSettings) {
    options.use_hosts_file = ResolveHosts::Never;
    options.positive_min_ttl = Some(settings.ttl_min);
    options.positive_max_ttl = Some(settings.ttl_max.max(settings.ttl_min));
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

impl System {
    /// The addresses that the hosts file gives; a name it has is not asked for elsewhere.
    fn in_hosts_file(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let mut fqdn = name.to_lowercase();
        fqdn.set_fqdn(true);
        let addresses: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| {
                self.hosts
                    .lookup_static_host(&Query::query(fqdn.clone(), kind))
            })
            .flat_map(|lookup| {
                lookup
                    .answers()
                    .iter()
                    .filter_map(|it| it.data.ip_addr())
                    .collect::<Vec<_>>()
            })
            .collect();
        (!addresses.is_empty()).then_some(addresses)
    }

    async fn lookup(&self, name: &Name, kind: RecordType, timeout: Duration) -> Family {
        match tokio::time::timeout(timeout, self.dns.lookup(name.clone(), kind)).await {
            Ok(Ok(lookup)) => Ok(Some(lookup)),
            Ok(Err(error)) if error.is_no_records_found() => Ok(None),
            Ok(Err(error)) => Err(DnsError::Failed(error)),
            Err(_) => Err(DnsError::Timeout(timeout)),
        }
    }
}

/// Both answers, the second of them only for so long once the first has addresses.
async fn both_families(
    ipv4: impl Future<Output = Family>,
    ipv6: impl Future<Output = Family>,
) -> (Family, Family) {
    let (mut ipv4, mut ipv6) = (pin!(ipv4), pin!(ipv6));
    tokio::select! {
        first = &mut ipv4 => {
            let second = within_grace(&first, ipv6).await;
            (first, second)
        }
        first = &mut ipv6 => {
            let second = within_grace(&first, ipv4).await;
            (second, first)
        }
    }
}

async fn within_grace(first: &Family, second: impl Future<Output = Family>) -> Family {
    let has_addresses = first.as_ref().is_ok_and(|lookup| {
        lookup
            .iter()
            .flat_map(Lookup::answers)
            .any(|record| record.data.ip_addr().is_some())
    });
    if !has_addresses {
        return second.await;
    }
    match tokio::time::timeout(FAMILY_GRACE, second).await {
        Ok(second) => second,
        Err(_) => Err(DnsError::Timeout(FAMILY_GRACE)),
    }
}

/// Leaves out addresses that this host cannot use, as an IPv6 address on a host that only speaks
/// IPv4 (RFC 6724 §5, rule 1); unless that would be all of them.
fn keep_usable(addresses: &mut Vec<IpAddr>, is_usable: impl Fn(IpAddr) -> bool) {
    if addresses.iter().any(|address| is_usable(*address)) {
        addresses.retain(|address| is_usable(*address));
    }
}

/// Connecting a datagram socket sends nothing; it asks the kernel for a route.
fn is_routable(address: IpAddr) -> bool {
    let from = match address {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    UdpSocket::bind(from)
        .and_then(|socket| socket.connect((address, 9)))
        .is_ok()
}

fn stamp() -> Stamp {
    SYSTEM_FILES.map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

#[cfg(test)]
pub(crate) mod name_server;

#[cfg(test)]
mod tests;

//! From the document to the upstreams. An upstream that is configured as it was stays the one it
//! was, state and connections included.
//!
//! Must not: change anything of the upstreams in use. The configuration may yet be refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use cardea_certs::client::{ClientConfigs, ClientIdentity};
use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{self, Document};
use cardea_config::origin::Origin;

use super::adaptive::AdaptiveSettings;
use super::breaker::Caps;
use super::dns::ResolverSettings;
use super::health::{HealthSettings, Probe};
use super::outlier::OutlierSettings;
use super::retry::RetrySettings;
use super::settings::{PoolSettings, Protocol, Settings, Source, Target, TlsClient};
use super::{Alarm, Upstream, describe};
use crate::traffic::balance::{Balance, HashBy};
use crate::traffic::proxy_protocol::Version;

/// The upstreams of a configuration, by name.
#[derive(Debug, Clone)]
pub struct Upstreams {
    by_name: Arc<BTreeMap<Arc<str>, Arc<Upstream>>>,
    resolver: ResolverSettings,
    alarm: Arc<Alarm>,
    tls: Arc<ClientConfigs>,
    /// The files of authorities, certificates and keys that they were compiled from.
    files: Arc<[PathBuf]>,
}

impl Upstreams {
    /// Compiles the upstreams of a document beside those in use. There are none if any has errors.
    pub fn compile(
        previous: Option<&Self>,
        document: &Document,
    ) -> (Option<Self>, Vec<Diagnostic>) {
        let mut found = Vec::new();
        let clients = previous.map_or_else(Arc::default, |before| Arc::clone(&before.tls));
        let mut compiled = Vec::with_capacity(document.upstreams.len());
        for (name, upstream) in &document.upstreams {
            let mut check = Check {
                name: name.as_str(),
                origin: upstream.origin,
                found: &mut found,
            };
            let tls = check.tls(upstream, &clients);
            let health = upstream
                .health
                .as_deref()
                .and_then(|health| check.health(health, upstream.protocol));
            compiled.push((name.shared(), settings(upstream, tls, health)));
        }
        let resolver = resolver(&document.resolver);
        let is_refused = found.iter().any(Diagnostic::is_error);
        let secure = document.upstreams.values();
        let secure = secure.filter_map(|upstream| upstream.tls.as_deref());
        let upstreams = (!is_refused).then(|| Self {
            tls: clients,
            files: secure.flat_map(files).collect(),
            ..Self::from_settings(previous, compiled, resolver)
        });
        (upstreams, found)
    }

    /// The upstreams with these settings. One that is configured as it was stays the one it was;
    /// one whose settings changed takes over what is known about endpoints that stay.
    pub fn from_settings(
        previous: Option<&Self>,
        settings: impl IntoIterator<Item = (Arc<str>, Settings)>,
        resolver: ResolverSettings,
    ) -> Self {
        let alarm = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.alarm));
        let upstreams = settings.into_iter().map(|(name, settings)| {
            let before = previous.and_then(|previous| previous.find(&name));
            let upstream = match before {
                Some(before) if before.settings == settings => Arc::clone(before),
                _ => Upstream::new(Arc::clone(&name), settings, &alarm, before.map(Arc::as_ref)),
            };
            (name, upstream)
        });
        Self {
            by_name: Arc::new(upstreams.collect()),
            resolver,
            alarm,
            tls: Arc::default(),
            files: Arc::default(),
        }
    }

    /// The files of authorities, certificates and keys that they were compiled from.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().cloned()
    }

    /// The upstream of a name.
    pub fn find(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.by_name.values()
    }

    /// How their names are resolved.
    pub fn resolver(&self) -> &ResolverSettings {
        &self.resolver
    }

    /// Raised when an endpoint is ejected.
    pub(crate) fn alarm(&self) -> &Alarm {
        &self.alarm
    }
}

/// Compiles what can be wrong with an upstream.
struct Check<'a> {
    name: &'a str,
    origin: Origin,
    found: &'a mut Vec<Diagnostic>,
}

impl Check<'_> {
    fn error(&mut self, code: &'static str, what: &str, remedy: &str) {
        let message = format!("upstream `{}` {what}", self.name);
        self.found
            .push(Diagnostic::error(code, Some(self.origin), message).remedy(remedy));
    }

    fn tls(&mut self, upstream: &model::Upstream, clients: &ClientConfigs) -> Option<TlsClient> {
        let tls = upstream.tls.as_deref()?;
        let identity = super::tls::identity(tls);
        if let Some(warning) = identity.as_ref().and_then(ClientIdentity::warning) {
            let message = format!("upstream `{}`: {warning}", self.name);
            let warning = Diagnostic::warning("W-upstream-key", Some(self.origin), message)
                .remedy(warning.remedy());
            self.found.push(warning);
        }
        match super::tls::compile(tls, protocol(upstream.protocol), clients) {
            Ok(client) => Some(client),
            Err(error) => {
                let what = format!("cannot speak TLS: {}", describe(&error));
                self.error("E-upstream-tls", &what, &error.remedy());
                None
            }
        }
    }

    fn health(
        &mut self,
        health: &model::Health,
        protocol: model::UpstreamProtocol,
    ) -> Option<HealthSettings> {
        for (field, period) in [("interval", health.interval), ("timeout", health.timeout)] {
            if period.0.is_zero() {
                let what = format!("has a health check whose `{field}` is zero");
                self.error("E-health-period", &what, "give it a time above zero");
            }
        }
        let probe = match (&health.http, &health.grpc) {
            (None, None) => Probe::Tcp,
            (None, Some(grpc)) => Probe::Grpc {
                service: grpc.service.as_str().into(),
                host: grpc.host.as_deref().map(Box::from),
            },
            (Some(http), _) => {
                if !http.path.starts_with('/') || !is_visible(&http.path) {
                    let what = format!("checks the health of `{}`, which is no path", http.path);
                    let remedy = "write a path that begins with `/`, special characters encoded";
                    self.error("E-health-path", &what, remedy);
                }
                if http
                    .host
                    .as_deref()
                    .is_some_and(|host| host.is_empty() || !is_visible(host))
                {
                    self.error(
                        "E-health-host",
                        "has a health check whose `host` is no host",
                        "write a host, with a port if need be",
                    );
                }
                Probe::Http {
                    path: http.path.as_str().into(),
                    host: http.host.as_deref().map(Box::from),
                    expect: http
                        .expect
                        .iter()
                        .map(|range| range.first..=range.last)
                        .collect(),
                }
            }
        };
        Some(HealthSettings {
            is_http2: health.grpc.is_some() || protocol == model::UpstreamProtocol::Http2,
            probe,
            interval: health.interval.0,
            timeout: health.timeout.0,
            healthy_after: health.healthy_after,
            unhealthy_after: health.unhealthy_after,
        })
    }
}

/// Whether text can stand in a request line or field as it is.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn protocol(protocol: model::UpstreamProtocol) -> Protocol {
    match protocol {
        model::UpstreamProtocol::Auto => Protocol::Agreed,
        model::UpstreamProtocol::Http1 => Protocol::Http1,
        model::UpstreamProtocol::Http2 => Protocol::Http2,
    }
}

fn files(tls: &model::UpstreamTls) -> impl Iterator<Item = PathBuf> {
    let files = [&tls.ca, &tls.certificate, &tls.key].into_iter().flatten();
    files.map(PathBuf::from)
}

fn settings(
    upstream: &model::Upstream,
    tls: Option<TlsClient>,
    health: Option<HealthSettings>,
) -> Settings {
    Settings {
        sources: upstream
            .endpoints
            .iter()
            .map(|endpoint| source(endpoint))
            .collect(),
        balance: balance(&upstream.balance),
        protocol: protocol(upstream.protocol),
        tls,
        proxy_protocol: upstream.proxy_protocol.map(|version| match version {
            model::UpstreamProxyProtocol::V1 => Version::V1,
            model::UpstreamProxyProtocol::V2 => Version::V2,
        }),
        pool: PoolSettings {
            idle_per_worker_max: upstream.pool.idle_per_worker_max as usize,
            idle_timeout: upstream.pool.idle_timeout.0,
            requests_per_connection_max: u64::from(upstream.pool.requests_per_connection_max),
        },
        caps: Caps {
            connections_max: upstream.limits.connections_max,
            requests_max: upstream.limits.requests_max,
        },
        adaptive: upstream
            .adaptive_concurrency
            .on()
            .map(|adaptive| AdaptiveSettings {
                waiting_min: adaptive.waiting_per_worker_min,
                delay_max: adaptive.delay_max.0,
                queue_time_max: adaptive.queue_time_max.0,
                queue_max: adaptive.queue_per_worker_max as usize,
            }),
        retry: RetrySettings {
            attempts: upstream.retry.attempts,
            on_connect_failure: upstream.retry.on.contains(&model::RetryOn::ConnectFailure),
            on_idle_reset: upstream.retry.on.contains(&model::RetryOn::IdleReset),
        },
        health,
        outlier: upstream.outlier.on().map(|outlier| OutlierSettings {
            consecutive_failures: outlier.consecutive_failures.max(1),
            eject_for: outlier.eject_for.0,
            eject_percent_max: u32::from(outlier.eject_percent_max),
        }),
    }
}

fn source(endpoint: &model::Endpoint) -> Source {
    let target = match endpoint.host.parse::<IpAddr>() {
        Ok(ip) => Target::Address(SocketAddr::new(ip, endpoint.port)),
        Err(_) => Target::Name {
            host: endpoint.host.to_ascii_lowercase().into(),
            port: endpoint.port,
        },
    };
    Source {
        target,
        weight: endpoint.weight,
    }
}

fn balance(balance: &model::Balance) -> Balance {
    let hash_by = |by: &model::HashBy| match &by.by {
        model::HashKey::ClientIp => HashBy::ClientIp,
        model::HashKey::Header(name) => HashBy::Header(name.to_ascii_lowercase().into()),
        model::HashKey::Cookie(name) => HashBy::Cookie(name.as_str().into()),
        model::HashKey::Path => HashBy::Path,
    };
    match balance {
        model::Balance::RoundRobin => Balance::RoundRobin,
        model::Balance::Random => Balance::Random,
        model::Balance::LeastRequest => Balance::LeastRequest,
        model::Balance::RingHash(by) => Balance::RingHash(hash_by(by)),
        model::Balance::Maglev(by) => Balance::Maglev(hash_by(by)),
    }
}

fn resolver(resolver: &model::Resolver) -> ResolverSettings {
    ResolverSettings {
        servers: resolver.servers.clone().into(),
        ttl_min: resolver.ttl_min.0,
        ttl_max: resolver.ttl_max.0,
        timeout: resolver.timeout.0,
    }
}

#[cfg(test)]
mod tests;

//! An upstream: a named group of endpoints with the rules for using them.
//!
//! Two things change it. A changed *configuration* makes a new upstream in a new snapshot, which
//! takes over what is known about endpoints that stay. A changed *endpoint set* (a name resolved
//! anew, a check failed, an ejection ended) is swapped inside the upstream that everybody already
//! holds, and nothing is compiled.
//!
//! Must not: make a worker wait for whoever is changing the set.

pub mod compile;
pub mod endpoint;
pub mod set;
pub mod settings;
pub mod tls;

pub mod adaptive;
pub mod breaker;
pub mod gauge;
pub mod local;
pub mod outlier;
pub mod retry;

pub mod dns;
pub mod health;

pub mod connect;
pub mod http2;
pub mod introduce;
pub mod pool;
pub mod request;
pub mod response;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use breaker::Load;
use endpoint::{Endpoint, EndpointId, EndpointState, Health};
use response::Failure;
use retry::Failed;
use set::EndpointSet;
use settings::{Settings, Target};

use super::http2::{Loss, Stream};
use super::respond::Reason;
use super::socket::Socket;
use super::timer::Timer;

/// What an exchange has of an endpoint.
#[derive(Debug, Clone, Copy)]
pub enum OriginEnd<'o> {
    /// A connection of its own.
    Http1(&'o Socket),
    /// A stream of a connection that others share.
    Http2(&'o Rc<Stream>),
}

impl OriginEnd<'_> {
    /// The failure of an exchange of which nothing came back.
    pub fn unanswered(&self) -> Failure {
        match self {
            Self::Http2(stream) if stream.loss() == Some(Loss::Refused) => Failure {
                reason: Reason::UpstreamReset,
                failed: Failed::Unprocessed,
            },
            _ => Failure::unanswered(),
        }
    }

    /// The deadlines of the exchange towards the endpoint.
    pub fn timer(&self) -> &Timer {
        match self {
            Self::Http1(socket) => socket.timer(),
            Self::Http2(stream) => stream.timer(),
        }
    }
}

/// Names an upstream of one configuration for as long as the process lives. An upstream whose
/// settings change gets a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(u32);

impl UpstreamId {
    fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A named group of endpoints with the rules for using them. Workers use it through
/// [`local::LocalUpstreams`].
#[derive(Debug)]
pub struct Upstream {
    /// Its identity in the workers.
    pub id: UpstreamId,
    /// The name that configuration, logs and metrics carry.
    pub name: Arc<str>,
    /// The rules.
    pub settings: Settings,
    /// What is under way.
    pub load: Arc<Load>,
    version: AtomicU64,
    set: ArcSwap<EndpointSet>,
    /// Taken by whoever changes the set, and by those who watch; never by a worker.
    sources: Mutex<Box<[SourceState]>>,
    alarm: Arc<Alarm>,
    swapped: Alarm,
}

/// What is known about one configured endpoint, which a name can turn into several.
#[derive(Debug, Clone, Default)]
struct SourceState {
    addresses: Vec<IpAddr>,
    error: Option<Arc<str>>,
}

/// A configured endpoint as metrics and the admin interface show it.
#[derive(Debug, Clone)]
pub struct SourceReport {
    /// The endpoint as configured.
    pub target: Target,
    /// What it stands for now.
    pub addresses: Vec<IpAddr>,
    /// Why its name did not resolve the last time it was looked up.
    pub error: Option<Arc<str>>,
}

/// Wakes one task of the control path. Raising it neither blocks nor queues.
#[derive(Debug, Default)]
pub struct Alarm(Notify);

impl Alarm {
    /// Calls. Calls that nobody has heard yet count as one.
    pub(crate) fn raise(&self) {
        self.0.notify_one();
    }

    /// Waits for a call.
    pub(crate) async fn heard(&self) {
        self.0.notified().await;
    }
}

impl Upstream {
    /// An upstream that takes over what `previous`, of the same name, knows.
    pub(super) fn new(
        name: Arc<str>,
        settings: Settings,
        alarm: &Arc<Alarm>,
        previous: Option<&Self>,
    ) -> Arc<Self> {
        let sources = settings.sources.iter().map(|source| match &source.target {
            Target::Address(address) => SourceState {
                addresses: vec![address.ip()],
                error: None,
            },
            Target::Name { .. } => previous
                .and_then(|previous| previous.source_of(&source.target))
                .unwrap_or_default(),
        });
        let sources: Box<[SourceState]> = sources.collect();
        let upstream = Self {
            id: UpstreamId::next(),
            name,
            load: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.load)),
            version: AtomicU64::new(0),
            set: ArcSwap::from_pointee(EndpointSet::empty(&settings.balance)),
            sources: Mutex::default(),
            alarm: Arc::clone(alarm),
            swapped: Alarm::default(),
            settings,
        };
        // Connections made under other settings of TLS, or of what they begin with, must not carry
        // requests under these.
        let keeps_ids = previous.is_none_or(|it| {
            it.settings.tls == upstream.settings.tls
                && it.settings.proxy_protocol == upstream.settings.proxy_protocol
        });
        let known = previous.map(Self::endpoints);
        let known = Known {
            set: known.as_deref(),
            keeps_ids,
        };
        let endpoints = upstream.assemble(&sources, known);
        upstream.publish(EndpointSet::new(1, &upstream.settings.balance, endpoints));
        *upstream.sources() = sources;
        Arc::new(upstream)
    }

    /// The endpoints of now.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.set.load_full()
    }

    /// Counts the endpoint sets.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The configured endpoints and what they stand for.
    pub fn source_reports(&self) -> Vec<SourceReport> {
        let states = self.sources();
        let configured = self.settings.sources.iter().zip(states.iter());
        configured
            .map(|(source, state)| SourceReport {
                target: source.target.clone(),
                addresses: state.addresses.clone(),
                error: state.error.clone(),
            })
            .collect()
    }

    /// Whether an endpoint is configured by a name that has not resolved.
    pub fn is_unresolved(&self) -> bool {
        self.sources()
            .iter()
            .any(|source| source.addresses.is_empty())
    }

    /// The addresses that a configured endpoint, counted from zero, stands for.
    pub fn addresses(&self, source: usize) -> Vec<IpAddr> {
        self.sources()
            .get(source)
            .map(|source| source.addresses.clone())
            .unwrap_or_default()
    }

    /// Replaces the addresses of a configured endpoint. True if that changed the set.
    pub fn set_addresses(&self, source: usize, mut addresses: Vec<IpAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        let mut sources = self.sources();
        let Some(state) = sources.get_mut(source) else {
            return false;
        };
        state.error = None;
        if state.addresses == addresses {
            return false;
        }
        state.addresses = addresses;
        let now = self.endpoints();
        let endpoints = self.assemble(
            &sources,
            Known {
                set: Some(&now),
                keeps_ids: true,
            },
        );
        let version = now.version().wrapping_add(1);
        self.publish(EndpointSet::new(version, &self.settings.balance, endpoints));
        true
    }

    /// Takes note that the name of a configured endpoint did not resolve. Its addresses stay.
    pub fn set_unresolved(&self, source: usize, error: &str) {
        if let Some(state) = self.sources().get_mut(source) {
            state.error = Some(error.into());
        }
    }

    /// Makes a new set of the same endpoints, after some changed their standing.
    pub(crate) fn refresh(&self) {
        let _changing = self.sources();
        let now = self.endpoints();
        let version = now.version().wrapping_add(1);
        self.publish(now.renewed(version, &self.settings.balance));
    }

    /// Lets endpoints go that were barred under settings that are no longer in force. Called once
    /// the configuration of this upstream has taken effect.
    pub(crate) fn adopt(&self) {
        if self.settings.health.is_some() {
            return;
        }
        let set = self.endpoints();
        let has_changed = set.endpoints().iter().fold(false, |changed, it| {
            it.state.set_health(Health::Unchecked) | changed
        });
        if has_changed {
            self.refresh();
        }
    }

    /// Waits until the set was swapped since the last wait. For the one task that checks it.
    pub(crate) async fn swapped(&self) {
        self.swapped.heard().await;
    }

    fn publish(&self, set: EndpointSet) {
        let version = set.version();
        self.set.store(Arc::new(set));
        self.version.store(version, Ordering::Release);
        self.swapped.raise();
    }

    fn source_of(&self, target: &Target) -> Option<SourceState> {
        let at = self
            .settings
            .sources
            .iter()
            .position(|source| source.target == *target)?;
        self.sources().get(at).cloned()
    }

    /// The endpoints that the sources stand for, those that are known with all that is known about
    /// them. Sources that stand for one place add up.
    fn assemble(&self, sources: &[SourceState], known: Known<'_>) -> Vec<Arc<Endpoint>> {
        let fresh = self.health_of_newcomers(known.set);
        let known = known.places();
        let mut places: HashMap<Place<'_>, usize> = HashMap::new();
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (source, state) in self.settings.sources.iter().zip(sources) {
            for ip in &state.addresses {
                let place = (
                    SocketAddr::new(*ip, source.target.port()),
                    source.target.host(),
                );
                if let Some(endpoint) = places.get(&place).and_then(|at| endpoints.get_mut(*at)) {
                    endpoint.weight = endpoint.weight.saturating_add(source.weight);
                    continue;
                }
                places.insert(place, endpoints.len());
                let (id, state) = match known.get(&place) {
                    Some((id, state)) => (*id, Arc::clone(state)),
                    None => (None, Arc::new(EndpointState::new(fresh))),
                };
                endpoints.push(Endpoint {
                    id: id.unwrap_or_else(EndpointId::next),
                    address: place.0,
                    host: source.target.shared_host(),
                    weight: source.weight,
                    state,
                });
            }
        }
        endpoints.into_iter().map(Arc::new).collect()
    }

    /// Whoever comes to a set that serves waits for a first check; the first of a set cannot.
    fn health_of_newcomers(&self, set: Option<&EndpointSet>) -> Health {
        let serves = set.is_some_and(|set| {
            set.endpoints()
                .iter()
                .any(|endpoint| endpoint.state.is_usable())
        });
        if serves && self.settings.health.is_some() {
            Health::Joining
        } else {
            Health::Unchecked
        }
    }

    fn sources(&self) -> MutexGuard<'_, Box<[SourceState]>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes two endpoints the same: the address, and the name that its certificate must carry.
type Place<'a> = (SocketAddr, Option<&'a str>);

/// Endpoints from which those that stay take over.
struct Known<'a> {
    set: Option<&'a EndpointSet>,
    keeps_ids: bool,
}

impl<'a> Known<'a> {
    fn places(&self) -> HashMap<Place<'a>, (Option<EndpointId>, Arc<EndpointState>)> {
        let endpoints = self.set.map(EndpointSet::endpoints).unwrap_or_default();
        endpoints
            .iter()
            .map(|endpoint| {
                let id = self.keeps_ids.then_some(endpoint.id);
                let place = (endpoint.address, endpoint.host.as_deref());
                (place, (id, Arc::clone(&endpoint.state)))
            })
            .collect()
    }
}

/// An error with all its causes, on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;

//! Domains: each compiled by itself, and taken over from the configuration before when neither it
//! nor anything it refers to changed.
//!
//! Must not: compile a domain again because another one changed.

use std::collections::HashMap;
use std::sync::Arc;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{self, Document};
use cardea_config::origin::Located;
use smallvec::SmallVec;

use super::Found;
use super::settings::{style, timeouts};
use crate::policy::rate_limit::Limiters;
use crate::policy::{Chain, Levels, Place};
use crate::telemetry::metrics::Metrics;
use crate::traffic::domain::{Backend, Domain, Route};
use crate::traffic::exchange::Timeouts;
use crate::traffic::respond::ResponseStyle;
use crate::traffic::route::{HostTable, PathRules, RouteTable, WeightedChoice, lint};
use crate::traffic::upstream::compile::Upstreams;

pub(super) mod hosts;

/// The domains of a configuration, in the order of its document.
#[derive(Debug)]
pub struct Domains {
    domains: Box<[Arc<Domain>]>,
    /// Who claims which host, where every domain is served with all of its hosts.
    everything: Arc<HostTable>,
}

/// What compiling a domain needs to know.
struct Compiler<'c> {
    document: &'c Document,
    upstreams: &'c Upstreams,
    limiters: &'c mut Limiters,
    metrics: &'c Metrics,
    shared: Shared,
    found: Vec<Diagnostic>,
}

/// What is the same for many domains.
struct Shared {
    style: Arc<ResponseStyle>,
    timeouts: HashMap<Timeouts, Arc<Timeouts>>,
    /// The names of routes without one of their own.
    names: HashMap<usize, Arc<str>>,
}

impl Domains {
    /// Compiles the domains. `previous` are those of another document with the same gateway-level
    /// settings.
    pub fn compile(
        previous: Option<(&Self, &Document)>,
        document: &Document,
        upstreams: &Upstreams,
        limiters: &mut Limiters,
        metrics: &Metrics,
    ) -> Found<Self> {
        let before: HashMap<&str, (&model::Domain, &Arc<Domain>)> = previous
            .into_iter()
            .flat_map(|(before, document)| document.domains.iter().zip(&before.domains))
            .map(|(settings, domain)| (settings.label(), (&**settings, domain)))
            .collect();
        let mut compiler = Compiler {
            document,
            upstreams,
            limiters,
            metrics,
            shared: Shared {
                style: Arc::new(style(&[&document.responses])),
                timeouts: HashMap::new(),
                names: HashMap::new(),
            },
            found: Vec::new(),
        };
        let domains =
            document
                .domains
                .iter()
                .filter_map(|settings| match before.get(settings.label()) {
                    Some((before, domain))
                        if **before == **settings && is_current(domain, upstreams) =>
                    {
                        if !compiler.limiters.is_empty() {
                            compiler.limiters.keep(&domain_path(settings));
                        }
                        Some(Arc::clone(domain))
                    }
                    _ => compiler.domain(settings).map(Arc::new),
                });
        let domains: Box<[Arc<Domain>]> = domains.collect();
        let is_whole = domains.len() == document.domains.len();
        let everything = is_whole.then(|| Arc::new(hosts::all(document)));
        let domains = everything.map(|everything| Self {
            domains,
            everything,
        });
        (domains, compiler.found)
    }

    /// The domains in the order of the document.
    pub fn in_order(&self) -> Box<[Arc<Domain>]> {
        self.domains.clone()
    }

    /// Who claims which host on any listener.
    pub fn hosts(&self) -> Arc<HostTable> {
        Arc::clone(&self.everything)
    }

    /// Who claims which host on a listener.
    pub fn hosts_of(&self, listener: &model::Listener, document: &Document) -> Arc<HostTable> {
        if !listener.protocol.is_http() {
            return Arc::default();
        }
        if listener.hosts.is_empty() && document.domains.iter().all(|it| it.listeners.is_empty()) {
            return self.hosts();
        }
        Arc::new(hosts::of_listener(listener, document))
    }
}

/// Whether the upstreams that a domain points to are still the ones of that name.
fn is_current(domain: &Domain, upstreams: &Upstreams) -> bool {
    let mut backends = domain.routes.iter().flat_map(|route| &route.backends);
    backends.all(|backend| {
        let now = upstreams.find(&backend.upstream.name);
        now.is_some_and(|now| Arc::ptr_eq(now, &backend.upstream))
    })
}

impl Shared {
    fn timeouts(&mut self, timeouts: Timeouts) -> Arc<Timeouts> {
        let shared = self.timeouts.entry(timeouts);
        Arc::clone(shared.or_insert_with(|| Arc::new(timeouts)))
    }

    /// The name of a route at a place.
    fn name(&mut self, route: &model::Route, place: usize) -> Arc<str> {
        let name = || route.label(place).as_ref().into();
        match &route.name {
            Some(_) => name(),
            None => Arc::clone(self.names.entry(place).or_insert_with(name)),
        }
    }
}

fn domain_path(settings: &model::Domain) -> String {
    format!("domain {}/", settings.label())
}

fn domain_place(settings: &Located<model::Domain>) -> Place {
    Place {
        path: domain_path(settings),
        origin: settings.origin,
    }
}

impl Compiler<'_> {
    fn domain(&mut self, settings: &Located<model::Domain>) -> Option<Domain> {
        let name: Arc<str> = settings.label().into();
        let table = match RouteTable::compile(&settings.routes) {
            Ok(table) => table,
            Err(errors) => {
                self.found.extend(errors);
                return None;
            }
        };
        self.found.extend(lint::unreachable(
            &settings.routes,
            &self.path_rules(settings),
        ));
        let routes = settings
            .routes
            .iter()
            .enumerate()
            .map(|(number, route)| self.route(settings, &name, number, route))
            .collect::<Option<SmallVec<_>>>()?;
        let mut levels = Levels::gateway(&self.document.policies, self.limiters)
            .with(&settings.policies, domain_place(settings));
        let chain = Chain::compile(&mut levels);
        self.found.extend(levels.into_found());
        let style = if *settings.responses == model::Responses::default() {
            Arc::clone(&self.shared.style)
        } else {
            Arc::new(style(&[&self.document.responses, &settings.responses]))
        };
        let slot = self.metrics.route_slot(&name, "");
        let tls = settings.tls.as_deref();
        let clients = tls.and_then(|tls| tls.client_certificates.as_ref()?.on());
        Some(Domain {
            name,
            table,
            routes,
            style,
            demands_client: clients.is_some_and(|it| it.mode == model::ClientMode::Required),
            chain,
            slot,
        })
    }

    /// How the listeners that serve a domain normalise paths.
    fn path_rules(&self, domain: &model::Domain) -> Vec<PathRules> {
        let is_serving = |listener: &&Located<model::Listener>| domain.is_on(listener);
        let listeners = self.document.listeners.iter().filter(is_serving);
        listeners
            .map(|listener| PathRules::from(&listener.http))
            .collect()
    }

    fn route(
        &mut self,
        domain: &Located<model::Domain>,
        domain_name: &Arc<str>,
        number: usize,
        settings: &Located<model::Route>,
    ) -> Option<Route> {
        let name = self.shared.name(settings, number);
        let place = Place {
            path: format!("{}{name}", domain_path(domain)),
            origin: settings.origin,
        };
        let mut levels = Levels::gateway(&self.document.policies, self.limiters)
            .with(&domain.policies, domain_place(domain))
            .with(&settings.policies, place);
        let chain = Chain::compile(&mut levels);
        let grpc_web = levels.most_specific(|level| level.grpc_web) == Some(true);
        let found = levels.into_found();
        let is_broken = !found.is_empty();
        self.found.extend(found);
        let backends = settings.to.0.iter().map(|backend| {
            let upstream = self.upstreams.find(backend.upstream.as_str())?;
            Some(Backend {
                upstream: Arc::clone(upstream),
                slot: self.metrics.upstream_slot(&upstream.name),
            })
        });
        let backends = backends.collect::<Option<SmallVec<_>>>()?;
        let levels = [
            &self.document.policies,
            &domain.policies,
            &settings.policies,
        ];
        (!is_broken).then(|| Route {
            chain,
            timeouts: (self.shared).timeouts(timeouts(&levels.map(|it| it.timeouts.as_deref()))),
            grpc_web,
            backends,
            weights: WeightedChoice::new(settings.to.0.iter().map(|backend| backend.weight)),
            slot: self.metrics.route_slot(domain_name, &name),
            name,
        })
    }
}

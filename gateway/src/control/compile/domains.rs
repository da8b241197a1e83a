//! Domains: each compiled by itself, and taken over from the configuration before when neither it
//! nor anything it refers to changed.
//!
//! Must not: compile a domain again because another one changed.

use std::collections::HashMap;
use std::sync::Arc;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{self, Document};
use cardea_config::origin::Located;

use super::Found;
use super::policies::{Levels, Limiters, Place};
use super::settings::{style, timeouts};
use crate::telemetry::metrics::Metrics;
use crate::traffic::domain::{Backend, Domain, Route};
use crate::traffic::respond::ResponseStyle;
use crate::traffic::route::{HostTable, PathRules, RouteTable, WeightedChoice, lint};
use crate::traffic::upstream::compile::Upstreams;

/// The domains of a configuration.
#[derive(Debug)]
pub struct Domains {
    domains: Vec<Compiled>,
}

#[derive(Debug, Clone)]
struct Compiled {
    settings: Arc<Located<model::Domain>>,
    domain: Arc<Domain>,
}

/// What compiling a domain needs to know.
struct Compiler<'c> {
    document: &'c Document,
    upstreams: &'c Upstreams,
    limiters: &'c mut Limiters,
    metrics: &'c Metrics,
    gateway_style: Arc<ResponseStyle>,
    found: Vec<Diagnostic>,
}

impl Domains {
    /// Compiles the domains. `previous` must have been compiled under the same gateway-level
    /// settings.
    pub fn compile(
        previous: Option<&Self>,
        document: &Document,
        upstreams: &Upstreams,
        limiters: &mut Limiters,
        metrics: &Metrics,
    ) -> Found<Self> {
        let before: HashMap<&str, &Compiled> = previous
            .into_iter()
            .flat_map(|previous| &previous.domains)
            .map(|compiled| (compiled.settings.label(), compiled))
            .collect();
        let mut compiler = Compiler {
            document,
            upstreams,
            limiters,
            metrics,
            gateway_style: Arc::new(style(&[&document.responses])),
            found: Vec::new(),
        };
        let domains =
            document
                .domains
                .iter()
                .filter_map(|settings| match before.get(settings.label()) {
                    Some(before)
                        if *before.settings == *settings && before.is_current(upstreams) =>
                    {
                        if !compiler.limiters.is_empty() {
                            compiler.limiters.keep(&domain_path(settings));
                        }
                        Some((*before).clone())
                    }
                    _ => compiler.domain(settings),
                });
        let domains: Vec<Compiled> = domains.collect();
        let is_whole = domains.len() == document.domains.len();
        (is_whole.then_some(Self { domains }), compiler.found)
    }

    /// The domains in the order of the document.
    pub fn in_order(&self) -> Box<[Arc<Domain>]> {
        self.domains
            .iter()
            .map(|compiled| Arc::clone(&compiled.domain))
            .collect()
    }

    /// Who claims which host among the domains that `is_served`.
    pub fn hosts(&self, is_served: impl Fn(&model::Domain) -> bool) -> Arc<HostTable> {
        let served = || {
            (0..)
                .zip(&self.domains)
                .filter(|(_, compiled)| is_served(&compiled.settings))
        };
        let claims = served().flat_map(|(index, compiled)| {
            let hosts = compiled.settings.hosts.iter();
            hosts.map(move |host| (&host.value, index))
        });
        let default = served().find(|(_, compiled)| compiled.settings.default);
        Arc::new(HostTable::compile(claims, default.map(|(index, _)| index)))
    }
}

impl Compiled {
    /// Whether the upstreams it points to are still the ones of that name.
    fn is_current(&self, upstreams: &Upstreams) -> bool {
        self.domain
            .routes
            .iter()
            .flat_map(|route| &route.backends)
            .all(|backend| {
                let now = upstreams.find(&backend.upstream.name);
                now.is_some_and(|now| Arc::ptr_eq(now, &backend.upstream))
            })
    }
}

fn domain_path(settings: &model::Domain) -> String {
    format!("domain {}/", settings.label())
}

impl Compiler<'_> {
    fn domain(&mut self, settings: &Located<model::Domain>) -> Option<Compiled> {
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
        let routes: Vec<Route> = settings
            .routes
            .iter()
            .enumerate()
            .map(|(number, route)| self.route(settings, &name, number, route))
            .collect::<Option<_>>()?;
        let place = Place::new(domain_path(settings), settings.origin);
        let levels =
            Levels::gateway(&self.document.policies).with(&settings.policies, place.clone());
        let (chain, found) = levels.refusing_chain(self.limiters, &place);
        self.found.extend(found);
        let style = if *settings.responses == model::Responses::default() {
            Arc::clone(&self.gateway_style)
        } else {
            Arc::new(style(&[&self.document.responses, &settings.responses]))
        };
        let slot = self.metrics.route_slot(&name, "");
        let domain = Domain {
            name,
            table,
            routes: routes.into(),
            style,
            chain,
            slot,
        };
        Some(Compiled {
            settings: Arc::new(settings.clone()),
            domain: Arc::new(domain),
        })
    }

    /// How the listeners that serve a domain normalise paths.
    fn path_rules(&self, domain: &model::Domain) -> Vec<PathRules> {
        let is_serving = |listener: &&Located<model::Listener>| {
            let mut names = domain.listeners.iter();
            domain.listeners.is_empty() || names.any(|name| **name == listener.name)
        };
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
        let name: Arc<str> = settings.label(number).as_ref().into();
        let domain_place = Place::new(domain_path(domain), domain.origin);
        let place = Place::new(format!("{}{name}", domain_path(domain)), settings.origin);
        let levels = Levels::gateway(&self.document.policies)
            .with(&domain.policies, domain_place)
            .with(&settings.policies, place.clone())
            .matching(&settings.matches);
        let (chain, found) = levels.chain(self.limiters, &place);
        let is_broken = found.iter().any(Diagnostic::is_error);
        self.found.extend(found);
        let backends = settings.to.0.iter().map(|backend| {
            let upstream = self.upstreams.find(backend.upstream.as_str())?;
            Some(Backend {
                upstream: Arc::clone(upstream),
                slot: self.metrics.upstream_slot(&upstream.name),
            })
        });
        let backends = backends.collect::<Option<Vec<Backend>>>()?;
        let levels = [
            &self.document.policies,
            &domain.policies,
            &settings.policies,
        ];
        (!is_broken).then(|| Route {
            chain,
            timeouts: timeouts(&levels.map(|level| level.timeouts.as_deref())),
            backends: backends.into(),
            weights: WeightedChoice::new(settings.to.0.iter().map(|backend| backend.weight)),
            slot: self.metrics.route_slot(domain_name, &name),
            name,
        })
    }
}

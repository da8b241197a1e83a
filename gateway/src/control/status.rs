//! What control knows, as the admin listener shows it: what is in force, where it was written, and
//! how it is doing.
//!
//! Must not: show a secret, or hold the state longer than it takes to copy.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cardea_config::model::{self, Document};
use cardea_config::origin::{Origin, Sources};
use serde_json::{Map, Value, json};

use super::Control;
use super::reload::Cause;
use crate::admin::{Backend, Readiness};
use crate::policy::Policy;
use crate::traffic::domain::{Domain, Route};
use crate::traffic::upstream::Upstream;
use crate::traffic::upstream::endpoint::EndpointReport;

impl Backend for Control {
    fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Acquire) {
            Readiness::Draining
        } else if self.ready.load(Ordering::Acquire) {
            Readiness::Ready
        } else {
            Readiness::Starting
        }
    }

    fn metrics(&self) -> String {
        self.metrics.set_staples(self.staples.ends());
        self.metrics.text()
    }

    /// The document with its defaults, and where each element of it was written, by its JSON
    /// pointer (RFC 6901) in the document.
    fn config(&self) -> Value {
        let (generation, document, places) = {
            let state = self.state();
            let document = Arc::clone(&state.compiled.document);
            let places = Arc::clone(&state.places);
            (state.compiled.snapshot.generation, document, places)
        };
        json!({
            "generation": generation,
            "files": places.iter().map(|it| it.path.display().to_string()).collect::<Vec<_>>(),
            "document": serde_json::to_value(&*document).unwrap_or_default(),
            "origins": origins(&document, &places),
        })
    }

    fn routes(&self) -> Value {
        let (document, snapshot, places) = {
            let state = self.state();
            let document = Arc::clone(&state.compiled.document);
            let snapshot = Arc::clone(&state.compiled.snapshot);
            (document, snapshot, Arc::clone(&state.places))
        };
        let domains = document.domains.iter().zip(&snapshot.domains);
        domains
            .map(|(settings, compiled)| {
                let mut shown = domain(settings, compiled, &places);
                if let Some(shown) = shown.as_object_mut() {
                    shown.insert("origin".into(), place(settings.origin, &places));
                }
                shown
            })
            .collect()
    }

    fn upstreams(&self) -> Value {
        let upstreams = self.state().compiled.upstreams.clone();
        upstreams.iter().map(|it| upstream(it)).collect()
    }

    fn certificates(&self) -> Value {
        let order = |name: &str| self.acme.report(name);
        let staple = |certificate: &_| self.staples.report(certificate);
        self.state().compiled.certificates.report(order, staple)
    }

    fn log_level(&self) -> String {
        self.log.directives().to_string()
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        self.log.set(&level.parse()?);
        Ok(())
    }

    fn reload(&self) -> Result<Value, Value> {
        self.reload_and_log(&Cause::Asked)
            .map(|it| json!({ "generation": it.generation, "changes": it.changes }))
            .map_err(|it| json!({ "diagnostics": it.rendered, "findings": it.diagnostics }))
    }
}

impl Control {
    /// The addresses in use, by listener.
    pub fn listeners(&self) -> Value {
        let state = self.state();
        let mut listeners = Map::new();
        for (key, address) in &state.in_use {
            let Some(name) = state.compiled.listeners.name(key.id) else {
                continue;
            };
            let list = listeners.entry(name).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(address.to_string().into());
            }
        }
        Value::Object(listeners)
    }

    /// The generation in force.
    pub fn generation(&self) -> u64 {
        self.state().compiled.snapshot.generation
    }
}

/// The files of a configuration without their text, which is of no use once it is compiled.
pub(super) fn places(sources: &Sources) -> Arc<Sources> {
    let mut places = Sources::default();
    for source in sources.iter() {
        places.add(source.path.clone(), "".into());
    }
    Arc::new(places)
}

fn place(origin: Origin, places: &Sources) -> Value {
    places.describe(origin).into()
}

fn origins(document: &Document, places: &Sources) -> Value {
    let mut origins = Map::new();
    let mut note = |pointer: String, origin: Origin| {
        origins.insert(pointer, place(origin, places));
    };
    for (at, listener) in document.listeners.iter().enumerate() {
        note(format!("/listeners/{at}"), listener.origin);
    }
    for (at, certificate) in document.certificates.iter().enumerate() {
        note(format!("/certificates/{at}"), certificate.origin);
    }
    for (at, domain) in document.domains.iter().enumerate() {
        note(format!("/domains/{at}"), domain.origin);
        for (number, route) in domain.routes.iter().enumerate() {
            note(format!("/domains/{at}/routes/{number}"), route.origin);
        }
    }
    for (at, stream) in document.streams.iter().enumerate() {
        note(format!("/streams/{at}"), stream.origin);
    }
    for (name, upstream) in &document.upstreams {
        let name = name.as_str().replace('~', "~0").replace('/', "~1");
        note(format!("/upstreams/{name}"), upstream.origin);
    }
    Value::Object(origins)
}

fn domain(settings: &model::Domain, domain: &Domain, places: &Sources) -> Value {
    let routes = settings.routes.iter().zip(&domain.routes);
    json!({
        "name": &*domain.name,
        "hosts": settings.hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>(),
        "default": settings.default,
        "listeners": settings.listeners.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
        "policies": domain.chain.iter().map(policy).collect::<Vec<_>>(),
        "routes": routes
            .map(|(settings, compiled)| {
                let origin = place(settings.origin, places);
                route(settings, compiled, origin)
            })
            .collect::<Vec<_>>(),
    })
}

fn route(settings: &model::Route, route: &Route, origin: Value) -> Value {
    let upstreams = settings.to.0.iter();
    json!({
        "name": &*route.name,
        "match": serde_json::to_value(&settings.matches).unwrap_or_default(),
        "policies": route.chain.iter().map(policy).collect::<Vec<_>>(),
        "upstreams": upstreams
            .map(|it| json!({ "name": it.upstream.as_str(), "weight": it.weight }))
            .collect::<Vec<_>>(),
        "origin": origin,
    })
}

fn policy(policy: &Policy) -> Value {
    json!({ "name": policy.name(), "does": policy.summary() })
}

fn upstream(upstream: &Upstream) -> Value {
    let set = upstream.endpoints();
    let endpoints = set.endpoints().iter().map(|it| endpoint(&it.report()));
    let names = upstream.source_reports().into_iter().filter_map(|source| {
        Some(json!({ "name": source.target.to_string(), "error": source.error?.as_ref() }))
    });
    json!({
        "name": &*upstream.name,
        "panicking": set.is_panicking(),
        "requests": upstream.load.requests.value(),
        "connections": upstream.load.connections.value(),
        "ejections": upstream.load.ejections_total.load(Ordering::Relaxed),
        "endpoints": endpoints.collect::<Vec<_>>(),
        "unresolved": names.collect::<Vec<_>>(),
    })
}

fn endpoint(report: &EndpointReport) -> Value {
    json!({
        "address": report.address.to_string(),
        "host": report.host.as_deref(),
        "weight": report.weight,
        "health": report.health.as_str(),
        "ejected": report.is_ejected,
        "requests": report.active,
        "failures_in_a_row": report.failures,
        "ejections": report.ejections_total,
        "checks_passed": report.checks_passed_total,
        "checks_failed": report.checks_failed_total,
        "last_check_error": report.last_check_error.as_deref(),
    })
}

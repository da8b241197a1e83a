//! What control knows, as the admin listener shows it.
//!
//! Must not: show a secret, or hold the state longer than it takes to copy.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::Control;
use crate::policy::Policy;
use crate::telemetry::logs::LogLevel;

impl Control {
    /// Whether the gateway takes traffic: it serves a configuration and is not shutting down.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The metrics in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    /// The level of the diagnostics log.
    pub fn log_level(&self) -> &LogLevel {
        &self.log_level
    }

    /// The configuration in force, secrets as they were written.
    pub fn config(&self) -> Value {
        let state = self.state();
        json!({
            "generation": state.compiled.snapshot.generation,
            "document": serde_json::to_value(&*state.compiled.document).unwrap_or_default(),
        })
    }

    /// The addresses in use, by listener.
    pub fn listeners(&self) -> Value {
        let state = self.state();
        let mut listeners = serde_json::Map::new();
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

    /// The domains with their routes, policies and upstreams.
    pub fn routes(&self) -> Value {
        let state = self.state();
        let domains = state.compiled.snapshot.domains.iter().map(|domain| {
            let routes = domain.routes.iter().map(|route| {
                json!({
                    "name": &*route.name,
                    "policies": route.chain.iter().map(policy).collect::<Vec<_>>(),
                    "upstreams": route.backends.iter().map(|b| &*b.upstream.name).collect::<Vec<_>>(),
                })
            });
            json!({ "name": &*domain.name, "routes": routes.collect::<Vec<_>>() })
        });
        domains.collect()
    }

    /// The upstreams with their endpoints and how they are doing.
    pub fn upstreams(&self) -> Value {
        let state = self.state();
        let upstreams = state.compiled.upstreams.iter().map(|upstream| {
            let set = upstream.endpoints();
            let endpoints = set.endpoints().iter().map(|endpoint| {
                let report = endpoint.report();
                json!({
                    "address": endpoint.address.to_string(),
                    "host": endpoint.host.as_deref(),
                    "weight": endpoint.weight,
                    "health": report.health.as_str(),
                    "ejected": report.is_ejected,
                    "active": report.active,
                    "last_check_error": report.last_check_error.as_deref(),
                })
            });
            let names = upstream.source_reports().into_iter().filter_map(|source| {
                Some(json!({ "name": source.target.to_string(), "error": source.error?.as_ref() }))
            });
            json!({
                "name": &*upstream.name,
                "panicking": set.is_panicking(),
                "requests": upstream.load.requests.value(),
                "connections": upstream.load.connections.value(),
                "endpoints": endpoints.collect::<Vec<_>>(),
                "unresolved": names.collect::<Vec<_>>(),
            })
        });
        upstreams.collect()
    }

    /// The certificates with their names and dates.
    pub fn certificates(&self) -> Value {
        self.state().compiled.certificates.report()
    }
}

fn policy(policy: &Policy) -> Value {
    json!({ "name": policy.name(), "does": policy.summary() })
}

//! Relations between sections: names that exist, hosts claimed once, routes that answer. What one
//! value says by itself was checked when it was parsed.
//!
//! Must not: look at files or addresses; what needs them is checked when the document is compiled.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::decode::suggestion;
use crate::diagnostic::Diagnostic;
use crate::model::{Backend, Document, Domain, Name, PathMatch, Route, Switch, ValueMatch};
use crate::origin::{Located, Origin};

mod policies;

/// Everything that is wrong with a document, or questionable.
pub fn validate(document: &Document) -> Vec<Diagnostic> {
    let mut checker = Checker {
        document,
        found: Vec::new(),
        used: HashSet::new(),
    };
    checker.listeners();
    checker.certificates();
    checker.upstreams();
    policies::check(&document.policies, Origin::default(), &mut checker.found);
    checker.domains();
    checker.unused();
    checker.found
}

struct Checker<'d> {
    document: &'d Document,
    found: Vec<Diagnostic>,
    used: HashSet<&'d str>,
}

impl<'d> Checker<'d> {
    fn error(&mut self, code: &'static str, origin: Origin, message: String, remedy: String) {
        self.found
            .push(Diagnostic::error(code, Some(origin), message).remedy(remedy));
    }

    fn warn(&mut self, code: &'static str, origin: Origin, message: String, remedy: &str) {
        self.found
            .push(Diagnostic::warning(code, Some(origin), message).remedy(remedy));
    }

    fn listeners(&mut self) {
        let mut names: BTreeMap<&str, Origin> = BTreeMap::new();
        let mut addresses = HashMap::new();
        for listener in &self.document.listeners {
            if names
                .insert(listener.name.as_str(), listener.origin)
                .is_some()
            {
                let message = format!("listener `{}` is defined twice", listener.name);
                self.error(
                    "E-duplicate-name",
                    listener.origin,
                    message,
                    "give each a name of its own".into(),
                );
            }
            if listener.bind.is_empty() {
                let message = format!("listener `{}` has no address", listener.name);
                self.error(
                    "E-no-bind",
                    listener.origin,
                    message,
                    "add `bind: [\"127.0.0.1:8080\"]`".into(),
                );
            }
            for bind in &listener.bind {
                for address in bind.addresses() {
                    let taken = addresses.insert(*address, bind.origin).is_some();
                    if taken && address.port() != 0 {
                        let message = format!("`{}` is listened on twice", **bind);
                        self.error(
                            "E-duplicate-bind",
                            bind.origin,
                            message,
                            "listen on each address once".into(),
                        );
                    }
                }
            }
            let Some(tls) = &listener.tls else { continue };
            if self.document.certificates.is_empty() {
                let message = format!(
                    "listener `{}` serves TLS, but there is no certificate",
                    listener.name
                );
                self.error(
                    "E-no-certificate",
                    listener.origin,
                    message,
                    "add one under `certificates`".into(),
                );
            }
            if let Some(name) = &tls.default_certificate {
                let names: Vec<&str> = self
                    .document
                    .certificates
                    .iter()
                    .map(|c| c.name.as_str())
                    .collect();
                self.known("certificate", name, &names);
            }
        }
        if self.document.listeners.is_empty() {
            let remedy = "add `listeners: [{ name: web, bind: [\":8080\"] }]`";
            self.found.push(
                Diagnostic::error("E-no-listener", None, "the gateway would listen nowhere")
                    .remedy(remedy),
            );
        }
    }

    fn certificates(&mut self) {
        let mut names = HashSet::new();
        let mut has_default = false;
        for certificate in &self.document.certificates {
            if !names.insert(&certificate.name) {
                let message = format!("certificate `{}` is defined twice", certificate.name);
                self.error(
                    "E-duplicate-name",
                    certificate.origin,
                    message,
                    "give each a name of its own".into(),
                );
            }
            if certificate.default && std::mem::replace(&mut has_default, true) {
                let message = "a second default certificate".to_owned();
                self.error(
                    "E-duplicate-default",
                    certificate.origin,
                    message,
                    "keep `default: true` at one".into(),
                );
            }
        }
    }

    fn upstreams(&mut self) {
        for (name, upstream) in &self.document.upstreams {
            if upstream.endpoints.is_empty() {
                let message = format!("upstream `{name}` has no endpoints");
                self.warn(
                    "W-no-endpoints",
                    upstream.origin,
                    message,
                    "its requests are answered 503 until it has one",
                );
            } else if upstream
                .endpoints
                .iter()
                .all(|endpoint| endpoint.weight == 0)
            {
                let message = format!("every endpoint of upstream `{name}` has weight 0");
                self.error(
                    "E-no-weight",
                    upstream.origin,
                    message,
                    "give at least one a weight".into(),
                );
            }
            if let Some(health) = &upstream.health
                && health.http.is_some() == health.tcp
            {
                let message = format!(
                    "upstream `{name}` checks health by {}",
                    if health.tcp { "two ways" } else { "no way" }
                );
                self.error(
                    "E-health",
                    upstream.origin,
                    message,
                    "set exactly one of `http` and `tcp: true`".into(),
                );
            }
            if let Some(tls) = &upstream.tls
                && tls.certificate.is_some() != tls.key.is_some()
            {
                let message = format!(
                    "upstream `{name}` has a client certificate without its key, or the other way round"
                );
                self.error(
                    "E-client-certificate",
                    upstream.origin,
                    message,
                    "set both `certificate` and `key`".into(),
                );
            }
        }
    }

    fn domains(&mut self) {
        let mut claims: HashMap<(&str, &str), Origin> = HashMap::new();
        let mut defaults: HashMap<&str, Origin> = HashMap::new();
        let mut labels: HashSet<&str> = HashSet::new();
        let listeners: Vec<&str> = self
            .document
            .listeners
            .iter()
            .map(|l| l.name.as_str())
            .collect();
        for domain in &self.document.domains {
            if !labels.insert(domain.label()) {
                let message = format!("domain `{}` is defined twice", domain.label());
                self.error(
                    "E-duplicate-name",
                    domain.origin,
                    message,
                    "give each a name of its own".into(),
                );
            }
            if domain.hosts.is_empty() && !domain.default {
                let message = "a domain without hosts".to_owned();
                self.error(
                    "E-no-host",
                    domain.origin,
                    message,
                    "add `hosts`, or `default: true`".into(),
                );
            }
            for name in &domain.listeners {
                self.known("listener", name, &listeners);
            }
            let served = |listener: &&str| {
                domain.listeners.is_empty()
                    || domain
                        .listeners
                        .iter()
                        .any(|name| name.as_str() == *listener)
            };
            for listener in listeners.iter().copied().filter(|name| served(name)) {
                for host in &domain.hosts {
                    if let Some(first) = claims.insert((listener, host.as_str()), host.origin) {
                        let message = format!("host `{}` is claimed twice", **host);
                        self.error(
                            "E-duplicate-host",
                            host.origin,
                            message,
                            format!("it is claimed in line {} already", first.line),
                        );
                        break;
                    }
                }
                if domain.default && defaults.insert(listener, domain.origin).is_some() {
                    let message = "a second default domain".to_owned();
                    self.error(
                        "E-duplicate-default",
                        domain.origin,
                        message,
                        "keep `default: true` at one".into(),
                    );
                }
            }
            self.domain(domain);
        }
        if self.document.domains.is_empty() {
            self.found.push(Diagnostic::warning(
                "W-no-domain",
                None,
                "there is no domain: every request is answered 404",
            ));
        }
    }

    fn domain(&mut self, domain: &'d Located<Domain>) {
        policies::check(&domain.policies, domain.origin, &mut self.found);
        let mut names = HashSet::new();
        let mut catch_all: Option<Origin> = None;
        for (place, route) in domain.routes.iter().enumerate() {
            if !names.insert(route.label(place)) {
                let message = format!(
                    "route `{}` is defined twice in domain `{}`",
                    route.label(place),
                    domain.label()
                );
                self.error(
                    "E-duplicate-name",
                    route.origin,
                    message,
                    "give each a name of its own".into(),
                );
            }
            let everything =
                route.matches.is_empty() || route.matches.iter().any(|m| **m == Default::default());
            if everything && let Some(first) = catch_all.replace(route.origin) {
                let message = format!("route `{}` is never reached", route.label(place));
                let remedy = format!("the route in line {} takes everything already", first.line);
                self.found.push(
                    Diagnostic::warning("W-shadowed-route", Some(route.origin), message)
                        .remedy(remedy),
                );
            }
            self.route(domain, route, place);
        }
        if domain.routes.is_empty()
            && domain.policies.redirect.is_none()
            && domain.policies.respond.is_none()
        {
            let message = format!("domain `{}` has no routes", domain.label());
            self.warn(
                "W-no-route",
                domain.origin,
                message,
                "its requests are answered 404",
            );
        }
    }

    fn route(&mut self, domain: &'d Domain, route: &'d Located<Route>, place: usize) {
        policies::check(&route.policies, route.origin, &mut self.found);
        let answers = |policies: &crate::policy::Policies| {
            policies.redirect.is_some() || policies.respond.is_some()
        };
        let by_policy = answers(&route.policies)
            || answers(&domain.policies)
            || answers(&self.document.policies);
        let label = route.label(place);
        match (route.to.is_empty(), answers(&route.policies)) {
            (true, _) if !by_policy => {
                let message = format!("route `{label}` answers nothing");
                self.error(
                    "E-no-answer",
                    route.origin,
                    message,
                    "add `to: <upstream>`, or a `redirect` or `respond` policy".into(),
                );
            }
            (false, true) => {
                let message = format!("route `{label}` has an answer of its own and an upstream");
                self.error(
                    "E-two-answers",
                    route.origin,
                    message,
                    "keep `to` or the policy".into(),
                );
            }
            _ => {}
        }
        self.backends(&route.to.0);
        for alternative in &route.matches {
            if let Some(path) = &alternative.path {
                self.path(path);
            }
            for value in alternative.headers.iter().chain(&alternative.query) {
                self.value(value);
            }
        }
    }

    fn backends(&mut self, backends: &'d [Located<Backend>]) {
        let document = self.document;
        for backend in backends {
            if document.upstreams.contains_key(&backend.upstream) {
                self.used.insert(backend.upstream.as_str());
            } else {
                let names: Vec<&str> = document
                    .upstreams
                    .keys()
                    .map(Name::as_str)
                    .take(1000)
                    .collect();
                let message = format!("there is no upstream `{}`", backend.upstream);
                let remedy = suggestion(backend.upstream.as_str(), &names);
                self.error("E-unknown-upstream", backend.origin, message, remedy);
            }
        }
        if let Some(first) = backends.first()
            && backends.iter().all(|backend| backend.weight == 0)
        {
            let message = "every upstream of this route has weight 0".to_owned();
            self.error(
                "E-no-weight",
                first.origin,
                message,
                "give at least one a weight".into(),
            );
        }
    }

    fn path(&mut self, path: &Located<PathMatch>) {
        match &**path {
            PathMatch::Exact(text) | PathMatch::Prefix(text) => {
                if !text.starts_with('/') {
                    let message = format!("the path `{text}` does not begin with `/`");
                    self.error("E-path", path.origin, message, format!("write `/{text}`"));
                }
            }
            PathMatch::Regex(pattern) => self.regex(pattern, path.origin),
        }
    }

    fn value(&mut self, value: &Located<ValueMatch>) {
        let ways = [
            value.exact.is_some(),
            value.regex.is_some(),
            value.present.is_some(),
        ];
        if ways.into_iter().filter(|set| *set).count() != 1 {
            let message = format!("how `{}` matches is not clear", value.name);
            self.error(
                "E-match",
                value.origin,
                message,
                "set exactly one of `exact`, `regex` and `present`".into(),
            );
        }
        if let Some(pattern) = &value.regex {
            self.regex(pattern, value.origin);
        }
    }

    fn regex(&mut self, pattern: &str, origin: Origin) {
        if let Err(error) = regex::Regex::new(pattern) {
            let message = format!("`{pattern}` is no regular expression");
            let why = error
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned();
            self.error("E-regex", origin, message, why);
        }
    }

    fn known(&mut self, what: &str, name: &Located<Name>, names: &[&str]) {
        if !names.contains(&name.as_str()) {
            let message = format!("there is no {what} `{}`", **name);
            self.error(
                "E-unknown-name",
                name.origin,
                message,
                suggestion(name.as_str(), names),
            );
        }
    }

    fn unused(&mut self) {
        for (name, upstream) in &self.document.upstreams {
            if !self.used.contains(name.as_str()) {
                let message = format!("no route goes to upstream `{name}`");
                self.found.push(
                    Diagnostic::warning("W-unused-upstream", Some(upstream.origin), message)
                        .remedy("use it in a route's `to`, or take it out"),
                );
            }
        }
        if let Switch::On(admin) = &self.document.admin
            && !admin.bind.ip().is_loopback()
        {
            let message = format!(
                "the admin listener at {} can be reached from outside",
                admin.bind
            );
            self.found.push(
                Diagnostic::warning("W-admin-exposed", None, message)
                    .remedy("it has no authentication: bind it to 127.0.0.1, or guard it"),
            );
        }
    }
}

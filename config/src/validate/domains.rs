//! Domains: who claims which host on which listener.
//!
//! Must not: take more than a sort, with ten thousand domains.

use std::collections::HashSet;

use super::Names;
use super::listeners::unknown_certificate;
use crate::decode::suggestion;
use crate::diagnostic::Diagnostic;
use crate::model::{
    ClientMode, Document, Domain, DomainTls, HostPattern, Listener, ListenerTls, Name, TlsPolicy,
};
use crate::origin::{Located, Origin};
use crate::policy::Policies;

pub(super) fn check(document: &Document, found: &mut Vec<Diagnostic>) {
    let mut names = Names::of("domain");
    let listeners: Vec<&str> = (document.listeners.iter())
        .map(|listener| listener.name.as_str())
        .collect();
    let certificates: HashSet<&str> = (document.certificates.iter())
        .map(|certificate| certificate.name.as_str())
        .collect();
    for domain in &document.domains {
        // Where the host that names two domains is claimed twice, that is the mistake.
        let is_host_twice = || {
            let mut others = document.domains.iter();
            domain.name.is_none()
                && others.any(|other| {
                    other.origin != domain.origin
                        && other.hosts.first() == domain.hosts.first()
                        && meet(domain, other)
                })
        };
        let twice = names.add(domain.label(), domain.origin);
        found.extend(twice.filter(|_| !is_host_twice()));
        if domain.hosts.is_empty() && !domain.default {
            let message = match &domain.name {
                Some(name) => format!("domain `{name}` has no hosts"),
                None => "a domain without hosts".to_owned(),
            };
            found.push(
                Diagnostic::error("E-no-host", Some(domain.origin), message)
                    .remedy("add `hosts`, or `default: true` for the hosts that no domain claims"),
            );
        }
        for name in &domain.listeners {
            found.extend(protocol(document, name));
            if !listeners.contains(&name.as_str()) {
                let message = format!("there is no listener `{}`", **name);
                found.push(
                    Diagnostic::error("E-unknown-listener", Some(name.origin), message)
                        .remedy(suggestion(name.as_str(), &listeners)),
                );
            }
        }
        let chosen =
            (domain.certificate.as_ref()).filter(|name| !certificates.contains(name.as_str()));
        found.extend(chosen.and_then(|name| unknown_certificate(document, name)));
        isolation(document, domain, found);
        tls(document, domain, found);
    }
    hosts(document, found);
    defaults(document, found);
}

/// Says if a listener that a domain names serves no domains.
fn protocol(document: &Document, name: &Located<Name>) -> Option<Diagnostic> {
    let mut listeners = document.listeners.iter();
    let listener = listeners.find(|listener| listener.name == name.value)?;
    if listener.protocol.is_http() {
        return None;
    }
    let protocol = listener.protocol.as_str();
    let message = format!(
        "listener `{}` serves no domains: its protocol is `{protocol}`",
        **name
    );
    Some(
        Diagnostic::error("E-listener-protocol", Some(name.origin), message)
            .related(listener.origin, "this listener")
            .remedy("take it out here, or lead it somewhere by a stream"),
    )
}

/// What a domain asks of TLS, and the listeners that serve it.
fn tls(document: &Document, domain: &Located<Domain>, found: &mut Vec<Diagnostic>) {
    let label = domain.label();
    let own = domain.tls.as_deref().map(DomainTls::policy);
    let is_serving = |listener: &&Located<Listener>| domain.is_on(listener);
    let serving = || document.listeners.iter().filter(is_serving);
    let asks = |tls: &ListenerTls| {
        let policy = own.clone().unwrap_or_default().over(tls.policy());
        policy.clients().is_some()
    };
    if own.is_some() && serving().all(|listener| listener.tls.is_none()) {
        let message = format!("`tls` of domain `{label}` does nothing");
        found.push(
            Diagnostic::warning("W-tls-unused", Some(domain.origin), message)
                .label("no listener that serves the domain has `tls`")
                .remedy("give one of them a `tls` section, or take this one out"),
        );
    }
    let demanded = own.as_ref().and_then(TlsPolicy::clients);
    let plain = serving().find(|listener| listener.tls.is_none());
    if let (Some(clients), Some(plain)) = (demanded, plain)
        && clients.mode == ClientMode::Required
    {
        let message = format!(
            "domain `{label}` is only for clients with a certificate, and listener `{}` cannot ask for one",
            plain.name
        );
        found.push(
            Diagnostic::warning("W-client-certificates-plain", Some(domain.origin), message)
                .label("its requests are refused there with 421")
                .remedy("name the listeners with `tls` in `listeners` of the domain"),
        );
    }
    let needs = |policies: &Policies| policies.client_access.is_some();
    let is_needed = needs(&domain.policies)
        || needs(&document.policies)
        || domain.routes.iter().any(|route| needs(&route.policies));
    let is_asked = || serving().any(|listener| listener.tls.as_ref().is_some_and(asks));
    if is_needed && !is_asked() {
        let message = format!("`client_access` lets nobody into domain `{label}`");
        found.push(
            Diagnostic::warning("W-client-access", Some(domain.origin), message)
                .label("no listener that serves the domain asks for client certificates")
                .remedy("set `tls.client_certificates` of the domain or the listener"),
        );
    }
}

/// Hosts that two domains claim on one listener.
fn hosts(document: &Document, found: &mut Vec<Diagnostic>) {
    let mut claims: Vec<(&Located<HostPattern>, &Domain)> = (document.domains.iter())
        .flat_map(|domain| domain.hosts.iter().map(move |host| (host, &**domain)))
        .collect();
    // Stable: of two claims, the one that is written first comes first.
    claims.sort_by_key(|(host, _)| host.as_str());
    for same in claims.chunk_by(|(one, _), (other, _)| one.value == other.value) {
        for (place, (host, domain)) in same.iter().enumerate() {
            let earlier = same.iter().take(place);
            let Some((first, other)) = earlier.clone().find(|(_, other)| meet(domain, other))
            else {
                continue;
            };
            let remedy = if std::ptr::eq(*domain, *other) {
                "once is enough: case makes no difference"
            } else {
                "keep it at one domain, or serve the domains on different `listeners`"
            };
            let message = format!("host `{}` is claimed twice", ***host);
            found.push(
                Diagnostic::error("E-duplicate-host", Some(host.origin), message)
                    .label("the second claim")
                    .related(first.origin, "the first claim")
                    .remedy(remedy),
            );
        }
    }
}

/// Default domains that are served on one listener.
fn defaults(document: &Document, found: &mut Vec<Diagnostic>) {
    let mut defaults: Vec<&Located<Domain>> = Vec::new();
    for domain in document.domains.iter().filter(|domain| domain.default) {
        if let Some(first) = defaults.iter().find(|other| meet(domain, other)) {
            found.push(
                Diagnostic::error(
                    "E-duplicate-default",
                    Some(domain.origin),
                    "a second default domain",
                )
                .related(first.origin, "the first one")
                .remedy("keep `default: true` at one, or serve them on different `listeners`"),
            );
        }
        defaults.push(domain);
    }
}

/// Whether two domains are served on a listener together.
fn meet(one: &Domain, other: &Domain) -> bool {
    let everywhere = one.listeners.is_empty() || other.listeners.is_empty();
    everywhere
        || (one.listeners.iter())
            .any(|name| other.listeners.iter().any(|it| it.value == name.value))
}

/// Hosts that no listener lets through to the domain.
fn isolation(document: &Document, domain: &Located<Domain>, found: &mut Vec<Diagnostic>) {
    let is_isolated = |listener: &&Located<Listener>| !listener.hosts.is_empty();
    if !document
        .listeners
        .iter()
        .any(|listener| is_isolated(&listener))
    {
        return;
    }
    let serving = document.listeners.iter();
    let serving = serving.filter(|listener| domain.is_on(listener));
    for host in &domain.hosts {
        let lets_through = |listener: &Located<Listener>| {
            let own = &listener.hosts;
            own.is_empty() || own.iter().any(|own| overlaps(own, host))
        };
        if serving.clone().any(lets_through) {
            continue;
        }
        let kept: Vec<Origin> = serving.clone().map(|listener| listener.origin).collect();
        let message = format!("no request for `{}` gets here", **host);
        let mut problem = Diagnostic::warning("W-unreachable-host", Some(host.origin), message)
            .remedy("add it to the listener's `hosts`, or take it out here");
        if let [only] = kept.as_slice() {
            problem = problem.related(*only, "this listener serves its own `hosts` only");
        }
        found.push(problem);
    }
}

/// Whether there are hosts that fit both patterns.
fn overlaps(one: &HostPattern, other: &HostPattern) -> bool {
    // A wildcard covers a longer one as if the asterisk were a label.
    one == other || one.covers(other.as_str()) || other.covers(one.as_str())
}

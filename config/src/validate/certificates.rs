//! Certificates: in files, or ordered from authorities.
//!
//! Must not: open a file, or ask an authority.

use std::collections::HashMap;

use super::Names;
use crate::decode::suggestion;
use crate::diagnostic::Diagnostic;
use crate::model::{AcmeChallenge, Certificate, CertificateOrder, Document, HostPattern, Issuer};
use crate::origin::{Located, Origin};

pub(super) fn check(document: &Document, found: &mut Vec<Diagnostic>) {
    let mut names = Names::of("certificate");
    let mut default: Option<Origin> = None;
    issuers(document, found);
    shared(document, found);
    let hosts = if document.acme.is_some() {
        chosen_hosts(document)
    } else {
        HashMap::new()
    };
    for certificate in &document.certificates {
        found.extend(names.add(certificate.name.as_str(), certificate.origin));
        match &certificate.acme {
            None => files(certificate, found),
            Some(order) => {
                let chosen = hosts.get(certificate.name.as_str());
                let chosen = chosen.map_or(&[][..], Vec::as_slice);
                ordered(document, certificate, order, chosen, found);
            }
        }
        if !certificate.default {
            continue;
        }
        if let Some(first) = default.replace(certificate.origin) {
            found.push(
                Diagnostic::error(
                    "E-duplicate-default",
                    Some(certificate.origin),
                    "a second default certificate",
                )
                .related(first, "the first one")
                .remedy("keep `default: true` at one"),
            );
        }
    }
}

/// What gateways share by way of Redis, if there is one.
fn shared(document: &Document, found: &mut Vec<Diagnostic>) {
    let acme = document.acme.as_ref().is_some_and(|acme| acme.redis);
    let sessions = &document.tls_sessions;
    for (section, wants) in [("acme", acme), ("tls_sessions", sessions.redis)] {
        if wants && document.redis.is_none() {
            let message = format!("`{section}` is to be shared, and there is no `redis` section");
            let problem = Diagnostic::error("E-no-redis", None, message);
            found.push(problem.remedy("add `redis` with `url` and `secret`"));
        }
    }
    if sessions.redis && !sessions.secrets.is_empty() {
        let message = "`tls_sessions` has secrets in files, and agrees on others by `redis`";
        let problem = Diagnostic::error("E-two-secrets", None, message);
        found.push(problem.remedy("keep one of `secrets` and `redis`"));
    }
}

/// The hosts of the domains that choose each certificate.
fn chosen_hosts(document: &Document) -> HashMap<&str, Vec<&HostPattern>> {
    let mut hosts: HashMap<&str, Vec<&HostPattern>> = HashMap::new();
    for domain in &document.domains {
        if let Some(name) = &domain.certificate {
            let own = hosts.entry(name.as_str()).or_default();
            own.extend(domain.hosts.iter().map(|host| &host.value));
        }
    }
    hosts
}

fn files(certificate: &Located<Certificate>, found: &mut Vec<Diagnostic>) {
    let missing = match (&certificate.chain, &certificate.key) {
        (Some(_), Some(_)) => return,
        (None, Some(_)) => "`chain`",
        (Some(_), None) => "`key`",
        (None, None) => "`chain` and `key`",
    };
    let message = format!("certificate `{}` has no {missing}", certificate.name);
    found.push(
        Diagnostic::error("E-certificate-files", Some(certificate.origin), message)
            .remedy("name the PEM files as `chain` and `key`, or have it ordered with `acme`"),
    );
}

fn ordered(
    document: &Document,
    certificate: &Located<Certificate>,
    order: &CertificateOrder,
    chosen: &[&HostPattern],
    found: &mut Vec<Diagnostic>,
) {
    let name = &certificate.name;
    let mut error = |code, origin: Origin, message: String, remedy: &str| {
        found.push(Diagnostic::error(code, Some(origin), message).remedy(remedy));
    };
    let origin = certificate.origin;
    if certificate.chain.is_some() || certificate.key.is_some() {
        let message = format!("certificate `{name}` is in files, and ordered as well");
        let remedy = "take out `acme`, or `chain` and `key`";
        error("E-certificate-files", origin, message, remedy);
    }
    let Some(acme) = &document.acme else {
        let message = format!("certificate `{name}` is ordered, but there is no `acme` section");
        let remedy = "add `acme` with `storage` and `issuers`";
        return error("E-no-acme", origin, message, remedy);
    };
    if let Some(on_demand) = &order.on_demand {
        if !order.hosts.is_empty() || !chosen.is_empty() {
            let message =
                format!("certificate `{name}` is ordered on demand, and for hosts as well");
            let remedy = "take `hosts` out, and do not name it as the `certificate` of a domain";
            error("E-on-demand", origin, message, remedy);
        }
        if on_demand.allow.is_empty() && on_demand.ask.is_none() {
            let message = format!("nothing says which hosts may have a certificate of `{name}`");
            let remedy =
                "list them in `allow`, such as `*.shop.example.com`, or have `ask` say yes";
            error("E-on-demand", origin, message, remedy);
        }
        let ask = on_demand.ask.as_deref().unwrap_or("http://");
        if !ask.starts_with("http://") && !ask.starts_with("https://") {
            let message = format!("`{ask}` is not a URL that can be asked");
            let remedy = "begin it with `http://` or `https://`";
            error("E-on-demand", origin, message, remedy);
        }
    } else if order.hosts.is_empty() && chosen.is_empty() {
        let message = format!("certificate `{name}` is for no host");
        let remedy = "list `hosts`, or name it as the `certificate` of a domain with hosts";
        error("E-no-host", origin, message, remedy);
    }
    for issuer in &order.issuers {
        if !acme.issuers.iter().any(|one| one.name == issuer.value) {
            let names: Vec<&str> = acme.issuers.iter().map(|it| it.name.as_str()).collect();
            let message = format!("there is no issuer `{}`", **issuer);
            let remedy = suggestion(issuer.as_str(), &names);
            error("E-unknown-issuer", issuer.origin, message, &remedy);
        }
    }
    let asked = acme.issuers.iter().filter(|issuer| {
        let mut own = order.issuers.iter();
        order.issuers.is_empty() || own.any(|name| name.value == issuer.name)
    });
    let is_dns = |issuer: &&Located<Issuer>| matches!(issuer.challenge, AcmeChallenge::Dns01(_));
    let own = order.hosts.iter().map(|host| &host.value);
    let mut hosts = own.chain(chosen.iter().copied());
    let wild = hosts.find(|host| host.suffix().is_some());
    if let (Some(host), false) = (wild, asked.clone().all(|issuer| is_dns(&issuer))) {
        let message = format!("certificate `{name}` is for `{}`", host.as_str());
        let remedy = "wildcards need `challenge: dns-01` of every issuer that is asked";
        error("E-wildcard", origin, message, remedy);
    }
}

fn issuers(document: &Document, found: &mut Vec<Diagnostic>) {
    let Some(acme) = &document.acme else { return };
    let mut names = Names::of("issuer");
    if acme.issuers.is_empty() {
        found.push(
            Diagnostic::error("E-no-issuer", None, "`acme` has no issuers")
                .remedy("add one: `{ name: le, directory: letsencrypt, terms_agreed: true }`"),
        );
    }
    for issuer in &acme.issuers {
        found.extend(names.add(issuer.name.as_str(), issuer.origin));
        if !issuer.terms_agreed {
            let message = format!("the terms of issuer `{}` are not agreed to", issuer.name);
            found.push(
                Diagnostic::error("E-terms", Some(issuer.origin), message)
                    .remedy("read them, and set `terms_agreed: true`"),
            );
        }
    }
}

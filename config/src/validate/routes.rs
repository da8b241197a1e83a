//! Routes: where they lead, and whether they answer at all.
//!
//! Must not: decide which route wins; traffic does, and finds what is shadowed by order.

use std::collections::HashSet;

use super::policies;
use crate::decode::suggestion;
use crate::diagnostic::Diagnostic;
use crate::model::text::{FieldName, Rule};
use crate::model::{Backend, Document, Domain, Match, Name, Route, ValueMatch};
use crate::origin::{Located, Origin};
use crate::policy::Policies;

/// Upstreams that a name is compared with, to suggest another.
const COMPARED_MAX: usize = 10_000;

/// Checks all routes, and says which upstreams they lead to.
pub(super) fn check<'d>(document: &'d Document, found: &mut Vec<Diagnostic>) -> HashSet<&'d str> {
    let mut used = HashSet::new();
    policies::check(
        &document.policies,
        None,
        &|| "the gateway".to_owned(),
        found,
    );
    for domain in &document.domains {
        let what = || format!("domain `{}`", domain.label());
        policies::check(&domain.policies, Some(domain.origin), &what, found);
        if domain.routes.is_empty() && !answers(&domain.policies) && !answers(&document.policies) {
            found.push(
                Diagnostic::warning(
                    "W-no-route",
                    Some(domain.origin),
                    format!("{} has no routes", what()),
                )
                .remedy("its requests are answered 404; add `routes`"),
            );
        }
        names(domain, found);
        for (place, route) in domain.routes.iter().enumerate() {
            answer(document, domain, route, place, found);
            backends(document, &route.to.0, "route", &mut used, found);
            for alternative in &route.matches {
                values(alternative, found);
            }
        }
    }
    used
}

fn answers(policies: &Policies) -> bool {
    policies.redirect.is_some() || policies.respond.is_some()
}

/// Names given twice, and routes behind one that takes everything.
fn names(domain: &Domain, found: &mut Vec<Diagnostic>) {
    let mut names = HashSet::new();
    let mut catch_all: Option<Origin> = None;
    for (place, route) in domain.routes.iter().enumerate() {
        let label = route.label(place);
        if !names.insert(label.clone()) {
            let domain = domain.label();
            let message = format!("route `{label}` is defined twice in domain `{domain}`");
            found.push(
                Diagnostic::error("E-duplicate-name", Some(route.origin), message)
                    .remedy("give each a name of its own"),
            );
        }
        let is_everything = |alternative: &Located<Match>| **alternative == Match::default();
        if !route.matches.is_empty() && !route.matches.iter().any(is_everything) {
            continue;
        }
        match catch_all {
            None => catch_all = Some(route.origin),
            Some(first) => {
                let message = format!("route `{label}` is never reached");
                found.push(
                    Diagnostic::warning("W-shadowed-route", Some(route.origin), message)
                        .related(first, "this route takes everything already")
                        .remedy("say what it takes in `match`, or take it out"),
                );
            }
        }
    }
}

fn answer(
    document: &Document,
    domain: &Domain,
    route: &Located<Route>,
    place: usize,
    found: &mut Vec<Diagnostic>,
) {
    let what = || format!("route `{}`", route.label(place));
    policies::check(&route.policies, Some(route.origin), &what, found);
    let own = answers(&route.policies);
    let inherited = answers(&domain.policies) || answers(&document.policies);
    match (route.to.is_empty(), own) {
        (true, false) if !inherited => found.push(
            Diagnostic::error(
                "E-no-answer",
                Some(route.origin),
                format!("{} answers nothing", what()),
            )
            .remedy("add `to: <upstream>`, or a `redirect` or `respond` policy"),
        ),
        (false, true) => {
            let message = format!("{} has an answer of its own and an upstream", what());
            found.push(
                Diagnostic::error("E-two-answers", Some(route.origin), message)
                    .remedy("keep `to` or the policy that answers"),
            );
        }
        _ => {}
    }
}

/// Where a route or a stream leads.
pub(super) fn backends<'d>(
    document: &'d Document,
    backends: &'d [Located<Backend>],
    whose: &str,
    used: &mut HashSet<&'d str>,
    found: &mut Vec<Diagnostic>,
) {
    for backend in backends {
        let name = backend.upstream.as_str();
        if document.upstreams.contains_key(&backend.upstream) {
            used.insert(name);
            continue;
        }
        let known = document.upstreams.keys().map(Name::as_str);
        let known: Vec<&str> = known.take(COMPARED_MAX).collect();
        let message = format!("there is no upstream `{name}`");
        found.push(
            Diagnostic::error("E-unknown-upstream", Some(backend.origin), message)
                .remedy(suggestion(name, &known)),
        );
    }
    if let Some(first) = backends.first()
        && backends.iter().all(|backend| backend.weight == 0)
    {
        let message = format!("every upstream of this {whose} has weight 0");
        found.push(
            Diagnostic::error("E-no-weight", Some(first.origin), message)
                .remedy("give at least one a weight above zero"),
        );
    }
}

fn values(alternative: &Match, found: &mut Vec<Diagnostic>) {
    if let (Some(path), Some(call)) = (&alternative.path, &alternative.grpc) {
        let message = "a call of gRPC has a path of its own";
        found.push(
            Diagnostic::error("E-match", Some(path.origin), message)
                .related(call.origin, "`grpc` is about the path already")
                .remedy("keep `grpc` or `path`"),
        );
    }
    for header in &alternative.headers {
        if let Err(wrong) = FieldName::check(&header.name) {
            let (message, remedy) = wrong.split_once('\n').unwrap_or((&wrong, ""));
            let problem = Diagnostic::error("E-match", Some(header.origin), message);
            found.push(problem.remedy(remedy));
        }
    }
    for value in alternative.headers.iter().chain(&alternative.query) {
        value_match(value, found);
    }
}

fn value_match(value: &Located<ValueMatch>, found: &mut Vec<Diagnostic>) {
    let ways = [
        value.exact.is_some(),
        value.regex.is_some(),
        value.present.is_some(),
    ];
    if ways.into_iter().filter(|set| *set).count() != 1 {
        let message = format!("how `{}` matches is not clear", value.name);
        found.push(
            Diagnostic::error("E-match", Some(value.origin), message)
                .remedy("set exactly one of `exact`, `regex` and `present`"),
        );
    }
}

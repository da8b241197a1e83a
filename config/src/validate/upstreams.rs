//! Upstreams: whether they have somewhere to go, and anybody who goes there.
//!
//! Must not: resolve a name; one that does not resolve is no mistake of the document.

use std::collections::HashSet;

use crate::diagnostic::Diagnostic;
use crate::model::{Document, Upstream, Verify};
use crate::origin::Located;

pub(super) fn check(document: &Document, used: &HashSet<&str>, found: &mut Vec<Diagnostic>) {
    for (name, upstream) in &document.upstreams {
        let name = name.as_str();
        endpoints(name, upstream, found);
        let is_unverified = |tls: &crate::model::UpstreamTls| tls.verify == Verify::Off;
        if upstream.tls.as_deref().is_some_and(is_unverified) {
            let message = format!("upstream `{name}` does not verify who answers");
            found.push(
                Diagnostic::warning("W-unverified", Some(upstream.origin), message)
                    .remedy("trust its authority with `ca`, and take `verify: off` out"),
            );
        }
        if !used.contains(name) {
            let message = format!("no route goes to upstream `{name}`");
            found.push(
                Diagnostic::warning("W-unused-upstream", Some(upstream.origin), message)
                    .remedy("use it in a route's `to`, or take it out"),
            );
        }
    }
}

fn endpoints(name: &str, upstream: &Located<Upstream>, found: &mut Vec<Diagnostic>) {
    if upstream.endpoints.is_empty() {
        let message = format!("upstream `{name}` has no endpoints");
        found.push(
            Diagnostic::warning("W-no-endpoints", Some(upstream.origin), message)
                .remedy("its requests are answered 503; add `endpoints`"),
        );
    } else if (upstream.endpoints.iter()).all(|endpoint| endpoint.weight == 0) {
        let message = format!("every endpoint of upstream `{name}` has weight 0");
        found.push(
            Diagnostic::error("E-no-weight", Some(upstream.origin), message)
                .remedy("give at least one a weight above zero"),
        );
    }
    let mut seen = HashSet::new();
    for endpoint in &upstream.endpoints {
        if !seen.insert((&endpoint.host, endpoint.port)) {
            let message = format!("endpoint `{}` stands here twice", **endpoint);
            found.push(
                Diagnostic::warning("W-duplicate-endpoint", Some(endpoint.origin), message)
                    .remedy("keep one of them; `weight` gives an endpoint a larger share"),
            );
        }
    }
}

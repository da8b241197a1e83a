//! Every policy, one file each; here, what is true of all: the levels.

use cardea_tests::{Gateway, Origin};

mod body_limit;
mod cors;
mod header_edits;
mod ip_access;
mod rate_limit;
mod redirect;
mod respond;
mod rewrite;
mod timeouts;

/// A gateway with policies at its three levels: the whole gateway, the domain `a.test`, and its
/// route `/route`. The domain's other paths have a route without policies, and the domain `b.test`
/// has none of its own.
#[track_caller]
pub(crate) fn levels(origin: &Origin, gateway: &str, domain: &str, route: &str) -> Gateway {
    // A route that answers has nowhere to send to.
    let to = |policies: &str| match policies.contains("redirect") || policies.contains("respond") {
        true => "",
        false => ", to: origin",
    };
    let to_route = to(route);
    let config = format!(
        r#"
policies: {gateway}
domains:
  - hosts: [a.test]
    policies: {domain}
    routes:
      - {{ match: [{{ path: {{ prefix: /route }} }}], policies: {route}{to_route} }}
      - {{ to: origin }}
  - hosts: [b.test]
    routes: [{{ to: origin }}]
upstreams:
  origin: {{ endpoints: ["<origin>"] }}
"#
    );
    Gateway::start(&config, &[("origin", &origin.address())])
}

/// A gateway with one route, which has these policies.
#[track_caller]
pub(crate) fn on_route(origin: &Origin, policies: &str) -> Gateway {
    levels(origin, "{}", "{}", policies)
}

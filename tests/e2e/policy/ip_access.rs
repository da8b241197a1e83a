//! `ip_access`: every level has to allow the client; within a level `deny` wins.

use cardea_tests::{Gateway, Origin};

use super::levels;
use crate::fixture::{assert_refused, get};

/// Asserts whether a client at this address may come, behind a trusted proxy.
#[track_caller]
fn check(gateway: &Gateway, path: &str, address: &str, is_allowed: bool) {
    let response = gateway.ask(get(
        "a.test",
        path,
        &format!("X-Forwarded-For: {address}\r\n"),
    ));
    if is_allowed {
        assert_eq!(
            response.status,
            200,
            "{path} {address}: {}",
            response.text()
        );
    } else {
        assert_refused(
            &response,
            403,
            "address_denied",
            &format!("{path} {address}"),
        );
    }
}

fn behind_a_proxy(gateway: &str, domain: &str, route: &str) -> (Gateway, Origin) {
    let origin = Origin::echo();
    let config = format!(
        r#"
forwarding: {{ trusted_proxies: ["127.0.0.0/8"] }}
policies: {gateway}
domains:
  - hosts: [a.test]
    policies: {domain}
    routes:
      - {{ match: [{{ path: {{ prefix: /route }} }}], policies: {route}, to: origin }}
      - {{ to: origin }}
upstreams:
  origin: {{ endpoints: ["<origin>"] }}
"#
    );
    (
        Gateway::start(&config, &[("origin", &origin.address())]),
        origin,
    )
}

#[test]
fn deny_wins_over_allow() {
    let (gateway, _origin) = behind_a_proxy(
        "{}",
        "{}",
        "{ ip_access: { allow: [10.0.0.0/8, \"2001:db8::/32\"], deny: [10.1.0.0/16] } }",
    );
    check(&gateway, "/route", "10.2.3.4", true);
    check(&gateway, "/route", "10.1.2.3", false);
    check(&gateway, "/route", "192.0.2.1", false);
    check(&gateway, "/route", "2001:db8::5", true);
    check(&gateway, "/route", "2001:db9::5", false);
    check(&gateway, "/route", "::ffff:10.2.3.4", true);
    check(&gateway, "/", "192.0.2.1", true);
}

#[test]
fn every_level_has_to_allow() {
    let (gateway, _origin) = behind_a_proxy(
        "{ ip_access: { deny: [10.0.0.1/32] } }",
        "{ ip_access: { allow: [10.0.0.0/8] } }",
        "{ ip_access: { allow: [10.0.0.0/24, 192.0.2.0/24] } }",
    );
    check(&gateway, "/route", "10.0.0.2", true);
    check(&gateway, "/route", "10.0.0.1", false);
    check(&gateway, "/route", "10.0.1.1", false);
    check(&gateway, "/route", "192.0.2.1", false);
    check(&gateway, "/", "10.0.1.1", true);
    check(&gateway, "/", "10.0.0.1", false);
}

#[test]
fn the_peer_counts_unless_it_is_trusted() {
    let origin = Origin::echo();
    let gateway = levels(
        &origin,
        "{ ip_access: { allow: [127.0.0.1/32] } }",
        "{}",
        "{}",
    );
    check(&gateway, "/", "192.0.2.1", true);
    let gateway = levels(
        &origin,
        "{ ip_access: { deny: [127.0.0.0/8] } }",
        "{}",
        "{}",
    );
    check(&gateway, "/", "192.0.2.1", false);
}

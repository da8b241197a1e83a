//! `rate_limit`: so many pass, the others are told when to come back; every level counts.

use cardea_tests::{Gateway, Origin, Response};

use super::{levels, on_route};
use crate::fixture::{assert_refused, get};

/// Statuses of so many requests, one after another on one connection.
fn statuses(gateway: &Gateway, host: &str, path: &str, lines: &str, count: usize) -> Vec<u16> {
    let mut client = gateway.client();
    (0..count)
        .map(|_| client.ask(get(host, path, lines)).status)
        .collect()
}

fn passed(statuses: &[u16]) -> usize {
    statuses.iter().filter(|&&status| status == 200).count()
}

#[test]
fn the_excess_is_told_when_to_come_back() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ rate_limit: { rate: 3, per: 1m } }");
    let mut client = gateway.client();
    let mut ask = || client.ask(get("a.test", "/route", ""));
    let responses: Vec<Response> = (0..3).map(|_| ask()).collect();
    for (at, response) in responses.iter().enumerate() {
        assert_eq!(response.status, 200);
        let limit = response.field("ratelimit").expect("a RateLimit field");
        assert!(limit.contains(&format!("r={}", 2 - at)), "{limit}");
        let policy = response
            .field("ratelimit-policy")
            .expect("a RateLimit-Policy field");
        assert!(
            policy.contains("q=3") && policy.contains("w=60"),
            "{policy}"
        );
    }
    let response = ask();
    assert_refused(&response, 429, "rate_limited", "the fourth");
    let seconds: u64 = response
        .field("retry-after")
        .and_then(|text| text.parse().ok())
        .expect("seconds");
    assert!(
        (1..=20).contains(&seconds),
        "one in twenty seconds: {seconds}"
    );
    assert!(response.keeps_open());
    assert_eq!(origin.requests().len(), 3);
    // Other paths are not limited.
    assert_eq!(gateway.get("a.test", "/").status, 200);
}

#[test]
fn a_burst_is_what_may_come_at_once() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ rate_limit: { rate: 1, per: 1m, burst: 5 } }");
    assert_eq!(passed(&statuses(&gateway, "a.test", "/route", "", 10)), 5);
}

#[test]
fn requests_pass_again_in_time() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ rate_limit: { rate: 10, per: 1s, burst: 1 } }");
    assert_eq!(gateway.get("a.test", "/route").status, 200);
    cardea_tests::wait::until_true("a request passes again", || {
        gateway.get("a.test", "/route").status == 200
    });
}

#[test]
fn counted_by_header() {
    let origin = Origin::echo();
    let gateway = on_route(
        &origin,
        "{ rate_limit: { rate: 2, per: 1m, by: { header: x-key } } }",
    );
    for key in ["X-Key: one\r\n", "x-key: two\r\n"] {
        assert_eq!(
            passed(&statuses(&gateway, "a.test", "/route", key, 5)),
            2,
            "{key}"
        );
    }
    // Those without one share.
    assert_eq!(passed(&statuses(&gateway, "a.test", "/route", "", 5)), 2);
}

#[test]
fn counted_by_client_and_by_route() {
    let origin = Origin::echo();
    let config = |by: &str| {
        format!(
            r#"
forwarding: {{ trusted_proxies: ["127.0.0.0/8"] }}
domains:
  - hosts: [a.test]
    policies: {{ rate_limit: {{ rate: 2, per: 1m, by: {by} }} }}
    routes: [{{ to: origin }}]
upstreams:
  origin: {{ endpoints: ["<origin>"] }}
"#
        )
    };
    let check = |by: &str, addresses: [&str; 2], expected: [usize; 2]| {
        let gateway = Gateway::start(&config(by), &[("origin", &origin.address())]);
        let found = addresses.map(|address| {
            let lines = format!("X-Forwarded-For: {address}\r\n");
            passed(&statuses(&gateway, "a.test", "/", &lines, 4))
        });
        assert_eq!(found, expected, "{by} {addresses:?}");
    };
    check("client_ip", ["192.0.2.1", "192.0.2.2"], [2, 2]);
    check("client_ip", ["192.0.2.1", "192.0.2.1"], [2, 0]);
    // Whoever has one IPv6 address has 2^64 of them.
    check("client_ip", ["2001:db8::1", "2001:db8::2"], [2, 0]);
    check("client_ip", ["2001:db8::1", "2001:db8:0:1::1"], [2, 2]);
    check("route", ["192.0.2.1", "192.0.2.2"], [2, 0]);
}

#[test]
fn every_level_counts() {
    let origin = Origin::echo();
    let limit = |rate: u32| format!("{{ rate_limit: {{ rate: {rate}, per: 1m }} }}");
    let gateway = levels(&origin, &limit(10), &limit(6), &limit(2));
    assert_eq!(passed(&statuses(&gateway, "a.test", "/route", "", 4)), 2);
    // What was refused by the route costs the domain as much as it was asked.
    let domain = passed(&statuses(&gateway, "a.test", "/", "", 8));
    assert!(
        (2..=4).contains(&domain),
        "{domain} passed the domain's limit"
    );
    let rest = passed(&statuses(&gateway, "b.test", "/", "", 12));
    assert!(rest < 10, "{rest} passed the gateway's limit");
}

#[test]
fn several_limits_at_once() {
    let origin = Origin::echo();
    let gateway = on_route(
        &origin,
        "{ rate_limit: [{ rate: 100, per: 1s }, { rate: 3, per: 1h }], header_edits: {} }",
    );
    assert_eq!(passed(&statuses(&gateway, "a.test", "/route", "", 6)), 3);
}

#[test]
fn the_status_can_be_chosen() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ rate_limit: { rate: 1, per: 1m, status: 503 } }");
    assert_eq!(statuses(&gateway, "a.test", "/route", "", 2), [200, 503]);
}

#[test]
fn memory_is_bounded() {
    let origin = Origin::echo();
    let gateway = on_route(
        &origin,
        "{ rate_limit: { rate: 1, per: 1h, by: { header: x-key }, entries_max: 100 } }",
    );
    let mut client = gateway.client();
    for key in 0..2000 {
        let response = client.ask(get("a.test", "/route", &format!("X-Key: {key}\r\n")));
        assert_eq!(
            response.status, 200,
            "{key}: a key must not be refused for others"
        );
    }
    assert_eq!(
        client
            .ask(get("a.test", "/route", "X-Key: 1999\r\n"))
            .status,
        429
    );
}

#[test]
fn all_workers_count_together() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ rate_limit: { rate: 20, per: 1h } }");
    // A connection each, so that every worker gets some.
    let statuses: Vec<u16> = (0..60)
        .map(|_| gateway.get("a.test", "/route").status)
        .collect();
    assert_eq!(passed(&statuses), 20);
}

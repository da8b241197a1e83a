//! `header_edits`: of requests and of responses; all levels apply, the most specific last.

use cardea_tests::{Origin, origin};

use super::{levels, on_route};
use crate::fixture::{assert_refused, get};

#[test]
fn requests_are_edited_on_their_way_up() {
    let origin = Origin::echo();
    let gateway = on_route(
        &origin,
        "{ header_edits: { request: { remove: [x-gone, COOKIE], set: { x-set: new }, add: { x-more: two } } } }",
    );
    let lines =
        "X-Gone: 1\r\nx-gone: 2\r\nCookie: a\r\nX-Set: old\r\nX-Set: older\r\nX-More: one\r\n";
    assert_eq!(gateway.ask(get("a.test", "/route", lines)).status, 200);
    let seen = origin.only_request();
    assert!(
        !seen.fields.has("x-gone") && !seen.fields.has("cookie"),
        "{}",
        seen.head
    );
    assert_eq!(seen.fields.all("x-set"), ["new"]);
    assert_eq!(seen.fields.all("x-more"), ["one", "two"]);
    // Elsewhere nothing changes.
    gateway.ask(get("a.test", "/", lines));
    assert_eq!(origin.last_request().fields.all("x-set"), ["old", "older"]);
}

#[test]
fn responses_are_edited_on_their_way_down() {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Set: old\r\nContent-Length: 2\r\n\r\nhi",
    ));
    let gateway = on_route(
        &origin,
        "{ header_edits: { response: { remove: [server], set: { x-set: new, strict-transport-security: max-age=60 } } } }",
    );
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("a.test", "/route");
        assert_eq!(response.text(), "hi");
        assert!(!response.fields.has("server"), "{response:?}");
        assert_eq!(response.fields.all("x-set"), ["new"]);
        assert_eq!(
            response.field("strict-transport-security"),
            Some("max-age=60")
        );
    }
}

#[test]
fn all_levels_apply_and_the_most_specific_has_the_last_word() {
    let origin = Origin::echo();
    let edits = |name: &str| {
        format!(
            "{{ header_edits: {{ request: {{ set: {{ x-who: {name}, x-{name}: y }}, add: {{ x-all: {name} }} }} }} }}"
        )
    };
    let gateway = levels(
        &origin,
        &edits("gateway"),
        &edits("domain"),
        &edits("route"),
    );
    let check = |host: &str, path: &str, who: &str, all: &[&str]| {
        gateway.get(host, path);
        let seen = origin.last_request();
        assert_eq!(seen.field("x-who"), Some(who), "{host}{path}");
        assert_eq!(seen.fields.all("x-all"), all, "{host}{path}");
        for name in all {
            assert!(seen.fields.has(&format!("x-{name}")), "{host}{path} {name}");
        }
    };
    check("a.test", "/route", "route", &["gateway", "domain", "route"]);
    check("a.test", "/", "domain", &["gateway", "domain"]);
    check("b.test", "/", "gateway", &["gateway"]);
}

#[test]
fn the_gateways_own_responses_are_edited_too() {
    let mut origin = Origin::echo();
    let gateway = on_route(
        &origin,
        "{ header_edits: { response: { set: { x-frame-options: DENY } } } }",
    );
    origin.stop();
    let response = gateway.get("a.test", "/route");
    assert_refused(
        &response,
        502,
        "upstream_connect_failed",
        "a stopped origin",
    );
    assert_eq!(response.field("x-frame-options"), Some("DENY"));
}

#[test]
fn values_may_come_from_the_environment_or_a_file() {
    let origin = Origin::echo();
    let site = cardea_tests::gateway::Site::new();
    site.write("token", "from-a-file\n");
    let config = r#"
domains:
  - hosts: [a.test]
    policies: { header_edits: { request: { set: { x-token: "Bearer ${file:token}", x-path: "${env:PATH}" } } } }
    routes: [{ to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;
    let gateway = site.start(config, &[("origin", &origin.address())]);
    gateway.get("a.test", "/");
    let seen = origin.only_request();
    assert_eq!(seen.field("x-token"), Some("Bearer from-a-file"));
    assert_eq!(seen.field("x-path"), std::env::var("PATH").ok().as_deref());
    // Secrets stay secret.
    let shown = gateway.admin("GET", "/config").text();
    assert!(!shown.contains("from-a-file"), "{shown}");
}

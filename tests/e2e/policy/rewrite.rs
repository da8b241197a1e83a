//! `rewrite`: what the origin is asked for instead of what the client asked for.

use cardea_tests::{Gateway, Origin};

use super::{levels, on_route};
use crate::fixture::{assert_refused, get};

/// Asserts what an origin is asked for.
#[track_caller]
fn check(rewrite: &str, target: &str, expected: &str) {
    let origin = Origin::echo();
    let gateway = on_route(&origin, &format!("{{ rewrite: {rewrite} }}"));
    let response = gateway.ask(get("a.test", target, ""));
    assert_eq!(
        response.status,
        200,
        "{rewrite} {target}: {}",
        response.text()
    );
    assert_eq!(origin.only_request().target, expected, "{rewrite} {target}");
}

#[test]
fn prefixes() {
    check(
        "{ path: { replace_prefix: /new } }",
        "/route/x?y=1",
        "/new/x?y=1",
    );
    check("{ path: { replace_prefix: /new/ } }", "/route/x", "/new/x");
    check("{ path: { replace_prefix: /new } }", "/route", "/new");
    check("{ path: { replace_prefix: / } }", "/route/x", "/x");
    check("{ path: { replace_prefix: / } }", "/route", "/");
    check("{ path: { replace_prefix: / } }", "/route/", "/");
}

#[test]
fn the_prefix_that_matched_is_replaced() {
    let origin = Origin::echo();
    let config = r#"
domains:
  - hosts: [a.test]
    routes:
      - match:
          - { path: { prefix: /a }, methods: [GET] }
          - { path: { prefix: /a/b }, methods: [POST] }
          - { path: { prefix: /café } }
        policies: { rewrite: { path: { replace_prefix: /ü } } }
        to: origin
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;
    let gateway = Gateway::start(config, &[("origin", &origin.address())]);
    let check = |target: &str, expected: &str| {
        assert_eq!(gateway.ask(get("a.test", target, "")).status, 200);
        assert_eq!(origin.last_request().target, expected, "{target}");
    };
    // The longer prefix is another method's.
    check("/a/b/x", "/%C3%BC/b/x");
    // Written by hand, and as clients send it.
    check("/caf%C3%A9/x", "/%C3%BC/x");
}

#[test]
fn whole_paths() {
    check(
        "{ path: { replace_full: /index.html } }",
        "/route/x?y",
        "/index.html?y",
    );
}

#[test]
fn patterns_with_captures() {
    let rewrite = "{ path: { regex: { pattern: \"^/route/(?<user>[^/]+)/(.*)$\", replacement: \"/u/$2/${user}\" } } }";
    check(rewrite, "/route/ann/posts/7", "/u/posts/7/ann");
    check(rewrite, "/route/ann", "/route/ann");
    check(
        "{ path: { regex: { pattern: o, replacement: \"0\" } } }",
        "/route/foo",
        "/r0ute/f00",
    );
}

#[test]
fn hosts() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ rewrite: { host: internal.test } }");
    gateway.get("a.test", "/route");
    let seen = origin.only_request();
    assert_eq!(seen.fields.all("host"), ["internal.test"]);
    // What the client asked for is not forgotten.
    assert_eq!(seen.field("x-forwarded-host"), Some("a.test"));
}

#[test]
fn a_capture_cannot_smuggle() {
    let origin = Origin::echo();
    let gateway = on_route(
        &origin,
        "{ rewrite: { path: { regex: { pattern: \"^/route/(.*)$\", replacement: \"/files/$1/../../$1\" } } } }",
    );
    // What a rewrite makes is normalised like what a client sends.
    gateway.get("a.test", "/route/x");
    assert_eq!(origin.last_request().target, "/x");
    let response = gateway.get("a.test", "/route/x/%2e%2e/%2e%2e/%2e%2e/etc");
    assert!(matches!(response.status, 400 | 404), "{response:?}");
    assert_refused(
        &gateway.get("a.test", "/route/%0d%0a"),
        400,
        "path_invalid",
        "CR LF",
    );
}

#[test]
fn the_most_specific_level_wins() {
    let origin = Origin::echo();
    let to = |name: &str| format!("{{ rewrite: {{ path: {{ replace_full: /{name} }} }} }}");
    let gateway = levels(&origin, &to("gateway"), &to("domain"), &to("route"));
    for (host, path, name) in [
        ("a.test", "/route", "/route"),
        ("a.test", "/", "/domain"),
        ("b.test", "/", "/gateway"),
    ] {
        gateway.get(host, path);
        assert_eq!(origin.last_request().target, name, "{host}{path}");
    }
}

//! `cors`: preflights are answered by the gateway, responses carry what the browser has to know.

use cardea_tests::{Gateway, Origin, Response, origin};

use super::{levels, on_route};
use crate::fixture::get;

const POLICY: &str = "{ cors: { allow_origins: [\"https://app.test\", \"https://*.b.test\"], \
    allow_methods: [GET, PUT], allow_headers: [x-one, x-two], expose_headers: [x-shown], \
    allow_credentials: true, max_age: 5m } }";

fn preflight(gateway: &Gateway, from: &str, method: &str, headers: &str) -> Response {
    let headers = match headers {
        "" => String::new(),
        names => format!("Access-Control-Request-Headers: {names}\r\n"),
    };
    gateway.ask(format!(
        "OPTIONS /route HTTP/1.1\r\nHost: a.test\r\nOrigin: {from}\r\n\
         Access-Control-Request-Method: {method}\r\n{headers}\r\n"
    ))
}

#[test]
fn a_preflight_is_answered_by_the_gateway() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, POLICY);
    let response = preflight(&gateway, "https://app.test", "PUT", "x-one,X-Two");
    assert!(matches!(response.status, 200 | 204), "{response:?}");
    assert_eq!(
        response.field("access-control-allow-origin"),
        Some("https://app.test")
    );
    assert!(
        response.fields.lists("access-control-allow-methods", "PUT"),
        "{response:?}"
    );
    assert!(
        response
            .fields
            .lists("access-control-allow-headers", "x-one"),
        "{response:?}"
    );
    assert_eq!(
        response.field("access-control-allow-credentials"),
        Some("true")
    );
    assert_eq!(response.field("access-control-max-age"), Some("300"));
    assert!(response.fields.lists("vary", "origin"), "{response:?}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_stranger_gets_no_permission() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, POLICY);
    for from in [
        "https://evil.test",
        "http://app.test",
        "https://app.test.evil.test",
        "https://b.test",
        "null",
    ] {
        let response = preflight(&gateway, from, "PUT", "");
        assert!(
            !response.fields.has("access-control-allow-origin"),
            "{from}: {response:?}"
        );
        let response = gateway.ask(get("a.test", "/route", &format!("Origin: {from}\r\n")));
        assert!(
            !response.fields.has("access-control-allow-origin"),
            "{from}: {response:?}"
        );
    }
    let response = preflight(&gateway, "https://app.test", "DELETE", "");
    assert!(
        !response
            .fields
            .lists("access-control-allow-methods", "DELETE"),
        "{response:?}"
    );
}

#[test]
fn a_response_carries_what_the_browser_has_to_know() {
    // The origin's own opinion is replaced.
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\nContent-Length: 0\r\n\r\n",
    ));
    let gateway = on_route(&origin, POLICY);
    for from in ["https://app.test", "https://x.b.test", "https://x.y.b.test"] {
        let response = gateway.ask(get("a.test", "/route", &format!("Origin: {from}\r\n")));
        assert_eq!(response.field("access-control-allow-origin"), Some(from));
        assert_eq!(
            response.field("access-control-allow-credentials"),
            Some("true")
        );
        assert!(
            response
                .fields
                .lists("access-control-expose-headers", "x-shown")
        );
        assert!(response.fields.lists("vary", "origin") && response.fields.lists("vary", "accept"));
    }
}

#[test]
fn any_origin() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ cors: { allow_origins: [\"*\"] } }");
    let response = gateway.ask(get("a.test", "/route", "Origin: https://x.test\r\n"));
    assert_eq!(response.field("access-control-allow-origin"), Some("*"));
    assert!(
        !response.fields.has("access-control-allow-credentials"),
        "{response:?}"
    );
    let response = preflight(&gateway, "https://x.test", "POST", "x-anything");
    assert!(
        response
            .fields
            .lists("access-control-allow-headers", "x-anything"),
        "{response:?}"
    );
}

#[test]
fn an_options_that_is_no_preflight_goes_to_the_origin() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, POLICY);
    let response =
        gateway.ask("OPTIONS /route HTTP/1.1\r\nHost: a.test\r\nOrigin: https://app.test\r\n\r\n");
    assert_eq!(
        (response.status, &response.json()["method"]),
        (200, &"OPTIONS".into())
    );
}

#[test]
fn errors_of_the_gateway_can_be_read_by_the_browser() {
    let mut origin = Origin::echo();
    let gateway = on_route(&origin, POLICY);
    origin.stop();
    let response = gateway.ask(get("a.test", "/route", "Origin: https://app.test\r\n"));
    assert_eq!(response.status, 502);
    assert_eq!(
        response.field("access-control-allow-origin"),
        Some("https://app.test")
    );
}

#[test]
fn the_most_specific_level_wins() {
    let origin = Origin::echo();
    let cors = |name: &str| format!("{{ cors: {{ allow_origins: [\"https://{name}.test\"] }} }}");
    let gateway = levels(&origin, &cors("gateway"), &cors("domain"), &cors("route"));
    for (host, path, name) in [
        ("a.test", "/route", "route"),
        ("a.test", "/", "domain"),
        ("b.test", "/", "gateway"),
    ] {
        for candidate in ["route", "domain", "gateway"] {
            let from = format!("Origin: https://{candidate}.test\r\n");
            let response = gateway.ask(get(host, path, &from));
            let is_allowed = response.fields.has("access-control-allow-origin");
            assert_eq!(is_allowed, candidate == name, "{host}{path} {candidate}");
        }
    }
}

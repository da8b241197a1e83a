//! `redirect`: what is not set stays as the client asked.

use cardea_tests::{Gateway, Origin};

use super::{levels, on_route};
use crate::fixture::{assert_refused, get};

/// Asserts where a redirect sends a client.
#[track_caller]
fn check(redirect: &str, target: &str, status: u16, location: &str) {
    let origin = Origin::echo();
    let gateway = on_route(&origin, &format!("{{ redirect: {redirect} }}"));
    let response = gateway.ask(get("a.test:8080", target, ""));
    let found = (
        response.status,
        response.field("location"),
        response.reason(),
    );
    assert_eq!(
        found,
        (status, Some(location), Some("redirected")),
        "{redirect} {target}"
    );
    assert_eq!(origin.connections(), 0);
}

#[test]
fn parts_of_a_location() {
    check(
        "{ scheme: https }",
        "/route/x?y=1",
        308,
        "https://a.test/route/x?y=1",
    );
    check(
        "{ scheme: https, port: 8443 }",
        "/route",
        308,
        "https://a.test:8443/route",
    );
    check(
        "{ scheme: https, port: 443 }",
        "/route",
        308,
        "https://a.test/route",
    );
    check(
        "{ host: b.test }",
        "/route",
        308,
        "http://b.test:8080/route",
    );
    check(
        "{ host: b.test, port: 80 }",
        "/route",
        308,
        "http://b.test/route",
    );
    check(
        "{ path: { replace_full: /new } }",
        "/route/x?y",
        308,
        "http://a.test:8080/new?y",
    );
    check(
        "{ path: { replace_prefix: /new } }",
        "/route/x",
        308,
        "http://a.test:8080/new/x",
    );
    check(
        "{ path: { replace_prefix: / } }",
        "/route/x",
        308,
        "http://a.test:8080/x",
    );
    check(
        "{ path: { regex: { pattern: \"^/route/([a-z]+)/(?<id>[0-9]+)$\", replacement: \"/${id}/$1\" } } }",
        "/route/x/7",
        308,
        "http://a.test:8080/7/x",
    );
}

#[test]
fn statuses() {
    for status in [301, 302, 303, 307, 308] {
        // As a number and as a string.
        for written in [status.to_string(), format!("\"{status}\"")] {
            let redirect = format!("{{ scheme: https, status: {written} }}");
            check(&redirect, "/route", status, "https://a.test/route");
        }
    }
}

#[test]
fn a_location_cannot_be_broken_out_of() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ redirect: { scheme: https } }");
    let response = gateway.get("a.test", "/route/%0d%0aX:y");
    assert_refused(&response, 400, "path_invalid", "CR LF in a path");
    assert!(!response.fields.has("location"), "{response:?}");
}

#[test]
fn the_most_specific_level_wins() {
    let origin = Origin::echo();
    let to = |name: &str| format!("{{ redirect: {{ host: {name}.test, port: 80 }} }}");
    let gateway: Gateway = levels(&origin, &to("gateway"), &to("domain"), &to("route"));
    for (host, path, name) in [
        ("a.test", "/route", "route"),
        ("a.test", "/", "domain"),
        ("b.test", "/", "gateway"),
    ] {
        let location = format!("http://{name}.test{path}");
        assert_eq!(
            gateway.get(host, path).field("location"),
            Some(location.as_str())
        );
    }
}

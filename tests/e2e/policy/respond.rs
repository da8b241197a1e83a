//! `respond`: a fixed answer, without an upstream.

use cardea_tests::{Gateway, Origin};

use super::levels;
use crate::fixture::post;

#[test]
fn a_fixed_answer() {
    let config = r#"
domains:
  - hosts: [a.test]
    routes:
      - policies: { respond: { status: 418, body: "${1} {{x}} %s", content_type: text/html, headers: { x-pot: tea, cache-control: max-age=5 } } }
"#;
    let gateway = Gateway::start(config, &[]);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("a.test", "/any/path");
        // A body has no templates.
        assert_eq!(
            (response.status, response.text().as_str()),
            (418, "${1} {{x}} %s")
        );
        assert_eq!(response.field("content-type"), Some("text/html"));
        assert_eq!(response.field("x-pot"), Some("tea"));
        assert_eq!(response.field("cache-control"), Some("max-age=5"));
    }
    let response = client.request("HEAD", "a.test", "/");
    assert_eq!((response.status, response.body.len()), (418, 0));
    let line = gateway.log_line("the exchange", |line| line["status"] == 418);
    assert_eq!(line["reason"], "answered");
}

#[test]
fn statuses_without_a_body() {
    let config = r#"
domains:
  - hosts: [a.test]
    routes: [{ policies: { respond: { status: 204 } } }]
"#;
    let gateway = Gateway::start(config, &[]);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("a.test", "/");
        assert_eq!(
            (response.status, response.field("content-length")),
            (204, None)
        );
    }
}

#[test]
fn a_request_body_is_no_hindrance() {
    let config =
        "domains: [{ hosts: [a.test], routes: [{ policies: { respond: { body: ok } } }] }]\n";
    let gateway = Gateway::start(config, &[]);
    let mut client = gateway.client();
    client.send(post("a.test", "/", "some body"));
    assert_eq!(client.response().text(), "ok");
    let (rest, _) = {
        client.half_close();
        client.take_rest()
    };
    assert_eq!(String::from_utf8_lossy(&rest), "", "the body is no request");
}

#[test]
fn the_most_specific_level_wins() {
    let origin = Origin::echo();
    let say = |name: &str| format!("{{ respond: {{ body: {name} }} }}");
    let gateway = levels(&origin, &say("gateway"), &say("domain"), &say("route"));
    for (host, path, name) in [
        ("a.test", "/route", "route"),
        ("a.test", "/", "domain"),
        ("b.test", "/", "gateway"),
    ] {
        assert_eq!(gateway.get(host, path).text(), name, "{host}{path}");
    }
    assert_eq!(origin.connections(), 0);
}

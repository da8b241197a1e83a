//! The gateway's own responses: a reason, a body for people or programs, and how a domain may dress
//! them.

use cardea_tests::{Gateway, Origin, Response};

use crate::fixture::{assert_refused, get, plain_with};

const DOMAINS: &str = r#"
responses:
  reason_header: x-cardea-reason
  pages:
    "404": { body: "<h1>Not here</h1>" }
    "5xx": { body: "our fault", content_type: text/plain }
    upstream_connect_failed: { body: "{\"sorry\":true}", content_type: application/json }
domains:
  - hosts: [plain.test]
    responses: { format: plain, server: off }
    routes: [{ match: [{ path: { exact: /down } }], to: down }]
  - hosts: [json.test]
    responses: { format: json, server: "front/1", pages: { "404": { body: "domain page", content_type: text/plain } } }
    routes: [{ match: [{ path: { exact: /down } }], to: down }]
  - hosts: [silent.test]
    responses: { reason_header: off }
    routes: [{ match: [{ path: { exact: /none } }], to: down }]
upstreams:
  down: { endpoints: ["127.0.0.1:9"] }
"#;

fn accepting(gateway: &Gateway, host: &str, path: &str, accept: &str) -> Response {
    let accept = if accept.is_empty() {
        String::new()
    } else {
        format!("Accept: {accept}\r\n")
    };
    gateway.ask(get(host, path, &accept))
}

#[test]
fn plain_text_or_json_as_the_client_likes() {
    let origin = Origin::echo();
    let gateway = plain_with(&origin, "");
    for (accept, content_type) in [
        ("", "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        (
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/plain; charset=utf-8",
        ),
        ("application/json", "application/problem+json"),
        ("application/problem+json", "application/problem+json"),
        (
            "application/json, text/plain;q=0.5",
            "application/problem+json",
        ),
    ] {
        let response = accepting(&gateway, "nobody.test", "/", accept);
        assert_refused(&response, 404, "domain_unknown", accept);
        assert_eq!(
            response.field("content-type"),
            Some(content_type),
            "{accept}"
        );
        assert_eq!(
            response.field("cache-control"),
            Some("no-store"),
            "{accept}"
        );
        assert_eq!(response.field("server"), Some("cardea"), "{accept}");
        if content_type.starts_with("application") {
            let body = response.json();
            assert_eq!(
                (&body["status"], &body["reason"]),
                (&404.into(), &"domain_unknown".into())
            );
            assert_eq!(body["title"], "Not Found");
        } else {
            let text = response.text();
            assert!(
                text.starts_with("404 Not Found\n") && text.contains("reason: domain_unknown"),
                "{text}"
            );
        }
    }
}

#[test]
fn what_a_client_sent_is_not_repeated() {
    let origin = Origin::echo();
    let gateway = plain_with(&origin, "");
    for host in ["<script>.test", "nobody.test"] {
        let response = gateway.ask(get(
            host,
            "/<script>alert(1)</script>",
            "Accept: text/html\r\n",
        ));
        assert!(!response.text().contains("<script>"), "{}", response.text());
    }
}

#[test]
fn pages_of_the_operators_own() {
    let gateway = Gateway::start(DOMAINS, &[]);
    let check = |host: &str, path: &str, status: u16, content_type: &str, body: &str| {
        let response = accepting(&gateway, host, path, "");
        let found = (
            response.status,
            response.field("content-type"),
            response.text(),
        );
        assert_eq!(
            found,
            (status, Some(content_type), body.to_owned()),
            "{host}{path}"
        );
    };
    check(
        "plain.test",
        "/",
        404,
        "text/html; charset=utf-8",
        "<h1>Not here</h1>",
    );
    check(
        "nobody.test",
        "/",
        404,
        "text/html; charset=utf-8",
        "<h1>Not here</h1>",
    );
    check(
        "plain.test",
        "/down",
        502,
        "application/json",
        "{\"sorry\":true}",
    );
    check("json.test", "/", 404, "text/plain", "domain page");
}

#[test]
fn a_domain_dresses_its_own() {
    // Without the page for all.
    let gateway = Gateway::start(
        &DOMAINS.replace("\"404\": { body: \"<h1>", "\"418\": { body: \"<h1>"),
        &[],
    );
    let response = accepting(&gateway, "plain.test", "/", "application/json");
    assert!(
        response.text().starts_with("404 Not Found\n"),
        "{}",
        response.text()
    );
    assert_eq!(response.field("server"), None);
    let response = accepting(&gateway, "json.test", "/down", "text/html");
    assert_eq!(response.field("server"), Some("front/1"));
    let response = accepting(&gateway, "silent.test", "/", "");
    assert_eq!((response.status, response.reason()), (404, None));
    let line = gateway.log_line("the exchange", |line| line["host"] == "silent.test");
    assert_eq!(line["reason"], "route_unknown");
}

#[test]
fn a_responses_server_is_the_origins() {
    let origin = Origin::serve(cardea_tests::origin::answering(
        "HTTP/1.1 404 Not Found\r\nServer: mine\r\nContent-Length: 5\r\n\r\nmine\n",
    ));
    let gateway = plain_with(&origin, "");
    let response = gateway.get("a.test", "/");
    // An origin's error is the origin's to word.
    assert_eq!(
        (response.field("server"), response.text().as_str()),
        (Some("mine"), "mine\n")
    );
    assert_eq!(response.reason(), None);
}

#[test]
fn responses_carry_a_date() {
    let origin = Origin::echo();
    let gateway = plain_with(&origin, "");
    let response = gateway.get("nobody.test", "/");
    let date = response.field("date").expect("a Date (RFC 9110 §6.6.1)");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
}

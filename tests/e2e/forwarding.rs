//! What origins are told about the client: overwritten unless a trusted proxy says so.

use cardea_tests::{Gateway, Origin, Request};

use crate::fixture::{get, plain, plain_with};

/// What an origin is told when a request with these lines comes through a gateway with this
/// `forwarding`.
#[track_caller]
fn told(forwarding: &str, lines: &str) -> (Request, Gateway) {
    let origin = Origin::echo();
    let gateway = plain_with(&origin, &format!("forwarding: {forwarding}\n"));
    let response = gateway.ask(get("a.test:8080", "/", lines));
    assert_eq!(response.status, 200, "{lines}");
    (origin.only_request(), gateway)
}

const CLAIMS: &str = "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-Proto: https\r\n\
                      X-Forwarded-Host: public.test\r\nX-Forwarded-Port: 443\r\n\
                      Forwarded: for=192.0.2.1;proto=https\r\n";

#[test]
fn the_client_is_told_to_the_origin() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.ask(get("A.Test:8080", "/", ""));
    let seen = origin.only_request();
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-forwarded-host"), Some("A.Test:8080"));
    assert_eq!(seen.field("x-forwarded-port"), Some("8080"));
    assert_eq!(seen.field("host"), Some("A.Test:8080"));
    assert!(!seen.fields.has("forwarded"));
}

#[test]
fn an_untrusted_peer_is_not_believed() {
    for trusted in ["[]", "[\"10.0.0.0/8\", \"::1/128\"]"] {
        let (seen, _gateway) = told(&format!("{{ trusted_proxies: {trusted} }}"), CLAIMS);
        assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
        assert_eq!(seen.field("x-forwarded-host"), Some("a.test:8080"));
        assert!(!seen.fields.has("forwarded"), "{}", seen.head);
    }
}

#[test]
fn a_trusted_peer_is_continued() {
    let (seen, _gateway) = told("{ trusted_proxies: [\"127.0.0.0/8\"] }", CLAIMS);
    assert_eq!(
        seen.field("x-forwarded-for"),
        Some("192.0.2.1, 192.0.2.2, 127.0.0.1")
    );
    assert_eq!(seen.field("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.field("x-forwarded-host"), Some("public.test"));
    assert_eq!(seen.field("x-forwarded-port"), Some("443"));
}

#[test]
fn the_client_behind_trusted_proxies_is_the_last_untrusted_hop() {
    let check = |lines: &str, expected: &str| {
        let trusted = "{ trusted_proxies: [\"127.0.0.0/8\", \"192.0.2.0/24\"] }";
        let (_, gateway) = told(trusted, lines);
        let line = gateway.log_line("the exchange", |line| line["status"] == 200);
        assert_eq!(line["client"], expected, "{lines}");
    };
    check("", "127.0.0.1");
    check("X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7");
    check(
        "X-Forwarded-For: 203.0.113.9, 198.51.100.7, 192.0.2.5\r\n",
        "198.51.100.7",
    );
    check(
        "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.7\r\n",
        "198.51.100.7",
    );
    check("X-Forwarded-For: 192.0.2.4, 192.0.2.5\r\n", "192.0.2.4");
    check("X-Forwarded-For: 203.0.113.9, unknown\r\n", "127.0.0.1");
    check("X-Forwarded-For: [2001:db8::1]:80\r\n", "2001:db8::1");
}

#[test]
fn the_forwarded_field() {
    let (seen, _gateway) = told("{ forwarded: forwarded }", CLAIMS);
    let forwarded = seen
        .field("forwarded")
        .expect("a Forwarded field")
        .to_owned();
    assert_eq!(forwarded, "for=127.0.0.1;host=\"a.test:8080\";proto=http");
    assert!(!seen.head.contains("192.0.2."), "{}", seen.head);
    let trusted = "{ forwarded: forwarded, trusted_proxies: [\"127.0.0.0/8\"] }";
    let (seen, _gateway) = told(trusted, "Forwarded: for=192.0.2.1;proto=https\r\n");
    let forwarded = seen
        .field("forwarded")
        .expect("a Forwarded field")
        .to_owned();
    assert!(
        forwarded.starts_with("for=192.0.2.1;proto=https, for=127.0.0.1;"),
        "{forwarded}"
    );
}

#[test]
fn both_or_none() {
    let (seen, _gateway) = told("{ forwarded: both }", "");
    assert!(
        seen.fields.has("forwarded") && seen.fields.has("x-forwarded-for"),
        "{}",
        seen.head
    );
    let (seen, _gateway) = told("{ forwarded: off }", CLAIMS);
    for name in [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
    ] {
        assert!(!seen.fields.has(name), "{name}: {}", seen.head);
    }
}

#[test]
fn request_ids() {
    let chosen = "X-Request-Id: mine-1\r\n";
    let check = |forwarding: &str, name: &str, lines: &str, is_kept: bool| {
        let (seen, gateway) = told(forwarding, lines);
        let id = seen.field(name).expect("a request id").to_owned();
        assert_eq!(id == "mine-1", is_kept, "{forwarding}: {id}");
        assert!(
            is_kept || (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())),
            "{id}"
        );
        let line = gateway.log_line("the exchange", |line| line["status"] == 200);
        assert_eq!(line["request_id"], id.as_str());
    };
    check("{}", "x-request-id", "", false);
    check("{}", "x-request-id", chosen, false);
    check(
        "{ trusted_proxies: [\"127.0.0.1/32\"] }",
        "x-request-id",
        chosen,
        true,
    );
    check(
        "{ request_id: { accept: always } }",
        "x-request-id",
        chosen,
        true,
    );
    check(
        "{ request_id: { accept: never }, trusted_proxies: [\"127.0.0.1/32\"] }",
        "x-request-id",
        chosen,
        false,
    );
    check(
        "{ request_id: { header: x-trace } }",
        "x-trace",
        chosen,
        false,
    );
    // What could do harm in a log or a header is no id.
    for odd in ["a b", "a\"b", "<a>", &"x".repeat(300)] {
        let lines = format!("X-Request-Id: {odd}\r\n");
        check(
            "{ request_id: { accept: always } }",
            "x-request-id",
            &lines,
            false,
        );
    }
}

#[test]
fn request_ids_differ_and_can_be_switched_off() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    for _ in 0..20 {
        gateway.get("a.test", "/");
    }
    let ids: std::collections::BTreeSet<_> = origin
        .requests()
        .iter()
        .filter_map(|seen| seen.field("x-request-id").map(str::to_owned))
        .collect();
    assert_eq!(ids.len(), 20);
    let (seen, _gateway) = told("{ request_id: off }", "");
    assert!(!seen.fields.has("x-request-id"), "{}", seen.head);
}

#[test]
fn errors_show_the_request_id() {
    let origin = Origin::echo();
    let gateway = plain_with(&origin, "forwarding: { request_id: { accept: always } }\n");
    let response = gateway.ask(get(
        "nobody.test",
        "/",
        "X-Request-Id: quote-me\r\nAccept: application/json\r\n",
    ));
    assert_eq!(response.json()["request_id"], "quote-me");
    let response = gateway.ask(get("nobody.test", "/", "X-Request-Id: quote-me\r\n"));
    assert!(response.text().contains("quote-me"), "{}", response.text());
}

#[test]
fn clients_over_ipv6() {
    let origin = Origin::echo();
    let sections =
        "listeners: [{ name: web, bind: [\"[::1]:0\"] }]\nforwarding: { forwarded: both }\n";
    let gateway = plain_with(&origin, sections);
    gateway.get("a.test", "/");
    let seen = origin.only_request();
    assert_eq!(seen.field("x-forwarded-for"), Some("::1"));
    assert!(
        seen.field("forwarded")
            .is_some_and(|value| value.contains("for=\"[::1]\"")),
        "{}",
        seen.head
    );
}

//! HTTP/1.0 clients get what 1.0 allows, and what the versions say about persistence is kept.

use cardea_tests::{Gateway, Origin, origin};

use crate::fixture::{get, plain};

fn chunking() -> (Origin, Gateway) {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: u\r\n\r\n",
    ));
    let gateway = plain(&origin);
    (origin, gateway)
}

#[test]
fn http_1_0_gets_no_chunks() {
    let (origin, gateway) = chunking();
    let mut client = gateway.client();
    let response = client.ask("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(response.text(), "hi");
    assert!(!response.fields.has("transfer-encoding"), "{response:?}");
    // A body of unknown length ends with the connection, whatever the client asked for.
    client.assert_closed();
    assert_eq!(origin.only_request().version, "HTTP/1.1");
}

#[test]
fn http_1_0_closes_unless_it_asks_not_to() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    assert_eq!(
        client.ask("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").status,
        200
    );
    client.assert_closed();
    let before = origin.connections();
    let mut client = gateway.client();
    let keeping = "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n";
    for _ in 0..3 {
        let response = client.ask(keeping);
        assert!(
            response.fields.lists("connection", "keep-alive"),
            "{response:?}"
        );
    }
    assert!(
        origin.connections() <= before + 1,
        "{}",
        origin.connections()
    );
}

#[test]
fn http_1_0_without_a_host_goes_to_the_default_domain() {
    let origin = Origin::echo();
    let config = r#"
domains:
  - { name: fallback, hosts: [a.test], default: true, routes: [{ to: origin }] }
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;
    let gateway = Gateway::start(config, &[("origin", &origin.address())]);
    assert_eq!(gateway.ask("GET / HTTP/1.0\r\n\r\n").status, 200);
    // An HTTP/1.1 request has a Host, even if it is empty (RFC 9112 section 3.2).
    assert!(origin.only_request().fields.has("host"));
    let other = plain(&origin);
    let response = other.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(
        (response.status, response.reason()),
        (404, Some("domain_unknown"))
    );
}

#[test]
fn http_1_0_is_not_told_to_continue() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let request =
        "POST / HTTP/1.0\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi";
    let response = gateway.ask(request);
    assert_eq!((response.status, response.interim.len()), (200, 0));
}

#[test]
fn http_1_1_closes_when_asked_to() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let response = client.ask(get("a.test", "/", "Connection: close\r\n"));
    assert!(!response.keeps_open(), "{response:?}");
    client.assert_closed();
    // The client's wish is no order to the origin.
    assert!(!origin.only_request().fields.lists("connection", "close"));
}

#[test]
fn an_origin_that_speaks_http_1_0() {
    let origin = Origin::serve(origin::answering_once(
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ));
    let gateway = plain(&origin);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("a.test", "/");
        assert_eq!(
            (response.version.as_str(), response.text().as_str()),
            ("HTTP/1.1", "hi")
        );
        assert!(response.keeps_open());
    }
    assert_eq!(
        origin.connections(),
        2,
        "HTTP/1.0 without keep-alive ends the connection"
    );
}

#[test]
fn a_later_minor_version_is_read_as_1_1() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let response = client.ask("GET / HTTP/1.9\r\nHost: a.test\r\n\r\n");
    assert_eq!(
        (response.status, response.version.as_str()),
        (200, "HTTP/1.1")
    );
    assert_eq!(origin.only_request().version, "HTTP/1.1");
}

//! Requests of HTTP/1.1 that have their connection go on in HTTP/2 (`Upgrade: h2c`), where a listener is
//! told to take that.

use cardea_tests::http2::{self, code, request};
use cardea_tests::process::{command, run};
use cardea_tests::tool::curl;
use cardea_tests::{Client, Gateway, Origin};

use crate::fixture::get;

const ASKS: &str =
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";

fn gateway(origin: &Origin) -> Gateway {
    let config = r#"
listeners:
  - { name: web, bind: ["127.0.0.1:0"], http2: { upgrade: true } }
domains: [{ hosts: [a.test], routes: [{ to: origin }] }]
upstreams: { origin: { endpoints: ["<origin>"] } }
"#;
    Gateway::start(config, &[("origin", &origin.address())])
}

/// A connection that has gone on in HTTP/2 with this request.
fn upgraded(gateway: &Gateway, request: &str) -> http2::Client {
    let mut client = gateway.client();
    client.send(request);
    let switched = client.response();
    assert_eq!(switched.status, 101);
    assert_eq!(switched.field("upgrade"), Some("h2c"));
    let mut client = http2::Client::over(client, &[]);
    assert_eq!(client.new_stream(), 1, "the request is the first stream");
    client
}

#[test]
fn a_request_goes_on_as_the_first_stream() {
    let origin = Origin::echo();
    let gateway = gateway(&origin);
    let mut client = upgraded(&gateway, &get("a.test", "/first", ASKS));
    let response = client.response(1);
    assert_eq!(response.status, 200);
    assert_eq!(response.json()["target"], "/first");
    let seen = origin.last_request();
    for name in ["upgrade", "http2-settings", "connection"] {
        assert!(!seen.fields.has(name), "{}", seen.head);
    }
    let next = client.ask(&request("GET", "a.test", "/second"));
    assert_eq!(
        (next.status, next.json()["target"].as_str()),
        (200, Some("/second"))
    );
    let line = gateway.log_line("the first", |line| line["path"] == "/first");
    assert_eq!(line["protocol"], "HTTP/2.0");
    // A later request on a connection may ask for it as well.
    let mut later = gateway.client();
    assert_eq!(later.get("a.test", "/").status, 200);
    later.send(get("a.test", "/", ASKS));
    assert_eq!(later.response().status, 101);
}

#[test]
fn curl_and_nghttp_upgrade() {
    let origin = Origin::echo();
    let gateway = gateway(&origin);
    let address = gateway.listener("web");
    let (first, second) = (format!("http://{address}/1"), format!("http://{address}/2"));
    let said = curl(&[
        "--http2",
        "-H",
        "Host: a.test",
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{http_code} %{num_connects}\n",
        &first,
        &second,
    ]);
    assert_eq!(said.stdout, "2 200 1\n2 200 0\n", "{said:?}");
    let said = run(&mut command(
        "nghttp",
        &["-u", "-v", "-H", "host: a.test", &first],
    ));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.stdout.contains("HTTP Upgrade success"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains(":status: 200"), "{}", said.stdout);
}

#[test]
fn what_cannot_be_upgraded_is_served_as_it_is() {
    let origin = Origin::echo();
    let gateway = gateway(&origin);
    let body = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n";
    for ask in [
        format!("{body}{ASKS}\r\nhello"),
        get("a.test", "/", &ASKS.replace("AAMAAABkAAQAAP__", "!")),
        get(
            "a.test",
            "/",
            &format!("{ASKS}HTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        ),
        get("a.test", "/", &ASKS.replace(", HTTP2-Settings", "")),
        get(
            "a.test",
            "/",
            &ASKS.replace("Upgrade: h2c", "Upgrade: h2c, websocket"),
        ),
    ] {
        let response = gateway.ask(&ask);
        assert_eq!(response.status, 200, "{ask}");
        let seen = origin.last_request();
        assert!(!seen.fields.has("upgrade"), "{}", seen.head);
        assert!(!seen.fields.has("http2-settings"), "{}", seen.head);
    }
}

#[test]
fn settings_that_break_a_rule_end_the_connection() {
    let origin = Origin::echo();
    let gateway = gateway(&origin);
    // INITIAL_WINDOW_SIZE above the largest there is.
    let ask = get("a.test", "/", &ASKS.replace("AAMAAABkAAQAAP__", "AASAAAAA"));
    upgraded(&gateway, &ask).assert_closed_with(code::FLOW_CONTROL_ERROR);
    assert!(origin.requests().is_empty());
}

/// What follows an upgrade is HTTP/2 or nothing: no way to pass requests by the rules of routes.
#[test]
fn nothing_is_smuggled_behind_an_upgrade() {
    let origin = Origin::echo();
    let gateway = gateway(&origin);
    let mut client: Client = gateway.client();
    let smuggled = get("a.test", "/smuggled", "");
    client.send(format!("{}{smuggled}", get("a.test", "/", ASKS)));
    assert_eq!(client.response().status, 101);
    client.into_wire().take_rest();
    let seen: Vec<_> = origin
        .requests()
        .iter()
        .map(|it| it.target.clone())
        .collect();
    assert!(seen.iter().all(|target| target == "/"), "{seen:?}");
}

#[test]
fn not_over_tls() {
    let secure = crate::certificates::Secure::start();
    let mut client = secure.client("a.test");
    client.send(get("a.test", "/", ASKS));
    assert_eq!(client.response().status, 200);
}

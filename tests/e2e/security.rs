//! The HTTP/1 attack classes of the threat table, one test or more for each row, under its name.
//! What is refused is refused with its reason, the connection ends, and the origin hears nothing.

use cardea_tests::{Client, Ending, Gateway, Origin, Request, Response, origin};

use crate::fixture::{self, assert_refused, get, plain, plain_with, post};

mod bodies;
mod paths;

/// A gateway whose own responses are plain text, one whose are JSON, and an origin behind both.
struct Refusals {
    origin: Origin,
    plain: Gateway,
    json: Gateway,
}

impl Refusals {
    fn start() -> Self {
        let origin = Origin::echo();
        let style = |format: &str| {
            format!("responses: {{ reason_header: x-cardea-reason, format: {format} }}\n")
        };
        let plain = plain_with(&origin, &style("plain"));
        let json = plain_with(&origin, &style("json"));
        Self {
            origin,
            plain,
            json,
        }
    }

    /// Sends a request that has to be refused, in one piece and with a second request behind it
    /// that must never be served.
    #[track_caller]
    fn check(&self, request: &str, status: u16, reason: &str) {
        let smuggled = format!("{request}{}", get("a.test", "/smuggled", ""));
        for bytes in [request, &smuggled] {
            let response = self.refuse(&self.plain, bytes, status, reason);
            let expected = format!("reason: {reason}\n");
            assert!(
                response.text().contains(&expected),
                "{request:?}: {}",
                response.text()
            );
        }
        let response = self.refuse(&self.json, request, status, reason);
        assert_eq!(
            response.field("content-type"),
            Some("application/problem+json")
        );
        let body = response.json();
        assert_eq!(body["reason"], reason, "{request:?}");
        assert_eq!(body["status"], status, "{request:?}");
        assert_eq!(self.origin.requests(), Vec::<Request>::new(), "{request:?}");
    }

    #[track_caller]
    fn refuse(&self, gateway: &Gateway, bytes: &str, status: u16, reason: &str) -> Response {
        let mut client = gateway.client();
        client.send(bytes);
        let response = client.response();
        assert_refused(&response, status, reason, &format!("{bytes:?}"));
        assert_eq!(response.field("connection"), Some("close"), "{bytes:?}");
        let (rest, ending) = client.take_rest();
        let rest = String::from_utf8_lossy(&rest);
        assert_eq!((&*rest, ending), ("", Ending::Eof), "after {bytes:?}");
        response
    }
}

/// A request with these header lines, and a body that either framing admits.
fn framed(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n0\r\n\r\n")
}

#[test]
fn cl_and_te_together() {
    let refusals = Refusals::start();
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "content-length: 5\r\ntransfer-encoding: CHUNKED\r\n",
    ] {
        refusals.check(&framed(lines), 400, "framing_conflict");
    }
}

#[test]
fn obfuscated_repeated_or_non_final_te() {
    let refusals = Refusals::start();
    for lines in [
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
    ] {
        refusals.check(&framed(lines), 400, "transfer_encoding_invalid");
    }
    for lines in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
    ] {
        refusals.check(&framed(lines), 501, "transfer_encoding_unsupported");
    }
    for lines in [
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "Transfer-Encoding: chu\x0bnked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "Transfer Encoding: chunked\r\n",
        "Transfer-Encoding\0: chunked\r\n",
    ] {
        refusals.check(&framed(lines), 400, "header_malformed");
    }
    refusals.check(
        &framed("Transfer_Encoding: chunked\r\n"),
        400,
        "header_underscore",
    );
}

#[test]
fn te_on_http_1_0() {
    let request = "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    Refusals::start().check(request, 400, "transfer_encoding_invalid");
}

#[test]
fn cl_repeated_empty_signed_hex_or_list() {
    let refusals = Refusals::start();
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,6\r\n",
        "Content-Length:\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5a\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 9223372036854775808\r\n",
    ] {
        refusals.check(&framed(lines), 400, "content_length_invalid");
    }
    refusals.check(&framed("Content-Length : 5\r\n"), 400, "header_malformed");
    refusals.check(&framed("Content_Length: 5\r\n"), 400, "header_underscore");
}

#[test]
fn bare_lf_or_cr() {
    let refusals = Refusals::start();
    for request in [
        "GET / HTTP/1.1\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\nC: d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\rC: d\r\n\r\n",
        "GET / HTTP/1.1\rHost: a.test\r\n\r\n",
    ] {
        refusals.check(request, 400, "line_ending_invalid");
    }
}

#[test]
fn nul_and_control_characters() {
    let refusals = Refusals::start();
    for lines in [
        "A: b\0c\r\n",
        "A\0: b\r\n",
        "A: b\x7fc\r\n",
        "A: \x01\r\n",
        "A\x0b: b\r\n",
    ] {
        refusals.check(&get("a.test", "/", lines), 400, "header_malformed");
    }
    for target in ["/\0", "/\x7f", "/\x0b"] {
        refusals.check(&get("a.test", target, ""), 400, "header_malformed");
    }
    refusals.check(&get("a.test", "/a\tb", ""), 400, "request_line_malformed");
}

#[test]
fn obs_fold() {
    let refusals = Refusals::start();
    for lines in [
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
        "A:\r\n b\r\n",
        "A: b\r\n \r\n",
    ] {
        refusals.check(&get("a.test", "/", lines), 400, "header_malformed");
    }
}

#[test]
fn space_before_colon_and_other_bad_names() {
    let refusals = Refusals::start();
    for lines in [
        "A : b\r\n",
        "A\t: b\r\n",
        ": b\r\n",
        "A\r\n",
        "A B: c\r\n",
        "A(: b\r\n",
        "Ä: b\r\n",
    ] {
        refusals.check(&get("a.test", "/", lines), 400, "header_malformed");
    }
    let first = "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n";
    refusals.check(first, 400, "header_malformed");
}

#[test]
fn missing_repeated_or_malformed_host() {
    let refusals = Refusals::start();
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test:80:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test:65536\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a..test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        refusals.check(request, 400, "host_invalid");
    }
}

#[test]
fn malformed_request_lines() {
    let refusals = Refusals::start();
    for request in [
        "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / http/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.10\r\nHost: a.test\r\n\r\n",
        "GET /\r\nHost: a.test\r\n\r\n",
        "GET HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "G\"T / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /#fragment HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        refusals.check(request, 400, "request_line_malformed");
    }
    refusals.check(
        "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n",
        505,
        "version_unsupported",
    );
}

#[test]
fn a_preface_where_http2_is_off_and_one_that_comes_late() {
    let origin = Origin::echo();
    let listeners = r#"
listeners:
  - { name: web, bind: ["127.0.0.1:0"], http2: { cleartext: false } }
"#;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let gateway = plain_with(&origin, listeners);
    let refusal = gateway.ask(preface);
    assert_refused(&refusal, 505, "version_unsupported", preface);
    // On a connection that has served HTTP/1.1 already it is a request like any other.
    let refusals = Refusals::start();
    let late = format!("{}{preface}", get("a.test", "/", ""));
    let mut client = refusals.plain.client();
    client.send(late);
    assert_eq!(client.response().status, 200);
    assert_refused(&client.response(), 505, "version_unsupported", preface);
}

#[test]
fn header_count_and_size() {
    let refusals = Refusals::start();
    let fields = |count: usize| "A: b\r\n".repeat(count);
    // Host is a field, too.
    refusals.check(&get("a.test", "/", &fields(100)), 431, "head_too_large");
    let long = format!("A: {}\r\n", "b".repeat(33 * 1024));
    refusals.check(&get("a.test", "/", &long), 431, "head_too_large");
    let unfinished = format!(
        "GET / HTTP/1.1\r\nHost: a.test\r\nA: {}",
        "b".repeat(40_000)
    );
    refusals.check(&unfinished, 431, "head_too_large");
    let response = refusals.plain.ask(get("a.test", "/", &fields(99)));
    assert_eq!(response.status, 200);
}

#[test]
fn header_limits_of_a_listener() {
    let origin = Origin::echo();
    let listeners = r#"
listeners:
  - name: web
    bind: ["127.0.0.1:0"]
    http: { head_bytes_max: 2KiB, field_count_max: 5, uri_bytes_max: 100 }
"#;
    let gateway = plain_with(&origin, listeners);
    let check = |request: String, status, reason| {
        assert_refused(&gateway.ask(&request), status, reason, &request);
    };
    check(
        get("a.test", "/", &"A: b\r\n".repeat(5)),
        431,
        "head_too_large",
    );
    let long = format!("A: {}\r\n", "b".repeat(2048));
    check(get("a.test", "/", &long), 431, "head_too_large");
    check(
        get("a.test", &format!("/{}", "a".repeat(100)), ""),
        414,
        "target_too_long",
    );
    let fits = get(
        "a.test",
        &format!("/{}", "a".repeat(99)),
        &"A: b\r\n".repeat(4),
    );
    assert_eq!(gateway.ask(fits).status, 200);
}

#[test]
fn uri_limit() {
    let refusals = Refusals::start();
    let target = format!("/{}", "a".repeat(8 * 1024));
    refusals.check(&get("a.test", &target, ""), 414, "target_too_long");
    let unfinished = format!("GET /{}", "a".repeat(20_000));
    refusals.check(&unfinished, 414, "target_too_long");
}

#[test]
fn a_method_that_nobody_has() {
    let refusals = Refusals::start();
    let request = format!("{} / HTTP/1.1\r\nHost: a.test\r\n\r\n", "A".repeat(33));
    refusals.check(&request, 501, "method_unknown");
    let response = refusals.plain.client().request("PROPFIND", "a.test", "/");
    assert_eq!(
        (response.status, &response.json()["method"]),
        (200, &"PROPFIND".into())
    );
}

#[test]
fn connect_and_trace() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    for request in [
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        let response = gateway.ask(request);
        assert_refused(&response, 405, "method_refused", request);
        assert!(response.fields.lists("allow", "GET"), "{request}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn hop_by_hop_abuse() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    for name in [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-request-id",
        "authorization",
        "cookie",
        "host",
    ] {
        let lines =
            format!("Connection: close, {name}\r\nAuthorization: Basic x\r\nCookie: a=b\r\n");
        let response = gateway.ask(get("a.test", "/", &lines));
        assert_eq!(response.status, 200, "{name}");
        let seen = origin.last_request();
        for kept in [name, "authorization", "cookie", "host"] {
            assert!(
                seen.fields.has(kept),
                "{kept} was stripped by naming {name}"
            );
        }
    }
}

#[test]
fn fields_of_one_connection_stay_there() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let lines = "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Connection: keep-alive\r\nTE: trailers\r\nX-Other: 2\r\n";
    assert_eq!(gateway.ask(get("a.test", "/", lines)).status, 200);
    let seen = origin.only_request();
    for gone in ["x-mine", "keep-alive", "proxy-connection"] {
        assert!(!seen.fields.has(gone), "{gone}: {}", seen.head);
    }
    assert_eq!(seen.field("x-other"), Some("2"));
}

#[test]
fn x_forwarded_spoofing() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let lines = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n\
                 X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
                 X-Forwarded-Port: 1\r\nForwarded: for=192.0.2.3\r\nX-Real-IP: 192.0.2.4\r\n\
                 X-Request-Id: chosen\r\n";
    gateway.ask(get("a.test", "/", lines));
    let seen = origin.only_request();
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-forwarded-host"), Some("a.test"));
    assert_eq!(seen.field("x-forwarded-port"), Some("80"));
    assert!(!seen.head.contains("192.0.2."), "{}", seen.head);
    assert_ne!(seen.field("x-request-id"), Some("chosen"));
}

#[test]
fn underscore_headers() {
    let request = get("a.test", "/", "X_Forwarded_For: 192.0.2.1\r\n");
    Refusals::start().check(&request, 400, "header_underscore");
    let check = |underscores: &str, expected: Option<&str>| {
        let origin = Origin::echo();
        let sections = format!("forwarding: {{ underscores: {underscores} }}\n");
        let gateway = plain_with(&origin, &sections);
        assert_eq!(gateway.ask(&request).status, 200, "{underscores}");
        assert_eq!(origin.only_request().field("x_forwarded_for"), expected);
    };
    check("drop", None);
    check("keep", Some("192.0.2.1"));
}

#[test]
fn slowloris() {
    let origin = Origin::echo();
    let listeners = r#"
listeners:
  - name: web
    bind: ["127.0.0.1:0"]
    timeouts: { head: 300ms, idle: 20s }
"#;
    let gateway = plain_with(&origin, listeners);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n");
    // A byte now and then does not move the deadline: it is for the whole head.
    let started = std::time::Instant::now();
    client.wait_at_most(Some(std::time::Duration::from_millis(20)));
    while client.fill().is_err_and(|ending| ending == Ending::Silence) {
        assert!(
            started.elapsed() < cardea_tests::wait::BOUND,
            "the head may take for ever"
        );
        if client.try_send("A").is_err() {
            break;
        }
    }
    client.wait_at_most(Some(cardea_tests::wait::BOUND));
    assert_refused(&client.response(), 408, "head_timeout", "a dripping head");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn slow_read() {
    let policies = r#"
policies:
  timeouts: { write_progress: 300ms }
"#;
    let big = "x".repeat(64 << 20);
    let origin = Origin::serve(origin::saying(big));
    let gateway = plain_with(&origin, policies);
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    let line = gateway.log_line("the exchange ends", |line| {
        line["reason"] == "client_too_slow"
    });
    assert_eq!(line["status"], 200);
    let partial = client.try_response().expect_err("a response that was cut");
    assert!(
        partial
            .response
            .is_none_or(|response| response.body.len() < 64 << 20)
    );
}

#[test]
fn regex_dos() {
    let origin = Origin::echo();
    let gateway = fixture::with_routes(
        &origin,
        &[r#"{ match: [{ path: { regex: "/(a+)+b" } }], to: origin }"#],
    );
    let path = format!("/{}", "a".repeat(8000));
    let started = std::time::Instant::now();
    assert_refused(
        &gateway.get("a.test", &path),
        404,
        "route_unknown",
        "a long path",
    );
    assert!(
        started.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn log_injection() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    // What can reach a log at all has no control characters; quotes and backslashes can.
    let lines = "User-Agent: a\"b\\c{\"status\":999}\r\nReferer: \u{e9}\r\n";
    gateway.ask(get("a.test", "/%0d%0aX?q=%22", lines));
    let line = gateway.log_line("the line of the exchange", |line| line["host"] == "a.test");
    assert_ne!(line["status"], 999);
    assert_eq!(line["user_agent"], "a\"b\\c{\"status\":999}");
    assert_eq!(gateway.stdout.lines().len(), 1, "{}", gateway.stdout.text());
}

#[test]
fn a_smuggled_prefix_never_reaches_the_next_client() {
    // CL.0: a gateway that does not wait for a body an origin has ignored leaves it in the pipe.
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(
        gateway.ask(post("a.test", "/", hidden)).json()["body"],
        hidden
    );
    assert_eq!(
        Client::connect(gateway.listener("web"))
            .get("a.test", "/next")
            .status,
        200
    );
    let targets: Vec<_> = origin
        .requests()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(targets.len(), 2, "{targets:?}");
    assert!(
        !targets.iter().any(|target| target == "/smuggled"),
        "{targets:?}"
    );
}

//! HTTP/2 from clients, and to origins: requests and responses are what they are over HTTP/1, and
//! neither end can do with frames what it could not do with lines.

use std::sync::Arc;
use std::time::Duration;

use cardea_tests::http2::{Client, Loss, code, flag, request};
use cardea_tests::http2::{Frame, kind};
use cardea_tests::origin::{self, Connection};
use cardea_tests::tls::ClientTls;
use cardea_tests::wait::Gate;
use cardea_tests::{Gateway, Origin};

use crate::certificates::Secure;
use crate::fixture::{assert_refused, plain, plain_with};

mod attacks;
mod floods;
mod going;
mod grpc;
mod grpc_web;
mod origins;
mod policies;
mod upgrade;
mod websockets;

/// A client of HTTP/2 without TLS.
#[track_caller]
pub(crate) fn client(gateway: &Gateway) -> Client {
    Client::connect(gateway.listener("web"))
}

/// A client that offers HTTP/2 alone.
#[track_caller]
fn secure_client(secure: &Secure, name: &str) -> Client {
    let tls = ClientTls {
        alpn: &["h2"],
        ..ClientTls::trusting(&secure.authority)
    };
    Client::connect_tls(secure.gateway.listener("secure"), &tls.config(), name)
}

/// A sum that tells bodies apart (FNV-1a).
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// So many bytes that do not repeat soon.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn a_request_and_its_response_over_tls_and_without() {
    let secure = Secure::start();
    let mut over_tls = secure_client(&secure, "a.test");
    let gateway = plain(&secure.origin);
    let mut plain = client(&gateway);
    for (client, scheme) in [(&mut over_tls, "https"), (&mut plain, "http")] {
        let mut fields = request("GET", "a.test", "/a?b=c");
        fields[1].1 = scheme;
        let response = client.ask(&fields);
        assert_eq!(response.status, 200);
        let seen = response.json();
        assert_eq!(
            (&seen["method"], &seen["target"]),
            (&"GET".into(), &"/a?b=c".into())
        );
        assert_eq!(seen["version"], "HTTP/1.1");
        let request = secure.origin.last_request();
        assert_eq!(request.field("x-forwarded-proto"), Some(scheme));
    }
    let line = gateway.log_line("the request", |line| line["status"] == 200);
    assert_eq!(line["protocol"], "HTTP/2.0", "{line}");
}

#[test]
fn the_connection_to_an_origin_serves_one_request_after_another() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    for _ in 0..5 {
        assert_eq!(client.get("a.test", "/").status, 200);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_origin_receives_what_is_canonical() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut fields = request("GET", "A.test", "/x");
    fields.extend([
        ("cookie", "a=1"),
        ("x-one", "1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("cookie", "c=3; d=4"),
        ("x-forwarded-for", "192.0.2.9"),
        ("x-one", "2"),
    ]);
    assert_eq!(client(&gateway).ask(&fields).status, 200);
    let seen = origin.only_request();
    assert_eq!(seen.version, "HTTP/1.1");
    assert_eq!(
        seen.field("host").map(str::to_ascii_lowercase).as_deref(),
        Some("a.test")
    );
    assert_eq!(seen.field("cookie"), Some("a=1; b=2; c=3; d=4"));
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.fields.all("x-one"), ["1", "2"]);
    for name in [
        "te",
        "connection",
        "transfer-encoding",
        "content-length",
        "upgrade",
    ] {
        assert!(!seen.fields.has(name), "{name}: {}", seen.head);
    }
    assert!(!seen.head.contains("\r\n:"), "{}", seen.head);
}

#[test]
fn responses_without_a_body() {
    let check = |method: &str, answer: &str, status: u16, length: Option<&str>| {
        let origin = Origin::serve(origin::answering(answer));
        let gateway = plain(&origin);
        let mut client = client(&gateway);
        for _ in 0..2 {
            let response = client.ask(&request(method, "a.test", "/"));
            assert_eq!((response.status, response.text()), (status, String::new()));
            assert_eq!(
                response.field("content-length"),
                length,
                "{method} {answer:?}"
            );
        }
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n";
    check("HEAD", head, 200, Some("123"));
    check("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, None);
    check(
        "GET",
        "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
        304,
        None,
    );
    check(
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        200,
        Some("0"),
    );
}

#[test]
fn interim_responses_arrive_before_the_final_one() {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ));
    let gateway = plain(&origin);
    let response = client(&gateway).get("a.test", "/");
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    let hints = &response.interim[0];
    assert_eq!((hints.status, hints.field("link")), (103, Some("</a>")));
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let mut fields = request("POST", "a.test", "/");
    fields.extend([("expect", "100-continue"), ("content-length", "4")]);
    let stream = client.open(&fields, false);
    client.pump_until("100 (Continue)", |client| {
        !client.of(stream).lists.is_empty()
    });
    let field = (":status".to_owned(), "100".to_owned());
    assert_eq!(client.of(stream).lists, [vec![field]]);
    client.send_body(stream, b"body", true);
    assert_eq!(client.response(stream).json()["body"], "body");
}

#[test]
fn trailers_pass_both_ways() {
    let origin = Origin::serve(|connection: &mut Connection| {
        while let Some(request) = connection.request() {
            let trailer = request.trailers.get("x-sum").unwrap_or("none").to_owned();
            connection.answer(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Seen: {trailer}\r\n\r\n"
            ));
        }
    });
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let stream = client.open(&request("POST", "a.test", "/"), false);
    client.send_body(stream, b"data", false);
    client.send(&Frame::headers(
        stream,
        flag::END_STREAM,
        &[("x-sum", "42")],
    ));
    let response = client.response(stream);
    assert_eq!(response.text(), "ok");
    assert_eq!(response.trailers.get("x-seen"), Some("42"));
    let seen = origin.only_request();
    assert_eq!((seen.text().as_str(), seen.is_whole), ("data", true));
}

#[test]
fn large_bodies_arrive_whole_both_ways() {
    const BYTES: usize = 5 << 20;
    let body = noise(BYTES);
    let answer = body.clone();
    let origin = Origin::serve(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            let total = sum(&request.body).to_string();
            connection.answer(format!(
                "HTTP/1.1 200 OK\r\nX-Sum: {total}\r\nContent-Length: {BYTES}\r\n\r\n"
            ));
            connection.answer(&answer);
        }
    });
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let response = client.post("a.test", "/", &body);
    assert_eq!(
        response.field("x-sum"),
        Some(sum(&body).to_string().as_str())
    );
    assert_eq!(
        (response.body.len(), sum(&response.body)),
        (BYTES, sum(&body))
    );
    // Its length was not told, so it came in chunks; told, it is told.
    let length = BYTES.to_string();
    let mut fields = request("PUT", "a.test", "/");
    fields.push(("content-length", &length));
    let stream = client.open(&fields, false);
    client.send_body(stream, &body, true);
    assert_eq!(
        client.response(stream).field("x-sum"),
        Some(sum(&body).to_string().as_str())
    );
    let seen = origin.requests();
    assert_eq!(seen[0].field("transfer-encoding"), Some("chunked"));
    assert_eq!(seen[1].field("content-length"), Some(length.as_str()));
}

#[test]
fn many_streams_at_once_are_answered_each_with_its_own() {
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            waiting.wait();
            connection.answer(origin::ok(&request.target));
        }
    });
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let asked: Vec<(u32, String)> = (0..100)
        .map(|number| {
            let path = format!("/{number}");
            (client.open(&request("GET", "a.test", &path), true), path)
        })
        .collect();
    origin.wait_until("all are there", |origin| origin.requests().len() == 100);
    // One more than is allowed.
    let excess = client.open(&request("GET", "a.test", "/excess"), true);
    match client.try_response(excess) {
        Err(Loss::Reset(code::REFUSED_STREAM, _)) => {}
        other => panic!("{other:?}"),
    }
    gate.open();
    for (stream, path) in asked.into_iter().rev() {
        assert_eq!(client.response(stream).text(), path);
    }
    assert_eq!(client.get("a.test", "/after").text(), "/after");
}

#[test]
fn an_early_response_ends_the_request() {
    let origin = Origin::serve(|connection: &mut Connection| {
        if connection.head().is_some() {
            connection.answer(
                "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
            );
        }
    });
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let stream = client.open(&request("POST", "a.test", "/"), false);
    client.send_body(stream, b"beginning", false);
    let response = client.response(stream);
    assert_eq!((response.status, response.text().as_str()), (413, "no"));
    // The rest of the body is not wanted, which is no fault (RFC 9113 section 8.1).
    client.pump_until("the end of the request", |client| {
        client.of(stream).reset.is_some()
    });
    assert_eq!(client.of(stream).reset, Some(code::NO_ERROR));
    // Sent before its sender knew.
    client.send(&Frame::new(kind::DATA, 0, stream, *b"late"));
    assert_eq!(client.get("a.test", "/").status, 413);
}

#[test]
fn a_body_that_an_origin_cuts_is_never_ended_cleanly() {
    let check = |answer: &'static str, is_reset: bool| {
        let origin = Origin::serve(move |connection: &mut Connection| {
            if connection.request().is_some() {
                connection.answer(answer);
                if is_reset {
                    connection.abort();
                }
            }
        });
        let gateway = plain(&origin);
        let mut client = client(&gateway);
        let stream = client.open(&request("GET", "a.test", "/"), true);
        match client.try_response(stream) {
            Err(Loss::Reset(code::INTERNAL_ERROR, received)) => assert!(!received.is_ended),
            // A reset may overtake the head.
            Ok(response) if is_reset => assert_eq!(response.status, 502),
            other => panic!("{answer:?}: {other:?}"),
        }
        client.ping();
    };
    for is_reset in [false, true] {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
            is_reset,
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
            is_reset,
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n",
            is_reset,
        );
    }
}

#[test]
fn a_client_that_gives_a_stream_up_frees_the_origin() {
    let origin = Origin::serve(origin::silent);
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let stream = client.open(&request("GET", "a.test", "/"), true);
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    client.send(&Frame::reset(stream, code::CANCEL));
    origin.wait_until("the connection closes", |origin| {
        origin.open_connections() == 0
    });
    let line = gateway.log_line("the exchange", |line| line["reason"] == "client_closed");
    assert_eq!(line["status"], 499, "{line}");
    client.ping();
    assert_eq!(
        client.of(stream),
        Default::default(),
        "nothing is said on it"
    );
    // While the body goes up, as well.
    let stream = client.open(&request("POST", "a.test", "/"), false);
    client.send_body(stream, b"part", false);
    origin.wait_until("the body arrives", |origin| {
        let received = origin.received(origin.connections() - 1);
        received.windows(4).any(|bytes| bytes == b"part")
    });
    client.send(&Frame::reset(stream, code::CANCEL));
    origin.wait_until("the connection closes", |origin| {
        origin.open_connections() == 0
    });
    assert!(origin.requests().iter().all(|it| it.target == "/"));
    assert!(
        !origin.received(1).ends_with(b"0\r\n\r\n"),
        "never a clean end"
    );
}

#[test]
fn a_host_of_another_policy_is_misdirected() {
    let strict = "{ hosts: [strict.w.test], tls: { profile: modern }, routes: [{ to: origin }] }";
    let config =
        crate::certificates::CONFIG.replace("domains:", &format!("domains:\n  - {strict}"));
    let secure = Secure::with(&config);
    let ask = |name: &str, host: &str| {
        let mut client = secure_client(&secure, name);
        let before = client.get(name, "/");
        assert_eq!(before.status, 200);
        let response = client.get(host, "/");
        // The connection is as good as before.
        assert_eq!(client.get(name, "/").status, 200);
        response
    };
    assert_refused(
        &ask("a.test", "strict.w.test"),
        421,
        "misdirected",
        "from a laxer one",
    );
    assert_refused(
        &ask("strict.w.test", "a.test"),
        421,
        "misdirected",
        "from a stricter one",
    );
}

#[test]
fn what_a_listener_does_not_offer_is_not_spoken() {
    let origin = Origin::echo();
    let listener =
        "listeners: [{ name: web, bind: [\"127.0.0.1:0\"], http2: { cleartext: false } }]\n";
    let gateway = plain_with(&origin, listener);
    let mut client = gateway.client();
    client.send(cardea_tests::http2::PREFACE);
    client.send(Frame::settings(&[]).bytes());
    let answer = client.response();
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!(origin.connections(), 0);
    let secure =
        Secure::with(&crate::certificates::CONFIG.replace("tls: {}", "tls: { alpn: [http/1.1] }"));
    let tls = ClientTls {
        alpn: &["h2", "http/1.1"],
        ..ClientTls::trusting(&secure.authority)
    };
    let address = secure.gateway.listener("secure");
    let client = cardea_tests::Client::connect_tls(address, &tls.config(), "a.test");
    assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn a_slow_request_body_is_given_up_by_pace() {
    for timeouts in [
        "{ body_progress: 200ms }",
        "{ body_progress: 300ms, body_rate_min: 10000 }",
    ] {
        let origin = Origin::echo();
        let gateway = plain_with(&origin, &format!("policies: {{ timeouts: {timeouts} }}\n"));
        let mut slow = client(&gateway);
        let stream = slow.open(&request("POST", "a.test", "/"), false);
        slow.wire().wait_at_most(Some(Duration::from_millis(20)));
        let started = std::time::Instant::now();
        // Always some progress where the rate is what counts.
        let is_dripping = timeouts.contains("rate");
        while !slow.of(stream).is_over() {
            let silent = slow.pump().is_err();
            if silent && is_dripping && !slow.of(stream).is_over() {
                slow.try_send(&Frame::new(kind::DATA, 0, stream, *b"x"));
            }
            assert!(started.elapsed() < cardea_tests::wait::BOUND, "for ever");
        }
        slow.wire().wait_at_most(Some(cardea_tests::wait::BOUND));
        assert_refused(&slow.response(stream), 408, "body_timeout", timeouts);
        // Its neighbours are not slow.
        assert_eq!(slow.get("a.test", "/").status, 200);
    }
}

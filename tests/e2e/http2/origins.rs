//! HTTP/2 to origins: one connection for many, what an origin may say about its streams, and clients
//! of either version in front.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cardea_tests::http2::{Frame, Peer, Server, code, flag, request, setting};
use cardea_tests::origin::Connection;
use cardea_tests::wait::{self, Gate};
use cardea_tests::{Gateway, Origin};

use super::{client, noise, sum};
use crate::fixture::{assert_refused, get, post};

mod misbehaving;

/// One upstream that is spoken to in HTTP/2 without TLS.
pub(super) const CONFIG: &str = r#"
workers: 1
domains:
  - hosts: [a.test]
    routes: [{ to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"], protocol: http2 }
"#;

/// A gateway in front of such an upstream.
#[track_caller]
pub(super) fn before(origin: &Origin) -> Gateway {
    Gateway::start(CONFIG, &[("origin", &origin.address())])
}

/// An origin that answers every request by a function of its own.
pub(super) fn answering(
    settings: &'static [(u16, u32)],
    answer: impl Fn(&mut Server<'_>, u32) + Send + Sync + 'static,
) -> Origin {
    Origin::serve(move |connection: &mut Connection| {
        let mut server = Peer::accept(connection, settings);
        let mut last = 0;
        while let Some((stream, _)) = server.request(last) {
            last = stream;
            answer(&mut server, stream);
        }
    })
}

/// An origin that says what it was asked for.
pub(super) fn echo() -> Origin {
    answering(&[], |server, stream| {
        let target = server.request_of(stream).target;
        server.answer(stream, "200", target.as_bytes());
    })
}

#[test]
fn many_requests_share_one_connection() {
    let origin = Origin::serve(|connection: &mut Connection| {
        let mut server = Peer::accept(connection, &[]);
        let mut streams = Vec::new();
        // None is answered before all are there.
        while streams.len() < 50 {
            let Some((stream, _)) = server.request(streams.last().copied().unwrap_or(0)) else {
                return;
            };
            streams.push(stream);
        }
        for &stream in streams.iter().rev() {
            let target = server.request_of(stream).target;
            server.answer(stream, "200", target.as_bytes());
        }
        while server.pump().is_ok() {}
    });
    let gateway = before(&origin);
    let mut client = client(&gateway);
    let asked: Vec<(u32, String)> = (0..50)
        .map(|number| {
            let path = format!("/{number}");
            (client.open(&request("GET", "a.test", &path), true), path)
        })
        .collect();
    for (stream, path) in asked {
        assert_eq!(client.response(stream).text(), path);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_origin_receives_what_is_canonical() {
    let origin = echo();
    let gateway = before(&origin);
    let lines = "Cookie: a=1\r\nConnection: x-gone\r\nX-Gone: 1\r\nTE: trailers\r\nX-Upper: Yes\r\n\
                 Keep-Alive: 1\r\nX-Forwarded-For: 192.0.2.1\r\n";
    let response = gateway.ask(get("a.test", "/x?y=z", lines));
    assert_eq!((response.status, response.text().as_str()), (200, "/x?y=z"));
    let seen = origin.only_request();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/x?y=z")
    );
    assert!(
        seen.head.contains("(\":authority\", \"a.test\")"),
        "{}",
        seen.head
    );
    assert!(
        seen.head.contains("(\":scheme\", \"http\")"),
        "{}",
        seen.head
    );
    assert_eq!(seen.field("cookie"), Some("a=1"));
    assert_eq!(seen.field("x-upper"), Some("Yes"));
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    for name in [
        "connection",
        "x-gone",
        "keep-alive",
        "host",
        "transfer-encoding",
    ] {
        assert!(!seen.fields.has(name), "{name}: {}", seen.head);
    }
}

#[test]
fn clients_of_http1_get_every_kind_of_response() {
    let origin = answering(&[], |server, stream| {
        let request = server.request_of(stream);
        let ends = flag::END_STREAM;
        match request.target.as_str() {
            "/head" => {
                let fields = [(":status", "200"), ("content-length", "123")];
                server.try_send(&Frame::headers(stream, ends, &fields));
            }
            "/empty" => {
                server.try_send(&Frame::headers(stream, ends, &[(":status", "204")]));
            }
            "/hints" => {
                let hints = [(":status", "103"), ("link", "</a>")];
                server.try_send(&Frame::headers(stream, 0, &hints));
                server.answer(stream, "200", b"ok");
            }
            "/trailers" => {
                server.try_send(&Frame::headers(stream, 0, &[(":status", "200")]));
                server.try_send_body(stream, b"ok", false);
                server.try_send(&Frame::headers(stream, ends, &[("x-sum", "42")]));
            }
            _ => server.answer(stream, "200", sum(&request.body).to_string().as_bytes()),
        }
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    let head = client.request("HEAD", "a.test", "/head");
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some("123"))
    );
    assert_eq!(client.get("a.test", "/empty").status, 204);
    let hints = client.get("a.test", "/hints");
    assert_eq!(
        (hints.interim[0].status, hints.text().as_str()),
        (103, "ok")
    );
    let trailers = client.get("a.test", "/trailers");
    assert_eq!(trailers.field("transfer-encoding"), Some("chunked"));
    assert_eq!(
        (trailers.text().as_str(), trailers.trailers.get("x-sum")),
        ("ok", Some("42"))
    );
    // Uploads: short, long, and in chunks with trailers.
    assert_eq!(
        client.ask(post("a.test", "/up", "hello")).text(),
        sum(b"hello").to_string()
    );
    let body = noise(3 << 20);
    client.send(format!(
        "POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    assert_eq!(client.response().text(), sum(&body).to_string());
    let response = client.ask(
        "POST /up HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\nX-T: 1\r\n\r\n",
    );
    assert_eq!(response.text(), sum(b"data").to_string());
    assert_eq!(origin.last_request().trailers.get("x-t"), Some("1"));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn the_limit_of_streams_is_kept() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let origin = Origin::serve(move |connection: &mut Connection| {
        let mut server = Peer::accept(connection, &[(setting::MAX_CONCURRENT_STREAMS, 3)]);
        let mut last = 0;
        while let Some((stream, _)) = server.request(last) {
            last = stream;
            let answered = server
                .streams
                .values()
                .filter(|it| it.frames == usize::MAX)
                .count();
            seen.fetch_max(server.streams.len() - answered, Ordering::SeqCst);
            server.answer(stream, "200", b"ok");
            server.streams.remove(&stream);
        }
    });
    let gateway = before(&origin);
    // The first one brings the settings.
    assert_eq!(gateway.get("a.test", "/").status, 200);
    let mut client = client(&gateway);
    let streams: Vec<u32> = (0..60)
        .map(|_| client.open(&request("GET", "a.test", "/"), true))
        .collect();
    for stream in streams {
        assert_eq!(client.response(stream).status, 200);
    }
    assert!(most.load(Ordering::SeqCst) <= 3, "{most:?} at once");
    assert!(
        origin.connections() > 1,
        "what is too much for one has others"
    );
}

/// An origin whose first connection does something to the first request, and answers all others.
fn failing_once(fail: impl Fn(&mut Server<'_>, u32) -> bool + Send + Sync + 'static) -> Origin {
    let is_first = Mutex::new(true);
    Origin::serve(move |connection: &mut Connection| {
        let mut server = Peer::accept(connection, &[]);
        let mut last = 0;
        while let Some((stream, request)) = server.request(last) {
            last = stream;
            let first = std::mem::take(&mut *is_first.lock().expect("no panics before"));
            if first {
                if fail(&mut server, stream) {
                    return;
                }
                continue;
            }
            server.answer(
                stream,
                "200",
                &[b"again ".as_slice(), &request.body].concat(),
            );
        }
    })
}

#[test]
fn what_an_origin_did_nothing_about_is_sent_again_a_post_too() {
    type Fail = fn(&mut Server<'_>, u32) -> bool;
    let refused: Fail = |server, stream| {
        server.try_send(&Frame::reset(stream, code::REFUSED_STREAM));
        false
    };
    let gone: Fail = |server, stream| {
        server.try_send(&Frame::goaway(stream - 1, code::NO_ERROR));
        true
    };
    for fail in [refused, gone] {
        let origin = failing_once(fail);
        let gateway = before(&origin);
        let response = gateway.ask(post("a.test", "/", "body"));
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "again body")
        );
        assert_eq!(origin.requests().len(), 2);
    }
    // What it may have acted on is not.
    let reset: Fail = |server, stream| {
        server.try_send(&Frame::reset(stream, code::INTERNAL_ERROR));
        false
    };
    let acted: Fail = |server, stream| {
        server.try_send(&Frame::goaway(stream, code::NO_ERROR));
        true
    };
    for fail in [reset, acted] {
        let origin = failing_once(fail);
        let gateway = before(&origin);
        let response = gateway.ask(post("a.test", "/", "body"));
        assert_refused(&response, 502, "upstream_reset", "acted on");
        assert_eq!(origin.requests().len(), 1);
        assert_eq!(gateway.get("a.test", "/").status, 200);
    }
}

#[test]
fn a_goaway_lets_what_is_under_way_finish() {
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        let number = connection.number;
        let mut server = Peer::accept(connection, &[]);
        let mut last = 0;
        while let Some((stream, _)) = server.request(last) {
            last = stream;
            if number == 0 {
                server.try_send(&Frame::goaway(stream, code::NO_ERROR));
                waiting.wait();
            }
            server.answer(stream, "200", number.to_string().as_bytes());
        }
    });
    let gateway = before(&origin);
    let mut first = gateway.client();
    first.send(get("a.test", "/", ""));
    origin.wait_until("the first request", |origin| origin.requests().len() == 1);
    wait::until_true("others go elsewhere", || {
        gateway.get("a.test", "/").text() != "0"
    });
    gate.open();
    assert_eq!(first.response().text(), "0");
    origin.wait_until("the old connection closes", |origin| {
        origin.open_connections() == 1
    });
}

#[test]
fn a_body_that_is_reset_in_its_middle_is_cut_for_the_client_too() {
    let origin = answering(&[], |server, stream| {
        let length = server.request_of(stream).target == "/length";
        let fields = [(":status", "200"), ("content-length", "100")];
        let fields = if length { &fields[..] } else { &fields[..1] };
        server.try_send(&Frame::headers(stream, 0, fields));
        server.try_send_body(stream, b"part", false);
        server.try_send(&Frame::reset(stream, code::INTERNAL_ERROR));
    });
    let gateway = before(&origin);
    for path in ["/length", "/chunked"] {
        let partial = gateway
            .client()
            .send(get("a.test", path, ""))
            .unread()
            .len();
        assert_eq!(partial, 0);
        let mut old = gateway.client();
        old.send(get("a.test", path, ""));
        let partial = old.try_response().expect_err("never whole");
        let status = partial.response.map(|response| response.status);
        assert!(matches!(status, Some(200 | 502)), "{status:?}");
        let mut new = client(&gateway);
        let stream = new.open(&request("GET", "a.test", path), true);
        new.try_response(stream).expect_err("never whole");
        assert!(new.of(stream).reset.is_some());
    }
    // Too short is cut as well.
    let origin = answering(&[], |server, stream| {
        let fields = [(":status", "200"), ("content-length", "100")];
        server.try_send(&Frame::headers(stream, 0, &fields));
        server.try_send_body(stream, b"part", true);
    });
    let gateway = before(&origin);
    let mut old = gateway.client();
    old.send(get("a.test", "/", ""));
    old.try_response().expect_err("never whole");
}

#[test]
fn settings_that_come_late_are_not_waited_for() {
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        // Nothing is said before the request is there.
        let wire: &mut cardea_tests::Wire = connection;
        let received = wire.take_through(b"a.test");
        assert!(received.is_ok(), "{received:?}");
        waiting.wait();
        let mut bytes = Frame::settings(&[]).bytes();
        let ends = flag::END_STREAM;
        bytes.extend(Frame::headers(1, ends, &[(":status", "200")]).bytes());
        connection.answer(bytes);
        connection.take_rest();
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    gate.open();
    assert_eq!(client.response().status, 200);
}

#[test]
fn connections_outlive_reloads() {
    let origin = echo();
    let values = [("origin", &origin.address() as &dyn std::fmt::Display)];
    let gateway = Gateway::start(CONFIG, &values);
    for number in 0..3 {
        assert_eq!(gateway.get("a.test", "/").status, 200);
        let more = format!(
            "policies: {{ header_edits: {{ response: {{ set: {{ x-n: \"{number}\" }} }} }} }}\n"
        );
        gateway.configure(&format!("{CONFIG}{more}"), &values);
    }
    assert_eq!(gateway.get("a.test", "/").field("x-n"), Some("2"));
    assert_eq!(origin.connections(), 1);
}

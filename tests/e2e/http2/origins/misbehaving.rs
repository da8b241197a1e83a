//! Origins that do not keep to HTTP/2, or do not speak it: the gateway leaves them, says why, and cuts
//! what is not whole.

use std::process::Command;
use std::sync::Arc;
use std::thread;

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::{Site, free_address};
use cardea_tests::http2::{Frame, Peer, code, flag, kind, request};
use cardea_tests::origin::{self, Connection};
use cardea_tests::process::Process;
use cardea_tests::tls::server_config;
use cardea_tests::wait;
use cardea_tests::{Gateway, Origin};

use super::super::{client, noise, sum};
use super::{CONFIG, answering, before};
use crate::fixture::{assert_refused, post};

#[test]
fn an_origin_that_does_not_speak_it_is_told_of() {
    let authority = Authority::new("origins have this");
    let identity = authority.issue(&["origin.test"]);
    let origin = Origin::serve_tls(server_config(&identity, None), origin::saying("old"));
    let start = |protocol: &str| {
        let site = Site::new();
        let ca = authority.save(site.path(), "authority");
        let config = CONFIG.replace(
            "protocol: http2",
            &format!(
                "protocol: {protocol}, tls: {{ ca: \"{}\", server_name: origin.test }}",
                ca.display()
            ),
        );
        site.start(&config, &[("origin", &origin.address())])
    };
    let response = start("http2").get("a.test", "/");
    assert_eq!(response.status, 502, "{response:?}");
    assert_eq!(
        response.reason(),
        Some("upstream_tls_failed"),
        "{}",
        response.text()
    );
    assert_eq!(start("auto").get("a.test", "/").text(), "old");
    // One that does is spoken to in what it prefers.
    let mut config = server_config(&identity, None);
    Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let new = Origin::serve_tls(config, |connection: &mut Connection| {
        let mut server = Peer::accept(connection, &[]);
        let mut last = 0;
        while let Some((stream, request)) = server.request(last) {
            last = stream;
            assert!(
                request.head.contains("(\":scheme\", \"https\")"),
                "{}",
                request.head
            );
            server.answer(stream, "200", b"new");
        }
    });
    let site = Site::new();
    let ca = authority.save(site.path(), "authority");
    let tls = format!(
        "tls: {{ ca: \"{}\", server_name: origin.test }}",
        ca.display()
    );
    let config = CONFIG.replace("protocol: http2", &tls);
    let gateway = site.start(&config, &[("origin", &new.address())]);
    for _ in 0..3 {
        assert_eq!(gateway.get("a.test", "/").text(), "new");
    }
    assert_eq!(new.connections(), 1);
}

#[test]
fn an_origin_of_another_making() {
    let site = Site::new();
    let body = noise(1 << 20);
    std::fs::write(site.path().join("large"), &body).expect("write a file");
    let address = free_address();
    let mut command = Command::new("nghttpd");
    let port = address.port().to_string();
    command.args([
        "--no-tls",
        "--echo-upload",
        "--address=127.0.0.1",
        "--htdocs",
    ]);
    command.arg(site.path()).arg(&port);
    let _nghttpd = Process::start(&mut command);
    wait::until_true("nghttpd listens", || {
        std::net::TcpStream::connect(address).is_ok()
    });
    let gateway = Gateway::start(CONFIG, &[("origin", &address)]);
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (mut old, mut new) = (gateway.client(), client(&gateway));
            let body = body.clone();
            thread::spawn(move || {
                for _ in 0..5 {
                    assert_eq!(sum(&old.get("a.test", "/large").body), sum(&body));
                    assert_eq!(sum(&new.get("a.test", "/large").body), sum(&body));
                    let echoed = new.post("a.test", "/large", &body);
                    assert_eq!(sum(&echoed.body), sum(&body));
                    assert_eq!(old.get("a.test", "/nothing").status, 404);
                }
            })
        })
        .collect();
    for asking in asking {
        asking.join().expect("every body is whole");
    }
}

#[test]
fn an_origin_that_floods_is_left() {
    // Frames of an origin have limits too; what is asked for next has a new connection.
    let origin = Origin::serve(|connection: &mut Connection| {
        let number = connection.number;
        let mut server = Peer::accept(connection, &[]);
        let Some((stream, _)) = server.request(0) else {
            return;
        };
        if number > 0 {
            server.answer(stream, "200", b"sound");
            while server.pump().is_ok() {}
            return;
        }
        let ping = Frame::new(kind::PING, 0, 0, vec![0; 8]).bytes();
        while server.connection().try_send(ping.repeat(1000)).is_ok() {}
    });
    let gateway = before(&origin);
    // It was not answered, and may be asked again.
    assert_eq!(gateway.get("a.test", "/").text(), "sound");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_silent_origin_is_pinged_and_left_when_it_does_not_answer() {
    // The only test that has to wait for the gateway's own patience: twenty seconds, and ten more.
    let origin = Origin::serve(|connection: &mut Connection| {
        let number = connection.number;
        let mut server = Peer::accept(connection, &[]);
        let Some((stream, _)) = server.request(0) else {
            return;
        };
        server.answers = number == 0;
        let is_ping = |frame: &Frame| frame.kind == kind::PING && frame.flags & flag::ACK == 0;
        while let Ok(frame) = server.pump() {
            // One is alive, and says so before it has anything else to say.
            if number == 0 && is_ping(&frame) {
                server.answer(stream, "200", b"alive");
            }
        }
    });
    let gateway = before(&origin);
    let alone = Gateway::start(CONFIG, &[("origin", &origin.address())]);
    let asking = |gateway: &Gateway| {
        let mut client = gateway.client();
        client.wait_at_most(Some(2 * wait::BOUND));
        client.send(post("a.test", "/", "body"));
        client
    };
    let mut alive = asking(&gateway);
    origin.wait_until("the first request", |origin| origin.requests().len() == 1);
    let mut dead = asking(&alone);
    assert_eq!(alive.response().text(), "alive");
    assert_refused(&dead.response(), 502, "upstream_reset", "no echo");
    origin.wait_until("it is left", |origin| origin.open_connections() == 1);
}

#[test]
fn a_request_that_its_client_cuts_is_never_ended_cleanly() {
    let origin = Origin::serve(|connection: &mut Connection| {
        let mut server = Peer::accept(connection, &[]);
        let mut last = 0;
        while let Some(stream) = server.head(last) {
            last = stream;
            while !server.of(stream).is_over() {
                if server.pump().is_err() {
                    return;
                }
            }
            let request = server.request_of(stream);
            server.connection().record(request);
        }
    });
    let gateway = before(&origin);
    let mut old = gateway.client();
    old.send("POST /length HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\npart");
    let mut chunked = gateway.client();
    chunked.send(
        "POST /chunked HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
    );
    let mut new = client(&gateway);
    let stream = new.open(&request("POST", "a.test", "/stream"), false);
    new.send_body(stream, b"part", false);
    // Too short for what it says.
    let mut fields = request("POST", "a.test", "/short");
    fields.push(("content-length", "100"));
    let short = new.open(&fields, false);
    new.send_body(short, b"part", true);
    origin.wait_until("the parts arrive", |origin| {
        let received = origin.received(0);
        let parts = received.windows(4).filter(|bytes| bytes == b"part");
        parts.count() >= 3
    });
    new.send(&Frame::reset(stream, code::CANCEL));
    old.into_wire().reset();
    chunked.half_close();
    origin.wait_until("every request is over", |origin| {
        let mut targets: Vec<_> = origin.requests().into_iter().map(|it| it.target).collect();
        targets.sort();
        targets.retain(|target| target != "/short");
        targets == ["/chunked", "/length", "/stream"]
    });
    let requests = origin.requests();
    assert!(requests.iter().all(|it| !it.is_whole), "{requests:?}");
    new.ping();
}

#[test]
fn an_origin_that_answers_early_and_wants_no_more_is_heard() {
    let origin = Origin::serve(|connection: &mut Connection| {
        let mut server = Peer::accept(connection, &[]);
        let mut last = 0;
        while let Some(stream) = server.head(last) {
            last = stream;
            // RFC 9113 section 8.1: all of the response, then an end without a fault.
            server.answer(stream, "413", &[b'x'; 50_000]);
            server.try_send(&Frame::reset(stream, code::NO_ERROR));
        }
    });
    let gateway = before(&origin);
    let mut new = client(&gateway);
    for _ in 0..20 {
        let stream = new.open(&request("POST", "a.test", "/"), false);
        new.try_send_body(stream, &noise(40_000), false);
        let response = new.response(stream);
        assert_eq!((response.status, response.body.len()), (413, 50_000));
        let mut old = gateway.client();
        old.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n");
        old.try_send(noise(40_000)).ok();
        let response = old.response();
        assert_eq!((response.status, response.body.len()), (413, 50_000));
    }
}

#[test]
fn a_response_that_is_none_is_told_of() {
    type Fields = &'static [(&'static str, &'static str)];
    let check = |fields: Fields, reason: &str| {
        let origin = answering(&[], move |server, stream| {
            let head = Frame::headers(stream, flag::END_STREAM, fields);
            server.try_send(&head);
        });
        let gateway = before(&origin);
        for _ in 0..2 {
            let response = gateway.get("a.test", "/");
            assert_refused(&response, 502, reason, &format!("{fields:?}"));
        }
    };
    let malformed = "upstream_malformed";
    check(&[(":status", "200"), ("connection", "close")], malformed);
    check(
        &[(":status", "200"), ("transfer-encoding", "chunked")],
        malformed,
    );
    check(&[(":status", "200"), ("X-Upper", "1")], malformed);
    check(&[(":status", "200"), ("x", "1\r\ny: 2")], malformed);
    check(&[(":status", "200"), (":status", "200")], malformed);
    check(&[(":status", "2000")], malformed);
    check(&[(":status", "101")], malformed);
    check(&[("x", "1")], malformed);
    check(&[(":status", "200"), (":path", "/")], malformed);
}

//! Every wait has a deadline, and whoever is late is told which.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea_tests::origin::{self, Connection};
use cardea_tests::wait::{BOUND, Gate};
use cardea_tests::{Client, Ending, Gateway, Origin};

use crate::fixture::{PLAIN, assert_refused, get, plain_with, post, with_routes};

/// A gateway whose listener has these deadlines.
fn listening(origin: &Origin, timeouts: &str) -> Gateway {
    let listener = format!("{{ name: web, bind: [\"127.0.0.1:0\"], timeouts: {timeouts} }}");
    plain_with(origin, &format!("listeners: [{listener}]\n"))
}

/// A gateway with these `timeouts` as a policy.
fn with_timeouts(origin: &Origin, timeouts: &str) -> Gateway {
    plain_with(origin, &format!("policies: {{ timeouts: {timeouts} }}\n"))
}

/// Sends `piece` every now and then until a response begins or the connection ends.
fn drip(client: &mut Client, piece: &str) {
    let started = Instant::now();
    client.wait_at_most(Some(Duration::from_millis(20)));
    while client.fill() == Err(Ending::Silence) {
        assert!(started.elapsed() < BOUND, "dripping is never stopped");
        if client.try_send(piece).is_err() {
            break;
        }
    }
    client.wait_at_most(Some(BOUND));
}

#[test]
fn head() {
    let origin = Origin::echo();
    let gateway = listening(&origin, "{ head: 200ms }");
    for start in [
        "G",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX",
    ] {
        let mut client = gateway.client();
        client.send(start);
        assert_refused(&client.response(), 408, "head_timeout", start);
        client.assert_closed();
    }
    // On a connection that has served, too.
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").status, 200);
    client.send("GET / HTTP/1.1\r\nX: ");
    drip(&mut client, "x");
    assert_refused(&client.response(), 408, "head_timeout", "the second head");
}

#[test]
fn idle() {
    let origin = Origin::echo();
    let gateway = listening(&origin, "{ idle: 200ms }");
    // Nothing was asked, so nothing is answered.
    gateway.client().assert_closed();
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").status, 200);
    client.assert_closed();
}

#[test]
fn body_progress() {
    let origin = Origin::echo();
    let gateway = with_timeouts(&origin, "{ body_progress: 200ms }");
    for head in [
        "Content-Length: 10\r\n\r\nhi",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        let mut client = gateway.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{head}"));
        assert_refused(&client.response(), 408, "body_timeout", head);
        client.assert_closed();
    }
}

#[test]
fn body_rate() {
    let origin = Origin::echo();
    let gateway = with_timeouts(&origin, "{ body_progress: 300ms, body_rate_min: 10000 }");
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n");
    // Always some progress, never enough.
    drip(&mut client, "x");
    assert_refused(
        &client.response(),
        408,
        "body_timeout",
        "a byte now and then",
    );
}

#[test]
fn write_progress_and_rate() {
    for timeouts in [
        "{ write_progress: 200ms }",
        "{ write_progress: 500ms, write_rate_min: 100000000000 }",
    ] {
        let origin = Origin::serve(origin::saying("x".repeat(64 << 20)));
        let gateway = with_timeouts(&origin, timeouts);
        let mut client = gateway.client();
        client.send(get("a.test", "/", ""));
        gateway.log_line("the exchange ends", |line| {
            line["reason"] == "client_too_slow"
        });
        let (_, ending) = client.take_rest();
        assert_eq!(
            ending,
            Ending::Reset,
            "{timeouts}: the client must not take it for whole"
        );
        origin.wait_until("the origin is let go", |origin| {
            origin.open_connections() == 0
        });
    }
}

#[test]
fn connect() {
    // A listener that accepts nothing, with a full backlog: the kernel drops further SYNs.
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket
        .bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .expect("a port");
    socket.listen(0).expect("a backlog of one");
    let full = TcpListener::from(socket);
    let address = full.local_addr().expect("a bound socket");
    let mut waiting = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100))
    {
        waiting.push(stream);
    }
    let config = format!("{PLAIN}policies: {{ timeouts: {{ connect: 200ms }} }}\n");
    let gateway = Gateway::start(&config, &[("origin", &address)]);
    let response = gateway.get("a.test", "/");
    assert_refused(&response, 504, "upstream_connect_timeout", "a full backlog");
}

#[test]
fn upstream_head() {
    let origin = Origin::serve(origin::silent);
    let gateway = with_timeouts(&origin, "{ upstream_head: 200ms }");
    let mut client = gateway.client();
    for request in [get("a.test", "/", ""), post("a.test", "/", "body")] {
        assert_refused(
            &client.ask(&request),
            504,
            "upstream_head_timeout",
            &request,
        );
    }
    assert_eq!(
        origin.requests().len(),
        2,
        "a request that may have been acted on is not repeated"
    );
    // A dripping head does not move the deadline.
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        connection.wait_at_most(Some(Duration::from_millis(20)));
        connection.answer("HTTP/1.1 200 OK\r\n");
        while connection.fill() == Err(Ending::Silence) {
            connection.answer("A: b\r\n");
        }
    });
    let gateway = with_timeouts(&origin, "{ upstream_head: 200ms }");
    assert_refused(
        &gateway.get("a.test", "/"),
        504,
        "upstream_head_timeout",
        "a dripping head",
    );
}

#[test]
fn upstream_body() {
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        connection.request();
        connection.answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        waiting.wait();
    });
    let gateway = with_timeouts(&origin, "{ upstream_body: 200ms }");
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    let partial = client
        .try_response()
        .expect_err("a response that is not whole");
    assert_eq!(
        partial.response.map(|response| response.text()).as_deref(),
        Some("hello")
    );
    let line = gateway.log_line("the exchange", |line| line["host"] == "a.test");
    assert_eq!(line["reason"], "upstream_body_timeout");
    gate.open();
}

#[test]
fn the_whole_request() {
    let origin = Origin::serve(origin::silent);
    let gateway = with_timeouts(&origin, "{ request: 200ms }");
    assert_refused(
        &gateway.get("a.test", "/"),
        504,
        "request_timeout",
        "a silent origin",
    );
    // A body that always makes progress is cut at the deadline.
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        connection.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.wait_at_most(Some(Duration::from_millis(20)));
        while connection.fill() == Err(Ending::Silence) {
            connection.answer("1\r\nx\r\n");
        }
    });
    let gateway = with_timeouts(&origin, "{ request: 300ms }");
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    let partial = client
        .try_response()
        .expect_err("a response that is not whole");
    assert!(
        partial
            .response
            .is_some_and(|response| !response.body.is_empty())
    );
    let line = gateway.log_line("the exchange", |line| line["host"] == "a.test");
    assert_eq!(line["reason"], "request_timeout");
}

#[test]
fn deadlines_are_set_per_route() {
    let origin = Origin::serve(origin::silent);
    let gateway = with_routes(
        &origin,
        &[
            "{ match: [{ path: { prefix: /fast } }], policies: { timeouts: { upstream_head: 150ms } }, to: origin }",
            "{ policies: { timeouts: { request: 500ms } }, to: origin }",
        ],
    );
    assert_refused(
        &gateway.get("a.test", "/fast"),
        504,
        "upstream_head_timeout",
        "/fast",
    );
    assert_refused(&gateway.get("a.test", "/"), 504, "request_timeout", "/");
}

#[test]
fn a_patient_exchange_is_left_alone() {
    // Slower than every deadline taken together, never slower than any.
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        connection.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.wait_at_most(Some(Duration::from_millis(100)));
        for _ in 0..10 {
            if connection.fill() == Err(Ending::Silence) {
                connection.answer("1\r\nx\r\n");
            }
        }
        connection.answer("0\r\n\r\n");
    });
    let gateway = with_timeouts(
        &origin,
        "{ upstream_head: 800ms, upstream_body: 800ms, write_progress: 800ms, body_progress: 800ms }",
    );
    assert_eq!(gateway.get("a.test", "/").text(), "xxxxxxxxxx");
}

//! WebSocket tunnels: nothing goes through before the origin agreed, everything after, for as long
//! as both sides want.

use std::sync::Arc;

use cardea_tests::origin::{self, Connection};
use cardea_tests::wait::Gate;
use cardea_tests::{Client, Ending, Gateway, Origin, websocket};

use crate::fixture::{get, plain, plain_with};

const MASK: Option<[u8; 4]> = Some([7, 1, 9, 3]);

/// Opens a WebSocket.
#[track_caller]
pub(crate) fn open(gateway: &Gateway, host: &str) -> Client {
    let mut client = gateway.client();
    let response = client.ask(websocket::handshake(host, "/ws"));
    assert_eq!(response.status, 101, "{response:?}");
    client
}

/// Sends a message and expects it back.
#[track_caller]
pub(crate) fn assert_echoes(client: &mut Client, text: &str) {
    let message = websocket::text(text);
    client.send(websocket::encode(&message, MASK));
    assert_eq!(websocket::read(client), Ok(message));
}

#[test]
fn a_websocket_goes_through() {
    let origin = Origin::serve(origin::websocket);
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let response = client.ask(websocket::handshake("a.test", "/ws?x=1"));
    assert_eq!(response.status, 101);
    assert!(
        response.fields.lists("connection", "upgrade"),
        "{response:?}"
    );
    assert!(
        response.fields.lists("upgrade", "websocket"),
        "{response:?}"
    );
    let accept = websocket::accept(websocket::KEY);
    assert_eq!(
        response.field("sec-websocket-accept"),
        Some(accept.as_str())
    );
    let seen = origin.only_request();
    assert_eq!(seen.target, "/ws?x=1");
    assert!(seen.fields.lists("connection", "upgrade"), "{}", seen.head);
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    for text in ["", "hello", &"x".repeat(200_000)] {
        assert_echoes(&mut client, text);
    }
    client.send(websocket::encode(&websocket::close(), MASK));
    assert_eq!(websocket::read(&mut client), Ok(websocket::close()));
    client.assert_closed();
    client.half_close();
    let line = gateway.log_line("the tunnel", |line| line["status"] == 101);
    assert!(
        line["bytes_sent"]
            .as_u64()
            .is_some_and(|bytes| bytes > 200_000),
        "{line}"
    );
}

#[test]
fn bytes_are_held_until_101() {
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        if connection.request().is_none() {
            return;
        }
        assert!(connection.unread().is_empty());
        waiting.wait();
        connection.answer(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        if let Ok(early) = connection.take_through(b"early") {
            connection.answer(early);
        }
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.send(websocket::handshake("a.test", "/") + "early");
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    assert!(!String::from_utf8_lossy(&origin.received(0)).contains("early"));
    gate.open();
    assert_eq!(client.response().status, 101);
    assert_eq!(client.take_through(b"early"), Ok(b"early".to_vec()));
}

#[test]
fn what_an_origin_sends_with_its_101_arrives() {
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        connection.answer(
            [
                head.as_bytes(),
                &websocket::encode(&websocket::text("hi"), None),
            ]
            .concat(),
        );
        connection.take_rest();
    });
    let gateway = plain(&origin);
    let mut client = open(&gateway, "a.test");
    assert_eq!(websocket::read(&mut client), Ok(websocket::text("hi")));
}

#[test]
fn a_refused_upgrade_is_a_response_like_any_other() {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    ));
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let response = client.ask(websocket::handshake("a.test", "/"));
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    assert!(!response.fields.has("upgrade"), "{response:?}");
    // The connection is still HTTP.
    assert_eq!(client.get("a.test", "/").status, 403);
}

#[test]
fn either_side_may_end_a_tunnel_first() {
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        connection.answer(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        if connection.take_through(b"end").is_ok() {
            connection.answer("bye");
        }
    });
    let gateway = plain(&origin);
    let mut client = open(&gateway, "a.test");
    client.send("end");
    assert_eq!(client.take_rest(), (b"bye".to_vec(), Ending::Eof));
    let mut client = open(&gateway, "a.test");
    // Half-closed by the client, the other direction goes on.
    client.send("the end").half_close();
    assert_eq!(client.take_rest(), (b"bye".to_vec(), Ending::Eof));
    origin.wait_until("both tunnels close", |origin| {
        origin.open_connections() == 0
    });
}

#[test]
fn a_reset_of_the_origin_ends_the_tunnel() {
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        connection.answer(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        if connection.take_through(b"end").is_ok() {
            connection.abort();
        }
    });
    let gateway = plain(&origin);
    let mut client = open(&gateway, "a.test");
    client.send("end");
    let (rest, ending) = client.take_rest();
    assert_eq!(rest, b"");
    assert_ne!(ending, Ending::Silence);
}

#[test]
fn a_silent_tunnel_ends() {
    let origin = Origin::serve(origin::websocket);
    let gateway = plain_with(&origin, "policies: { timeouts: { tunnel_idle: 200ms } }\n");
    let mut client = open(&gateway, "a.test");
    assert_echoes(&mut client, "hello");
    let (_, ending) = client.take_rest();
    assert_ne!(ending, Ending::Silence);
    origin.wait_until("the tunnel closes", |origin| origin.open_connections() == 0);
}

#[test]
fn a_busy_direction_keeps_a_tunnel_open() {
    let origin = Origin::serve(origin::websocket);
    let gateway = plain_with(
        &origin,
        "policies: { timeouts: { tunnel_idle: 2s, request: 1s } }\n",
    );
    let mut client = open(&gateway, "a.test");
    // Longer than the request deadline, which ends with the 101, and than the silence allowed.
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_millis(2500) {
        assert_echoes(&mut client, "still here");
    }
}

#[test]
fn a_101_for_another_protocol_is_malformed() {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ));
    let gateway = plain(&origin);
    let response = gateway.ask(websocket::handshake("a.test", "/"));
    assert_eq!(
        (response.status, response.reason()),
        (502, Some("upstream_malformed"))
    );
    let lines = "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n";
    let response = gateway.ask(get("a.test", "/", lines));
    assert_eq!(response.status, 502, "{response:?}");
}

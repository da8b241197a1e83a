//! WebSockets over HTTP/2 (RFC 8441), to origins of either version.

use std::sync::Arc;

use cardea_tests::http2::{Client, Frame, Peer, code, flag, kind, setting};
use cardea_tests::origin::{self, Connection};
use cardea_tests::websocket::{self, Kind};
use cardea_tests::{Gateway, Origin};

use super::origins::CONFIG;
use super::{client, noise};
use crate::fixture::{PLAIN, assert_refused, plain, plain_with};
use crate::tunnels;

const MASK: Option<[u8; 4]> = Some([7, 1, 9, 3]);

/// The fields that ask for a WebSocket.
fn handshake() -> Vec<(&'static str, &'static str)> {
    vec![
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/ws?x=1"),
        ("sec-websocket-version", "13"),
    ]
}

/// Opens a WebSocket.
#[track_caller]
fn open(client: &mut Client) -> u32 {
    let stream = client.open(&handshake(), false);
    client.pump_until("agreement", |client| {
        !client.of(stream).lists.is_empty() || client.of(stream).is_over()
    });
    let received = client.of(stream);
    let list = &received.lists[0];
    assert_eq!(list[0], (":status".into(), "200".into()), "{received:?}");
    assert!(
        !list.iter().any(|it| it.0 == "sec-websocket-accept"),
        "{list:?}"
    );
    assert!(!received.is_over());
    stream
}

/// Sends bytes and expects these back.
#[track_caller]
fn assert_answers(client: &mut Client, stream: u32, sent: &[u8], expected: &[u8]) {
    let before = client.of(stream).body.len();
    client.send_body(stream, sent, false);
    let all = before + expected.len();
    client.pump_until("the echo", |client| {
        client.streams[&stream].body.len() >= all
    });
    assert!(
        client.of(stream).body[before..] == *expected,
        "not what was sent"
    );
}

/// Sends a message and expects it back.
#[track_caller]
fn assert_echoes(client: &mut Client, stream: u32, text: &str) {
    let message = websocket::text(text);
    let (sent, expected) = (
        websocket::encode(&message, MASK),
        websocket::encode(&message, None),
    );
    assert_answers(client, stream, &sent, &expected);
}

/// An origin of HTTP/2 that knows tunnels and sends back the bytes that come through one.
fn tunnelling() -> Origin {
    Origin::serve(|connection: &mut Connection| {
        let settings = [(setting::ENABLE_CONNECT_PROTOCOL, 1)];
        let mut server = Peer::accept(connection, &settings);
        let mut last = 0;
        while let Some(stream) = server.head(last) {
            last = stream;
            let request = server.request_of(stream);
            server.connection().record(request);
            server.try_send(&Frame::headers(stream, 0, &[(":status", "200")]));
            let mut sent = 0;
            loop {
                let received = server.of(stream);
                let ends = received.is_ended;
                let rest = received.body[sent..].to_vec();
                sent = received.body.len();
                if received.reset.is_some() || !server.try_send_body(stream, &rest, ends) {
                    break;
                }
                if ends || server.pump().is_err() {
                    break;
                }
            }
        }
    })
}

#[test]
fn from_http2_to_http1() {
    let origin = Origin::serve(origin::websocket);
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    assert_eq!(
        client.settings.get(&setting::ENABLE_CONNECT_PROTOCOL),
        Some(&1)
    );
    let stream = open(&mut client);
    let seen = origin.only_request();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/ws?x=1")
    );
    assert!(seen.fields.lists("connection", "upgrade"), "{}", seen.head);
    assert!(seen.fields.lists("upgrade", "websocket"), "{}", seen.head);
    assert_eq!(seen.field("sec-websocket-key").map(str::len), Some(24));
    assert!(!seen.head.contains("protocol:"), "{}", seen.head);
    for text in ["", "hello", &"x".repeat(1 << 20)] {
        assert_echoes(&mut client, stream, text);
    }
    // Two of them on one connection, and a request beside.
    let other = open(&mut client);
    assert_echoes(&mut client, other, "other");
    assert_echoes(&mut client, stream, "first");
    client.send_body(stream, &websocket::encode(&websocket::close(), MASK), false);
    client.pump_until("the end", |client| client.of(stream).is_over());
    assert!(client.of(stream).is_ended, "{:?}", client.of(stream).reset);
    assert_echoes(&mut client, other, "still here");
}

#[test]
fn from_http2_to_http2() {
    let origin = tunnelling();
    let gateway = Gateway::start(CONFIG, &[("origin", &origin.address())]);
    let mut client = client(&gateway);
    let stream = open(&mut client);
    let seen = origin.only_request();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("CONNECT", "/ws?x=1")
    );
    assert!(
        seen.head.contains("(\":protocol\", \"websocket\")"),
        "{}",
        seen.head
    );
    assert!(!seen.fields.has("sec-websocket-key") && !seen.fields.has("upgrade"));
    let bytes = noise(1 << 20);
    assert_answers(&mut client, stream, &bytes, &bytes);
    // The end goes through as the bytes do.
    client.send(&Frame::new(kind::DATA, flag::END_STREAM, stream, *b"bye"));
    client.pump_until("the end", |client| client.of(stream).is_over());
    let received = client.of(stream);
    assert!(
        received.is_ended && received.body.ends_with(b"bye"),
        "{:?}",
        received.reset
    );
}

#[test]
fn from_http1_to_http2() {
    let origin = tunnelling();
    let gateway = Gateway::start(CONFIG, &[("origin", &origin.address())]);
    let mut client = tunnels::open(&gateway, "a.test");
    client.send("hello");
    assert_eq!(client.take(5), Ok(b"hello".to_vec()));
    client.half_close();
    assert_eq!(client.take_rest().0, b"");
    // A client of HTTP/1 is shown what it asked for, which no origin of HTTP/2 said.
    let mut client = gateway.client();
    let response = client.ask(websocket::handshake("a.test", "/"));
    let accept = websocket::accept(websocket::KEY);
    assert_eq!(
        response.field("sec-websocket-accept"),
        Some(accept.as_str())
    );
}

#[test]
fn an_origin_without_tunnels_refuses() {
    let origin = super::origins::echo();
    let gateway = Gateway::start(CONFIG, &[("origin", &origin.address())]);
    // RFC 8441 section 3: it is not even asked.
    let response = gateway.ask(websocket::handshake("a.test", "/"));
    assert_refused(&response, 400, "upgrade_invalid", "no tunnels there");
    let mut client = client(&gateway);
    let stream = client.open(&handshake(), false);
    assert!(client.response(stream).status >= 400);
    assert_eq!(client.get("a.test", "/after").text(), "/after");
    // By then it has read everything before, too.
    let received = origin.received(0);
    let is_asked = received.windows(9).any(|bytes| bytes == b":protocol");
    assert!(!received.is_empty() && !is_asked, "{received:?}");
    // So may one of HTTP/1.
    let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let origin = Origin::serve(origin::answering(answer));
    let gateway = plain(&origin);
    let mut client = super::client(&gateway);
    let stream = client.open(&handshake(), false);
    assert_eq!(client.response(stream).text(), "no");
}

#[test]
fn fragmented_messages_go_through_as_they_are() {
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        connection.answer(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        while connection.fill().is_ok() {
            let bytes = connection.unread().to_vec();
            let taken = connection.take(bytes.len());
            connection.answer(taken.unwrap_or_default());
        }
    });
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let stream = open(&mut client);
    // Text in three fragments, a ping between them, a byte a frame.
    let mut bytes = websocket::encode(&websocket::text("one"), MASK);
    bytes[0] = 0x01;
    let ping = websocket::Frame {
        kind: Kind::Other(9),
        payload: b"?".to_vec(),
    };
    bytes.extend(websocket::encode(&ping, MASK));
    let rest = websocket::Frame {
        kind: Kind::Other(0),
        payload: b"two".to_vec(),
    };
    bytes.extend(websocket::encode(&rest, MASK));
    for byte in &bytes {
        client.send_body(stream, &[*byte], false);
    }
    let all = bytes.len();
    client.pump_until("the echo", |client| {
        client.streams[&stream].body.len() == all
    });
    assert_eq!(client.of(stream).body, bytes);
}

#[test]
fn a_slow_reader_slows_its_origin_and_nobody_else() {
    const BYTES: usize = 8 << 20;
    let origin = Origin::serve(|connection: &mut Connection| {
        let request = connection.request();
        if request.is_some_and(|it| it.method == "GET" && !it.fields.has("upgrade")) {
            connection.answer(origin::ok("fine"));
            return;
        }
        connection.answer(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        connection.answer(noise(BYTES));
    });
    let gateway = plain(&origin);
    let before = gateway.resident_bytes();
    let mut client = client(&gateway);
    client.opens_windows = false;
    let stream = open(&mut client);
    client.pump_until("a full window", |client| {
        client.of(stream).body.len() > 64_000
    });
    let mut honest = super::client(&gateway);
    assert_eq!(honest.get("a.test", "/").text(), "fine");
    let held = gateway.resident_bytes().saturating_sub(before);
    assert!(held < BYTES as u64 / 2, "{held} bytes held");
    client.opens_windows = true;
    for of in [0, stream] {
        client.send(&Frame::window_update(of, BYTES as u32));
    }
    client.pump_until("the end", |client| client.streams[&stream].is_over());
    assert!(client.of(stream).body == noise(BYTES), "not what was sent");
}

#[test]
fn a_reload_leaves_it_open() {
    let origin = Origin::serve(origin::websocket);
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let stream = open(&mut client);
    let more = "policies: { header_edits: { response: { set: { x-new: \"1\" } } } }\n";
    let values = [("origin", &origin.address() as &dyn std::fmt::Display)];
    for more in [more, ""] {
        gateway.configure(&format!("{PLAIN}{more}"), &values);
        assert_echoes(&mut client, stream, "still here");
    }
}

#[test]
fn a_silent_one_ends_and_a_given_up_one_too() {
    let origin = Origin::serve(origin::websocket);
    let gateway = plain_with(&origin, "policies: { timeouts: { tunnel_idle: 300ms } }\n");
    let mut client = client(&gateway);
    let stream = open(&mut client);
    assert_echoes(&mut client, stream, "hello");
    client.pump_until("the end", |client| client.of(stream).is_over());
    origin.wait_until("the tunnel closes", |origin| origin.open_connections() == 0);
    client.ping();
    let gateway = plain(&origin);
    let mut client = super::client(&gateway);
    let stream = open(&mut client);
    client.send(&Frame::reset(stream, code::CANCEL));
    origin.wait_until("the tunnel closes", |origin| origin.open_connections() == 0);
}

#[test]
fn bytes_are_held_until_the_origin_agrees() {
    let gate = Arc::new(cardea_tests::wait::Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        connection.request();
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
    let mut client = client(&gateway);
    let stream = client.open(&handshake(), false);
    client.send_body(stream, b"early", false);
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    client.ping();
    assert!(!String::from_utf8_lossy(&origin.received(0)).contains("early"));
    gate.open();
    client.pump_until("the echo", |client| client.of(stream).body == b"early");
}

//! The rows of the threat table on what is smuggled from HTTP/2 into HTTP/1: each is refused with its
//! reason, the origin hears nothing of it, and the connection's other streams go on.

use cardea_tests::http2::{Client, Frame, Loss, code, flag, hpack, kind, request};
use cardea_tests::{Gateway, Origin, Request};

use super::client;
use crate::fixture::{assert_refused, plain};

/// A gateway that has to refuse, and the client that provokes it.
struct Refusals {
    origin: Origin,
    gateway: Gateway,
    client: Client,
}

impl Refusals {
    fn start() -> Self {
        let origin = Origin::echo();
        let gateway = plain(&origin);
        let client = client(&gateway);
        Self {
            origin,
            gateway,
            client,
        }
    }

    /// Sends fields that have to be refused: as a whole request, and as the beginning of one.
    #[track_caller]
    fn check(&mut self, fields: &[(&str, &str)], status: u16, reason: &str) {
        let about = format!("{fields:?}");
        let response = self.client.ask(fields);
        assert_refused(&response, status, reason, &about);
        let stream = self.client.open(fields, false);
        self.client
            .try_send(&Frame::new(kind::DATA, 0, stream, *b"GET /smuggled"));
        let response = self.client.response(stream);
        assert_refused(&response, status, reason, &about);
        self.client
            .pump_until("the reset of a malformed request", |client| {
                client.of(stream).reset.is_some()
            });
        assert_eq!(
            self.client.of(stream).reset,
            Some(code::PROTOCOL_ERROR),
            "{about}"
        );
        assert_eq!(self.origin.requests(), Vec::<Request>::new(), "{about}");
    }

    /// Its neighbours never noticed.
    #[track_caller]
    fn finish(mut self) {
        assert_eq!(self.client.get("a.test", "/").status, 200);
        assert_eq!(self.gateway.get("a.test", "/").status, 200);
        assert_eq!(self.origin.requests().len(), 2);
    }
}

/// A sound request with one more field.
fn with<'f>(name: &'f str, value: &'f str) -> Vec<(&'f str, &'f str)> {
    let mut fields = request("POST", "a.test", "/");
    fields.push((name, value));
    fields
}

/// A sound request with another value for a pseudo-header field.
fn saying<'f>(name: &str, value: &'f str) -> Vec<(&'f str, &'f str)> {
    let mut fields = request("POST", "a.test", "/");
    for field in &mut fields {
        if field.0 == name {
            field.1 = value;
        }
    }
    fields
}

#[test]
fn h2_cl() {
    let mut refusals = Refusals::start();
    // RFC 9113 section 8.1.1: the body is as long as it says, or the message is malformed.
    let cases: &[(&str, &[&str])] = &[
        ("5", &["abc"]),
        ("5", &["abcdefgh"]),
        ("5", &["abc", "GET /smuggled HTTP/1.1\r\n\r\n"]),
        ("0", &["GET /smuggled HTTP/1.1\r\n\r\n"]),
        ("1000", &[""]),
    ];
    for (length, pieces) in cases {
        let stream = refusals.client.open(&with("content-length", length), false);
        for (at, piece) in pieces.iter().enumerate() {
            let flags = if at + 1 == pieces.len() {
                flag::END_STREAM
            } else {
                0
            };
            refusals
                .client
                .try_send(&Frame::new(kind::DATA, flags, stream, *piece));
        }
        match refusals.client.try_response(stream) {
            Err(Loss::Reset(code::PROTOCOL_ERROR, _)) => {}
            // With a length of zero, the answer may be on its way.
            Ok(response) if *length == "0" => assert_eq!(response.status, 200),
            other => panic!("{length} {pieces:?}: {other:?}"),
        }
    }
    let response = refusals.client.ask(&with("content-length", "7"));
    assert_refused(
        &response,
        400,
        "content_length_invalid",
        "a length and no body",
    );
    for lengths in [["1", "2"], ["3", "3"]] {
        let mut fields = with("content-length", lengths[0]);
        fields.push(("content-length", lengths[1]));
        let response = refusals.client.ask(&fields);
        assert_eq!(response.status, 400, "{lengths:?}");
    }
    for length in ["+1", "-1", "0x1", "1,1", "", "1 "] {
        let response = refusals.client.ask(&with("content-length", length));
        assert_eq!(response.status, 400, "{length:?}");
    }
    refusals
        .origin
        .wait_until("its connections are let go", |origin| {
            origin.open_connections() <= 1
        });
    for seen in refusals.origin.take_requests() {
        assert!(
            seen.target == "/" && (!seen.is_whole || seen.body.is_empty()),
            "{seen:?}"
        );
    }
    let labels = [("fault", "body_length")];
    let count = refusals
        .gateway
        .metric("cardea_http2_faults_total", &labels);
    assert!(count.is_some_and(|count| count >= 4.0), "{count:?}");
    refusals.finish();
}

#[test]
fn h2_te_and_other_fields_of_connections() {
    let mut refusals = Refusals::start();
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("connection", "close"),
        ("connection", "x-forwarded-for"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("te", "chunked"),
        ("te", "trailers, chunked"),
    ] {
        refusals.check(&with(name, value), 400, "connection_invalid");
    }
    refusals.finish();
}

#[test]
fn injection_in_names_and_values() {
    let mut refusals = Refusals::start();
    for name in [
        "x\r\ny",
        "x: y\r\nz",
        "x:",
        "x y",
        "",
        "x\0",
        "X-Upper",
        "Transfer-Encoding",
        "x\u{7f}",
        "transfer-encoding\r\n",
        "host: b.test\r\nx",
    ] {
        refusals.check(&with(name, "1"), 400, "header_malformed");
    }
    for value in [
        "a\r\nb: c",
        "a\nb",
        "a\rb",
        "a\0b",
        " a",
        "a ",
        "\ta",
        "1\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n",
    ] {
        refusals.check(&with("x-value", value), 400, "header_malformed");
        refusals.check(&with("cookie", value), 400, "header_malformed");
    }
    refusals.finish();
}

#[test]
fn injection_in_pseudo_headers() {
    let mut refusals = Refusals::start();
    for path in [
        "/ HTTP/1.1\r\nx: y",
        "/a b",
        "/a\r\n",
        "/\0",
        "",
        "a",
        "*",
        "http://b.test/",
    ] {
        refusals.check(&saying(":path", path), 400, "request_line_malformed");
    }
    for method in ["", "GET / HTTP/1.1\r\n", "G ET", "GET\0", "GET:"] {
        refusals.check(&saying(":method", method), 400, "request_line_malformed");
    }
    for authority in ["a.test\r\nx: y", "a.test b", "", "a.test\0"] {
        refusals.check(&saying(":authority", authority), 400, "host_invalid");
    }
    for authority in ["user@a.test", "a.test/b", "a.test:x", "a.test, b.test"] {
        let response = refusals.client.ask(&saying(":authority", authority));
        assert_eq!(response.status, 400, "{authority}");
    }
    for scheme in ["ftp", "http://b.test/?", "http\r\nx: y", ""] {
        refusals.check(&saying(":scheme", scheme), 400, "request_line_malformed");
    }
    refusals.finish();
}

#[test]
fn pseudo_headers_out_of_order_missing_and_unknown() {
    let mut refusals = Refusals::start();
    let sound = request("POST", "a.test", "/");
    let mut cases = Vec::new();
    for left_out in [":method", ":scheme", ":path"] {
        let rest = sound.iter().filter(|field| field.0 != left_out);
        cases.push(rest.copied().collect::<Vec<_>>());
    }
    for more in [
        (":path", "/"),
        (":method", "GET"),
        (":authority", "b.test"),
        (":scheme", "http"),
        (":status", "200"),
        (":unknown", "x"),
        (":", "x"),
    ] {
        cases.push([&sound[..], &[more]].concat());
    }
    // After a field.
    cases.push([&sound[..3], &[("x-field", "1")], &sound[3..]].concat());
    cases.push([&[("cookie", "a")], &sound[..]].concat());
    for fields in cases {
        refusals.check(&fields, 400, "header_malformed");
    }
    let fields = [&sound[..], &[("host", "b.test")]].concat();
    refusals.check(&fields, 400, "host_invalid");
    // Without an authority there has to be a host.
    let rest: Vec<_> = sound
        .iter()
        .filter(|it| it.0 != ":authority")
        .copied()
        .collect();
    let response = refusals.client.ask(&rest);
    assert_eq!(response.status, 400, "{response:?}");
    let both = [&sound[..], &[("host", "A.test")]].concat();
    assert_eq!(refusals.client.ask(&both).status, 200);
    assert_eq!(
        refusals.origin.take_requests()[0].fields.all("host").len(),
        1
    );
    refusals.finish();
}

#[test]
fn trailers_carry_no_second_message() {
    let mut refusals = Refusals::start();
    for (name, value) in [
        (":path", "/smuggled"),
        ("x\r\ny", "1"),
        ("x", "1\r\ny: 2"),
        ("transfer-encoding", "chunked"),
        ("Upper", "1"),
    ] {
        let stream = refusals.client.open(&request("POST", "a.test", "/"), false);
        refusals.client.send_body(stream, b"data", false);
        let trailers = Frame::headers(stream, flag::END_STREAM, &[(name, value)]);
        refusals.client.send(&trailers);
        match refusals.client.try_response(stream) {
            Err(Loss::Reset(code::PROTOCOL_ERROR, _)) => {}
            other => panic!("{name}: {other:?}"),
        }
    }
    refusals
        .origin
        .wait_until("its connections are let go", |origin| {
            origin.open_connections() == 0
        });
    let whole = refusals.origin.take_requests();
    assert!(whole.iter().all(|request| !request.is_whole), "{whole:?}");
    // Those that say what belongs into the head are left out.
    let stream = refusals.client.open(&request("POST", "a.test", "/"), false);
    refusals.client.send_body(stream, b"data", false);
    let fields = [("content-length", "9"), ("host", "b.test"), ("x-sum", "1")];
    let trailers = Frame::headers(stream, flag::END_STREAM, &fields);
    refusals.client.send(&trailers);
    let response = refusals.client.response(stream);
    let seen = response.json();
    assert!(!seen["trailers"].to_string().contains("b.test"), "{seen}");
    assert!(
        !seen["trailers"].to_string().contains("content-length"),
        "{seen}"
    );
    refusals.origin.take_requests();
    refusals.finish();
}

#[test]
fn connect_is_no_way_around() {
    let mut refusals = Refusals::start();
    let response = refusals
        .client
        .ask(&[(":method", "CONNECT"), (":authority", "a.test:80")]);
    assert!(response.status >= 400, "{response:?}");
    // RFC 8441 for anything but WebSocket.
    let mut fields = request("CONNECT", "a.test", "/");
    fields.insert(1, (":protocol", "h2c"));
    let response = refusals.client.ask(&fields);
    assert!(response.status >= 400, "{response:?}");
    let mut fields = request("GET", "a.test", "/");
    fields.insert(1, (":protocol", "websocket"));
    refusals.check(&fields, 400, "upgrade_invalid");
    refusals.finish();
}

/// A fault by its word in metrics, a frame that commits it, and the code it is answered with.
type Broken = (&'static str, Frame, u32);

const ENDS: u8 = flag::END_STREAM | flag::END_HEADERS;

/// Frames for streams that they cannot be for, and windows that cannot be.
fn misplaced() -> Vec<Broken> {
    let head = hpack::encode(&request("GET", "a.test", "/"));
    let continued = Frame::new(kind::CONTINUATION, flag::END_HEADERS, 1, head.clone());
    let pushed = Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, 1, vec![0; 4]);
    let headers = |stream: u32| Frame::new(kind::HEADERS, ENDS, stream, head.clone());
    let data = Frame::new(kind::DATA, 0, 99, *b"x");
    let most = Frame::window_update(0, 0x7fff_ffff);
    vec![
        ("stream_id", headers(0), code::PROTOCOL_ERROR),
        ("stream_id", headers(2), code::PROTOCOL_ERROR),
        ("stream_idle", data, code::PROTOCOL_ERROR),
        ("stream_idle", Frame::reset(99, 0), code::PROTOCOL_ERROR),
        (
            "stream_idle",
            Frame::window_update(99, 1),
            code::PROTOCOL_ERROR,
        ),
        (
            "window_increment",
            Frame::window_update(0, 0),
            code::PROTOCOL_ERROR,
        ),
        ("window", most, code::FLOW_CONTROL_ERROR),
        ("push", pushed, code::PROTOCOL_ERROR),
        ("continuation", continued, code::PROTOCOL_ERROR),
    ]
}

/// Frames that nobody can read, or that say what cannot be.
fn malformed() -> Vec<Broken> {
    let setting = |id: u16, value: u32| Frame::settings(&[(id, value)]);
    let zeros = |kind: u8, stream: u32, count: usize| Frame::new(kind, 0, stream, vec![0; count]);
    let headers = |bytes: Vec<u8>| Frame::new(kind::HEADERS, ENDS, 1, bytes);
    let padded = Frame::new(kind::HEADERS, ENDS | flag::PADDED, 1, vec![9, 0x82]);
    vec![
        ("window", setting(4, 0x8000_0000), code::FLOW_CONTROL_ERROR),
        ("settings", setting(5, 100), code::PROTOCOL_ERROR),
        ("settings", setting(2, 2), code::PROTOCOL_ERROR),
        (
            "frame_size",
            zeros(kind::SETTINGS, 0, 5),
            code::FRAME_SIZE_ERROR,
        ),
        (
            "frame_size",
            zeros(kind::PING, 0, 7),
            code::FRAME_SIZE_ERROR,
        ),
        (
            "frame_size",
            zeros(kind::DATA, 1, 16_385),
            code::FRAME_SIZE_ERROR,
        ),
        ("padding", padded, code::PROTOCOL_ERROR),
        (
            "compression",
            headers(vec![0xff; 8]),
            code::COMPRESSION_ERROR,
        ),
        ("compression", headers(vec![0x80]), code::COMPRESSION_ERROR),
        ("compression", headers(vec![0xbe]), code::COMPRESSION_ERROR),
    ]
}

#[test]
fn frames_that_break_a_rule_end_the_connection() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut honest = client(&gateway);
    for (fault, frame, code) in [misplaced(), malformed()].concat() {
        let labels = [("listener", "web"), ("fault", fault)];
        let count = || gateway.metric("cardea_http2_faults_total", &labels);
        let before = count().unwrap_or_default();
        let mut attacker = client(&gateway);
        attacker.try_send(&frame);
        let ending = attacker.pump_to_end();
        let told = attacker.goaways.last().map(|goaway| goaway.1);
        assert_eq!(told, Some(code), "{fault}: {frame:?}");
        assert_eq!(ending, cardea_tests::Ending::Eof, "{fault}");
        gateway.wait_for_metric("cardea_http2_faults_total", &labels, before + 1.0);
        assert_eq!(honest.get("a.test", "/").status, 200);
    }
}

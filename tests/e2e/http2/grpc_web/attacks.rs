//! Ends that are none: answers that are cut, that have no status or too much after them, and calls that
//! turn out to be none when their answer has begun.

use cardea_tests::client::Partial;
use cardea_tests::http2::{Frame, Loss, flag, request};
use cardea_tests::origin::Connection;
use cardea_tests::wire::{Broken, Ending};
use cardea_tests::{Client, Gateway, Origin, Response};
use data_encoding::BASE64;

use super::{BEGINNING, Calls, TEXT, TRANSLATED, frames, message, post, translating};
use crate::http2::client;
use crate::http2::origins::answering;

const BINARY: &str = "application/grpc-web+proto";

/// What a client gets that makes a call without waiting for more than its answer.
fn ask(client: &mut Client, content_type: &str) -> Result<Response, Box<Partial>> {
    let sent = match content_type {
        BINARY => message(b"go"),
        _ => BASE64.encode(&message(b"go")).into_bytes(),
    };
    client.send(post(content_type, sent.len()));
    client.send(sent);
    client.try_response()
}

/// The stream of a call over HTTP/2.
fn call(client: &mut cardea_tests::http2::Client) -> u32 {
    let mut fields = request("POST", "a.test", "/test.Calls/Unary");
    fields.push(("content-type", BINARY));
    let stream = client.open(&fields, false);
    client.send_body(stream, &message(b"go"), true);
    stream
}

/// An origin of HTTP/1.1 that says this after the head of its answer.
fn saying(rest: impl Into<Vec<u8>>) -> Origin {
    let rest = rest.into();
    Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            connection.answer(BEGINNING);
            connection.answer(&rest);
        }
    })
}

/// A gateway that translates for an origin of HTTP/2.
fn before(origin: &Origin) -> Gateway {
    let config = crate::http2::origins::CONFIG;
    let routes = "routes: [{ policies: { grpc_web: true }, to: origin }]";
    let config = config.replace("routes: [{ to: origin }]", routes);
    Gateway::start(&config, &[("origin", &origin.address())])
}

#[track_caller]
fn assert_cut(partial: &Partial, body: &[u8]) {
    let seen = partial.response.as_ref().map(|it| it.body.as_slice());
    assert_eq!(seen, Some(body), "{partial:?}");
    assert!(
        matches!(partial.broken, Broken::Ended(Ending::Reset)),
        "{partial:?}"
    );
}

#[test]
fn an_answer_that_is_cut_does_not_end() {
    let origin = Origin::serve(|connection: &mut Connection| {
        if connection.request().is_some() {
            connection.answer(BEGINNING);
            connection.answer("6\r\n\0\0\0\0\u{1}a\r\n");
            connection.half_close();
        }
    });
    let gateway = translating(&origin);
    let text = BASE64.encode(&message(b"a"));
    for (content_type, body) in [(BINARY, message(b"a")), (TEXT, text.into_bytes())] {
        let cut = ask(&mut gateway.client(), content_type).expect_err("it looks whole");
        assert_cut(&cut, &body);
    }
    let mut client = client(&gateway);
    let stream = call(&mut client);
    let Err(Loss::Reset(_, seen)) = client.try_response(stream) else {
        panic!("it looks whole");
    };
    assert_eq!((seen.body, seen.is_ended), (message(b"a"), false));
    let reason = [("reason", "upstream_body_cut")];
    gateway.wait_for_metric("cardea_responses_by_gateway_total", &reason, 3.0);
}

/// The lines of the last frame, which holds the fields after the body.
#[track_caller]
fn last_lines(body: &[u8]) -> Vec<String> {
    let frames = frames(body);
    let Some((0x80, lines)) = frames.last() else {
        panic!("{frames:?}");
    };
    String::from_utf8_lossy(lines)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn an_answer_without_a_status_is_given_one() {
    let unknown = [
        "grpc-status: 2",
        "grpc-message: The upstream ended the call without a status.",
    ];
    let check = |rest: &str, expected: &[&str]| {
        let origin = saying(rest);
        let gateway = translating(&origin);
        let response = ask(&mut gateway.client(), BINARY).expect("a whole answer");
        assert_eq!(last_lines(&response.body), expected, "{rest:?}");
    };
    check("6\r\n\0\0\0\0\u{1}a\r\n0\r\n\r\n", &unknown);
    check(
        "0\r\nX-Other: 1\r\n\r\n",
        &["x-other: 1", unknown[0], unknown[1]],
    );
    check(
        "0\r\nGrpc-Status: 0\r\nX-A: b\r\nX-A: c\r\n\r\n",
        &["grpc-status: 0", "x-a: b", "x-a: c"],
    );
    let origin = answering(&[], |server, stream| {
        let head = [(":status", "200"), ("content-type", "application/grpc")];
        server.send(&Frame::headers(stream, flag::END_STREAM, &head));
    });
    let gateway = before(&origin);
    let response = ask(&mut gateway.client(), BINARY).expect("a whole answer");
    assert_eq!(last_lines(&response.body), unknown);
}

#[test]
fn a_status_in_the_head_stays_there() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc+json\r\nGrpc-Status: 5\r\nGrpc-Message: no%20such\r\nContent-Length: 0\r\n\r\n";
    let origins = [
        (
            Origin::serve(cardea_tests::origin::answering(head)),
            translating as fn(&Origin) -> _,
        ),
        (
            answering(&[], |server, stream| {
                let head = [
                    (":status", "200"),
                    ("content-type", "application/grpc+json"),
                    ("grpc-status", "5"),
                    ("grpc-message", "no%20such"),
                ];
                server.send(&Frame::headers(stream, flag::END_STREAM, &head));
            }),
            before,
        ),
    ];
    for (origin, gateway) in origins {
        let gateway = gateway(&origin);
        for (content_type, told) in [
            (BINARY, "application/grpc-web+json"),
            (TEXT, "application/grpc-web-text+json"),
        ] {
            let response = ask(&mut gateway.client(), content_type).expect("a whole answer");
            assert_eq!((response.status, response.body.len()), (200, 0));
            assert_eq!(response.field("content-type"), Some(told));
            assert_eq!(response.field("grpc-status"), Some("5"));
            assert_eq!(response.field("grpc-message"), Some("no%20such"));
        }
    }
}

#[test]
fn too_much_after_an_answer_cuts_it() {
    let reason = [("reason", "upstream_trailers_too_large")];
    let check = |gateway: &Gateway| {
        for (number, content_type) in [BINARY, TEXT].into_iter().enumerate() {
            let cut = ask(&mut gateway.client(), content_type).expect_err("it looks whole");
            assert!(
                matches!(cut.broken, Broken::Ended(Ending::Reset)),
                "{cut:?}"
            );
            let counted = number as f64 + 1.0;
            gateway.wait_for_metric("cardea_responses_by_gateway_total", &reason, counted);
        }
    };
    let status = "Grpc-Status: 9\r\n";
    let large = format!("X-Large: {}\r\n", "x".repeat(8 * 1024));
    let many = "X-Many: 1\r\n".repeat(32);
    for trailers in [large, many] {
        let origin = saying(format!("0\r\n{status}{trailers}\r\n"));
        check(&translating(&origin));
    }
    let large = "x".repeat(32 * 1024);
    let trailers: [(Vec<&str>, usize); 2] = [(vec![&large], 1), (vec!["1"; 32], 32)];
    for (values, count) in trailers {
        let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
        assert_eq!(values.len(), count);
        let origin = answering(&[], move |server, stream| {
            let head = [(":status", "200"), ("content-type", "application/grpc")];
            server.send(&Frame::headers(stream, 0, &head));
            server.send_body(stream, &message(b"a"), false);
            let mut fields = vec![("grpc-status", "9")];
            fields.extend(values.iter().map(|value| ("x-more", value.as_str())));
            send_block(server, stream, &fields);
        });
        check(&before(&origin));
    }
    // What fits arrives.
    let origin = answering(&[], |server, stream| {
        let head = [(":status", "200"), ("content-type", "application/grpc")];
        server.send(&Frame::headers(stream, 0, &head));
        let details = "x".repeat(30 * 1024);
        send_block(
            server,
            stream,
            &[("grpc-status", "9"), ("x-more", &details)],
        );
    });
    let response = ask(&mut before(&origin).client(), BINARY).expect("a whole answer");
    let lines = last_lines(&response.body);
    assert_eq!(lines[0], "grpc-status: 9");
    assert_eq!(lines[1].len(), "x-more: ".len() + 30 * 1024);
}

/// Sends the fields after a body in as many frames as they need.
fn send_block(server: &mut cardea_tests::http2::Server<'_>, stream: u32, fields: &[(&str, &str)]) {
    let whole = Frame::headers(stream, flag::END_STREAM, fields);
    let mut pieces = whole.payload.chunks(16 * 1024).peekable();
    let mut kind = whole.kind;
    let mut flags = flag::END_STREAM;
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            flags |= flag::END_HEADERS;
        }
        server.send(&Frame::new(kind, flags, stream, piece));
        (kind, flags) = (cardea_tests::http2::kind::CONTINUATION, 0);
    }
}

#[test]
fn a_text_that_turns_out_to_be_none_has_no_answer() {
    // The answer begins before the call is over.
    let origin = Origin::serve(|connection: &mut Connection| {
        if connection.head().is_some() {
            connection.answer(BEGINNING);
            connection.answer("6\r\n\0\0\0\0\u{1}a\r\n");
            // Until the gateway gives the call up.
            while connection.fill().is_ok() {}
        }
    });
    let gateway = translating(&origin);
    let first = BASE64.encode(&message(b"a"));
    let mut over_http1 = gateway.client();
    over_http1.send(post(TEXT, 1000));
    over_http1.send("AAAA");
    while !String::from_utf8_lossy(over_http1.unread()).contains(&first) {
        over_http1.fill().expect("the first message");
    }
    over_http1.send("AAA=AAA!");
    let cut = over_http1.try_response().expect_err("it looks whole");
    assert_cut(&cut, first.as_bytes());

    let mut over_http2 = client(&gateway);
    let mut fields = request("POST", "a.test", "/test.Calls/Unary");
    fields.push(("content-type", TEXT));
    let stream = over_http2.open(&fields, false);
    over_http2.send_body(stream, b"AAAA", false);
    over_http2.pump_until("the first message", |client| {
        client.of(stream).body == first.as_bytes()
    });
    // A group that never becomes whole.
    over_http2.send_body(stream, b"AAA", true);
    let Err(Loss::Reset(_, seen)) = over_http2.try_response(stream) else {
        panic!("it looks whole");
    };
    assert!(!seen.is_ended, "{seen:?}");
    let reason = [("reason", "grpc_web_malformed")];
    gateway.wait_for_metric("cardea_responses_by_gateway_total", &reason, 2.0);
    origin.wait_until("both calls are given up", |origin| {
        origin.open_connections() == 0
    });
}

#[test]
fn an_upload_that_is_cut_reaches_no_server_as_a_whole() {
    let origin = Origin::echo();
    let gateway = translating(&origin);
    let mut client = gateway.client();
    client.send(post(TEXT, 1000));
    client.send(BASE64.encode(&[0; 300]));
    origin.wait_until("the beginning", |origin| !origin.received(0).is_empty());
    client.half_close();
    origin.wait_until("the end", |origin| !origin.requests().is_empty());
    let seen = origin.only_request();
    assert!(!seen.is_whole, "{seen:?}");
    let reason = [("reason", "client_closed")];
    gateway.wait_for_metric("cardea_responses_by_gateway_total", &reason, 1.0);
}

#[test]
fn a_deadline_is_kept_by_the_gateway_alone() {
    let origin = Origin::serve(cardea_tests::origin::silent);
    let gateway = translating(&origin);
    let sent = BASE64.encode(&message(b"go"));
    let head = post(TEXT, sent.len());
    let mut client = gateway.client();
    client.send(head.replace("\r\n\r\n", "\r\nGrpc-Timeout: 300m\r\n\r\n"));
    client.send(&sent);
    let response = client.response();
    let told = (response.status, response.field("grpc-status"));
    assert_eq!(told, (200, Some("4")), "{response:?}");
    let content_type = response.field("content-type");
    assert_eq!(content_type, Some("application/grpc-web-text"));
    // A server is told how long it has, too.
    assert_eq!(origin.only_request().field("grpc-timeout"), Some("300m"));
}

#[test]
fn an_empty_call_reaches_the_server() {
    let calls = Calls::start(TRANSLATED);
    for content_type in [BINARY, TEXT] {
        let mut client = calls.gateway.client();
        client.send(post(content_type, 0));
        let response = client.response();
        // The server misses the message, and says so.
        let status = response.field("grpc-status").map(str::to_owned);
        let status = status.or_else(|| {
            let body = match content_type {
                TEXT => BASE64.decode(&response.body).expect("base64"),
                _ => response.body.clone(),
            };
            let lines = last_lines(&body);
            lines
                .into_iter()
                .find_map(|line| Some(line.strip_prefix("grpc-status: ")?.to_owned()))
        });
        assert!(status.is_some_and(|status| status != "0"), "{response:?}");
    }
}

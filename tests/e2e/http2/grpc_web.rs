//! gRPC-Web by its usual client, and byte by byte: over any version of HTTP a call reaches a server of
//! gRPC, and its answer comes with the status where a browser can read it.

use std::sync::Arc;

use cardea_tests::http2::request;
use cardea_tests::origin::Connection;
use cardea_tests::process::run;
use cardea_tests::tool::node_with_grpc_web;
use cardea_tests::wait::Gate;
use cardea_tests::{Gateway, Origin, Response};
use data_encoding::BASE64;

use super::grpc::Calls;
use crate::fixture::with_routes;

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/fixtures/strangers/web_calls.js"
);

const TRANSLATED: &str = "      - { policies: { grpc_web: true }, to: calls }\n";

/// What the usual client gets out of a scenario.
#[track_caller]
fn call(calls: &Calls, format: &str, scenario: &str) -> String {
    let url = format!("http://{}", calls.gateway.listener("web"));
    let finished = run(&mut node_with_grpc_web(SCRIPT, &[&url, format, scenario]));
    assert_eq!(finished.code, Some(0), "{scenario}: {}", finished.stderr);
    finished.stdout
}

#[test]
fn the_usual_client_calls_and_streams() {
    let calls = Calls::start(TRANSLATED);
    for format in ["text", "binary"] {
        let told = call(&calls, format, "unary");
        for line in ["metadata key", "response 5 hello", "status 0 {"] {
            assert!(told.contains(line), "{format} {line}: {told}");
        }
        assert!(told.contains("\"x-trailer\":\"last\""), "{format}: {told}");
        let told = call(&calls, format, "large");
        assert!(
            told.contains("response 3000001 aaaaaaaaaaaaaaaa"),
            "{format}: {told}"
        );
        assert!(
            call(&calls, format, "empty").contains("response 0"),
            "{format}"
        );
    }
    let told = call(&calls, "text", "stream");
    assert!(told.contains("messages 1000 999"), "{told}");
}

#[test]
fn the_usual_client_is_told_of_failures() {
    let calls = Calls::start(TRANSLATED);
    for format in ["text", "binary"] {
        let told = call(&calls, format, "fail");
        assert!(
            told.contains("error 9 \"not so: 50 % ü\""),
            "{format}: {told}"
        );
        let told = call(&calls, format, "missing");
        assert!(told.contains("error 12 "), "{format}: {told}");
    }
    // What the gateway has to say by itself.
    let denied =
        "      - { policies: { grpc_web: true, ip_access: { deny: [127.0.0.0/8] } }, to: calls }\n";
    let denied = Calls::start(denied);
    for format in ["text", "binary"] {
        let told = call(&denied, format, "unary");
        assert!(
            told.contains("error 7 \"Requests from this address"),
            "{format}: {told}"
        );
    }
}

/// A message of gRPC.
fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a small message");
    [&[0], &length.to_be_bytes()[..], bytes].concat()
}

const TEXT: &str = "application/grpc-web-text+proto";

fn post(content_type: &str, length: usize) -> String {
    format!(
        "POST /test.Calls/Unary HTTP/1.1\r\nHost: a.test\r\nContent-Type: {content_type}\r\nX-Grpc-Web: 1\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// The frames of an answer: flags and contents.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(5) {
        let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize;
        let (content, after) = rest.split_at(length);
        frames.push((head[0], content.to_vec()));
        bytes = after;
    }
    assert!(bytes.is_empty(), "{bytes:?} is no frame");
    frames
}

#[track_caller]
fn assert_answer(response: &Response, is_text: bool, body: &[u8], expected: &[u8]) {
    // The server says no more of what it answers.
    let content_type = match is_text {
        true => "application/grpc-web-text",
        false => "application/grpc-web",
    };
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.field("content-type"), Some(content_type));
    assert!(!response.fields.has("content-length"), "{response:?}");
    let frames = frames(body);
    let [(0, answer), (0x80, trailers)] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert_eq!(answer, expected);
    let trailers = String::from_utf8_lossy(trailers);
    assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    assert!(trailers.contains("x-trailer: last\r\n"), "{trailers}");
}

#[test]
fn a_text_may_come_in_any_pieces() {
    let calls = Calls::start(TRANSLATED);
    // In parts with padding of their own, a byte at a time.
    let sent = message(b"hello, world");
    let text = [&sent[..1], &sent[1..6], &sent[6..]].map(|part| BASE64.encode(part));
    let text = text.concat();
    let mut client = calls.gateway.client();
    client.send(post(TEXT, text.len()));
    for byte in text.as_bytes() {
        client.send([*byte]);
    }
    let response = client.response();
    let body = decoded(&response.body);
    assert_answer(&response, true, &body, b"hello, world");
    // The connection goes on, and so it does over HTTP/2.
    let binary = "application/grpc-web+proto";
    client.send(post(binary, sent.len()));
    client.send(&sent);
    let response = client.response();
    assert_answer(&response, false, &response.body, b"hello, world");

    let mut client = super::client(&calls.gateway);
    let mut fields = request("POST", "a.test", "/test.Calls/Unary");
    fields.push(("content-type", TEXT));
    let stream = client.open(&fields, false);
    for piece in text.as_bytes().chunks(3) {
        client.send_body(stream, piece, false);
    }
    client.send_body(stream, b"", true);
    let response = client.response(stream);
    assert_answer(&response, true, &decoded(&response.body), b"hello, world");
}

fn decoded(text: &[u8]) -> Vec<u8> {
    BASE64.decode(text).expect("base64 in groups")
}

#[test]
fn what_is_no_base64_is_refused_and_counted() {
    let calls = Calls::start(TRANSLATED);
    let wrong = ["aGk", "aGVs bG8=", "AAAA=AAA", "____"];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let mut client = calls.gateway.client();
        client.send(post(TEXT, wrong.len()));
        client.send(wrong);
        let response = client.response();
        assert_eq!(response.status, 200);
        assert_eq!(
            response.field("content-type"),
            Some("application/grpc-web-text")
        );
        assert_eq!(response.field("grpc-status"), Some("13"), "{wrong}");
        let reason = [("reason", "grpc_web_malformed")];
        let counted = number as f64 + 1.0;
        (calls.gateway).wait_for_metric("cardea_responses_by_gateway_total", &reason, counted);
    }
}

#[test]
fn a_browser_may_call_from_another_origin() {
    let calls = Calls::start(
        "      - { policies: { grpc_web: true, cors: { allow_origins: [\"https://app.test\"], allow_headers: [content-type, x-grpc-web, x-user-agent, grpc-timeout], expose_headers: [grpc-status, grpc-message] } }, to: calls }\n",
    );
    let mut client = calls.gateway.client();
    client.send("OPTIONS /test.Calls/Unary HTTP/1.1\r\nHost: a.test\r\nOrigin: https://app.test\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,x-grpc-web\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status, 204);
    let origin = "access-control-allow-origin";
    assert_eq!(response.field(origin), Some("https://app.test"));
    let sent = BASE64.encode(&message(b"hello"));
    let head = post(TEXT, sent.len());
    client.send(head.replace("\r\n\r\n", "\r\nOrigin: https://app.test\r\n\r\n"));
    client.send(&sent);
    let response = client.response();
    assert_answer(&response, true, &decoded(&response.body), b"hello");
    assert_eq!(response.field(origin), Some("https://app.test"));
    let exposed = response.field("access-control-expose-headers");
    assert!(exposed.is_some_and(|names| names.contains("grpc-status")));
}

/// A gateway that translates for an origin of HTTP/1.1.
fn translating(origin: &Origin) -> Gateway {
    with_routes(origin, &["{ policies: { grpc_web: true }, to: origin }"])
}

const BEGINNING: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_message_is_there_before_the_next() {
    let gate = Arc::new(Gate::default());
    let second = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            assert_eq!(
                request.field("content-type"),
                Some("application/grpc+proto")
            );
            assert!(!request.fields.has("x-grpc-web"));
            assert_eq!(request.body, message(b"go"));
            connection.answer(BEGINNING);
            connection.answer("6\r\n\0\0\0\0\u{1}a\r\n");
            second.wait();
            connection.answer("6\r\n\0\0\0\0\u{1}b\r\n0\r\nGrpc-Status: 0\r\n\r\n");
        }
    });
    let gateway = translating(&origin);
    let sent = BASE64.encode(&message(b"go"));
    let mut client = gateway.client();
    client.send(post(TEXT, sent.len()));
    client.send(&sent);
    let first = BASE64.encode(&message(b"a"));
    while !String::from_utf8_lossy(client.unread()).contains(&first) {
        client.fill().expect("the first message");
    }
    gate.open();
    let last = BASE64.encode(b"\x80\0\0\0\x10grpc-status: 0\r\n");
    let response = client.response();
    assert!(response.text().ends_with(&last), "{}", response.text());
}

#[test]
fn an_answer_that_is_cut_does_not_end() {
    let origin = Origin::serve(|connection: &mut Connection| {
        if connection.request().is_some() {
            connection.answer(BEGINNING);
            connection.answer("6\r\n\0\0\0\0\u{1}a\r\n");
            connection.abort();
        }
    });
    let gateway = translating(&origin);
    let sent = BASE64.encode(&message(b"go"));
    let mut client = gateway.client();
    client.send(post(TEXT, sent.len()));
    client.send(&sent);
    assert!(client.try_response().is_err(), "it looks whole");
}

#[test]
fn what_is_no_call_and_no_answer_to_one_stays_as_it_is() {
    let origin = Origin::serve(|connection: &mut Connection| {
        while let Some(request) = connection.request() {
            let kind = request.field("content-type").unwrap_or("none").to_owned();
            connection.answer(format!(
                "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nX-Kind: {kind}\r\nContent-Length: 5\r\n\r\nsorry"
            ));
        }
    });
    let gateway = translating(&origin);
    let mut client = gateway.client();
    let sent = BASE64.encode(&message(b"go"));
    for (content_type, told) in [
        (TEXT, "application/grpc+proto"),
        ("text/plain", "text/plain"),
    ] {
        client.send(post(content_type, sent.len()));
        client.send(&sent);
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (502, "sorry"));
        assert_eq!(response.field("x-kind"), Some(told));
    }
    // Nobody asked for it.
    let untouched = with_routes(&origin, &["{ to: origin }"]);
    let mut client = untouched.client();
    client.send(post(TEXT, sent.len()));
    client.send(&sent);
    assert_eq!(client.response().field("x-kind"), Some(TEXT));
}

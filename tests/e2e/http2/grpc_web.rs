//! gRPC-Web by two of its clients, and byte by byte: over any version of HTTP a call reaches a server of
//! gRPC, and its answer comes with the status where a browser can read it.

use std::sync::Arc;

use cardea_tests::http2::request;
use cardea_tests::origin::{self, Connection};
use cardea_tests::process::run;
use cardea_tests::tool::node_with_grpc_web;
use cardea_tests::wait::Gate;
use cardea_tests::{Gateway, Origin, Response};
use data_encoding::BASE64;

use super::grpc::Calls;
use crate::fixture::with_routes;

mod attacks;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/strangers");

const TRANSLATED: &str = "      - { policies: { grpc_web: true }, to: calls }\n";

/// What a client gets out of a scenario.
#[track_caller]
fn call_by(script: &str, calls: &Calls, format: &str, scenario: &str) -> String {
    let url = format!("http://{}", calls.gateway.listener("web"));
    let script = format!("{FIXTURES}/{script}");
    let finished = run(&mut node_with_grpc_web(&script, &[&url, format, scenario]));
    assert_eq!(finished.code, Some(0), "{scenario}: {}", finished.stderr);
    finished.stdout
}

/// What the usual client gets out of a scenario.
#[track_caller]
fn call(calls: &Calls, format: &str, scenario: &str) -> String {
    call_by("web_calls.js", calls, format, scenario)
}

#[test]
fn another_client_calls_and_streams() {
    let calls = Calls::start(TRANSLATED);
    let check = |format: &str, scenario: &str, expected: &str| {
        let told = call_by("web_connect.js", &calls, format, scenario);
        assert_eq!(told, expected, "{format} {scenario}");
    };
    for (format, suffix) in [("binary", "proto"), ("json", "json")] {
        let expected = format!(
            "metadata key application/grpc-web+{suffix}\ntrailer last AP8\nresponse hello\n"
        );
        check(format, "unary", &expected);
        check(format, "large", "response 3000001\n");
        // Each message is read while the call goes on.
        let parts = "message part\nreleased go on\n".repeat(2);
        check(format, "parted", &format!("{parts}end\n"));
        let failed = "error FailedPrecondition \"not so\" look here\ntrailer failed\n";
        check(format, "fail", failed);
        let missing = "error Unimplemented \"Method not found!\"\ntrailer null\n";
        check(format, "missing", missing);
    }
    let told = call_by("web_connect.js", &calls, "binary", "deadline");
    assert!(told.starts_with("error DeadlineExceeded"), "{told}");
    calls.server.stdout.wait_for_line("cancelled");
    let denied =
        "      - { policies: { grpc_web: true, ip_access: { deny: [127.0.0.0/8] } }, to: calls }\n";
    let denied = Calls::start(denied);
    let told = call_by("web_connect.js", &denied, "binary", "unary_fails");
    let expected = "error PermissionDenied \"Requests from this address";
    assert!(told.starts_with(expected), "{told}");
}

#[test]
fn a_server_of_tls_is_called_too() {
    let calls = Calls::start_secure(TRANSLATED);
    for format in ["text", "binary"] {
        let told = call(&calls, format, "unary");
        assert!(told.contains("response 5 hello"), "{format}: {told}");
    }
    let told = call(&calls, "text", "fail");
    assert!(told.contains("error 9 \"not so: 50 % ü\""), "{told}");
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
        assert!(
            told.contains("\"grpc-status-details-bin\":\"CAkS"),
            "{told}"
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
    // The server does not say in what form its messages are: in that of the call.
    let content_type = match is_text {
        true => "application/grpc-web-text+proto",
        false => "application/grpc-web+proto",
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
    let accepted = "application/grpc-web-text+proto, */*;q=0.1";
    fields.extend([("content-type", TEXT), ("accept", accepted)]);
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
        "      - { policies: { grpc_web: true, cors: { allow_origins: [\"https://app.test\"], expose_headers: [Grpc-Status, x-seen] }, rate_limit: { rate: 1, per: 1h } }, to: calls }\n",
    );
    let mut client = calls.gateway.client();
    client.send("OPTIONS /test.Calls/Unary HTTP/1.1\r\nHost: a.test\r\nOrigin: https://app.test\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,x-grpc-web\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status, 204);
    let origin = "access-control-allow-origin";
    assert_eq!(response.field(origin), Some("https://app.test"));
    let allowed = response.field("access-control-allow-headers");
    assert_eq!(allowed, Some("content-type,x-grpc-web"));
    let sent = BASE64.encode(&message(b"hello"));
    let head = post(TEXT, sent.len());
    // The second call is one too many, and its client can read as much.
    for number in 0..2 {
        client.send(head.replace("\r\n\r\n", "\r\nOrigin: https://app.test\r\n\r\n"));
        client.send(&sent);
        let response = client.response();
        match number {
            0 => assert_answer(&response, true, &decoded(&response.body), b"hello"),
            _ => assert_eq!(response.field("grpc-status"), Some("14"), "{response:?}"),
        }
        assert_eq!(response.status, 200);
        assert_eq!(response.field(origin), Some("https://app.test"));
        let exposed = response.field("access-control-expose-headers");
        let expected = "Grpc-Status, x-seen, grpc-message, grpc-status-details-bin";
        assert_eq!(exposed, Some(expected));
    }
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
            for name in ["x-grpc-web", "accept", "accept-encoding", "content-length"] {
                assert!(!request.fields.has(name), "{name}: {}", request.head);
            }
            // An origin of HTTP/1.1 sends the status after a body to who takes it.
            assert_eq!(request.field("te"), Some("trailers"));
            assert_eq!(request.field("connection"), Some("te"));
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
    let head = post(TEXT, sent.len());
    client.send(head.replace(
        "\r\n\r\n",
        "\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n",
    ));
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
fn messages_may_be_compressed() {
    // The mark of a compressed message and what is in it are nobody's business on the way.
    let compressed = [&[1, 0, 0, 0, 3][..], b"\x1f\x8b!"].concat();
    let answer = format!(
        "{BEGINNING}8\r\n{}\r\n0\r\nGrpc-Status: 0\r\n\r\n",
        "\u{1}\0\0\0\u{3}abc"
    );
    let origin = Origin::serve(origin::answering(answer));
    let gateway = translating(&origin);
    let mut client = gateway.client();
    let head = post("application/grpc-web+proto", compressed.len());
    let encoding = "\r\nGrpc-Encoding: gzip\r\nGrpc-Accept-Encoding: gzip\r\n\r\n";
    client.send(head.replace("\r\n\r\n", encoding));
    client.send(&compressed);
    let frames = frames(&client.response().body);
    assert_eq!(frames[0], (1, b"abc".to_vec()));
    let request = origin.only_request();
    assert_eq!(request.body, compressed);
    for name in ["grpc-encoding", "grpc-accept-encoding"] {
        assert_eq!(request.field(name), Some("gzip"), "{name}");
    }
}

#[test]
fn the_limit_of_a_body_counts_what_is_decoded() {
    let origin = Origin::serve(origin::answering(format!(
        "{BEGINNING}0\r\nGrpc-Status: 0\r\n\r\n"
    )));
    let gateway = with_routes(
        &origin,
        &["{ policies: { grpc_web: true, body_limit: 100 }, to: origin }"],
    );
    let ask = |bytes: usize| {
        let sent = BASE64.encode(&message(&vec![b'a'; bytes - 5]));
        let chunked = post(TEXT, 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
        let mut client = gateway.client();
        client.send(chunked);
        client.send(format!("{:x}\r\n{sent}\r\n0\r\n\r\n", sent.len()));
        client.response()
    };
    // 100 bytes are 136 as text.
    assert_eq!(ask(100).status, 200);
    assert_eq!(origin.only_request().body.len(), 100);
    let refused = String::from_utf8_lossy(&ask(101).body).into_owned();
    assert_eq!(origin.requests().len(), 1, "{refused}");
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

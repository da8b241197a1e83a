//! The same odd bytes sent straight to an origin and through the gateway must never be two
//! different sets of messages: what the gateway forwards is a prefix of the strictest reading of
//! what it got, in canonical form, and every origin, however lenient, reads it the same.

use cardea_tests::{Client, Gateway, Origin, Request, Response};

use crate::fixture::plain;

mod strangers;

/// What stands where only a body may stand.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Spellings of fields that delimit a body, or that some recipient takes for one.
const LENGTHS: &[&str] = &[
    "Content-Length: {}",
    "content-length:{}",
    "Content-Length: \t{}\t ",
    "Content-Length: 0",
    "Content-Length: 00{}",
    "Content-Length: +{}",
    "Content-Length: {}, {}",
    "Content-Length: 0, {}",
    "Content-Length: {}\r\nContent-Length: {}",
    "Content-Length: {}\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: {}",
    "Content-Length : {}",
    "Content-Length\x0b: {}",
    "Content-Length:\x0c{}",
    "Content_Length: {}",
    "Content-Length: {}\r\n ",
    "X: y\r\n Content-Length: {}",
    "X: y\nContent-Length: {}",
    "X: y\rContent-Length: {}",
    "\0Content-Length: {}",
    "Connection: Content-Length\r\nContent-Length: {}",
];

const ENCODINGS: &[&str] = &[
    "Transfer-Encoding: chunked",
    "transfer-encoding:CHUNKED",
    "Transfer-Encoding:\tchunked ",
    "Transfer-Encoding : chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: 'chunked'",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked;x",
];

/// Chunked bodies that hide a request from one reading or another.
const CHUNKED: &[&str] = &[
    "0\r\n\r\n",
    "{x}\r\n<>\r\n0\r\n\r\n",
    "{x};a=\"\r\n\"\r\n<>\r\n0\r\n\r\n",
    "{x};a\n<>\r\n0\r\n\r\n",
    "{x}\n<>\n0\n\n",
    "{x} \r\n<>\r\n0\r\n\r\n",
    "{x}\r\n<>0\r\n\r\n",
    "0\n\r\n<>",
    "0;\n<>",
    "0\r\nX: y\r\n\r\n",
    "0\r\nContent-Length: 5\r\nHost: b.test\r\n\r\n",
    "0\r\n<>",
    "0x{x}\r\n<>\r\n0\r\n\r\n",
    "1\r\nZ\r\n{x}\r\n<>\r\n0\r\n\r\n",
];

/// Whole heads that are odd in themselves.
const HEADS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n<>",
    "GET / HTTP/1.1\nHost: a.test\n\n<>",
    "GET / HTTP/1.1\r\nHost: a.test\r\n\n<>",
    "\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi<>",
    "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n<>",
    "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n<>",
    "GET / HTTP/0.9\r\n\r\n<>",
    "GET /\r\n<>",
    "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n<>",
    "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n<>",
    "DELETE / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n<>",
    "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n<><>",
    "GET /a%20b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET /x\r\nX: y HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET /x%0d%0aHost:%20b.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
];

fn fill(template: &str) -> String {
    let length = HIDDEN.len();
    template
        .replace("{}", &length.to_string())
        .replace("{x}", &format!("{length:x}"))
        .replace("<>", HIDDEN)
}

/// Every combination of a length, an encoding and a body, and the odd heads.
fn cases() -> Vec<String> {
    let post = |lines: &str, body: &str| {
        fill(&format!(
            "POST /outer HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n\r\n{body}"
        ))
    };
    let mut cases: Vec<String> = HEADS.iter().map(|head| fill(head)).collect();
    for length in LENGTHS {
        cases.push(post(length, "<>"));
        for encoding in ENCODINGS {
            cases.push(post(&format!("{length}\r\n{encoding}"), "0\r\n\r\n<>"));
            cases.push(post(&format!("{encoding}\r\n{length}"), "0\r\n\r\n<>"));
        }
    }
    for encoding in ENCODINGS {
        for body in CHUNKED {
            cases.push(post(encoding, body));
        }
    }
    cases
}

/// What an origin makes of bytes that come straight from a client.
fn straight(origin: &Origin, bytes: &str) -> Vec<Request> {
    let number = origin.connections();
    let mut client = Client::connect(origin.address());
    client.send(bytes).half_close();
    client.take_rest();
    origin.wait_until("the connection is over", |origin| {
        origin.connections() > number && origin.open_connections() == 0
    });
    origin.take_faults();
    whole_requests(origin)
}

/// Takes the requests that came whole; of the others nobody makes anything.
fn whole_requests(origin: &Origin) -> Vec<Request> {
    let mut requests = origin.take_requests();
    requests.retain(|request| request.is_whole);
    requests
}

/// Sends bytes to the end of a connection and reads every response.
fn through(mut client: Client, bytes: &str) -> Vec<Response> {
    client.send(bytes).half_close();
    let mut responses = Vec::new();
    while let Ok(response) = client.try_response() {
        responses.push(response);
    }
    responses
}

#[test]
fn what_is_forwarded_is_a_prefix_of_the_strictest_reading() {
    let direct = Origin::echo();
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut refused = 0;
    for bytes in cases() {
        // One empty line before a request is nothing (RFC 9112 section 2.2).
        let expected = straight(&direct, bytes.strip_prefix("\r\n").unwrap_or(&bytes));
        let responses = through(gateway.client(), &bytes);
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        let seen = whole_requests(&origin);
        let about =
            || format!("{bytes:?}\nstrictly: {expected:#?}\nforwarded: {seen:#?}\n{statuses:?}");
        assert_eq!(origin.take_faults(), Vec::<String>::new(), "{}", about());
        assert!(seen.len() <= expected.len(), "{}", about());
        for (strict, seen) in expected.iter().zip(&seen) {
            let facts = |request: &Request| {
                (
                    request.method.clone(),
                    request.target.clone(),
                    request.text(),
                )
            };
            assert_eq!(facts(strict), facts(seen), "{}", about());
            assert_eq!(seen.version, "HTTP/1.1", "{}", about());
            assert_eq!(seen.field("host"), Some("a.test"), "{}", about());
        }
        refused += usize::from(seen.is_empty());
    }
    // The table has both kinds, or it proves nothing.
    assert!(
        refused > 500 && refused < cases().len() - 20,
        "{refused} of {}",
        cases().len()
    );
}

#[test]
fn every_origin_reads_what_is_forwarded_the_same() {
    let strict = Origin::echo();
    let gateway = plain(&strict);
    let strangers = strangers::all();
    let config = crate::fixture::PLAIN;
    let others: Vec<_> = strangers
        .iter()
        .map(|stranger| {
            (
                stranger.name,
                Gateway::start(config, &[("origin", &stranger.address)]),
            )
        })
        .collect();
    let mut split = 0;
    for bytes in cases() {
        through(gateway.client(), &bytes);
        let whole: Vec<String> = whole_requests(&strict)
            .iter()
            .map(|request| format!("{} {}", request.method, request.target))
            .collect();
        if !whole.is_empty() {
            for (name, gateway) in &others {
                assert_eq!(
                    answers(gateway.client(), &bytes),
                    whole,
                    "{name}: {bytes:?}"
                );
            }
        }
        if split < 5 {
            let lenient = answers(Client::connect(strangers[0].address), &bytes);
            split += usize::from(
                lenient.iter().any(|answer| answer == "GET /hidden") && whole.len() < 2,
            );
        }
    }
    // Sent straight there, a lenient origin is fooled; otherwise these bytes are harmless.
    assert_eq!(split, 5);
}

/// The `METHOD TARGET` of every request that was answered 200.
fn answers(client: Client, bytes: &str) -> Vec<String> {
    let mut responses = through(client, bytes);
    responses.retain(|response| response.status == 200);
    responses.iter().map(Response::text).collect()
}

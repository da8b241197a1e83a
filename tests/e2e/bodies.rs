//! Messages as they should be: bodies of every framing in both directions, at the pace of whoever
//! reads them; pipelining; HTTP/1.0; half-closed clients.

use std::sync::Arc;

use cardea_tests::origin::{self, Connection};
use cardea_tests::wait::{self, Gate};
use cardea_tests::{Ending, Gateway, Origin, Request};

use crate::fixture::{get, plain, post};

mod backpressure;
mod versions;

#[test]
fn request_bodies_by_length() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    for length in [0, 1, 1000, 16 * 1024, 16 * 1024 + 1, 100_000] {
        let body = "b".repeat(length);
        assert_eq!(
            client.ask(post("a.test", "/", &body)).status,
            200,
            "{length}"
        );
        let seen = origin.last_request();
        assert_eq!(seen.text(), body, "{length}");
        assert_eq!(
            seen.field("content-length"),
            Some(length.to_string().as_str())
        );
        assert!(!seen.fields.has("transfer-encoding"), "{}", seen.head);
    }
    assert_eq!(origin.connections(), 1, "upstream connections are reused");
}

#[test]
fn request_bodies_in_chunks() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = |sizes: &[usize]| {
        let chunk = |size: &usize| format!("{size:X}\r\n{}\r\n", "c".repeat(*size));
        sizes.iter().map(chunk).collect::<String>()
    };
    for sizes in [&[][..], &[1], &[1, 2, 3], &[70_000, 1, 9000]] {
        let request = format!("{head}{}0\r\n\r\n", chunks(sizes));
        assert_eq!(gateway.ask(&request).status, 200, "{sizes:?}");
        let seen = origin.last_request();
        assert_eq!(seen.body.len(), sizes.iter().sum::<usize>(), "{sizes:?}");
        assert_eq!(seen.field("transfer-encoding"), Some("chunked"));
    }
}

#[test]
fn request_bodies_in_pieces_of_any_size() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let request = "POST /p?q HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\nA;x\r\n0123456789\r\n0\r\nT: u\r\n\r\n";
    for size in [1, 2, 3, 5, 7, 11, 40] {
        let mut client = gateway.client();
        client
            .try_send_pieces(request, size)
            .expect("a connection that takes it");
        assert_eq!(client.response().status, 200, "{size}");
        let seen = origin.last_request();
        assert_eq!(
            (seen.target.as_str(), seen.text().as_str()),
            ("/p?q", "abc0123456789")
        );
        assert_eq!(seen.trailers.get("t"), Some("u"), "{size}");
    }
}

#[test]
fn request_bodies_reach_the_origin_as_they_come() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["first", "second", "third"] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        origin.wait_until(piece, |origin| {
            String::from_utf8_lossy(&origin.received(0)).contains(piece)
        });
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().json()["body"], "firstsecondthird");
}

#[test]
fn response_bodies_by_their_framing() {
    let check = |answer: &str, body: &str, framing: &str| {
        let origin = Origin::serve(origin::answering_once(answer));
        let gateway = plain(&origin);
        let response = gateway.get("a.test", "/");
        assert_eq!(response.text(), body, "{answer:?}");
        assert!(response.fields.has(framing), "{answer:?}: {response:?}");
        assert!(response.keeps_open(), "{answer:?}: {response:?}");
    };
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "",
        "content-length",
    );
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "hi",
        "content-length",
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(
        &format!("{chunked}2;x=y\r\nhi\r\n0\r\n\r\n"),
        "hi",
        "transfer-encoding",
    );
    // Only chunks can tell an HTTP/1.1 client that a body of unknown length is whole.
    check(
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "until the end",
        "transfer-encoding",
    );
    check(
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        "until the end",
        "transfer-encoding",
    );
}

#[test]
fn response_bodies_reach_the_client_as_they_come() {
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        connection.request();
        connection.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        waiting.wait();
        connection.answer("6\r\nsecond\r\n0\r\n\r\n");
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    client
        .take_through(b"first")
        .expect("the first part before there is a second");
    gate.open();
    client
        .take_through(b"second\r\n0\r\n\r\n")
        .expect("the second part");
}

#[test]
fn large_bodies_both_ways() {
    const LENGTH: usize = 8 << 20;
    let big: String = (0..LENGTH)
        .map(|at| char::from(b'a' + (at % 23) as u8))
        .collect();
    let answer = big.clone();
    let origin = Origin::serve(origin::saying(answer));
    let gateway = plain(&origin);
    let mut client = gateway.client();
    for _ in 0..2 {
        assert!(
            client.get("a.test", "/").text() == big,
            "the body changed on its way down"
        );
    }
    let mut sender = gateway.client();
    sender.send(post("a.test", "/", &big));
    assert!(
        sender.response().text() == big,
        "the body changed on its way down"
    );
    assert!(
        origin.last_request().text() == big,
        "the body changed on its way up"
    );
}

#[test]
fn trailers_in_both_directions() {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n",
    ));
    let gateway = plain(&origin);
    let request = "POST / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nhi\r\n0\r\nX-Up: 2\r\nHost: b.test\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n";
    let response = gateway.ask(request);
    assert_eq!(response.trailers.0, [("X-Sum".to_owned(), "1".to_owned())]);
    // Fields that frame, route or authenticate have no business in a trailer (RFC 9110 §6.5.1).
    assert_eq!(
        origin.only_request().trailers.0,
        [("X-Up".to_owned(), "2".to_owned())]
    );
}

#[test]
fn responses_without_a_body() {
    let head = "Content-Length: 12\r\nETag: \"x\"\r\n\r\n";
    let check = |method: &str, answer: String, status: u16, length: Option<&str>| {
        let origin = Origin::serve(origin::answering(answer.clone()));
        let gateway = plain(&origin);
        let mut client = gateway.client();
        for _ in 0..2 {
            let response = client.request(method, "a.test", "/");
            assert_eq!(response.status, status, "{answer:?}");
            assert_eq!(response.field("content-length"), length, "{answer:?}");
            assert_eq!(response.field("etag"), Some("\"x\""), "{answer:?}");
        }
        assert_eq!(origin.connections(), 1, "{answer:?}");
    };
    check(
        "HEAD",
        format!("HTTP/1.1 200 OK\r\n{head}"),
        200,
        Some("12"),
    );
    check(
        "GET",
        format!("HTTP/1.1 304 Not Modified\r\n{head}"),
        304,
        Some("12"),
    );
    check(
        "GET",
        "HTTP/1.1 204 No Content\r\nETag: \"x\"\r\n\r\n".to_owned(),
        204,
        None,
    );
    check(
        "HEAD",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"x\"\r\n\r\n".to_owned(),
        200,
        None,
    );
}

#[test]
fn the_gateways_own_responses_to_head_have_no_body() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.request("HEAD", "nobody.test", "/");
        assert_eq!((response.status, response.body.len()), (404, 0));
    }
}

#[test]
fn interim_responses_are_relayed() {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ));
    let gateway = plain(&origin);
    let response = gateway.get("a.test", "/");
    let statuses: Vec<u16> = response
        .interim
        .iter()
        .map(|interim| interim.status)
        .collect();
    assert_eq!(
        (response.text().as_str(), statuses.as_slice()),
        ("hi", &[103, 102][..])
    );
    assert_eq!(
        response.interim[0].field("link"),
        Some("</a.css>; rel=preload")
    );
    // HTTP/1.0 knows none of them.
    let response = gateway.ask("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert_eq!(
        (response.text().as_str(), response.interim.len()),
        ("hi", 0)
    );
}

#[test]
fn expect_continue_with_a_body_that_is_there_already() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let request =
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi";
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(client.ask(request).json()["body"], "hi");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    // The first is the slowest.
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            if request.target == "/0" {
                waiting.wait();
            }
            connection.answer(origin::ok(&request.target));
        }
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let requests: Vec<String> = (0..10)
        .map(|number| match number % 3 {
            0 => get("a.test", &format!("/{number}"), ""),
            1 => post("a.test", &format!("/{number}"), "some body"),
            _ => format!(
                "POST /{number} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            ),
        })
        .collect();
    client.send(requests.concat());
    gate.open();
    for number in 0..10 {
        assert_eq!(client.response().text(), format!("/{number}"));
    }
}

#[test]
fn pipelining_stops_at_what_cannot_be_served() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let first = get("a.test", "/first", "");
    client.send(format!(
        "{first}GET / HTTP/1.1\nHost: a.test\r\n\r\n{first}"
    ));
    assert_eq!(client.response().json()["target"], "/first");
    let response = client.response();
    assert_eq!(
        (response.status, response.reason()),
        (400, Some("line_ending_invalid"))
    );
    client.assert_closed();
}

#[test]
fn a_connection_serves_no_more_than_its_requests() {
    let origin = Origin::echo();
    let config = format!(
        "{}listeners: [{{ name: web, bind: [\"127.0.0.1:0\"], http: {{ requests_per_connection_max: 3 }} }}]\n",
        crate::fixture::PLAIN
    );
    let gateway = Gateway::start(&config, &[("origin", &origin.address())]);
    let mut client = gateway.client();
    assert!(client.get("a.test", "/").keeps_open());
    assert!(client.get("a.test", "/").keeps_open());
    assert!(!client.get("a.test", "/").keeps_open());
    client.assert_closed();
}

#[test]
fn a_half_closed_client_gets_its_response() {
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            waiting.wait();
            connection.answer(origin::ok(&request.text()));
        }
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client
        .send(get("a.test", "/", "") + &post("a.test", "/", "body"))
        .half_close();
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    gate.open();
    assert_eq!(client.response().text(), "");
    assert_eq!(client.response().text(), "body");
    client.assert_closed();
}

#[test]
fn a_client_that_half_closes_within_a_request_gets_nothing_served() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    for bytes in [
        "GET / HTTP/1.1\r\nHost: a",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nhi",
    ] {
        let mut client = gateway.client();
        client.send(bytes).half_close();
        let (_, ending) = client.take_rest();
        assert_ne!(ending, Ending::Silence, "{bytes:?}");
    }
    let whole = |request: &Request| request.is_whole;
    assert!(
        !origin.requests().iter().any(whole),
        "{:#?}",
        origin.requests()
    );
    assert_eq!(gateway.get("a.test", "/").status, 200);
}

#[test]
fn a_client_that_goes_away_ends_the_exchange() {
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        let piece = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        connection.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while connection.try_send(&piece).is_ok() {}
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    client.take_through(b"xxxx").expect("the start of a body");
    client.into_wire().reset();
    origin.wait_until("the upstream connection closes", |origin| {
        origin.open_connections() == 0
    });
    let line = gateway.log_line("the exchange", |line| line["host"] == "a.test");
    assert_eq!(line["reason"], "client_closed");
    wait::until_true("the connection is gone", || {
        gateway
            .metric("cardea_connections_open", &[])
            .unwrap_or_default()
            == 0.0
    });
}

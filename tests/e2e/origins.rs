//! Origins that misbehave: the client gets a response with a reason, or can tell that the one it
//! got is not whole.

use std::sync::{Arc, mpsc};

use cardea_tests::origin::{self, Connection};
use cardea_tests::wait::{BOUND, Gate};
use cardea_tests::wire::Broken;
use cardea_tests::{Ending, Gateway, Origin, Response};

use crate::fixture::{assert_refused, get, plain, plain_with, post};

/// Asks an origin that answers with these bytes and closes.
#[track_caller]
fn answer_of(bytes: &str) -> Response {
    let origin = Origin::serve(origin::answering_once(bytes));
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let response = client.get("a.test", "/");
    // Whatever the origin does, the client's connection serves on.
    if response.status >= 500 {
        assert_eq!(client.get("nobody.test", "/").status, 404, "{bytes:?}");
    }
    response
}

#[test]
fn responses_that_are_not_http() {
    for bytes in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        assert_refused(&answer_of(bytes), 502, "upstream_malformed", bytes);
    }
}

#[test]
fn responses_whose_length_is_in_doubt() {
    for lines in [
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2, 3\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length:\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{lines}\r\n0\r\n\r\n");
        assert_refused(&answer_of(&bytes), 502, "upstream_malformed", &bytes);
    }
}

#[test]
fn a_head_that_is_too_large() {
    let bytes = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(80 * 1024));
    assert_refused(&answer_of(&bytes), 502, "upstream_head_too_large", "80 KiB");
    let bytes = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(300));
    assert_refused(
        &answer_of(&bytes),
        502,
        "upstream_head_too_large",
        "300 fields",
    );
}

#[test]
fn no_response_at_all() {
    assert_refused(
        &answer_of(""),
        502,
        "upstream_reset",
        "closed without a byte",
    );
    assert_refused(
        &answer_of("HTTP/1.1 200 OK\r\nA:"),
        502,
        "upstream_reset",
        "half a head",
    );
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        connection.abort();
    });
    let gateway = plain(&origin);
    assert_refused(&gateway.get("a.test", "/"), 502, "upstream_reset", "reset");
}

#[test]
fn interim_responses_for_ever() {
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.request();
        while connection
            .try_send("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n")
            .is_ok()
        {}
    });
    let gateway = plain(&origin);
    let response = gateway.get("a.test", "/");
    assert_refused(&response, 502, "upstream_interim_flood", "103 for ever");
    assert!(
        response.interim.len() <= 16,
        "{} interim responses",
        response.interim.len()
    );
    origin.wait_until("the gateway gives up", |origin| {
        origin.open_connections() == 0
    });
}

#[test]
fn bodies_cut_short_are_visible() {
    let check = |bytes: &'static str, is_reset: bool| {
        let origin = Origin::serve(move |connection: &mut Connection| {
            connection.request();
            connection.answer(bytes);
            if is_reset {
                connection.abort();
            }
        });
        let gateway = plain(&origin);
        let mut client = gateway.client();
        client.send(get("a.test", "/", ""));
        let partial = client
            .try_response()
            .expect_err("a response that is not whole");
        assert!(
            matches!(partial.broken, Broken::Ended(Ending::Eof | Ending::Reset)),
            "{partial:?}"
        );
        let line = gateway.log_line("the exchange", |line| line["host"] == "a.test");
        assert_eq!(line["reason"], "upstream_body_cut", "{bytes:?}: {line}");
    };
    for is_reset in [false, true] {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            is_reset,
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            is_reset,
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhello",
            is_reset,
        );
    }
    // A body that ends with the connection is whole at FIN, and not at RST.
    check("HTTP/1.1 200 OK\r\n\r\nhello", true);
}

#[test]
fn chunks_that_are_malformed_are_visible() {
    let origin = Origin::serve(origin::answering_once(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nX\r\n",
    ));
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    let partial = client
        .try_response()
        .expect_err("a response that is not whole");
    let body = partial.response.map(|response| response.text());
    assert!(body.is_none_or(|body| body == "hello"));
    let line = gateway.log_line("the exchange", |line| line["host"] == "a.test");
    assert_eq!(line["reason"], "upstream_malformed");
}

#[test]
fn bytes_after_a_response_are_nobodys() {
    // Response splitting from behind: what follows the body must not answer the next request.
    let origin = Origin::serve(|connection: &mut Connection| {
        while connection.request().is_some() {
            connection.answer(origin::ok("mine") + &origin::ok("poison"));
        }
    });
    let gateway = plain(&origin);
    for _ in 0..4 {
        assert_eq!(gateway.get("a.test", "/").text(), "mine");
    }
    assert_eq!(
        origin.connections(),
        4,
        "a connection with bytes left over is not reused"
    );
}

#[test]
fn bytes_on_an_idle_connection_are_nobodys() {
    let (announced, is_announced) = mpsc::channel();
    let origin = Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            connection.answer(origin::ok("mine"));
            // Some origins announce a timeout before they close.
            connection.answer("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
            announced.send(()).expect("the test goes on");
        }
    });
    let gateway = plain(&origin);
    for _ in 0..4 {
        assert_eq!(gateway.get("a.test", "/").text(), "mine");
        // What comes after the next request was sent cannot be told from its answer.
        let came = is_announced.recv_timeout(BOUND);
        came.expect("the origin announces its timeout");
    }
}

#[test]
fn a_body_where_none_may_be() {
    for answer in [
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\n\r\nhello",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let origin = Origin::serve(origin::answering(answer));
        let gateway = plain(&origin);
        let mut client = gateway.client();
        for _ in 0..3 {
            let response = client.get("a.test", "/");
            assert!(
                matches!(response.status, 204 | 304),
                "{answer:?}: {response:?}"
            );
        }
    }
}

#[test]
fn an_early_response_reaches_a_client_that_still_sends() {
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.head();
        connection.answer(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
        );
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let length = 64 << 20;
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n"
    ));
    let piece = [b'x'; 64 * 1024];
    let mut sent = 0;
    while sent < length && client.try_send(piece).is_ok() {
        sent += piece.len();
    }
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
    let (rest, _) = client.take_rest();
    assert_eq!(rest, b"", "nothing answers the rest of the body");
}

#[test]
fn nobody_listens() {
    let mut origin = Origin::echo();
    let address = origin.address();
    origin.stop();
    let gateway = Gateway::start(crate::fixture::PLAIN, &[("origin", &address)]);
    let response = gateway.get("a.test", "/");
    assert_refused(&response, 502, "upstream_connect_failed", "nobody listens");
}

#[test]
fn a_connection_that_died_while_idle_is_not_the_clients_problem() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    for round in 1..5 {
        assert_eq!(client.get("a.test", "/").status, 200, "{round}");
        origin.close_connections();
        // Not even a POST with a body notices: nothing of it was sent.
        assert_eq!(
            client.ask(post("a.test", "/", "body")).status,
            200,
            "{round}"
        );
        origin.close_connections();
    }
}

#[test]
fn a_connection_that_dies_under_a_request() {
    // Keep-alive says yes, and then the second request meets a closing connection.
    let origin = Origin::serve(|connection: &mut Connection| {
        if connection.request().is_some() {
            connection.answer(origin::ok("first"));
            connection.request();
        }
    });
    let gateway = plain(&origin);
    for _ in 0..4 {
        // Sent again on a fresh connection.
        assert_eq!(gateway.get("a.test", "/").text(), "first");
    }
    // What may have been acted upon is not sent again.
    let before = origin.requests().len();
    let response = gateway.ask(post("a.test", "/", "body"));
    let sent = origin.requests().len() - before;
    assert_eq!(sent, 1, "a POST was sent {sent} times");
    assert!(matches!(response.status, 200 | 502), "{response:?}");
}

#[test]
fn a_retry_can_be_switched_off() {
    let origin = Origin::serve(|connection: &mut Connection| {
        if connection.request().is_some() {
            connection.answer(origin::ok("first"));
            connection.request();
        }
    });
    let config = r#"
workers: 1
domains:
  - hosts: [a.test]
    routes: [{ to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"], retry: { attempts: 0 } }
"#;
    let gateway = Gateway::start(config, &[("origin", &origin.address())]);
    assert_eq!(gateway.get("a.test", "/").text(), "first");
    assert_refused(
        &gateway.get("a.test", "/"),
        502,
        "upstream_reset",
        "without a retry",
    );
}

#[test]
fn fields_of_the_origins_connection_stay_there() {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
         X-Yours: 2\r\nContent-Length: 0\r\n\r\n",
    ));
    let gateway = plain_with(&origin, "");
    let response = gateway.get("a.test", "/");
    assert_eq!(response.field("x-yours"), Some("2"));
    for gone in ["x-mine", "keep-alive"] {
        assert!(!response.fields.has(gone), "{gone}: {response:?}");
    }
}

#[test]
fn a_client_that_resets_ends_the_origins_work() {
    let ended = Arc::new(Gate::default());
    let noticed = Arc::clone(&ended);
    let origin = Origin::serve(move |connection: &mut Connection| {
        connection.request();
        // Says nothing until the gateway lets go.
        connection.fill().expect_err("nothing more to read");
        noticed.open();
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    client.into_wire().reset();
    ended.wait();
    let line = gateway.log_line("the exchange", |line| line["host"] == "a.test");
    assert_eq!(line["reason"], "client_closed");
    assert_eq!(line["status"], 499);
}

#[test]
fn a_client_that_resets_amid_a_silent_answer_ends_it() {
    let ended = Arc::new(Gate::default());
    let noticed = Arc::clone(&ended);
    let origin = Origin::serve(move |connection: &mut Connection| {
        connection.request();
        connection.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
        connection.fill().expect_err("nothing more to read");
        noticed.open();
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    while !client.unread().ends_with(b"part\r\n") {
        client.fill().expect("the first part");
    }
    client.into_wire().reset();
    ended.wait();
    let line = gateway.log_line("the exchange", |line| line["host"] == "a.test");
    assert_eq!(line["reason"], "client_closed");
    assert_eq!(line["status"], 200);
}

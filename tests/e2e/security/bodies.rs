//! Attacks by bodies: chunk extensions, expectations, bodies nobody read, tunnels before 101.

use std::sync::Arc;

use cardea_tests::origin::{self, Connection};
use cardea_tests::wait::Gate;
use cardea_tests::{Origin, Request};

use super::Refusals;
use crate::fixture::{assert_refused, get, plain, with_routes};

/// A chunked POST with this body.
fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[test]
fn chunk_extensions_are_dropped() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    for body in [
        "5;a\r\nhello\r\n0\r\n\r\n",
        "5;a=b;c=\"d;e\"\r\nhello\r\n0;f\r\n\r\n",
        "5 ; a = b\r\nhello\r\n0\r\n\r\n",
        "00005\r\nhello\r\n000\r\n\r\n",
    ] {
        assert_eq!(gateway.ask(chunked(body)).status, 200, "{body:?}");
        // The origin reads strictly: an extension would be a fault.
        assert_eq!(origin.last_request().text(), "hello", "{body:?}");
    }
}

#[test]
fn chunk_extensions_and_sizes_that_are_malformed() {
    let refusals = Refusals::start();
    for body in [
        "5;a\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a=\"b\r\n\"\r\nhello\r\n0\r\n\r\n",
        "5;\x00\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\n A: b\r\n\r\n",
    ] {
        refusals.check(&chunked(body), 400, "chunk_malformed");
    }
}

#[test]
fn chunk_extensions_without_end() {
    let refusals = Refusals::start();
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5000));
    refusals.check(&chunked(&long), 400, "chunk_malformed");
    // One byte of data, a kilobyte of extensions, over and over (CVE-2023-39326).
    let chunk = format!("1;{}\r\na\r\n", "x".repeat(1000));
    refusals.check(
        &chunked(&(chunk.repeat(8) + "0\r\n\r\n")),
        400,
        "chunk_malformed",
    );
    let trailers = "A: b\r\n".repeat(40);
    refusals.check(
        &chunked(&format!("0\r\n{trailers}\r\n")),
        400,
        "chunk_malformed",
    );
}

#[test]
fn expect_other_than_100_continue() {
    let refusals = Refusals::start();
    for expect in ["x", "100-continue, x", "100 continue", "200-ok"] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: {expect}\r\nContent-Length: 0\r\n\r\n"
        );
        refusals.check(&request, 417, "expectation_unknown");
    }
}

#[test]
fn expect_is_answered_by_the_gateway_and_goes_no_further() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    let told = client
        .take_through(b"\r\n\r\n")
        .expect("an interim response");
    assert!(
        told.starts_with(b"HTTP/1.1 100 "),
        "{:?}",
        String::from_utf8_lossy(&told)
    );
    client.send("hello");
    assert_eq!(client.response().json()["body"], "hello");
    assert!(!origin.only_request().fields.has("expect"));
    // The connection serves on.
    assert_eq!(client.get("a.test", "/next").status, 200);
}

#[test]
fn expect_refused_before_the_body_ends_or_drains_the_connection() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let hidden = get("a.test", "/smuggled", "");
    let length = hidden.len();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: nobody.test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ));
    let response = client.response();
    assert_refused(&response, 404, "domain_unknown", "an unknown host");
    assert_eq!(response.interim, [], "nobody wants this body");
    // Whether or not the gateway still reads it, this is a body and never a request.
    let _ = client.try_send(&hidden);
    let (rest, _) = client.take_rest();
    assert_eq!(String::from_utf8_lossy(&rest), "");
    assert_eq!(origin.requests(), Vec::<Request>::new());
}

#[test]
fn an_undrained_body_on_early_reply() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let hidden = get("a.test", "/smuggled", "");
    for body in [
        hidden.clone(),
        "x".repeat(100_000) + &hidden,
        "x".repeat(4 << 20) + &hidden,
    ] {
        let mut client = gateway.client();
        let length = body.len();
        let head =
            format!("POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: {length}\r\n\r\n");
        client.send(head);
        // A gateway may close before it has read all of it.
        let _ = client.try_send(&body);
        assert_refused(&client.response(), 404, "domain_unknown", "an unknown host");
        let (rest, _) = client.take_rest();
        assert_eq!(
            String::from_utf8_lossy(&rest),
            "",
            "after a body of {length}"
        );
    }
    assert_eq!(origin.requests(), Vec::<Request>::new());
}

#[test]
fn an_upstream_connection_with_an_unread_body_is_not_reused() {
    // The origin answers before it has read the body; what follows on that connection would be
    // read as the rest of the body, or the rest of the body as a request.
    let origin = Origin::serve(|connection: &mut Connection| {
        while let Some((request, _)) = connection.head() {
            connection.record(request.clone());
            connection.answer(origin::ok(&request.target));
            if request.method == "POST" {
                // Never reads the body.
                return;
            }
        }
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.send("POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nhello");
    assert_eq!(client.response().text(), "/early");
    let response = gateway.get("a.test", "/next");
    assert_eq!(response.text(), "/next");
    assert!(origin.connections() >= 2, "the connection was reused");
}

#[test]
fn tunnelling_before_101() {
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    // The origin refuses the upgrade, and does so late.
    let origin = Origin::serve(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            if request.fields.has("upgrade") {
                waiting.wait();
            }
            connection.answer(origin::ok(&request.target));
        }
    });
    let gateway = plain(&origin);
    let mut client = gateway.client();
    let hidden = get("a.test", "/smuggled", "");
    client.send(
        get(
            "a.test",
            "/ws",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        ) + &hidden,
    );
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    assert!(
        !origin.received(0).ends_with(hidden.as_bytes()),
        "bytes went ahead of the 101"
    );
    gate.open();
    assert_eq!(client.response().text(), "/ws");
    // What followed was a request to the gateway all along: it is routed like any other, or the
    // connection ends; it never went through as bytes.
    drop(client);
    for seen in origin.requests() {
        assert!(seen.fields.has("x-forwarded-for"), "{}", seen.head);
    }
}

#[test]
fn tunnelling_to_other_protocols_is_not_offered() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Upgrade: websocket\r\n",
    ] {
        assert_eq!(
            gateway.ask(get("a.test", "/", lines)).status,
            200,
            "{lines}"
        );
        let seen = origin.last_request();
        assert!(!seen.fields.has("upgrade"), "{}", seen.head);
        assert!(!seen.fields.has("http2-settings"), "{}", seen.head);
    }
}

#[test]
fn a_101_nobody_asked_for() {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ));
    let gateway = plain(&origin);
    let response = gateway.get("a.test", "/");
    assert_refused(&response, 502, "upstream_malformed", "a 101 to a plain GET");
}

#[test]
fn an_upgrade_with_a_body_is_refused() {
    let origin = Origin::serve(origin::websocket);
    let gateway = with_routes(&origin, &["{ to: origin }"]);
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Content-Length: 5\r\n\r\nhello";
    assert_refused(
        &gateway.ask(request),
        400,
        "upgrade_invalid",
        "an upgrade with a body",
    );
    assert_eq!(origin.connections(), 0);
}

//! `body_limit`: a declared length is refused at once, an undeclared one when it exceeds.

use cardea_tests::{Origin, Request};

use super::{levels, on_route};
use crate::fixture::{assert_refused, post};

#[test]
fn a_declared_length_is_refused_before_the_body_is_read() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ body_limit: 10 }");
    assert_eq!(
        gateway.ask(post("a.test", "/route", "0123456789")).status,
        200
    );
    let mut client = gateway.client();
    client.send("POST /route HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n");
    let response = client.response();
    assert_refused(&response, 413, "body_too_large", "eleven bytes announced");
    assert_eq!(response.interim, [], "nobody wants this body");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn chunks_are_counted() {
    let origin = Origin::echo();
    let gateway = on_route(&origin, "{ body_limit: 10 }");
    let chunked = |body: &str| {
        format!("POST /route HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    // Ten bytes, however they are wrapped.
    let fits = "5;some=extension\r\nhello\r\n5\r\nworld\r\n0\r\nTrailer: and more\r\n\r\n";
    assert_eq!(gateway.ask(chunked(fits)).status, 200);
    let exceeds = gateway.ask(chunked("5\r\nhello\r\n6\r\nworlds\r\n0\r\n\r\n"));
    assert_refused(&exceeds, 413, "body_too_large", "eleven bytes in chunks");
    // As they come, not when all have come.
    let mut client = gateway.client();
    client.send(chunked("5\r\nhello\r\n"));
    client.send("6\r\nworlds\r\n");
    assert_refused(
        &client.response(),
        413,
        "body_too_large",
        "the second chunk",
    );
    let whole: Vec<Request> = origin
        .requests()
        .into_iter()
        .filter(|seen| seen.is_whole)
        .collect();
    assert_eq!(whole.len(), 1, "{whole:#?}");
}

#[test]
fn the_most_specific_level_wins() {
    let origin = Origin::echo();
    let gateway = levels(
        &origin,
        "{ body_limit: 1KiB }",
        "{ body_limit: 10 }",
        "{ body_limit: off }",
    );
    let check = |host: &str, path: &str, length: usize, status: u16| {
        let response = gateway.ask(post(host, path, &"x".repeat(length)));
        assert_eq!(
            response.status,
            status,
            "{host}{path} {length}: {}",
            response.text()
        );
    };
    check("a.test", "/route", 5000, 200);
    check("a.test", "/", 10, 200);
    check("a.test", "/", 11, 413);
    check("b.test", "/", 1024, 200);
    check("b.test", "/", 1025, 413);
}

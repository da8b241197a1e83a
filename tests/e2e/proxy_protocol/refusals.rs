//! Connections that do not begin as they should, and peers that nobody said may introduce clients.

use std::io::Write;
use std::net::TcpStream;

use cardea_tests::proxy_header::{SIGNATURE, block, tlv, v2, with_checksum};
use cardea_tests::tls::ClientTls;
use cardea_tests::{Client, Ending, Gateway, wait};

use super::{REQUIRED, V1, counted, first_words, gateway, introduced, logged};
use crate::fixture::{assert_refused, get};

/// Asserts that a connection is closed without a word, and counted so.
#[track_caller]
fn check_refused(gateway: &Gateway, listener: &str, client: &mut Client, result: &str) {
    let before = counted(gateway, listener, result);
    let (rest, ending) = client.take_rest();
    assert_eq!(rest, b"", "{result}");
    // Closing on bytes that nobody reads is a reset.
    assert!(
        matches!(ending, Ending::Eof | Ending::Reset),
        "{result}: {ending:?}"
    );
    let after = counted(gateway, listener, result);
    assert!(
        after >= 1.0 && after >= before,
        "{result}: {before} {after}"
    );
}

/// Bytes that are refused, and what they are counted as.
fn wrong() -> Vec<(Vec<u8>, &'static str)> {
    let source = "192.0.2.1:4000";
    let with = |values: &[u8]| v2(source, "198.51.100.1:443", values);
    let mut wrong_sum = with_checksum(with(&tlv(0x03, &[0; 4])));
    wrong_sum[20] ^= 1;
    vec![
        (get("a.test", "/", "").into(), "missing"),
        (b"\x16\x03\x01\x02\0\x01".to_vec(), "missing"),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), "missing"),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4000 65536\r\n".to_vec(),
            "malformed",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4000 443\n".to_vec(),
            "malformed",
        ),
        (
            b"PROXY TCP4 2001:db8::1 2001:db8::2 4000 443\r\n".to_vec(),
            "malformed",
        ),
        (block(0x31, 0x11, &[0; 12]), "malformed"),
        (block(0x22, 0x11, &[0; 12]), "malformed"),
        (block(0x21, 0x41, &[0; 12]), "malformed"),
        (block(0x21, 0x11, &[0; 11]), "malformed"),
        (with(&[0x02, 0, 9, b'a']), "malformed"),
        (with(&tlv(0x05, &[b'x'; 129])), "malformed"),
        (with(&tlv(0x20, &[1, 0, 0, 0])), "malformed"),
        ([&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat(), "too_long"),
        (with(&tlv(0x04, &[0; 4096])), "too_long"),
        ([SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(), "too_long"),
        (wrong_sum, "checksum"),
    ]
}

#[test]
fn what_is_no_header_closes_the_connection() {
    let (gateway, origin, _) = gateway(REQUIRED, "");
    for (bytes, result) in wrong() {
        let before = counted(&gateway, "web", result);
        let mut client = introduced(&gateway, &bytes);
        check_refused(&gateway, "web", &mut client, result);
        let about = bytes.escape_ascii();
        assert_eq!(counted(&gateway, "web", result), before + 1.0, "{about}");
    }
    // Whoever can connect could fill the log.
    let said = gateway.stderr.text();
    assert!(!said.contains("proxy_header"), "{said}");
    assert_eq!(origin.connections(), 0);
    assert_eq!(introduced(&gateway, V1).get("a.test", "/").status, 200);
}

#[test]
fn on_a_listener_with_tls_too() {
    let (gateway, _origin, authority) = gateway(REQUIRED, "");
    let tcp = TcpStream::connect(gateway.listener("secure")).expect("a listener");
    let (_, hello) = first_words(&authority);
    (&tcp).write_all(&hello).expect("an open connection");
    let mut client = Client::over(cardea_tests::wire::Stream::Plain(tcp));
    check_refused(&gateway, "secure", &mut client, "missing");
    let handshakes = gateway.metric("cardea_tls_handshakes_total", &[("listener", "secure")]);
    assert_eq!(handshakes, Some(0.0), "it never came to a handshake");
}

#[test]
fn a_proxy_that_says_nothing_whole_is_closed_in_time() {
    let (gateway, _origin, _) = gateway("{ from: [127.0.0.0/8], timeout: 100ms }", "");
    let silent = &b""[..];
    for (number, bytes) in [silent, b"P", b"PROXY TCP4 192.0.2.1", SIGNATURE]
        .iter()
        .enumerate()
    {
        let mut client = introduced(&gateway, bytes);
        check_refused(&gateway, "web", &mut client, "timed_out");
        assert_eq!(counted(&gateway, "web", "timed_out"), number as f64 + 1.0);
    }
}

#[test]
fn the_deadline_is_absolute() {
    let (gateway, _origin, _) = gateway("{ from: [127.0.0.0/8], timeout: 300ms }", "");
    let mut client = gateway.client();
    let padding = tlv(0x04, &[0; 4000]);
    let header = v2("192.0.2.1:4000", "198.51.100.1:443", &padding);
    // Bytes that keep coming do not put it off.
    let mut bytes = header.iter();
    wait::until_true("the connection is closed on the way", || {
        let next = bytes.next().expect("a header that is longer than its time");
        client.try_send([*next]).is_err()
    });
    gateway.wait_for_metric(
        "cardea_proxy_headers_total",
        &[("listener", "web"), ("result", "timed_out")],
        1.0,
    );
}

#[test]
fn a_proxy_that_goes_away_is_counted() {
    let (gateway, _origin, _) = gateway(REQUIRED, "");
    for (number, bytes) in [&b""[..], b"PROXY TCP4 192.0.2.1", SIGNATURE]
        .iter()
        .enumerate()
    {
        let mut client = introduced(&gateway, bytes);
        client.half_close();
        check_refused(&gateway, "web", &mut client, "closed");
        assert_eq!(counted(&gateway, "web", "closed"), number as f64 + 1.0);
    }
    // One that only ends its side after the request is answered.
    let mut client = introduced(&gateway, [V1, &get("a.test", "/", "")].concat());
    client.half_close();
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_header_may_be_optional() {
    let (gateway, _origin, _) = gateway(
        "{ from: [127.0.0.0/8], mode: optional, timeout: 100ms }",
        "",
    );
    assert_eq!(introduced(&gateway, V1).get("a.test", "/with").status, 200);
    assert_eq!(logged(&gateway, "/with")["peer"], "192.0.2.1:4000");
    let mut client = gateway.client();
    let own = client.local().to_string();
    assert_eq!(client.get("a.test", "/without").status, 200);
    let line = logged(&gateway, "/without");
    assert_eq!(line["peer"], own.as_str());
    assert!(line["proxy"].is_null());
    // The first letters of a method are those of a header.
    let mut client = gateway.client();
    client
        .try_send_pieces("PROPFIND / HTTP/1.1\r\nHost: a.test\r\n\r\n", 1)
        .expect("an open one");
    assert_eq!(client.response().status, 200);
    // Nothing said in time is nothing to say.
    let mut client = gateway.client();
    gateway.wait_for_metric(
        "cardea_proxy_headers_total",
        &[("listener", "web"), ("result", "absent")],
        3.0,
    );
    assert_eq!(client.get("a.test", "/").status, 200);
    // What begins as one has to be one.
    for (bytes, result) in wrong() {
        if result != "missing" {
            check_refused(&gateway, "web", &mut introduced(&gateway, bytes), result);
        }
    }
    check_refused(
        &gateway,
        "web",
        &mut introduced(&gateway, "PROX"),
        "timed_out",
    );
}

#[test]
fn nobody_else_is_believed() {
    let (gateway, origin, authority) = gateway("{ from: [192.0.2.0/24, \"::1\"] }", "");
    let header = v2("192.0.2.1:4000", "198.51.100.1:443", b"");
    for bytes in [V1.as_bytes(), &header] {
        let request = [bytes, get("a.test", "/", "").as_bytes()].concat();
        let response = introduced(&gateway, request)
            .try_response()
            .expect("an answer");
        assert_eq!(response.status, 400, "a header is no request");
        let mut client = Client::connect(gateway.listener("secure"));
        client.send([bytes, &first_words(&authority).1].concat());
        let (said, _) = client.take_rest();
        // Plain text is told that this is a port of TLS; the rest gets an alert, or nothing.
        let is_refused =
            said.starts_with(b"HTTP/1.1 400 ") || said.first().is_none_or(|&it| it == 21);
        assert!(is_refused, "{}", said.escape_ascii());
    }
    assert_eq!(origin.connections(), 0);
    let mut client = gateway.client();
    let own = client.local().to_string();
    assert_eq!(client.get("a.test", "/").status, 200);
    let config = ClientTls::trusting(&authority).config();
    let mut secure = Client::connect_tls(gateway.listener("secure"), &config, "a.test");
    assert_eq!(secure.get("a.test", "/secure").status, 200);
    let line = logged(&gateway, "/");
    assert_eq!(line["peer"], own.as_str());
    let series = gateway.metric("cardea_proxy_headers_total", &[]);
    assert_eq!(series, None, "nobody looked");
}

#[test]
fn a_client_behind_a_proxy_cannot_introduce_itself() {
    let (gateway, origin, _) = gateway(REQUIRED, "");
    let forged = v2("127.0.0.1:1", "198.51.100.1:443", b"");
    for second in [V1.as_bytes(), &forged] {
        let bytes = [V1.as_bytes(), second, get("a.test", "/", "").as_bytes()].concat();
        let response = introduced(&gateway, bytes)
            .try_response()
            .expect("an answer");
        assert_eq!(response.status, 400);
    }
    let mut client = introduced(&gateway, V1);
    assert_eq!(client.get("a.test", "/").status, 200);
    let response = client.ask([V1, &get("a.test", "/", "")].concat());
    assert_refused(
        &response,
        400,
        "request_line_malformed",
        "a header between requests",
    );
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn without_the_setting_a_header_is_no_request() {
    let origin = cardea_tests::Origin::echo();
    let gateway = crate::fixture::plain(&origin);
    let response = introduced(&gateway, [V1, &get("a.test", "/", "")].concat()).response();
    assert_refused(&response, 400, "request_line_malformed", "a header");
}

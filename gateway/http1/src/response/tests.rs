//! Response heads: the status line, and what the fields come to on this side.

use super::*;
use crate::Known;

fn parsed(text: &str) -> Result<ResponseHead, HeadError> {
    let mut head = ResponseHead::default();
    head.parse(text.as_bytes(), &Limits::default())
        .map(|()| head)
}

#[track_caller]
fn check_fault(text: &str, fault: HeadFault, offset: u32) {
    let error = parsed(text).expect_err(text);
    assert_eq!((error.fault(), error.offset()), (fault, offset), "{text:?}");
}

#[test]
fn a_response_is_told_apart_into_its_parts() {
    let text = "HTTP/1.1 404 Not Found\r\nServer: hinge\r\nContent-Length: 9\r\n\r\n";
    let head = parsed(text).expect("a valid head");
    let of = |span: Span| str::from_utf8(span.of(text.as_bytes())).expect("ASCII");
    assert_eq!((head.version, head.status), (Version::Http11, 404));
    assert_eq!(of(head.reason), "Not Found");
    let fields: Vec<_> = head
        .fields
        .iter()
        .map(|field| (of(field.name), of(field.value), field.known))
        .collect();
    assert_eq!(
        fields,
        [
            ("Server", "hinge", Known::Server),
            ("Content-Length", "9", Known::ContentLength),
        ]
    );
    assert!(head.persistent && !head.is_interim() && !head.is_switching());
    assert_eq!(head.framing(Method::Get), Framing::Length(9));
    assert_eq!(head.content_length(), Some(9));
}

#[test]
fn status_lines() {
    let check = |line: &str, expected: Result<(u16, &str), HeadFault>| {
        let text = format!("{line}\r\n\r\n");
        let found = parsed(&text)
            .map(|head| {
                (
                    head.status,
                    head.reason.of(text.as_bytes()).escape_ascii().to_string(),
                )
            })
            .map_err(HeadError::fault);
        let expected = expected.map(|(status, reason)| (status, reason.to_owned()));
        assert_eq!(found, expected, "{line:?}");
    };
    check("HTTP/1.1 200 OK", Ok((200, "OK")));
    check("HTTP/1.0 200 OK", Ok((200, "OK")));
    check("HTTP/1.2 200 OK", Ok((200, "OK")));
    check("HTTP/1.1 200 ", Ok((200, "")));
    check("HTTP/1.1 200", Ok((200, "")));
    check("HTTP/1.1 200  two  spaces ", Ok((200, " two  spaces ")));
    check("HTTP/1.1 200 a\tb", Ok((200, "a\\tb")));
    check("HTTP/1.1 100 Continue", Ok((100, "Continue")));
    check("HTTP/1.1 999 x", Ok((999, "x")));
    check("HTTP/2.0 200 OK", Err(HeadFault::UnsupportedVersion));
    for line in [
        "HTTP/1.1 099 x",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 20x OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 0x1 OK",
        "HTTP/1.1 ",
    ] {
        check(line, Err(HeadFault::BadStatus));
    }
    for line in [
        "ICY 200 OK",
        "HTTP/1.1200 OK",
        "HTTP/1.10 200 OK",
        "200 OK      ",
        "HTTP/1.1",
    ] {
        check(line, Err(HeadFault::BadVersion));
    }
}

#[test]
fn framing_depends_on_the_request_and_the_status() {
    let check = |method, status: u16, lines: &str, expected| {
        let text = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
        assert_eq!(
            parsed(&text).map(|head| head.framing(method)),
            Ok(expected),
            "{text:?}"
        );
    };
    const LENGTH: &str = "Content-Length: 5\r\n";
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    check(Method::Get, 200, LENGTH, Framing::Length(5));
    check(Method::Get, 200, CHUNKED, Framing::Chunked);
    check(Method::Get, 200, "", Framing::UntilClose);
    check(Method::Get, 999, "", Framing::UntilClose);
    check(Method::Head, 200, LENGTH, Framing::None);
    check(Method::Head, 200, CHUNKED, Framing::None);
    check(Method::Get, 304, LENGTH, Framing::None);
    check(Method::Get, 304, CHUNKED, Framing::None);
    check(Method::Get, 204, "", Framing::None);
    check(Method::Get, 204, LENGTH, Framing::None);
    check(Method::Get, 100, "", Framing::None);
    check(Method::Get, 103, LENGTH, Framing::None);
    check(Method::Get, 101, "", Framing::None);
    check(Method::Connect, 200, LENGTH, Framing::None);
    check(Method::Connect, 407, LENGTH, Framing::Length(5));
}

#[test]
fn persistence() {
    let check = |line: &str, lines: &str, expected: bool| {
        let text = format!("{line}\r\n{lines}\r\n");
        assert_eq!(
            parsed(&text).map(|head| head.persistent),
            Ok(expected),
            "{text:?}"
        );
    };
    check("HTTP/1.1 200 OK", "", true);
    check("HTTP/1.1 200 OK", "Connection: close\r\n", false);
    check("HTTP/1.0 200 OK", "", false);
    check("HTTP/1.0 200 OK", "Connection: keep-alive\r\n", true);
    // Not a list of tokens: whatever it asks for, the connection is not used again.
    check(
        "HTTP/1.1 200 OK",
        "Connection: keep-alive; timeout=5\r\n",
        false,
    );
    // A 204 that announces a body may send one.
    check("HTTP/1.1 204 No Content", "Content-Length: 0\r\n", true);
    check("HTTP/1.1 204 No Content", "Content-Length: 1\r\n", false);
    check(
        "HTTP/1.1 204 No Content",
        "Transfer-Encoding: chunked\r\n",
        false,
    );
}

#[test]
fn interim_and_switching() {
    for status in 100..=999u16 {
        let text = format!("HTTP/1.1 {status} \r\n\r\n");
        let head = parsed(&text).expect("a valid head");
        assert_eq!(head.status, status);
        assert_eq!(
            head.is_interim(),
            (100..200).contains(&status) && status != 101
        );
        assert_eq!(head.is_switching(), status == 101);
    }
    let text = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(
        parsed(text).map(|head| head.upgrade),
        Ok(Upgrade::WebSocket)
    );
}

#[test]
fn contradictions_are_errors() {
    let line = "HTTP/1.1 200 OK\r\n";
    let check = |lines: &str, fault, offset| {
        check_fault(&format!("{line}{lines}\r\n"), fault, offset);
    };
    check(
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        HeadFault::RepeatedContentLength,
        17 + 19 + 16,
    );
    check(
        "Content-Length: 5, 5\r\n",
        HeadFault::BadContentLength,
        17 + 16,
    );
    check(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        HeadFault::LengthAndEncoding,
        17 + 19,
    );
    check(
        "Transfer-Encoding: gzip\r\n",
        HeadFault::BadTransferEncoding,
        17 + 19,
    );
    check("A: b\r\n c\r\n", HeadFault::ObsFold, 17 + 6);
    check("A : b\r\n", HeadFault::SpaceBeforeColon, 17 + 1);
    check_fault(
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        HeadFault::EncodingInHttp10,
        17,
    );
}

#[test]
fn copies_of_a_content_length_become_one() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\ncontent-length: 5\r\n\r\n";
    let head = parsed(text).expect("a valid head");
    assert_eq!(head.content_length(), Some(5));
    let lengths = head
        .fields
        .iter()
        .filter(|field| field.known == Known::ContentLength);
    assert_eq!((lengths.count(), head.fields.len()), (1, 2));
}

#[test]
fn a_response_needs_no_host_and_may_send_one() {
    let text = "HTTP/1.1 200 OK\r\nHost: a\r\nHost: b\r\nExpect: x\r\n\r\n";
    assert_eq!(parsed(text).map(|head| head.fields.len()), Ok(3));
}

#[test]
fn a_head_is_reused_without_traces_of_the_last() {
    let limits = Limits::default();
    let mut head = ResponseHead::default();
    let first =
        b"HTTP/1.0 204 No\r\nContent-Length: 4\r\nConnection: X-A, upgrade\r\nUpgrade: b\r\n\r\n";
    head.parse(first, &limits).expect("a valid head");
    let second = b"HTTP/1.1 200\r\n\r\n";
    head.parse(second, &limits).expect("a valid head");
    let mut fresh = ResponseHead::default();
    fresh.parse(second, &limits).expect("a valid head");
    assert_eq!(head, fresh);
}

#[test]
fn a_head_is_whole_and_alone() {
    let text = "HTTP/1.1 200 OK\r\nServer: hinge\r\n\r\n";
    for end in 0..text.len() {
        check_fault(&text[..end], HeadFault::Incomplete, end as u32);
    }
    check_fault(&format!("{text}H"), HeadFault::Surplus, 34);
    check_fault("\r\nHTTP/1.1 200 OK\r\n\r\n", HeadFault::EmptyFirstLine, 0);
}

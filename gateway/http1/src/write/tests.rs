//! The serialisers: what they write, and that nothing leaves its line.

use super::*;
use crate::{Limits, RequestHead};

#[track_caller]
fn check(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
    let mut out = b"before".to_vec();
    write(&mut out);
    let written = out
        .strip_prefix(b"before")
        .expect("what was there before stays");
    assert_eq!(
        written.escape_ascii().to_string(),
        expected.escape_default().to_string()
    );
}

#[test]
fn lines() {
    check(
        |out| request_line(out, b"GET", b"/a?b"),
        "GET /a?b HTTP/1.1\r\n",
    );
    check(|out| status_line(out, 200), "HTTP/1.1 200 OK\r\n");
    check(|out| status_line(out, 299), "HTTP/1.1 299 \r\n");
    check(
        |out| status_line_with_reason(out, 404, b"Gone fishing"),
        "HTTP/1.1 404 Gone fishing\r\n",
    );
    check(|out| field(out, b"A", b"b c"), "A: b c\r\n");
    check(|out| field(out, b"A", b""), "A: \r\n");
    check(|out| content_length(out, 0), "Content-Length: 0\r\n");
    check(
        |out| content_length(out, u64::MAX),
        "Content-Length: 18446744073709551615\r\n",
    );
    check(chunked, "Transfer-Encoding: chunked\r\n");
    check(head_end, "\r\n");
    check(|out| chunk_start(out, 1), "1\r\n");
    check(|out| chunk_start(out, 0xdead_beef), "deadbeef\r\n");
    check(|out| chunk_start(out, u64::MAX), "ffffffffffffffff\r\n");
    check(chunk_end, "\r\n");
    check(last_chunk, "0\r\n");
}

#[test]
fn numbers() {
    for number in [0, 9, 10, 99, 100, 65535, 1 << 32, u64::MAX - 1] {
        check(|out| decimal(out, number), &number.to_string());
        check(
            |out| chunk_start(out, number.max(1)),
            &format!("{:x}\r\n", number.max(1)),
        );
    }
}

#[test]
fn reasons_belong_to_their_status() {
    for status in 100..1000 {
        let expected = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        check(|out| status_line(out, status), &expected);
    }
    assert_eq!(reason(431), "Request Header Fields Too Large");
    assert_eq!(reason(999), "");
}

#[test]
fn fields_are_copied_as_received() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\nB: 1\r\nC:2\r\nD: 3 \r\nE: 4\r\nF:  5\r\nG:\r\n\
                 H: 6\r\n\r\n";
    let mut head = RequestHead::default();
    head.parse(text, &Limits::default()).expect("a valid head");
    let all = head.fields.iter().copied();
    check(
        |out| fields(out, text, all.clone()),
        "Host: a\r\nB: 1\r\nC: 2\r\nD: 3\r\nE: 4\r\nF: 5\r\nG: \r\nH: 6\r\n",
    );
    let some = all
        .clone()
        .filter(|field| !matches!(field.name.of(text), b"B" | b"E"));
    check(
        |out| fields(out, text, some),
        "Host: a\r\nC: 2\r\nD: 3\r\nF: 5\r\nG: \r\nH: 6\r\n",
    );
    check(
        |out| fields(out, text, all.rev().take(2)),
        "H: 6\r\nG: \r\n",
    );
    check(|out| fields(out, text, []), "");
}

/// In a release build; a debug build stops at the assertion, which the next test shows.
#[test]
#[cfg(not(debug_assertions))]
fn a_line_break_in_a_value_becomes_spaces() {
    check(|out| field(out, b"A", b"b\r\nC: d\0"), "A: b  C: d \r\n");
    check(
        |out| status_line_with_reason(out, 200, b"\n"),
        "HTTP/1.1 200  \r\n",
    );
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "a line break in what is to be one line")]
fn a_line_break_in_a_value_stops_a_debug_build() {
    field(&mut Vec::new(), b"A", b"b\r\nC: d");
}

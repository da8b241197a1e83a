//! The search for the end of a head, one byte at a time and all at once.

use super::*;

/// The verdict on `text`, and after how many of its bytes it came, fed one by one.
fn verdict(mut scan: HeadScan, text: &[u8], limits: &Limits) -> (Outcome, usize) {
    for length in 0..=text.len() {
        match scan.advance(&text[..length], limits) {
            Ok(None) => {}
            Ok(Some(span)) => return (Outcome::Head(span), length),
            Err(error) => return (Outcome::Fault(error.fault(), error.offset()), length),
        }
    }
    (Outcome::More, text.len())
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Head(Span),
    Fault(HeadFault, u32),
    More,
}

#[track_caller]
fn check(scan: HeadScan, text: &str, expected: Outcome, after: usize) {
    let limits = Limits {
        head_bytes_max: 64,
        target_bytes_max: 10,
        method_bytes_max: 8,
        ..Limits::default()
    };
    let found = verdict(scan, text.as_bytes(), &limits);
    assert_eq!(found, (expected, after), "{text:?}");
    let mut whole = scan;
    let found = match whole.advance(text.as_bytes(), &limits) {
        Ok(None) => Outcome::More,
        Ok(Some(span)) => Outcome::Head(span),
        Err(error) => Outcome::Fault(error.fault(), error.offset()),
    };
    assert_eq!(
        found,
        verdict(scan, text.as_bytes(), &limits).0,
        "{text:?} at once"
    );
}

#[test]
fn the_end_is_found_when_it_comes() {
    let head = |start, end| Outcome::Head(Span { start, end });
    check(
        HeadScan::request(),
        "GET / HTTP/1.1\r\nA: b\r\n\r\n",
        head(0, 24),
        24,
    );
    check(
        HeadScan::request(),
        "GET / HTTP/1.1\r\n\r\nbody",
        head(0, 18),
        18,
    );
    check(HeadScan::request(), "\r\nG\r\n\r\n", head(2, 7), 7);
    check(
        HeadScan::response(),
        "HTTP/1.1 200\r\n\r\n",
        head(0, 16),
        16,
    );
    check(HeadScan::trailers(), "\r\n", head(0, 2), 2);
    check(HeadScan::trailers(), "A: b\r\n\r\n", head(0, 8), 8);
    check(
        HeadScan::request(),
        "A\tb\r\nc\u{e9}\t\r\n\r\n",
        head(0, 13),
        13,
    );
    check(
        HeadScan::request(),
        "GET / HTTP/1.1\r\nA: b\r\n\r",
        Outcome::More,
        23,
    );
}

#[test]
fn what_cannot_become_a_head_is_refused_at_once() {
    let fault = Outcome::Fault;
    check(
        HeadScan::request(),
        "GET / HTTP/1.1\nHost: a\n\n",
        fault(HeadFault::BareLf, 14),
        15,
    );
    check(
        HeadScan::request(),
        "GET /\rHTTP/1.1",
        fault(HeadFault::BareCr, 5),
        7,
    );
    check(
        HeadScan::request(),
        "GET /\r\rHTTP/1.1",
        fault(HeadFault::BareCr, 5),
        7,
    );
    check(
        HeadScan::request(),
        "A\r\nB: c\0d",
        fault(HeadFault::Control, 7),
        8,
    );
    check(
        HeadScan::request(),
        "A\r\nB: c\x7fd",
        fault(HeadFault::Control, 7),
        8,
    );
    check(
        HeadScan::request(),
        "\x16\x03\x01\x02",
        fault(HeadFault::Control, 0),
        1,
    );
    check(HeadScan::request(), "\n", fault(HeadFault::BareLf, 0), 1);
    check(
        HeadScan::request(),
        "\r\n\r\n",
        fault(HeadFault::EmptyFirstLine, 0),
        4,
    );
    check(
        HeadScan::request(),
        "\r\n\n",
        fault(HeadFault::BareLf, 0),
        3,
    );
    check(HeadScan::request(), "\rG", fault(HeadFault::BareCr, 0), 2);
    check(
        HeadScan::response(),
        "\r\nHTTP",
        fault(HeadFault::EmptyFirstLine, 0),
        2,
    );
    check(
        HeadScan::trailers(),
        "A: b\r\n\n",
        fault(HeadFault::BareLf, 6),
        7,
    );
}

#[test]
fn limits_are_met_exactly() {
    let long_line = "M".repeat(8) + " " + &"/".repeat(10) + " HTTP/1.1";
    check(
        HeadScan::request(),
        &format!("{long_line}\r\n"),
        Outcome::More,
        30,
    );
    check(
        HeadScan::request(),
        &format!("{long_line}1\r\n"),
        Outcome::Fault(HeadFault::TargetTooLong, 30),
        30,
    );
    let head = |fill| format!("A\r\nB: {}\r\n\r\n", "c".repeat(fill));
    let spare = 64 - head(0).len();
    check(
        HeadScan::response(),
        &head(spare),
        Outcome::Head(Span { start: 0, end: 64 }),
        64,
    );
    let too_long = Outcome::Fault(HeadFault::HeadTooLong, 64);
    check(HeadScan::response(), &head(spare + 1), too_long, 64);
    let too_long = Outcome::Fault(HeadFault::HeadTooLong, 64);
    check(HeadScan::response(), &"x".repeat(70), too_long, 64);
}

#[test]
fn a_scan_can_be_restarted() {
    let limits = Limits::default();
    let mut scan = HeadScan::request();
    assert!(
        scan.advance(b"\r\nA\r\n\r\n", &limits)
            .expect("valid")
            .is_some()
    );
    scan.restart();
    assert!(scan.is_fresh());
    let span = scan.advance(b"A\r\n\r\n", &limits).expect("valid");
    assert_eq!(span, Some(Span { start: 0, end: 5 }));
}

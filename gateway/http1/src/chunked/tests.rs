//! Chunked bodies: the grammar, the limits, and where a body ends.

use super::*;
use crate::Underscores;

/// What a body decodes to, with the trailers, and how many bytes it took.
type Decoded = (Vec<u8>, Vec<(String, String)>, usize);

fn decode(input: &[u8], limits: &Limits, piece: usize) -> Result<Option<Decoded>, ChunkError> {
    let mut decoder = ChunkedDecoder::new(limits);
    let mut data = Vec::new();
    let mut at = 0;
    for end in (0..=input.len()).step_by(piece).chain([input.len()]) {
        while at < end {
            match decoder.next(&input[at..end])? {
                Step::Need { consumed } => {
                    assert_eq!(consumed, end - at, "all of the input is used up");
                    at = end;
                }
                Step::Data { start, end: stop } => {
                    assert!(start < stop && !decoder.is_done(), "there is data");
                    data.extend_from_slice(&input[at + start..at + stop]);
                    at += stop;
                }
                Step::End { consumed } => {
                    let bytes = decoder.trailer_bytes();
                    let of = |span: crate::Span| span.of(bytes).escape_ascii().to_string();
                    let trailers = decoder.trailers().iter();
                    let trailers = trailers.map(|field| (of(field.name), of(field.value)));
                    return Ok(Some((data, trailers.collect(), at + consumed)));
                }
            }
        }
    }
    Ok(None)
}

/// The verdict for any size of pieces, which has to be the same.
#[track_caller]
fn decode_all(input: &str, limits: &Limits) -> Result<Option<Decoded>, ChunkError> {
    let whole = decode(input.as_bytes(), limits, usize::MAX);
    for piece in 1..=7 {
        assert_eq!(
            decode(input.as_bytes(), limits, piece),
            whole,
            "{input:?} by {piece}"
        );
    }
    whole
}

#[track_caller]
fn check(input: &str, data: &str, trailers: &[(&str, &str)], rest: &str) {
    let (found, fields, length) = decode_all(input, &Limits::default())
        .unwrap_or_else(|error| panic!("{input:?}: {error}"))
        .unwrap_or_else(|| panic!("{input:?} is not complete"));
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(found, data.as_bytes(), "{input:?}");
    assert_eq!(fields, trailers, "{input:?}");
    assert_eq!(&input[length..], rest, "{input:?}");
}

#[track_caller]
fn check_fault(input: &str, fault: ChunkFault, offset: u64) {
    let error = decode_all(input, &Limits::default()).expect_err(input);
    assert_eq!(
        (error.fault(), error.offset()),
        (fault, offset),
        "{input:?}"
    );
}

#[test]
fn bodies() {
    check("0\r\n\r\n", "", &[], "");
    check("5\r\nhinge\r\n0\r\n\r\n", "hinge", &[], "");
    check(
        "5\r\nhinge\r\n1\r\ns\r\n000\r\n\r\nGET /",
        "hinges",
        &[],
        "GET /",
    );
    check(
        "00000000000000A\r\n0123456789\r\n0\r\n\r\n",
        "0123456789",
        &[],
        "",
    );
    check("b\r\nhello\r\nworl\r\n0\r\n\r\n", "hello\r\nworl", &[], "");
}

#[test]
fn an_unfinished_body_is_waited_for() {
    let body = "5;a=\"b\"\r\nhinge\r\n0\r\nA: b\r\n\r\n";
    for end in 0..body.len() {
        assert_eq!(
            decode_all(&body[..end], &Limits::default()),
            Ok(None),
            "{:?}",
            &body[..end]
        );
    }
    check(body, "hinge", &[("A", "b")], "");
}

#[test]
fn sizes() {
    for input in ["x", "-1\r\n", "+1\r\n", " 1\r\n", "\r\n", ";a\r\n", "\n"] {
        check_fault(input, ChunkFault::BadSize, 0);
    }
    check_fault("0x5\r\nhinge\r\n", ChunkFault::BadSize, 1);
    check_fault("5_0\r\n", ChunkFault::BadSize, 1);
    check_fault("5,0\r\n", ChunkFault::BadSize, 1);
    check_fault("5\0\r\n", ChunkFault::BadSize, 1);
    check_fault("1\r\na\r\ng\r\n", ChunkFault::BadSize, 6);
    check_fault("8000000000000000\r\n", ChunkFault::SizeTooLarge, 15);
    check_fault("10000000000000000\r\n", ChunkFault::SizeTooLarge, 16);
    check_fault(
        "00000000000000005\r\nhinge\r\n",
        ChunkFault::SizeTooLarge,
        16,
    );
    assert_eq!(
        decode_all("7fffffffffffffff\r\n", &Limits::default()),
        Ok(None)
    );
}

#[test]
fn lines_end_in_crlf() {
    check_fault("5\nhinge\r\n0\r\n\r\n", ChunkFault::BadLineEnd, 1);
    check_fault("5\rhinge\r\n0\r\n\r\n", ChunkFault::BadLineEnd, 2);
    check_fault("5\r\r\nhinge\r\n0\r\n\r\n", ChunkFault::BadLineEnd, 2);
    check_fault("5;a\nhinge\r\n0\r\n\r\n", ChunkFault::BadLineEnd, 3);
    check_fault("5\r\nhinge\n0\r\n\r\n", ChunkFault::BadDataEnd, 8);
    check_fault("5\r\nhinge\r0\r\n\r\n", ChunkFault::BadDataEnd, 9);
    check_fault("5\r\nhinges\r\n0\r\n\r\n", ChunkFault::BadDataEnd, 8);
    check_fault("5\r\nhing\r\n0\r\n\r\n", ChunkFault::BadDataEnd, 8);
    check_fault("5\r\nhinge0\r\n\r\n", ChunkFault::BadDataEnd, 8);
    check_fault("0\r\n\n", ChunkFault::Trailer(HeadFault::BareLf), 3);
    check_fault("0\r\n\r\r\n", ChunkFault::Trailer(HeadFault::BareCr), 4);
    check_fault("0\n\n", ChunkFault::BadLineEnd, 1);
}

#[test]
fn extensions_are_checked_and_dropped() {
    for extension in [
        ";a",
        ";a=b",
        ";a=b;c",
        ";a=\"b\"",
        ";a=\"\"",
        ";a=\"b;c\\\"\\\\ \t\u{fc}\"",
        " ; a = b ; c",
        "\t;\ta\t=\t\"b\"\t;d",
        ";a=\"b\";c=d",
        ";a =b",
    ] {
        check(
            &format!("5{extension}\r\nhinge\r\n0{extension}\r\n\r\n"),
            "hinge",
            &[],
            "",
        );
    }
    let bad = |extension: &str, offset| {
        check_fault(
            &format!("5{extension}\r\nhinge\r\n"),
            ChunkFault::BadExtension,
            offset,
        );
    };
    bad(" ", 2);
    bad(" x", 2);
    bad(";", 2);
    bad(";;a", 2);
    bad(";=b", 2);
    bad(";a=", 4);
    bad(";a ", 4);
    bad(";a b", 4);
    bad(";a=b ", 6);
    bad(";a=b c", 6);
    bad(";a=\"b\"c", 7);
    bad(";a=\"b", 6);
    bad(";a=\"b\\", 7);
    bad(";a=b\"c\"", 5);
    bad(";a==b", 4);
    bad(";a\0", 3);
    bad(";a=\"\x7f\"", 5);
    bad(";a=\"\0\"", 5);
    bad(";a=b,c", 5);
    // The quoted string would go on, but its line ends.
    check_fault("5;a=\"\r\n\"\r\nhinge\r\n", ChunkFault::BadExtension, 5);
    check_fault("5;a=\"\n\"\r\nhinge\r\n", ChunkFault::BadExtension, 5);
    check_fault("5;a\r;b\r\nhinge\r\n", ChunkFault::BadLineEnd, 4);
}

#[test]
fn extensions_are_limited_over_the_whole_body() {
    let limits = Limits {
        chunk_extension_bytes_max: 6,
        ..Limits::default()
    };
    let body = |first: &str, second: &str| format!("1{first}\r\na\r\n1{second}\r\nb\r\n0\r\n\r\n");
    assert!(decode_all(&body(";ab", ";cd"), &limits).is_ok_and(|decoded| decoded.is_some()));
    let error = decode_all(&body(";ab", ";cde"), &limits).expect_err("one byte too many");
    assert_eq!(
        (error.fault(), error.offset()),
        (ChunkFault::ExtensionsTooLong, 13)
    );
}

#[test]
fn trailers_are_collected() {
    check("0\r\nA: b\r\n\r\nGET", "", &[("A", "b")], "GET");
    check(
        "0\r\nA: b\r\nC:\td \r\nE:\r\n\r\n",
        "",
        &[("A", "b"), ("C", "d"), ("E", "")],
        "",
    );
    check(
        "1\r\nx\r\n0\r\nETag: \"x\"\r\n\r\n",
        "x",
        &[("ETag", "\\\"x\\\"")],
        "",
    );
}

#[test]
fn forbidden_trailers_are_dropped() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "Trailer",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Content-Type",
        "Content-Encoding",
        "Cache-Control",
        "Connection",
        "TE",
        "Expect",
        "X-Forwarded-For",
        "X-Forwarded-Anything",
        "Forwarded",
        "X-Request-ID",
        "X-Real-IP",
        "Location",
        "Vary",
    ] {
        check(
            &format!("0\r\nA: b\r\n{name}: 5\r\n\r\n"),
            "",
            &[("A", "b")],
            "",
        );
    }
}

#[test]
fn malformed_trailers_are_refused() {
    let check = |line: &str, fault, offset: u64| {
        check_fault(
            &format!("0\r\n{line}\r\n\r\n"),
            ChunkFault::Trailer(fault),
            3 + offset,
        );
    };
    check("A", HeadFault::BadFieldName, 1);
    check("A : b", HeadFault::SpaceBeforeColon, 1);
    check(" A: b", HeadFault::ObsFold, 0);
    check("A: b\r\n c", HeadFault::ObsFold, 6);
    check("A: b\nC: d", HeadFault::BareLf, 4);
    check("A: \0", HeadFault::Control, 3);
    check("A_B: c", HeadFault::Underscore, 1);
    let limits = Limits {
        underscores: Underscores::Drop,
        ..Limits::default()
    };
    let decoded = decode_all("0\r\nA_B: c\r\nD: e\r\n\r\n", &limits).expect("valid");
    let (_, trailers, _) = decoded.expect("complete");
    assert_eq!(trailers, [("D".to_owned(), "e".to_owned())]);
}

#[test]
fn trailers_are_limited() {
    let limits = Limits {
        trailer_bytes_max: 20,
        trailer_count_max: 2,
        ..Limits::default()
    };
    let check = |lines: &str, expected: Result<(), (ChunkFault, u64)>| {
        let found = decode_all(&format!("0\r\n{lines}\r\n"), &limits)
            .map(|decoded| assert!(decoded.is_some(), "{lines:?} is not complete"))
            .map_err(|error| (error.fault(), error.offset()));
        assert_eq!(found, expected, "{lines:?}");
    };
    check(
        "A: 234567890123456\r\n",
        Err((ChunkFault::TrailersTooLong, 23)),
    );
    check("A: 2345678901234\r\n", Ok(()));
    check("A:b\r\nC:d\r\n", Ok(()));
    check(
        "A:b\r\nC:d\r\nE:f\r\n",
        Err((ChunkFault::TooManyTrailers, 13)),
    );
    let endless = "A: ".to_owned() + &"x".repeat(100);
    let error = decode_all(&format!("0\r\n{endless}"), &limits).expect_err("too long already");
    assert_eq!(
        (error.fault(), error.offset()),
        (ChunkFault::TrailersTooLong, 23)
    );
}

#[test]
fn a_finished_decoder_consumes_nothing() {
    let mut decoder = ChunkedDecoder::new(&Limits::default());
    assert_eq!(decoder.next(b""), Ok(Step::Need { consumed: 0 }));
    assert_eq!(decoder.next(b"0\r\n\r\nX"), Ok(Step::End { consumed: 5 }));
    assert!(decoder.is_done());
    assert_eq!(decoder.next(b"X"), Ok(Step::End { consumed: 0 }));
    assert_eq!(decoder.next(b""), Ok(Step::End { consumed: 0 }));
}

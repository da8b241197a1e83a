//! Field lines, and what `Connection` takes away.

use crate::{HeadFault, Known, Limits, RequestHead, ResponseHead};

#[test]
fn field_lines() {
    let check = |line: &str, expected: Result<(&str, &str), (HeadFault, u32)>| {
        let text = format!("GET / HTTP/1.0\r\n{line}\r\n\r\n");
        let mut head = RequestHead::default();
        let found = head
            .parse(text.as_bytes(), &Limits::default())
            .map(|()| {
                let field = head.fields.first().expect("one field");
                let of = |span: crate::Span| span.of(text.as_bytes()).escape_ascii().to_string();
                (of(field.name), of(field.value))
            })
            .map_err(|error| (error.fault(), error.offset() - 16));
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, expected, "{line:?}");
    };
    check("A:b", Ok(("A", "b")));
    check("A: b", Ok(("A", "b")));
    check("A:  \t b\t ", Ok(("A", "b")));
    check("A: b c\td", Ok(("A", "b c\\td")));
    check("A:", Ok(("A", "")));
    check("A: \t", Ok(("A", "")));
    check("A: b:c", Ok(("A", "b:c")));
    check(
        "A: \"(),/:;<=>?@[\\]{}",
        Ok(("A", "\\\"(),/:;<=>?@[\\\\]{}")),
    );
    check("A: \u{fc}", Ok(("A", "\\xc3\\xbc")));
    check("!#$%&'*+-.^`|~09: b", Ok(("!#$%&\\'*+-.^`|~09", "b")));
    check(": b", Err((HeadFault::BadFieldName, 0)));
    check("A", Err((HeadFault::BadFieldName, 1)));
    check("A b: c", Err((HeadFault::SpaceBeforeColon, 1)));
    check("A : b", Err((HeadFault::SpaceBeforeColon, 1)));
    check("A\t: b", Err((HeadFault::SpaceBeforeColon, 1)));
    check(" A: b", Err((HeadFault::ObsFold, 0)));
    check("\tA: b", Err((HeadFault::ObsFold, 0)));
    check("A: b\r\n c: d", Err((HeadFault::ObsFold, 6)));
    check("A: b\r\n\tc", Err((HeadFault::ObsFold, 6)));
    check("A: b\r\n ", Err((HeadFault::ObsFold, 6)));
    for byte in b"\"(),/;<=>?@[\\]{}" {
        check(
            &format!("A{}: b", char::from(*byte)),
            Err((HeadFault::BadFieldName, 1)),
        );
    }
    check("\u{fc}: b", Err((HeadFault::BadFieldName, 0)));
}

/// Names and values end where their lines end and nothing else stands in them, not even DEL, which
/// is looked for apart from the rest.
#[test]
fn controls() {
    for byte in (0..0x20u8)
        .chain([0x7f])
        .filter(|byte| !b"\t\r\n".contains(byte))
    {
        let control = char::from(byte);
        for text in [
            format!("GET / HTTP/1.0\r\nA: {control}b\r\n\r\n"),
            format!("GET / HTTP/1.0\r\nA: b{control}\r\nC: d\r\n\r\n"),
            format!("GET / HTTP/1.0\r\nA: 23456789abcdef{control}\r\n\r\n"),
            format!("GET / HTTP/1.0\r\nA{control}: b\r\n\r\n"),
            format!("GET / HTTP/1.0\r\n{control}A: b\r\n\r\n"),
            format!("GET /{control} HTTP/1.0\r\nA: b\r\n\r\n"),
            format!("GET / HTTP/1.0{control}\r\nA: b\r\n\r\n"),
        ] {
            let error = RequestHead::default()
                .parse(text.as_bytes(), &Limits::default())
                .expect_err("a control character");
            assert_eq!(error.fault(), HeadFault::Control, "{text:?}");
            assert_eq!(
                Some(error.offset() as usize),
                text.find(control),
                "{text:?}"
            );
        }
        let text = format!("HTTP/1.1 200 O{control}K\r\n\r\n");
        let error = ResponseHead::default()
            .parse(text.as_bytes(), &Limits::default())
            .expect_err("a control character");
        assert_eq!(
            (error.fault(), error.offset()),
            (HeadFault::Control, 14),
            "{text:?}"
        );
    }
}

#[test]
fn connection_nominates() {
    let text =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Once, cookie , close,x-forwarded-user\r\n\
        Connection: KEEP-ALIVE, Host\r\nX-ONCE: 1\r\nX-Other: 2\r\nCookie: c\r\nKeep-Alive: 5\r\n\
        X-Forwarded-User: u\r\nTE: trailers\r\nUpgrade: x\r\nProxy-Connection: close\r\n\
        Trailer: x\r\nHTTP2-Settings: x\r\n\r\n";
    let mut head = RequestHead::default();
    head.parse(text, &Limits::default()).expect("a valid head");
    assert_eq!(head.nominated.names(text).collect::<Vec<_>>(), [b"X-Once"]);
    let kept: Vec<_> = head
        .fields
        .iter()
        .filter(|&&field| !head.nominated.removes(field, text))
        .map(|field| str::from_utf8(field.name.of(text)).expect("ASCII"))
        .collect();
    assert_eq!(kept, ["Host", "X-Other", "Cookie", "X-Forwarded-User"]);
}

#[test]
fn connection_is_a_list_of_tokens() {
    let check = |value: &str, expected: Result<usize, u32>| {
        let text = format!("GET / HTTP/1.0\r\nConnection: {value}\r\n\r\n");
        let mut head = RequestHead::default();
        let found = head
            .parse(text.as_bytes(), &Limits::default())
            .map(|()| head.nominated.names(text.as_bytes()).count())
            .map_err(|error| {
                assert_eq!(error.fault(), HeadFault::BadConnection, "{value}");
                error.offset() - 28
            });
        assert_eq!(found, expected, "{value:?}");
    };
    check("", Ok(0));
    check(",,", Ok(0));
    check("a, b,c", Ok(3));
    check("a b", Err(0));
    check("close, a;b", Err(7));
    check("\"close\"", Err(0));
}

#[test]
fn well_known_names_that_belong_to_a_connection() {
    for &known in Known::ALL {
        if known.is_hop_by_hop() {
            assert!(!known.is_allowed_in_trailers(), "{known:?}");
        }
    }
    assert!(!Known::Other.is_hop_by_hop() && Known::Other.is_allowed_in_trailers());
}

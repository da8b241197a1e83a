//! One negative test for each row of the attack classes that a codec has to answer: what makes two
//! parsers see two messages, or makes one of them work without end. The rows that concern
//! connections, routes and policies are answered where those live.

use crate::{
    ChunkError, ChunkFault, ChunkedDecoder, ErrorKind, Framing, HeadError, HeadFault, HeadScan,
    Known, Limits, Method, RequestHead, ResponseHead, Step, Underscores, Upgrade,
};

fn request(text: &str) -> Result<RequestHead, HeadError> {
    let mut head = RequestHead::default();
    head.parse(text.as_bytes(), &Limits::default())
        .map(|()| head)
}

/// A POST over 1.1 with these lines after Host.
fn post(lines: &str) -> Result<RequestHead, HeadError> {
    request(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

fn response(text: &str) -> Result<ResponseHead, HeadError> {
    let mut head = ResponseHead::default();
    head.parse(text.as_bytes(), &Limits::default())
        .map(|()| head)
}

fn chunks(input: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let mut decoder = ChunkedDecoder::new(&Limits::default());
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        match decoder.next(&input[at..])? {
            Step::Data { start, end } => {
                data.extend_from_slice(&input[at + start..at + end]);
                at += end;
            }
            Step::Need { .. } | Step::End { .. } => return Ok(data),
        }
    }
}

#[track_caller]
fn check_kind<T: std::fmt::Debug>(found: Result<T, HeadError>, kind: ErrorKind) {
    assert_eq!(found.expect_err("an attack").kind(), kind);
}

#[test]
fn cl_and_te_together() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        check_kind(post(lines), ErrorKind::Framing);
        check_kind(
            response(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")),
            ErrorKind::Framing,
        );
    }
}

#[test]
fn obfuscated_repeated_or_non_final_te_and_te_on_http_1_0() {
    for value in [
        "xchunked",
        "chunked\u{b}",
        "\u{b}chunked",
        "chunked, chunked",
        "chunked, identity",
        "identity",
        "\"chunked\"",
        "'chunked'",
        "chunked;",
        "chunked;a=b",
        "chunk",
        "chunked,",
        ",chunked",
        "chun ked",
        "",
    ] {
        let found = post(&format!("Transfer-Encoding: {value}\r\n"));
        let kind = found.expect_err(value).kind();
        assert!(
            matches!(kind, ErrorKind::Framing | ErrorKind::Syntax),
            "{value:?}: {kind:?}"
        );
    }
    check_kind(
        post("Transfer-Encoding: gzip, chunked\r\n"),
        ErrorKind::NotImplemented,
    );
    for repeated in ["chunked", "identity", "x"] {
        let lines = format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {repeated}\r\n");
        check_kind(post(&lines), ErrorKind::Framing);
    }
    for name in [
        "Transfer-Encoding ",
        " Transfer-Encoding",
        "Transfer-Encoding\t",
        "Transfer_Encoding",
    ] {
        check_kind(post(&format!("{name}: chunked\r\n")), ErrorKind::Syntax);
    }
    check_kind(
        request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ErrorKind::Framing,
    );
}

#[test]
fn cl_repeated_empty_signed_hex_or_list() {
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\ncontent-length: 0\r\n",
        "Content-Length:\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,6\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 5;a\r\n",
        "Content-Length: \"5\"\r\n",
        "Content-Length: 18446744073709551621\r\n",
    ] {
        check_kind(post(lines), ErrorKind::Framing);
    }
}

#[test]
fn zero_cl_and_expect() {
    let waits = |lines: &str| post(lines).map(|head| head.expect_continue);
    assert_eq!(
        waits("Content-Length: 0\r\nExpect: 100-continue\r\n"),
        Ok(false)
    );
    assert_eq!(
        waits("Content-Length: 5\r\nExpect: 100-continue\r\n"),
        Ok(true)
    );
    for odd in [
        "y 100-continue",
        "100-continue\r\nExpect: x",
        "100-continue, 100-continue",
    ] {
        let found = waits(&format!("Content-Length: 5\r\nExpect: {odd}\r\n"));
        assert_eq!(
            found.map_err(HeadError::kind),
            Err(ErrorKind::Expectation),
            "{odd:?}"
        );
    }
    // A name that some take for Content-Length and some do not is no name at all.
    for name in ["Content-Length ", "\u{b}Content-Length", "Content-Length\0"] {
        check_kind(post(&format!("{name}: 5\r\n")), ErrorKind::Syntax);
    }
}

#[test]
fn bare_lf_or_cr_nul_obs_fold_and_space_before_colon() {
    let check = |text: &str, fault| {
        assert_eq!(
            request(text).map_err(HeadError::fault),
            Err(fault),
            "{text:?}"
        );
    };
    check("GET / HTTP/1.1\nHost: a\n\n", HeadFault::BareLf);
    check("GET / HTTP/1.1\r\nHost: a\n\r\n", HeadFault::BareLf);
    check("GET / HTTP/1.1\r\nHost: a\r\n\n", HeadFault::BareLf);
    check("GET / HTTP/1.1\rHost: a\r\n\r\n", HeadFault::BareCr);
    check("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", HeadFault::BareCr);
    check("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", HeadFault::BareCr);
    check("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", HeadFault::Control);
    check("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Control);
    check("GET / HTTP/1.1\r\nHo\0st: a\r\n\r\n", HeadFault::Control);
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        HeadFault::ObsFold,
    );
    check("GET / HTTP/1.1\r\n Host: a\r\n\r\n", HeadFault::ObsFold);
    check(
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        HeadFault::SpaceBeforeColon,
    );
}

#[test]
fn chunk_extensions_term_ext_and_quoted() {
    let check = |body: &str, fault| {
        let error = chunks(body.as_bytes()).expect_err(body);
        assert_eq!(error.fault(), fault, "{body:?}");
    };
    // TERM.EXT: one side ends the line at the lone line feed, the other reads on.
    check("2;\nxx\r\n4c\r\n0\r\n\r\n", ChunkFault::BadExtension);
    check("2;a\nxx\r\n0\r\n\r\n", ChunkFault::BadLineEnd);
    check("2;a\rxx\r\n0\r\n\r\n", ChunkFault::BadLineEnd);
    // EXT.TERM, and line ends inside a quoted string.
    check("2;a=\"\r\nxx\"\r\n0\r\n\r\n", ChunkFault::BadExtension);
    check("2;a=\"\\\r\nxx\"\r\n0\r\n\r\n", ChunkFault::BadExtension);
    check("2;a=\"\nxx\"\r\n0\r\n\r\n", ChunkFault::BadExtension);
    // TERM.SPILL and ONE.TWO: the data is longer or shorter than said, or followed by other bytes.
    check("2\r\nxxx\r\n0\r\n\r\n", ChunkFault::BadDataEnd);
    check("2\r\nxx__0\r\n\r\n", ChunkFault::BadDataEnd);
    check("2\r\nxx\n0\r\n\r\n", ChunkFault::BadDataEnd);
    check("2 \r\nxx\r\n0\r\n\r\n", ChunkFault::BadExtension);
    check("0x2\r\nxx\r\n0\r\n\r\n", ChunkFault::BadSize);
    check(
        "10000000000000002\r\nxx\r\n0\r\n\r\n",
        ChunkFault::SizeTooLarge,
    );
    let endless = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(5000));
    check(&endless, ChunkFault::ExtensionsTooLong);
    assert_eq!(chunks(b"2;a=\"b\"\r\nxx\r\n0\r\n\r\n"), Ok(b"xx".to_vec()));
}

#[test]
fn tunnelling_before_101() {
    let upgrade = |lines: &str| post(lines).map(|head| head.upgrade);
    assert_eq!(
        upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        Ok(Upgrade::WebSocket)
    );
    for protocol in [
        "h2c",
        "TLS/1.0",
        "websocket, h2c",
        "foo",
        "websocket\r\nUpgrade: h2c",
    ] {
        let lines = format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n");
        assert_eq!(upgrade(&lines), Ok(Upgrade::Other), "{protocol:?}");
    }
    let plain = response("HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert!(!plain.expect("valid").is_switching());
}

#[test]
fn h2_to_h1_injection_has_no_way_out() {
    check_kind(request("PRI * HTTP/2.0\r\n\r\n"), ErrorKind::Version);
    check_kind(post(":method: GET\r\n"), ErrorKind::Syntax);
    for target in ["/ HTTP/1.1", "/\tx", "/\u{e9}", "/#x", "/<x>"] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(request(&text).is_err(), "{text:?}");
    }
}

#[test]
fn slowloris_is_refused_before_its_end() {
    let limits = Limits::default();
    let check = |text: String, kind| {
        let mut scan = HeadScan::request();
        let found = RequestHead::default().receive(&mut scan, text.as_bytes(), &limits);
        assert_eq!(found.map_err(HeadError::kind), Err(kind));
    };
    check("GET / HTTP/1.1\nX: y".to_owned(), ErrorKind::Syntax);
    check("GET / HTTP/1.1\rX: y".to_owned(), ErrorKind::Syntax);
    check("\x16\x03\x01".to_owned(), ErrorKind::Syntax);
    check(
        format!("GET /{}", "a".repeat(9000)),
        ErrorKind::TargetTooLong,
    );
    check(
        format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(33_000)),
        ErrorKind::HeadTooLarge,
    );
}

#[test]
fn header_count_and_size() {
    let many = |count: usize| post(&"X: y\r\n".repeat(count));
    assert_eq!(many(99).map(|head| head.fields.len()), Ok(100));
    check_kind(many(100), ErrorKind::HeadTooLarge);
    check_kind(
        post(&format!("X: {}\r\n", "y".repeat(32 * 1024))),
        ErrorKind::HeadTooLarge,
    );
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8 * 1024));
    check_kind(request(&long), ErrorKind::TargetTooLong);
}

#[test]
fn hop_by_hop_abuse() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Host, Cookie, Authorization, \
                Content-Length, X-Forwarded-For, X-Forwarded-Tenant, Forwarded, X-Request-Id, \
                X-Real-IP, Via, Origin, Traceparent, X-Hop\r\nCookie: c\r\nAuthorization: z\r\n\
                X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Tenant: t\r\nForwarded: for=b\r\n\
                X-Request-Id: i\r\nX-Real-IP: 1\r\nVia: v\r\nOrigin: o\r\nTraceparent: t\r\n\
                Content-Length: 3\r\nX-Hop: h\r\n\r\n";
    let head = request(text).expect("a valid head");
    let removed: Vec<_> = head
        .fields
        .iter()
        .filter(|&&field| head.nominated.removes(field, text.as_bytes()))
        .map(|field| field.name.of(text.as_bytes()).escape_ascii().to_string())
        .collect();
    assert_eq!(removed, ["Connection", "X-Hop"]);
    assert_eq!(head.framing, Framing::Length(3));
    // Each name costs a comparison with each field.
    check_kind(
        post(&format!("Connection: {}\r\n", "x,".repeat(10_000))),
        ErrorKind::HeadTooLarge,
    );
}

#[test]
fn underscore_headers() {
    for name in ["X_Forwarded_For", "Content_Length", "_", "a_"] {
        check_kind(post(&format!("{name}: 1\r\n")), ErrorKind::Syntax);
    }
    let text = b"GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n";
    let limits = Limits {
        underscores: Underscores::Drop,
        ..Limits::default()
    };
    let mut head = RequestHead::default();
    assert_eq!(head.parse(text, &limits), Ok(()));
    assert_eq!((head.fields.len(), head.framing), (1, Framing::None));
}

#[test]
fn missing_repeated_or_contradictory_host() {
    check_kind(request("GET / HTTP/1.1\r\n\r\n"), ErrorKind::Host);
    check_kind(post("Host: b\r\n"), ErrorKind::Host);
    check_kind(
        request("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"),
        ErrorKind::Host,
    );
    for host in [
        "a@b", "a/b", "a?b", "a#b", "a b", "a\\b", "..", "a:80:80", "a:b", "[::1", "\u{e9}",
    ] {
        check_kind(
            request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")),
            ErrorKind::Host,
        );
    }
}

#[test]
fn trailers_do_not_reach_what_was_decided() {
    let body =
        b"0\r\nHost: b\r\nContent-Length: 5\r\nX-Forwarded-For: 1\r\nCookie: c\r\nA: b\r\n\r\n";
    let mut decoder = ChunkedDecoder::new(&Limits::default());
    assert_eq!(
        decoder.next(body),
        Ok(Step::End {
            consumed: body.len()
        })
    );
    let names: Vec<_> = decoder
        .trailers()
        .iter()
        .map(|field| field.name.of(decoder.trailer_bytes()))
        .collect();
    assert_eq!(names, [b"A"]);
    assert!(
        decoder
            .trailers()
            .iter()
            .all(|field| field.known == Known::Other)
    );
}

#[test]
fn origin_with_a_bad_status_line_or_two_content_lengths() {
    for line in [
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1",
        "ICY 200 OK",
        "<html>",
        " 200",
    ] {
        assert!(response(&format!("{line}\r\n\r\n")).is_err(), "{line:?}");
    }
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    check_kind(response(two), ErrorKind::Framing);
    let fold = "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n";
    assert_eq!(
        response(fold).map_err(HeadError::fault),
        Err(HeadFault::ObsFold)
    );
    let none = response("HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n").expect("valid");
    assert_eq!(
        (none.framing(Method::Get), none.persistent),
        (Framing::None, false)
    );
}

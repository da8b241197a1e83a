//! Request heads: the request line, the host, and what the fields come to.

use super::*;
use crate::{ErrorKind, Known, Scheme, Underscores};

fn parsed(text: &str) -> Result<RequestHead, HeadError> {
    let mut head = RequestHead::default();
    head.parse(text.as_bytes(), &Limits::default())
        .map(|()| head)
}

#[track_caller]
fn check_fault(text: &str, fault: HeadFault, offset: u32) {
    let error = parsed(text).expect_err(text);
    assert_eq!((error.fault(), error.offset()), (fault, offset), "{text:?}");
}

/// A GET with these lines after the request line.
fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn a_request_is_told_apart_into_its_parts() {
    let text = "POST /a/b?c=d HTTP/1.1\r\nHost: example.com:81\r\nX-Hinge:\t shut \t\r\n\
                Content-Length: 3\r\nEmpty:\r\n\r\n";
    let head = parsed(text).expect("a valid head");
    let of = |span: Span| str::from_utf8(span.of(text.as_bytes())).expect("ASCII");
    assert_eq!((head.method, of(head.method_span)), (Method::Post, "POST"));
    assert_eq!(of(head.target.whole), "/a/b?c=d");
    assert_eq!(of(head.target.path), "/a/b");
    assert_eq!(head.target.query.map(of), Some("c=d"));
    assert_eq!(of(head.target.path_and_query()), "/a/b?c=d");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(
        (of(head.authority), of(head.host), head.port),
        ("example.com:81", "example.com", Some(81))
    );
    let fields: Vec<_> = head
        .fields
        .iter()
        .map(|field| (of(field.name), of(field.value), field.known))
        .collect();
    assert_eq!(
        fields,
        [
            ("Host", "example.com:81", Known::Host),
            ("X-Hinge", "shut", Known::Other),
            ("Content-Length", "3", Known::ContentLength),
            ("Empty", "", Known::Other),
        ]
    );
    assert_eq!(head.framing, Framing::Length(3));
    assert!(head.persistent && !head.expect_continue && !head.te_trailers);
}

#[test]
fn a_head_is_reused_without_traces_of_the_last() {
    let mut head = RequestHead::default();
    let limits = Limits::default();
    let first = b"OPTIONS http://a:8/x?y HTTP/1.1\r\nHost: a:8\r\nConnection: close, X-A\r\n\
                  X-A: 1\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nExpect: 100-continue\r\n\r\n";
    head.parse(first, &limits).expect("a valid head");
    let second = b"GET / HTTP/1.0\r\n\r\n";
    head.parse(second, &limits).expect("a valid head");
    let mut fresh = RequestHead::default();
    fresh.parse(second, &limits).expect("a valid head");
    assert_eq!(head, fresh);
}

#[test]
fn methods() {
    let check = |name: &str, expected| {
        let target = match expected {
            Method::Connect => "a:80",
            _ => "/",
        };
        let host = if expected == Method::Connect {
            "a:80"
        } else {
            "a"
        };
        let text = format!("{name} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(
            parsed(&text).map(|head| head.method),
            Ok(expected),
            "{name}"
        );
    };
    check("GET", Method::Get);
    check("HEAD", Method::Head);
    check("POST", Method::Post);
    check("PUT", Method::Put);
    check("DELETE", Method::Delete);
    check("OPTIONS", Method::Options);
    check("PATCH", Method::Patch);
    check("CONNECT", Method::Connect);
    check("TRACE", Method::Trace);
    check("get", Method::Other);
    check("GETS", Method::Other);
    check("M-SEARCH", Method::Other);
    check("!#$%&'*+-.^_`|~09az", Method::Other);
    check_fault(" / HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::BadMethod, 0);
    check_fault("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::BadMethod, 1);
    check_fault(
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        HeadFault::BadMethod,
        3,
    );
    check_fault("GET\r\n\r\n", HeadFault::BadMethod, 3);
    let long = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33));
    check_fault(&long, HeadFault::MethodTooLong, 0);
}

#[test]
fn versions() {
    let check = |version: &str, expected: Result<Version, (HeadFault, ErrorKind)>| {
        let text = format!("GET / {version}\r\nHost: a\r\n\r\n");
        let found = parsed(&text)
            .map(|head| head.version)
            .map_err(|error| (error.fault(), error.kind()));
        assert_eq!(found, expected, "{version:?}");
    };
    let unsupported = Err((HeadFault::UnsupportedVersion, ErrorKind::Version));
    let bad = Err((HeadFault::BadVersion, ErrorKind::Syntax));
    check("HTTP/1.1", Ok(Version::Http11));
    check("HTTP/1.0", Ok(Version::Http10));
    check("HTTP/1.2", Ok(Version::Http11));
    check("HTTP/1.9", Ok(Version::Http11));
    for version in ["HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"] {
        check(version, unsupported);
    }
    for version in [
        "",
        "HTTP",
        "HTTP/",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/1.10",
        "HTTP/11.1",
        "HTTP/2",
        "http/1.1",
        "HTTP/1.1 ",
        " HTTP/1.1",
        "HTTP/ 1.1",
        "HTTP/1,1",
        "HTTPS/1.1",
        "HTTP/1.x",
        "HTTP/x.1",
    ] {
        check(version, bad);
    }
}

#[test]
fn a_request_line_without_a_version_is_refused() {
    check_fault("GET /\r\n\r\n", HeadFault::BadVersion, 5);
    check_fault("GET / \r\nHost: aaaaa\r\n\r\n", HeadFault::BadVersion, 6);
}

#[test]
fn one_host_is_needed_and_no_more() {
    check_fault("GET / HTTP/1.1\r\n\r\n", HeadFault::MissingHost, 18);
    check_fault(
        "GET / HTTP/1.1\r\nHosts: a\r\n\r\n",
        HeadFault::MissingHost,
        28,
    );
    check_fault(&with("Host: a\r\n"), HeadFault::RepeatedHost, 25);
    check_fault(&with("hOST: b\r\n"), HeadFault::RepeatedHost, 25);
    check_fault(
        "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        HeadFault::RepeatedHost,
        25,
    );
    check_fault("GET / HTTP/1.1\r\nHost:\r\n\r\n", HeadFault::BadHost, 21);
    check_fault(
        "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        HeadFault::BadHost,
        23,
    );
    check_fault(
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        HeadFault::BadHost,
        23,
    );
    check_fault(
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        HeadFault::BadHost,
        23,
    );
    check_fault("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", HeadFault::BadHost, 24);
    check_fault("GET http://a/ HTTP/1.1\r\n\r\n", HeadFault::MissingHost, 26);
    let old = parsed("GET / HTTP/1.0\r\n\r\n").expect("a valid head");
    assert!(old.host.is_empty() && old.authority.is_empty() && old.port.is_none());
}

#[test]
fn the_authority_of_the_target_wins_and_agrees_with_host() {
    let check = |target: &str, host: &str, expected: Option<(&str, Option<u16>)>| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let found = parsed(&text).map(|head| {
            (
                String::from_utf8_lossy(head.host.of(text.as_bytes())).into_owned(),
                head.port,
            )
        });
        match expected {
            Some((host, port)) => assert_eq!(found, Ok((host.to_owned(), port)), "{text:?}"),
            None => {
                let error = found.expect_err(&text);
                assert_eq!(error.fault(), HeadFault::HostMismatch, "{text:?}");
                assert_eq!(
                    error.offset() as usize,
                    text.find(": ").expect("a field") + 2
                );
            }
        }
    };
    check("http://a/", "a", Some(("a", None)));
    check(
        "http://EXAMPLE.com/",
        "example.COM",
        Some(("EXAMPLE.com", None)),
    );
    check("http://a:80/", "a", Some(("a", Some(80))));
    check("http://a/", "a:80", Some(("a", None)));
    check("https://a/", "a:443", Some(("a", None)));
    check("http://[::1]:8/", "[::1]:8", Some(("[::1]", Some(8))));
    check("http://a/", "b", None);
    check("http://a/", "a:81", None);
    check("http://a:81/", "a", None);
    check("https://a/", "a:80", None);
    check("http://a/", "a.", None);
    let old = parsed("GET https://a:1/x HTTP/1.0\r\n\r\n").expect("a valid head");
    assert_eq!(
        (old.target.form, old.port),
        (Form::Absolute(Scheme::Https), Some(1))
    );
}

#[test]
fn connect_takes_an_authority_with_a_port() {
    let check = |target: &str, host: &str, expected: Result<Option<u16>, HeadFault>| {
        let text = format!("CONNECT {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let found = parsed(&text)
            .map(|head| head.port)
            .map_err(HeadError::fault);
        assert_eq!(found, expected, "{text:?}");
    };
    check("a:80", "a:80", Ok(Some(80)));
    check("a:80", "a", Ok(Some(80)));
    check("a:80", "a:81", Err(HeadFault::HostMismatch));
    check("a:80", "b:80", Err(HeadFault::HostMismatch));
    check("a", "a", Err(HeadFault::TargetForm));
    check("/", "a", Err(HeadFault::BadHost));
    check("http://a/", "a", Err(HeadFault::BadHost));
    check("*", "a", Err(HeadFault::BadHost));
}

#[test]
fn framing() {
    let check = |lines: &str, expected: Result<Framing, HeadFault>| {
        let found = parsed(&with(lines))
            .map(|head| head.framing)
            .map_err(HeadError::fault);
        assert_eq!(found, expected, "{lines:?}");
    };
    check("", Ok(Framing::None));
    check("Content-Length: 0\r\n", Ok(Framing::Length(0)));
    check("content-length:7\r\n", Ok(Framing::Length(7)));
    check("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked));
    check("TRANSFER-ENCODING: CHUNKED\r\n", Ok(Framing::Chunked));
    check(
        "Transfer-Encoding: gzip, chunked\r\n",
        Err(HeadFault::UnknownTransferCoding),
    );
}

#[test]
fn persistence() {
    let check = |version: &str, lines: &str, expected: bool| {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(
            parsed(&text).map(|head| head.persistent),
            Ok(expected),
            "{text:?}"
        );
    };
    check("1.1", "", true);
    check("1.0", "", false);
    check("1.1", "Connection: close\r\n", false);
    check("1.1", "Connection: CLOSE\r\n", false);
    check("1.1", "Connection: keep-alive, close\r\n", false);
    check(
        "1.1",
        "Connection: keep-alive\r\nConnection: close\r\n",
        false,
    );
    check("1.1", "Connection: , x-a ,\tclose ,\r\n", false);
    check("1.1", "Connection: closed\r\n", true);
    check("1.1", "Connection:\r\n", true);
    check("1.1", "Proxy-Connection: close\r\n", true);
    check("1.0", "Connection: Keep-Alive\r\n", true);
    check("1.0", "Connection: keep-ALIVE\r\n", true);
    check("1.0", "Proxy-Connection: keep-alive\r\n", false);
    check("1.0", "Connection: keep-alive, close\r\n", false);
}

#[test]
fn expectations() {
    let check = |version: &str, lines: &str, expected: Result<bool, HeadFault>| {
        let text = format!("PUT / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let found = parsed(&text)
            .map(|head| head.expect_continue)
            .map_err(HeadError::fault);
        assert_eq!(found, expected, "{text:?}");
    };
    check(
        "1.1",
        "Content-Length: 1\r\nExpect: 100-continue\r\n",
        Ok(true),
    );
    check(
        "1.1",
        "Expect: 100-CONTINUE\r\nTransfer-Encoding: chunked\r\n",
        Ok(true),
    );
    check("1.1", "Expect: 100-continue\r\n", Ok(false));
    check(
        "1.1",
        "Expect: 100-continue\r\nContent-Length: 0\r\n",
        Ok(false),
    );
    check(
        "1.0",
        "Expect: 100-continue\r\nContent-Length: 1\r\n",
        Ok(false),
    );
    for other in [
        "",
        "100-continued",
        "200-ok",
        "100-continue, x",
        "100-continue;a",
    ] {
        check(
            "1.1",
            &format!("Expect: {other}\r\n"),
            Err(HeadFault::UnknownExpectation),
        );
    }
}

#[test]
fn upgrades() {
    let check = |version: &str, lines: &str, expected| {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(
            parsed(&text).map(|head| head.upgrade),
            Ok(expected),
            "{text:?}"
        );
    };
    check(
        "1.1",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        Upgrade::WebSocket,
    );
    check(
        "1.1",
        "Upgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n",
        Upgrade::WebSocket,
    );
    check(
        "1.1",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        Upgrade::Other,
    );
    check(
        "1.1",
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        Upgrade::Other,
    );
    check(
        "1.1",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        Upgrade::Other,
    );
    check(
        "1.1",
        "Connection: upgrade\r\nUpgrade: websocket/13\r\n",
        Upgrade::Other,
    );
    check("1.1", "Upgrade: websocket\r\n", Upgrade::None);
    check("1.1", "Connection: upgrade\r\n", Upgrade::None);
    check("1.1", "Connection: upgrade\r\nUpgrade:\r\n", Upgrade::None);
    check(
        "1.0",
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        Upgrade::None,
    );
}

#[test]
fn trailers_are_welcome_only_where_announced() {
    let check = |version: &str, value: &str, expected: bool| {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\nTE: {value}\r\n\r\n");
        assert_eq!(
            parsed(&text).map(|head| head.te_trailers),
            Ok(expected),
            "{text:?}"
        );
    };
    check("1.1", "trailers", true);
    check("1.1", "deflate;q=0.5, Trailers", true);
    check("1.1", "deflate", false);
    check("1.1", "trailers;q=0", false);
    check("1.0", "trailers", false);
}

#[test]
fn limits_are_met_exactly() {
    let limits = Limits {
        head_bytes_max: 64,
        field_count_max: 2,
        target_bytes_max: 8,
        method_bytes_max: 4,
        ..Limits::default()
    };
    let check = |text: &str, expected: Result<(), (HeadFault, ErrorKind)>| {
        let found = RequestHead::default()
            .parse(text.as_bytes(), &limits)
            .map_err(|error| (error.fault(), error.kind()));
        assert_eq!(found, expected, "{text:?}");
    };
    check("POST /2345678 HTTP/1.1\r\nHost: a\r\n\r\n", Ok(()));
    check(
        "POST /23456789 HTTP/1.1\r\nHost: a\r\n\r\n",
        Err((HeadFault::TargetTooLong, ErrorKind::TargetTooLong)),
    );
    check(
        "PATCH / HTTP/1.1\r\nHost: a\r\n\r\n",
        Err((HeadFault::MethodTooLong, ErrorKind::NotImplemented)),
    );
    check("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n", Ok(()));
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\n\r\n",
        Err((HeadFault::TooManyFields, ErrorKind::HeadTooLarge)),
    );
    let filled = |fill: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n",
            "b".repeat(fill)
        )
    };
    let spare = 64 - filled(0).len();
    check(&filled(spare), Ok(()));
    check(
        &filled(spare + 1),
        Err((HeadFault::HeadTooLong, ErrorKind::HeadTooLarge)),
    );
}

#[test]
fn underscores_in_names() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\nX-B: 2\r\n_: 3\r\n\r\n";
    let check = |underscores, expected: Result<&[&str], (HeadFault, u32)>| {
        let mut head = RequestHead::default();
        let limits = Limits {
            underscores,
            ..Limits::default()
        };
        let found = head.parse(text.as_bytes(), &limits).map(|()| {
            head.fields
                .iter()
                .map(|field| field.name.of(text.as_bytes()))
                .collect::<Vec<_>>()
        });
        let found = found.map_err(|error| (error.fault(), error.offset()));
        let expected =
            expected.map(|names| names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
        assert_eq!(found, expected);
    };
    check(Underscores::Reject, Err((HeadFault::Underscore, 26)));
    check(Underscores::Drop, Ok(&["Host", "X-B"]));
    check(Underscores::Keep, Ok(&["Host", "X_A", "X-B", "_"]));
}

#[test]
fn what_a_scan_refuses_comes_first() {
    // The version is wrong as well, and comes before the line feed.
    check_fault(
        "GET / HTTP/2.0\r\nHost: a\nX: y\r\n\r\n",
        HeadFault::BareLf,
        23,
    );
    check_fault(
        "G(T / HTTP/1.1\r\nHost: a\x7f\r\n\r\n",
        HeadFault::Control,
        23,
    );
    check_fault(
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        HeadFault::EmptyFirstLine,
        0,
    );
}

#[test]
fn a_head_is_whole_and_alone() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 0..text.len() {
        check_fault(&text[..end], HeadFault::Incomplete, end as u32);
    }
    check_fault(&format!("{text}G"), HeadFault::Surplus, 27);
}

#[test]
fn receive_leaves_what_follows_alone() {
    let limits = Limits::default();
    let mut head = RequestHead::default();
    let mut scan = HeadScan::request();
    let stream = b"\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\n\r\n";
    let first = head
        .receive(&mut scan, stream, &limits)
        .expect("valid")
        .expect("complete");
    assert_eq!(first, Span { start: 2, end: 30 });
    assert_eq!(head.target.path.of(first.of(stream)), b"/1");
    scan.restart();
    let rest = &stream[first.end as usize..];
    let second = head
        .receive(&mut scan, rest, &limits)
        .expect("valid")
        .expect("complete");
    assert_eq!(second, Span { start: 0, end: 28 });
    assert_eq!(head.host.of(second.of(rest)), b"b");
    scan.restart();
    assert_eq!(head.receive(&mut scan, b"\r\n", &limits), Ok(None));
}

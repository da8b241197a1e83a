use proptest::prelude::*;

use super::*;

const WIDE: Size = Size {
    bytes_max: 1 << 20,
    count_max: 1000,
};

fn write(part: Part, size: Size, fields: &[(&str, &str)]) -> Result<String, MessageFault> {
    let mut scribe = Scribe::default();
    let mut text = Vec::new();
    scribe.begin();
    for (name, value) in fields {
        scribe.field(part, size, &mut text, name.as_bytes(), value.as_bytes());
    }
    let verdict = scribe.finish(part, &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    verdict.fault.map_or(Ok(text), Err)
}

fn request(more: &[(&str, &str)]) -> Result<String, MessageFault> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", "/x?y"),
    ];
    fields.extend(more);
    write(Part::Request, WIDE, &fields)
}

#[test]
fn a_request_becomes_text() {
    let text = request(&[("accept", "*/*"), ("x-a", "")]);
    let expected = "GET /x?y HTTP/1.1\r\nhost: a.test\r\naccept: */*\r\nx-a: \r\n\r\n";
    assert_eq!(text.as_deref(), Ok(expected));
}

#[test]
fn crumbs_become_one_cookie() {
    let text = request(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]).unwrap();
    assert!(text.ends_with("x: y\r\ncookie: a=1; b=2\r\n\r\n"), "{text}");
}

#[test]
fn a_host_may_agree_or_stand_alone() {
    let text = request(&[("host", "A.test")]).unwrap();
    assert_eq!(text.matches("host").count(), 1);
    let alone = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        ("host", "b.test"),
    ];
    let text = write(Part::Request, WIDE, &alone).unwrap();
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: b.test\r\n\r\n");
    let differs = request(&[("host", "b.test")]);
    assert_eq!(differs, Err(MessageFault::HostDiffers));
}

#[test]
fn connect_has_an_authority_alone_and_a_tunnel_all_of_them() {
    let plain = [(":method", "CONNECT"), (":authority", "a.test:443")];
    let text = write(Part::Request, WIDE, &plain).unwrap();
    assert!(text.starts_with("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n"));
    let tunnel = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/chat"),
        (":authority", "a.test"),
        ("sec-websocket-version", "13"),
    ];
    let text = write(Part::Request, WIDE, &tunnel).unwrap();
    assert!(text.starts_with("GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\n"));
    assert!(text.contains("upgrade: websocket\r\n"));
}

#[test]
fn responses_and_trailers_become_text() {
    let text = write(Part::Response, WIDE, &[(":status", "204"), ("a", "b")]);
    assert_eq!(text.as_deref(), Ok("HTTP/1.1 204 \r\na: b\r\n\r\n"));
    let text = write(Part::Trailers, WIDE, &[("grpc-status", "0")]);
    assert_eq!(text.as_deref(), Ok("grpc-status: 0\r\n\r\n"));
    let cookie = write(
        Part::Response,
        WIDE,
        &[(":status", "200"), ("set-cookie", "a"), ("set-cookie", "b")],
    );
    assert_eq!(cookie.unwrap().matches("set-cookie").count(), 2);
}

#[test]
fn what_is_malformed_is_refused() {
    let check = |fields: &[(&str, &str)], fault| {
        assert_eq!(write(Part::Request, WIDE, fields), Err(fault), "{fields:?}");
    };
    let (method, scheme, path) = ((":method", "GET"), (":scheme", "https"), (":path", "/"));
    check(&[], MessageFault::PseudoMissing);
    check(&[method, scheme], MessageFault::PseudoMissing);
    check(&[method, path], MessageFault::PseudoMissing);
    check(&[scheme, path], MessageFault::PseudoMissing);
    check(
        &[method, scheme, path, method],
        MessageFault::PseudoRepeated,
    );
    check(
        &[method, scheme, path, (":status", "200")],
        MessageFault::PseudoUnknown,
    );
    check(
        &[method, scheme, path, (":x", "y")],
        MessageFault::PseudoUnknown,
    );
    check(
        &[method, scheme, path, ("a", "b"), (":authority", "a")],
        MessageFault::PseudoLate,
    );
    check(&[(":method", "G T"), scheme, path], MessageFault::Method);
    check(&[(":method", ""), scheme, path], MessageFault::Method);
    check(&[method, (":scheme", "ftp"), path], MessageFault::Scheme);
    check(&[method, scheme, (":path", "")], MessageFault::Path);
    check(&[method, scheme, (":path", "x")], MessageFault::Path);
    check(&[method, scheme, (":path", "*")], MessageFault::Path);
    check(
        &[method, scheme, (":path", "/ HTTP/1.1\r\nx: y")],
        MessageFault::Path,
    );
    check(
        &[method, scheme, (":path", "http://a/")],
        MessageFault::Path,
    );
    check(
        &[method, scheme, path, (":authority", "a b")],
        MessageFault::Authority,
    );
    check(
        &[method, scheme, path, (":authority", "")],
        MessageFault::Authority,
    );
    check(
        &[method, scheme, path, (":protocol", "websocket")],
        MessageFault::Protocol,
    );
    check(
        &[(":method", "CONNECT"), (":authority", "a"), path],
        MessageFault::PseudoMissing,
    );
    check(&[(":method", "CONNECT")], MessageFault::PseudoMissing);
}

#[test]
fn malformed_fields_are_refused() {
    let check = |name, value, fault| assert_eq!(request(&[(name, value)]), Err(fault), "{name}");
    for name in ["", "A", "a b", "a:", "a\r\n", "ä", "a\0"] {
        check(name, "b", MessageFault::Name);
    }
    for value in ["a\r\nb", "a\n", "\0", " a", "a ", "\ta"] {
        check("a", value, MessageFault::Value);
    }
    for name in [
        "connection",
        "proxy-connection",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
    ] {
        check(name, "x", MessageFault::ConnectionField);
    }
    check("te", "gzip", MessageFault::Te);
    assert!(request(&[("te", "trailers")]).is_ok());
    let trailer = write(Part::Trailers, WIDE, &[(":status", "200")]);
    assert_eq!(trailer, Err(MessageFault::PseudoUnknown));
    for status in ["", "20", "2000", "abc", "099", "101"] {
        let text = write(Part::Response, WIDE, &[(":status", status)]);
        assert_eq!(text, Err(MessageFault::Status), "{status}");
    }
}

#[test]
fn lists_have_a_size_and_crumbs_count() {
    let small = Size {
        bytes_max: 200,
        count_max: 3,
    };
    let head = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
    let long = "v".repeat(200);
    let large = [&head[..], &[("a", long.as_str())]].concat();
    assert_eq!(
        write(Part::Request, small, &large),
        Err(MessageFault::TooLarge)
    );
    let crumbs = [&head[..], &[("cookie", "a"); 6]].concat();
    assert_eq!(
        write(Part::Request, small, &crumbs),
        Err(MessageFault::TooMany)
    );
}

proptest! {
    /// Whatever the fields, the text has as many lines as fields, and each begins with its name.
    #[test]
    fn no_field_makes_a_line_of_its_own(
        fields in prop::collection::vec((".{0,8}", ".{0,12}"), 0..8),
    ) {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        if let Ok(text) = write(Part::Trailers, WIDE, &fields) {
            let lines: Vec<_> = text.split("\r\n").collect();
            prop_assert_eq!(lines.len(), fields.len() + 2);
            for ((name, value), line) in fields.iter().zip(&lines) {
                prop_assert_eq!(*line, format!("{name}: {value}"));
            }
        }
    }
}

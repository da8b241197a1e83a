//! Request targets: their forms, their parts and the characters in them.

use crate::{Form, HeadError, HeadFault, Limits, RequestHead, Scheme, Span, Target};

fn target(method: &str, target: &str) -> Result<(Target, String), HeadError> {
    let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut head = RequestHead::default();
    head.parse(text.as_bytes(), &Limits::default())
        .map(|()| (head.target, text))
}

#[test]
fn forms_and_parts() {
    let check = |method: &str, text: &str, form, authority: &str, path: &str, query| {
        let (target, head) = target(method, text).expect(text);
        let of = |span: Span| str::from_utf8(span.of(head.as_bytes())).expect("ASCII");
        assert_eq!(target.form, form, "{text}");
        assert_eq!(of(target.whole), text);
        assert_eq!(of(target.authority), authority, "{text}");
        assert_eq!(of(target.path), path, "{text}");
        assert_eq!(target.query.map(of), query, "{text}");
    };
    let http = Form::Absolute(Scheme::Http);
    let https = Form::Absolute(Scheme::Https);
    check("GET", "/", Form::Origin, "", "/", None);
    check("GET", "/a/b", Form::Origin, "", "/a/b", None);
    check("GET", "/a?", Form::Origin, "", "/a", Some(""));
    check("GET", "/a?b?c=/d", Form::Origin, "", "/a", Some("b?c=/d"));
    check("GET", "//a/b", Form::Origin, "", "//a/b", None);
    check(
        "GET",
        "/a:b@c;d=e,f",
        Form::Origin,
        "",
        "/a:b@c;d=e,f",
        None,
    );
    check("GET", "http://a", http, "a", "", None);
    check("GET", "http://a/", http, "a", "/", None);
    check("GET", "HTTP://a?b", http, "a", "", Some("b"));
    check("GET", "https://a:443/b?c", https, "a:443", "/b", Some("c"));
    check("OPTIONS", "*", Form::Asterisk, "", "", None);
    check("OPTIONS", "/", Form::Origin, "", "/", None);
    check("CONNECT", "a:443", Form::Authority, "a:443", "", None);
}

#[test]
fn other_forms_are_refused() {
    let check = |method: &str, text: &str, fault, offset: usize| {
        let error = target(method, text).expect_err(text);
        let offset = offset + method.len() + 1;
        assert_eq!(
            (error.fault(), error.offset() as usize),
            (fault, offset),
            "{text}"
        );
    };
    check("GET", "*", HeadFault::TargetForm, 0);
    check("OPTIONS", "*/", HeadFault::TargetForm, 0);
    check("OPTIONS", "**", HeadFault::TargetForm, 0);
    check("GET", "a", HeadFault::TargetForm, 0);
    check("GET", "a:443", HeadFault::TargetForm, 0);
    check("GET", "", HeadFault::TargetForm, 0);
    check("GET", "?a", HeadFault::TargetForm, 0);
    check("GET", "ftp://a/", HeadFault::TargetForm, 0);
    check("GET", "http:/a", HeadFault::TargetForm, 0);
    check("GET", "http//a", HeadFault::TargetForm, 0);
    check("GET", "http://", HeadFault::BadHost, 7);
    check("GET", "http:///a", HeadFault::BadHost, 7);
    check("GET", "http://a@b/", HeadFault::BadHost, 8);
    check("GET", "http://a:b@c/", HeadFault::BadHost, 9);
    check("GET", "http://a\\@b/", HeadFault::BadHost, 8);
    check("GET", "http://a#b", HeadFault::BadHost, 8);
    check("GET", "http://a/#b", HeadFault::TargetCharacter, 9);
    check("GET", "/a b", HeadFault::BadVersion, 3);
}

#[test]
fn characters() {
    // What is refused for being a control is refused before its place in the target matters.
    for byte in (0x21..0x7f).chain(0x80..=0xffu8) {
        for (prefix, in_query) in [("/a", false), ("/?", true), ("http://a/", false)] {
            let mut text = format!("GET {prefix}").into_bytes();
            let offset = text.len() as u32;
            text.push(byte);
            text.extend_from_slice(b"z HTTP/1.1\r\nHost: a\r\n\r\n");
            let found = RequestHead::default()
                .parse(&text, &Limits::default())
                .map_err(|error| (error.fault(), error.offset()));
            let browsers_escape_it = b"\"<>#".contains(&byte) || byte >= 0x80;
            let path_ends = !in_query && b"\\^`{}".contains(&byte);
            let expected = match browsers_escape_it || path_ends {
                true => Err((HeadFault::TargetCharacter, offset)),
                false => Ok(()),
            };
            assert_eq!(found, expected, "{:?}", text.escape_ascii().to_string());
        }
    }
}

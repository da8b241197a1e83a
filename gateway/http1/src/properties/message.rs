//! Messages for the property tests: well-formed ones with what they mean, and soup.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{Known, write};

/// A well-formed message and what it means.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) first_line: Vec<u8>,
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Payload {
    None,
    Length(Vec<u8>),
    /// Chunks, each with its extension, and trailers.
    Chunked(Vec<(Vec<u8>, String)>, Vec<(Vec<u8>, Vec<u8>)>),
}

pub(super) fn body() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..1200)
}

/// Any request without anything wrong in it.
pub(super) fn request() -> impl Strategy<Value = Written> {
    let line = (method(), target(), host());
    (line, fields(), payload()).prop_map(|((method, target, host), fields, payload)| {
        let mut all = vec![(b"Host".to_vec(), host.into_bytes())];
        all.extend(fields);
        let mut first_line = Vec::new();
        write::request_line(&mut first_line, method.as_bytes(), target.as_bytes());
        written(first_line, all, payload)
    })
}

/// Any response with a body, or with none and a length that says so.
pub(super) fn response() -> impl Strategy<Value = Written> {
    let status = (200..=999u16).prop_filter("no body", |status| ![204, 304].contains(status));
    let line = (status, "[ -~\t\u{80}-\u{ff}]{0,12}");
    (line, fields(), payload()).prop_map(|((status, reason), fields, payload)| {
        let mut first_line = Vec::new();
        write::status_line_with_reason(&mut first_line, status, reason.as_bytes());
        let payload = match payload {
            Payload::None => Payload::Length(Vec::new()),
            other => other,
        };
        written(first_line, fields, payload)
    })
}

/// Fragments of messages in no order, so that something is nearly always nearly right.
pub(super) fn soup() -> impl Strategy<Value = Vec<u8>> {
    let fragments: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"POST /a?b=c HTTP/1.1\r\nHost: a\r\n",
        b"GET http://a:80/b HTTP/1.0\r\n",
        b"CONNECT a:443 HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 304 Not Modified\r\n",
        b"Host: a\r\n",
        b"Host: a:443\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: x-y, keep-alive\r\n",
        b"Expect: 100-continue\r\n",
        b"X_Y: z\r\n",
        b"X-Y: \t z\t \r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"5\r\nhinge\r\n",
        b"5;a=\"b\"\r\nhinge\r\n",
        b"0\r\n\r\n",
        b"0\r\nX-Y: z\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"GET ",
        b"/",
        b"?",
        b" HTTP/1.",
        b"1",
        b"chunked",
        b"a",
        b"\0",
        b"\x7f",
        b"\xe9",
        b"\"",
    ];
    let starts: &[&[u8]] = &[
        b"",
        b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    let fragment = prop_oneof![
        12 => select(fragments).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..3),
    ];
    (select(starts), vec(fragment, 0..10))
        .prop_map(|(start, fragments)| [start.to_vec(), fragments.concat()].concat())
}

/// A well-formed message with up to four of its bytes lost, changed or joined by another.
pub(super) fn bent() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        6 => select(&b"\r\n\t :;,/\"0159afx_-\0\x7f\x80\xff"[..]),
        1 => any::<u8>(),
    ];
    let edit = (any::<prop::sample::Index>(), 0..3u8, byte);
    let message = prop_oneof![
        request().prop_map(|message| message.bytes),
        response().prop_map(|message| message.bytes),
    ];
    (message, vec(edit, 0..5)).prop_map(|(mut bytes, edits)| {
        for (index, kind, byte) in edits {
            // Most bytes of some messages are body: bend their heads more often.
            let at = index.index(bytes.len().min(400));
            match kind {
                0 => drop(bytes.remove(at)),
                1 => bytes[at] = byte,
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("GET".to_owned()),
        Just("POST".to_owned()),
        "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}"
            .prop_filter("its own target", |method| { method != "CONNECT" }),
    ]
}

fn target() -> impl Strategy<Value = String> {
    let path = r"(/[A-Za-z0-9._~!$&'()*+,;=:@%|\[\]-]{0,8}){1,4}";
    let query = r"(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?|\[\]\\^`{}-]{0,20})?";
    (path, query).prop_map(|(path, query)| path + &query)
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_-]{1,8}(\\.[a-z0-9-]{1,6}){0,2}\\.?(:[0-9]{1,4})?",
        Just("[2001:db8::1]:8080".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let harmless = |known: &Known| *known > Known::Te;
    let known: Vec<_> = Known::ALL
        .iter()
        .copied()
        .filter(harmless)
        .map(Known::name)
        .collect();
    prop_oneof![
        select(known).prop_map(|name| name.as_bytes().to_vec()),
        "[!#$%&'*+.^`|~0-9A-Za-z-]{1,20}"
            .prop_map(String::into_bytes)
            .prop_filter("no meaning", move |name| harmless(&Known::of(name))),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let middle = prop_oneof![8 => 0x20..=0x7eu8, 1 => Just(b'\t'), 1 => 0x80..=0xffu8];
    vec(middle, 0..40).prop_map(|value| value.trim_ascii().to_vec())
}

fn fields() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    vec((name(), value()), 0..8)
}

fn payload() -> impl Strategy<Value = Payload> {
    let extension = r#"(;[a-z]{1,3}(=[a-z]{1,3}|="[ -!#-\[\]-~]{0,5}")?)?"#;
    let chunk = (vec(any::<u8>(), 1..100), extension);
    let trailer = ("[A-Wa-w][a-z-]{0,8}", value())
        .prop_map(|(name, value)| (name.into_bytes(), value))
        .prop_filter("no meaning", |(name, _)| Known::of(name) == Known::Other);
    prop_oneof![
        Just(Payload::None),
        body().prop_map(Payload::Length),
        (vec(chunk, 0..5), vec(trailer, 0..3))
            .prop_map(|(chunks, trailers)| Payload::Chunked(chunks, trailers)),
    ]
}

fn written(first_line: Vec<u8>, mut fields: Vec<(Vec<u8>, Vec<u8>)>, payload: Payload) -> Written {
    match &payload {
        Payload::None => {}
        Payload::Length(body) => {
            fields.push((
                b"Content-Length".to_vec(),
                body.len().to_string().into_bytes(),
            ));
        }
        Payload::Chunked(..) => {
            fields.push((b"Transfer-Encoding".to_vec(), b"chunked".to_vec()));
        }
    }
    let mut bytes = first_line.clone();
    for (name, value) in &fields {
        write::field(&mut bytes, name, value);
    }
    write::head_end(&mut bytes);
    let (body, trailers) = match payload {
        Payload::None => (Vec::new(), Vec::new()),
        Payload::Length(body) => {
            bytes.extend_from_slice(&body);
            (body, Vec::new())
        }
        Payload::Chunked(chunks, trailers) => {
            for (chunk, extension) in &chunks {
                bytes.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                write::chunk_end(&mut bytes);
            }
            write::last_chunk(&mut bytes);
            for (name, value) in &trailers {
                write::field(&mut bytes, name, value);
            }
            write::head_end(&mut bytes);
            (
                chunks.into_iter().flat_map(|(chunk, _)| chunk).collect(),
                trailers,
            )
        }
    };
    Written {
        bytes,
        first_line,
        fields,
        body,
        trailers,
    }
}

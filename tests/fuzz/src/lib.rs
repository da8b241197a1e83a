//! What the fuzz targets assert. Each function takes any bytes and panics if the codec is wrong
//! about them: if its verdict depends on how they arrive, if what it accepts is read differently
//! by another parser, or if what it would send on is not what it read. Configurations have to
//! survive being written and read again.

#![forbid(unsafe_code)]

mod client_hello;
mod configuration;
mod connection;
mod grpc_web;
mod http2;
mod proxy_header;
// These files alone: the gateway around them would be built with instrumentation for nothing.
#[rustfmt::skip]
#[path = "../../../gateway/src/traffic/proxy_protocol.rs"]
pub mod proxy_protocol;
#[rustfmt::skip]
#[path = "../../../gateway/src/traffic/grpc_web/translation.rs"]
pub mod translation;

use cardea_http1::{
    ChunkedDecoder, Field, HeadError, HeadScan, Limits, Method, RequestHead, ResponseHead, Span,
    Step, Underscores, write,
};

pub use cardea_http2::Role as Http2Role;
pub use client_hello::client_hello;
pub use configuration::configuration;
pub use connection::{Side, byte_stream};
pub use grpc_web::grpc_web;
pub use http2::http2;
pub use proxy_header::proxy_header;

/// Limits as they are by default, and tight ones, so that short inputs reach them.
fn limits() -> [Limits; 2] {
    let tight = Limits {
        head_bytes_max: 128,
        field_count_max: 4,
        nominated_count_max: 2,
        target_bytes_max: 24,
        method_bytes_max: 8,
        underscores: Underscores::Keep,
        chunk_extension_bytes_max: 8,
        trailer_bytes_max: 24,
        trailer_count_max: 2,
    };
    [Limits::default(), tight]
}

/// Any bytes as the start of a connection from a client.
pub fn request_head(bytes: &[u8]) {
    for limits in limits() {
        let mut head = RequestHead::default();
        let verdict = head.receive(&mut HeadScan::request(), bytes, &limits);

        let mut scan = HeadScan::request();
        let mut piecewise = RequestHead::default();
        let later = arriving(bytes, |arrived| {
            piecewise.receive(&mut scan, arrived, &limits)
        });
        assert_eq!(verdict, later, "a split changes the verdict");

        let Ok(Some(span)) = verdict else { continue };
        assert_eq!(head, piecewise, "a split changes the head");
        let own = span.of(bytes);
        let mut alone = RequestHead::default();
        assert_eq!(alone.parse(own, &limits), Ok(()));
        assert_eq!(head, alone);
        check_fields(&head.fields, own, &limits, |fields, copied| {
            let mut copy = b"GET / HTTP/1.0\r\n".to_vec();
            write::fields(&mut copy, own, fields.iter().copied());
            write::head_end(&mut copy);
            copied(&copy, 16)
        });
        agree_on_request(&head, own, limits.underscores);
    }
}

/// Any bytes as the start of a connection from an origin.
pub fn response_head(bytes: &[u8]) {
    for limits in limits() {
        let mut head = ResponseHead::default();
        let verdict = head.receive(&mut HeadScan::response(), bytes, &limits);

        let mut scan = HeadScan::response();
        let mut piecewise = ResponseHead::default();
        let later = arriving(bytes, |arrived| {
            piecewise.receive(&mut scan, arrived, &limits)
        });
        assert_eq!(verdict, later, "a split changes the verdict");

        let Ok(Some(span)) = verdict else { continue };
        assert_eq!(head, piecewise, "a split changes the head");
        let own = span.of(bytes);
        let mut alone = ResponseHead::default();
        assert_eq!(alone.parse(own, &limits), Ok(()));
        assert_eq!(head, alone);
        let _ = head.framing(Method::Get);
        agree_on_response(&head, own);
    }
}

/// Any bytes as a chunked body and what follows it.
pub fn chunked_body(bytes: &[u8]) {
    for limits in limits() {
        let whole = decode([bytes], &limits);
        assert_eq!(
            decode(bytes.chunks(1), &limits),
            whole,
            "a split changes the body"
        );
        assert_eq!(
            decode(bytes.chunks(7), &limits),
            whole,
            "a split changes the body"
        );
        let Some((body, _)) = whole else { continue };
        let mut encoded = Vec::new();
        for chunk in body.chunks(5) {
            write::chunk_start(&mut encoded, chunk.len() as u64);
            encoded.extend_from_slice(chunk);
            write::chunk_end(&mut encoded);
        }
        write::last_chunk(&mut encoded);
        write::head_end(&mut encoded);
        let length = encoded.len();
        assert_eq!(
            decode([&encoded[..]], &limits),
            Some((body, length)),
            "encoding is undone"
        );
    }
}

/// The verdict on bytes that arrive one by one.
fn arriving(
    bytes: &[u8],
    mut receive: impl FnMut(&[u8]) -> Result<Option<Span>, HeadError>,
) -> Result<Option<Span>, HeadError> {
    (0..=bytes.len())
        .map(|length| receive(&bytes[..length]))
        .find(|verdict| !matches!(verdict, Ok(None)))
        .unwrap_or(Ok(None))
}

/// Fields of a head copied into another head are the same fields.
fn check_fields(
    fields: &[Field],
    own: &[u8],
    limits: &Limits,
    copy: impl FnOnce(&[Field], &dyn Fn(&[u8], usize)),
) {
    // Those that decide about a message may not fit the head they are copied to.
    let kept: Vec<_> = fields
        .iter()
        .copied()
        .filter(|field| field.known > cardea_http1::Known::Te)
        .collect();
    let limits = Limits {
        head_bytes_max: u32::MAX,
        ..*limits
    };
    copy(&kept, &|copy, line| {
        let mut again = RequestHead::default();
        assert_eq!(
            again.parse(copy, &limits),
            Ok(()),
            "{}",
            copy[line..].escape_ascii()
        );
        assert_eq!(texts(&again.fields, copy), texts(&kept, own));
    });
}

fn texts<'b>(fields: &[Field], bytes: &'b [u8]) -> Vec<(&'b [u8], &'b [u8])> {
    fields
        .iter()
        .map(|field| (field.name.of(bytes), field.value.of(bytes)))
        .collect()
}

fn agree_on_request(head: &RequestHead, own: &[u8], underscores: Underscores) {
    let after_target = &own[head.target.whole.end as usize + 1..];
    if !after_target.starts_with(b"HTTP/1.0") && !after_target.starts_with(b"HTTP/1.1") {
        return; // A higher minor version, which httparse refuses.
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Request::new(&mut headers);
    assert_eq!(theirs.parse(own), Ok(httparse::Status::Complete(own.len())));
    assert_eq!(
        theirs.method.map(str::as_bytes),
        Some(head.method_span.of(own))
    );
    assert_eq!(
        theirs.path.map(str::as_bytes),
        Some(head.target.whole.of(own))
    );
    if underscores != Underscores::Drop {
        let theirs: Vec<_> = theirs
            .headers
            .iter()
            .map(|header| (header.name.as_bytes(), header.value))
            .collect();
        assert_eq!(texts(&head.fields, own), theirs);
    }
}

fn agree_on_response(head: &ResponseHead, own: &[u8]) {
    if !own.starts_with(b"HTTP/1.0") && !own.starts_with(b"HTTP/1.1") {
        return; // A higher minor version, which httparse refuses.
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Response::new(&mut headers);
    assert_eq!(theirs.parse(own), Ok(httparse::Status::Complete(own.len())));
    assert_eq!(theirs.code, Some(head.status));
    // Copies of a Content-Length are left out here and not there.
    assert!(head.fields.len() <= theirs.headers.len());
}

/// What a body that arrives in pieces decodes to and how many bytes of it that takes, if it is
/// complete and valid.
fn decode<'b>(
    pieces: impl IntoIterator<Item = &'b [u8]>,
    limits: &Limits,
) -> Option<(Vec<u8>, usize)> {
    let mut decoder = ChunkedDecoder::new(limits);
    let (mut body, mut length) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            let passed = match decoder.next(rest).ok()? {
                Step::Data { start, end } => {
                    assert!(start < end);
                    body.extend_from_slice(&rest[start..end]);
                    end
                }
                Step::Need { consumed } => {
                    assert_eq!(consumed, rest.len());
                    consumed
                }
                Step::End { consumed } => {
                    let _ = texts(decoder.trailers(), decoder.trailer_bytes());
                    return Some((body, length + consumed));
                }
            };
            length += passed;
            rest = &rest[passed..];
        }
    }
    None
}

//! What holds for any bytes, however they arrive: one verdict whatever the split, agreement with
//! another parser on all that is accepted, and messages that survive being written and read.

mod connection;
mod message;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::{
    ChunkedDecoder, Field, HeadError, HeadScan, Limits, Method, RequestHead, ResponseHead, Span,
    Step, Underscores, Version, write,
};
use connection::{Ending, Side};
use message::{bent, body, request, response, soup};

/// A case costs microseconds: run more than the usual number, or than `PROPTEST_CASES` asks for.
fn cases() -> ProptestConfig {
    ProptestConfig::with_cases(4 * ProptestConfig::default().cases)
}

/// Small enough that generated messages reach every limit.
fn tight() -> impl Strategy<Value = Limits> {
    (20..300u32, 1..6u32, 4..40u32, 2..9u32, 0..3u8).prop_map(
        |(head_bytes_max, field_count_max, target_bytes_max, method_bytes_max, underscores)| {
            Limits {
                head_bytes_max,
                field_count_max,
                nominated_count_max: 2,
                target_bytes_max,
                method_bytes_max,
                underscores: match underscores {
                    0 => Underscores::Reject,
                    1 => Underscores::Drop,
                    _ => Underscores::Keep,
                },
                chunk_extension_bytes_max: 8,
                trailer_bytes_max: 24,
                trailer_count_max: 2,
            }
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![Just(Limits::default()), tight()]
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![
        Just(Side::Requests),
        prop_oneof![Just(Method::Get), Just(Method::Head)].prop_map(Side::Responses),
    ]
}

/// Bytes of a connection: well-formed messages one after the other, soup, or both.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        2 => request().prop_map(|message| message.bytes),
        1 => response().prop_map(|message| message.bytes),
        4 => bent(),
        4 => soup(),
        1 => vec(any::<u8>(), 0..40),
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn names_and_values(fields: &[Field], bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields
        .iter()
        .map(|field| {
            (
                field.name.of(bytes).to_vec(),
                field.value.of(bytes).to_vec(),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(cases())]

    /// The messages of a connection and its end do not depend on how its bytes were split.
    #[test]
    fn any_split_gives_the_same_messages(
        bytes in stream(),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        limits in limits(),
        side in side(),
    ) {
        let whole = connection::read(side, &limits, [&bytes[..]]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(0);
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        prop_assert_eq!(&connection::read(side, &limits, pieces), &whole);
        prop_assert_eq!(&connection::read(side, &limits, bytes.chunks(1)), &whole);
    }

    /// One pass, or a search followed by a parse: the same.
    #[test]
    fn receiving_is_scanning_and_parsing(bytes in stream(), limits in limits()) {
        let mut one = RequestHead::default();
        let received = one.receive(&mut HeadScan::request(), &bytes, &limits);
        let mut two = RequestHead::default();
        let scanned = HeadScan::request().advance(&bytes, &limits);
        let parsed = scanned.and_then(|found| match found {
            Some(span) => two.parse(span.of(&bytes), &limits).map(|()| Some(span)),
            None => Ok(None),
        });
        prop_assert_eq!(received, parsed);
        if matches!(received, Ok(Some(_))) {
            prop_assert_eq!(one, two);
        }
        let mut one = ResponseHead::default();
        let received = one.receive(&mut HeadScan::response(), &bytes, &limits);
        let mut two = ResponseHead::default();
        let scanned = HeadScan::response().advance(&bytes, &limits);
        let parsed = scanned.and_then(|found| match found {
            Some(span) => two.parse(span.of(&bytes), &limits).map(|()| Some(span)),
            None => Ok(None),
        });
        prop_assert_eq!(received, parsed);
        if matches!(received, Ok(Some(_))) {
            prop_assert_eq!(one, two);
        }
    }

    /// All that is accepted as a request is one to httparse too, the same one.
    #[test]
    fn httparse_accepts_the_same_requests(bytes in prop_oneof![soup(), bent()]) {
        let limits = Limits { underscores: Underscores::Keep, ..Limits::default() };
        let mut head = RequestHead::default();
        let found = head.receive(&mut HeadScan::request(), &bytes, &limits);
        if let Ok(Some(span)) = found {
            let bytes = span.of(&bytes);
            prop_assume!(has_exact_version(&bytes[head.target.whole.end as usize + 1..]));
            let mut headers = [httparse::EMPTY_HEADER; 128];
            let mut theirs = httparse::Request::new(&mut headers);
            let length = theirs.parse(bytes).map_err(|error| error.to_string());
            prop_assert_eq!(length, Ok(httparse::Status::Complete(bytes.len())));
            prop_assert_eq!(theirs.method.map(str::as_bytes), Some(head.method_span.of(bytes)));
            prop_assert_eq!(theirs.path.map(str::as_bytes), Some(head.target.whole.of(bytes)));
            prop_assert_eq!(theirs.version, Some(match head.version {
                Version::Http10 => 0,
                Version::Http11 => 1,
            }));
            prop_assert_eq!(names_and_values(&head.fields, bytes), of_httparse(theirs.headers));
        }
    }

    /// All that is accepted as a response is one to httparse too, the same one.
    #[test]
    fn httparse_accepts_the_same_responses(bytes in prop_oneof![soup(), bent()]) {
        let limits = Limits { underscores: Underscores::Keep, ..Limits::default() };
        let mut head = ResponseHead::default();
        let found = head.receive(&mut HeadScan::response(), &bytes, &limits);
        if let Ok(Some(span)) = found {
            let bytes = span.of(&bytes);
            prop_assume!(has_exact_version(bytes));
            let mut headers = [httparse::EMPTY_HEADER; 128];
            let mut theirs = httparse::Response::new(&mut headers);
            let length = theirs.parse(bytes).map_err(|error| error.to_string());
            prop_assert_eq!(length, Ok(httparse::Status::Complete(bytes.len())));
            prop_assert_eq!(theirs.code, Some(head.status));
            let reason = theirs.reason.unwrap_or_default().as_bytes();
            // It gives up reasons that are not ASCII.
            if head.reason.of(bytes).is_ascii() {
                prop_assert_eq!(reason, head.reason.of(bytes));
            }
            let mut theirs = of_httparse(theirs.headers);
            // It keeps copies of a Content-Length, where we keep the first.
            let is_length = |name: &[u8]| name.eq_ignore_ascii_case(b"Content-Length");
            let first = theirs.iter().position(|(name, _)| is_length(name));
            let mut at = 0..;
            theirs.retain(|(name, _)| at.next() == first || !is_length(name));
            prop_assert_eq!(names_and_values(&head.fields, bytes), theirs);
        }
    }

    /// What was meant is what is read.
    #[test]
    fn requests_survive_being_written_and_read(message in request()) {
        let limits = Limits::default();
        let read = connection::read(Side::Requests, &limits, [&message.bytes[..]]);
        prop_assert_eq!(read.messages.len(), 1, "{:?}", read);
        let found = &read.messages[0];
        prop_assert_eq!(&found.first_line, &message.first_line);
        prop_assert_eq!(&found.fields, &message.fields);
        prop_assert_eq!(&found.body, &message.body);
        prop_assert_eq!(&found.trailers, &message.trailers);
        prop_assert_eq!(read.ending, Ending::Clean);
    }

    /// What was meant is what is read.
    #[test]
    fn responses_survive_being_written_and_read(message in response()) {
        let limits = Limits::default();
        let read = connection::read(Side::Responses(Method::Get), &limits, [&message.bytes[..]]);
        prop_assert_eq!(read.messages.len(), 1, "{:?}", read);
        let found = &read.messages[0];
        prop_assert_eq!(&found.first_line, &message.first_line);
        prop_assert_eq!(&found.fields, &message.fields);
        prop_assert_eq!(&found.body, &message.body);
        prop_assert_eq!(&found.trailers, &message.trailers);
        prop_assert_eq!(read.ending, Ending::Clean);
    }

    /// A head whose fields are copied out of it, all or some, is still one with those fields.
    #[test]
    fn fields_survive_being_copied(message in request(), kept in any::<u64>()) {
        let limits = Limits::default();
        let mut head = RequestHead::default();
        let span = head.receive(&mut HeadScan::request(), &message.bytes, &limits)
            .expect("a valid head")
            .expect("a complete head");
        let bytes = span.of(&message.bytes);
        let kept: Vec<_> = head.fields.iter().enumerate()
            .filter(|(at, _)| kept & (1 << (at % 64)) != 0)
            .map(|(_, field)| *field)
            .collect();
        let mut copy = Vec::new();
        write::request_line(&mut copy, b"GET", b"/");
        let line_end = copy.len() as u32;
        write::fields(&mut copy, bytes, kept.iter().copied());
        write::head_end(&mut copy);
        let mut again = ResponseHead::default();
        let fields_alone = copy[line_end as usize..].to_vec();
        let mut response = b"HTTP/1.1 200 OK\r\n".to_vec();
        response.extend_from_slice(&fields_alone);
        prop_assert_eq!(again.parse(&response, &limits), Ok(()));
        prop_assert_eq!(
            names_and_values(&again.fields, &response),
            names_and_values(&kept, bytes)
        );
    }

    /// Decoding what was encoded gives it back, however it was cut into chunks.
    #[test]
    fn decoding_undoes_encoding(body in body(), pieces in vec(1..400usize, 1..8)) {
        let mut encoded = Vec::new();
        let mut rest = &body[..];
        for length in pieces.iter().cycle() {
            let (chunk, after) = rest.split_at((*length).min(rest.len()));
            if chunk.is_empty() {
                break;
            }
            write::chunk_start(&mut encoded, chunk.len() as u64);
            encoded.extend_from_slice(chunk);
            write::chunk_end(&mut encoded);
            rest = after;
        }
        write::last_chunk(&mut encoded);
        write::head_end(&mut encoded);
        let mut decoder = ChunkedDecoder::new(&Limits::default());
        let (mut decoded, mut at) = (Vec::new(), 0);
        loop {
            match decoder.next(&encoded[at..]) {
                Ok(Step::Data { start, end }) => {
                    decoded.extend_from_slice(&encoded[at + start..at + end]);
                    at += end;
                }
                Ok(Step::End { consumed }) => {
                    prop_assert_eq!(at + consumed, encoded.len());
                    break;
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(decoded, body);
    }

    /// Nothing panics, spans lie inside the head, and errors say where.
    #[test]
    fn any_bytes_get_a_verdict(bytes in prop_oneof![
        vec(any::<u8>(), 0..200),
        vec(prop::sample::select(&b"GET /:\r\n HTP1.0\t\"\\;=,%[]@#?_\x00\x7f\xff"[..]), 0..80),
        soup(),
        bent(),
    ]) {
        let inside = |span: Span| span.start <= span.end && span.end as usize <= bytes.len();
        let limits = Limits::default();
        let mut head = RequestHead::default();
        let located = |error: HeadError| error.offset() as usize <= bytes.len();
        match head.parse(&bytes, &limits) {
            Ok(()) => {
                prop_assert!(inside(head.target.whole) && inside(head.authority));
                prop_assert!(head.fields.iter().all(|f| inside(f.name) && inside(f.value)));
            }
            Err(error) => prop_assert!(located(error), "{}", error),
        }
        let mut head = ResponseHead::default();
        match head.parse(&bytes, &limits) {
            Ok(()) => {
                prop_assert!(head.fields.iter().all(|f| inside(f.name) && inside(f.value)));
            }
            Err(error) => prop_assert!(located(error), "{}", error),
        }
        if let Err(error) = crate::parse_authority(&bytes) {
            prop_assert!(located(error));
        }
        let _ = crate::parse_transfer_encoding(&bytes);
        let _ = crate::parse_content_length(&bytes);
    }
}

/// Whether the version is 1.0 or 1.1 and not one that we read as 1.1 and httparse not at all.
fn has_exact_version(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.0") || bytes.starts_with(b"HTTP/1.1")
}

fn of_httparse(headers: &[httparse::Header<'_>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers
        .iter()
        .map(|header| (header.name.as_bytes().to_vec(), header.value.to_vec()))
        .collect()
}

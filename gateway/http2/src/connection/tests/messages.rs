//! Messages as they come on the wire (RFC 9113 sections 8.1 to 8.5); `message` has the rules one by
//! one. What is malformed passes with its verdict, so that it can be answered.

use super::wire::*;
use super::*;
use crate::MessageFault;
use Outcome::*;

/// Literal fields.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend([0, name.len() as u8]);
        block.extend(name.bytes());
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    block
}

fn head(of: &mut Connection, stream: u32, fields: &[(&str, &str)]) -> Saw {
    let saws = feed(of, &frame(HEADERS, WHOLE, stream, &block(fields)));
    let [saw] = &saws.unwrap()[..] else {
        panic!("one event");
    };
    saw.clone()
}

#[test]
fn malformed_requests_pass_with_their_verdict() {
    let check = |more: &[(&str, &str)], expected| {
        let mut fields = vec![
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "a"),
        ];
        fields.extend(more);
        let mut server = server();
        let Saw::Head(1, true, _, fault) = head(&mut server, 1, &fields) else {
            panic!("{more:?}");
        };
        assert_eq!(fault, expected, "{more:?}");
        // It can be answered, and the connection goes on.
        answer(&mut server, 1);
        assert!(!server.is_open(1));
        assert_eq!(outcome(&mut server, &frame(HEADERS, WHOLE, 3, GET)), Passes);
    };
    check(&[], None);
    check(&[("te", "trailers")], None);
    check(&[("te", "gzip")], Some(MessageFault::Te));
    check(&[("X", "y")], Some(MessageFault::Name));
    check(&[("x", "a\r\nb: c")], Some(MessageFault::Value));
    check(&[("x", "\0")], Some(MessageFault::Value));
    check(
        &[("connection", "close")],
        Some(MessageFault::ConnectionField),
    );
    let coding = ("transfer-encoding", "chunked");
    check(&[coding], Some(MessageFault::ConnectionField));
    check(&[("upgrade", "h2c")], Some(MessageFault::ConnectionField));
    check(&[(":path", "/b")], Some(MessageFault::PseudoRepeated));
    check(&[(":status", "200")], Some(MessageFault::PseudoUnknown));
    check(
        &[("x", "y"), (":protocol", "z")],
        Some(MessageFault::PseudoLate),
    );
    check(&[("host", "b")], Some(MessageFault::HostDiffers));
    let mut server = server();
    let nothing = feed(&mut server, &frame(HEADERS, WHOLE, 1, &[]));
    let missing = Some(MessageFault::PseudoMissing);
    assert_eq!(
        nothing,
        Ok(vec![Saw::Head(1, true, String::new(), missing)])
    );
}

#[test]
fn malformed_responses_pass_with_their_verdict() {
    let check = |fields: &[(&str, &str)], expected| {
        let mut client = client();
        ask(&mut client, true);
        let Saw::Head(1, true, _, fault) = head(&mut client, 1, fields) else {
            panic!("{fields:?}");
        };
        assert_eq!(fault, expected, "{fields:?}");
    };
    let status = (":status", "200");
    check(&[status], None);
    check(&[status, ("te", "gzip")], None);
    check(&[], Some(MessageFault::PseudoMissing));
    // There are no upgrades (RFC 9113 section 8.6).
    check(&[(":status", "101")], Some(MessageFault::Status));
    check(&[(":status", "20")], Some(MessageFault::Status));
    check(&[status, status], Some(MessageFault::PseudoRepeated));
    check(&[status, (":path", "/")], Some(MessageFault::PseudoUnknown));
    check(&[("a", "b"), status], Some(MessageFault::PseudoMissing));
    let connection = ("connection", "close");
    check(&[status, connection], Some(MessageFault::ConnectionField));
}

#[test]
fn trailers_end_a_message_and_have_no_pseudo_header_fields() {
    let check = |flags, fields: &[(&str, &str)], expected| {
        let mut server = server();
        feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
        let bytes = frame(HEADERS, flags, 1, &block(fields));
        assert_eq!(outcome(&mut server, &bytes), expected, "{fields:?}");
    };
    check(WHOLE, &[("a", "b")], Passes);
    check(WHOLE, &[], Passes);
    let malformed = Breaks(Fault::Message);
    check(END_HEADERS, &[("a", "b")], malformed);
    check(WHOLE, &[(":path", "/")], malformed);
    check(WHOLE, &[("A", "b")], malformed);
    check(WHOLE, &[("connection", "close")], malformed);
}

/// The size of a list counts, whatever it was on the wire.
#[test]
fn large_lists_pass_with_their_verdict() {
    let check = |count: usize, bytes: usize, expected| {
        let value = "v".repeat(bytes);
        let more = vec![("x", value.as_str()); count];
        let block = [GET, &long_block(&more)].concat();
        let mut frames = Vec::new();
        for (at, piece) in block.chunks(16_000).enumerate() {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            let is_last = (at + 1) * 16_000 >= block.len();
            let end = if is_last { END_HEADERS } else { 0 };
            frames.extend(frame(kind, END | end, 1, piece));
        }
        let saws = feed(&mut server(), &frames).unwrap();
        let [Saw::Head(1, true, text, fault)] = &saws[..] else {
            panic!("{saws:?}");
        };
        assert_eq!(*fault, expected, "{count} of {bytes}");
        assert!(text.len() <= 33 * 1024);
    };
    check(100, 100, None);
    check(102, 10, Some(MessageFault::TooMany));
    check(10, 3000, None);
    check(11, 2970, Some(MessageFault::TooLarge));
}

/// As `block`, with values of any length.
fn long_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut connection = client();
    let start = connection.out.len();
    connection.encoder.begin(&mut connection.out);
    for (name, value) in fields {
        let Connection { encoder, out, .. } = &mut connection;
        encoder.field(out, name.as_bytes(), value.as_bytes());
    }
    connection.out.split_off(start)
}

#[test]
fn a_tunnel_is_asked_for_by_an_extended_connect() {
    let mut server = server();
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/chat"),
        (":authority", "a"),
    ];
    let bytes = frame(HEADERS, END_HEADERS, 1, &block(&fields));
    let mut text = Vec::new();
    let (_, event) = server.receive(&bytes, 0, &mut text).unwrap();
    let Some(Event::Head { verdict, .. }) = event else {
        panic!("{event:?}");
    };
    assert_eq!((verdict.fault, verdict.is_tunnel), (None, true));
    // Bytes go both ways until both ends say that they end.
    assert!(server.send_head(1, false, |head| head.status(200)));
    assert_eq!(server.send_data(1, b"a", false), 1);
    assert_eq!(outcome(&mut server, &frame(DATA, 0, 1, b"b")), Passes);
    assert_eq!(outcome(&mut server, &frame(DATA, END, 1, b"")), Passes);
    assert_eq!(server.send_data(1, b"c", true), 1);
    assert!(!server.is_open(1));
}

/// A connection at rest keeps nothing of what passed.
#[test]
fn a_connection_at_rest_is_small() {
    let mut server = server();
    let value = "v".repeat(15_000);
    let block = [GET, &long_block(&[("cookie", &value), ("x", &value)])].concat();
    for (at, piece) in block.chunks(16_000).enumerate() {
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        let end = if at == 0 { END } else { END_HEADERS };
        feed(&mut server, &frame(kind, end, 1, piece)).unwrap();
    }
    answer(&mut server, 1);
    assert_eq!(server.stream_count(), 0);
    assert_eq!(server.block.capacity(), 0);
    assert!(server.scribe.capacity() <= 2 * 1024);
}

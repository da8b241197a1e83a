//! What comes first, what may follow what, and which streams there can be (RFC 9113 sections 3.4,
//! 4.3, 5.1.1, 5.1.2, 6.8 and 6.10).

use super::wire::*;
use super::*;
use Outcome::*;

#[test]
fn a_connection_begins_with_preface_and_settings() {
    let check = |bytes: &[u8], fault| {
        let mut server = Connection::new(Role::Server, Limits::default());
        assert_eq!(outcome(&mut server, bytes), Ends(fault), "{bytes:?}");
    };
    check(b"GET / HTTP/1.1\r\n\r\n", Fault::Preface);
    // Nobody waits for the rest of what is wrong already.
    check(b"G", Fault::Preface);
    check(b"PRI * HTTP/2.0\r\n\r\nXX", Fault::Preface);
    let after = |frame: Vec<u8>| [frame::PREFACE, &frame].concat();
    check(&after(frame(PING, 0, 0, &[0; 8])), Fault::Preface);
    check(&after(frame(HEADERS, WHOLE, 1, GET)), Fault::Preface);
    check(&after(frame(0xbe, 0, 0, &[])), Fault::Preface);
    check(&after(frame(SETTINGS, END, 0, &[])), Fault::Preface);
    check(&after(frame(SETTINGS, 0, 1, &[])), Fault::StreamId);
    check(&after(frame(SETTINGS, 0, 0, &[0; 5])), Fault::FrameSize);

    let mut client = Connection::new(Role::Client, Limits::default());
    let ping = frame(PING, 0, 0, &[0; 8]);
    assert_eq!(outcome(&mut client, &ping), Ends(Fault::Preface));
}

#[test]
fn a_piece_of_the_preface_is_no_fault() {
    let mut server = Connection::new(Role::Server, Limits::default());
    for length in 0..frame::PREFACE.len() {
        let piece = &frame::PREFACE[..length];
        assert_eq!(server.receive(piece, 0, &mut Vec::new()), Ok((0, None)));
        assert!(server.is_within_head());
    }
}

/// A field block is not interrupted, by whatever it may be.
#[test]
fn only_the_same_block_goes_on() {
    let begun = frame(HEADERS, END, 1, &GET[..3]);
    let others = [
        frame(DATA, 0, 1, b"x"),
        frame(HEADERS, WHOLE, 1, GET),
        frame(HEADERS, WHOLE, 3, GET),
        frame(PRIORITY, 0, 1, &[0; 5]),
        rst_stream(1),
        settings(&[]),
        frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        frame(PING, 0, 0, &[0; 8]),
        goaway(0),
        window_update(0, 1),
        frame(0xbe, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 3, &GET[3..]),
        frame(CONTINUATION, END_HEADERS, 0, &GET[3..]),
    ];
    for other in others {
        let bytes = [&begun[..], &other].concat();
        let outcome = outcome(&mut server(), &bytes);
        assert_eq!(outcome, Ends(Fault::Interleaved), "{other:?}");
    }
    let mut server = server();
    let rest = frame(CONTINUATION, END_HEADERS, 1, &GET[3..]);
    assert_eq!(outcome(&mut server, &[&begun[..], &rest].concat()), Passes);
    // A block that is over does not go on.
    assert_eq!(outcome(&mut server, &rest), Ends(Fault::Continuation));
}

#[test]
fn a_block_may_be_cut_anywhere() {
    let whole = feed(&mut server(), &frame(HEADERS, WHOLE, 1, GET));
    for first in 0..=GET.len() {
        for second in first..=GET.len() {
            let bytes = [
                frame(HEADERS, END, 1, &GET[..first]),
                frame(CONTINUATION, 0, 1, &GET[first..second]),
                frame(CONTINUATION, END_HEADERS, 1, &GET[second..]),
            ];
            assert_eq!(feed(&mut server(), &bytes.concat()), whole);
        }
    }
}

#[test]
fn streams_have_ids_that_grow() {
    let head = |stream| frame(HEADERS, WHOLE, stream, GET);
    let check = |before: &[u32], stream, expected| {
        let mut server = server();
        for &id in before {
            assert_eq!(outcome(&mut server, &head(id)), Passes);
            answer(&mut server, id);
        }
        let outcome = outcome(&mut server, &head(stream));
        assert_eq!(outcome, expected, "{stream} after {before:?}");
    };
    check(&[], 0, Ends(Fault::StreamId));
    check(&[], 2, Ends(Fault::StreamId));
    check(&[1], 2, Ends(Fault::StreamId));
    check(&[], 0x7fff_ffff, Passes);
    check(&[5], 7, Passes);
    check(&[5], 1001, Passes);
    // Ids that were passed are used up.
    check(&[5], 3, Ends(Fault::StreamClosed));
    check(&[5], 5, Ends(Fault::StreamClosed));
    // The reserved bit is no part of an id.
    let reserved = frame(HEADERS, WHOLE, 0x8000_0001, GET);
    let saws = feed(&mut server(), &reserved).unwrap();
    assert!(matches!(saws[..], [Saw::Head(1, true, _, None)]));
    for kind in [DATA, PRIORITY, RST_STREAM] {
        let bytes = frame(kind, 0, 0, &[0; 4]);
        assert_eq!(outcome(&mut server(), &bytes), Ends(Fault::StreamId));
    }
}

#[test]
fn streams_beyond_the_limit_are_refused_and_decoded() {
    let mut server = server_with(Limits {
        streams_max: 2,
        ..Limits::default()
    });
    let head = |stream| frame(HEADERS, END_HEADERS, stream, POST);
    assert_eq!(outcome(&mut server, &head(1)), Passes);
    assert_eq!(outcome(&mut server, &head(3)), Passes);
    // `x: y` goes into the table with a request that is refused.
    let block = [POST, &[0x40, 1, b'x', 1, b'y']].concat();
    let refused = frame(HEADERS, END_HEADERS, 5, &block);
    let one_too_many = Breaks(Fault::StreamsExceeded);
    assert_eq!(outcome(&mut server, &refused), one_too_many);
    for late in [frame(DATA, 0, 5, b"x"), frame(HEADERS, WHOLE, 5, TRAILERS)] {
        assert_eq!(outcome(&mut server, &late), Ignored);
    }
    // Half-closed ones count, closed ones do not.
    assert_eq!(outcome(&mut server, &frame(DATA, END, 1, b"x")), Passes);
    assert_eq!(outcome(&mut server, &head(7)), one_too_many);
    answer(&mut server, 1);
    let block = [GET, &[0x80 | 62]].concat();
    let saws = feed(&mut server, &frame(HEADERS, WHOLE, 9, &block)).unwrap();
    let text = "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n".to_owned();
    assert_eq!(saws, [Saw::Head(9, true, text, None)]);
}

/// What is passed over leaves nothing behind that the next message could begin with.
#[test]
fn a_block_that_nobody_wants_leaves_no_text() {
    let wanted = frame(HEADERS, WHOLE, 5, GET);
    let alone = feed(&mut server(), &wanted).unwrap();
    let unwanted = [
        frame(HEADERS, WHOLE, 3, POST),
        frame(HEADERS, WHOLE, 1, TRAILERS),
        frame(HEADERS, WHOLE, 1, GET),
    ];
    for unwanted in unwanted {
        let mut server = server_with(Limits {
            streams_max: 1,
            ..Limits::default()
        });
        feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
        if unwanted[8] == 1 {
            server.reset(1, ErrorCode::CANCEL);
            assert_eq!(
                feed(&mut server, &[unwanted, wanted.clone()].concat()),
                Ok(alone.clone())
            );
            continue;
        }
        // Refused, and then there is room again, all in one call.
        let bytes = [unwanted, rst_stream(1), wanted.clone()].concat();
        let saws = feed(&mut server, &bytes).unwrap();
        // After the refusal, and the end of the first.
        assert_eq!(saws[2..], alone);
    }
}

#[test]
fn after_the_end_new_streams_are_passed_over_and_decoded() {
    let mut server = server();
    assert_eq!(
        outcome(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)),
        Passes
    );
    server.announce_end();
    // The client has not heard yet.
    assert_eq!(
        outcome(&mut server, &frame(HEADERS, END_HEADERS, 3, POST)),
        Passes
    );
    server.end();
    let block = [POST, &[0x40, 1, b'x', 1, b'y']].concat();
    let late = [
        frame(HEADERS, END_HEADERS, 5, &block),
        frame(DATA, 0, 5, b"x"),
        window_update(5, 1),
        frame(HEADERS, WHOLE, 5, TRAILERS),
        frame(HEADERS, END_HEADERS, 7, GET),
        rst_stream(7),
    ];
    for bytes in &late {
        assert_eq!(outcome(&mut server, bytes), Ignored, "{bytes:?}");
    }
    // What is open goes on, and its table with it.
    let trailers = frame(HEADERS, WHOLE, 3, &[0x80 | 62]);
    let saws = feed(&mut server, &trailers).unwrap();
    assert_eq!(saws, [Saw::Trailers(3, "x: y\r\n\r\n".into())]);
    // The last stream that we told of never grows, even at the end of all.
    server.out.clear();
    server.end();
    server.give_up(Fault::Message);
    let lasts: Vec<_> = frames(&server.out).iter().map(|it| it.3[3]).collect();
    assert_eq!(lasts, [3]);
}

#[test]
fn the_end_that_a_client_announces_is_told() {
    let mut server = server();
    let bytes = frame(GOAWAY, 0, 0, &[&[0; 8][..], b"debug data"].concat());
    let saws = feed(&mut server, &bytes);
    assert_eq!(saws, Ok(vec![Saw::Goaway(0, ErrorCode::NO_ERROR)]));
    for length in [0, 7] {
        let short = frame(GOAWAY, 0, 0, &vec![0; length]);
        assert_eq!(outcome(&mut server, &short), Ends(Fault::FrameSize));
    }
}

/// A driver that resets a stream between two calls is not told of it any more.
#[test]
fn a_stream_reset_in_the_middle_of_its_frames_is_silent() {
    let mut server = server();
    feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
    feed(&mut server, &frame(HEADERS, END, 1, &TRAILERS[..2])).unwrap();
    server.reset(1, ErrorCode::CANCEL);
    let rest = frame(CONTINUATION, END_HEADERS, 1, &TRAILERS[2..]);
    assert_eq!(outcome(&mut server, &rest), Ignored);

    feed(&mut server, &frame(HEADERS, END_HEADERS, 3, POST)).unwrap();
    let body = frame(DATA, END, 3, &[0; 100]);
    let mut saws = Vec::new();
    assert_eq!(feed_some(&mut server, &body[..50], 0, &mut saws), Ok(50));
    server.reset(3, ErrorCode::CANCEL);
    let before = server.consumed;
    assert_eq!(outcome(&mut server, &body[50..]), Ignored);
    assert_eq!(server.consumed, before + 59, "the window of all is kept");
}

//! The form of frames and settings (RFC 9113 sections 4.1 to 4.3, 5.5 and 6).

use super::wire::*;
use super::*;
use Outcome::*;

/// What bytes come to at a server where stream 1 is open.
fn check(bytes: &[u8], expected: Outcome) {
    let mut server = server();
    feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
    assert_eq!(outcome(&mut server, bytes), expected, "{bytes:?}");
}

#[test]
fn frames_have_a_size() {
    let max = vec![0; 16_384];
    check(&frame(DATA, 0, 1, &max), Passes);
    check(&frame(0xbe, 0, 1, &max), Ignored);
    for kind in 0..=10 {
        // The payload is not waited for.
        let header = &frame(kind, 0, 1, &[&max[..], b"x"].concat())[..9];
        check(header, Ends(Fault::FrameSize));
    }
    for length in [0, 7, 9] {
        let ping = frame(PING, 0, 0, &vec![0; length]);
        check(&ping, Ends(Fault::FrameSize));
    }
    for length in [1, 5, 7] {
        let settings = frame(SETTINGS, 0, 0, &vec![0; length]);
        check(&settings, Ends(Fault::FrameSize));
    }
    check(&frame(SETTINGS, END, 0, &[0; 6]), Ends(Fault::FrameSize));
    check(&frame(SETTINGS, 0, 0, &[]), Passes);
    check(&frame(PING, 0, 0, &[0; 8]), Answered);
    check(&frame(PING, END, 0, &[0; 8]), Passes);
}

/// RFC 9113 sections 4.1 and 5.5.
#[test]
fn what_is_unknown_is_ignored() {
    check(&frame(0xbe, 0xff, 77, b"x"), Ignored);
    check(&frame(0x10, 0, 0, b"u=1"), Ignored);
    check(&settings(&[(0xbeef, u32::MAX), (0, 0), (7, 7)]), Passes);
    // Flags that a kind does not have.
    check(&frame(PING, 0xfe, 0, &[0; 8]), Answered);
    check(&frame(SETTINGS, 0xfe, 0, &[]), Passes);
    check(&frame(DATA, 0xf6, 1, b"x"), Passes);
    check(&frame(WINDOW_UPDATE, 0xff, 1, &[0, 0, 0, 1]), Passes);
    check(&frame(RST_STREAM, 0xff, 1, &[0; 4]), Passes);
    check(&frame(PRIORITY, 0xff, 1, &[0; 5]), Ignored);
    // And bits that nobody uses.
    check(&frame(WINDOW_UPDATE, 0, 1, &[0x80, 0, 0, 1]), Passes);
    let unknown_code = frame(RST_STREAM, 0, 1, &[0xff; 4]);
    check(&unknown_code, Passes);
}

#[test]
fn data_is_padded_within_its_frame() {
    let data = |flags, payload: &[u8]| frame(DATA, PADDED | flags, 1, payload);
    check(&data(0, &[]), Ends(Fault::FrameSize));
    check(&data(0, &[0]), Ignored);
    check(&data(0, &[1, b'x', 0]), Passes);
    check(&data(0, &[1]), Ends(Fault::Padding));
    check(&data(0, &[3, 0, 0]), Ends(Fault::Padding));
    check(&data(0, &[255; 255]), Ends(Fault::Padding));
    // What is in the padding is of no interest.
    let mut server = server();
    feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
    let saws = feed(&mut server, &data(END, &[2, b'x', b'y', 9, 9]));
    assert_eq!(saws, Ok(vec![Saw::Data(1, b"xy".into(), true)]));
    feed(&mut server, &frame(HEADERS, END_HEADERS, 3, POST)).unwrap();
    let only_padding = frame(DATA, PADDED | END, 3, &[2, 9, 9]);
    let saws = feed(&mut server, &only_padding);
    assert_eq!(saws, Ok(vec![Saw::Data(3, vec![], true)]));
}

#[test]
fn heads_are_padded_within_their_frames_and_may_have_a_priority() {
    let check = |flags: u8, before: &[u8], after: &[u8], expected| {
        let payload = [before, GET, after].concat();
        let bytes = frame(HEADERS, WHOLE | flags, 1, &payload);
        assert_eq!(outcome(&mut server(), &bytes), expected, "{bytes:?}");
    };
    let priority = [0x80, 0, 0, 0, 16];
    check(0, &[], &[], Passes);
    check(PADDED, &[0], &[], Passes);
    check(PADDED, &[2], &[9, 9], Passes);
    check(PADDED, &[GET.len() as u8 + 1], &[], Ends(Fault::Padding));
    check(PADDED, &[255], &[], Ends(Fault::Padding));
    check(WITH_PRIORITY, &priority, &[], Passes);
    check(
        PADDED | WITH_PRIORITY,
        &[&[1][..], &priority].concat(),
        &[9],
        Passes,
    );
    // Padding that leaves too little for a priority.
    let all_but_four = (GET.len() + 1) as u8;
    check(
        PADDED | WITH_PRIORITY,
        &[&[all_but_four][..], &priority].concat(),
        &[],
        Ends(Fault::FrameSize),
    );
    check(
        WITH_PRIORITY,
        &[0x80, 0, 0, 1, 16],
        &[],
        Breaks(Fault::Dependency),
    );
}

#[test]
fn settings_have_bounds() {
    let check = |id, value, expected| {
        let mut server = server();
        feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
        let outcome = outcome(&mut server, &settings(&[(id, value)]));
        assert_eq!(outcome, expected, "{id}: {value}");
    };
    let bad = Ends(Fault::Settings);
    for value in [0, 1] {
        check(2, value, Passes);
        check(8, value, Passes);
    }
    check(2, 2, bad);
    check(8, 2, bad);
    check(4, 0, Passes);
    check(4, 0x7fff_ffff, Passes);
    check(4, 0x8000_0000, Ends(Fault::Window));
    check(5, 16_383, bad);
    check(5, 16_384, Passes);
    check(5, 0x00ff_ffff, Passes);
    check(5, 0x0100_0000, bad);
    for id in [1, 3, 6] {
        check(id, 0, Passes);
        check(id, u32::MAX, Passes);
    }
    assert_eq!(Fault::Window.code(), ErrorCode::FLOW_CONTROL_ERROR);
    assert_eq!(Fault::Settings.code(), ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn settings_are_acknowledged_in_order_and_kept() {
    let mut server = server();
    let twice = settings(&[(5, 20_000), (5, 30_000)]);
    feed(&mut server, &[twice, settings(&[])].concat()).unwrap();
    let ack = (SETTINGS, END, 0, vec![]);
    assert_eq!(frames(&server.out), [ack.clone(), ack]);
    server.out.clear();
    feed(&mut server, &frame(HEADERS, WHOLE, 1, GET)).unwrap();
    server.send_data(1, &[0; 40_000], true);
    let lengths: Vec<_> = frames(&server.out).iter().map(|it| it.3.len()).collect();
    assert_eq!(lengths, [30_000, 10_000]);
}

#[test]
fn pings_are_echoed() {
    let mut server = server();
    feed(&mut server, &frame(PING, 0, 0, b"12345678")).unwrap();
    let echo = (PING, END, 0, b"12345678".to_vec());
    assert_eq!(frames(&server.out), [echo]);
    let saws = feed(&mut server, &frame(PING, END, 0, b"12345678"));
    assert_eq!(saws, Ok(vec![Saw::Pong]));
}

/// RFC 9113 section 4.3 and RFC 7541: after any of these the tables differ.
#[test]
fn broken_compression_ends_the_connection() {
    let check = |block: &[u8]| {
        let outcome = outcome(&mut server(), &frame(HEADERS, WHOLE, 1, block));
        assert_eq!(outcome, Ends(Fault::Compression), "{block:?}");
    };
    check(&[0x80]);
    check(&[0x80 | 62]);
    check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    check(&[0x40, 5, b'x']);
    check(&[0x82, 0x20]);
    check(&[0x3f, 0xe2, 0x1f]);
    check(&[0x20, 0x20, 0x20]);
    check(&[0x00, 0x81, 0xff, 0]);
    check(&GET[..GET.len() - 1]);
    // On a stream that nobody wants just as well.
    let mut server = server_in_which_one_is_reset();
    let bytes = frame(HEADERS, WHOLE, 1, &[0x80]);
    assert_eq!(outcome(&mut server, &bytes), Ends(Fault::Compression));
}

fn server_in_which_one_is_reset() -> Connection {
    let mut server = server();
    feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
    server.reset(1, ErrorCode::CANCEL);
    server
}

#[test]
fn what_the_peer_is_told_at_the_end_is_the_code_of_the_fault() {
    for &fault in Fault::ALL {
        let mut server = server();
        server.give_up(fault);
        let [(GOAWAY, 0, 0, payload)] = &frames(&server.out)[..] else {
            panic!("{fault:?}");
        };
        let code = u32::from_be_bytes(payload[4..].try_into().unwrap());
        let expected = match fault {
            Fault::StreamsExceeded => ErrorCode::ENHANCE_YOUR_CALM,
            fault => fault.code(),
        };
        assert_eq!((&payload[..4], code), (&[0; 4][..], expected.0));
    }
}

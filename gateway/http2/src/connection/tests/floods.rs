//! Peers that make work (the attack classes "Rapid Reset; MadeYouReset", "CONTINUATION flood",
//! "PING/SETTINGS/empty floods" and "HPACK / HTTP/2 bomb"): each is told to calm down after a bounded
//! number of frames, and until then has made us keep or write little.

use super::wire::*;
use super::*;

/// What one connection may have waiting, nothing of it being read, and no body among it.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// Sends the same kind of thing over and over, all at one moment and reading nothing; how often until
/// the connection ended for the fault.
fn flood(
    of: &mut Connection,
    fault: Fault,
    mut bytes: impl FnMut(&mut Connection, u32) -> Vec<u8>,
) -> u32 {
    for round in 0..100_000 {
        let bytes = bytes(of, round);
        let result = feed(of, &bytes);
        assert!(of.out.len() < OUT_BYTES_MAX, "{}", of.out.len());
        assert!(of.block.len() <= Limits::default().block_bytes_max as usize);
        if let Err(ended) = result {
            assert_eq!(ended, fault);
            assert_eq!(ended.code(), ErrorCode::ENHANCE_YOUR_CALM);
            return round;
        }
    }
    panic!("{fault:?} never came");
}

/// A body is taken a byte at a time: each opening of the window costs us a frame.
#[test]
fn a_window_that_opens_by_crumbs() {
    let mut server = server();
    let small = [settings(&[(4, 1)]), frame(HEADERS, WHOLE, 1, GET)].concat();
    feed(&mut server, &small).unwrap();
    let mut sent = 0;
    let count = flood(&mut server, Fault::ControlFlood, |server, _| {
        server.out.clear();
        sent += server.send_data(1, &[0; 1000], false);
        window_update(1, 1)
    });
    assert_eq!(count, 501);
    assert_eq!(sent, count as usize + 1);
}

/// Frames that ask for nothing at a server where stream 1 is open; all have the same budget.
#[test]
fn floods_of_frames_that_ask_for_nothing() {
    let check = |what: &str, bytes: Vec<u8>, rounds| {
        let mut server = server();
        feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
        server.replies_due = 0;
        let count = flood(&mut server, Fault::ControlFlood, |_, _| bytes.clone());
        // One was the acknowledgement of our settings.
        assert_eq!(count, rounds, "{what}");
    };
    check("PING", frame(PING, 0, 0, &[0; 8]), 499);
    check(
        "PING that answers nothing",
        frame(PING, END, 0, &[0; 8]),
        499,
    );
    check("SETTINGS", settings(&[]), 499);
    let many = settings(&[(4, 1), (4, 0x7fff_ffff)].repeat(1000));
    check("many SETTINGS", many, 499);
    let ack = frame(SETTINGS, END, 0, &[]);
    check("SETTINGS that answer nothing", ack, 499);
    check("PRIORITY", frame(PRIORITY, 0, 1, &[0; 5]), 499);
    let idle = frame(PRIORITY, 0, 77, &[0; 5]);
    check("PRIORITY of idle streams", idle, 499);
    check("empty DATA", frame(DATA, 0, 1, &[]), 499);
    let padded = frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat());
    check("DATA of padding alone", padded, 499);
    check("WINDOW_UPDATE", window_update(1, 1), 499);
    check("WINDOW_UPDATE of all", window_update(0, 1), 499);
    check("unknown", frame(0xbe, 0, 0, &[]), 499);
    check("GOAWAY", goaway(0), 499);
    let both = [window_update(0, 1), window_update(1, 1)].concat();
    check("WINDOW_UPDATE of both", both, 249);
}

#[test]
fn floods_on_streams_that_are_gone() {
    let check = |what: &str, bytes: Vec<u8>, fault, rounds| {
        let mut server = server();
        feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
        server.reset(1, ErrorCode::CANCEL);
        server.replies_due = 0;
        let count = flood(&mut server, fault, |_, _| bytes.clone());
        assert_eq!(count, rounds, "{what}");
    };
    let control = Fault::ControlFlood;
    check("HEADERS", frame(HEADERS, WHOLE, 1, GET), control, 499);
    check("WINDOW_UPDATE", window_update(1, 1), control, 499);
    check("empty DATA", frame(DATA, 0, 1, &[]), control, 499);
    check("RST_STREAM", rst_stream(1), Fault::ResetFlood, 200);
    // Streams above the last one that we told of.
    let mut server = server();
    server.end();
    let count = flood(&mut server, control, |_, round| {
        frame(HEADERS, WHOLE, 2 * round + 1, GET)
    });
    assert_eq!(count, 499);
}

#[test]
fn a_flood_of_continuations_ends() {
    let check = |first: &[u8], piece: &[u8], fault, rounds| {
        let mut server = server();
        feed(&mut server, &frame(HEADERS, END, 1, first)).unwrap();
        let bytes = frame(CONTINUATION, 0, 1, piece);
        let count = flood(&mut server, fault, |_, _| bytes.clone());
        assert_eq!(count, rounds, "{} bytes", piece.len());
        assert_eq!(server.out.len(), 0);
    };
    check(b"", b"", Fault::ControlFlood, 498);
    check(GET, b"", Fault::ControlFlood, 499);
    check(GET, &[0x82], Fault::ControlFlood, 499);
    check(GET, &[0; 100], Fault::BlockTooLong, 327);
    check(GET, &[0; 16_384], Fault::BlockTooLong, 1);
}

#[test]
fn rapid_resets_end() {
    let get = |round| frame(HEADERS, WHOLE, 2 * round + 1, GET);
    let mut server = server();
    let count = flood(&mut server, Fault::ResetFlood, |_, round| {
        [get(round), rst_stream(2 * round + 1)].concat()
    });
    // The last one is still there: its reset was one too many.
    assert_eq!((count, server.stream_count()), (200, 1));
    // Streams that are refused because there are too many are resets too.
    let mut server = super::wire::server();
    let count = flood(&mut server, Fault::ResetFlood, |_, round| get(round));
    assert_eq!((count, server.stream_count()), (300, 100));
}

/// Whatever makes us reset is as good as a reset of the peer's: CVE-2025-8671.
#[test]
fn streams_that_the_peer_makes_us_reset_count() {
    type Break = fn(u32) -> Vec<u8>;
    let breaks: [(&str, Break); 10] = [
        ("overflow", |id| {
            [window_update(id, 0x7fff_0000), window_update(id, 0xffff)].concat()
        }),
        ("nothing", |id| window_update(id, 0)),
        ("own priority", |id| {
            frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[0]].concat())
        }),
        ("short priority", |id| frame(PRIORITY, 0, id, &[0; 4])),
        ("second head", |id| frame(HEADERS, END_HEADERS, id, GET)),
        ("bad trailers", |id| frame(HEADERS, WHOLE, id, GET)),
        ("too long", |id| frame(DATA, 0, id, b"too long")),
        ("too short", |id| frame(DATA, END, id, b"")),
        ("too short with trailers", |id| {
            frame(HEADERS, WHOLE, id, TRAILERS)
        }),
        ("data after the end", |id| {
            [frame(DATA, END, id, b"abcde"), frame(DATA, 0, id, b"x")].concat()
        }),
    ];
    for (what, breaks) in breaks {
        let mut server = server();
        server.control = Budget::new(u32::MAX);
        let count = flood(&mut server, Fault::ResetFlood, |server, round| {
            let id = 2 * round + 1;
            feed(server, &frame(HEADERS, END_HEADERS, id, POST)).unwrap();
            server.expect_body(id, 5);
            breaks(id)
        });
        assert_eq!(count, 200, "{what}");
    }
    // Half-closed at once.
    let mut server = server();
    let count = flood(&mut server, Fault::ResetFlood, |_, round| {
        let id = 2 * round + 1;
        frame(HEADERS, WHOLE, id, GET).repeat(2)
    });
    assert_eq!(count, 200);
    // Its head is a fault already.
    let mut server = super::wire::server();
    let count = flood(&mut server, Fault::ResetFlood, |_, round| {
        let id = 2 * round + 1;
        let priority = [&id.to_be_bytes()[..], &[0], GET].concat();
        frame(HEADERS, WHOLE | WITH_PRIORITY, id, &priority)
    });
    assert_eq!(count, 200);
}

/// CVE-2016-6581: one large entry of the table, and a byte for each mention of it.
#[test]
fn a_block_that_expands_too_far_ends_the_connection() {
    let mut large = vec![0x40, 1, b'x', 0x7f, 0x81, 0x1e];
    large.extend(vec![b'v'; 0x7f + 1 + 0xf00]);
    let mut server = server();
    let seed = [GET, &large].concat();
    let saws = feed(&mut server, &frame(HEADERS, WHOLE, 1, &seed)).unwrap();
    assert!(matches!(saws[..], [Saw::Head(1, true, _, None)]));
    let mention = |count| [GET, &vec![0x80 | 62; count]].concat();
    let mut text = Vec::new();
    let bytes = frame(HEADERS, WHOLE, 3, &mention(30));
    let (_, event) = server.receive(&bytes, 0, &mut text).unwrap();
    let Some(Event::Head { verdict, .. }) = event else {
        panic!("{event:?}");
    };
    assert_eq!(verdict.fault, Some(crate::MessageFault::TooLarge));
    assert!(text.capacity() <= 64 * 1024, "{}", text.capacity());
    text.clear();
    let bytes = frame(HEADERS, WHOLE, 5, &mention(16_000));
    let bomb = server.receive(&bytes, 0, &mut text).map(|_| ());
    assert_eq!(bomb, Err(Fault::FieldBomb));
    assert!(text.capacity() <= 64 * 1024, "{}", text.capacity());
}

#[test]
fn crumbs_are_counted() {
    // CVE-2026-49975: small cookies, each a byte, joined to something large.
    let mut block = GET.to_vec();
    block.extend([0x60, 1, b'a']);
    block.extend([0x80 | 62].repeat(16_000));
    let mut text = Vec::new();
    let mut server = server();
    let bytes = frame(HEADERS, WHOLE, 1, &block);
    let result = server.receive(&bytes, 0, &mut text).map(|_| ());
    assert_eq!(result, Err(Fault::FieldBomb));
    assert!(text.len() < 1024 && server.scribe.capacity() < 4 * 1024);
    let saws = feed(
        &mut super::wire::server(),
        &frame(HEADERS, WHOLE, 1, &block[..GET.len() + 3 + 110]),
    );
    let [Saw::Head(_, _, _, fault)] = &saws.unwrap()[..] else {
        panic!("one head");
    };
    assert_eq!(*fault, Some(crate::MessageFault::TooMany));
}

/// Time makes the budgets whole, but answers that nobody reads stay.
#[test]
fn answers_that_are_not_read_end_the_connection() {
    let mut server = server();
    let ping = frame(PING, 0, 0, &[0; 8]);
    let mut ended = None;
    for round in 0..100_000_u64 {
        // As often as the budget allows.
        if let Err(fault) = feed_at(&mut server, &ping, round * 20) {
            ended = Some((fault, round));
            break;
        }
    }
    let pings = 256 * 1024 / 17;
    assert_eq!(ended, Some((Fault::OutputFlood, pings)));
    assert!(server.out.len() <= 256 * 1024);
    // Whoever reads gets answers for ever.
    let mut server = super::wire::server();
    for round in 0..50_000 {
        assert_eq!(feed_at(&mut server, &ping, round * 20), Ok(vec![]));
        server.out.clear();
    }
}

/// A reset does not buy itself free: requests that were served do, and never more than the budget.
#[test]
fn resets_are_paid_for_by_requests_that_are_served() {
    let mut server = server();
    let mut next = 1;
    for _ in 0..1000 {
        feed(&mut server, &frame(HEADERS, WHOLE, next, GET)).unwrap();
        answer(&mut server, next);
        server.out.clear();
        next += 2;
    }
    let count = flood(&mut server, Fault::ResetFlood, |_, round| {
        let id = next + 2 * round;
        [frame(HEADERS, WHOLE, id, GET), rst_stream(id)].concat()
    });
    assert_eq!(count, 200);
}

/// A server may not flood its client either.
#[test]
fn floods_of_servers_end() {
    let check = |what: &str, bytes: Vec<u8>, fault, rounds| {
        let mut client = client();
        ask(&mut client, false);
        feed(&mut client, &frame(HEADERS, END_HEADERS, 1, STATUS_200)).unwrap();
        client.out.clear();
        client.replies_due = 0;
        let count = flood(&mut client, fault, |_, _| bytes.clone());
        assert_eq!(count, rounds, "{what}");
    };
    let control = Fault::ControlFlood;
    check("PING", frame(PING, 0, 0, &[0; 8]), control, 499);
    check("SETTINGS", settings(&[(3, 1)]), control, 499);
    check("WINDOW_UPDATE", window_update(1, 1), control, 499);
    check("empty DATA", frame(DATA, 0, 1, &[]), control, 499);
    check("GOAWAY", goaway(1), control, 499);
    let mut client = client();
    let count = flood(&mut client, Fault::ResetFlood, |client, _| {
        let stream = ask(client, true);
        client.out.clear();
        frame(DATA, 0, stream, b"x")
    });
    assert_eq!(count, 200);
}

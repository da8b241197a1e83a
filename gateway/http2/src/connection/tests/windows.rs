//! Windows (RFC 9113 sections 5.2, 6.5.2 and 6.9): what may be sent either way, to the byte.

use super::wire::*;
use super::*;
use Outcome::*;

const SMALL: Limits = Limits {
    stream_window_bytes: 1000,
    connection_window_bytes: 65_535,
    ..DEFAULT
};

/// As `Limits::default`, which is no constant.
const DEFAULT: Limits = Limits {
    streams_max: 100,
    stream_window_bytes: 256 * 1024,
    connection_window_bytes: 1024 * 1024,
    head_bytes_max: 32 * 1024,
    field_count_max: 100,
    block_bytes_max: 32 * 1024,
    control_frames_max: 500,
    resets_max: 200,
    table_bytes_max: 4096,
};

fn open(server: &mut Connection, stream: u32) {
    let head = frame(HEADERS, END_HEADERS, stream, POST);
    assert_eq!(outcome(server, &head), Passes);
}

/// What the peer has left of the window of all, as it knows.
fn connection_window(of: &Connection) -> i64 {
    of.receive_window + i64::from(of.consumed)
}

#[test]
fn a_window_grows_up_to_its_limit() {
    let most = 0x7fff_ffff - 65_535;
    let mut server = server();
    open(&mut server, 1);
    for stream in [0, 1] {
        assert_eq!(outcome(&mut server, &window_update(stream, most)), Passes);
    }
    assert_eq!(
        outcome(&mut server, &window_update(1, 1)),
        Breaks(Fault::Window)
    );
    assert_eq!(
        outcome(&mut server, &window_update(0, 1)),
        Ends(Fault::Window)
    );
    let nothing = window_update(0, 0);
    assert_eq!(outcome(&mut server, &nothing), Ends(Fault::WindowIncrement));
    // By a setting as well.
    let mut server = super::wire::server();
    open(&mut server, 1);
    feed(&mut server, &window_update(1, most)).unwrap();
    let more = settings(&[(4, 65_536)]);
    assert_eq!(outcome(&mut server, &more), Ends(Fault::Window));
}

#[test]
fn a_setting_makes_windows_negative_and_they_recover() {
    for role in [Role::Server, Role::Client] {
        let mut connection = match role {
            Role::Server => server(),
            Role::Client => client(),
        };
        match role {
            Role::Server => open(&mut connection, 1),
            Role::Client => assert_eq!(ask(&mut connection, false), 1),
        }
        assert_eq!(connection.send_data(1, &[0; 1000], false), 1000);
        feed(&mut connection, &settings(&[(4, 100)])).unwrap();
        assert_eq!(connection.sendable(1), Some(0));
        assert_eq!(connection.send_data(1, b"x", true), 0);
        // It is at -900.
        feed(&mut connection, &window_update(1, 900)).unwrap();
        assert_eq!(connection.sendable(1), Some(0));
        feed(&mut connection, &window_update(1, 7)).unwrap();
        assert_eq!(connection.sendable(1), Some(7));
        feed(&mut connection, &settings(&[(4, 103)])).unwrap();
        assert_eq!(connection.sendable(1), Some(10));
        // The window of all is nobody's setting.
        feed(&mut connection, &settings(&[(4, 0x7fff_0000)])).unwrap();
        assert_eq!(connection.sendable(1), Some(65_535 - 1000));
        // An end takes no room.
        feed(&mut connection, &settings(&[(4, 0)])).unwrap();
        connection.out.clear();
        connection.send_data(1, b"", true);
        assert_eq!(frames(&connection.out), [(DATA, END, 1, vec![])]);
    }
}

#[test]
fn more_than_the_window_breaks_the_stream_or_ends_the_connection() {
    let mut server = server_with(SMALL);
    open(&mut server, 1);
    assert_eq!(outcome(&mut server, &frame(DATA, 0, 1, &[0; 1000])), Passes);
    let one = frame(DATA, 0, 1, b"x");
    assert_eq!(outcome(&mut server, &one), Breaks(Fault::WindowExceeded));
    assert_eq!(connection_window(&server), 65_535 - 1000);

    let mut server = server_with(DEFAULT);
    open(&mut server, 1);
    open(&mut server, 3);
    open(&mut server, 5);
    open(&mut server, 7);
    open(&mut server, 9);
    let body = vec![0; 16_384];
    for stream in [1, 3, 5, 7] {
        for _ in 0..16 {
            let data = frame(DATA, 0, stream, &body);
            assert_eq!(outcome(&mut server, &data), Passes);
        }
    }
    let one = frame(DATA, 0, 9, b"x");
    assert_eq!(outcome(&mut server, &one), Ends(Fault::WindowExceeded));
}

/// Until the client knows of a smaller window it goes by the usual one (RFC 9113 section 6.5.3).
#[test]
fn a_window_is_smaller_once_the_peer_knows() {
    let mut server = Connection::new(Role::Server, SMALL);
    feed(&mut server, &[frame::PREFACE, &settings(&[])].concat()).unwrap();
    open(&mut server, 1);
    assert_eq!(
        outcome(&mut server, &frame(DATA, 0, 1, &[0; 16_384])),
        Passes
    );
    feed(&mut server, &frame(SETTINGS, END, 0, &[])).unwrap();
    open(&mut server, 3);
    let data = frame(DATA, 0, 3, &[0; 1001]);
    assert_eq!(outcome(&mut server, &data), Breaks(Fault::WindowExceeded));
}

/// However a body ends up, its bytes come back to the window that all streams share, to the last.
#[test]
fn the_window_of_all_does_not_leak() {
    let body = frame(DATA, PADDED, 1, &[&[9][..], &[0; 509]].concat());
    let bytes = 510;
    type Before = fn(&mut Connection);
    let checks: [(&str, Before, usize); 7] = [
        ("taken", |_| {}, 500),
        ("reset by us", |it| it.reset(1, ErrorCode::CANCEL), 0),
        ("reset by the peer", |it| drop(feed(it, &rst_stream(1))), 0),
        ("beyond the length", |it| it.expect_body(1, 1), 0),
        ("over", |it| drop(feed(it, &frame(DATA, END, 1, b""))), 0),
        (
            "over on both sides",
            |it| {
                feed(it, &frame(DATA, END, 1, b"")).unwrap();
                answer(it, 1);
            },
            0,
        ),
        (
            "beyond the window",
            |it| {
                let stream = it.streams.of(1).unwrap();
                stream.receive_window = 5;
            },
            0,
        ),
    ];
    for (what, before, taken) in checks {
        let mut server = server_with(SMALL);
        open(&mut server, 1);
        before(&mut server);
        let saws = feed(&mut server, &body).unwrap();
        let received: usize = saws
            .iter()
            .map(|saw| match saw {
                Saw::Data(_, bytes, _) => bytes.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(received, taken, "{what}");
        assert_eq!(connection_window(&server), 65_535 - taken as i64, "{what}");
        server.consume(1, received);
        assert_eq!(connection_window(&server), 65_535, "{what}");
        assert!(bytes > taken);
    }
    // Streams that were passed over at the end.
    let mut server = server_with(SMALL);
    server.end();
    feed(&mut server, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap();
    assert_eq!(outcome(&mut server, &body), Ignored);
    assert_eq!(connection_window(&server), 65_535);
}

/// What was received and not consumed when a stream ended is given back by whoever holds it.
#[test]
fn what_is_held_of_a_stream_that_is_gone_is_given_back() {
    let mut server = server_with(SMALL);
    open(&mut server, 1);
    feed(&mut server, &frame(DATA, 0, 1, &[0; 700])).unwrap();
    feed(&mut server, &rst_stream(1)).unwrap();
    assert_eq!(connection_window(&server), 65_535 - 700);
    server.consume(1, 700);
    assert_eq!(connection_window(&server), 65_535);
}

#[test]
fn windows_are_opened_in_large_pieces() {
    let mut server = server_with(SMALL);
    open(&mut server, 1);
    let mut updates = Vec::new();
    for _ in 0..200 {
        feed(&mut server, &frame(DATA, 0, 1, &[0; 400])).unwrap();
        server.consume(1, 400);
        let sent = frames(&std::mem::take(&mut server.out));
        updates.extend(sent.into_iter().map(|it| (it.2, it.3)));
    }
    let of_stream = updates.iter().filter(|it| it.0 == 1);
    assert!(of_stream.clone().all(|it| it.1 == 800_u32.to_be_bytes()));
    assert_eq!(of_stream.count(), 100);
    assert_eq!(updates.iter().filter(|it| it.0 == 0).count(), 2);
    assert!(server.receive_window <= 65_535);
}

/// The last frames of a body open no window that nobody needs.
#[test]
fn a_body_that_is_over_opens_no_window() {
    let mut server = server_with(SMALL);
    open(&mut server, 1);
    feed(&mut server, &frame(DATA, END, 1, &[0; 900])).unwrap();
    server.out.clear();
    server.consume(1, 900);
    assert_eq!(frames(&server.out), []);
}

#[test]
fn bodies_are_as_long_as_they_say() {
    let check = |length, frames: &[(u8, u8, usize)], expected| {
        let mut server = server();
        open(&mut server, 1);
        server.expect_body(1, length);
        let mut last = Ignored;
        for &(kind, flags, bytes) in frames {
            let payload = match kind {
                DATA => vec![0; bytes],
                _ => TRAILERS.to_vec(),
            };
            last = outcome(&mut server, &frame(kind, flags, 1, &payload));
        }
        assert_eq!(last, expected, "{length} in {frames:?}");
    };
    let wrong = Breaks(Fault::BodyLength);
    check(5, &[(DATA, END, 5)], Passes);
    check(5, &[(DATA, 0, 5), (DATA, END, 0)], Passes);
    check(5, &[(DATA, 0, 5), (HEADERS, WHOLE, 0)], Passes);
    check(5, &[(DATA, 0, 2), (DATA, 0, 0), (DATA, END, 3)], Passes);
    check(0, &[(DATA, END, 0)], Passes);
    check(0, &[(HEADERS, WHOLE, 0)], Passes);
    check(5, &[(DATA, END, 4)], wrong);
    check(5, &[(DATA, END, 6)], wrong);
    check(5, &[(DATA, 0, 5), (DATA, 0, 1)], wrong);
    check(5, &[(DATA, END, 0)], wrong);
    check(5, &[(HEADERS, WHOLE, 0)], wrong);
    check(5, &[(DATA, 0, 4), (HEADERS, WHOLE, 0)], wrong);
    check(0, &[(DATA, 0, 1)], wrong);
    check(u64::MAX, &[(DATA, 0, 1)], Passes);
}

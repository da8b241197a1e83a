//! Two ends of a connection talking to each other.

use super::*;

/// What one end saw.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Head(u32, bool, String),
    Data(u32, Vec<u8>, bool),
    Trailers(u32, String),
    Reset(u32, ErrorCode),
    Broken(u32, Fault),
    Goaway(u32, ErrorCode),
    Pong,
}

/// Passes what waits at one end to the other, a few bytes at a time; what that sees.
fn pass(from: &mut Connection, to: &mut Connection, step: usize) -> Result<Vec<Seen>, Fault> {
    let bytes = std::mem::take(&mut from.out);
    let mut held = Vec::new();
    let mut seen = Vec::new();
    for piece in bytes.chunks(step) {
        held.extend_from_slice(piece);
        loop {
            let mut text = Vec::new();
            let (taken, event) = to.receive(&held, 0, &mut text)?;
            let text = String::from_utf8(text).unwrap();
            let is_none = event.is_none();
            match event {
                Some(Event::Head {
                    stream,
                    is_end,
                    verdict,
                }) => {
                    assert_eq!(verdict.fault, None);
                    seen.push(Seen::Head(stream, is_end, text));
                }
                Some(Event::Data {
                    stream,
                    bytes,
                    is_end,
                }) => seen.push(Seen::Data(stream, bytes.to_vec(), is_end)),
                Some(Event::Trailers { stream }) => seen.push(Seen::Trailers(stream, text)),
                Some(Event::Reset { stream, code }) => seen.push(Seen::Reset(stream, code)),
                Some(Event::Broken { stream, fault }) => seen.push(Seen::Broken(stream, fault)),
                Some(Event::Goaway { last, code }) => seen.push(Seen::Goaway(last, code)),
                Some(Event::Pong) => seen.push(Seen::Pong),
                Some(Event::Window { .. }) | None => {}
            }
            held.drain(..taken);
            if is_none {
                break;
            }
        }
    }
    assert!(held.is_empty(), "a frame stayed incomplete");
    Ok(seen)
}

fn pair(limits: Limits) -> (Connection, Connection) {
    let mut client = Connection::new(Role::Client, Limits::default());
    let mut server = Connection::new(Role::Server, limits);
    for _ in 0..2 {
        assert_eq!(pass(&mut client, &mut server, 7), Ok(vec![]));
        assert_eq!(pass(&mut server, &mut client, 7), Ok(vec![]));
    }
    (client, server)
}

fn ask(client: &mut Connection, is_end: bool) -> u32 {
    let stream = client.open().unwrap();
    client.send_head(stream, is_end, |head| {
        head.field(b":method", b"POST");
        head.field(b":scheme", b"https");
        head.field(b":authority", b"a.test");
        head.field(b":path", b"/");
        head.field(b"X-Name", b"value");
    });
    stream
}

const TEXT: &str = "POST / HTTP/1.1\r\nhost: a.test\r\nx-name: value\r\n\r\n";

#[test]
fn a_request_and_its_response_pass() {
    for step in [1, 5, 1000] {
        let (mut client, mut server) = pair(Limits::default());
        let stream = ask(&mut client, false);
        assert_eq!(client.send_data(stream, b"body", false), 4);
        client.send_head(stream, true, |head| head.field(b"x-trailer", b"t"));
        let seen = pass(&mut client, &mut server, step).unwrap();
        let Some(Seen::Trailers(_, trailers)) = seen.last() else {
            panic!("{seen:?}");
        };
        assert_eq!(trailers, "x-trailer: t\r\n\r\n");
        assert_eq!(seen[0], Seen::Head(stream, false, TEXT.into()));
        let body = seen.iter().filter_map(|it| match it {
            Seen::Data(_, bytes, false) => Some(bytes.clone()),
            _ => None,
        });
        assert_eq!(body.collect::<Vec<_>>().concat(), b"body");
        server.send_head(stream, false, |head| {
            head.status(103);
            head.field(b"link", b"</a>");
        });
        server.send_head(stream, false, |head| head.status(200));
        assert_eq!(server.send_data(stream, b"answer", true), 6);
        assert_eq!(server.stream_count(), 0);
        let seen = pass(&mut server, &mut client, step).unwrap();
        assert_eq!(
            seen[..2],
            [
                Seen::Head(stream, false, "HTTP/1.1 103 \r\nlink: </a>\r\n\r\n".into()),
                Seen::Head(stream, false, "HTTP/1.1 200 \r\n\r\n".into()),
            ]
        );
        assert!(
            matches!(seen.last(), Some(Seen::Data(_, _, true))),
            "{seen:?}"
        );
        assert_eq!(client.stream_count(), 0);
    }
}

#[test]
fn windows_are_kept_and_opened_again() {
    let limits = Limits {
        stream_window_bytes: 1000,
        connection_window_bytes: 100_000,
        ..Limits::default()
    };
    let (mut client, mut server) = pair(limits);
    let stream = ask(&mut client, false);
    let body = vec![7; 5000];
    assert_eq!(client.send_data(stream, &body, true), 1000);
    assert_eq!(client.sendable(stream), Some(0));
    let mut at = 1000;
    let mut received = 0;
    while received < body.len() {
        for seen in pass(&mut client, &mut server, 400).unwrap() {
            if let Seen::Data(_, bytes, is_end) = seen {
                received += bytes.len();
                assert_eq!(is_end, received == body.len());
                server.consume(stream, bytes.len());
            }
        }
        pass(&mut server, &mut client, 400).unwrap();
        at += client.send_data(stream, &body[at..], true);
    }
    assert_eq!(at, body.len());
}

#[test]
fn large_heads_go_in_several_frames() {
    let (mut client, mut server) = pair(Limits::default());
    let long = vec![b'x'; 20_000];
    let stream = client.open().unwrap();
    client.send_head(stream, true, |head| {
        head.field(b":method", b"GET");
        head.field(b":scheme", b"https");
        head.field(b":path", b"/");
        head.field(b"x", &long);
    });
    let seen = pass(&mut client, &mut server, 1 << 20).unwrap();
    assert!(matches!(&seen[..], [Seen::Head(_, true, text)] if text.len() > 20_000));
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let limits = Limits {
        streams_max: 2,
        ..Limits::default()
    };
    let mut client = Connection::new(Role::Client, Limits::default());
    let mut server = Connection::new(Role::Server, limits);
    let streams: Vec<_> = (0..3).map(|_| ask(&mut client, false)).collect();
    let seen = pass(&mut client, &mut server, 100).unwrap();
    let refused = Seen::Broken(streams[2], Fault::StreamsExceeded);
    assert_eq!((seen.len(), seen.last()), (3, Some(&refused)));
    let seen = pass(&mut server, &mut client, 100).unwrap();
    let refused = Seen::Reset(streams[2], ErrorCode::REFUSED_STREAM);
    assert_eq!(seen, [refused]);
    assert!(!client.can_open());
}

#[test]
fn resets_and_the_end_are_told() {
    let (mut client, mut server) = pair(Limits::default());
    let stream = ask(&mut client, false);
    pass(&mut client, &mut server, 100).unwrap();
    server.reset(stream, ErrorCode::CANCEL);
    // What was on its way is no fault.
    client.send_data(stream, b"late", false);
    client.send_head(stream, true, |head| head.field(b"t", b"late"));
    assert_eq!(pass(&mut client, &mut server, 100), Ok(vec![]));
    server.announce_end();
    let seen = pass(&mut server, &mut client, 100).unwrap();
    assert_eq!(
        seen,
        [
            Seen::Reset(stream, ErrorCode::CANCEL),
            Seen::Goaway(0x7fff_ffff, ErrorCode::NO_ERROR)
        ]
    );
    assert_eq!(pass(&mut client, &mut server, 100), Ok(vec![Seen::Pong]));
    server.end();
    let seen = pass(&mut server, &mut client, 100).unwrap();
    assert_eq!(seen, [Seen::Goaway(stream, ErrorCode::NO_ERROR)]);
    assert_eq!(client.open(), None);
}

#[test]
fn a_body_is_as_long_as_it_says() {
    for (bytes, is_end) in [(&b"abc"[..], true), (b"abcdef", false), (b"abcdef", true)] {
        let (mut client, mut server) = pair(Limits::default());
        let stream = ask(&mut client, false);
        pass(&mut client, &mut server, 100).unwrap();
        server.expect_body(stream, 5);
        client.send_data(stream, bytes, is_end);
        let seen = pass(&mut client, &mut server, 100).unwrap();
        assert_eq!(seen, [Seen::Broken(stream, Fault::BodyLength)]);
    }
    let (mut client, mut server) = pair(Limits::default());
    let stream = ask(&mut client, false);
    pass(&mut client, &mut server, 100).unwrap();
    server.expect_body(stream, 5);
    client.send_data(stream, b"abcde", true);
    let seen = pass(&mut client, &mut server, 1).unwrap();
    assert!(matches!(seen.last(), Some(Seen::Data(_, _, true))));
}

//! A whole connection of HTTP/2: what it comes to does not depend on how its bytes arrive, no message
//! is two, and a peer can make us write and keep only so much.

use cardea_http1::{HeadScan, RequestHead};
use cardea_http2::{Connection, ErrorCode, Event, Fault, Limits, PREFACE, Role};

/// What is known of the messages of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Head(u32, bool, Vec<u8>),
    Malformed(u32),
    Data(u32, Vec<u8>, bool),
    Trailers(u32, Vec<u8>),
    Reset(u32, ErrorCode),
    Broken(u32, Fault),
    Goaway(u32, ErrorCode),
    Pong,
}

/// What bytes come to: messages, why the connection ended if it did, and what was written.
type Course = (Vec<Seen>, Option<Fault>, Vec<u8>);

/// Any bytes as what a peer sends; a server has heard the preface already, and what both send first
/// is in the bytes.
pub fn http2(bytes: &[u8], role: Role) {
    for limits in limits() {
        let whole = course(role, limits, bytes, bytes.len().max(1));
        for length in [1, 7] {
            let pieces = course(role, limits, bytes, length);
            assert_eq!(pieces, whole, "a split changes messages");
        }
        for seen in &whole.0 {
            if let Seen::Head(_, _, text) = seen {
                is_one_message(role, text);
            }
        }
        is_frames(&whole.2);
    }
}

/// Limits as they are by default, and tight ones, so that short inputs reach them.
fn limits() -> [Limits; 2] {
    let tight = Limits {
        // As many as are asked for.
        streams_max: 3,
        stream_window_bytes: 64,
        head_bytes_max: 160,
        field_count_max: 4,
        block_bytes_max: 100,
        control_frames_max: 12,
        resets_max: 3,
        ..Limits::default()
    };
    [Limits::default(), tight]
}

fn course(role: Role, limits: Limits, bytes: &[u8], length: usize) -> Course {
    let mut connection = Connection::new(role, limits);
    if role == Role::Client {
        ask(&mut connection);
    } else {
        let greeted = connection.receive(PREFACE, 0, &mut Vec::new());
        assert_eq!(greeted, Ok((PREFACE.len(), None)));
    }
    connection.out.clear();
    let mut course = (Vec::new(), None, Vec::new());
    let mut held = Vec::new();
    for piece in bytes.chunks(length) {
        held.extend_from_slice(piece);
        match take_in(&mut connection, role, &held, &mut course.0) {
            Ok(taken) => drop(held.drain(..taken)),
            Err(fault) => {
                connection.give_up(fault);
                course.1 = Some(fault);
                break;
            }
        }
        if role == Role::Server {
            assert!(connection.stream_count() <= limits.streams_max as usize);
        }
        // Headers and answers to nine bytes each, and what `react` says.
        assert!(connection.out.len() <= 8 * bytes.len() + 64);
    }
    course.2 = std::mem::take(&mut connection.out);
    course
}

/// Requests of every kind: without a body, with one that has ended, and with one that has not.
fn ask(client: &mut Connection) {
    for (is_end, body) in [(true, None), (false, Some(true)), (false, Some(false))] {
        let stream = client.open().expect("nothing forbids it");
        client.send_head(stream, is_end, |head| {
            head.field(b":method", b"POST");
            head.field(b":scheme", b"https");
            head.field(b":authority", b"a.test");
            head.field(b":path", b"/");
        });
        if let Some(is_end) = body {
            client.send_data(stream, b"body", is_end);
        }
    }
}

/// Takes in bytes up to a frame that is not complete; how many those were.
fn take_in(
    connection: &mut Connection,
    role: Role,
    bytes: &[u8],
    seen: &mut Vec<Seen>,
) -> Result<usize, Fault> {
    let mut at = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        let (taken, event) = connection.receive(&bytes[at..], 0, &mut text)?;
        at += taken;
        let Some(event) = event else {
            assert!(bytes.len() - at <= 16 * 1024 + 9, "a frame has a size");
            return Ok(at);
        };
        let message = match event {
            Event::Head {
                stream,
                is_end,
                verdict,
            } => match verdict.fault {
                None => Seen::Head(stream, is_end, text.clone()),
                Some(_) => Seen::Malformed(stream),
            },
            Event::Data {
                stream,
                bytes,
                is_end,
            } => match seen.last_mut() {
                Some(Seen::Data(last, begun, is_over)) if *last == stream && !*is_over => {
                    begun.extend_from_slice(bytes);
                    *is_over = is_end;
                    react(connection, role, seen);
                    continue;
                }
                _ => Seen::Data(stream, bytes.to_vec(), is_end),
            },
            Event::Trailers { stream } => Seen::Trailers(stream, text.clone()),
            Event::Reset { stream, code } => Seen::Reset(stream, code),
            Event::Broken { stream, fault } => Seen::Broken(stream, fault),
            Event::Goaway { last, code } => Seen::Goaway(last, code),
            Event::Pong => Seen::Pong,
            Event::Window { .. } => continue,
        };
        seen.push(message);
        react(connection, role, seen);
    }
}

/// Does what a driver does: answers what has ended, resets what is malformed, knows of lengths.
fn react(connection: &mut Connection, role: Role, seen: &[Seen]) {
    match *seen.last().expect("something was seen") {
        Seen::Malformed(stream) => connection.reset(stream, ErrorCode::PROTOCOL_ERROR),
        Seen::Head(stream, false, ref text) if text.ends_with(b"5\r\n\r\n") => {
            connection.expect_body(stream, 5);
        }
        Seen::Head(stream, true, _) | Seen::Data(stream, _, true) | Seen::Trailers(stream, _)
            if role == Role::Server =>
        {
            connection.send_head(stream, false, |head| head.status(200));
            let is_end = stream % 4 == 1;
            let sent = connection.send_data(stream, b"hello", is_end);
            assert!(sent <= 5);
        }
        // As if it went away.
        Seen::Goaway(..) => connection.end(),
        _ => {}
    }
}

fn is_one_message(role: Role, text: &[u8]) {
    let ends = text.windows(4).filter(|it| it == b"\r\n\r\n").count();
    assert!(ends == 1 && text.ends_with(b"\r\n\r\n"));
    if role == Role::Server {
        let limits = cardea_http1::Limits::default();
        let verdict = RequestHead::default().receive(&mut HeadScan::request(), text, &limits);
        // Refused or not, it is not taken for something shorter.
        if let Ok(span) = verdict {
            assert_eq!(span.map(|it| it.end as usize), Some(text.len()));
        }
    }
}

/// What we write is whole frames.
fn is_frames(mut out: &[u8]) {
    while !out.is_empty() {
        let length = u32::from_be_bytes([0, out[0], out[1], out[2]]) as usize;
        assert!(
            length <= 16 * 1024 && out[3] <= 9,
            "a frame that nobody knows"
        );
        out = &out[9 + length..];
    }
}

//! Frames byte by byte, as a peer would write them that keeps no rule, and what comes of them.

use crate::connection::*;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// END_STREAM, or ACK.
pub(super) const END: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const WITH_PRIORITY: u8 = 0x20;
/// A whole message in one frame.
pub(super) const WHOLE: u8 = END | END_HEADERS;

/// `GET https://a/`, without making use of the dynamic table.
pub(super) const GET: &[u8] = &[0x82, 0x87, 0x84, 0x01, 1, b'a'];
pub(super) const POST: &[u8] = &[0x83, 0x87, 0x84, 0x01, 1, b'a'];
pub(super) const STATUS_200: &[u8] = &[0x88];
pub(super) const STATUS_103: &[u8] = &[0x08, 3, b'1', b'0', b'3'];
/// `t: v`
pub(super) const TRAILERS: &[u8] = &[0x00, 1, b't', 1, b'v'];

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(super) fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

pub(super) fn rst_stream(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &ErrorCode::CANCEL.0.to_be_bytes())
}

pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &settings_payload(settings))
}

pub(super) fn settings_payload(settings: &[(u16, u32)]) -> Vec<u8> {
    let bytes = settings.iter().map(|(id, value)| {
        let (id, value) = (id.to_be_bytes(), value.to_be_bytes());
        [&id[..], &value[..]].concat()
    });
    bytes.collect::<Vec<_>>().concat()
}

pub(super) fn goaway(last: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// What one end saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Saw {
    Head(u32, bool, String, Option<crate::MessageFault>),
    Data(u32, Vec<u8>, bool),
    Trailers(u32, String),
    Reset(u32, ErrorCode),
    Broken(u32, Fault),
    Window(u32),
    Pong,
    Goaway(u32, ErrorCode),
}

/// What all bytes come to, which end with a complete frame.
pub(super) fn feed(to: &mut Connection, bytes: &[u8]) -> Result<Vec<Saw>, Fault> {
    feed_at(to, bytes, 0)
}

pub(super) fn feed_at(to: &mut Connection, bytes: &[u8], now_ms: u64) -> Result<Vec<Saw>, Fault> {
    let mut saws = Vec::new();
    let taken = feed_some(to, bytes, now_ms, &mut saws)?;
    assert_eq!(taken, bytes.len(), "a frame stayed incomplete");
    Ok(saws)
}

/// Passes bytes on until no more are taken; how many that were.
pub(super) fn feed_some(
    to: &mut Connection,
    bytes: &[u8],
    now_ms: u64,
    saws: &mut Vec<Saw>,
) -> Result<usize, Fault> {
    let mut at = 0;
    loop {
        let mut text = Vec::new();
        let (taken, event) = to.receive(&bytes[at..], now_ms, &mut text)?;
        at += taken;
        let Some(event) = event else { return Ok(at) };
        let text = String::from_utf8_lossy(&text).into_owned();
        saws.push(match event {
            Event::Head {
                stream,
                is_end,
                verdict,
            } => Saw::Head(stream, is_end, text, verdict.fault),
            Event::Data {
                stream,
                bytes,
                is_end,
            } => Saw::Data(stream, bytes.to_vec(), is_end),
            Event::Trailers { stream } => Saw::Trailers(stream, text),
            Event::Reset { stream, code } => Saw::Reset(stream, code),
            Event::Broken { stream, fault } => Saw::Broken(stream, fault),
            Event::Window { stream } => Saw::Window(stream),
            Event::Pong => Saw::Pong,
            Event::Goaway { last, code } => Saw::Goaway(last, code),
        });
    }
}

/// The frames in what was written: kind, flags, stream, payload.
pub(super) fn frames(mut out: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while !out.is_empty() {
        let length = u32::from_be_bytes([0, out[0], out[1], out[2]]) as usize;
        let stream = u32::from_be_bytes([out[5], out[6], out[7], out[8]]);
        frames.push((out[3], out[4], stream, out[9..9 + length].to_vec()));
        out = &out[9 + length..];
    }
    frames
}

/// What one thing that a peer does comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The driver hears of it.
    Passes,
    /// Nothing happens.
    Ignored,
    /// The driver hears of nothing, the peer gets an answer.
    Answered,
    /// The stream is reset, and the driver hears of it.
    Breaks(Fault),
    /// A stream that is not open is reset.
    Resets(ErrorCode),
    /// The connection ends.
    Ends(Fault),
}

pub(super) fn outcome(of: &mut Connection, bytes: &[u8]) -> Outcome {
    of.out.clear();
    let saws = match feed(of, bytes) {
        Ok(saws) => saws,
        Err(fault) => return Outcome::Ends(fault),
    };
    let sent = frames(&of.out);
    let reset = sent.iter().find(|it| it.0 == RST_STREAM).map(|it| {
        let code: [u8; 4] = it.3[..].try_into().unwrap();
        (it.2, ErrorCode(u32::from_be_bytes(code)))
    });
    let broken = saws.iter().find_map(|saw| match saw {
        Saw::Broken(stream, fault) => Some((*stream, *fault)),
        _ => None,
    });
    match (broken, reset) {
        (Some((stream, fault)), reset) => {
            assert_eq!(reset, Some((stream, fault.code())), "the peer is told");
            assert!(!of.is_open(stream));
            Outcome::Breaks(fault)
        }
        (None, Some((_, code))) => Outcome::Resets(code),
        (None, None) if !saws.is_empty() => Outcome::Passes,
        (None, None) if !sent.is_empty() => Outcome::Answered,
        (None, None) => Outcome::Ignored,
    }
}

/// A server that a client has greeted, and whose own greeting is out.
pub(super) fn server() -> Connection {
    server_with(Limits::default())
}

pub(super) fn server_with(limits: Limits) -> Connection {
    let mut server = Connection::new(Role::Server, limits);
    let greeting = [
        frame::PREFACE,
        &settings(&[]),
        &frame(SETTINGS, END, 0, &[]),
    ]
    .concat();
    assert_eq!(feed(&mut server, &greeting), Ok(vec![Saw::Window(0)]));
    server.out.clear();
    server
}

/// A client that its server has greeted.
pub(super) fn client() -> Connection {
    client_with(Limits::default())
}

pub(super) fn client_with(limits: Limits) -> Connection {
    let mut client = Connection::new(Role::Client, limits);
    let greeting = [settings(&[]), frame(SETTINGS, END, 0, &[])].concat();
    assert_eq!(feed(&mut client, &greeting), Ok(vec![Saw::Window(0)]));
    client.out.clear();
    client
}

/// Asks for something.
pub(super) fn ask(client: &mut Connection, is_end: bool) -> u32 {
    let stream = client.open().unwrap();
    assert!(client.send_head(stream, is_end, |head| {
        head.field(b":method", b"POST");
        head.field(b":scheme", b"https");
        head.field(b":authority", b"a");
        head.field(b":path", b"/");
    }));
    stream
}

/// Answers with 200 and nothing else.
pub(super) fn answer(server: &mut Connection, stream: u32) {
    assert!(server.send_head(stream, true, |head| head.status(200)));
}

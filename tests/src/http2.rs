//! Either end of an HTTP/2 connection (RFC 9113), frame by frame: a client that sends what it is told,
//! an origin that answers as it is told, and a record of what came.
//!
//! Must not: keep a rule that a test wants broken. Only the windows are respected, by `send_body`, and
//! only settings and pings are answered unasked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::message::{Fields, Request, Response};
use crate::origin;
use crate::wire::{Ending, Wire};

mod frame;
pub mod hpack;

pub use frame::{Frame, code, flag, kind, setting};

/// The client's first words.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The fields that every request has, for a path of a host.
pub fn request<'f>(method: &'f str, host: &'f str, path: &'f str) -> Vec<(&'f str, &'f str)> {
    vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", host),
        (":path", path),
    ]
}

/// What holds the bytes of a connection.
pub trait Carrier {
    /// The bytes.
    fn wire(&mut self) -> &mut Wire;
}

impl Carrier for crate::Client {
    fn wire(&mut self) -> &mut Wire {
        self
    }
}

impl Carrier for &mut origin::Connection {
    fn wire(&mut self) -> &mut Wire {
        self
    }
}

/// What came on one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// The field lists, in their order: heads, interim ones among them, and trailers.
    pub lists: Vec<Vec<(String, String)>>,
    /// The body.
    pub body: Vec<u8>,
    /// DATA frames.
    pub frames: usize,
    /// Whether the peer ended the stream cleanly.
    pub is_ended: bool,
    /// The code with which it was reset.
    pub reset: Option<u32>,
}

impl Received {
    /// Whether nothing more is to come.
    pub fn is_over(&self) -> bool {
        self.is_ended || self.reset.is_some()
    }
}

/// Why a response did not come whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The stream was reset, after this had come.
    Reset(u32, Box<Received>),
    /// The connection ended.
    Ended(Ending),
}

/// One end of a connection.
#[derive(Debug)]
pub struct Peer<C> {
    carrier: C,
    next_stream: u32,
    /// What came on each stream.
    pub streams: BTreeMap<u32, Received>,
    /// The last stream and the code of each GOAWAY.
    pub goaways: Vec<(u32, u32)>,
    /// The settings of the peer.
    pub settings: BTreeMap<u16, u32>,
    /// Echoes of pings.
    pub pongs: usize,
    /// Whether the other end may go on sending bodies as they are read.
    pub opens_windows: bool,
    /// Whether settings and pings are answered.
    pub answers: bool,
    window: i64,
    windows: BTreeMap<u32, i64>,
    block: Vec<u8>,
    block_flags: u8,
}

/// A client of HTTP/2.
pub type Client = Peer<crate::Client>;

/// An origin's side of a connection of HTTP/2.
pub type Server<'c> = Peer<&'c mut origin::Connection>;

impl Client {
    /// Connects in plain text and introduces itself.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(crate::Client::connect(address), &[])
    }

    /// Connects over TLS, where HTTP/2 has to be agreed on.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        let client = crate::Client::connect_tls(address, config, name);
        assert_eq!(client.tls().alpn_protocol(), Some(&b"h2"[..]));
        Self::over(client, &[])
    }

    /// Introduces itself on a connection with these settings, and waits for the gateway's.
    #[track_caller]
    pub fn over(client: crate::Client, settings: &[(u16, u32)]) -> Self {
        let mut peer = Peer::new(client);
        let first = [PREFACE, &Frame::settings(settings).bytes()].concat();
        peer.carrier.wire().send(first);
        peer.pump_until("the gateway's settings", |peer| !peer.settings.is_empty());
        peer
    }

    /// Opens a stream with a head.
    #[track_caller]
    pub fn open<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, fields: &[(N, V)], ends: bool) -> u32 {
        let stream = self.new_stream();
        let flags = if ends { flag::END_STREAM } else { 0 };
        self.send(&Frame::headers(stream, flags, fields));
        stream
    }

    /// The number of the next stream, which is used up.
    pub fn new_stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// Asks for a path and reads the response.
    #[track_caller]
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.ask(&request("GET", host, path))
    }

    /// Sends a request without a body and reads the response.
    #[track_caller]
    pub fn ask<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, fields: &[(N, V)]) -> Response {
        let stream = self.open(fields, true);
        self.response(stream)
    }

    /// Sends a request with a body and reads the response.
    #[track_caller]
    pub fn post(&mut self, host: &str, path: &str, body: &[u8]) -> Response {
        let stream = self.open(&request("POST", host, path), false);
        self.send_body(stream, body, true);
        self.response(stream)
    }

    /// Reads the response on a stream.
    ///
    /// # Panics
    /// If it does not come whole.
    #[track_caller]
    pub fn response(&mut self, stream: u32) -> Response {
        self.try_response(stream)
            .unwrap_or_else(|loss| panic!("no whole response on {stream}: {loss:?}"))
    }

    /// As `response`, for responses that may be cut.
    ///
    /// # Errors
    /// What became of it.
    pub fn try_response(&mut self, stream: u32) -> Result<Response, Loss> {
        while !self.of(stream).is_over() {
            self.pump().map_err(Loss::Ended)?;
        }
        let received = self.of(stream);
        // A reset after the end does not undo what came (RFC 9113 section 8.1).
        if !received.is_ended {
            let code = received.reset.unwrap_or_default();
            return Err(Loss::Reset(code, Box::new(received)));
        }
        Ok(response_of(&received))
    }
}

/// The lists and the body of a stream as a response.
#[track_caller]
fn response_of(received: &Received) -> Response {
    let mut heads = Vec::new();
    let mut trailers = Fields::default();
    for list in &received.lists {
        let Some((_, status)) = list.iter().find(|(name, _)| name == ":status") else {
            trailers = Fields(list.clone());
            continue;
        };
        assert!(list[0].0 == ":status", "the status comes first: {list:?}");
        heads.push(Response {
            version: "HTTP/2".into(),
            status: status.parse().expect("a status"),
            fields: Fields(list[1..].to_vec()),
            ..Response::default()
        });
    }
    let mut response = heads.pop().expect("a head");
    assert!(response.status >= 200, "no final head: {received:?}");
    response.interim = heads;
    response.body.clone_from(&received.body);
    response.trailers = trailers;
    response
}

impl<'c> Server<'c> {
    /// Speaks HTTP/2 on a connection that an origin accepted, with these settings.
    pub fn accept(connection: &'c mut origin::Connection, settings: &[(u16, u32)]) -> Self {
        let mut peer = Peer::new(connection);
        peer.try_send(&Frame::settings(settings));
        if let Ok(first) = peer.carrier.wire().take(PREFACE.len()) {
            assert_eq!(first, PREFACE, "what a client says first");
        }
        peer
    }

    /// The connection underneath.
    pub fn connection(&mut self) -> &mut origin::Connection {
        self.carrier
    }

    /// Waits for the head of the next request, whose stream is above `last`; `None` when the
    /// connection ends first.
    pub fn head(&mut self, last: u32) -> Option<u32> {
        loop {
            let mut above = self.streams.range(last + 1..);
            if let Some((&stream, _)) = above.find(|(_, it)| !it.lists.is_empty()) {
                return Some(stream);
            }
            self.pump().ok()?;
        }
    }

    /// Waits for the next whole request, which is put on record; `None` when the connection ends
    /// first.
    pub fn request(&mut self, last: u32) -> Option<(u32, Request)> {
        let stream = self.head(last)?;
        while !self.of(stream).is_over() {
            self.pump().ok()?;
        }
        let request = self.request_of(stream);
        self.carrier.record(request.clone());
        Some((stream, request))
    }

    /// What came on a stream, as a request.
    #[track_caller]
    pub fn request_of(&self, stream: u32) -> Request {
        let received = self.of(stream);
        let (pseudo, fields): (Vec<_>, Vec<_>) = received.lists[0]
            .iter()
            .cloned()
            .partition(|(name, _)| name.starts_with(':'));
        let pseudo = Fields(pseudo);
        let part = |name: &str| pseudo.get(name).unwrap_or_default().to_owned();
        Request {
            method: part(":method"),
            target: part(":path"),
            version: "HTTP/2".into(),
            head: format!("{:?}", received.lists[0]),
            fields: Fields(fields),
            body: received.body,
            trailers: Fields(received.lists.get(1).cloned().unwrap_or_default()),
            is_whole: received.is_ended,
            ..Request::default()
        }
    }

    /// Answers a request.
    pub fn answer(&mut self, stream: u32, status: &str, body: &[u8]) {
        let flags = if body.is_empty() { flag::END_STREAM } else { 0 };
        self.try_send(&Frame::headers(stream, flags, &[(":status", status)]));
        if !body.is_empty() {
            self.try_send_body(stream, body, true);
        }
    }
}

impl<C: Carrier> Peer<C> {
    fn new(carrier: C) -> Self {
        Self {
            carrier,
            next_stream: 1,
            streams: BTreeMap::new(),
            goaways: Vec::new(),
            settings: BTreeMap::new(),
            pongs: 0,
            opens_windows: true,
            answers: true,
            window: 65_535,
            windows: BTreeMap::new(),
            block: Vec::new(),
            block_flags: 0,
        }
    }

    /// The bytes underneath.
    pub fn wire(&mut self) -> &mut Wire {
        self.carrier.wire()
    }

    /// What came on a stream.
    pub fn of(&self, stream: u32) -> Received {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// If the connection does not take it.
    #[track_caller]
    pub fn send(&mut self, frame: &Frame) {
        self.carrier.wire().send(frame.bytes());
    }

    /// Sends a frame to a peer that may be gone; whether it could be sent.
    pub fn try_send(&mut self, frame: &Frame) -> bool {
        self.carrier.wire().try_send(frame.bytes()).is_ok()
    }

    /// What the peer lets this end send on a stream now.
    pub fn sendable(&self, stream: u32) -> usize {
        let of_stream = self.initial_window() + self.windows.get(&stream).copied().unwrap_or(0);
        usize::try_from(self.window.min(of_stream)).unwrap_or_default()
    }

    fn initial_window(&self) -> i64 {
        let set = self.settings.get(&setting::INITIAL_WINDOW_SIZE);
        set.map_or(65_535, |&window| i64::from(window))
    }

    /// Sends a body as the windows let it.
    ///
    /// # Panics
    /// If the peer does not take it.
    #[track_caller]
    pub fn send_body(&mut self, stream: u32, body: &[u8], ends: bool) {
        let sent = self.try_send_body(stream, body, ends);
        assert!(
            sent,
            "the body of {stream} is not taken: {:?}",
            self.of(stream)
        );
    }

    /// As `send_body`; whether the peer took it.
    pub fn try_send_body(&mut self, stream: u32, body: &[u8], ends: bool) -> bool {
        let mut rest = body;
        loop {
            let some = rest.len().min(self.sendable(stream)).min(16_384);
            if some == 0 && !rest.is_empty() {
                if self.of(stream).reset.is_some() || self.pump().is_err() {
                    return false;
                }
                continue;
            }
            let (piece, after) = rest.split_at(some);
            rest = after;
            let is_last = rest.is_empty();
            let flags = if is_last && ends { flag::END_STREAM } else { 0 };
            self.window -= some as i64;
            *self.windows.entry(stream).or_default() -= some as i64;
            if !self.try_send(&Frame::new(kind::DATA, flags, stream, piece)) {
                return false;
            }
            if is_last {
                return true;
            }
        }
    }

    /// The next frame, as it comes.
    ///
    /// # Errors
    /// How the connection ended instead.
    pub fn frame(&mut self) -> Result<Frame, Ending> {
        let wire = self.carrier.wire();
        let head = wire.take(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = wire.take(length as usize)?;
        Ok(Frame::new(head[3], head[4], stream, payload))
    }

    /// Takes the next frame into the record, and answers it if that is usual.
    ///
    /// # Errors
    /// How the connection ended instead.
    ///
    /// # Panics
    /// If it breaks a rule.
    #[track_caller]
    pub fn pump(&mut self) -> Result<Frame, Ending> {
        let frame = self.frame()?;
        let has = |flag: u8| frame.flags & flag != 0;
        match frame.kind {
            kind::DATA => self.take_data(&frame),
            kind::HEADERS | kind::CONTINUATION => {
                if frame.kind == kind::HEADERS {
                    assert!(!has(flag::PADDED) && !has(flag::PRIORITY), "{frame:?}");
                    self.block.clear();
                    self.block_flags = frame.flags;
                }
                self.block.extend_from_slice(&frame.payload);
                if has(flag::END_HEADERS) {
                    self.take_block(frame.stream);
                }
            }
            kind::RST_STREAM => {
                let received = self.streams.entry(frame.stream).or_default();
                received.reset = Some(frame.number(0));
            }
            kind::SETTINGS if !has(flag::ACK) => {
                for setting in frame.payload.chunks(6) {
                    let id = u16::from_be_bytes([setting[0], setting[1]]);
                    let value = setting[2..].try_into().expect("six bytes each");
                    self.settings.insert(id, u32::from_be_bytes(value));
                }
                self.reply(kind::SETTINGS, &[]);
            }
            kind::PING if has(flag::ACK) => self.pongs += 1,
            kind::PING => self.reply(kind::PING, &frame.payload),
            kind::GOAWAY => self.goaways.push((frame.number(0), frame.number(4))),
            kind::WINDOW_UPDATE => {
                let more = i64::from(frame.number(0));
                match frame.stream {
                    0 => self.window += more,
                    stream => *self.windows.entry(stream).or_default() += more,
                }
            }
            kind::SETTINGS => {}
            _ => panic!("nobody sends {frame:?}"),
        }
        Ok(frame)
    }

    fn reply(&mut self, kind: u8, payload: &[u8]) {
        if self.answers {
            self.try_send(&Frame::new(kind, flag::ACK, 0, payload));
        }
    }

    fn take_data(&mut self, frame: &Frame) {
        let received = self.streams.entry(frame.stream).or_default();
        assert!(
            !received.is_over(),
            "more on a stream that is over: {frame:?}"
        );
        received.body.extend_from_slice(&frame.payload);
        received.frames += 1;
        received.is_ended = frame.flags & flag::END_STREAM != 0;
        let (ended, more) = (received.is_ended, frame.payload.len() as u32);
        if self.opens_windows && more > 0 {
            self.try_send(&Frame::window_update(0, more));
            if !ended {
                self.try_send(&Frame::window_update(frame.stream, more));
            }
        }
    }

    #[track_caller]
    fn take_block(&mut self, stream: u32) {
        let fields = hpack::decode(&self.block);
        let received = self.streams.entry(stream).or_default();
        assert!(
            !received.is_over(),
            "more on a stream that is over: {fields:?}"
        );
        for (name, value) in &fields {
            let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
            assert!(is_lower && !name.is_empty(), "{name}: {value}");
            let of_connection = ["connection", "transfer-encoding", "keep-alive", "upgrade"];
            assert!(!of_connection.contains(&name.as_str()), "{name}: {value}");
        }
        received.lists.push(fields);
        received.is_ended = self.block_flags & flag::END_STREAM != 0;
    }

    /// Takes frames in until a condition holds.
    ///
    /// # Panics
    /// If the connection ends first.
    #[track_caller]
    pub fn pump_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            if let Err(ending) = self.pump() {
                panic!("{ending:?} instead of {what}; {:?}", self.goaways);
            }
        }
    }

    /// Waits until the peer has taken in everything that was sent so far.
    #[track_caller]
    pub fn ping(&mut self) {
        let before = self.pongs;
        self.send(&Frame::new(kind::PING, 0, 0, *b"are you?"));
        self.pump_until("the echo of a ping", |peer| peer.pongs > before);
    }

    /// Takes frames in to the end of the connection; how it ended.
    pub fn pump_to_end(&mut self) -> Ending {
        loop {
            if let Err(ending) = self.pump() {
                return ending;
            }
        }
    }

    /// Asserts that the gateway ends the connection with this code, by a GOAWAY and a FIN.
    #[track_caller]
    pub fn assert_closed_with(&mut self, code: u32) {
        let ending = self.pump_to_end();
        let found = self.goaways.last().map(|&(_, code)| code);
        assert_eq!((found, ending), (Some(code), Ending::Eof));
    }
}

//! One connection, from either end: frames in, events out; messages in, frames out.
//!
//! It does no IO and reads no clock. Whoever drives it passes in the bytes received and the time,
//! acts on the events, and sends what lies in `out`. Bodies are passed on where they lie; field
//! blocks become text (see `message`).
//!
//! Must not: hold a body, or answer more than was asked: everything that a peer can make it write or
//! keep without reading has a limit.

use crate::budget::Budget;
use crate::frame;
use crate::hpack::{Decoder, Encoder};
use crate::message::Scribe;
use crate::stream::{Graves, Stream, Streams};
use crate::{ErrorCode, Fault, Limits, Verdict};

mod control;
mod receive;
mod send;

pub use send::HeadWriter;

/// The window of a connection, and of a stream until a setting says otherwise (RFC 9113 section
/// 6.9.2).
pub(crate) const WINDOW_BYTES: i64 = 65_535;

/// The largest window there can be (RFC 9113 section 6.9.1).
pub(crate) const WINDOW_BYTES_MAX: i64 = 0x7fff_ffff;

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The peer asks.
    Server,
    /// We ask.
    Client,
}

/// What a peer's bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// The head of a message; its text was written to where the caller said. At a client it may be
    /// interim.
    Head {
        /// The stream.
        stream: u32,
        /// Whether the message has no body.
        is_end: bool,
        /// Whether it is a message at all.
        verdict: Verdict,
    },
    /// Bytes of a body. They count against the windows until [`Connection::consume`].
    Data {
        /// The stream.
        stream: u32,
        /// The bytes, perhaps none.
        bytes: &'b [u8],
        /// Whether the body ends with them.
        is_end: bool,
    },
    /// The fields after a body, which they end; their text was written to where the caller said.
    Trailers {
        /// The stream.
        stream: u32,
    },
    /// The peer wants no more of a stream; it is gone.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        code: ErrorCode,
    },
    /// The peer broke a rule of a stream, which was reset for it and is gone.
    Broken {
        /// The stream.
        stream: u32,
        /// Which rule.
        fault: Fault,
    },
    /// There is more room to send.
    Window {
        /// The stream; zero for all of them.
        stream: u32,
    },
    /// The peer answers a ping of ours.
    Pong,
    /// The peer opens no further streams (from a client), or accepts none above `last` (from a
    /// server).
    Goaway {
        /// The last stream that something was done about.
        last: u32,
        /// Why.
        code: ErrorCode,
    },
}

/// How the peer wants to be spoken to.
#[derive(Debug)]
struct PeerSettings {
    window_bytes: i64,
    frame_bytes_max: u32,
    streams_max: u32,
    has_tunnels: bool,
    is_introduced: bool,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            window_bytes: WINDOW_BYTES,
            frame_bytes_max: frame::PAYLOAD_BYTES_MAX,
            streams_max: u32::MAX,
            has_tunnels: false,
            is_introduced: false,
        }
    }
}

/// What has to come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The client's first words.
    Preface,
    /// The first frame, which has to be SETTINGS.
    Settings,
    /// Any frame.
    Frame,
    /// The rest of a field block.
    Continuation(Block),
    /// The rest of a DATA frame.
    Payload(Payload),
}

/// A field block under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    stream: u32,
    is_end: bool,
    /// What becomes of it once it is decoded.
    fate: Fate,
}

/// What becomes of a field block. All are decoded, or the tables would be out of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is the head of a message.
    Head,
    /// It is trailers.
    Trailers,
    /// Its stream is gone, or was never let in.
    Nothing,
    /// Its stream was one too many.
    Refused,
    /// Its stream is reset for a fault.
    Reset(Fault),
}

/// A DATA frame under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Payload {
    stream: u32,
    left: u32,
    padding: u32,
    is_end: bool,
    /// Whether nobody wants it.
    is_dropped: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// What is to be sent to the peer, and then cleared.
    pub out: Vec<u8>,
    role: Role,
    limits: Limits,
    peer: PeerSettings,
    expected: Expected,
    streams: Streams,
    graves: Graves,
    /// The last stream that the peer opened.
    peer_stream: u32,
    /// The stream that we open next.
    next_stream: u32,
    send_window: i64,
    receive_window: i64,
    consumed: u32,
    is_settled: bool,
    goaway: Goaway,
    /// WINDOW_UPDATE and PING frames that what passed gives the peer reason for.
    replies_due: u32,
    /// Bytes of answers in `out`, at most.
    answers_bytes: usize,
    control: Budget,
    resets: Budget,
    decoder: Decoder,
    encoder: Encoder,
    scribe: Scribe,
    block: Vec<u8>,
}

/// How far the end of the connection has come.
#[derive(Debug, Default)]
struct Goaway {
    /// The last stream that we told the peer of.
    sent: Option<u32>,
    /// The last stream that the peer told us of.
    received: Option<u32>,
}

impl Connection {
    /// One end of a new connection; what it has to say first is in `out`.
    pub fn new(role: Role, limits: Limits) -> Self {
        let mut connection = Self {
            out: Vec::new(),
            role,
            limits,
            peer: PeerSettings::default(),
            expected: match role {
                Role::Server => Expected::Preface,
                Role::Client => Expected::Settings,
            },
            streams: Streams::default(),
            graves: Graves::default(),
            peer_stream: 0,
            next_stream: 1,
            send_window: WINDOW_BYTES,
            receive_window: WINDOW_BYTES,
            consumed: 0,
            is_settled: false,
            goaway: Goaway::default(),
            // A peer may make its window for the connection larger at once.
            replies_due: 2,
            answers_bytes: 0,
            control: Budget::new(limits.control_frames_max),
            resets: Budget::new(limits.resets_max),
            decoder: Decoder::new(limits.table_bytes_max),
            encoder: Encoder::default(),
            scribe: Scribe::default(),
            block: Vec::new(),
        };
        connection.introduce();
        connection
    }

    /// Whether the peer has used up more than half of what it may do without asking for anything, or
    /// of its resets: it should be read slowly.
    pub fn is_wasteful(&mut self, now_ms: u64) -> bool {
        self.control.is_low(now_ms) || self.resets.is_low(now_ms)
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Whether the peer has begun something that it has to go on with: the connection, or a field
    /// block. Bodies have paces of their own.
    pub fn is_within_head(&self) -> bool {
        !matches!(self.expected, Expected::Frame | Expected::Payload(_))
    }

    /// Whether the peer has said anything yet.
    pub fn has_begun(&self) -> bool {
        self.expected != Expected::Preface
    }

    /// Whether the peer has said how it wants to be spoken to.
    pub fn is_introduced(&self) -> bool {
        self.peer.is_introduced
    }

    /// Whether the peer speaks of tunnels (RFC 8441 section 3).
    pub fn has_tunnels(&self) -> bool {
        self.peer.has_tunnels
    }

    /// Says how long the body of a stream is; a body that differs breaks the stream.
    pub fn expect_body(&mut self, stream: u32, bytes: u64) {
        if let Some(stream) = self.streams.of(stream) {
            stream.body_left = Some(bytes);
        }
    }

    /// The window that a new stream of the peer's begins with. Until the peer knows of ours, it goes
    /// by the one that everybody begins with.
    fn window_of_newcomers(&self) -> i64 {
        let ours = i64::from(self.limits.stream_window_bytes);
        match self.is_settled {
            true => ours,
            false => ours.max(WINDOW_BYTES),
        }
    }

    fn new_stream(&mut self, id: u32) -> Stream {
        // Some make the window of each stream larger as soon as it opens.
        self.replies_due = self.replies_due.saturating_add(1);
        Stream {
            id,
            send_window: self.peer.window_bytes,
            receive_window: self.window_of_newcomers(),
            consumed: 0,
            body_left: None,
            is_received: false,
            is_sent: false,
            has_head: false,
        }
    }

    /// Whether the peer may be the one who opened a stream.
    fn is_peers(&self, stream: u32) -> bool {
        match self.role {
            Role::Server => stream % 2 == 1,
            Role::Client => stream.is_multiple_of(2),
        }
    }

    /// Whether what comes for a stream that is not open is passed over, because its sender could not
    /// know (RFC 9113 sections 5.1 and 6.8).
    fn is_passed_over(&self, stream: u32) -> bool {
        match self.role {
            Role::Server => self.graves.has(stream) || self.is_refused(stream),
            // Whoever shares this connection may give up any number of streams at once, and that is
            // no fault of the server's.
            Role::Client => !self.is_idle(stream),
        }
    }

    /// Whether a stream came after the last that we told the peer of.
    fn is_refused(&self, stream: u32) -> bool {
        self.is_peers(stream) && self.goaway.sent.is_some_and(|last| stream > last)
    }

    /// Whether a stream was never opened.
    fn is_idle(&self, stream: u32) -> bool {
        match self.is_peers(stream) {
            true => stream > self.peer_stream,
            false => stream >= self.next_stream,
        }
    }
}

#[cfg(test)]
mod tests;

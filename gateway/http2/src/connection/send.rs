//! Messages out, and what keeps the peer sending: frames are written behind each other into `out`,
//! and leave together.

use super::{Connection, Role, WINDOW_BYTES_MAX};
use crate::frame::{self, HEADER_BYTES, Header, Kind};
use crate::hpack::Encoder;
use crate::{ErrorCode, Fault};

/// Frames that a peer may answer a DATA frame with: more room for the stream and for the connection,
/// and a ping.
const REPLIES_PER_FRAME: u32 = 3;

/// Bytes of a DATA frame for which a peer may send one more: some open both windows for every read of
/// 512 bytes.
const BYTES_PER_REPLY: usize = 256;

/// Writes the fields of one head or of trailers.
#[derive(Debug)]
pub struct HeadWriter<'w> {
    encoder: &'w mut Encoder,
    out: &'w mut Vec<u8>,
}

impl HeadWriter<'_> {
    /// The status of a response.
    pub fn status(&mut self, status: u16) {
        self.encoder.status(self.out, status);
    }

    /// A field. The name may have any case; a pseudo-header field comes before all others.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.encoder.field(self.out, name, value);
    }
}

impl Connection {
    /// Opens a stream; `None` when the peer lets us have no more of them.
    pub fn open(&mut self) -> Option<u32> {
        debug_assert!(self.role == Role::Client, "servers do not ask");
        let id = self.next_stream;
        if !self.can_open() {
            return None;
        }
        self.next_stream += 2;
        let stream = self.new_stream(id);
        self.streams.push(stream);
        Some(id)
    }

    /// Whether the peer lets us open a stream now.
    pub fn can_open(&self) -> bool {
        self.goaway.received.is_none()
            && i64::from(self.next_stream) < WINDOW_BYTES_MAX
            && self.streams.len() < self.peer.streams_max.min(self.limits.streams_max) as usize
    }

    /// Sends the head of a message; false if the stream is gone.
    pub fn send_head(
        &mut self,
        stream: u32,
        is_end: bool,
        write: impl FnOnce(&mut HeadWriter<'_>),
    ) -> bool {
        if self.streams.of(stream).is_none_or(|it| it.is_sent) {
            return false;
        }
        let start = self.out.len();
        self.out.extend_from_slice(&[0; HEADER_BYTES]);
        let Self { encoder, out, .. } = self;
        encoder.begin(out);
        write(&mut HeadWriter { encoder, out });
        self.frame_block(start, stream, is_end);
        if is_end {
            self.has_sent(stream);
        }
        true
    }

    /// Puts frames around a field block that was written from `start` on, after room for a header.
    fn frame_block(&mut self, start: usize, stream: u32, is_end: bool) {
        let max = self.peer.frame_bytes_max as usize;
        let begin = start + HEADER_BYTES;
        let length = self.out.len() - begin;
        let mut flags = if is_end { frame::END_STREAM } else { 0 };
        let first = length.min(max);
        let rest = self.out.split_off(begin + first);
        if rest.is_empty() {
            flags |= frame::END_HEADERS;
        }
        let header = Header {
            length: first as u32,
            kind: Kind::Headers,
            flags,
            stream,
        };
        if let Some(place) = self.out.get_mut(start..begin) {
            place.copy_from_slice(&header.bytes());
        }
        let mut pieces = rest.chunks(max).peekable();
        while let Some(piece) = pieces.next() {
            let is_last = pieces.peek().is_none();
            let flags = if is_last { frame::END_HEADERS } else { 0 };
            frame::write(&mut self.out, Kind::Continuation, flags, stream, piece);
        }
    }

    /// How many bytes of a body the peer takes now; `None` if the stream is gone.
    pub fn sendable(&mut self, stream: u32) -> Option<usize> {
        let of_all = self.send_window;
        let stream = self.streams.of(stream).filter(|it| !it.is_sent)?;
        usize::try_from(stream.send_window.min(of_all).max(0)).ok()
    }

    /// The window that the peer has new streams begin with, bytes: what is much less is not worth a
    /// frame.
    pub fn usual_window(&self) -> usize {
        usize::try_from(self.peer.window_bytes).unwrap_or_default()
    }

    /// Sends as much of a body as the peer takes now, at most all; how much that was. The end is sent
    /// with the last byte.
    pub fn send_data(&mut self, stream: u32, bytes: &[u8], is_end: bool) -> usize {
        let Some(sendable) = self.sendable(stream) else {
            return 0;
        };
        let taken = bytes.get(..bytes.len().min(sendable)).unwrap_or_default();
        let is_end = is_end && taken.len() == bytes.len();
        let mut pieces = taken.chunks(self.peer.frame_bytes_max as usize).peekable();
        self.out.reserve(taken.len() + 2 * HEADER_BYTES);
        // A peer that makes us send crumbs pays for each of them.
        let is_crumb = taken.len() < bytes.len() && taken.len() < BYTES_PER_REPLY;
        let per_frame = if is_crumb { 0 } else { REPLIES_PER_FRAME };
        while let Some(piece) = pieces.next() {
            let ends = is_end && pieces.peek().is_none();
            let flags = if ends { frame::END_STREAM } else { 0 };
            frame::write(&mut self.out, Kind::Data, flags, stream, piece);
            let due = per_frame + (piece.len() / BYTES_PER_REPLY) as u32;
            self.replies_due = self.replies_due.saturating_add(due);
        }
        if taken.is_empty() && is_end {
            frame::write(&mut self.out, Kind::Data, frame::END_STREAM, stream, &[]);
        }
        self.send_window -= taken.len() as i64;
        if let Some(stream) = self.streams.of(stream) {
            stream.send_window -= taken.len() as i64;
        }
        if is_end {
            self.has_sent(stream);
        }
        taken.len()
    }

    fn has_sent(&mut self, id: u32) {
        let Some(stream) = self.streams.of(id) else {
            return;
        };
        stream.is_sent = true;
        if stream.is_over() {
            self.streams.remove(id);
            self.resets.give();
        }
    }

    /// Bytes of a body were used up: the peer may send as many more. On a stream that is gone they
    /// still count for the connection.
    pub fn consume(&mut self, stream: u32, bytes: usize) {
        self.consume_of(stream, u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// As `consume`; stream zero is for what only the connection counts.
    pub(super) fn consume_of(&mut self, id: u32, bytes: u32) {
        if bytes == 0 {
            return;
        }
        self.consumed = self.consumed.saturating_add(bytes);
        // Told in large pieces, well before the window is used up.
        if self.consumed >= self.limits.connection_window_bytes.max(2) / 2 {
            let more = std::mem::take(&mut self.consumed);
            self.receive_window += i64::from(more);
            self.write_number(Kind::WindowUpdate, 0, more);
        }
        let window = self.limits.stream_window_bytes.max(2);
        let Some(stream) = self.streams.of(id).filter(|it| !it.is_received) else {
            return;
        };
        stream.consumed = stream.consumed.saturating_add(bytes);
        if stream.consumed >= window / 2 {
            let more = std::mem::take(&mut stream.consumed);
            stream.receive_window += i64::from(more);
            self.write_number(Kind::WindowUpdate, id, more);
        }
    }

    /// Ends a stream at once, if it is not over.
    pub fn reset(&mut self, stream: u32, code: ErrorCode) {
        if self.streams.remove(stream).is_some() {
            self.bury(stream, code);
        }
    }

    /// Whether a stream is there still.
    pub fn is_open(&mut self, stream: u32) -> bool {
        self.streams.of(stream).is_some()
    }

    pub(super) fn bury(&mut self, stream: u32, code: ErrorCode) {
        self.graves.add(stream);
        self.write_number(Kind::RstStream, stream, code.0);
    }

    /// Tells the peer that we are about to go, so that it opens no more streams. Those it opened
    /// before it heard are served; a ping tells when it has (RFC 9113 section 6.8).
    pub fn announce_end(&mut self) {
        self.write_goaway(0x7fff_ffff, ErrorCode::NO_ERROR);
        frame::write(&mut self.out, Kind::Ping, 0, 0, b"farewell");
    }

    /// Accepts no further streams; those that are open are served.
    pub fn end(&mut self) {
        let last = self.peer_stream;
        if self.goaway.sent.is_none_or(|sent| sent > last) {
            self.goaway.sent = Some(last);
            self.write_goaway(last, ErrorCode::NO_ERROR);
        }
    }

    /// Ends the connection for a fault.
    pub fn give_up(&mut self, fault: Fault) {
        // A stream's code would say nothing about the connection.
        let code = match fault.code() {
            ErrorCode::REFUSED_STREAM => ErrorCode::ENHANCE_YOUR_CALM,
            code => code,
        };
        // Streams that were passed over stay so: the peer may have sent them elsewhere.
        let last = self.goaway.sent.unwrap_or(self.peer_stream);
        self.write_goaway(last, code);
    }

    /// Asks for an echo.
    pub fn ping(&mut self) {
        frame::write(&mut self.out, Kind::Ping, 0, 0, b"are you?");
    }

    fn write_goaway(&mut self, last: u32, code: ErrorCode) {
        let mut payload = [0; 8];
        let (first, second) = payload.split_at_mut(4);
        first.copy_from_slice(&last.to_be_bytes());
        second.copy_from_slice(&code.0.to_be_bytes());
        frame::write(&mut self.out, Kind::Goaway, 0, 0, &payload);
    }

    pub(super) fn write_number(&mut self, kind: Kind, stream: u32, number: u32) {
        frame::write(&mut self.out, kind, 0, stream, &number.to_be_bytes());
    }
}

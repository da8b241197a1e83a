//! A worker's buffers: taken when bytes arrive, given back when they are gone, so that an idle
//! connection holds none. Input buffers keep their length and are never zeroed again.
//!
//! Must not: grow without bound. What comes back larger than standard, or beyond the spare count,
//! is freed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use super::socket::Socket;

/// The length of a head buffer, bytes: nearly every head, and many a small body, fits.
pub const HEAD_BYTES: usize = 8 * 1024;

/// The room of a buffer to serialise into, bytes: nearly every head fits, and what many requests hold
/// at once stays in the processor's cache. One that has to grow stays larger.
const OUTPUT_BYTES: usize = 2 * 1024;

/// The room that one may have gained when it is kept, bytes.
const OUTPUT_BYTES_KEPT_MAX: usize = 2 * HEAD_BYTES;

/// The length of a body buffer, bytes. Every system call on either side wakes a peer, so fewer and
/// larger ones are cheaper: half of it costs an eighth more for large bodies over TLS. Twice of it
/// saves another tenth, but it is also what a slow reader makes us hold.
pub const BODY_BYTES: usize = 128 * 1024;

/// The room of a buffer to serialise bodies into, bytes: one body buffer and what is around its pieces.
const LARGE_OUTPUT_BYTES: usize = BODY_BYTES + 4 * 1024;

/// Spare buffers of each kind that a worker keeps, bytes.
const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The spare buffers of one worker.
#[derive(Debug, Default)]
pub struct Buffers {
    heads: RefCell<Vec<Vec<u8>>>,
    bodies: RefCell<Vec<Vec<u8>>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    large_outputs: RefCell<Vec<Vec<u8>>>,
    in_use: Cell<usize>,
}

impl Buffers {
    /// An input buffer of at least `HEAD_BYTES`; its content is whatever it held before.
    pub fn take_head(&self) -> Vec<u8> {
        self.take(&self.heads)
            .unwrap_or_else(|| vec![0; HEAD_BYTES])
    }

    /// An input buffer of `BODY_BYTES`; its content is whatever it held before.
    pub fn take_body(&self) -> Vec<u8> {
        self.take(&self.bodies)
            .unwrap_or_else(|| vec![0; BODY_BYTES])
    }

    /// An empty buffer to serialise into.
    pub fn take_output(&self) -> Vec<u8> {
        self.take(&self.outputs)
            .unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES))
    }

    /// Sees to it that so much more fits into an output buffer, by way of a larger one if it does not:
    /// a buffer that grows is copied each time.
    pub fn widen_output(&self, buffer: &mut Vec<u8>, more: usize) {
        let free = buffer.capacity() - buffer.len();
        if more <= free || buffer.len() + more > LARGE_OUTPUT_BYTES {
            return;
        }
        let large = self.take(&self.large_outputs);
        let mut large = large.unwrap_or_else(|| Vec::with_capacity(LARGE_OUTPUT_BYTES));
        large.extend_from_slice(buffer);
        self.give_output(std::mem::replace(buffer, large));
    }

    /// Takes an input buffer back, whichever kind it is.
    pub fn give_input(&self, buffer: Vec<u8>) {
        match buffer.len() {
            HEAD_BYTES => self.give(&self.heads, buffer),
            BODY_BYTES => self.give(&self.bodies, buffer),
            0 if buffer.capacity() == 0 => {}
            // A text that was written instead of received.
            _ => self.give_output(buffer),
        }
    }

    /// Takes an output buffer back.
    pub fn give_output(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        match buffer.capacity() {
            // It is none of ours: whoever wrote it began with nothing.
            ..OUTPUT_BYTES => {}
            OUTPUT_BYTES..=OUTPUT_BYTES_KEPT_MAX => self.give(&self.outputs, buffer),
            LARGE_OUTPUT_BYTES => self.give(&self.large_outputs, buffer),
            _ => self.in_use.set(self.in_use.get().saturating_sub(1)),
        }
    }

    /// Buffers taken and not given back.
    pub fn in_use(&self) -> usize {
        self.in_use.get()
    }

    fn take(&self, spare: &RefCell<Vec<Vec<u8>>>) -> Option<Vec<u8>> {
        self.in_use.set(self.in_use.get() + 1);
        spare.borrow_mut().pop()
    }

    fn give(&self, spare: &RefCell<Vec<Vec<u8>>>, buffer: Vec<u8>) {
        self.in_use.set(self.in_use.get().saturating_sub(1));
        let mut spare = spare.borrow_mut();
        if (spare.len() + 1) * buffer.capacity() <= SPARE_BYTES_MAX {
            spare.push(buffer);
        }
    }
}

/// Bytes received from a socket and not consumed yet: the end of one message and, perhaps, the
/// start of the next. Holds no memory while empty.
#[derive(Debug, Default)]
pub struct Inbound {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbound {
    /// The bytes not consumed yet.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes of a range that a decoder found, relative to the unconsumed bytes.
    pub fn range(&self, range: Range<usize>) -> &[u8] {
        self.bytes().get(range).unwrap_or_default()
    }

    /// Whether nothing waits to be consumed.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes the next fill reads at most.
    pub fn room(&self) -> usize {
        match self.buffer.len() {
            0 => HEAD_BYTES,
            length => length - self.len(),
        }
    }

    /// How many bytes wait to be consumed.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Marks bytes as consumed.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Reads once from the socket; zero is the end of the stream. A buffer is taken only when
    /// bytes are there.
    pub async fn fill(&mut self, socket: &Socket, buffers: &Buffers) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(socket, buffers, cx)).await
    }

    /// One step of `fill`.
    pub fn poll_fill(
        &mut self,
        socket: &Socket,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            ready!(socket.poll_readable(cx))?;
            self.buffer = buffers.take_head();
        }
        self.make_room(1);
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = ready!(socket.poll_read(cx, space))?;
        self.end += read;
        Poll::Ready(Ok(read))
    }

    /// Makes the next fills large: for bodies that do not fit a head buffer.
    pub fn widen(&mut self, buffers: &Buffers) {
        if self.buffer.len() >= BODY_BYTES {
            return;
        }
        let mut wide = buffers.take_body();
        let length = self.len();
        if let Some(space) = wide.get_mut(..length) {
            space.copy_from_slice(self.bytes());
        }
        buffers.give_input(std::mem::replace(&mut self.buffer, wide));
        self.start = 0;
        self.end = length;
    }

    /// Makes room for at least `count` more bytes, by moving or growing.
    pub fn make_room(&mut self, count: usize) {
        if self.buffer.len() - self.end >= count {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() - self.end < count {
            self.buffer
                .resize((self.buffer.len() * 2).max(self.end + count), 0);
        }
    }

    /// Splits the buffer after `head` bytes: the head leaves with the buffer, what follows stays.
    /// The buffer's bytes beyond the head are meaningless.
    pub fn split_head(&mut self, head: usize, buffers: &Buffers) -> Vec<u8> {
        let (start, end) = (self.start, self.end);
        let mut buffer = std::mem::take(&mut self.buffer);
        (self.start, self.end) = (0, 0);
        if start + head < end {
            let rest = buffer.get(start + head..end).unwrap_or_default();
            let mut next = buffers.take_head();
            if next.len() < rest.len() {
                next.resize(rest.len(), 0);
            }
            if let Some(space) = next.get_mut(..rest.len()) {
                space.copy_from_slice(rest);
            }
            self.end = rest.len();
            self.buffer = next;
        }
        if start > 0 {
            buffer.copy_within(start..start + head, 0);
        }
        buffer
    }

    /// Gives the memory back if nothing waits in it.
    pub fn release(&mut self, buffers: &Buffers) {
        if self.is_empty() && !self.buffer.is_empty() {
            buffers.give_input(std::mem::take(&mut self.buffer));
        }
    }

    /// Gives the memory back, whatever it holds.
    pub fn discard(&mut self, buffers: &Buffers) {
        (self.start, self.end) = (0, 0);
        self.release(buffers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound(bytes: &[u8]) -> Inbound {
        let mut buffer = vec![0; HEAD_BYTES];
        buffer[..bytes.len()].copy_from_slice(bytes);
        Inbound {
            buffer,
            start: 0,
            end: bytes.len(),
        }
    }

    #[test]
    fn a_head_leaves_and_the_rest_stays() {
        let buffers = Buffers::default();
        let mut bytes = inbound(b"xxheadnext");
        bytes.consume(2);
        let head = bytes.split_head(4, &buffers);
        assert_eq!(&head[..4], b"head");
        assert_eq!(bytes.bytes(), b"next");
    }

    #[test]
    fn an_empty_inbound_holds_no_memory() {
        let buffers = Buffers::default();
        let mut bytes = inbound(b"head");
        buffers.give_input(bytes.split_head(4, &buffers));
        assert!(bytes.is_empty() && bytes.buffer.is_empty());
        let mut bytes = inbound(b"abc");
        bytes.consume(3);
        bytes.release(&buffers);
        assert_eq!(bytes.buffer.capacity(), 0);
    }

    #[test]
    fn room_is_made_by_moving_before_growing() {
        let mut bytes = inbound(&[7; HEAD_BYTES]);
        bytes.consume(HEAD_BYTES - 2);
        bytes.make_room(100);
        assert_eq!(
            (bytes.buffer.len(), bytes.bytes()),
            (HEAD_BYTES, &[7, 7][..])
        );
        bytes.make_room(HEAD_BYTES);
        assert!(bytes.buffer.len() > HEAD_BYTES);
        assert_eq!(bytes.bytes(), [7, 7]);
    }

    #[test]
    fn a_large_output_keeps_what_was_written_and_is_used_again() {
        let buffers = Buffers::default();
        let mut out = buffers.take_output();
        out.extend_from_slice(b"frame");
        buffers.widen_output(&mut out, OUTPUT_BYTES - 5);
        assert_eq!(out.capacity(), OUTPUT_BYTES, "it fits");
        buffers.widen_output(&mut out, BODY_BYTES);
        assert_eq!(
            (&out[..], out.capacity()),
            (&b"frame"[..], LARGE_OUTPUT_BYTES)
        );
        let place = out.as_ptr();
        buffers.give_output(out);
        let mut out = buffers.take_output();
        buffers.widen_output(&mut out, BODY_BYTES);
        assert_eq!(out.as_ptr(), place);
        buffers.give_output(vec![0; 17]);
        assert_eq!(buffers.in_use(), 1, "what was not taken is not counted");
        buffers.give_output(out);
        assert_eq!(buffers.in_use(), 0);
    }

    #[test]
    fn widening_keeps_what_was_received() {
        let buffers = Buffers::default();
        let mut bytes = inbound(b"abc");
        bytes.consume(1);
        bytes.widen(&buffers);
        assert_eq!(
            (bytes.bytes(), bytes.buffer.len()),
            (&b"bc"[..], BODY_BYTES)
        );
    }
}

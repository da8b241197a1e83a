//! One stream of a connection: what its exchange reads and writes instead of a socket.
//!
//! Must not: hold more than our window lets the peer send, or write what the peer has no room for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use cardea_http1::{Field, Limits, parse_trailers};
use cardea_http2::{ErrorCode, HeadWriter, Verdict};

use super::hub::{Hub, OUTPUT_BYTES_MAX};
use crate::traffic::body::{BodyError, Pace};
use crate::traffic::respond::Response;
use crate::traffic::timer::{Direction, Timer};
use crate::traffic::upstream::request::stays_here;

/// Room that is worth a frame, bytes: a peer that opens its window byte by byte waits until there
/// is as much, or half of what its windows usually are.
const ROOM_BYTES_MIN: usize = 1024;

/// Room for the headers of the frames around the largest piece, bytes.
const FRAMES_BYTES: usize = 256;

/// How long a stream waits for so much room before it makes do with less.
const USEFUL_ROOM_WAIT: std::time::Duration = std::time::Duration::from_millis(200);

/// The head of a response, received.
#[derive(Debug)]
pub struct Head {
    /// Its text, as HTTP/1.1 writes it.
    pub text: Vec<u8>,
    /// Whether the response ends with it.
    pub is_end: bool,
    /// Whether it is a message at all.
    pub verdict: Verdict,
}

/// Why a stream is over before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The peer reset it, or broke a rule of it.
    Reset,
    /// The peer did nothing about it (RFC 9113 section 8.7).
    Refused,
    /// The connection is gone.
    Gone,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    hub: Rc<Hub>,
    id: u32,
    timer: Timer,
    /// What was received and nobody took yet.
    received: RefCell<Vec<u8>>,
    trailers: RefCell<Vec<u8>>,
    is_ended: Cell<bool>,
    heads: RefCell<VecDeque<Head>>,
    loss: Cell<Option<Loss>>,
    waits_for_room: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Stream {
    /// A stream that the codec has opened.
    pub fn new(hub: &Rc<Hub>, id: u32, is_ended: bool) -> Rc<Self> {
        Rc::new(Self {
            hub: Rc::clone(hub),
            id,
            timer: Timer::new(&hub.worker().wheel),
            received: RefCell::default(),
            trailers: RefCell::default(),
            is_ended: Cell::new(is_ended),
            heads: RefCell::default(),
            loss: Cell::new(None),
            waits_for_room: Cell::new(false),
            task: RefCell::new(None),
        })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The hub of its connection.
    pub fn hub(&self) -> &Rc<Hub> {
        &self.hub
    }

    /// The deadlines of the exchange.
    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Waits until the peer has given the stream up.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_lost() {
            return Poll::Ready(());
        }
        self.register(cx);
        Poll::Pending
    }

    /// Sends the head of a response, interim or final.
    pub fn send_head(
        &self,
        response: &Response,
        length: Option<u64>,
        is_end: bool,
    ) -> io::Result<()> {
        let sent = self.hub.act(|codec| {
            codec.send_head(self.id, is_end, |head| {
                head.status(response.status);
                for (known, name, value) in response.headers.iter() {
                    if !stays_here(known) {
                        head.field(name, value);
                    }
                }
                if let Some(length) = length {
                    let mut digits = Vec::with_capacity(20);
                    cardea_http1::write::decimal(&mut digits, length);
                    head.field(b"content-length", &digits);
                }
            })
        });
        self.is_there(sent)
    }

    /// Sends bytes of a body, as there is room for them, at the pace that the peer has to keep.
    pub async fn send(&self, bytes: &[u8], is_end: bool, pace: &mut Pace) -> io::Result<()> {
        let mut sent = 0;
        loop {
            let rest = bytes.get(sent..).unwrap_or_default();
            let taken = self.send_now(rest, is_end)?;
            sent += taken;
            pace.add(taken);
            if sent == bytes.len() {
                return Ok(());
            }
            self.room_for(bytes.len() - sent, pace).await?;
        }
    }

    /// Sends the end of a body that is over, and the fields after it.
    pub async fn send_end(
        &self,
        (bytes, trailers): (&[u8], &[Field]),
        pace: &mut Pace,
    ) -> io::Result<()> {
        if trailers.is_empty() {
            return self.send(&[], true, pace).await;
        }
        let sent = self.hub.act(|codec| {
            codec.send_head(self.id, true, |head| {
                for field in trailers {
                    head.field(field.name.of(bytes), field.value.of(bytes));
                }
            })
        });
        self.is_there(sent)
    }

    /// Waits until there is room for more of a body.
    pub async fn room(&self, pace: &mut Pace) -> io::Result<()> {
        self.room_for(usize::MAX, pace).await
    }

    /// Waits for room for so many bytes, or as many as are worth a frame. A peer whose window is not
    /// used up has no reason to open it: then any room will do.
    async fn room_for(&self, bytes: usize, pace: &mut Pace) -> io::Result<()> {
        let is_used_up = self.hub.codec().sendable(self.id) == Some(0);
        let wanted = if is_used_up { bytes } else { 1 };
        self.timer.set(Direction::Write, USEFUL_ROOM_WAIT);
        let useful = poll_fn(|cx| self.poll_room(cx, wanted)).await;
        match useful {
            // A peer may well say more only when its window is used up to the last byte.
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                pace.arm(&self.timer, Direction::Write);
                poll_fn(|cx| self.poll_room(cx, 1)).await?;
            }
            useful => {
                pace.arm(&self.timer, Direction::Write);
                useful?;
            }
        }
        // Waiting counts, whatever it was for.
        match pace.keeps_up(&self.timer, 0) {
            true => Ok(()),
            false => Err(ErrorKind::TimedOut.into()),
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<()>> {
        let mut codec = self.hub.codec();
        let usual = codec.usual_window() / 2;
        let room = codec.sendable(self.id);
        drop(codec);
        let Some(room) = room.filter(|_| !self.is_lost()) else {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        };
        let wanted = wanted.min(ROOM_BYTES_MIN).min(usual).max(1);
        if room >= wanted && self.hub.pending() < OUTPUT_BYTES_MAX {
            self.waits_for_room.set(false);
            return Poll::Ready(Ok(()));
        }
        if self.timer.is_past(Direction::Write) {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        self.waits_for_room.set(true);
        self.timer.register(Direction::Write, cx.waker());
        self.register(cx);
        Poll::Pending
    }

    /// Sends what there is room for now; how much that was.
    fn send_now(&self, bytes: &[u8], is_end: bool) -> io::Result<usize> {
        let room = OUTPUT_BYTES_MAX.saturating_sub(self.hub.pending());
        let piece = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        let is_end = is_end && piece.len() == bytes.len();
        let is_there = !self.is_lost() && self.hub.codec().sendable(self.id).is_some();
        self.is_there(is_there)?;
        Ok(self.hub.act(|codec| {
            let buffers = &self.hub.worker().buffers;
            buffers.widen_output(&mut codec.out, piece.len() + FRAMES_BYTES);
            codec.send_data(self.id, piece, is_end)
        }))
    }

    fn is_there(&self, is_there: bool) -> io::Result<()> {
        match is_there && !self.hub.is_over() {
            true => Ok(()),
            false => Err(ErrorKind::ConnectionReset.into()),
        }
    }

    /// Takes in bytes of the body.
    pub(super) fn receive(&self, bytes: &[u8], is_end: bool) {
        self.received.borrow_mut().extend_from_slice(bytes);
        if is_end {
            self.is_ended.set(true);
        }
        self.wake();
    }

    /// Takes in the fields after the body, which end it.
    pub(super) fn receive_trailers(&self, text: Vec<u8>) {
        self.trailers.replace(text);
        self.is_ended.set(true);
        self.wake();
    }

    /// Takes in the head of a response.
    pub(super) fn receive_head(&self, head: Head) {
        if head.is_end {
            self.is_ended.set(true);
        }
        self.heads.borrow_mut().push_back(head);
        self.wake();
    }

    /// Nothing more comes or goes.
    pub(super) fn lose(&self, loss: Loss) {
        if self.loss.get().is_none() {
            self.loss.set(Some(loss));
        }
        self.wake();
    }

    /// Why the stream was lost, if it was.
    pub fn loss(&self) -> Option<Loss> {
        self.loss.get()
    }

    fn is_lost(&self) -> bool {
        self.loss.get().is_some()
    }

    /// The head that comes next, within the deadline for reading.
    pub async fn head(&self) -> io::Result<Head> {
        poll_fn(|cx| {
            if let Some(head) = self.heads.borrow_mut().pop_front() {
                return Poll::Ready(Ok(head));
            }
            if self.is_lost() {
                return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
            }
            if self.timer.is_past(Direction::Read) {
                return Poll::Ready(Err(ErrorKind::TimedOut.into()));
            }
            self.timer.register(Direction::Read, cx.waker());
            self.register(cx);
            Poll::Pending
        })
        .await
    }

    /// Waits until the peer has said how it wants to be spoken to, within the deadline for reading.
    pub async fn introduced(&self) -> io::Result<()> {
        poll_fn(|cx| {
            if self.is_lost() {
                return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
            }
            if self.hub.codec().is_introduced() {
                self.waits_for_room.set(false);
                return Poll::Ready(Ok(()));
            }
            if self.timer.is_past(Direction::Read) {
                return Poll::Ready(Err(ErrorKind::TimedOut.into()));
            }
            // Settings wake whoever waits for room, which they may make.
            self.waits_for_room.set(true);
            self.timer.register(Direction::Read, cx.waker());
            self.register(cx);
            Poll::Pending
        })
        .await
    }

    /// Sends the head of a request.
    pub fn send_request(
        &self,
        is_end: bool,
        write: impl FnOnce(&mut HeadWriter<'_>),
    ) -> io::Result<()> {
        let sent = self
            .hub
            .act(|codec| codec.send_head(self.id, is_end, write));
        self.is_there(sent)
    }

    pub(super) fn wake_writer(&self) {
        if self.waits_for_room.get() {
            self.wake();
        }
    }

    /// Ends what is left of the stream when its exchange is over.
    pub fn close(&self, code: ErrorCode) {
        let unread = self.received.take().len();
        self.hub.act(|codec| {
            codec.consume(self.id, unread);
            codec.reset(self.id, code);
        });
        self.hub.remove(self.id);
    }

    fn register(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        match &*task {
            Some(held) if held.will_wake(cx.waker()) => {}
            _ => *task = Some(cx.waker().clone()),
        }
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }
}

/// The body of a message that comes on a stream.
#[derive(Debug)]
pub struct StreamBody {
    stream: Rc<Stream>,
    /// What was taken off the stream and is being read.
    taken: Vec<u8>,
    pace: Pace,
    kind: Kind,
    /// Bytes that were taken, and how many there have to be in the end.
    bytes: u64,
    length: Option<u64>,
    trailer_bytes: Vec<u8>,
    trailers: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A message's body.
    Body,
    /// What follows a request for a tunnel waits until there is one.
    TunnelToBe,
    /// What goes through a tunnel.
    Tunnel,
    /// It was read to its end.
    Done,
}

impl StreamBody {
    /// The body of the message on a stream; of one that asks for a tunnel there is none until there
    /// is one.
    pub fn new(stream: &Rc<Stream>, is_tunnel: bool, pace: Pace) -> Self {
        Self {
            stream: Rc::clone(stream),
            taken: Vec::new(),
            pace,
            kind: if is_tunnel {
                Kind::TunnelToBe
            } else {
                Kind::Body
            },
            bytes: 0,
            length: None,
            trailer_bytes: Vec::new(),
            trailers: Vec::new(),
        }
    }

    /// Says how long the body has to be; one that is not was cut.
    pub fn expect(&mut self, length: u64) {
        self.length = Some(length);
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Lets what follows the request go through its tunnel.
    pub fn open_tunnel(&mut self) {
        self.kind = Kind::Tunnel;
        // The tunnel sets its own deadlines.
        self.pace = Pace::new(std::time::Duration::ZERO, 0);
    }

    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        match self.kind {
            Kind::Done | Kind::TunnelToBe => true,
            Kind::Tunnel => false,
            Kind::Body => {
                let stream = &self.stream;
                stream.is_ended.get()
                    && self.length.is_none_or(|length| length == self.bytes)
                    && stream.received.borrow().is_empty()
                    && stream.trailers.borrow().is_empty()
            }
        }
    }

    /// Sets the pace that the peer has to keep.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// The next piece that was received already; `None` when the peer has to be waited for, or the
    /// body is over. A piece stays valid until the next call.
    pub fn next_received(&mut self) -> Result<Option<Range<usize>>, BodyError> {
        if self.kind == Kind::TunnelToBe {
            return Ok(None);
        }
        self.give_back();
        let stream = &self.stream;
        if !stream.received.borrow().is_empty() {
            std::mem::swap(&mut self.taken, &mut *stream.received.borrow_mut());
            self.bytes += self.taken.len() as u64;
            return match self.length.is_none_or(|length| length >= self.bytes) {
                true => Ok(Some(0..self.taken.len())),
                false => Err(BodyError::Cut),
            };
        }
        if stream.is_ended.get() {
            if self.length.is_some_and(|length| length != self.bytes) {
                return Err(BodyError::Cut);
            }
            self.kind = Kind::Done;
            self.take_trailers();
            return Ok(None);
        }
        match stream.is_lost() {
            true => Err(BodyError::Cut),
            false => Ok(None),
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Range<usize>>, BodyError> {
        let mut has_waited = false;
        loop {
            if let Some(piece) = self.next_received()? {
                if !has_waited {
                    self.pace.add(piece.len());
                    return Ok(Some(piece));
                }
                return match self.pace.keeps_up(&self.stream.timer, piece.len()) {
                    true => Ok(Some(piece)),
                    false => Err(BodyError::TooSlow),
                };
            }
            if matches!(self.kind, Kind::Done | Kind::TunnelToBe) {
                return Ok(None);
            }
            if self.kind == Kind::Body {
                self.pace.arm(&self.stream.timer, Direction::Read);
            }
            has_waited = true;
            let stream = &self.stream;
            poll_fn(|cx| stream.poll_received(cx)).await?;
        }
    }

    /// The bytes of a piece.
    pub fn piece(&self, piece: Range<usize>) -> &[u8] {
        self.taken.get(piece).unwrap_or_default()
    }

    /// The fields after a body that is over, and the bytes that they lie in.
    pub fn trailers(&self) -> (&[u8], &[Field]) {
        (&self.trailer_bytes, &self.trailers)
    }

    /// What was read no longer counts against the windows.
    fn give_back(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let read = self.taken.len();
        self.taken.clear();
        let stream = &self.stream;
        stream.hub.act(|codec| codec.consume(stream.id, read));
    }

    /// Those that must not be passed on are left out; a list that is none of ours has no fields.
    fn take_trailers(&mut self) {
        self.trailer_bytes = self.stream.trailers.take();
        let limits = Limits::default();
        if parse_trailers(&self.trailer_bytes, &limits, &mut self.trailers).is_err() {
            self.trailers.clear();
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Stream {
    fn poll_received(&self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if self.is_ended.get() || self.is_lost() || !self.received.borrow().is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.timer.is_past(Direction::Read) {
            return Poll::Ready(Err(BodyError::TooSlow));
        }
        self.timer.register(Direction::Read, cx.waker());
        self.register(cx);
        Poll::Pending
    }
}

//! Reading a message body, whatever carries it and however it is delimited: the same for a client's
//! request and an endpoint's response. Bytes come out decoded and in place, piece by piece, so that
//! the reader sets the pace.
//!
//! Must not: hold a body, or read past its end into somebody else's message unnoticed: what
//! follows stays in the inbound buffer.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::time::Duration;

use cardea_http1::{ChunkError, ChunkedDecoder, Field, Framing, Limits, Step};

use super::buffer::{Buffers, Inbound};
use super::grpc_web::{Translation, Untranslatable};
use super::http2::StreamBody;
use super::socket::Socket;
use super::timer::{Direction, TICK, Timer};

/// A body worth a large buffer, bytes.
const WIDE_FROM: u64 = super::buffer::HEAD_BYTES as u64;

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The chunked coding is broken.
    #[error("the chunked body is malformed")]
    Malformed(#[from] ChunkError),
    /// A body of gRPC-Web cannot be turned into one of gRPC, or the other way round.
    #[error(transparent)]
    Untranslatable(#[from] Untranslatable),
    /// The stream ended before the body did.
    #[error("the body was cut short")]
    Cut,
    /// No progress, or too little, within the deadline.
    #[error("the body came too slowly")]
    TooSlow,
    /// The socket failed.
    #[error("the connection failed")]
    Failed(#[source] io::Error),
}

/// A body on its way in.
#[derive(Debug)]
pub struct Body<'b> {
    /// Where it comes from.
    pub source: Source<'b>,
    /// What it is turned into on the way; none for what it is.
    translation: Option<Box<Translation>>,
}

/// Where a body comes from.
#[derive(Debug)]
pub enum Source<'b> {
    /// A connection of its own.
    Http1(SocketBody<'b>),
    /// A stream among others.
    Http2(StreamBody),
}

/// A body on a connection of its own.
#[derive(Debug)]
pub struct SocketBody<'b> {
    /// The connection.
    pub socket: &'b Socket,
    /// What was received and nobody read yet.
    pub inbound: &'b mut Inbound,
    /// How far the body was read.
    pub reader: BodyReader,
}

impl<'b> From<SocketBody<'b>> for Body<'b> {
    fn from(body: SocketBody<'b>) -> Self {
        Self {
            source: Source::Http1(body),
            translation: None,
        }
    }
}

impl From<StreamBody> for Body<'_> {
    fn from(body: StreamBody) -> Self {
        Self {
            source: Source::Http2(body),
            translation: None,
        }
    }
}

impl Body<'_> {
    /// Has the rest of the body turned into another.
    pub fn translate(&mut self, translation: Translation) {
        self.translation = Some(Box::new(translation));
    }

    /// Whether the bytes that are read are those that come.
    pub fn is_untranslated(&self) -> bool {
        self.translation.is_none()
    }

    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        match &self.translation {
            None => self.source.is_done(),
            Some(translation) => translation.is_over(),
        }
    }

    /// Sets the pace that the peer has to keep.
    pub fn set_pace(&mut self, pace: Pace) {
        match &mut self.source {
            Source::Http1(body) => body.reader.set_pace(pace),
            Source::Http2(body) => body.set_pace(pace),
        }
    }

    /// The next piece that was received already; `None` when the peer has to be waited for, or the
    /// body is over. A piece stays valid until the next call.
    pub fn next_received(&mut self) -> Result<Option<Range<usize>>, BodyError> {
        let Some(translation) = &mut self.translation else {
            return self.source.next_received();
        };
        loop {
            let piece = match self.source.next_received()? {
                Some(piece) => translation.take(piece.clone(), self.source.piece(piece))?,
                None if self.source.is_done() && !translation.is_over() => {
                    return Ok(translation.finish(self.source.trailers())?);
                }
                None => return Ok(None),
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self, buffers: &Buffers) -> Result<Option<Range<usize>>, BodyError> {
        let Some(translation) = &mut self.translation else {
            return self.source.next(buffers).await;
        };
        translation.forget();
        loop {
            let piece = match self.source.next(buffers).await? {
                Some(piece) => translation.take(piece.clone(), self.source.piece(piece))?,
                None if translation.is_over() => return Ok(None),
                None => return Ok(translation.finish(self.source.trailers())?),
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
    }

    /// The bytes of a piece.
    pub fn piece(&self, piece: Range<usize>) -> &[u8] {
        let translation = self.translation.as_ref();
        match translation.and_then(|it| it.piece(piece.clone())) {
            Some(bytes) => bytes,
            None => self.source.piece(piece),
        }
    }

    /// The fields after a body that is over, and the bytes that they lie in.
    pub fn trailers(&self) -> (&[u8], &[Field]) {
        match self.translation {
            None => self.source.trailers(),
            // They are in the body.
            Some(_) => (&[], &[]),
        }
    }
}

impl Source<'_> {
    fn is_done(&self) -> bool {
        match self {
            Self::Http1(body) => body.reader.is_done(),
            Self::Http2(body) => body.is_done(),
        }
    }

    fn next_received(&mut self) -> Result<Option<Range<usize>>, BodyError> {
        match self {
            Self::Http1(body) => body.reader.next_received(body.inbound),
            Self::Http2(body) => body.next_received(),
        }
    }

    async fn next(&mut self, buffers: &Buffers) -> Result<Option<Range<usize>>, BodyError> {
        match self {
            Self::Http1(body) => body.reader.next(body.socket, body.inbound, buffers).await,
            Self::Http2(body) => body.next().await,
        }
    }

    fn piece(&self, piece: Range<usize>) -> &[u8] {
        match self {
            Self::Http1(body) => body.inbound.range(piece),
            Self::Http2(body) => body.piece(piece),
        }
    }

    fn trailers(&self) -> (&[u8], &[Field]) {
        match self {
            Self::Http1(body) => match body.reader.trailers() {
                Some(decoder) => (decoder.trailer_bytes(), decoder.trailers()),
                None => (&[], &[]),
            },
            Self::Http2(body) => body.trailers(),
        }
    }
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    pace: Pace,
    taken: usize,
    ended: Option<Box<ChunkedDecoder>>,
}

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
    Done,
    /// The body was malformed: nothing after the fault can be told from it.
    Broken,
}

impl BodyReader {
    /// A reader for a body delimited as `framing` says.
    pub fn new(framing: Framing, limits: &Limits, pace: Pace) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::new(ChunkedDecoder::new(limits))),
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            state,
            pace,
            taken: 0,
            ended: None,
        }
    }

    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How many bytes are still to come, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            State::Chunked(_) | State::UntilClose | State::Broken => None,
        }
    }

    /// Sets the pace that the peer has to keep.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Sets the deadline for the next bit of progress, for bytes that go by another way.
    pub fn arm(&mut self, timer: &Timer) {
        self.pace.arm(timer, Direction::Read);
    }

    /// Counts progress of bytes that go by another way; false when they are too slow.
    pub fn keeps_up(&mut self, timer: &Timer, bytes: usize) -> bool {
        self.pace.keeps_up(timer, bytes)
    }

    /// Counts bytes of a length-delimited body that went by another way (`splice`).
    pub fn skip(&mut self, count: u64) {
        if let State::Length(left) = &mut self.state {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.state = State::Done;
            }
        }
    }

    /// The next piece that was received already, as a range of the inbound bytes; `None` when
    /// the socket has to be asked, or the body is over. A piece stays valid until the next call.
    pub fn next_received(
        &mut self,
        inbound: &mut Inbound,
    ) -> Result<Option<Range<usize>>, BodyError> {
        inbound.consume(std::mem::take(&mut self.taken));
        loop {
            let available = inbound.len();
            match &mut self.state {
                State::Done => return Ok(None),
                State::Broken => return Err(BodyError::Cut),
                _ if available == 0 => return Ok(None),
                State::Length(left) => {
                    let piece = available.min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= piece as u64;
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    self.taken = piece;
                    return Ok(Some(0..piece));
                }
                State::UntilClose => {
                    self.taken = available;
                    return Ok(Some(0..available));
                }
                State::Chunked(decoder) => match decoder.next(inbound.bytes()) {
                    Ok(Step::Data { start, end }) => {
                        self.taken = end;
                        return Ok(Some(start..end));
                    }
                    Ok(Step::Need { consumed }) => {
                        inbound.consume(consumed);
                        return Ok(None);
                    }
                    Ok(Step::End { consumed }) => {
                        inbound.consume(consumed);
                        if let State::Chunked(decoder) =
                            std::mem::replace(&mut self.state, State::Done)
                        {
                            self.ended = Some(decoder);
                        }
                    }
                    Err(error) => {
                        self.state = State::Broken;
                        return Err(error.into());
                    }
                },
            }
        }
    }

    /// The next piece, from what was received or from the socket; `None` at the end.
    pub async fn next(
        &mut self,
        socket: &Socket,
        inbound: &mut Inbound,
        buffers: &Buffers,
    ) -> Result<Option<Range<usize>>, BodyError> {
        loop {
            if let Some(piece) = self.next_received(inbound)? {
                return Ok(Some(piece));
            }
            if self.is_done() {
                return Ok(None);
            }
            if self.remaining().is_none_or(|left| left > WIDE_FROM) {
                inbound.widen(buffers);
            }
            self.pace.arm(socket.timer(), Direction::Read);
            match inbound.fill(socket, buffers).await {
                Ok(0) if matches!(self.state, State::UntilClose) => self.state = State::Done,
                Ok(0) => return Err(BodyError::Cut),
                Ok(read) => {
                    if !self.pace.keeps_up(socket.timer(), read) {
                        return Err(BodyError::TooSlow);
                    }
                }
                Err(error) => return Err(BodyError::from_io(error)),
            }
        }
    }

    /// The decoder of a chunked body that is over: it holds the trailer fields.
    pub fn trailers(&self) -> Option<&ChunkedDecoder> {
        self.ended.as_deref()
    }
}

impl BodyError {
    fn from_io(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut => Self::TooSlow,
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Self::Cut
            }
            _ => Self::Failed(error),
        }
    }
}

/// How fast a peer has to be: some progress within every period, and a least average rate over
/// the time that was spent waiting for it and not for somebody else.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    progress: Duration,
    rate_min: u64,
    armed_at: u64,
    waited: u64,
    bytes: u64,
}

impl Pace {
    /// A pace; zero switches the progress deadline or the rate off.
    pub fn new(progress: Duration, rate_min: u64) -> Self {
        Self {
            progress,
            rate_min,
            armed_at: 0,
            waited: 0,
            bytes: 0,
        }
    }

    /// Sets the deadline for the next bit of progress.
    pub fn arm(&mut self, timer: &Timer, direction: Direction) {
        self.armed_at = timer.now();
        timer.set(direction, self.progress);
    }

    /// Counts progress that nobody waited for.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Counts progress; false when the average fell below the least rate. A peer has one whole
    /// progress period before the rate is looked at.
    pub fn keeps_up(&mut self, timer: &Timer, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        self.waited += timer.now().saturating_sub(self.armed_at);
        self.armed_at = timer.now();
        if self.rate_min == 0 || self.progress.is_zero() {
            return true;
        }
        let waited = TICK * u32::try_from(self.waited).unwrap_or(u32::MAX);
        waited <= self.progress
            || u128::from(self.bytes) * 1000 >= u128::from(self.rate_min) * waited.as_millis()
    }
}

//! Frames in: their order, their streams, and the bodies and field blocks in them.

use super::{Block, Connection, Event, Expected, Fate, Payload, Role};
use crate::frame::{self, HEADER_BYTES, Header, Kind, PREFACE};
use crate::hpack::HpackError;
use crate::message::{Part, Size};
use crate::{ErrorCode, Fault, Limits, Verdict};

/// Times the largest list that a field block may expand to before the connection ends for it. What
/// is above the limit alone is answered on its stream.
const EXPANSION_MAX: u64 = 4;

impl Connection {
    /// Takes received bytes up to the first event; says how many that were. Fewer than all without
    /// an event are an incomplete frame, to be passed again with more behind them. The text of heads
    /// and trailers is written to `text`, which is empty before.
    ///
    /// # Errors
    /// A fault that ends the connection; the peer is to be told by [`Connection::give_up`].
    pub fn receive<'b>(
        &mut self,
        bytes: &'b [u8],
        now_ms: u64,
        text: &mut Vec<u8>,
    ) -> Result<(usize, Option<Event<'b>>), Fault> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let before = self.expected;
            let (taken, event) = match before {
                Expected::Preface => self.preface(rest)?,
                Expected::Payload(payload) => self.payload(payload, rest)?,
                _ => self.frame(rest, now_ms, text)?,
            };
            at += taken;
            // The end of a frame may need no further byte.
            if event.is_some() || (taken == 0 && self.expected == before) {
                return Ok((at, event));
            }
        }
    }

    fn preface<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, Option<Event<'b>>), Fault> {
        let length = bytes.len().min(PREFACE.len());
        if bytes.get(..length) != PREFACE.get(..length) {
            return Err(Fault::Preface);
        }
        if length < PREFACE.len() {
            return Ok((0, None));
        }
        self.expected = Expected::Settings;
        Ok((length, None))
    }

    fn frame<'b>(
        &mut self,
        bytes: &'b [u8],
        now_ms: u64,
        text: &mut Vec<u8>,
    ) -> Result<(usize, Option<Event<'b>>), Fault> {
        let Some(header) = Header::parse(bytes) else {
            return Ok((0, None));
        };
        self.is_in_order(header)?;
        if header.kind == Kind::Data {
            return self.data(header, bytes, now_ms);
        }
        let length = HEADER_BYTES + header.length as usize;
        let Some(payload) = bytes.get(HEADER_BYTES..length) else {
            return Ok((0, None));
        };
        let event = match header.kind {
            Kind::Headers => self.headers(header, payload, now_ms, text)?,
            Kind::Continuation => self.continuation(header, payload, now_ms, text)?,
            Kind::WindowUpdate => self.window_update(header, payload, now_ms)?,
            Kind::RstStream => self.rst_stream(header, payload, now_ms)?,
            Kind::Settings => self.settings(header, payload, now_ms)?,
            Kind::Ping => self.pinged(header, payload, now_ms)?,
            Kind::Priority => self.priority(header, payload, now_ms)?,
            Kind::Goaway => self.goaway(header, payload, now_ms)?,
            Kind::PushPromise => return Err(Fault::Push),
            Kind::Data | Kind::Unknown => {
                self.count_control(now_ms)?;
                None
            }
        };
        Ok((length, event))
    }

    /// RFC 9113 sections 3.4, 4.2 and 4.3.
    fn is_in_order(&self, header: Header) -> Result<(), Fault> {
        if header.length > Limits::FRAME_BYTES_MAX {
            return Err(Fault::FrameSize);
        }
        match self.expected {
            Expected::Settings => {
                let is_first = header.kind == Kind::Settings && !header.has(frame::ACK);
                is_first.then_some(()).ok_or(Fault::Preface)
            }
            Expected::Continuation(block) => {
                let goes_on = header.kind == Kind::Continuation && header.stream == block.stream;
                goes_on.then_some(()).ok_or(Fault::Interleaved)
            }
            _ => Ok(()),
        }
    }

    /// The beginning of a DATA frame (RFC 9113 section 6.1).
    fn data<'b>(
        &mut self,
        header: Header,
        bytes: &'b [u8],
        now_ms: u64,
    ) -> Result<(usize, Option<Event<'b>>), Fault> {
        if header.stream == 0 {
            return Err(Fault::StreamId);
        }
        let (rim, padding) = match header.has(frame::PADDED) {
            false => (0, 0),
            true if header.length == 0 => return Err(Fault::FrameSize),
            true => match bytes.get(HEADER_BYTES) {
                Some(padding) => (1, u32::from(*padding)),
                None => return Ok((0, None)),
            },
        };
        let left = (header.length - rim).checked_sub(padding);
        let left = left.ok_or(Fault::Padding)?;
        if self.is_idle(header.stream) {
            return Err(Fault::StreamIdle);
        }
        let is_end = header.has(frame::END_STREAM);
        if left == 0 && !is_end {
            self.count_control(now_ms)?;
        }
        let taken = HEADER_BYTES + rim as usize;
        let verdict = self.admit_data(header, left, is_end)?;
        self.expected = Expected::Payload(Payload {
            stream: header.stream,
            left,
            padding,
            is_end,
            is_dropped: verdict != Ok(()),
        });
        // Padding is consumed as it comes.
        self.consume_of(header.stream, rim + padding);
        let Err(fault) = verdict else {
            return Ok((taken, None));
        };
        // What nobody wants is consumed as well, or the window of all would shrink.
        self.consume_of(0, left);
        let event = self.break_stream(header.stream, fault, now_ms)?;
        Ok((taken, event))
    }

    /// Counts a DATA frame against the windows and the length of its body. The inner fault is one of
    /// its stream.
    fn admit_data(
        &mut self,
        header: Header,
        bytes: u32,
        is_end: bool,
    ) -> Result<Result<(), Fault>, Fault> {
        self.receive_window -= i64::from(header.length);
        if self.receive_window < 0 {
            return Err(Fault::WindowExceeded);
        }
        let Some(stream) = self.streams.of(header.stream) else {
            return Ok(Err(Fault::StreamClosed));
        };
        if stream.is_received {
            return Ok(Err(Fault::StreamClosed));
        }
        if !stream.has_head {
            return Ok(Err(Fault::Message));
        }
        stream.receive_window -= i64::from(header.length);
        if stream.receive_window < 0 {
            return Ok(Err(Fault::WindowExceeded));
        }
        if let Some(left) = &mut stream.body_left {
            match left.checked_sub(u64::from(bytes)) {
                Some(0) => *left = 0,
                Some(rest) if !is_end => *left = rest,
                _ => return Ok(Err(Fault::BodyLength)),
            }
        }
        Ok(Ok(()))
    }

    /// What is there of the payload of a DATA frame.
    fn payload<'b>(
        &mut self,
        mut payload: Payload,
        bytes: &'b [u8],
    ) -> Result<(usize, Option<Event<'b>>), Fault> {
        if payload.left > 0 || (payload.is_end && payload.padding == 0) {
            let length = bytes.len().min(payload.left as usize);
            if length == 0 && payload.left > 0 {
                return Ok((0, None));
            }
            payload.left -= length as u32;
            let is_end = payload.is_end && payload.left == 0;
            // The end is told once, with the last byte.
            payload.is_end &= !is_end;
            self.go_on(payload);
            if payload.is_dropped {
                return Ok((length, None));
            }
            if !self.is_open(payload.stream) {
                // We reset it in the middle of the frame.
                self.consume_of(0, length as u32);
                return Ok((length, None));
            }
            if is_end {
                self.has_received(payload.stream);
            }
            let event = Event::Data {
                stream: payload.stream,
                bytes: bytes.get(..length).unwrap_or_default(),
                is_end,
            };
            return Ok((length, Some(event)));
        }
        let length = bytes.len().min(payload.padding as usize);
        payload.padding -= length as u32;
        self.go_on(payload);
        Ok((length, None))
    }

    fn go_on(&mut self, payload: Payload) {
        let is_over = payload.left == 0 && payload.padding == 0 && !payload.is_end;
        self.expected = match is_over {
            true => Expected::Frame,
            false => Expected::Payload(payload),
        };
    }

    /// The peer's side of a stream is over.
    fn has_received(&mut self, id: u32) {
        let Some(stream) = self.streams.of(id) else {
            return;
        };
        stream.is_received = true;
        if stream.is_over() {
            self.streams.remove(id);
            self.resets.give();
        }
    }

    /// RFC 9113 section 6.2.
    fn headers<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        now_ms: u64,
        text: &mut Vec<u8>,
    ) -> Result<Option<Event<'b>>, Fault> {
        if header.stream == 0 {
            return Err(Fault::StreamId);
        }
        let (fragment, depends_on) = fragment(header, payload)?;
        let mut block = Block {
            stream: header.stream,
            is_end: header.has(frame::END_STREAM),
            fate: self.fate_of_block(header, now_ms)?,
        };
        if depends_on == Some(header.stream) {
            block.fate = Fate::Reset(Fault::Dependency);
        }
        if header.has(frame::END_HEADERS) {
            return self.decode(block, fragment, now_ms, text);
        }
        if fragment.is_empty() {
            self.count_control(now_ms)?;
        }
        self.block.clear();
        self.expected = Expected::Continuation(block);
        self.collect(fragment)?;
        Ok(None)
    }

    /// RFC 9113 section 6.10.
    fn continuation<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        now_ms: u64,
        text: &mut Vec<u8>,
    ) -> Result<Option<Event<'b>>, Fault> {
        let Expected::Continuation(block) = self.expected else {
            return Err(Fault::Continuation);
        };
        self.collect(payload)?;
        if !header.has(frame::END_HEADERS) {
            // A flood of them is cut short by the length of the block, and by this if they are small.
            self.count_control(now_ms)?;
            return Ok(None);
        }
        self.expected = Expected::Frame;
        let collected = std::mem::take(&mut self.block);
        self.decode(block, &collected, now_ms, text)
    }

    fn collect(&mut self, fragment: &[u8]) -> Result<(), Fault> {
        if self.block.len() + fragment.len() > self.limits.block_bytes_max as usize {
            return Err(Fault::BlockTooLong);
        }
        self.block.extend_from_slice(fragment);
        Ok(())
    }

    /// What a field block is, by the state of its stream (RFC 9113 section 5.1).
    fn fate_of_block(&mut self, header: Header, now_ms: u64) -> Result<Fate, Fault> {
        let is_end = header.has(frame::END_STREAM);
        if let Some(stream) = self.streams.of(header.stream) {
            return Ok(match (stream.is_received, stream.has_head, is_end) {
                (true, _, _) => Fate::Reset(Fault::StreamClosed),
                (false, false, _) => Fate::Head,
                (false, true, true) => Fate::Trailers,
                (false, true, false) => Fate::Reset(Fault::Message),
            });
        }
        if !self.is_idle(header.stream) {
            if !self.is_passed_over(header.stream) {
                return Err(Fault::StreamClosed);
            }
            self.count_passed_over(now_ms)?;
            return Ok(Fate::Nothing);
        }
        if self.role == Role::Client || !self.is_peers(header.stream) {
            return Err(Fault::StreamId);
        }
        self.peer_stream = header.stream;
        if self.is_refused(header.stream) {
            self.count_passed_over(now_ms)?;
            return Ok(Fate::Nothing);
        }
        if self.streams.len() >= self.limits.streams_max as usize {
            self.count_reset(now_ms)?;
            self.bury(header.stream, ErrorCode::REFUSED_STREAM);
            return Ok(Fate::Refused);
        }
        let stream = self.new_stream(header.stream);
        self.streams.push(stream);
        Ok(Fate::Head)
    }

    /// Counts a field block that is decoded for nothing. How many of them a client gets depends on
    /// what it gives up, which is not the server's doing.
    fn count_passed_over(&mut self, now_ms: u64) -> Result<(), Fault> {
        match self.role {
            Role::Server => self.count_control(now_ms),
            Role::Client => Ok(()),
        }
    }

    fn decode<'b>(
        &mut self,
        block: Block,
        fragment: &[u8],
        now_ms: u64,
        text: &mut Vec<u8>,
    ) -> Result<Option<Event<'b>>, Fault> {
        let size = Size {
            bytes_max: self.limits.head_bytes_max,
            count_max: self.limits.field_count_max,
        };
        let part = match (block.fate, self.role) {
            (Fate::Trailers, _) => Part::Trailers,
            (_, Role::Server) => Part::Request,
            (_, Role::Client) => Part::Response,
        };
        let Self {
            scribe, decoder, ..
        } = self;
        scribe.begin();
        // A list that nobody wanted may have left its text.
        text.clear();
        let bomb = EXPANSION_MAX * u64::from(size.bytes_max);
        decoder.decode(fragment, |name, value| {
            scribe.field(part, size, text, name, value);
            match scribe.bytes() > bomb {
                true => Err(Fault::FieldBomb),
                false => Ok(()),
            }
        })?;
        let verdict = scribe.finish(part, text);
        self.conclude(block, verdict, text, now_ms)
    }

    /// What a field block comes to, now that it is text.
    fn conclude<'b>(
        &mut self,
        block: Block,
        verdict: Verdict,
        text: &[u8],
        now_ms: u64,
    ) -> Result<Option<Event<'b>>, Fault> {
        let stream = block.stream;
        match block.fate {
            Fate::Nothing => Ok(None),
            Fate::Refused => Ok(Some(Event::Broken {
                stream,
                fault: Fault::StreamsExceeded,
            })),
            // We reset it in the middle of the block.
            Fate::Head | Fate::Trailers if !self.is_open(stream) => Ok(None),
            Fate::Reset(fault) => self.break_stream(stream, fault, now_ms),
            Fate::Head => {
                let is_final = self.role == Role::Server || !text.starts_with(INTERIM);
                if !is_final && block.is_end {
                    return self.break_stream(stream, Fault::Message, now_ms);
                }
                if let Some(stream) = self.streams.of(stream) {
                    stream.has_head = is_final;
                }
                if block.is_end {
                    self.has_received(stream);
                }
                Ok(Some(Event::Head {
                    stream,
                    is_end: block.is_end,
                    verdict,
                }))
            }
            Fate::Trailers => {
                if verdict.fault.is_some() {
                    return self.break_stream(stream, Fault::Message, now_ms);
                }
                let left = self.streams.of(stream).and_then(|it| it.body_left);
                if left.is_some_and(|left| left > 0) {
                    return self.break_stream(stream, Fault::BodyLength, now_ms);
                }
                self.has_received(stream);
                Ok(Some(Event::Trailers { stream }))
            }
        }
    }
}

/// How the text of an interim response begins.
const INTERIM: &[u8] = b"HTTP/1.1 1";

impl From<HpackError> for Fault {
    fn from(_: HpackError) -> Self {
        Self::Compression
    }
}

/// The part of a field block that a HEADERS frame holds, without padding and priority, and the
/// stream that its priority depends on.
fn fragment(header: Header, mut payload: &[u8]) -> Result<(&[u8], Option<u32>), Fault> {
    if header.has(frame::PADDED) {
        let (padding, rest) = payload.split_first().ok_or(Fault::FrameSize)?;
        let length = rest.len().checked_sub(usize::from(*padding));
        let length = length.ok_or(Fault::Padding)?;
        payload = rest.get(..length).unwrap_or_default();
    }
    if !header.has(frame::PRIORITY) {
        return Ok((payload, None));
    }
    let depends_on = frame::number(payload, 0).ok_or(Fault::FrameSize)?;
    let fragment = payload.get(5..).ok_or(Fault::FrameSize)?;
    Ok((fragment, Some(depends_on & 0x7fff_ffff)))
}

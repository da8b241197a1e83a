//! The frames that ask for nothing but attention: settings, windows, pings, resets, the end. Each has
//! a budget, because each costs its sender less than us.

use super::{Connection, Event, Expected, Role, WINDOW_BYTES, WINDOW_BYTES_MAX};
use crate::frame::{self, HEADER_BYTES, Header, Kind};
use crate::{ErrorCode, Fault};

/// Bytes of answers to the peer that may wait to be read by it.
const ANSWERS_BYTES_MAX: usize = 256 * 1024;

/// The settings there are (RFC 9113 section 6.5.2, RFC 8441 section 3, RFC 9218 section 2.1).
mod setting {
    pub(super) const HEADER_TABLE_SIZE: u16 = 0x1;
    pub(super) const ENABLE_PUSH: u16 = 0x2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(super) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(super) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    pub(super) const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
    pub(super) const NO_RFC7540_PRIORITIES: u16 = 0x9;
}

impl Connection {
    /// What either end says first.
    pub(super) fn introduce(&mut self) {
        if self.role == Role::Client {
            self.out.extend_from_slice(frame::PREFACE);
        }
        let limits = self.limits;
        let mut settings = vec![
            (setting::INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
            (setting::MAX_HEADER_LIST_SIZE, limits.head_bytes_max),
            (setting::NO_RFC7540_PRIORITIES, 1),
        ];
        match self.role {
            Role::Server => {
                settings.push((setting::MAX_CONCURRENT_STREAMS, limits.streams_max));
                settings.push((setting::ENABLE_CONNECT_PROTOCOL, 1));
            }
            Role::Client => settings.push((setting::ENABLE_PUSH, 0)),
        }
        if i64::from(limits.table_bytes_max) != 4096 {
            settings.push((setting::HEADER_TABLE_SIZE, limits.table_bytes_max));
        }
        let mut payload = Vec::with_capacity(settings.len() * 6);
        for (id, value) in settings {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        frame::write(&mut self.out, Kind::Settings, 0, 0, &payload);
        let more = i64::from(limits.connection_window_bytes) - WINDOW_BYTES;
        if let Ok(more @ 1..) = u32::try_from(more) {
            self.receive_window += i64::from(more);
            self.write_number(Kind::WindowUpdate, 0, more);
        }
    }

    /// RFC 9113 section 6.5.
    pub(super) fn settings<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Option<Event<'b>>, Fault> {
        if header.stream != 0 {
            return Err(Fault::StreamId);
        }
        if header.has(frame::ACK) {
            if !payload.is_empty() {
                return Err(Fault::FrameSize);
            }
            self.count_control(now_ms)?;
            self.is_settled = true;
            return Ok(None);
        }
        if self.expected == Expected::Settings {
            self.expected = Expected::Frame;
        } else {
            self.count_control(now_ms)?;
        }
        self.set_all(payload)?;
        self.peer.is_introduced = true;
        self.answer(Kind::Settings, &[])?;
        Ok(Some(Event::Window { stream: 0 }))
    }

    /// Goes on from a request of HTTP/1.1 without a body that asked for it with these settings (RFC 7540
    /// section 3.2): the request is stream 1, of which the client has said all, and its preface is
    /// still to come.
    ///
    /// # Errors
    /// The settings break a rule, which ends the connection.
    pub fn begin_upgraded(&mut self, settings: &[u8]) -> Result<(), Fault> {
        debug_assert!(!self.has_begun(), "an upgrade is the beginning");
        self.set_all(settings)?;
        self.peer_stream = 1;
        let mut stream = self.new_stream(1);
        stream.has_head = true;
        stream.is_received = true;
        self.streams.push(stream);
        Ok(())
    }

    fn set_all(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let (settings, []) = payload.as_chunks::<6>() else {
            return Err(Fault::FrameSize);
        };
        for &[i0, i1, v0, v1, v2, v3] in settings {
            let id = u16::from_be_bytes([i0, i1]);
            self.set(id, u32::from_be_bytes([v0, v1, v2, v3]))?;
        }
        Ok(())
    }

    fn set(&mut self, id: u16, value: u32) -> Result<(), Fault> {
        match id {
            setting::HEADER_TABLE_SIZE => self.encoder.set_table_bytes_max(value),
            setting::ENABLE_PUSH | setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return Err(Fault::Settings);
            }
            // A server cannot ask for pushes (RFC 9113 section 6.5.2).
            setting::ENABLE_PUSH if self.role == Role::Client && value != 0 => {
                return Err(Fault::Settings);
            }
            setting::ENABLE_CONNECT_PROTOCOL => self.peer.has_tunnels = value == 1,
            setting::MAX_CONCURRENT_STREAMS => self.peer.streams_max = value,
            setting::INITIAL_WINDOW_SIZE => self.resize_windows(i64::from(value))?,
            setting::MAX_FRAME_SIZE => {
                if !(frame::PAYLOAD_BYTES_MAX..=0x00ff_ffff).contains(&value) {
                    return Err(Fault::Settings);
                }
                self.peer.frame_bytes_max = value;
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9113 section 6.9.2: the difference counts for the streams that are open.
    fn resize_windows(&mut self, bytes: i64) -> Result<(), Fault> {
        if bytes > WINDOW_BYTES_MAX {
            return Err(Fault::Window);
        }
        let difference = bytes - self.peer.window_bytes;
        self.peer.window_bytes = bytes;
        for stream in self.streams.iter_mut() {
            stream.send_window += difference;
            if stream.send_window > WINDOW_BYTES_MAX {
                return Err(Fault::Window);
            }
        }
        Ok(())
    }

    /// RFC 9113 section 6.9.
    pub(super) fn window_update<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Option<Event<'b>>, Fault> {
        let more = only_number(payload)?;
        self.count_reply(now_ms)?;
        let more = i64::from(more & 0x7fff_ffff);
        let id = header.stream;
        if id == 0 {
            if more == 0 {
                return Err(Fault::WindowIncrement);
            }
            self.send_window += more;
            return match self.send_window > WINDOW_BYTES_MAX {
                true => Err(Fault::Window),
                false => Ok(Some(Event::Window { stream: 0 })),
            };
        }
        if self.is_idle(id) {
            return Err(Fault::StreamIdle);
        }
        let Some(stream) = self.streams.of(id) else {
            // It may have been sent before its sender knew.
            return Ok(None);
        };
        if more == 0 {
            return self.break_stream(id, Fault::WindowIncrement, now_ms);
        }
        stream.send_window += more;
        match stream.send_window > WINDOW_BYTES_MAX {
            true => self.break_stream(id, Fault::Window, now_ms),
            false => Ok(Some(Event::Window { stream: id })),
        }
    }

    /// RFC 9113 section 6.4.
    pub(super) fn rst_stream<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Option<Event<'b>>, Fault> {
        let code = only_number(payload)?;
        if header.stream == 0 {
            return Err(Fault::StreamId);
        }
        if self.is_idle(header.stream) {
            return Err(Fault::StreamIdle);
        }
        // An origin may well be the one who ends what its client gave up.
        if self.role == Role::Server {
            self.count_reset(now_ms)?;
        }
        let stream = self.streams.remove(header.stream);
        Ok(stream.map(|stream| Event::Reset {
            stream: stream.id,
            code: ErrorCode(code),
        }))
    }

    /// RFC 9113 section 6.7.
    pub(super) fn pinged<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Option<Event<'b>>, Fault> {
        if header.stream != 0 {
            return Err(Fault::StreamId);
        }
        if payload.len() != 8 {
            return Err(Fault::FrameSize);
        }
        if header.has(frame::ACK) {
            self.count_control(now_ms)?;
            return Ok(Some(Event::Pong));
        }
        // Some measure the path with a ping for every piece of a body.
        self.count_reply(now_ms)?;
        self.answer(Kind::Ping, payload)?;
        Ok(None)
    }

    /// RFC 9113 section 6.8.
    pub(super) fn goaway<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Option<Event<'b>>, Fault> {
        if header.stream != 0 {
            return Err(Fault::StreamId);
        }
        let numbers = (frame::number(payload, 0), frame::number(payload, 4));
        let (Some(last), Some(code)) = numbers else {
            return Err(Fault::FrameSize);
        };
        self.count_control(now_ms)?;
        let last = last & 0x7fff_ffff;
        self.goaway.received = Some(last);
        Ok(Some(Event::Goaway {
            last,
            code: ErrorCode(code),
        }))
    }

    /// RFC 9113 section 6.3: deprecated, but its form still has rules.
    pub(super) fn priority<'b>(
        &mut self,
        header: Header,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Option<Event<'b>>, Fault> {
        if header.stream == 0 {
            return Err(Fault::StreamId);
        }
        self.count_control(now_ms)?;
        let depends_on = frame::number(payload, 0).map(|it| it & 0x7fff_ffff);
        let fault = match depends_on {
            _ if payload.len() != 5 => Fault::FrameSize,
            Some(stream) if stream == header.stream => Fault::Dependency,
            _ => return Ok(None),
        };
        match self.is_idle(header.stream) {
            // What is not open cannot be reset (RFC 9113 section 6.4).
            true => Err(fault),
            false => self.break_stream(header.stream, fault, now_ms),
        }
    }

    /// Resets a stream for a fault of the peer's.
    pub(super) fn break_stream<'b>(
        &mut self,
        id: u32,
        fault: Fault,
        now_ms: u64,
    ) -> Result<Option<Event<'b>>, Fault> {
        let is_open = self.is_open(id);
        if !is_open && self.is_passed_over(id) {
            return Ok(None);
        }
        // A peer that has its streams reset makes as much work as one that resets them.
        self.count_reset(now_ms)?;
        self.streams.remove(id);
        self.bury(id, fault.code());
        Ok(is_open.then_some(Event::Broken { stream: id, fault }))
    }

    pub(super) fn count_control(&mut self, now_ms: u64) -> Result<(), Fault> {
        let has_some = self.control.take(now_ms);
        has_some.then_some(()).ok_or(Fault::ControlFlood)
    }

    pub(super) fn count_reset(&mut self, now_ms: u64) -> Result<(), Fault> {
        let has_some = self.resets.take(now_ms);
        has_some.then_some(()).ok_or(Fault::ResetFlood)
    }

    /// Counts a frame that is due to what passed, if there was so much.
    fn count_reply(&mut self, now_ms: u64) -> Result<(), Fault> {
        match self.replies_due.checked_sub(1) {
            Some(due) => self.replies_due = due,
            None => self.count_control(now_ms)?,
        }
        Ok(())
    }

    /// Answers the peer, provided that it reads answers. Bodies that wait in `out` are not counted.
    fn answer(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Fault> {
        let waiting = self.answers_bytes.min(self.out.len());
        self.answers_bytes = waiting + HEADER_BYTES + payload.len();
        if self.answers_bytes > ANSWERS_BYTES_MAX {
            return Err(Fault::OutputFlood);
        }
        frame::write(&mut self.out, kind, frame::ACK, 0, payload);
        Ok(())
    }
}

/// The number that a payload is made of.
fn only_number(payload: &[u8]) -> Result<u32, Fault> {
    let bytes = <[u8; 4]>::try_from(payload).map_err(|_| Fault::FrameSize)?;
    Ok(u32::from_be_bytes(bytes))
}

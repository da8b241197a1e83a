//! gRPC (unary calls) at both ends: a client with so many calls under way on each connection, and
//! an origin that answers each with the message of its request.
//!
//! HTTP/2 is the codec's of this project, at both ends and for every proxy alike. It must not accept
//! an answer without status 200, its own message, and `grpc-status: 0` in the trailers.

use std::collections::{HashMap, VecDeque};

use anyhow::{Context, Result, bail, ensure};
use cardea_http2::{Connection, ErrorCode, Event, Limits, Role};

use super::{Heard, Talk};
use crate::certificate::DOMAIN;

/// Where the origin's proxies find it: service and method.
const PATH: &str = "/beside/Say";

/// Bytes of a message: a small record.
const MESSAGE_BYTES: usize = 128;
/// What stands before a message: not compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Windows that are never what is measured, and no budgets: the peers are proxies under test.
fn limits() -> Limits {
    Limits {
        // All calls at once: some open that many before they have heard of a limit.
        streams_max: 1024,
        stream_window_bytes: 1024 * 1024,
        connection_window_bytes: 16 * 1024 * 1024,
        control_frames_max: u32::MAX,
        resets_max: u32::MAX,
        ..Limits::default()
    }
}

/// The client's end.
pub(crate) struct Caller {
    wire: Connection,
    text: Vec<u8>,
    /// Calls to keep under way.
    at_once: usize,
    /// Calls under way by stream.
    calls: HashMap<u32, Call>,
    /// The message of the next call, with its prefix.
    message: Vec<u8>,
    number: u32,
    is_stopping: bool,
    /// The proxy serves what was asked and nothing more, as some do after so many requests.
    is_leaving: bool,
}

/// A call under way.
struct Call {
    number: u32,
    has_head: bool,
    /// Bytes of the answer so far, all as expected.
    received: usize,
}

impl Caller {
    /// A client that keeps `at_once` calls under way.
    pub(crate) fn new(at_once: usize) -> Self {
        let mut message = vec![0];
        message.extend_from_slice(&(MESSAGE_BYTES as u32).to_be_bytes());
        message.extend((0..MESSAGE_BYTES).map(|at| (at % 251) as u8));
        Self {
            wire: Connection::new(Role::Client, limits()),
            text: Vec::new(),
            at_once,
            calls: HashMap::new(),
            message,
            number: 0,
            is_stopping: false,
            is_leaving: false,
        }
    }

    fn call(&mut self) -> Result<()> {
        let stream = self.wire.open();
        let stream = stream.with_context(|| format!("no {} streams allowed", self.at_once))?;
        self.number = self.number.wrapping_add(1);
        number(&mut self.message, self.number);
        self.wire.send_head(stream, false, |head| {
            head.field(b":method", b"POST");
            head.field(b":scheme", b"https");
            head.field(b":authority", DOMAIN.as_bytes());
            head.field(b":path", PATH.as_bytes());
            head.field(b"te", b"trailers");
            head.field(b"content-type", b"application/grpc");
            head.field(b"user-agent", b"cardea-bench/1");
            head.field(b"grpc-accept-encoding", b"identity,gzip");
        });
        let sent = self.wire.send_data(stream, &self.message, true);
        ensure!(sent == self.message.len(), "no room for a message");
        let call = Call {
            number: self.number,
            has_head: false,
            received: 0,
        };
        self.calls.insert(stream, call);
        Ok(())
    }

    /// Takes an event; whether a call is complete with it.
    fn take(&mut self, event: &Event<'_>) -> Result<bool> {
        match *event {
            Event::Head { stream, is_end, .. } => {
                let text = String::from_utf8_lossy(&self.text);
                ensure!(
                    text.starts_with("HTTP/1.1 200 ") && !is_end,
                    "a call was refused: {text}"
                );
                let call = self.calls.get_mut(&stream);
                call.context("the head of no call")?.has_head = true;
                Ok(false)
            }
            Event::Data {
                stream,
                bytes,
                is_end,
            } => {
                ensure!(!is_end, "an answer has no trailers");
                let call = self.calls.get_mut(&stream);
                let call = call.context("data of no call")?;
                number(&mut self.message, call.number);
                let end = call.received + bytes.len();
                let expected = self.message.get(call.received..end);
                ensure!(
                    expected == Some(bytes) && call.has_head,
                    "another message came back"
                );
                call.received = end;
                self.wire.consume(stream, bytes.len());
                Ok(false)
            }
            Event::Trailers { stream } => {
                let text = String::from_utf8_lossy(&self.text);
                let succeeded = text.lines().any(|line| line == "grpc-status: 0");
                ensure!(succeeded, "a call failed: {text}");
                let call = self.calls.remove(&stream);
                let call = call.context("the end of no call")?;
                ensure!(call.received == self.message.len(), "an answer is cut");
                Ok(true)
            }
            Event::Window { .. } | Event::Pong => Ok(false),
            Event::Goaway {
                code: ErrorCode::NO_ERROR,
                ..
            } => {
                self.is_leaving = true;
                Ok(false)
            }
            Event::Reset { .. } | Event::Broken { .. } | Event::Goaway { .. } => {
                bail!("the proxy gives up: {event:?}")
            }
        }
    }
}

impl Talk for Caller {
    fn greet(&mut self, out: &mut Vec<u8>) -> Result<()> {
        for _ in 0..self.at_once {
            self.call()?;
        }
        out.append(&mut self.wire.out);
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Heard> {
        let mut heard = Heard::default();
        loop {
            self.text.clear();
            let rest = &bytes[heard.taken..];
            let (taken, event) = self.wire.receive(rest, 0, &mut self.text)?;
            heard.taken += taken;
            let Some(event) = event else { break };
            if self.take(&event)? {
                heard.completed += 1;
                if !(self.is_stopping || self.is_leaving) {
                    self.call()?;
                }
            }
        }
        out.append(&mut self.wire.out);
        Ok(heard)
    }

    fn stop(&mut self) {
        self.is_stopping = true;
    }

    fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving
    }
}

/// Puts a call's number into a message, so that no answer can be taken for another's.
fn number(message: &mut [u8], number: u32) {
    message[PREFIX_BYTES..PREFIX_BYTES + 4].copy_from_slice(&number.to_be_bytes());
}

/// The origin's end.
pub(crate) struct Answerer {
    wire: Connection,
    text: Vec<u8>,
    /// Requests that have not ended, by stream.
    begun: HashMap<u32, Vec<u8>>,
    /// Those that have, and whose answers wait for room, oldest first.
    due: VecDeque<(u32, Vec<u8>)>,
}

impl Default for Answerer {
    fn default() -> Self {
        Self {
            wire: Connection::new(Role::Server, limits()),
            text: Vec::new(),
            begun: HashMap::new(),
            due: VecDeque::new(),
        }
    }
}

impl Answerer {
    fn take(&mut self, event: &Event<'_>) -> Result<()> {
        let (stream, is_end) = match *event {
            Event::Head {
                stream,
                is_end,
                verdict,
            } => {
                ensure!(verdict.fault.is_none(), "{:?}", verdict.fault);
                self.begun.insert(stream, Vec::new());
                (stream, is_end)
            }
            Event::Data {
                stream,
                bytes,
                is_end,
            } => {
                let message = self.begun.get_mut(&stream).context("data of no call")?;
                message.extend_from_slice(bytes);
                self.wire.consume(stream, bytes.len());
                (stream, is_end)
            }
            Event::Trailers { stream } => (stream, true),
            Event::Reset { stream, .. } => {
                self.begun.remove(&stream);
                return Ok(());
            }
            Event::Window { .. } | Event::Pong | Event::Goaway { .. } => return Ok(()),
            Event::Broken { .. } => bail!("{event:?}"),
        };
        if is_end {
            let message = self.begun.remove(&stream).context("the end of no call")?;
            self.due.push_back((stream, message));
        }
        Ok(())
    }

    fn answer(&mut self) {
        while let Some((stream, message)) = self.due.front() {
            let stream = *stream;
            match self.wire.sendable(stream) {
                Some(room) if room < message.len() => return,
                Some(_) => {
                    self.wire.send_head(stream, false, |head| {
                        head.status(200);
                        head.field(b"content-type", b"application/grpc");
                        head.field(b"grpc-accept-encoding", b"identity,gzip");
                    });
                    self.wire.send_data(stream, message, false);
                    self.wire.send_head(stream, true, |head| {
                        head.field(b"grpc-status", b"0");
                        head.field(b"grpc-message", b"");
                    });
                }
                // It was reset meanwhile.
                None => {}
            }
            self.due.pop_front();
        }
    }
}

impl Talk for Answerer {
    fn greet(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.append(&mut self.wire.out);
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Heard> {
        let mut heard = Heard::default();
        loop {
            self.text.clear();
            let rest = &bytes[heard.taken..];
            let (taken, event) = self.wire.receive(rest, 0, &mut self.text)?;
            heard.taken += taken;
            let Some(event) = event else { break };
            self.take(&event)?;
        }
        self.answer();
        out.append(&mut self.wire.out);
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::converse;

    #[test]
    fn both_ends_understand_each_other_however_bytes_come() {
        for piece in [1, 13, 10_000] {
            let completed = converse(Caller::new(32), Answerer::default(), piece, 200).unwrap();
            assert!(completed >= 200);
        }
    }

    /// An origin of which one thing is wrong.
    struct Wrong(Connection, fn(&mut Connection, u32));

    impl Talk for Wrong {
        fn greet(&mut self, out: &mut Vec<u8>) -> Result<()> {
            out.append(&mut self.0.out);
            Ok(())
        }

        fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Heard> {
            let mut heard = Heard::default();
            loop {
                let rest = &bytes[heard.taken..];
                let (taken, event) = self.0.receive(rest, 0, &mut Vec::new())?;
                heard.taken += taken;
                let Some(event) = event else { break };
                if let Event::Data {
                    stream,
                    is_end: true,
                    ..
                } = event
                {
                    self.1(&mut self.0, stream);
                }
            }
            out.append(&mut self.0.out);
            Ok(heard)
        }
    }

    #[test]
    fn a_server_that_takes_leave_is_asked_nothing_more() {
        let (mut caller, mut out) = (Caller::new(2), Vec::new());
        caller.greet(&mut out).unwrap();
        let mut server = Connection::new(Role::Server, limits());
        server.announce_end();
        caller.hear(&server.out, &mut out).unwrap();
        assert!(caller.is_leaving() && !caller.is_idle());
        // What was asked before is served, and nothing is asked in its place.
        server.out.clear();
        let (mut answerer, mut served) = (Answerer::default(), Vec::new());
        answerer.wire = server;
        answerer.hear(&out, &mut served).unwrap();
        assert_eq!(caller.hear(&served, &mut out).unwrap().completed, 2);
        assert!(caller.is_idle());
    }

    #[test]
    fn a_client_notices_what_is_wrong() {
        let check = |answer: fn(&mut Connection, u32), said: &str| {
            let origin = Wrong(Connection::new(Role::Server, limits()), answer);
            let error = converse(Caller::new(1), origin, 10_000, 1).unwrap_err();
            assert!(format!("{error:#}").contains(said), "{error:#}");
        };
        check(
            |wire, stream| {
                wire.send_head(stream, true, |head| head.status(503));
            },
            "refused",
        );
        check(
            |wire, stream| {
                wire.send_head(stream, true, |head| head.status(200));
            },
            "refused",
        );
        check(
            |wire, stream| {
                wire.send_head(stream, false, |head| head.status(200));
                wire.send_data(stream, &[0; PREFIX_BYTES + MESSAGE_BYTES], false);
            },
            "another message",
        );
        check(
            |wire, stream| {
                wire.send_head(stream, false, |head| head.status(200));
                wire.send_data(stream, &[], true);
            },
            "no trailers",
        );
        check(
            |wire, stream| {
                wire.send_head(stream, false, |head| head.status(200));
                wire.send_head(stream, true, |head| head.field(b"grpc-status", b"14"));
            },
            "a call failed",
        );
        check(
            |wire, stream| {
                wire.send_head(stream, false, |head| head.status(200));
                wire.send_head(stream, true, |head| head.field(b"grpc-status", b"0"));
            },
            "cut",
        );
    }
}

//! One client connection: non-blocking connect, TLS if the plan has it, request out, response in;
//! or, where a handshake is all that is wanted, TLS and then the end.
//!
//! Driven by the client's epoll events, edge-triggered: every call goes on until the socket would
//! block. It must not decide what a failure means; it says what happened to the connection.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind};
use socket2::{Domain, Protocol, Socket, Type};

use super::Plan;
use super::response::{Response, Verdict};
use super::tally::Failure;
use crate::certificate::{DOMAIN, KEY_EXCHANGE};

/// Connections leave from this many loopback addresses in turn, so that a run of new connections
/// does not wait for the ports of closed ones.
const SOURCES: u64 = 64;

/// What a slot opens connections for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// One request after the other.
    Requests,
    /// A single request; the peer closes.
    OneRequest,
    /// The handshake itself: the client says `close_notify` with its last message of it.
    Handshake,
}

/// A connection in use by one slot.
pub(crate) struct Connection {
    purpose: Purpose,
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    state: State,
    /// What the socket has not taken yet, without TLS; empty nearly always.
    unsent: Vec<u8>,
    response: Response,
}

#[derive(PartialEq)]
enum State {
    /// The kernel has not reported the connection's fate.
    Connecting,
    /// The kernel refused at once.
    Refused,
    Open,
    /// Nothing more will be said, because the response was the last or the handshake was all; the
    /// peer's end of the connection is awaited.
    Closing,
}

/// What an event led to.
pub(crate) enum Step {
    /// Nothing yet.
    Pending,
    /// The response is complete, and with it the connection unless `reusable`.
    Answered {
        /// Whether another request may follow.
        reusable: bool,
    },
}

/// Why the connection is over without a complete response.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended {
    /// It never opened.
    Refused,
    /// The TLS layer refused something.
    Tls,
    /// The peer closed or reset it before any byte of the response.
    Closed,
    /// The peer closed or reset it within the response.
    Cut,
    /// The response differs from the expected one.
    Wrong,
}

impl Ended {
    /// What this means when a request was outstanding.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Ended::Refused => Failure::Refused,
            Ended::Tls => Failure::Tls,
            Ended::Closed => Failure::Unanswered,
            Ended::Cut => Failure::Cut,
            Ended::Wrong => Failure::Wrong,
        }
    }
}

impl Connection {
    /// Begins to connect; events come to `epoll` under the slot's number.
    pub(crate) fn begin(
        plan: &Plan,
        purpose: Purpose,
        (epoll, slot): (&OwnedFd, usize),
        sequence: u64,
    ) -> Result<Self> {
        let socket = Socket::new(
            Domain::IPV4,
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        let source = u8::try_from(1 + sequence % SOURCES).expect("at most SOURCES");
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, source), 0)).into())?;
        let state = match socket.connect(&plan.target.into()) {
            Ok(()) => State::Connecting,
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => State::Connecting,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => State::Refused,
            Err(error) => return Err(error).context("connect"),
        };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(slot as u64), flags)?;
        let tls = match &plan.tls {
            Some(config) => {
                let name = ServerName::try_from(DOMAIN)?;
                Some(Box::new(ClientConnection::new(Arc::clone(config), name)?))
            }
            None => None,
        };
        Ok(Self {
            purpose,
            socket: socket.into(),
            tls,
            state,
            unsent: Vec::new(),
            response: Response::default(),
        })
    }

    /// Sends a request, now or as soon as the connection is open; none, if that is not what the
    /// connection is for.
    pub(crate) fn request(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        match &mut self.tls {
            _ if self.purpose == Purpose::Handshake => {}
            Some(tls) => tls.writer().write_all(bytes).map_err(|_| Ended::Tls)?,
            None => self.unsent.extend_from_slice(bytes),
        }
        match self.state {
            State::Refused => return Err(Ended::Refused),
            State::Connecting => {}
            State::Open | State::Closing => self.flush(),
        }
        Ok(())
    }

    /// Whether its handshake resumed a session.
    pub(crate) fn has_resumed(&self) -> bool {
        let kind = self.tls.as_ref().and_then(|tls| tls.handshake_kind());
        kind == Some(HandshakeKind::Resumed)
    }

    /// Does what an event allows. `input` is scratch space; `body` is the expected body.
    pub(crate) fn advance(
        &mut self,
        flags: EventFlags,
        input: &mut [u8],
        body: &[u8],
    ) -> Result<Step, Ended> {
        if self.state == State::Connecting {
            let failed = self
                .socket
                .take_error()
                .map_or(true, |error| error.is_some());
            if failed {
                return Err(Ended::Refused);
            }
            if !flags.contains(EventFlags::OUT) {
                return Ok(Step::Pending);
            }
            self.state = State::Open;
        }
        if flags.contains(EventFlags::OUT) {
            self.flush();
        }
        let ended = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if !flags.intersects(EventFlags::IN | ended) {
            return Ok(Step::Pending);
        }
        self.receive(flags.intersects(ended), input, body)
    }

    /// Reads until the socket is empty. `to_the_end`: an end was announced, so that a short read
    /// does not mean that nothing follows.
    fn receive(&mut self, to_the_end: bool, input: &mut [u8], body: &[u8]) -> Result<Step, Ended> {
        let mut step = Step::Pending;
        loop {
            let count = match self.socket.read(input) {
                Ok(0) => return self.at_end(step),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(step),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The request before was answered, whatever came after; a handshake that the peer
                // cut may not have been complete for the peer.
                Err(_) if self.purpose == Purpose::Handshake => return Err(Ended::Cut),
                Err(_) => return self.at_end(step),
            };
            match self.digest(&input[..count], body)? {
                Verdict::Pending => self.leave_after_handshake()?,
                Verdict::Wrong => return Err(Ended::Wrong),
                Verdict::Complete { close: false } => step = Step::Answered { reusable: true },
                Verdict::Complete { close: true } => self.state = State::Closing,
            }
            if count < input.len() && !to_the_end {
                return Ok(step);
            }
        }
    }

    /// The peer has closed: fine after the last response, a failure elsewhere.
    fn at_end(&self, step: Step) -> Result<Step, Ended> {
        match step {
            Step::Answered { .. } => Ok(Step::Answered { reusable: false }),
            Step::Pending if self.state == State::Closing => Ok(Step::Answered { reusable: false }),
            Step::Pending if self.response.is_empty() => Err(Ended::Closed),
            Step::Pending => Err(Ended::Cut),
        }
    }

    /// Once the handshake is complete for us, says that it was all. That it is complete for the
    /// peer as well shows when the peer closes without an alert.
    fn leave_after_handshake(&mut self) -> Result<(), Ended> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        if self.purpose == Purpose::Handshake && self.state == State::Open && !tls.is_handshaking()
        {
            // A resumed session of TLS 1.2 exchanges no keys.
            let group = tls.negotiated_key_exchange_group();
            if group.is_some_and(|group| group.name() != KEY_EXCHANGE.name()) {
                return Err(Ended::Wrong);
            }
            tls.send_close_notify();
            self.flush();
            // An error means that the peer has closed before; reading says how.
            let _ = self.socket.shutdown(Shutdown::Write);
            self.state = State::Closing;
        }
        Ok(())
    }

    /// Compares received bytes with what is expected, through TLS if there is any.
    fn digest(&mut self, mut bytes: &[u8], body: &[u8]) -> Result<Verdict, Ended> {
        let Some(tls) = &mut self.tls else {
            return Ok(self.response.feed(bytes, body));
        };
        let mut verdict = Verdict::Pending;
        while !bytes.is_empty() {
            let taken = tls.read_tls(&mut bytes).map_err(|_| Ended::Tls)?;
            tls.process_new_packets().map_err(|_| Ended::Tls)?;
            loop {
                let mut reader = tls.reader();
                // WouldBlock: no more whole records.
                let Ok(plain) = reader.fill_buf() else { break };
                if plain.is_empty() {
                    break;
                }
                // Plaintext after the last byte of a response belongs to no request.
                if verdict != Verdict::Pending {
                    return Ok(Verdict::Wrong);
                }
                verdict = self.response.feed(plain, body);
                let count = plain.len();
                reader.consume(count);
            }
            // Nothing is read after close_notify.
            if taken == 0 {
                break;
            }
        }
        if tls.wants_write() {
            self.flush();
        }
        Ok(verdict)
    }

    /// Writes until nothing is left or the socket is full. A write error is not the last word: the
    /// peer may have answered before it closed, so reading decides what it means.
    fn flush(&mut self) {
        match &mut self.tls {
            Some(tls) => while tls.wants_write() && tls.write_tls(&mut self.socket).is_ok() {},
            None => {
                while !self.unsent.is_empty() {
                    match self.socket.write(&self.unsent) {
                        Ok(count) => drop(self.unsent.drain(..count)),
                        Err(_) => break,
                    }
                }
            }
        }
    }
}

/// `EINPROGRESS`, which `io::ErrorKind` does not name.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

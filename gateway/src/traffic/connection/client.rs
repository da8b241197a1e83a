//! The client's side of one exchange: sending response heads and bodies as its protocol allows, and
//! knowing whether the connection can serve another request.
//!
//! Must not: decide what is answered, or leave a client in doubt whether a body was whole.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use cardea_http1::{Framing, Version, write};

use super::Ticket;
use crate::traffic::body::Pace;
use crate::traffic::exchange::Timeouts;
use crate::traffic::http2::Stream;
use crate::traffic::respond::{Response, has_body};
use crate::traffic::socket::Socket;
use crate::traffic::timer::{Direction, Timer};
use crate::traffic::upstream::request::stays_here;

/// The client's side of one exchange.
#[derive(Debug)]
pub struct ClientSide<'c> {
    /// What the exchange came on.
    pub end: ClientEnd<'c>,
    /// The connection's entry in the worker's register.
    pub ticket: &'c Ticket,
    /// Whether the request was HEAD: its response has a head only.
    pub is_head: bool,
    /// Whether the connection serves another request after this one.
    pub persistent: Cell<bool>,
    /// Whether the head of a final response was sent.
    pub head_sent: Cell<bool>,
    /// Whether the client still waits for 100 (Continue) before it sends its body.
    pub expects_continue: Cell<bool>,
}

/// What an exchange came on.
#[derive(Debug, Clone, Copy)]
pub enum ClientEnd<'c> {
    /// A connection that serves one exchange at a time, and the version of the request.
    Http1(&'c Socket, Version),
    /// A stream among others.
    Http2(&'c Stream),
}

impl<'c> ClientSide<'c> {
    /// For a response to something that was no request; the connection ends with it.
    pub fn farewell(end: ClientEnd<'c>, ticket: &'c Ticket) -> Self {
        Self {
            end,
            ticket,
            is_head: false,
            persistent: Cell::new(false),
            head_sent: Cell::new(false),
            expects_continue: Cell::new(false),
        }
    }

    /// The deadlines of the client.
    pub fn timer(&self) -> &Timer {
        match self.end {
            ClientEnd::Http1(socket, _) => socket.timer(),
            ClientEnd::Http2(stream) => stream.timer(),
        }
    }

    /// The address that the client connected to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self.end {
            ClientEnd::Http1(socket, _) => socket.local_address().ok(),
            ClientEnd::Http2(stream) => stream.hub().local_address(),
        }
    }

    /// Waits until the client has given the exchange up.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.end {
            ClientEnd::Http1(socket, _) => socket.poll_reset(cx),
            ClientEnd::Http2(stream) => stream.poll_reset(cx),
        }
    }

    /// How a body is delimited towards this client, given how it arrives.
    pub fn framing(&self, status: u16, received: Framing) -> Framing {
        if self.is_head || !has_body(status) {
            return Framing::None;
        }
        match (self.end, received) {
            (ClientEnd::Http1(_, Version::Http10), Framing::Chunked | Framing::UntilClose) => {
                Framing::UntilClose
            }
            (_, Framing::UntilClose) => Framing::Chunked,
            (_, other) => other,
        }
    }

    /// The length to tell of: that of the body, or what the origin declared of one that a response
    /// to HEAD and a 304 do not have (RFC 9110 §8.6).
    pub fn told_length(&self, status: u16, framing: Framing, declared: Option<u64>) -> Option<u64> {
        match framing {
            Framing::Length(length) => Some(length),
            Framing::None => declared.filter(|_| self.is_head || status == 304),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    /// Serialises a final head for a connection of HTTP/1. `length` is what the origin declared.
    pub fn write_head(
        &self,
        out: &mut Vec<u8>,
        response: &Response,
        framing: Framing,
        length: Option<u64>,
    ) {
        write::status_line(out, response.status);
        response.headers.write(out, |known| !stays_here(known));
        if let Some(length) = self.told_length(response.status, framing, length) {
            write::content_length(out, length);
        }
        match framing {
            Framing::Chunked => write::chunked(out),
            Framing::UntilClose => self.persistent.set(false),
            Framing::Length(_) | Framing::None => {}
        }
        if self.ticket.is_released() {
            self.persistent.set(false);
        }
        if !self.persistent.get() {
            out.extend_from_slice(b"connection: close\r\n");
        } else if matches!(self.end, ClientEnd::Http1(_, Version::Http10)) {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Sends a response that is here as a whole.
    pub async fn send_whole(
        &self,
        response: &Response,
        framing: Framing,
        body: &[u8],
        pace: &mut Pace,
    ) -> io::Result<()> {
        let length = Some(body.len() as u64);
        let body = if framing == Framing::None { &[] } else { body };
        self.head_sent.set(true);
        match self.end {
            ClientEnd::Http1(socket, _) => {
                let mut out = Vec::with_capacity(512 + body.len());
                self.write_head(&mut out, response, framing, length);
                out.extend_from_slice(body);
                send(socket, &out, &[], pace).await
            }
            ClientEnd::Http2(stream) => {
                let length = self.told_length(response.status, framing, length);
                stream.send_head(response, length, body.is_empty())?;
                match body {
                    [] => Ok(()),
                    body => stream.send(body, true, pace).await,
                }
            }
        }
    }

    /// Sends an interim response (1xx), which HTTP/1.0 clients do not know.
    pub async fn send_interim(&self, response: &Response, pace: &mut Pace) -> io::Result<()> {
        match self.end {
            ClientEnd::Http1(_, Version::Http10) => Ok(()),
            ClientEnd::Http1(socket, _) => {
                let mut out = Vec::new();
                write::status_line(&mut out, response.status);
                response.headers.write(&mut out, |known| !stays_here(known));
                out.extend_from_slice(b"\r\n");
                send(socket, &out, &[], pace).await
            }
            ClientEnd::Http2(stream) => stream.send_head(response, None, false),
        }
    }

    /// Tells a client that waits to go on with its body (RFC 9110 §10.1.1).
    pub async fn send_continue(&self, pace: &mut Pace) -> io::Result<()> {
        if !self.expects_continue.replace(false) {
            return Ok(());
        }
        let go_on = Response {
            status: 100,
            ..Response::default()
        };
        self.send_interim(&go_on, pace).await
    }
}

/// Writes both slices, demanding progress and a least rate of whoever reads them.
pub async fn send(socket: &Socket, head: &[u8], body: &[u8], pace: &mut Pace) -> io::Result<()> {
    let total = head.len() + body.len();
    let mut written = 0;
    while written < total {
        pace.arm(socket.timer(), Direction::Write);
        let rest_head = head.get(written..).unwrap_or_default();
        let rest_body = body
            .get(written.saturating_sub(head.len())..)
            .unwrap_or_default();
        let taken = socket.write(rest_head, rest_body).await?;
        written += taken;
        if !pace.keeps_up(socket.timer(), taken) {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    pace.arm(socket.timer(), Direction::Write);
    socket.flush().await
}

/// The pace a client has to keep in taking a response.
pub fn write_pace(timeouts: &Timeouts) -> Pace {
    Pace::new(timeouts.write_progress, timeouts.write_rate_min)
}

//! The client's side of one HTTP/1 exchange: writing response heads and bodies as its version
//! allows, and knowing whether the connection can serve another request.
//!
//! Must not: decide what is answered, or leave a client in doubt whether a body was whole.

use std::cell::Cell;
use std::io::{self, ErrorKind};

use cardea_http1::{Framing, Version, write};

use super::Ticket;
use crate::traffic::body::Pace;
use crate::traffic::exchange::Timeouts;
use crate::traffic::respond::{Response, has_body};
use crate::traffic::socket::Socket;
use crate::traffic::timer::Direction;
use crate::traffic::upstream::request::stays_here;

/// The client's side of one exchange.
#[derive(Debug)]
pub struct ClientSide<'c> {
    /// The connection.
    pub socket: &'c Socket,
    /// Its entry in the worker's register.
    pub ticket: &'c Ticket,
    /// The version the request was made in.
    pub version: Version,
    /// Whether the request was HEAD: its response has a head only.
    pub is_head: bool,
    /// Whether the connection serves another request after this one.
    pub persistent: Cell<bool>,
    /// Whether the head of a final response was sent.
    pub head_sent: Cell<bool>,
    /// Whether the client still waits for 100 (Continue) before it sends its body.
    pub expects_continue: Cell<bool>,
}

impl<'c> ClientSide<'c> {
    /// For a response to something that was no request; the connection ends with it.
    pub fn farewell(socket: &'c Socket, ticket: &'c Ticket) -> Self {
        Self {
            socket,
            ticket,
            version: Version::Http11,
            is_head: false,
            persistent: Cell::new(false),
            head_sent: Cell::new(false),
            expects_continue: Cell::new(false),
        }
    }

    /// How a body is delimited towards this client, given how it arrives.
    pub fn framing(&self, status: u16, received: Framing) -> Framing {
        if self.is_head || !has_body(status) {
            return Framing::None;
        }
        match received {
            Framing::Chunked | Framing::UntilClose if self.version == Version::Http10 => {
                Framing::UntilClose
            }
            Framing::UntilClose => Framing::Chunked,
            other => other,
        }
    }

    /// Serialises a final head. `length` is what the origin declared, which a response to HEAD
    /// and a 304 repeat without a body (RFC 9110 §8.6).
    pub fn write_head(
        &self,
        out: &mut Vec<u8>,
        response: &Response,
        framing: Framing,
        length: Option<u64>,
    ) {
        write::status_line(out, response.status);
        response.headers.write(out, |known| !stays_here(known));
        match framing {
            Framing::Length(length) => write::content_length(out, length),
            Framing::Chunked => write::chunked(out),
            Framing::UntilClose => self.persistent.set(false),
            Framing::None => {
                if let Some(length) = length.filter(|_| self.is_head || response.status == 304) {
                    write::content_length(out, length);
                }
            }
        }
        if self.ticket.is_released() {
            self.persistent.set(false);
        }
        if !self.persistent.get() {
            out.extend_from_slice(b"connection: close\r\n");
        } else if self.version == Version::Http10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Sends an interim response (1xx), which HTTP/1.0 clients do not know.
    pub async fn send_interim(&self, response: &Response, pace: &mut Pace) -> io::Result<()> {
        if self.version == Version::Http10 {
            return Ok(());
        }
        let mut out = Vec::new();
        write::status_line(&mut out, response.status);
        response.headers.write(&mut out, |known| !stays_here(known));
        out.extend_from_slice(b"\r\n");
        self.send(&out, &[], pace).await
    }

    /// Tells a client that waits to go on with its body (RFC 9110 §10.1.1).
    pub async fn send_continue(&self, pace: &mut Pace) -> io::Result<()> {
        if !self.expects_continue.replace(false) {
            return Ok(());
        }
        self.send(b"HTTP/1.1 100 Continue\r\n\r\n", &[], pace).await
    }

    /// Writes both slices at the pace the client has to keep.
    pub async fn send(&self, head: &[u8], body: &[u8], pace: &mut Pace) -> io::Result<()> {
        send(self.socket, head, body, pace).await
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

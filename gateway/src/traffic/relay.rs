//! Moving a response from an origin to its client: the head and what came with it in one write,
//! the rest as it comes, by `splice` where both sides are plain sockets.
//!
//! Must not: read from the origin what the client has not taken (backpressure is not reading), or
//! end a body cleanly that the origin cut short.

use std::io::{self, ErrorKind};

use cardea_http1::Framing;

use super::body::{BodyError, BodyReader, Pace};
use super::buffer::Inbound;
use super::connection::client::{ClientSide, write_pace};
use super::exchange::Exchange;
use super::respond::{Reason, Response};
use super::socket::Socket;
use super::splice;
use super::upstream::request::{write_chunk, write_end};
use super::worker::Worker;

/// A body worth a pipe, bytes still to come.
const SPLICE_FROM: u64 = 64 * 1024;

/// A chunk that is copied to leave in one write, bytes.
const COPIED_BYTES_MAX: usize = 32 * 1024;

/// What is relayed: a response head, and where its body comes from.
#[derive(Debug)]
pub struct Incoming<'i> {
    /// The head, policies applied.
    pub response: &'i Response,
    /// How the origin delimits the body.
    pub framing: Framing,
    /// The length the origin declared, for responses without a body.
    pub length: Option<u64>,
    /// The origin's connection.
    pub socket: &'i Socket,
    /// What was received after the head.
    pub inbound: &'i mut Inbound,
}

/// Sends a response to its end; an error is the reason why it stayed incomplete.
pub async fn relay(
    worker: &Worker,
    exchange: &mut Exchange<'_>,
    client: &ClientSide<'_>,
    incoming: Incoming<'_>,
) -> Result<(), Reason> {
    let framing = client.framing(incoming.response.status, incoming.framing);
    let received = if framing == Framing::None {
        Framing::None
    } else {
        incoming.framing
    };
    let mut out = worker.buffers.take_output();
    client.write_head(&mut out, incoming.response, framing, incoming.length);
    exchange.status = incoming.response.status;
    let mut relay = Relay {
        worker,
        client,
        origin: incoming.socket,
        inbound: incoming.inbound,
        body: BodyReader::new(
            received,
            &worker.response_limits,
            Pace::new(exchange.timeouts.upstream_body, 0),
        ),
        framing,
        pace: write_pace(exchange.timeouts),
        sent: 0,
        out,
    };
    let result = relay.run().await;
    exchange.bytes_sent += relay.sent;
    worker.buffers.give_output(relay.out);
    result
}

struct Relay<'r> {
    worker: &'r Worker,
    client: &'r ClientSide<'r>,
    origin: &'r Socket,
    inbound: &'r mut Inbound,
    body: BodyReader,
    framing: Framing,
    pace: Pace,
    sent: u64,
    out: Vec<u8>,
}

impl Relay<'_> {
    async fn run(&mut self) -> Result<(), Reason> {
        let together = self.gather();
        self.client.head_sent.set(true);
        self.send_out().await?;
        together.map_err(|error| origin_fault(&error))?;
        if self.body.is_done() {
            return Ok(());
        }
        loop {
            if self.try_splice().await? {
                return Ok(());
            }
            let next = self
                .body
                .next(self.origin, self.inbound, &self.worker.buffers)
                .await;
            match next.map_err(|error| origin_fault(&error))? {
                Some(piece) => self.send_piece(piece).await?,
                // Asking also gave the last piece back to the buffer, which is now empty unless
                // the origin said more than its body.
                None => {
                    self.out.clear();
                    write_end(&mut self.out, self.framing, &self.body);
                    return self.send_out().await;
                }
            }
        }
    }

    /// Puts what was received with the head behind it.
    fn gather(&mut self) -> Result<(), BodyError> {
        while let Some(piece) = self.body.next_received(self.inbound)? {
            let piece = self.inbound.range(piece);
            self.sent += piece.len() as u64;
            match self.framing {
                Framing::Chunked => write_chunk(&mut self.out, piece),
                _ => self.out.extend_from_slice(piece),
            }
        }
        if self.body.is_done() {
            write_end(&mut self.out, self.framing, &self.body);
        }
        Ok(())
    }

    async fn send_piece(&mut self, piece: std::ops::Range<usize>) -> Result<(), Reason> {
        let piece = self.inbound.range(piece);
        self.sent += piece.len() as u64;
        self.out.clear();
        let (head, body): (&[u8], &[u8]) = match self.framing {
            Framing::Chunked if piece.len() <= COPIED_BYTES_MAX => {
                write_chunk(&mut self.out, piece);
                (&self.out, &[])
            }
            Framing::Chunked => {
                cardea_http1::write::chunk_start(&mut self.out, piece.len() as u64);
                (&self.out, piece)
            }
            _ => (piece, &[]),
        };
        let sent = self.client.send(head, body, &mut self.pace).await;
        let sent = match sent {
            Ok(()) if !body.is_empty() => self.client.send(b"\r\n", &[], &mut self.pace).await,
            other => other,
        };
        sent.map_err(|error| client_fault(&error))
    }

    async fn send_out(&mut self) -> Result<(), Reason> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = self.client.send(&self.out, &[], &mut self.pace).await;
        sent.map_err(|error| client_fault(&error))
    }

    /// Moves a large plain body through a pipe; false when it has to be copied.
    async fn try_splice(&mut self) -> Result<bool, Reason> {
        let (Some(origin), Some(client)) = (self.origin.plain(), self.client.socket.plain()) else {
            return Ok(false);
        };
        let (Framing::Length(_), Some(left)) = (self.framing, self.body.remaining()) else {
            return Ok(false);
        };
        if left < SPLICE_FROM || !self.inbound.is_empty() {
            return Ok(false);
        }
        let Some(mut pipe) = self.worker.pipes.take() else {
            return Ok(false);
        };
        let ends = splice::Ends {
            source: self.origin,
            source_stream: origin,
            target: self.client.socket,
            target_stream: client,
        };
        let moved = splice::move_body(&ends, &mut pipe, left, &mut self.body, &mut self.pace).await;
        self.worker.pipes.give(pipe);
        self.sent += moved.bytes;
        self.body.skip(moved.bytes);
        moved.end.map(|()| true)
    }
}

/// The reason of a fault on the origin's side of a body.
pub fn origin_fault(error: &BodyError) -> Reason {
    match error {
        BodyError::TooSlow => Reason::UpstreamBodyTimeout,
        BodyError::Malformed(_) => Reason::UpstreamMalformed,
        BodyError::Cut | BodyError::Failed(_) => Reason::UpstreamBodyCut,
    }
}

/// The reason of a fault on the client's side of a response.
pub fn client_fault(error: &io::Error) -> Reason {
    match error.kind() {
        ErrorKind::TimedOut => Reason::ClientTooSlow,
        _ => Reason::ClientClosed,
    }
}

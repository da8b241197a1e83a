//! Moving a response from an origin to its client: the head and what came with it in one write,
//! the rest as it comes, by `splice` where both sides are plain sockets.
//!
//! Must not: read from the origin what the client has not taken (backpressure is not reading), or
//! end a body cleanly that the origin cut short.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;

use cardea_http1::{ChunkFault, Framing};

use super::body::{Body, BodyError, Pace, Source};
use super::connection::client::{ClientEnd, ClientSide, send, write_pace};
use super::exchange::Exchange;
use super::http2::Stream;
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
    /// The body.
    pub body: Body<'i>,
}

/// Sends a response to its end; an error is the reason why it stayed incomplete.
pub async fn relay(
    worker: &Worker,
    exchange: &mut Exchange<'_>,
    client: &ClientSide<'_>,
    incoming: Incoming<'_>,
) -> Result<(), Reason> {
    let framing = client.framing(incoming.response.status, incoming.framing);
    exchange.status = incoming.response.status;
    let mut relay = Relay {
        worker,
        client,
        body: incoming.body,
        framing,
        pace: write_pace(exchange.timeouts),
        sent: 0,
        out: worker.buffers.take_output(),
    };
    let result = match client.end {
        ClientEnd::Http1(socket, _) => {
            client.write_head(&mut relay.out, incoming.response, framing, incoming.length);
            relay.onto_socket(socket).await
        }
        ClientEnd::Http2(stream) => {
            let status = incoming.response.status;
            let length = client.told_length(status, framing, incoming.length);
            relay.onto_stream(stream, incoming.response, length).await
        }
    };
    exchange.bytes_sent += relay.sent;
    worker.buffers.give_output(relay.out);
    result
}

struct Relay<'r> {
    worker: &'r Worker,
    client: &'r ClientSide<'r>,
    body: Body<'r>,
    framing: Framing,
    pace: Pace,
    sent: u64,
    out: Vec<u8>,
}

impl Relay<'_> {
    async fn onto_socket(&mut self, socket: &Socket) -> Result<(), Reason> {
        let together = self.gather();
        self.client.head_sent.set(true);
        self.send_out(socket).await?;
        together.map_err(|error| origin_fault(&error))?;
        if self.body.is_done() {
            return Ok(());
        }
        loop {
            if self.try_splice(socket).await? {
                return Ok(());
            }
            let next = self.next_unless_reset().await?;
            match next.map_err(|error| origin_fault(&error))? {
                Some(piece) => self.send_piece(socket, piece).await?,
                // Asking also gave the last piece back to the buffer, which is now empty unless
                // the origin said more than its body.
                None => {
                    self.out.clear();
                    write_end(&mut self.out, self.framing, self.body.trailers());
                    return self.send_out(socket).await;
                }
            }
        }
    }

    /// Head and body as frames. What the client has no room for is not read from the origin.
    async fn onto_stream(
        &mut self,
        stream: &Stream,
        response: &Response,
        length: Option<u64>,
    ) -> Result<(), Reason> {
        let is_empty = self.body.is_done();
        let begun = stream.send_head(response, length, is_empty);
        self.client.head_sent.set(true);
        begun.map_err(|error| client_fault(&error))?;
        if is_empty {
            return Ok(());
        }
        loop {
            let next = match self.body.next_received() {
                Ok(None) if !self.body.is_done() => {
                    let room = stream.room(&mut self.pace).await;
                    room.map_err(|error| client_fault(&error))?;
                    self.next_unless_reset().await?
                }
                other => other,
            };
            let Some(piece) = next.map_err(|error| origin_fault(&error))? else {
                let ended = stream.send_end(self.body.trailers(), &mut self.pace).await;
                return ended.map_err(|error| client_fault(&error));
            };
            let is_last = self.body.is_done();
            let piece = self.body.piece(piece);
            self.sent += piece.len() as u64;
            let sent = stream.send(piece, is_last, &mut self.pace).await;
            sent.map_err(|error| client_fault(&error))?;
            if is_last {
                // Asking gives the piece back, so that the connection can be used again.
                let _ = self.body.next_received();
                return Ok(());
            }
        }
    }

    /// The next piece, unless the client gives the exchange up meanwhile: then nobody waits for it.
    async fn next_unless_reset(
        &mut self,
    ) -> Result<Result<Option<Range<usize>>, BodyError>, Reason> {
        let mut receiving = pin!(self.body.next(&self.worker.buffers));
        poll_fn(|cx| match receiving.as_mut().poll(cx) {
            Poll::Ready(received) => Poll::Ready(Ok(received)),
            Poll::Pending if self.client.poll_reset(cx).is_ready() => {
                Poll::Ready(Err(Reason::ClientClosed))
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Puts what was received with the head behind it.
    fn gather(&mut self) -> Result<(), BodyError> {
        while let Some(piece) = self.body.next_received()? {
            let piece = self.body.piece(piece);
            self.sent += piece.len() as u64;
            match self.framing {
                Framing::Chunked => write_chunk(&mut self.out, piece),
                _ => self.out.extend_from_slice(piece),
            }
        }
        if self.body.is_done() {
            write_end(&mut self.out, self.framing, self.body.trailers());
        }
        Ok(())
    }

    async fn send_piece(&mut self, socket: &Socket, piece: Range<usize>) -> Result<(), Reason> {
        let piece = self.body.piece(piece);
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
        let sent = send(socket, head, body, &mut self.pace).await;
        let sent = match sent {
            Ok(()) if !body.is_empty() => send(socket, b"\r\n", &[], &mut self.pace).await,
            other => other,
        };
        sent.map_err(|error| client_fault(&error))
    }

    async fn send_out(&mut self, socket: &Socket) -> Result<(), Reason> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = send(socket, &self.out, &[], &mut self.pace).await;
        sent.map_err(|error| client_fault(&error))
    }

    /// Moves a large plain body through a pipe; false when it has to be copied.
    async fn try_splice(&mut self, client: &Socket) -> Result<bool, Reason> {
        if !self.body.is_untranslated() {
            return Ok(false);
        }
        let Source::Http1(body) = &mut self.body.source else {
            return Ok(false);
        };
        let (Some(source), Some(target)) = (body.socket.plain(), client.plain()) else {
            return Ok(false);
        };
        let (Framing::Length(_), Some(left)) = (self.framing, body.reader.remaining()) else {
            return Ok(false);
        };
        if left < SPLICE_FROM || !body.inbound.is_empty() {
            return Ok(false);
        }
        let Some(mut pipe) = self.worker.pipes.take() else {
            return Ok(false);
        };
        let ends = splice::Ends {
            source: body.socket,
            source_stream: source,
            target: client,
            target_stream: target,
        };
        let moved =
            splice::move_body(&ends, &mut pipe, left, &mut body.reader, &mut self.pace).await;
        self.worker.pipes.give(pipe);
        self.sent += moved.bytes;
        body.reader.skip(moved.bytes);
        moved.end.map(|()| true)
    }
}

/// The reason of a fault on the origin's side of a body.
pub fn origin_fault(error: &BodyError) -> Reason {
    match error {
        BodyError::TooSlow => Reason::UpstreamBodyTimeout,
        BodyError::Untranslatable(_) => Reason::UpstreamTrailersTooLarge,
        BodyError::Malformed(error) => match error.fault() {
            ChunkFault::TrailersTooLong | ChunkFault::TooManyTrailers => {
                Reason::UpstreamTrailersTooLarge
            }
            _ => Reason::UpstreamMalformed,
        },
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

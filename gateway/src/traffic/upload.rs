//! Moving the body of a request from its client to an origin, piece by piece, while the response
//! may already be on its way back.
//!
//! Must not: read from the client what the origin has not taken (backpressure is not reading), or
//! end a body cleanly that the client cut short.

use cardea_http1::Framing;

use super::body::{Body, BodyError, Pace};
use super::connection::client::{self, ClientSide};
use super::relay::client_fault;
use super::respond::Reason;
use super::upstream::OriginEnd;
use super::upstream::request::{write_chunk, write_end};
use super::worker::Worker;

/// Why the upload of a request's body stopped.
#[derive(Debug)]
pub enum UploadFault {
    /// The client's side: too slow, cut, malformed, too large.
    Client(Reason),
    /// The origin no longer takes the body; it may have answered all the same.
    Origin,
}

/// The upload of a request's body.
#[derive(Debug)]
pub struct Upload<'u> {
    /// The worker.
    pub worker: &'u Worker,
    /// Where the body comes from.
    pub client: &'u ClientSide<'u>,
    /// Where it goes.
    pub origin: OriginEnd<'u>,
    /// How it is delimited, on both sides.
    pub framing: Framing,
    /// The bytes that may still come; none for no limit.
    pub left_max: Option<u64>,
    /// The pace that the origin has to keep.
    pub pace: Pace,
    /// The pace that the client has to keep in reading that it may go on.
    pub continue_pace: Pace,
    /// Bytes sent so far.
    pub sent: u64,
}

impl Upload<'_> {
    /// Sends the body to its end.
    pub async fn run(&mut self, body: &mut Body<'_>) -> Result<(), UploadFault> {
        let told = self.client.send_continue(&mut self.continue_pace).await;
        told.map_err(|error| UploadFault::Client(client_fault(&error)))?;
        let mut out = self.worker.buffers.take_output();
        let result = self.stream(body, &mut out).await;
        self.worker.buffers.give_output(out);
        result
    }

    async fn stream(&mut self, body: &mut Body<'_>, out: &mut Vec<u8>) -> Result<(), UploadFault> {
        loop {
            let next = body.next(&self.worker.buffers).await;
            let next = next.map_err(|error| UploadFault::Client(client_body_fault(&error)))?;
            out.clear();
            let Some(piece) = next else {
                return self.end(body, out).await;
            };
            let piece = body.piece(piece);
            self.sent += piece.len() as u64;
            if self.left_max.is_some_and(|max| self.sent > max) {
                return Err(UploadFault::Client(Reason::BodyTooLarge));
            }
            let sent = match (self.origin, self.framing) {
                (OriginEnd::Http1(socket), Framing::Chunked) => {
                    write_chunk(out, piece);
                    client::send(socket, out, &[], &mut self.pace).await
                }
                (OriginEnd::Http1(socket), _) => {
                    client::send(socket, piece, &[], &mut self.pace).await
                }
                (OriginEnd::Http2(stream), _) => stream.send(piece, false, &mut self.pace).await,
            };
            sent.map_err(|_| UploadFault::Origin)?;
        }
    }

    async fn end(&mut self, body: &Body<'_>, out: &mut Vec<u8>) -> Result<(), UploadFault> {
        let sent = match self.origin {
            OriginEnd::Http1(socket) => {
                write_end(out, self.framing, body.trailers());
                client::send(socket, out, &[], &mut self.pace).await
            }
            OriginEnd::Http2(stream) => stream.send_end(body.trailers(), &mut self.pace).await,
        };
        sent.map_err(|_| UploadFault::Origin)
    }
}

/// The reason of a fault on the client's side of a request body.
pub fn client_body_fault(error: &BodyError) -> Reason {
    match error {
        BodyError::Malformed(_) => Reason::ChunkMalformed,
        BodyError::Untranslatable(_) => Reason::GrpcWebMalformed,
        BodyError::TooSlow => Reason::BodyTimeout,
        BodyError::Cut | BodyError::Failed(_) => Reason::ClientClosed,
    }
}

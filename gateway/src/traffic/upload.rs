//! Moving the body of a request from its client to an origin, piece by piece, while the response
//! may already be on its way back.
//!
//! Must not: read from the client what the origin has not taken (backpressure is not reading), or
//! end a body cleanly that the client cut short.

use cardea_http1::Framing;

use super::body::{BodyError, BodyReader, Pace};
use super::buffer::Inbound;
use super::connection::client::{self, ClientSide};
use super::relay::client_fault;
use super::respond::Reason;
use super::upstream::pool::Connection;
use super::upstream::request::{write_chunk, write_end};
use super::worker::Worker;

/// The request's body on the client's connection.
#[derive(Debug)]
pub struct RequestBody<'c> {
    /// What was received after the request's head.
    pub inbound: &'c mut Inbound,
    /// How far the body was read.
    pub reader: BodyReader,
}

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
    pub connection: &'u Connection,
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
    pub async fn run(&mut self, body: &mut RequestBody<'_>) -> Result<(), UploadFault> {
        let told = self.client.send_continue(&mut self.continue_pace).await;
        told.map_err(|error| UploadFault::Client(client_fault(&error)))?;
        let mut out = self.worker.buffers.take_output();
        let result = self.stream(body, &mut out).await;
        self.worker.buffers.give_output(out);
        result
    }

    async fn stream(
        &mut self,
        body: &mut RequestBody<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), UploadFault> {
        loop {
            let next = body
                .reader
                .next(self.client.socket, body.inbound, &self.worker.buffers)
                .await;
            let next = next.map_err(|error| UploadFault::Client(client_body_fault(&error)))?;
            out.clear();
            let Some(piece) = next else {
                write_end(out, self.framing, &body.reader);
                return self.send(out).await;
            };
            let piece = body.inbound.range(piece);
            self.sent += piece.len() as u64;
            if self.left_max.is_some_and(|max| self.sent > max) {
                return Err(UploadFault::Client(Reason::BodyTooLarge));
            }
            match self.framing {
                Framing::Chunked => {
                    write_chunk(out, piece);
                    self.send(out).await?;
                }
                _ => self.send(piece).await?,
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), UploadFault> {
        let sent = client::send(&self.connection.socket, bytes, &[], &mut self.pace).await;
        sent.map_err(|_| UploadFault::Origin)
    }
}

/// The reason of a fault on the client's side of a request body.
pub fn client_body_fault(error: &BodyError) -> Reason {
    match error {
        BodyError::Malformed(_) => Reason::ChunkMalformed,
        BodyError::TooSlow => Reason::BodyTimeout,
        BodyError::Cut | BodyError::Failed(_) => Reason::ClientClosed,
    }
}

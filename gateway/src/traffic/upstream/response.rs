//! The head of an origin's response: read within its deadline and limits, its interim responses
//! told apart, its faults named.
//!
//! Must not: pass on what it could not parse, or relay interim responses for ever.

use std::io::{self, ErrorKind};

use cardea_http1::{
    ErrorKind as HeadErrorKind, HeadError, HeadScan, Limits, ResponseHead, Underscores,
};
use cardea_http2::MessageFault;

use super::retry::Failed;
use crate::traffic::buffer::{Buffers, Inbound};
use crate::traffic::http2::{Loss, Stream};
use crate::traffic::respond::{Reason, Response};
use crate::traffic::socket::Socket;

/// Interim responses (1xx) taken before a final one must come.
pub const INTERIM_MAX: u32 = 8;

/// What an origin may send as a head.
pub fn limits() -> Limits {
    Limits {
        head_bytes_max: 64 * 1024,
        field_count_max: 200,
        // An origin's names are its own affair; only a client's can pass for somebody else's.
        underscores: Underscores::Keep,
        ..Limits::default()
    }
}

/// Why an attempt at an endpoint failed before its response head was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The reason a client is told.
    pub reason: Reason,
    /// Where the attempt failed.
    pub failed: Failed,
}

impl Failure {
    /// A failure before anything was sent.
    pub fn connecting(reason: Reason) -> Self {
        Self {
            reason,
            failed: Failed::Connecting,
        }
    }

    /// The connection ended before a byte of a response: it may have died while idle.
    pub fn unanswered() -> Self {
        Self {
            reason: Reason::UpstreamReset,
            failed: Failed::ReusedUnanswered,
        }
    }

    /// A failure after the origin had the request.
    pub fn answering(reason: Reason) -> Self {
        Self {
            reason,
            failed: Failed::Answering,
        }
    }
}

/// Reads one response head, interim or final. The read deadline is the caller's.
pub async fn read_head(
    socket: &Socket,
    inbound: &mut Inbound,
    buffers: &Buffers,
    limits: &Limits,
    head: &mut ResponseHead,
    response: &mut Response,
) -> Result<(), Failure> {
    let mut scan = HeadScan::response();
    let span = loop {
        match head.receive(&mut scan, inbound.bytes(), limits) {
            Ok(Some(span)) => break span,
            // No need to wait for the end of what will never be a head.
            Ok(None) if !is_begun(inbound.bytes()) => {
                return Err(Failure::answering(Reason::UpstreamMalformed));
            }
            Ok(None) => {}
            Err(error) => return Err(Failure::answering(fault(&error))),
        }
        match inbound.fill(socket, buffers).await {
            Ok(0) => return Err(ended(inbound)),
            Ok(_) => {}
            Err(error) => return Err(failed(&error, inbound)),
        }
    };
    let bytes = inbound.split_head(span.len(), buffers);
    buffers.give_input(std::mem::replace(&mut response.headers.bytes, bytes));
    response.status = head.status;
    std::mem::swap(&mut response.headers.fields, &mut head.fields);
    response.headers.remove_hop_by_hop(&head.nominated);
    Ok(())
}

/// Takes the next response head of a stream, interim or final; whether the response ends with it. The
/// read deadline is the caller's.
pub async fn read_head_on(
    stream: &Stream,
    buffers: &Buffers,
    limits: &Limits,
    head: &mut ResponseHead,
    response: &mut Response,
) -> Result<bool, Failure> {
    let received = stream
        .head()
        .await
        .map_err(|error| match (error.kind(), stream.loss()) {
            (ErrorKind::TimedOut, _) => Failure::answering(Reason::UpstreamHeadTimeout),
            (_, Some(Loss::Refused)) => Failure {
                reason: Reason::UpstreamReset,
                failed: Failed::Unprocessed,
            },
            (_, Some(Loss::Gone)) => Failure::unanswered(),
            _ => Failure::answering(Reason::UpstreamReset),
        })?;
    match received.verdict.fault {
        None => {}
        Some(MessageFault::TooLarge | MessageFault::TooMany) => {
            return Err(Failure::answering(Reason::UpstreamHeadTooLarge));
        }
        Some(_) => return Err(Failure::answering(Reason::UpstreamMalformed)),
    }
    let parsed = head.parse(&received.text, limits);
    parsed.map_err(|error| Failure::answering(fault(&error)))?;
    buffers.give_input(std::mem::replace(
        &mut response.headers.bytes,
        received.text,
    ));
    response.status = head.status;
    std::mem::swap(&mut response.headers.fields, &mut head.fields);
    response.headers.remove_hop_by_hop(&head.nominated);
    Ok(received.is_end)
}

/// Whether these bytes can be the beginning of a status line.
fn is_begun(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .zip(b"HTTP/")
        .all(|(byte, expected)| byte == expected)
}

fn fault(error: &HeadError) -> Reason {
    match error.kind() {
        HeadErrorKind::HeadTooLarge => Reason::UpstreamHeadTooLarge,
        _ => Reason::UpstreamMalformed,
    }
}

fn ended(inbound: &Inbound) -> Failure {
    if inbound.is_empty() {
        return Failure::unanswered();
    }
    Failure::answering(Reason::UpstreamReset)
}

fn failed(error: &io::Error, inbound: &Inbound) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut => Failure::answering(Reason::UpstreamHeadTimeout),
        _ => ended(inbound),
    }
}

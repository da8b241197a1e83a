//! One request of a check over HTTP/2, on a connection of its own.
//!
//! Must not: take more of an answer than decides.

use std::io;

use cardea_http2::{Connection, Event, Limits, Role};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{ANSWER_BYTES_MAX, CheckError};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'q> {
    pub(super) is_secure: bool,
    pub(super) host: &'q str,
    pub(super) path: &'q str,
    /// A message of gRPC; none for a GET.
    pub(super) message: Option<&'q [u8]>,
}

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Asks, and waits for the end of the answer.
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    question: Question<'_>,
) -> Result<Answer, CheckError> {
    let limits = Limits {
        head_bytes_max: ANSWER_BYTES_MAX as u32,
        ..Limits::default()
    };
    let mut codec = Connection::new(Role::Client, limits);
    let id = codec.open().ok_or(CheckError::Malformed)?;
    write_head(&mut codec, id, question);
    if let Some(message) = question.message {
        // Far less than the window that everybody begins with.
        codec.send_data(id, message, true);
    }
    let mut answer = Answer::default();
    let mut received = Vec::with_capacity(1024);
    loop {
        stream.write_all(&codec.out).await.map_err(CheckError::Io)?;
        codec.out.clear();
        stream.flush().await.map_err(CheckError::Io)?;
        let read = stream.read_buf(&mut received).await;
        if read.map_err(CheckError::Io)? == 0 {
            return Err(CheckError::Unanswered);
        }
        if take_in(&mut codec, &mut received, &mut answer)? {
            return Ok(answer);
        }
        if answer.body.len() + received.len() > ANSWER_BYTES_MAX + 16 * 1024 {
            return Err(CheckError::Malformed);
        }
    }
}

fn write_head(codec: &mut Connection, id: u32, question: Question<'_>) {
    codec.send_head(id, question.message.is_none(), |head| {
        let is_call = question.message.is_some();
        head.field(b":method", if is_call { b"POST" } else { b"GET" });
        let scheme: &[u8] = if question.is_secure {
            b"https"
        } else {
            b"http"
        };
        head.field(b":scheme", scheme);
        head.field(b":authority", question.host.as_bytes());
        head.field(b":path", question.path.as_bytes());
        head.field(b"user-agent", b"cardea-health-check");
        if is_call {
            head.field(b"content-type", b"application/grpc");
            head.field(b"te", b"trailers");
        }
    });
}

/// Takes in what was received; whether the answer is complete.
fn take_in(
    codec: &mut Connection,
    received: &mut Vec<u8>,
    answer: &mut Answer,
) -> Result<bool, CheckError> {
    loop {
        let mut text = Vec::new();
        let event = codec.receive(received, 0, &mut text);
        let (taken, event) = event.map_err(|fault| CheckError::Io(io::Error::other(fault)))?;
        let is_last = event.is_none();
        let mut is_over = false;
        match event {
            Some(Event::Head {
                is_end, verdict, ..
            }) => {
                if verdict.fault.is_some() {
                    return Err(CheckError::Malformed);
                }
                let line = text.split(|byte| *byte == b'\r').next();
                let status = super::parse_status_line(line.unwrap_or_default())?;
                if !(100..200).contains(&status) {
                    answer.status = status;
                    is_over = is_end;
                }
            }
            Some(Event::Data { bytes, is_end, .. }) => {
                answer.body.extend_from_slice(bytes);
                is_over = is_end;
            }
            Some(Event::Trailers { .. }) => is_over = true,
            Some(Event::Reset { .. } | Event::Broken { .. }) => {
                return Err(CheckError::Unanswered);
            }
            Some(Event::Window { .. } | Event::Pong | Event::Goaway { .. }) | None => {}
        }
        received.drain(..taken);
        if is_over || is_last {
            return Ok(is_over);
        }
    }
}

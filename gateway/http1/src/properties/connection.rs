//! The bytes of a connection, read to their end as the gateway would: head, body, next head.

use super::names_and_values;
use crate::{
    ChunkError, ChunkedDecoder, Framing, HeadError, HeadScan, Limits, Method, RequestHead,
    ResponseHead, Step, write,
};

/// Which messages the bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Requests,
    /// All of them to requests of this method.
    Responses(Method),
}

/// What was read.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    /// The messages whose heads were complete; the last one's body may not be.
    pub(super) messages: Vec<Message>,
    pub(super) ending: Ending,
}

#[derive(Debug, PartialEq, Default)]
pub(super) struct Message {
    pub(super) first_line: Vec<u8>,
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Where the bytes came to an end.
#[derive(Debug, PartialEq)]
pub(super) enum Ending {
    /// Between two messages.
    Clean,
    InHead,
    InBody,
    BadHead(HeadError),
    BadBody(ChunkError),
}

/// Reads a connection whose bytes arrive in `pieces`.
pub(super) fn read<'a>(
    side: Side,
    limits: &Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Read {
    let mut reader = Reader::new(side, limits);
    for piece in pieces {
        reader.buffer.extend_from_slice(piece);
        if let Err(ending) = reader.advance() {
            return Read {
                messages: reader.messages,
                ending,
            };
        }
    }
    let ending = match reader.body {
        // To one side or the other the end of the connection is the end of the body.
        Some(Body::UntilClose) => Ending::Clean,
        Some(_) => Ending::InBody,
        None if reader.buffer.is_empty() => Ending::Clean,
        None => Ending::InHead,
    };
    Read {
        messages: reader.messages,
        ending,
    }
}

enum Body {
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
}

struct Reader<'l> {
    side: Side,
    limits: &'l Limits,
    scan: HeadScan,
    buffer: Vec<u8>,
    messages: Vec<Message>,
    body: Option<Body>,
}

impl<'l> Reader<'l> {
    fn new(side: Side, limits: &'l Limits) -> Self {
        let scan = match side {
            Side::Requests => HeadScan::request(),
            Side::Responses(_) => HeadScan::response(),
        };
        Self {
            side,
            limits,
            scan,
            buffer: Vec::new(),
            messages: Vec::new(),
            body: None,
        }
    }

    /// Reads as far as the buffer goes.
    fn advance(&mut self) -> Result<(), Ending> {
        loop {
            let progress = match self.body.take() {
                None => self.advance_head()?,
                Some(body) => self.advance_body(body)?,
            };
            if !progress {
                return Ok(());
            }
        }
    }

    fn advance_head(&mut self) -> Result<bool, Ending> {
        let mut message = Message::default();
        let (span, framing) = match self.side {
            Side::Requests => {
                let mut head = RequestHead::default();
                let found = head.receive(&mut self.scan, &self.buffer, self.limits);
                let Some(span) = found.map_err(Ending::BadHead)? else {
                    return Ok(false);
                };
                let bytes = span.of(&self.buffer);
                write::request_line(
                    &mut message.first_line,
                    head.method_span.of(bytes),
                    head.target.whole.of(bytes),
                );
                message.fields = names_and_values(&head.fields, bytes);
                (span, head.framing)
            }
            Side::Responses(method) => {
                let mut head = ResponseHead::default();
                let found = head.receive(&mut self.scan, &self.buffer, self.limits);
                let Some(span) = found.map_err(Ending::BadHead)? else {
                    return Ok(false);
                };
                let bytes = span.of(&self.buffer);
                write::status_line_with_reason(
                    &mut message.first_line,
                    head.status,
                    head.reason.of(bytes),
                );
                message.fields = names_and_values(&head.fields, bytes);
                (span, head.framing(method))
            }
        };
        self.buffer.drain(..span.end as usize);
        self.scan.restart();
        self.messages.push(message);
        self.body = match framing {
            Framing::None | Framing::Length(0) => None,
            Framing::Length(length) => Some(Body::Length(length)),
            Framing::Chunked => Some(Body::Chunked(Box::new(ChunkedDecoder::new(self.limits)))),
            Framing::UntilClose => Some(Body::UntilClose),
        };
        Ok(true)
    }

    fn advance_body(&mut self, body: Body) -> Result<bool, Ending> {
        let message = self.messages.last_mut().expect("a body follows a head");
        let available = self.buffer.len();
        match body {
            Body::Length(left) => {
                let length = left.min(available as u64);
                message.body.extend(self.buffer.drain(..length as usize));
                self.body = (left > length).then_some(Body::Length(left - length));
                Ok(left == length)
            }
            Body::UntilClose => {
                message.body.append(&mut self.buffer);
                self.body = Some(Body::UntilClose);
                Ok(false)
            }
            Body::Chunked(mut decoder) => {
                match decoder.next(&self.buffer).map_err(Ending::BadBody)? {
                    Step::Need { consumed } => {
                        assert_eq!(consumed, available);
                        self.buffer.clear();
                        self.body = Some(Body::Chunked(decoder));
                        return Ok(false);
                    }
                    Step::Data { start, end } => {
                        message.body.extend_from_slice(&self.buffer[start..end]);
                        self.buffer.drain(..end);
                        self.body = Some(Body::Chunked(decoder));
                    }
                    Step::End { consumed } => {
                        self.buffer.drain(..consumed);
                        message.trailers =
                            names_and_values(decoder.trailers(), decoder.trailer_bytes());
                    }
                }
                Ok(true)
            }
        }
    }
}

//! A whole connection: its bytes read as messages, the messages sent on, and what was sent read
//! again. The two readings have to be the same, or somebody can smuggle.

use cardea_http1::{
    ChunkedDecoder, Framing, HeadScan, Known, Limits, Method, RequestHead, ResponseHead, Step,
    Version, write,
};

/// Which end of a connection the bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From a client.
    Client,
    /// From an origin, in answer to GETs.
    Origin,
}

/// A message as far as it matters to whom it is sent on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    first_line: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    framing: Framing,
    body: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Any bytes as a whole connection from one side.
pub fn byte_stream(bytes: &[u8], side: Side) {
    for limits in super::limits() {
        let read = read(side, &limits, [bytes]);
        assert_eq!(
            self::read(side, &limits, bytes.chunks(1)),
            read,
            "a split changes messages"
        );
        assert_eq!(
            self::read(side, &limits, bytes.chunks(13)),
            read,
            "a split changes messages"
        );

        // Framing fields are ours to write anew, and the lines may become longer for it.
        let limits = Limits {
            head_bytes_max: u32::MAX,
            field_count_max: u32::MAX,
            trailer_bytes_max: u32::MAX,
            ..limits
        };
        let mut sent = Vec::new();
        for message in &read {
            send(&mut sent, message);
        }
        assert_eq!(
            self::read(side, &limits, [&sent[..]]),
            read,
            "{}",
            sent.escape_ascii()
        );
    }
}

/// The complete messages that arrive, up to the first bytes that are not one.
fn read<'b>(
    side: Side,
    limits: &Limits,
    pieces: impl IntoIterator<Item = &'b [u8]>,
) -> Vec<Message> {
    let mut reader = Reader {
        side,
        limits: *limits,
        scan: match side {
            Side::Client => HeadScan::request(),
            Side::Origin => HeadScan::response(),
        },
        buffer: Vec::new(),
        body: None,
        message: Message::default(),
        complete: Vec::new(),
    };
    for piece in pieces {
        reader.buffer.extend_from_slice(piece);
        while let Some(progress) = reader.advance() {
            if !progress {
                return reader.complete;
            }
        }
    }
    if let Some(Body::UntilClose) = reader.body {
        reader.complete.push(reader.message);
    }
    reader.complete
}

enum Body {
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
}

struct Reader {
    side: Side,
    limits: Limits,
    scan: HeadScan,
    buffer: Vec<u8>,
    body: Option<Body>,
    message: Message,
    complete: Vec<Message>,
}

impl Reader {
    /// Whether it went on: `None` if there is nothing more to go on with, `Some(false)` if there
    /// never will be.
    fn advance(&mut self) -> Option<bool> {
        let finished = match self.body.take() {
            None => {
                let framing = match self.read_head() {
                    Ok(framing) => framing?,
                    Err(()) => return Some(false),
                };
                self.message.framing = framing;
                self.body = match framing {
                    Framing::None | Framing::Length(0) => None,
                    Framing::Length(length) => Some(Body::Length(length)),
                    Framing::Chunked => {
                        Some(Body::Chunked(Box::new(ChunkedDecoder::new(&self.limits))))
                    }
                    Framing::UntilClose => Some(Body::UntilClose),
                };
                self.body.is_none()
            }
            Some(Body::Length(left)) => {
                let length = left.min(self.buffer.len() as u64);
                self.message
                    .body
                    .extend(self.buffer.drain(..length as usize));
                if left > length {
                    self.body = Some(Body::Length(left - length));
                    return None;
                }
                true
            }
            Some(Body::UntilClose) => {
                self.message.body.append(&mut self.buffer);
                self.body = Some(Body::UntilClose);
                return None;
            }
            Some(Body::Chunked(decoder)) => match self.read_chunks(decoder) {
                Ok(finished) => finished?,
                Err(()) => return Some(false),
            },
        };
        if finished {
            self.complete.push(std::mem::take(&mut self.message));
        }
        Some(true)
    }

    fn read_head(&mut self) -> Result<Option<Framing>, ()> {
        let (span, framing, fields) = match self.side {
            Side::Client => {
                let mut head = RequestHead::default();
                let received = head.receive(&mut self.scan, &self.buffer, &self.limits);
                let Some(span) = received.map_err(drop)? else {
                    return Ok(None);
                };
                let own = span.of(&self.buffer);
                let (method, target) = (head.method_span.of(own), head.target.whole.of(own));
                let line = &mut self.message.first_line;
                write::request_line(line, method, target);
                if head.version == Version::Http10 {
                    // Without a Host it is valid in this version only.
                    line.truncate(line.len() - b"1.1\r\n".len());
                    line.extend_from_slice(b"1.0\r\n");
                }
                (span, head.framing, head.fields)
            }
            Side::Origin => {
                let mut head = ResponseHead::default();
                let received = head.receive(&mut self.scan, &self.buffer, &self.limits);
                let Some(span) = received.map_err(drop)? else {
                    return Ok(None);
                };
                let reason = head.reason.of(span.of(&self.buffer));
                let line = &mut self.message.first_line;
                write::status_line_with_reason(line, head.status, reason);
                (span, head.framing(Method::Get), head.fields)
            }
        };
        let own = span.of(&self.buffer);
        self.message.fields = fields
            .iter()
            .filter(|field| !matches!(field.known, Known::ContentLength | Known::TransferEncoding))
            .map(|field| (field.name.of(own).to_vec(), field.value.of(own).to_vec()))
            .collect();
        self.buffer.drain(..span.end as usize);
        self.scan.restart();
        Ok(Some(framing))
    }

    fn read_chunks(&mut self, mut decoder: Box<ChunkedDecoder>) -> Result<Option<bool>, ()> {
        match decoder.next(&self.buffer).map_err(drop)? {
            Step::Need { .. } => {
                self.buffer.clear();
                self.body = Some(Body::Chunked(decoder));
                Ok(None)
            }
            Step::Data { start, end } => {
                self.message
                    .body
                    .extend_from_slice(&self.buffer[start..end]);
                self.buffer.drain(..end);
                self.body = Some(Body::Chunked(decoder));
                Ok(Some(false))
            }
            Step::End { consumed } => {
                self.buffer.drain(..consumed);
                let bytes = decoder.trailer_bytes();
                self.message.trailers = decoder
                    .trailers()
                    .iter()
                    .map(|field| {
                        (
                            field.name.of(bytes).to_vec(),
                            field.value.of(bytes).to_vec(),
                        )
                    })
                    .collect();
                Ok(Some(true))
            }
        }
    }
}

fn send(out: &mut Vec<u8>, message: &Message) {
    out.extend_from_slice(&message.first_line);
    for (name, value) in &message.fields {
        write::field(out, name, value);
    }
    match message.framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => write::content_length(out, length),
        Framing::Chunked => write::chunked(out),
    }
    write::head_end(out);
    if message.framing != Framing::Chunked {
        out.extend_from_slice(&message.body);
        return;
    }
    if !message.body.is_empty() {
        write::chunk_start(out, message.body.len() as u64);
        out.extend_from_slice(&message.body);
        write::chunk_end(out);
    }
    write::last_chunk(out);
    for (name, value) in &message.trailers {
        write::field(out, name, value);
    }
    write::head_end(out);
}

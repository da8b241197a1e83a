//! The chunked transfer coding, undone in place: the data stays where it was received, the framing
//! around it is checked and dropped. What is sent on is framed anew by [`write`](mod@crate::write).

use crate::class::{QUOTED, TEXT, TOKEN, is};
use crate::field::parse_trailers;
use crate::{ChunkError, ChunkFault, Field, HeadFault, HeadScan, Limits};

/// Digits of a chunk size: as many as 2^63 − 1 has, leading zeros counted.
const SIZE_DIGITS_MAX: u8 = 16;

/// What a [`ChunkedDecoder`] made of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All of the input was used up; give it what comes next.
    Need {
        /// Bytes of the input that are done with: all of them.
        consumed: usize,
    },
    /// `input[start..end]` is body data. Call again with what follows `end`.
    Data {
        /// Offset of the first byte.
        start: usize,
        /// Offset after the last byte; up to here the input is done with.
        end: usize,
    },
    /// The body is complete. What follows belongs to the next message.
    End {
        /// Bytes of the input that are done with.
        consumed: usize,
    },
}

/// A decoder of one chunked body (RFC 9112 section 7.1), however it is split into reads.
///
/// Lines end in CRLF and nothing else. Chunk extensions are checked against the grammar, counted
/// against a limit and dropped. Trailers are collected for [`trailers`](Self::trailers), without
/// those that could change what was already decided: framing, routing, authentication, forwarding
/// and the like.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// What is left of the chunk, or its size as far as its digits were read.
    left: u64,
    digits: u8,
    extension_bytes_left: u32,
    /// Bytes of the encoded body before the input at hand.
    offset: u64,
    limits: Limits,
    /// Most bodies have no trailers, and pay one word for them.
    trailers: Option<Box<Trailers>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// After the size or an extension: whitespace is allowed before a semicolon only.
    AfterValue,
    /// Whitespace was read: the line may no longer end here.
    BeforeSemicolon,
    /// After a semicolon.
    BeforeName,
    Name,
    /// Whitespace after an extension's name: an equals sign or a semicolon comes next.
    AfterName,
    /// After an equals sign.
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// After the last chunk, at the start of the trailer section.
    Last,
    LastLf,
    Trailers,
    Done,
}

#[derive(Debug)]
struct Trailers {
    bytes: Vec<u8>,
    scan: HeadScan,
    fields: Vec<Field>,
}

impl ChunkedDecoder {
    /// For a body at whose first byte the next input begins.
    pub fn new(limits: &Limits) -> Self {
        Self {
            state: State::Size,
            left: 0,
            digits: 0,
            extension_bytes_left: limits.chunk_extension_bytes_max,
            offset: 0,
            limits: *limits,
            trailers: None,
        }
    }

    /// Looks at input that follows what was consumed before, up to the end of the first run of
    /// data in it.
    ///
    /// # Errors
    /// When the input cannot be part of a chunked body within the limits. The decoder is of no use
    /// after that, and neither is the connection.
    pub fn next(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let start = at;
                    let rest = input.len() - start;
                    let length = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                    self.left -= length as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    let end = start + length;
                    self.offset += end as u64;
                    return Ok(Step::Data { start, end });
                }
                State::Last if byte != b'\r' => self.state = State::Trailers,
                State::Trailers => return self.collect_trailers(input, at),
                State::Done => break,
                _ => {
                    self.state = self
                        .after(byte)
                        .map_err(|fault| ChunkError::new(fault, self.offset + at as u64))?;
                    at += 1;
                }
            }
        }
        self.offset += at as u64;
        Ok(match self.state {
            State::Done => Step::End { consumed: at },
            _ => Step::Need { consumed: at },
        })
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer fields, once the body is complete; their spans lie in
    /// [`trailer_bytes`](Self::trailer_bytes).
    pub fn trailers(&self) -> &[Field] {
        match &self.trailers {
            Some(trailers) if self.is_done() => &trailers.fields,
            _ => &[],
        }
    }

    /// The trailer section as received.
    pub fn trailer_bytes(&self) -> &[u8] {
        match &self.trailers {
            Some(trailers) if self.is_done() => &trailers.bytes,
            _ => &[],
        }
    }

    /// The state that `byte` of a line of framing leads to.
    #[inline]
    fn after(&mut self, byte: u8) -> Result<State, ChunkFault> {
        match (self.state, byte) {
            (State::Size, _) => self.after_size(byte),
            (State::SizeLf, b'\n') if self.left == 0 => Ok(State::Last),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::SizeLf, _) => Err(ChunkFault::BadLineEnd),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.digits = 0;
                Ok(State::Size)
            }
            (State::DataCr | State::DataLf, _) => Err(ChunkFault::BadDataEnd),
            (State::Last, _) => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::LastLf, _) => Err(ChunkFault::Trailer(HeadFault::BareCr)),
            _ => self.after_extension(byte),
        }
    }

    #[inline]
    fn after_size(&mut self, byte: u8) -> Result<State, ChunkFault> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err(ChunkFault::BadSize),
            b'\r' => return Ok(State::SizeLf),
            b'\n' => return Err(ChunkFault::BadLineEnd),
            b' ' | b'\t' | b';' => return self.after_extension_of(State::AfterValue, byte),
            _ => return Err(ChunkFault::BadSize),
        };
        let size = self.left << 4 | u64::from(digit);
        // Sixteen digits cannot overflow 64 bits, only the sign of those who keep lengths signed.
        if self.digits == SIZE_DIGITS_MAX || size > i64::MAX as u64 {
            return Err(ChunkFault::SizeTooLarge);
        }
        self.digits += 1;
        self.left = size;
        Ok(State::Size)
    }

    #[cold]
    fn after_extension(&mut self, byte: u8) -> Result<State, ChunkFault> {
        self.after_extension_of(self.state, byte)
    }

    /// RFC 9112 section 7.1.1, with the whitespace that it calls bad and has recipients accept.
    fn after_extension_of(&mut self, state: State, byte: u8) -> Result<State, ChunkFault> {
        let next = match (state, byte) {
            (State::AfterValue | State::Name | State::Value, b'\r') => return Ok(State::SizeLf),
            (State::AfterValue | State::Name | State::Value, b'\n') => {
                return Err(ChunkFault::BadLineEnd);
            }
            (State::AfterValue | State::BeforeSemicolon, b' ' | b'\t') => State::BeforeSemicolon,
            (State::AfterValue | State::BeforeSemicolon, b';') => State::BeforeName,
            (State::BeforeName, b' ' | b'\t') => State::BeforeName,
            (State::BeforeName | State::Name, _) if is(byte, TOKEN) => State::Name,
            (State::Name | State::AfterName, b' ' | b'\t') => State::AfterName,
            (State::Name | State::AfterName, b';') => State::BeforeName,
            (State::Name | State::AfterName, b'=') => State::BeforeValue,
            (State::BeforeValue, b' ' | b'\t') => State::BeforeValue,
            (State::BeforeValue, b'"') => State::Quoted,
            (State::BeforeValue | State::Value, _) if is(byte, TOKEN) => State::Value,
            (State::Value, b' ' | b'\t') => State::BeforeSemicolon,
            (State::Value, b';') => State::BeforeName,
            (State::Quoted, b'"') => State::AfterValue,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted, _) if is(byte, QUOTED) => State::Quoted,
            (State::QuotedPair, _) if is(byte, TEXT) => State::Quoted,
            _ => return Err(ChunkFault::BadExtension),
        };
        self.extension_bytes_left = self
            .extension_bytes_left
            .checked_sub(1)
            .ok_or(ChunkFault::ExtensionsTooLong)?;
        Ok(next)
    }

    /// Gathers the trailer section, of which `input` from `at` on is a part, and parses it when it
    /// is complete.
    #[cold]
    fn collect_trailers(&mut self, input: &[u8], at: usize) -> Result<Step, ChunkError> {
        let limits = Limits {
            head_bytes_max: self.limits.trailer_bytes_max,
            ..self.limits
        };
        let Trailers {
            bytes,
            scan,
            fields,
        } = &mut **self.trailers.get_or_insert_with(|| {
            Box::new(Trailers {
                bytes: Vec::new(),
                scan: HeadScan::trailers(),
                fields: Vec::new(),
            })
        });
        let before = bytes.len();
        let section_offset = (self.offset + at as u64) - before as u64;
        let room = (limits.head_bytes_max as usize).saturating_sub(before);
        let new = input.get(at..).unwrap_or_default();
        bytes.extend_from_slice(new.get(..room).unwrap_or(new));
        let located = |error: crate::HeadError| {
            let fault = match error.fault() {
                HeadFault::HeadTooLong => ChunkFault::TrailersTooLong,
                HeadFault::TooManyFields => ChunkFault::TooManyTrailers,
                other => ChunkFault::Trailer(other),
            };
            ChunkError::new(fault, section_offset + u64::from(error.offset()))
        };
        let Some(span) = scan.advance(bytes, &limits).map_err(located)? else {
            self.offset += input.len() as u64;
            return Ok(Step::Need {
                consumed: input.len(),
            });
        };
        bytes.truncate(span.end as usize);
        parse_trailers(bytes, &limits, fields).map_err(located)?;
        let consumed = at + (bytes.len() - before);
        self.offset += consumed as u64;
        self.state = State::Done;
        Ok(Step::End { consumed })
    }
}

#[cfg(test)]
mod tests;

//! The search for the end of a head in a buffer that is still growing.
//!
//! It looks at every byte once however the head trickles in, and refuses at once what can no
//! longer become a head: a client that sends a bare LF and waits is not waited for in turn.

use crate::class::text_end;
use crate::field::Role;
use crate::{HeadError, HeadFault, Limits, Span};

/// A resumable search for the end of a head.
///
/// Keep one per connection and [`restart`](Self::restart) it for each message. The buffer given
/// to it has to begin with the same bytes each time until the end is found.
#[derive(Debug, Clone, Copy)]
pub struct HeadScan {
    role: Role,
    /// Where the head begins: after a skipped empty line, once its first byte is there.
    start: Option<u32>,
    /// Everything before is settled.
    at: u32,
    /// Where the line that holds `at` begins.
    line: u32,
}

impl HeadScan {
    /// For a request. One empty line before it is skipped (RFC 9112 section 2.2): old clients send
    /// one after a body.
    pub const fn request() -> Self {
        Self::new(Role::Request)
    }

    /// For a response.
    pub const fn response() -> Self {
        Self::new(Role::Response)
    }

    /// For a trailer section, which may be empty.
    pub(crate) const fn trailers() -> Self {
        Self::new(Role::Trailers)
    }

    const fn new(role: Role) -> Self {
        Self {
            role,
            start: None,
            at: 0,
            line: 0,
        }
    }

    /// Forgets the message at hand: the next buffer begins with the next message.
    pub fn restart(&mut self) {
        *self = Self::new(self.role);
    }

    /// Looks at what is new in `buffer`. Says where the head lies, empty line included, or `None`
    /// if it is not complete.
    ///
    /// # Errors
    /// When no continuation of `buffer` is a head within the limits. Offsets count from the start
    /// of the head, as they do in parse errors.
    pub fn advance(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<Span>, HeadError> {
        let Some(start) = self.start_of(buffer) else {
            return Ok(None);
        };
        let head = buffer.get(start as usize..).unwrap_or_default();
        let end = self.end_of(head, limits)?;
        Ok(end.map(|end| Span::new(0, end).shifted(start)))
    }

    /// The error to give for a head that a parser refused: that of this scan if it refuses too or
    /// finds no end, because it would have said so before the parser saw anything.
    #[cold]
    pub(crate) fn overrule(self, error: HeadError, head: &[u8], limits: &Limits) -> HeadError {
        let mut fresh = Self {
            start: Some(0),
            ..Self::new(self.role)
        };
        match fresh.advance(head, limits) {
            Err(error) => error,
            Ok(None) => HeadError::new(HeadFault::Incomplete, head.len()),
            Ok(Some(_)) => error,
        }
    }

    /// Whether nothing of the message has been settled yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.at == 0
    }

    /// Where the head begins, once that can be told.
    pub(crate) fn start_of(&mut self, buffer: &[u8]) -> Option<u32> {
        if self.start.is_none() {
            self.start = match (self.role, buffer) {
                (_, []) | (Role::Request, [b'\r']) => None,
                (Role::Request, [b'\r', b'\n', ..]) => Some(2),
                _ => Some(0),
            };
        }
        self.start
    }

    /// Where the head that starts with `head` ends, if it does.
    fn end_of(&mut self, head: &[u8], limits: &Limits) -> Result<Option<usize>, HeadError> {
        let head_max = limits.head_bytes_max as usize;
        let window = head.get(..head_max).unwrap_or(head);
        if self.line == 0 && self.role == Role::Request {
            let line_max = limits.request_line_bytes_max();
            let first = window.get(..line_max).unwrap_or(window);
            let end = self.lines(first, 1)?;
            if self.line == 0 {
                return match first.len() {
                    filled if filled == line_max => {
                        Err(HeadError::new(HeadFault::TargetTooLong, line_max))
                    }
                    filled if filled == head_max => {
                        Err(HeadError::new(HeadFault::HeadTooLong, head_max))
                    }
                    _ => Ok(end),
                };
            }
        }
        match self.lines(window, usize::MAX)? {
            None if window.len() == head_max => {
                Err(HeadError::new(HeadFault::HeadTooLong, head_max))
            }
            end => Ok(end),
        }
    }

    /// Walks up to `count` lines; the offset after an empty one, if it comes.
    fn lines(&mut self, window: &[u8], count: usize) -> Result<Option<usize>, HeadError> {
        let mut passed = 0;
        while passed < count {
            let at = text_end(window, self.at as usize);
            self.at = at as u32;
            let fault = match (window.get(at), window.get(at + 1)) {
                (None, _) | (Some(b'\r'), None) => return Ok(None),
                (Some(b'\t'), _) => {
                    self.at += 1;
                    continue;
                }
                (Some(b'\r'), Some(b'\n')) => {
                    let empty = at == self.line as usize;
                    if empty && at == 0 && self.role != Role::Trailers {
                        HeadFault::EmptyFirstLine
                    } else if empty {
                        return Ok(Some(at + 2));
                    } else {
                        self.at += 2;
                        self.line = self.at;
                        passed += 1;
                        continue;
                    }
                }
                (Some(b'\r'), Some(_)) => HeadFault::BareCr,
                (Some(b'\n'), _) => HeadFault::BareLf,
                (Some(_), _) => HeadFault::Control,
            };
            return Err(HeadError::new(fault, at));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;

//! The head of an origin's response. Whatever is wrong with one is the origin's fault and must not
//! reach a client as anything but an error of ours.

use crate::class::text_end;
use crate::field::{Decisions, Role, Section, not_a_line_end};
use crate::request::{VERSION_BYTES, version};
use crate::{
    Field, Framing, HeadError, HeadFault, HeadScan, Limits, Method, Nominated, Span, Upgrade,
    Version,
};

/// The head of a response, parsed. All spans count from its first byte.
///
/// Kept and reused, it does not allocate once it has seen as many fields as a message has. After
/// an error its contents mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// The status code, 100 to 999. Above 599 none is defined, but some origins use them, and they
    /// delimit like any final status.
    pub status: u16,
    /// The reason phrase, which may be empty.
    pub reason: Span,
    /// The fields in the order received, without copies of a Content-Length and those that
    /// [`Limits::underscores`] drops.
    pub fields: Vec<Field>,
    /// Whether the origin lets the connection serve another request, the framing permitting.
    pub persistent: bool,
    /// What a 101 upgrades to.
    pub upgrade: Upgrade,
    /// What `Connection` nominates for removal.
    pub nominated: Nominated,
    /// How the body is delimited if the request and status let there be one.
    delimited: Framing,
}

impl ResponseHead {
    /// Finds and parses the head at the start of a growing buffer; `None` until it is complete.
    ///
    /// The same as [`HeadScan::advance`] followed by [`parse`](Self::parse), in one pass when the
    /// head arrives in one piece. Spans count from the start of the span returned.
    ///
    /// # Errors
    /// As soon as no continuation of `buffer` is a head within the limits, and when the head is
    /// complete but malformed.
    pub fn receive(
        &mut self,
        scan: &mut HeadScan,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<Span>, HeadError> {
        // No complete head goes beyond its limit.
        let window = buffer
            .get(..limits.head_bytes_max as usize)
            .unwrap_or(buffer);
        if scan.is_fresh()
            && let Ok(end) = self.parse_start(window, limits)
        {
            return Ok(Some(Span::new(0, end)));
        }
        let Some(span) = scan.advance(buffer, limits)? else {
            return Ok(None);
        };
        self.parse(span.of(buffer), limits)?;
        Ok(Some(span))
    }

    /// Parses a whole head, from the first byte of its first line to its empty line.
    ///
    /// # Errors
    /// What a [`HeadScan`] would have refused is refused for that reason, whatever else is wrong.
    pub fn parse(&mut self, head: &[u8], limits: &Limits) -> Result<(), HeadError> {
        match self.parse_start(head, limits) {
            Ok(end) if end == head.len() => Ok(()),
            Ok(end) => Err(HeadError::new(HeadFault::Surplus, end)),
            Err(error) => Err(HeadScan::response().overrule(error, head, limits)),
        }
    }

    /// Parses the head that `bytes` start with; says where it ends.
    fn parse_start(&mut self, bytes: &[u8], limits: &Limits) -> Result<usize, HeadError> {
        self.version = version(bytes, 0)?;
        self.status = status(bytes)?;
        let start = STATUS_END + 1;
        let mut stop = text_end(bytes, start);
        while bytes.get(stop) == Some(&b'\t') {
            stop = text_end(bytes, stop + 1);
        }
        let (reason, line_end) = match bytes.get(STATUS_END) {
            Some(b' ') => (Span::new(start, stop), stop),
            // RFC 9112 section 4 demands the space even of an empty reason; not all send it.
            Some(b'\r') => (Span::EMPTY, STATUS_END),
            Some(_) => return Err(HeadError::new(HeadFault::BadStatus, STATUS_END)),
            None => return Err(HeadError::new(HeadFault::Incomplete, STATUS_END)),
        };
        if bytes.get(line_end..line_end + 2) != Some(b"\r\n") {
            return Err(not_a_line_end(bytes, line_end));
        }
        self.reason = reason;
        let mut section = Section {
            role: Role::Response,
            limits,
            fields: &mut self.fields,
            nominated: &mut self.nominated,
        };
        let mut decisions = Decisions::default();
        let end = section.parse(bytes, line_end + 2, &mut decisions)?;
        if end > limits.head_bytes_max as usize {
            return Err(HeadError::new(
                HeadFault::HeadTooLong,
                limits.head_bytes_max as usize,
            ));
        }
        self.delimited = decisions.framing(self.version, Framing::UntilClose)?;
        // A 204 that announces a body (RFC 9110 section 8.6 forbids it) may well send one.
        let suspicious =
            self.status == 204 && matches!(self.delimited, Framing::Chunked | Framing::Length(1..));
        self.persistent = decisions.persistent(self.version) && !suspicious;
        self.upgrade = decisions.upgrade(self.version);
        Ok(end)
    }

    /// How the body is delimited, given the method that the response answers (RFC 9112 section
    /// 6.3). After a body [until close](Framing::UntilClose) the connection is spent, whatever
    /// [`persistent`](Self::persistent) says; after a 101, or a 2xx to CONNECT, it is no longer
    /// HTTP.
    pub fn framing(&self, method: Method) -> Framing {
        match (method, self.status) {
            (Method::Head, _) | (_, 100..=199 | 204 | 304) => Framing::None,
            (Method::Connect, 200..=299) => Framing::None,
            _ => self.delimited,
        }
    }

    /// The length that Content-Length announces, even where there is no body: to HEAD, in a 304.
    pub fn content_length(&self) -> Option<u64> {
        match self.delimited {
            Framing::Length(length) => Some(length),
            _ => None,
        }
    }

    /// Whether another response to the same request follows: any 1xx except 101.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// Whether the connection changes its protocol after this head.
    pub fn is_switching(&self) -> bool {
        self.status == 101
    }
}

/// Where the status code begins and ends: `HTTP/1.1 200`.
const STATUS_START: usize = VERSION_BYTES + 1;
const STATUS_END: usize = STATUS_START + 3;

fn status(bytes: &[u8]) -> Result<u16, HeadError> {
    match bytes.get(VERSION_BYTES..STATUS_END) {
        Some(&[b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Ok(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        Some([b' ', ..]) => Err(HeadError::new(HeadFault::BadStatus, STATUS_START)),
        Some(_) => Err(HeadError::new(HeadFault::BadVersion, VERSION_BYTES)),
        None => Err(HeadError::new(HeadFault::Incomplete, bytes.len())),
    }
}

#[cfg(test)]
mod tests;

//! Field lists and what they say (RFC 9113 section 8), written down as the text of an HTTP/1.1 head.
//!
//! A head that came compressed is judged twice: here by the rules that HTTP/2 adds, and then, as
//! text, by the same parser that judges heads of HTTP/1. So there is one opinion on targets, hosts,
//! lengths and names, and nothing reaches an origin of either version that the other would not have
//! been told. No rule of the text can be talked around: a name or a value with a byte that could end
//! its line is refused before anything of it is written.
//!
//! Must not: forgive. What is malformed here is malformed for everybody (RFC 9113 section 8.1.1).

use std::ops::Range;

/// What a field list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Request,
    Response,
    Trailers,
}

/// Why a field list is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MessageFault {
    /// RFC 9113 section 8.3.
    #[error("a pseudo-header field comes after a field")]
    PseudoLate,
    /// RFC 9113 section 8.3.
    #[error("a pseudo-header field that is not defined here")]
    PseudoUnknown,
    /// RFC 9113 section 8.3.
    #[error("a pseudo-header field comes twice")]
    PseudoRepeated,
    /// RFC 9113 section 8.3.1.
    #[error("a pseudo-header field is missing, or does not belong to this method")]
    PseudoMissing,
    /// RFC 9110 section 9.1.
    #[error(":method is no token")]
    Method,
    /// Only http and https are served.
    #[error(":scheme is neither http nor https")]
    Scheme,
    /// RFC 9113 section 8.3.1.
    #[error(":path does not begin with a slash, or has a byte that no path has")]
    Path,
    /// RFC 9113 section 8.3.1.
    #[error(":authority has a byte that no host has")]
    Authority,
    /// RFC 9113 section 8.3.1.
    #[error("Host differs from :authority")]
    HostDiffers,
    /// RFC 8441 section 4.
    #[error(":protocol is no token, or the method is not CONNECT")]
    Protocol,
    /// RFC 9113 section 8.3.2.
    #[error(":status is no status")]
    Status,
    /// RFC 9113 section 8.2.1.
    #[error("a field name is not a token in lower case")]
    Name,
    /// RFC 9113 section 8.2.1.
    #[error("a field value has a control character, or space around it")]
    Value,
    /// RFC 9113 section 8.2.2.
    #[error("a field that belongs to connections of HTTP/1.1")]
    ConnectionField,
    /// RFC 9113 section 8.2.2.
    #[error("TE is something else than trailers")]
    Te,
    /// Larger than the limit.
    #[error("the field list is larger than allowed")]
    TooLarge,
    /// More fields than the limit.
    #[error("the field list has more fields than allowed")]
    TooMany,
}

/// What a field list came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the text is a message.
    pub fault: Option<MessageFault>,
    /// Whether the request asks for a tunnel by way of an extended CONNECT (RFC 8441); its text asks
    /// for an upgrade.
    pub is_tunnel: bool,
}

/// How large a list may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) bytes_max: u32,
    pub(crate) count_max: u32,
}

/// The pseudo-header fields, each at most once.
#[derive(Debug, Default)]
struct Pseudo {
    bytes: Vec<u8>,
    method: Option<Range<usize>>,
    scheme: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    path: Option<Range<usize>>,
    protocol: Option<Range<usize>>,
    status: Option<Range<usize>>,
}

impl Pseudo {
    fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Self {
            bytes,
            ..Self::default()
        };
    }

    fn of(&self, range: &Option<Range<usize>>) -> Option<&[u8]> {
        self.bytes.get(range.clone()?)
    }
}

/// Writes down one field list after another; kept, it allocates nothing once it is warm.
#[derive(Debug, Default)]
pub(crate) struct Scribe {
    pseudo: Pseudo,
    cookies: Vec<u8>,
    is_begun: bool,
    fault: Option<MessageFault>,
    bytes: u64,
    count: u32,
}

impl Scribe {
    /// Forgets the list before.
    pub(crate) fn begin(&mut self) {
        self.pseudo.clear();
        self.cookies.clear();
        self.is_begun = false;
        self.fault = None;
        (self.bytes, self.count) = (0, 0);
    }

    /// Bytes of the list so far, however many of them were written down.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next field. After a fault the rest is only counted.
    pub(crate) fn field(
        &mut self,
        part: Part,
        size: Size,
        text: &mut Vec<u8>,
        name: &[u8],
        value: &[u8],
    ) {
        // As a line: the name, a colon and a space, the value, its end.
        self.bytes += name.len() as u64 + value.len() as u64 + 4;
        // Pseudo-header fields are no fields of the message; each comes at most once.
        self.count += u32::from(name.first() != Some(&b':'));
        if self.fault.is_some() {
            return;
        }
        let taken = if self.bytes > u64::from(size.bytes_max) {
            Err(MessageFault::TooLarge)
        } else if self.count > size.count_max {
            Err(MessageFault::TooMany)
        } else if name.first() == Some(&b':') {
            self.pseudo_field(part, name, value)
        } else {
            self.regular(part, text, name, value)
        };
        self.fault = taken.err();
    }

    /// The list is complete.
    pub(crate) fn finish(&mut self, part: Part, text: &mut Vec<u8>) -> Verdict {
        if self.fault.is_none() {
            self.fault = self.end(part, text).err();
        }
        // A connection that waits does not hold on to what one large list needed.
        self.cookies.clear();
        self.cookies.shrink_to(BYTES_KEPT);
        self.pseudo.bytes.clear();
        self.pseudo.bytes.shrink_to(BYTES_KEPT);
        Verdict {
            fault: self.fault,
            is_tunnel: self.pseudo.protocol.is_some(),
        }
    }

    fn pseudo_field(&mut self, part: Part, name: &[u8], value: &[u8]) -> Result<(), MessageFault> {
        if self.is_begun {
            return Err(MessageFault::PseudoLate);
        }
        let pseudo = &mut self.pseudo;
        let place = match (part, name) {
            (Part::Request, b":method") => &mut pseudo.method,
            (Part::Request, b":scheme") => &mut pseudo.scheme,
            (Part::Request, b":authority") => &mut pseudo.authority,
            (Part::Request, b":path") => &mut pseudo.path,
            (Part::Request, b":protocol") => &mut pseudo.protocol,
            (Part::Response, b":status") => &mut pseudo.status,
            _ => return Err(MessageFault::PseudoUnknown),
        };
        if place.is_some() {
            return Err(MessageFault::PseudoRepeated);
        }
        let start = pseudo.bytes.len();
        *place = Some(start..start + value.len());
        pseudo.bytes.extend_from_slice(value);
        Ok(())
    }

    fn regular(
        &mut self,
        part: Part,
        text: &mut Vec<u8>,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), MessageFault> {
        if !self.is_begun {
            self.is_begun = true;
            self.start_line(part, text)?;
        }
        if name.is_empty() || !name.iter().all(|&byte| is_plain(byte)) {
            return Err(MessageFault::Name);
        }
        if !is_value(value) {
            return Err(MessageFault::Value);
        }
        match name {
            b"cookie" if part == Part::Request => {
                // Crumbs become one field again (RFC 9113 section 8.2.3).
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                return Ok(());
            }
            b"host" if part == Part::Request => {
                if let Some(authority) = self.pseudo.of(&self.pseudo.authority) {
                    let is_same = authority.eq_ignore_ascii_case(value);
                    return is_same.then_some(()).ok_or(MessageFault::HostDiffers);
                }
            }
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding"
            | b"upgrade" => return Err(MessageFault::ConnectionField),
            b"te" if part == Part::Request && !value.eq_ignore_ascii_case(b"trailers") => {
                return Err(MessageFault::Te);
            }
            _ => {}
        }
        text.reserve(name.len() + value.len() + 4);
        text.extend_from_slice(name);
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn start_line(&self, part: Part, text: &mut Vec<u8>) -> Result<(), MessageFault> {
        match part {
            Part::Request => self.request_line(text),
            Part::Response => self.status_line(text),
            Part::Trailers => Ok(()),
        }
    }

    fn request_line(&self, text: &mut Vec<u8>) -> Result<(), MessageFault> {
        let pseudo = &self.pseudo;
        let of = |range| pseudo.of(range);
        let method = of(&pseudo.method).ok_or(MessageFault::PseudoMissing)?;
        if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
            return Err(MessageFault::Method);
        }
        let authority = of(&pseudo.authority);
        if authority.is_some_and(|it| it.is_empty() || !it.iter().all(|&byte| is_visible(byte))) {
            return Err(MessageFault::Authority);
        }
        let is_connect = method == b"CONNECT";
        let is_tunnel = pseudo.protocol.is_some();
        if is_tunnel && !is_connect {
            return Err(MessageFault::Protocol);
        }
        let (method, target) = if is_connect && !is_tunnel {
            // RFC 9113 section 8.5.
            if pseudo.scheme.is_some() || pseudo.path.is_some() {
                return Err(MessageFault::PseudoMissing);
            }
            (method, authority.ok_or(MessageFault::PseudoMissing)?)
        } else {
            let path = self.path(method)?;
            (if is_tunnel { b"GET" } else { method }, path)
        };
        text.extend_from_slice(method);
        text.push(b' ');
        text.extend_from_slice(target);
        text.extend_from_slice(b" HTTP/1.1\r\n");
        if let Some(authority) = authority {
            text.extend_from_slice(b"host: ");
            text.extend_from_slice(authority);
            text.extend_from_slice(b"\r\n");
        }
        self.upgrade(text)
    }

    fn path(&self, method: &[u8]) -> Result<&[u8], MessageFault> {
        let pseudo = &self.pseudo;
        let scheme = pseudo.of(&pseudo.scheme);
        let scheme = scheme.ok_or(MessageFault::PseudoMissing)?;
        if !scheme.eq_ignore_ascii_case(b"https") && !scheme.eq_ignore_ascii_case(b"http") {
            return Err(MessageFault::Scheme);
        }
        let path = pseudo.of(&pseudo.path);
        let path = path.ok_or(MessageFault::PseudoMissing)?;
        let is_asterisk = path == b"*" && method == b"OPTIONS";
        if !is_asterisk && path.first() != Some(&b'/') {
            return Err(MessageFault::Path);
        }
        match path.iter().all(|&byte| is_visible(byte)) {
            true => Ok(path),
            false => Err(MessageFault::Path),
        }
    }

    /// An extended CONNECT is what an upgrade is in HTTP/1.1 (RFC 8441 section 5).
    fn upgrade(&self, text: &mut Vec<u8>) -> Result<(), MessageFault> {
        let Some(protocol) = self.pseudo.of(&self.pseudo.protocol) else {
            return Ok(());
        };
        if protocol.is_empty() || !protocol.iter().all(|&byte| is_token(byte)) {
            return Err(MessageFault::Protocol);
        }
        text.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        text.extend_from_slice(protocol);
        text.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn status_line(&self, text: &mut Vec<u8>) -> Result<(), MessageFault> {
        let status = self.pseudo.of(&self.pseudo.status);
        let status = status.ok_or(MessageFault::PseudoMissing)?;
        // There is no switching of protocols (RFC 9113 section 8.6).
        let is_status = matches!(status, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']);
        if !is_status || status == b"101" {
            return Err(MessageFault::Status);
        }
        text.extend_from_slice(b"HTTP/1.1 ");
        text.extend_from_slice(status);
        text.extend_from_slice(b" \r\n");
        Ok(())
    }

    fn end(&mut self, part: Part, text: &mut Vec<u8>) -> Result<(), MessageFault> {
        if !self.is_begun {
            self.is_begun = true;
            self.start_line(part, text)?;
        }
        if !self.cookies.is_empty() {
            text.extend_from_slice(b"cookie: ");
            text.extend_from_slice(&self.cookies);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Room that is kept for the next list.
const BYTES_KEPT: usize = 1024;

fn is_token(byte: u8) -> bool {
    byte.is_ascii_uppercase() || is_plain(byte)
}

/// A byte of a token in lower case (RFC 9110 section 5.6.2).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase()
        || byte.is_ascii_digit()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// Whether a value can stand in a line: what else it must not have, the parser of the text sees.
fn is_value(value: &[u8]) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let ends_line = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    !is_space(value.first()) && !is_space(value.last()) && !value.iter().any(ends_line)
}

#[cfg(test)]
impl Scribe {
    /// What it has allocated.
    pub(crate) fn capacity(&self) -> usize {
        self.cookies.capacity() + self.pseudo.bytes.capacity()
    }
}

#[cfg(test)]
mod tests;

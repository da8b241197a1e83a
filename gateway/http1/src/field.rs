//! Field lines: the loop that heads and trailers share, and what the fields that decide about a
//! message come to.

use crate::class::{PLAIN_TOKEN, TOKEN, colon, control_but_del, end_of, is_token, text_end};
use crate::{
    Field, Framing, HeadError, HeadFault, Known, Limits, Span, Underscores, Version,
    parse_content_length, parse_transfer_encoding,
};

/// What is read: the two sides are held to different rules where a client can attack and an origin
/// can only be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Request,
    Response,
    Trailers,
}

/// The names that `Connection` nominates for removal (RFC 9110 section 7.6.1).
///
/// Of the well-known names only those of one connection can be nominated. A nomination of another
/// one, or of any name in `X-Forwarded-`, is ignored: its only use is to strip what a proxy before
/// us added, or what the origin relies on, such as `Cookie` or `X-Forwarded-For`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nominated {
    /// Spans of the nominated names that are not well-known.
    names: Vec<Span>,
}

impl Nominated {
    /// Whether nothing out of the ordinary was nominated.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The nominated names that are not well-known, in the bytes of their head.
    pub fn names<'a>(&'a self, head: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.names.iter().map(|name| name.of(head))
    }

    /// Whether a field is to be removed before its head is forwarded: as a hop-by-hop field by its
    /// name, or because `Connection` nominates it.
    #[inline]
    pub fn removes(&self, field: Field, head: &[u8]) -> bool {
        match field.known {
            Known::Other if self.names.is_empty() => false,
            Known::Other => {
                let name = field.name.of(head);
                self.names(head)
                    .any(|nominated| nominated.eq_ignore_ascii_case(name))
            }
            known => known.is_hop_by_hop(),
        }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.names.clear();
    }
}

/// What a message asks to be upgraded to (RFC 9110 section 7.8): an Upgrade field counts only with
/// `Connection: upgrade` beside it, and not in HTTP/1.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Upgrade {
    /// To nothing.
    #[default]
    None,
    /// To `websocket` and nothing else.
    WebSocket,
    /// To some other protocol, or to one of several.
    Other,
}

/// What the fields that decide about a message say, before the rules of its side are applied.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) host: Option<Span>,
    pub(crate) length: Option<u64>,
    /// Where Transfer-Encoding stands, if `chunked` is its value.
    pub(crate) chunked: Option<Span>,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
    pub(crate) te_trailers: bool,
    upgrade_option: bool,
    upgrade: Upgrade,
}

impl Decisions {
    /// How the body is delimited; `without` is what it means if no field says so.
    pub(crate) fn framing(&self, version: Version, without: Framing) -> Result<Framing, HeadError> {
        let Some(field) = self.chunked else {
            return Ok(self.length.map_or(without, Framing::Length));
        };
        let fault = match (self.length, version) {
            (Some(_), _) => HeadFault::LengthAndEncoding,
            (None, Version::Http10) => HeadFault::EncodingInHttp10,
            (None, Version::Http11) => return Ok(Framing::Chunked),
        };
        Err(HeadError::new(fault, field.start as usize))
    }

    /// Whether the sender lets the connection serve another message.
    pub(crate) fn persistent(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version == Version::Http11)
    }

    pub(crate) fn upgrade(&self, version: Version) -> Upgrade {
        match version {
            Version::Http11 if self.upgrade_option => self.upgrade,
            _ => Upgrade::None,
        }
    }
}

/// The reused lists that fields are collected in, and the rules for doing so.
pub(crate) struct Section<'a> {
    pub(crate) role: Role,
    pub(crate) limits: &'a Limits,
    pub(crate) fields: &'a mut Vec<Field>,
    pub(crate) nominated: &'a mut Nominated,
}

impl Section<'_> {
    /// Reads field lines from `start` up to and including the empty line; says where that ends.
    pub(crate) fn parse(
        &mut self,
        bytes: &[u8],
        start: usize,
        decisions: &mut Decisions,
    ) -> Result<usize, HeadError> {
        self.fields.clear();
        self.nominated.clear();
        let mut left = self.limits.field_count_max;
        let mut rest = bytes.get(start..).unwrap_or_default();
        while rest.first() != Some(&b'\r') {
            let at = bytes.len() - rest.len();
            let (name, after) = rest.split_at_checked(colon(rest)).unwrap_or((rest, &[]));
            let known = Known::of(name);
            let mut kept = known != Known::Other || self.admits(bytes, at, name)?;
            let Some(Value { text, length, next }) = value(after) else {
                return Err(not_a_value(bytes, at + name.len()));
            };
            let value_at = bytes.len() - text.len();
            let field = Field {
                name: Span::new(at, at + name.len()),
                value: Span::new(value_at, value_at + length),
                known,
            };
            if known.decides() {
                kept = self.note(decisions, field, bytes)?;
            }
            if kept {
                self.fields.push(field);
            }
            if left == 0 {
                return Err(HeadError::new(HeadFault::TooManyFields, at));
            }
            left -= 1;
            rest = next;
        }
        let section_end = bytes.len() - rest.len();
        let [b'\r', b'\n', ..] = rest else {
            return Err(not_a_line_end(bytes, section_end));
        };
        // The searches for the ends of names and values let DEL pass.
        match memchr::memchr(0x7f, bytes.get(..section_end).unwrap_or_default()) {
            Some(at) => Err(HeadError::new(HeadFault::Control, at)),
            None => Ok(section_end + 2),
        }
    }

    /// Whether the name at `at`, which is not a well-known one, is kept.
    #[inline]
    fn admits(&self, bytes: &[u8], at: usize, name: &[u8]) -> Result<bool, HeadError> {
        let plain = end_of(name, 0, PLAIN_TOKEN) == name.len();
        if plain && !name.is_empty() && at + name.len() < bytes.len() {
            return Ok(true);
        }
        self.admits_odd(bytes, at, name)
    }

    #[cold]
    fn admits_odd(&self, bytes: &[u8], at: usize, name: &[u8]) -> Result<bool, HeadError> {
        let stop = end_of(bytes, at, TOKEN);
        if stop == at || stop != at + name.len() || stop == bytes.len() {
            return Err(not_a_name(bytes, at, stop));
        }
        match (self.limits.underscores, memchr::memchr(b'_', name)) {
            (Underscores::Reject, Some(offset)) => {
                Err(HeadError::new(HeadFault::Underscore, at + offset))
            }
            (Underscores::Drop, Some(_)) => Ok(false),
            _ => Ok(true),
        }
    }

    /// Takes note of a field that decides about the message; whether to keep it in the list.
    #[inline(never)]
    fn note(
        &mut self,
        decisions: &mut Decisions,
        field: Field,
        bytes: &[u8],
    ) -> Result<bool, HeadError> {
        if self.role == Role::Trailers {
            return Ok(true);
        }
        let value = field.value.of(bytes);
        let at = |fault| HeadError::new(fault, field.value.start as usize);
        match field.known {
            Known::Host => {
                // An origin's Host means nothing.
                let repeated = decisions.host.replace(field.value).is_some();
                if repeated && self.role == Role::Request {
                    return Err(HeadError::new(
                        HeadFault::RepeatedHost,
                        field.name.start as usize,
                    ));
                }
            }
            Known::ContentLength => {
                let length = parse_content_length(value).map_err(at)?;
                if let Some(before) = decisions.length.replace(length) {
                    // RFC 9110 section 8.6 lets a recipient collapse copies that agree. Origins
                    // that send two do exist; a client that does is up to something.
                    if self.role == Role::Request || before != length {
                        return Err(at(HeadFault::RepeatedContentLength));
                    }
                    return Ok(false);
                }
            }
            Known::TransferEncoding => {
                if decisions.chunked.replace(field.name).is_some() {
                    return Err(at(HeadFault::BadTransferEncoding));
                }
                parse_transfer_encoding(value).map_err(at)?;
            }
            Known::Connection => self.note_connection(decisions, field, bytes)?,
            Known::Upgrade => {
                let websocket = value.eq_ignore_ascii_case(b"websocket");
                decisions.upgrade = match decisions.upgrade {
                    _ if value.is_empty() => decisions.upgrade,
                    Upgrade::None if websocket => Upgrade::WebSocket,
                    _ => Upgrade::Other,
                };
            }
            Known::Expect if self.role == Role::Request => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(at(HeadFault::UnknownExpectation));
                }
                decisions.expect_continue = true;
            }
            Known::Te => decisions.te_trailers |= has_trailers(value),
            _ => {}
        }
        Ok(true)
    }

    fn note_connection(
        &mut self,
        decisions: &mut Decisions,
        field: Field,
        bytes: &[u8],
    ) -> Result<(), HeadError> {
        match field.value.of(bytes) {
            b"keep-alive" | b"Keep-Alive" => {
                decisions.keep_alive = true;
                return Ok(());
            }
            b"close" => {
                decisions.close = true;
                return Ok(());
            }
            _ => {}
        }
        let mut start = field.value.start as usize;
        for element in field.value.of(bytes).split(|&byte| byte == b',') {
            let option = element.trim_ascii();
            let lead = element.len() - element.trim_ascii_start().len();
            let span = Span::new(start + lead, start + lead + option.len());
            start += element.len() + 1;
            if option.eq_ignore_ascii_case(b"keep-alive") {
                decisions.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                decisions.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                decisions.upgrade_option = true;
            } else if is_token(option) {
                if Known::of(option) == Known::Other && !is_forwarding(option) {
                    self.nominate(span)?;
                }
            } else if !option.is_empty() {
                // What an origin means by it is unknown, so its connection is not used again.
                if self.role == Role::Request {
                    return Err(HeadError::new(
                        HeadFault::BadConnection,
                        span.start as usize,
                    ));
                }
                decisions.close = true;
            }
        }
        Ok(())
    }

    fn nominate(&mut self, name: Span) -> Result<(), HeadError> {
        if self.nominated.names.len() >= self.limits.nominated_count_max as usize {
            let at = name.start as usize;
            return Err(HeadError::new(HeadFault::TooManyNominated, at));
        }
        self.nominated.names.push(name);
        Ok(())
    }
}

/// Parses a whole trailer section, its empty line included, leaving out what
/// [`Known::is_allowed_in_trailers`] forbids.
///
/// # Errors
/// What a field line of a head would be refused for, and more fields than `trailer_count_max`.
pub fn parse_trailers(
    bytes: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
) -> Result<(), HeadError> {
    let limits = &Limits {
        field_count_max: limits.trailer_count_max,
        ..*limits
    };
    let nominated = &mut Nominated::default();
    Section {
        role: Role::Trailers,
        limits,
        fields,
        nominated,
    }
    .parse(bytes, 0, &mut Decisions::default())?;
    fields.retain(|field| {
        field.known.is_allowed_in_trailers() && !is_forwarding(field.name.of(bytes))
    });
    Ok(())
}

/// Whether a name is one of those by which proxies tell origins about the client.
fn is_forwarding(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    name.get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether a TE field announces that trailers are welcome.
fn has_trailers(value: &[u8]) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// A field value, of which `text` is the first byte and all that follows.
struct Value<'b> {
    text: &'b [u8],
    /// Without the whitespace after it.
    length: usize,
    /// From the next line on.
    next: &'b [u8],
}

/// The value in what follows a name: a colon, whitespace, the value, whitespace, the line's end.
#[inline(always)]
fn value(after_name: &[u8]) -> Option<Value<'_>> {
    let ([b':', b' ', text @ ..] | [b':', text @ ..]) = after_name else {
        return None;
    };
    let mut text = text;
    while let [b' ' | b'\t', more @ ..] = text {
        text = more;
    }
    let mut stop = control_but_del(text);
    while text.get(stop) == Some(&b'\t') {
        stop += 1 + control_but_del(text.get(stop + 1..)?);
    }
    let (mut value, [b'\r', b'\n', next @ ..]) = text.split_at_checked(stop)? else {
        return None;
    };
    while let [shorter @ .., b' ' | b'\t'] = value {
        value = shorter;
    }
    Some(Value {
        text,
        length: value.len(),
        next,
    })
}

/// Why no value follows the colon at `colon`.
#[cold]
fn not_a_value(bytes: &[u8], colon: usize) -> HeadError {
    let mut stop = text_end(bytes, bytes.len().min(colon + 1));
    while bytes.get(stop) == Some(&b'\t') {
        stop = text_end(bytes, stop + 1);
    }
    not_a_line_end(bytes, stop)
}

/// Why a line does not end at `at`.
#[cold]
pub(crate) fn not_a_line_end(bytes: &[u8], at: usize) -> HeadError {
    let fault = match (bytes.get(at), bytes.get(at + 1)) {
        (None, _) | (Some(b'\r'), None) => HeadFault::Incomplete,
        (Some(b'\r'), _) => HeadFault::BareCr,
        (Some(b'\n'), _) => HeadFault::BareLf,
        (Some(_), _) => HeadFault::Control,
    };
    HeadError::new(fault, at)
}

/// Why there is no field name between `at` and `stop`.
#[cold]
fn not_a_name(bytes: &[u8], at: usize, stop: usize) -> HeadError {
    let (fault, offset) = match bytes.get(stop) {
        None => (HeadFault::Incomplete, stop),
        Some(b' ' | b'\t') if stop == at => (HeadFault::ObsFold, at),
        Some(b' ' | b'\t') => (HeadFault::SpaceBeforeColon, stop),
        Some(b'\r') if stop == at => return not_a_line_end(bytes, at),
        Some(_) => (HeadFault::BadFieldName, stop),
    };
    HeadError::new(fault, offset)
}

#[cfg(test)]
mod tests;

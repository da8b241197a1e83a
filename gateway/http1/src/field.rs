//! Field lines: the loop that heads and trailers share, and what the fields that decide about a
//! message come to.

use crate::class::{PLAIN_TOKEN, TOKEN, colon, end_of, is_token, text_end_but_del};
use crate::{
    Field, HeadError, HeadFault, Known, KnownSet, Limits, Span, Underscores, parse_content_length,
    parse_transfer_encoding,
};

/// Whose fields are read: the two sides are held to different rules where a client can attack and
/// an origin can only be broken.
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
    pub(crate) known: KnownSet,
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
    pub(crate) fn upgrade(&self) -> Upgrade {
        if self.upgrade_option {
            self.upgrade
        } else {
            Upgrade::None
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
    /// Reads field lines from `at` up to and including the empty line; says where that ends.
    pub(crate) fn parse(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        decisions: &mut Decisions,
    ) -> Result<usize, HeadError> {
        self.fields.clear();
        self.nominated.clear();
        let mut left = self.limits.field_count_max;
        let mut seen = KnownSet::EMPTY;
        while bytes.get(at) != Some(&b'\r') {
            let colon = colon(bytes, at);
            let known = Known::of(bytes.get(at..colon).unwrap_or_default());
            let name = Span::new(at, colon);
            let mut kept = known != Known::Other || self.admits(name, bytes)?;
            let (value, next) = value(bytes, colon + 1)?;
            let field = Field { name, value, known };
            if known.decides() {
                kept = self.note(decisions, field, bytes)?;
            }
            if kept {
                seen.insert(known);
                self.fields.push(field);
            }
            if left == 0 {
                return Err(HeadError::new(HeadFault::TooManyFields, at));
            }
            left -= 1;
            at = next;
        }
        decisions.known = seen;
        match bytes.get(..at + 2) {
            Some([section @ .., b'\r', b'\n']) => match memchr::memchr(0x7f, section) {
                None => Ok(at + 2),
                // The searches for the ends of names and values let it pass.
                Some(at) => Err(HeadError::new(HeadFault::Control, at)),
            },
            _ => Err(not_a_line_end(bytes, at)),
        }
    }

    /// Whether a name that is not well-known is kept.
    #[inline]
    fn admits(&self, name: Span, bytes: &[u8]) -> Result<bool, HeadError> {
        let plain = end_of(name.of(bytes), 0, PLAIN_TOKEN) == name.len();
        if plain && !name.is_empty() && (name.end as usize) < bytes.len() {
            return Ok(true);
        }
        self.admits_odd(name, bytes)
    }

    #[cold]
    fn admits_odd(&self, name: Span, bytes: &[u8]) -> Result<bool, HeadError> {
        let at = name.start as usize;
        let stop = end_of(bytes, at, TOKEN);
        if stop == at || stop != name.end as usize || stop == bytes.len() {
            return Err(not_a_name(bytes, at, stop));
        }
        match (
            self.limits.underscores,
            memchr::memchr(b'_', name.of(bytes)),
        ) {
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
                    self.nominated.names.push(span);
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
}

/// Parses a whole trailer section, leaving out what [`Known::is_allowed_in_trailers`] forbids.
pub(crate) fn parse_trailers(
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

/// The value that begins at `at`, without the whitespace around it, and where the next line is.
#[inline(always)]
fn value(bytes: &[u8], at: usize) -> Result<(Span, usize), HeadError> {
    let mut start = at + usize::from(bytes.get(at) == Some(&b' '));
    while let Some(b' ' | b'\t') = bytes.get(start) {
        start += 1;
    }
    let mut stop = text_end_but_del(bytes, start);
    while bytes.get(stop) == Some(&b'\t') {
        stop = text_end_but_del(bytes, stop + 1);
    }
    let Some([b'\r', b'\n', ..]) = bytes.get(stop..) else {
        return Err(not_a_line_end(bytes, stop));
    };
    let mut end = stop;
    while end > start && matches!(bytes.get(end - 1), Some(b' ' | b'\t')) {
        end -= 1;
    }
    Ok((Span::new(start, end), stop + 2))
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

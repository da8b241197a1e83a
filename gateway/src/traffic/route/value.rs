//! Matching values of header fields and query parameters.
//!
//! Must not: look at more than the first parameter of a name, so that a second one cannot choose
//! a route that the origin will not see.

use cardea_config::model::ValueMatch;
use regex::bytes::Regex;

use super::RequestView;
use crate::traffic::headers::HeaderName;

/// What a value has to be.
#[derive(Debug)]
pub(super) enum Expected {
    Exact(Box<[u8]>),
    Pattern(Regex),
    Present,
    Absent,
}

impl Expected {
    pub(super) fn new(matcher: &ValueMatch) -> Result<Self, regex::Error> {
        if let Some(exact) = &matcher.exact {
            return Ok(Self::Exact(exact.as_bytes().into()));
        }
        if let Some(pattern) = &matcher.regex {
            return whole(pattern).map(Self::Pattern);
        }
        Ok(if matcher.present == Some(false) {
            Self::Absent
        } else {
            Self::Present
        })
    }

    fn holds(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (Self::Exact(exact), Some(value)) => **exact == *value,
            (Self::Pattern(pattern), Some(value)) => pattern.is_match(value),
            (Self::Present, value) => value.is_some(),
            (Self::Absent, value) => value.is_none(),
            (_, None) => false,
        }
    }
}

/// A pattern for the whole of a text, in linear time and bounded size.
pub(super) fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(&format!("^(?:{pattern})$"))
        .unicode(false)
        .size_limit(1 << 20)
        .build()
        // A pattern with classes beyond ASCII needs Unicode to be understood.
        .or_else(|_| {
            regex::bytes::RegexBuilder::new(&format!("^(?:{pattern})$"))
                .size_limit(1 << 20)
                .build()
        })
}

/// A header field that has to hold: any of its lines may.
#[derive(Debug)]
pub(super) struct HeaderTest {
    pub(super) name: HeaderName,
    pub(super) expected: Expected,
}

impl HeaderTest {
    pub(super) fn holds(&self, request: &RequestView<'_>) -> bool {
        let mut values = request.headers.values(&self.name).peekable();
        match self.expected {
            Expected::Absent => values.peek().is_none(),
            _ => values.any(|value| self.expected.holds(Some(value))),
        }
    }
}

/// A query parameter that has to hold: the first of its name.
#[derive(Debug)]
pub(super) struct QueryTest {
    pub(super) name: Box<[u8]>,
    pub(super) expected: Expected,
}

impl QueryTest {
    pub(super) fn holds(&self, request: &RequestView<'_>) -> bool {
        let pairs = request
            .query
            .unwrap_or_default()
            .split(|&byte| byte == b'&');
        let mut named = pairs.filter_map(|pair| {
            let mut parts = pair.splitn(2, |&byte| byte == b'=');
            let name = parts.next().unwrap_or_default();
            is_same(name, &self.name).then(|| parts.next().unwrap_or_default())
        });
        match named.next() {
            None => self.expected.holds(None),
            Some(value) if value.contains(&b'%') || value.contains(&b'+') => {
                self.expected.holds(Some(&decoded(value)))
            }
            Some(value) => self.expected.holds(Some(value)),
        }
    }
}

fn is_same(written: &[u8], name: &[u8]) -> bool {
    written == name || (written.contains(&b'%') && decoded(written) == name)
}

/// Undoes the encoding of forms: `+` is a space, `%xx` a byte; a broken escape stays as it is.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match (byte, digit(text.get(at)), digit(text.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', _, _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out
}

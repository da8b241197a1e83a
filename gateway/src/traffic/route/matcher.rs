//! What a route asks of a request besides its path: that it is a call of gRPC, the method, header
//! fields, query parameters, and the certificate that its client showed.
//!
//! A field that was sent several times counts as one whose value is all of theirs, joined with
//! commas (RFC 9110 section 5.3), so that a message means the same however a client or a proxy
//! before us split it. Of a query parameter only the first counts, decoded as forms are.
//!
//! Must not: take a second look at what the origin will see only once.

use std::borrow::Cow;

use cardea_certs::peer::PeerRule;
use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::ValueMatch;
use cardea_config::origin::Located;
use cardea_http1::Known;

use super::RequestView;
use super::pattern::{Pattern, describe};
use super::query;
use crate::traffic::headers::HeaderName;
use crate::traffic::respond::grpc;

/// The conditions of an alternative besides its path.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    /// It is a call of gRPC.
    pub(super) is_call: bool,
    /// The method is one of these; none for any.
    pub(super) methods: Box<[Box<[u8]>]>,
    pub(super) headers: Box<[HeaderTest]>,
    pub(super) query: Box<[QueryTest]>,
    pub(super) client: Option<Box<PeerRule>>,
}

/// A header field that has to hold.
#[derive(Debug)]
pub(super) struct HeaderTest {
    pub(super) name: HeaderName,
    pub(super) expected: Expected,
}

/// A query parameter that has to hold.
#[derive(Debug)]
pub(super) struct QueryTest {
    pub(super) name: Box<[u8]>,
    pub(super) expected: Expected,
}

/// What a value has to be.
#[derive(Debug)]
pub(super) enum Expected {
    Exact(Box<[u8]>),
    Pattern(Pattern),
    Present,
    Absent,
}

impl Conditions {
    pub(super) fn is_empty(&self) -> bool {
        !self.is_call
            && self.methods.is_empty()
            && self.headers.is_empty()
            && self.query.is_empty()
            && self.client.is_none()
    }

    pub(super) fn hold(&self, request: &RequestView<'_>) -> bool {
        (!self.is_call || is_call(request))
            && self.takes_method(request)
            && self.headers.iter().all(|test| test.holds(request))
            && self.query.iter().all(|test| test.holds(request))
            && self.takes_client(request)
    }

    pub(super) fn takes_client(&self, request: &RequestView<'_>) -> bool {
        let Some(rule) = &self.client else {
            return true;
        };
        request.client.is_some_and(|client| rule.matches(client))
    }

    pub(super) fn takes_method(&self, request: &RequestView<'_>) -> bool {
        self.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|method| **method == *request.method)
    }
}

/// Whether a request is a call of gRPC, also in the form that browsers send (gRPC-Web), or what a
/// browser asks before it sends one: a preflight has no content type, and only calls have POST.
pub(super) fn is_call(request: &RequestView<'_>) -> bool {
    match request.headers.known(Known::ContentType) {
        Some(kind) => grpc::is_call(kind),
        None => {
            request.method == b"OPTIONS"
                && request.headers.known(Known::AccessControlRequestMethod) == Some(b"POST")
        }
    }
}

impl HeaderTest {
    pub(super) fn holds(&self, request: &RequestView<'_>) -> bool {
        let mut values = request.headers.values(&self.name);
        let Some(first) = values.next() else {
            return matches!(self.expected, Expected::Absent);
        };
        match &self.expected {
            Expected::Absent => false,
            Expected::Present => true,
            Expected::Exact(exact) => {
                // What is left to be found after each value. Nothing has to be joined for it.
                let separator = self.separator();
                let rest = exact.strip_prefix(first);
                let rest = values.fold(rest, |rest, value| {
                    rest?.strip_prefix(separator)?.strip_prefix(value)
                });
                rest.is_some_and(<[u8]>::is_empty)
            }
            Expected::Pattern(pattern) => match values.next() {
                None => pattern.is_match(first),
                Some(_) => pattern.is_match(&self.value(request).unwrap_or_default()),
            },
        }
    }

    /// The value of the field, joined if it was sent several times.
    pub(super) fn value<'r>(&'r self, request: &RequestView<'r>) -> Option<Cow<'r, [u8]>> {
        let mut values = request.headers.values(&self.name);
        let mut joined = Cow::Borrowed(values.next()?);
        for value in values {
            let joined = joined.to_mut();
            joined.extend_from_slice(self.separator());
            joined.extend_from_slice(value);
        }
        Some(joined)
    }

    fn separator(&self) -> &'static [u8] {
        match self.name.known() {
            // Which is no list of elements between commas (RFC 9113 section 8.2.3).
            Known::Cookie => b"; ",
            _ => b", ",
        }
    }
}

impl QueryTest {
    pub(super) fn holds(&self, request: &RequestView<'_>) -> bool {
        let Some(written) = self.find(request) else {
            return matches!(self.expected, Expected::Absent);
        };
        match &self.expected {
            Expected::Absent => false,
            Expected::Present => true,
            Expected::Exact(exact) => query::is_decoded(written, exact),
            Expected::Pattern(pattern) => pattern.is_match(&query::decoded(written)),
        }
    }

    /// The value of the parameter, decoded.
    pub(super) fn value<'r>(&self, request: &RequestView<'r>) -> Option<Cow<'r, [u8]>> {
        self.find(request).map(query::decoded)
    }

    fn find<'r>(&self, request: &RequestView<'r>) -> Option<&'r [u8]> {
        query::first(request.query?, &self.name)
    }
}

impl Expected {
    /// Compiles what a header field or query parameter has to be.
    pub(super) fn compile(test: &Located<ValueMatch>, found: &mut Vec<Diagnostic>) -> Option<Self> {
        match (&test.exact, &test.regex, test.present) {
            (Some(exact), None, None) => Some(Self::Exact(exact.as_bytes().into())),
            (None, Some(pattern), None) => match Pattern::compile(pattern) {
                Ok(pattern) => Some(Self::Pattern(pattern)),
                Err(error) => {
                    let message = format!("`{pattern}` is no regular expression");
                    found.push(
                        Diagnostic::error("E-regex", Some(test.origin), message)
                            .label(describe(&error)),
                    );
                    None
                }
            },
            (None, None, Some(true)) => Some(Self::Present),
            (None, None, Some(false)) => Some(Self::Absent),
            _ => {
                let message = format!("how `{}` matches is not clear", test.name);
                found.push(
                    Diagnostic::error("E-match", Some(test.origin), message)
                        .remedy("set exactly one of `exact`, `regex` and `present`"),
                );
                None
            }
        }
    }
}

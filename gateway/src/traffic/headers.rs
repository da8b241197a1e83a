//! The header list every protocol shares: the fields of a head as spans over the bytes received,
//! and the edits made on the way, held beside them until the list is serialised once.
//!
//! Must not: copy a field that nobody edited, decide which fields travel (`forward` does), or
//! allocate once its buffers are warm: a list is reused from message to message.

use cardea_http1::{Field, Known, Nominated, Span, write};

/// A header field name, resolved when the snapshot compiles: lower case, with its interned form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName {
    known: Known,
    text: Box<str>,
}

impl HeaderName {
    /// A name from configuration. The text must be a token (the configuration checked it).
    pub fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase().into_boxed_str();
        Self {
            known: Known::of(text.as_bytes()),
            text,
        }
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The interned form, `Known::Other` for a name that has none.
    pub fn known(&self) -> Known {
        self.known
    }
}

/// The fields of one message head.
#[derive(Debug, Default)]
pub struct Headers {
    /// The head as received; spans of `fields` point into it.
    pub bytes: Vec<u8>,
    /// The fields received and not removed since, in order.
    pub fields: Vec<Field>,
    added_bytes: Vec<u8>,
    added: Vec<Field>,
}

impl Headers {
    /// Empties the list, keeping its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.added_bytes.clear();
        self.added.clear();
    }

    /// The fields in order, received ones first: interned name, name, value.
    pub fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        let received = self
            .fields
            .iter()
            .map(|field| (field, self.bytes.as_slice()));
        let added = self
            .added
            .iter()
            .map(|field| (field, self.added_bytes.as_slice()));
        received
            .chain(added)
            .map(|(field, bytes)| (field.known, field.name.of(bytes), field.value.of(bytes)))
    }

    /// Serialises the fields for which `keep(interned name)` holds, runs of them in one copy.
    pub fn write(&self, out: &mut Vec<u8>, keep: impl Fn(Known) -> bool) {
        self.write_received(out, &keep);
        self.write_added(out, &keep);
    }

    /// As `write`, of the fields received.
    pub fn write_received(&self, out: &mut Vec<u8>, keep: impl Fn(Known) -> bool) {
        let kept = self.fields.iter().copied();
        write::fields(out, &self.bytes, kept.filter(|field| keep(field.known)));
    }

    /// As `write`, of the fields that edits added.
    pub fn write_added(&self, out: &mut Vec<u8>, keep: impl Fn(Known) -> bool) {
        let kept = self.added.iter().copied();
        write::fields(
            out,
            &self.added_bytes,
            kept.filter(|field| keep(field.known)),
        );
    }

    /// Whether an edit added a field of this interned name.
    pub fn is_added(&self, known: Known) -> bool {
        self.added.iter().any(|field| field.known == known)
    }

    /// How many fields the list holds.
    pub fn len(&self) -> usize {
        self.fields.len() + self.added.len()
    }

    /// Whether the list holds no field.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first value of an interned name.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        debug_assert!(known != Known::Other, "an uninterned name needs its text");
        self.iter()
            .find(|(found, _, _)| *found == known)
            .map(|(_, _, value)| value)
    }

    /// The first value of a name.
    pub fn value<'a>(&'a self, name: &'a HeaderName) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// Every value of a name, in order.
    pub fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(known, text, _)| is_named(name, *known, text))
            .map(|(_, _, value)| value)
    }

    /// Every value of a name given as text, whatever its case.
    pub fn values_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let known = Known::of(name.as_bytes());
        self.iter()
            .filter(move |(found, text, _)| {
                *found == known
                    && (known != Known::Other || text.eq_ignore_ascii_case(name.as_bytes()))
            })
            .map(|(_, _, value)| value)
    }

    /// Removes every field of a name.
    pub fn remove(&mut self, name: &HeaderName) {
        let Self {
            bytes,
            fields,
            added_bytes,
            added,
        } = self;
        fields.retain(|field| !is_named(name, field.known, field.name.of(bytes)));
        added.retain(|field| !is_named(name, field.known, field.name.of(added_bytes)));
    }

    /// Removes every field of an interned name.
    pub fn remove_known(&mut self, known: Known) {
        debug_assert!(known != Known::Other, "an uninterned name needs its text");
        self.fields.retain(|field| field.known != known);
        self.added.retain(|field| field.known != known);
    }

    /// Keeps the fields for which `keep(interned name, name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let Self {
            bytes,
            fields,
            added_bytes,
            added,
        } = self;
        fields.retain(|field| keep(field.known, field.name.of(bytes), field.value.of(bytes)));
        added.retain(|field| {
            keep(
                field.known,
                field.name.of(added_bytes),
                field.value.of(added_bytes),
            )
        });
    }

    /// Removes what belongs to the connection the head came on: the hop-by-hop fields and those
    /// that its `Connection` nominates (RFC 9110 §7.6.1).
    pub fn remove_hop_by_hop(&mut self, nominated: &Nominated) {
        let Self { bytes, fields, .. } = self;
        fields.retain(|field| !nominated.removes(*field, bytes));
    }

    /// Removes what was received under the names by which proxies speak for a client, and by which
    /// origins are told another request than the one that was routed.
    pub fn remove_claims(&mut self) {
        self.fields.retain(|field| {
            !matches!(
                field.known,
                Known::Forwarded
                    | Known::XForwardedFor
                    | Known::XForwardedProto
                    | Known::XForwardedHost
                    | Known::XForwardedPort
                    | Known::XForwardedServer
                    | Known::XForwardedPrefix
                    | Known::XForwardedUri
                    | Known::XForwardedMethod
                    | Known::XForwardedClientCert
                    | Known::ClientCert
                    | Known::ClientCertChain
                    | Known::XRealIp
                    | Known::XOriginalUrl
                    | Known::XRewriteUrl
            )
        });
    }

    /// Adds a field at the end. A value with CR, LF or NUL cannot be added: those bytes become
    /// spaces, so that no edit can end a head early (RFC 9110 §5.5).
    pub fn append(&mut self, name: &HeaderName, value: &[u8]) {
        self.append_parts(name.known, name.text.as_bytes(), &[value]);
    }

    /// Adds a field whose value is the parts one after another.
    pub fn append_parts(&mut self, known: Known, name: &[u8], parts: &[&[u8]]) {
        let start = self.added_bytes.len();
        self.added_bytes.extend_from_slice(name);
        let name_end = self.added_bytes.len();
        for part in parts {
            self.added_bytes.extend(part.iter().map(|&byte| match byte {
                b'\r' | b'\n' | 0 => b' ',
                other => other,
            }));
        }
        self.added.push(Field {
            name: span(start, name_end),
            value: span(name_end, self.added_bytes.len()),
            known,
        });
    }

    /// Replaces every field of a name by one with this value.
    pub fn set(&mut self, name: &HeaderName, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }
}

fn is_named(name: &HeaderName, known: Known, text: &[u8]) -> bool {
    known == name.known
        && (known != Known::Other || text.eq_ignore_ascii_case(name.text.as_bytes()))
}

/// A span of a buffer whose length a limit keeps far below 4 GiB.
fn span(start: usize, end: usize) -> Span {
    let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span {
        start: narrow(start),
        end: narrow(end),
    }
}

/// Whether a comma-separated field value lists `token`, whatever its case (RFC 9110 §5.6.1).
pub fn lists_token(value: &[u8], token: &[u8]) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in pairs {
            headers.append(&HeaderName::new(name), value.as_bytes());
        }
        headers
    }

    fn text(headers: &Headers) -> String {
        headers
            .iter()
            .map(|(_, name, value)| {
                format!(
                    "{}={};",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(value)
                )
            })
            .collect()
    }

    #[test]
    fn edits_apply_to_every_field_of_a_name() {
        let mut list = headers(&[("x-a", "1"), ("Host", "h"), ("X-A", "2")]);
        list.set(&HeaderName::new("X-a"), b"3");
        assert_eq!(text(&list), "host=h;x-a=3;");
        list.remove(&HeaderName::new("HOST"));
        assert_eq!(text(&list), "x-a=3;");
        assert_eq!(list.value(&HeaderName::new("x-a")), Some(&b"3"[..]));
        assert_eq!(list.values_of("X-A").count(), 1);
    }

    #[test]
    fn an_edit_cannot_end_the_head() {
        let list = headers(&[("x-a", "1\r\nx-evil: 2\0")]);
        assert_eq!(text(&list), "x-a=1  x-evil: 2 ;");
    }

    #[test]
    fn tokens_are_found_in_lists() {
        let check = |value: &str, token: &str, expected: bool| {
            assert_eq!(
                lists_token(value.as_bytes(), token.as_bytes()),
                expected,
                "{value}"
            );
        };
        check("gzip, Chunked", "chunked", true);
        check("xchunked", "chunked", false);
        check("", "chunked", false);
        check(" close ,keep-alive", "close", true);
    }
}

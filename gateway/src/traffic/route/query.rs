//! The parameters of a query as routes see them: `&` between them, the first `=` after the name,
//! both sides decoded as forms are (URL Standard, application/x-www-form-urlencoded): `+` is a
//! space and `%xx` a byte. A percent sign without two digits stands for itself.
//!
//! Must not: change a query. It is forwarded as it came.

use std::borrow::Cow;

use super::normalise::escape_value;

/// The value, as written, of the first parameter of a name.
pub(super) fn first<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query
        .split(|&byte| byte == b'&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let end = memchr::memchr(b'=', parameter).unwrap_or(parameter.len());
            let (name, value) = parameter.split_at_checked(end).unwrap_or((parameter, b""));
            (name, value.get(1..).unwrap_or_default())
        })
        .find(|(written, _)| is_decoded(written, name))
        .map(|(_, value)| value)
}

/// Whether what is written says `meant`.
pub(super) fn is_decoded(written: &[u8], meant: &[u8]) -> bool {
    Bytes(written).eq(meant.iter().copied())
}

/// What is written, decoded.
pub(super) fn decoded(written: &[u8]) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'%', b'+', written) {
        None => Cow::Borrowed(written),
        Some(_) => Cow::Owned(Bytes(written).collect()),
    }
}

/// The decoded bytes of what is left.
struct Bytes<'q>(&'q [u8]);

impl Iterator for Bytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(match byte {
            b'+' => b' ',
            b'%' => match escape_value(rest.first().copied(), rest.get(1).copied()) {
                None => byte,
                Some(value) => {
                    self.0 = rest.get(2..).unwrap_or_default();
                    value
                }
            },
            _ => byte,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let check = |query: &str, name: &str, expected: Option<&str>| {
            let value = first(query.as_bytes(), name.as_bytes()).map(decoded);
            let value = value.map(|bytes| String::from_utf8(bytes.into_owned()).unwrap());
            assert_eq!(value.as_deref(), expected, "{query} {name}");
        };
        check("a=1&b=2&a=3", "a", Some("1"));
        check("a=1&b=2&a=3", "b", Some("2"));
        check("a=1", "c", None);
        check("", "a", None);
        check("", "", None);
        check("a", "a", Some(""));
        check("a&a=1", "a", Some(""));
        check("a=", "a", Some(""));
        check("&&a=1&", "a", Some("1"));
        check("=1", "", Some("1"));
        check("a=b=c", "a", Some("b=c"));
        check("aa=1&a=2", "a", Some("2"));
        check("A=1", "a", None);
        check("a;b=1", "a;b", Some("1"));
        check("%61=1", "a", Some("1"));
        check("first+name=x", "first name", Some("x"));
        check("a=x+y%20z%2B", "a", Some("x y z+"));
        check("a=%C3%A9", "a", Some("é"));
        check("a=%e9%", "b", None);
        check("a=100%&b=%2", "a", Some("100%"));
        check("a=100%&b=%2", "b", Some("%2"));
        check("a=%zz", "a", Some("%zz"));
        check("a=%26b=1", "b", None);
        check("a=%2526", "a", Some("%26"));
    }
}

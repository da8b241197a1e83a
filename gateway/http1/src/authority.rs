//! `host` and `host:port`, as they stand in Host and in request targets.

use std::net::Ipv6Addr;

use crate::class::{NAME, end_of, has_adjacent_dots};
use crate::{HeadError, HeadFault, Span};

/// A host and perhaps a port (RFC 3986 section 3.2, without user information).
///
/// The host is a name or an IPv4 address of ASCII letters, digits, `-`, `.` and `_`, without empty
/// labels except for a final dot, or an IPv6 address in brackets. Percent-encoding, the other
/// characters that RFC 3986 admits in names, IPv6 zones and an empty port are refused: no name
/// that resolves has them, and recipients differ in what they make of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Authority {
    /// The host, an IPv6 address with its brackets.
    pub host: Span,
    /// The port, if there is one.
    pub port: Option<u16>,
}

/// Parses an authority; spans and offsets count from its first byte.
///
/// # Errors
/// [`HeadFault::BadHost`], with the offset at which it ceases to be one.
pub fn parse_authority(bytes: &[u8]) -> Result<Authority, HeadError> {
    let end = match bytes {
        [b'[', ..] => literal_end(bytes)?,
        _ => name_end(bytes)?,
    };
    let port = match bytes.get(end..) {
        None | Some([]) => None,
        Some([b':', digits @ ..]) => {
            Some(port(digits).ok_or_else(|| HeadError::new(HeadFault::BadHost, end + 1))?)
        }
        Some(_) => return Err(HeadError::new(HeadFault::BadHost, end)),
    };
    Ok(Authority {
        host: Span::new(0, end),
        port,
    })
}

/// The end of a name, which is everything up to a colon.
fn name_end(bytes: &[u8]) -> Result<usize, HeadError> {
    let end = end_of(bytes, 0, NAME);
    let name = Span::new(0, end).of(bytes);
    match name {
        [] | [b'.', ..] => Err(HeadError::new(HeadFault::BadHost, 0)),
        _ if has_adjacent_dots(name) => Err(HeadError::new(HeadFault::BadHost, 0)),
        _ => Ok(end),
    }
}

/// The end of an IPv6 address in brackets.
fn literal_end(bytes: &[u8]) -> Result<usize, HeadError> {
    let end = memchr::memchr(b']', bytes).ok_or(HeadError::new(HeadFault::BadHost, 0))?;
    bytes
        .get(1..end)
        .and_then(|address| str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok())
        .map(|_| end + 1)
        .ok_or(HeadError::new(HeadFault::BadHost, 1))
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    digits.iter().try_fold(0u16, |port, digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let check = |text: &str, expected: Option<(&str, Option<u16>)>| {
            let parsed = parse_authority(text.as_bytes()).ok();
            let found = parsed.map(|authority| {
                (
                    authority
                        .host
                        .of(text.as_bytes())
                        .escape_ascii()
                        .to_string(),
                    authority.port,
                )
            });
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(found, expected, "{text:?}");
        };
        check("example.com", Some(("example.com", None)));
        check("EXAMPLE.com:8443", Some(("EXAMPLE.com", Some(8443))));
        check("example.com.", Some(("example.com.", None)));
        check("my_host-1", Some(("my_host-1", None)));
        check("127.0.0.1:1", Some(("127.0.0.1", Some(1))));
        check("[::1]", Some(("[::1]", None)));
        check(
            "[2001:db8::192.0.2.1]:65535",
            Some(("[2001:db8::192.0.2.1]", Some(65535))),
        );
        for bad in [
            "",
            ":80",
            ".",
            ".example.com",
            "a..b",
            "example.com:",
            "example.com:65536",
            "example.com:000080",
            "example.com:8o",
            "example.com:+80",
            "example.com:80:80",
            "user@example.com",
            "a b",
            "a/b",
            "a\\b",
            "a%2eb",
            "a,b",
            "bücher.example",
            "::1",
            "[::1",
            "[]",
            "[::1]x",
            "[::1%eth0]",
            "[v1.x]",
            "[1.2.3.4]",
            "a\0b",
        ] {
            check(bad, None);
        }
    }
}

//! How long a body is: the two fields that say so and what they come to. Every disagreement about
//! this is a way to smuggle a request, so nothing is repaired here, only understood or refused.

use crate::HeadFault;
use crate::class::is_token;

/// How the body of a message is delimited (RFC 9112 section 6).
///
/// Where the RFC lets a recipient choose between repairing and refusing, requests are refused:
/// Content-Length more than once even if the copies agree, in a list, signed, or with leading
/// zeros (which some read as octal); Transfer-Encoding beside Content-Length, in HTTP/1.0, more
/// than once, or anything but `chunked` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, and perhaps trailers.
    Chunked,
    /// Everything until the connection closes. Responses only.
    UntilClose,
}

/// The value of a Content-Length field.
///
/// # Errors
/// Unless it is a plain decimal number of at most 2^63 − 1 without leading zeros. Larger ones mean
/// nothing, except to an origin that keeps lengths in signed integers.
pub fn parse_content_length(value: &[u8]) -> Result<u64, HeadFault> {
    let plain = match value {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !plain {
        return Err(HeadFault::BadContentLength);
    }
    value
        .iter()
        .try_fold(0i64, |length, digit| {
            length
                .checked_mul(10)?
                .checked_add(i64::from(digit.wrapping_sub(b'0')))
        })
        .map(i64::unsigned_abs)
        .ok_or(HeadFault::BadContentLength)
}

/// The value of the only Transfer-Encoding field of a message: `chunked`, or an error.
///
/// # Errors
/// [`HeadFault::UnknownTransferCoding`] if it is a well-formed list that ends in its only
/// `chunked`, so that the length could be told but the content not; otherwise
/// [`HeadFault::BadTransferEncoding`].
pub fn parse_transfer_encoding(value: &[u8]) -> Result<(), HeadFault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let last_is_chunked = codings
        .next_back()
        .is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    // A coding's parameters are not looked at: it is refused with them or without.
    let mut names = codings.map(|coding| {
        coding
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii_end()
    });
    let others_are_codings =
        names.all(|name| is_token(name) && !name.eq_ignore_ascii_case(b"chunked"));
    Err(if last_is_chunked && others_are_codings {
        HeadFault::UnknownTransferCoding
    } else {
        HeadFault::BadTransferEncoding
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length() {
        let check = |value: &str, expected: Option<u64>| {
            let expected = expected.ok_or(HeadFault::BadContentLength);
            assert_eq!(
                parse_content_length(value.as_bytes()),
                expected,
                "{value:?}"
            );
        };
        check("0", Some(0));
        check("42", Some(42));
        check("9223372036854775807", Some(i64::MAX as u64));
        check("9223372036854775808", None);
        check("18446744073709551616", None);
        check("99999999999999999999999999999999", None);
        for bad in [
            "", "-1", "+1", "0x10", "1f", "1 ", " 1", "1,1", "1, 1", "1.0", "1e3", "1_0",
        ] {
            check(bad, None);
        }
        check("00", None);
        check("010", None);
        check("\u{0661}", None);
    }

    #[test]
    fn transfer_encoding() {
        let check = |value: &str, expected| {
            assert_eq!(
                parse_transfer_encoding(value.as_bytes()),
                expected,
                "{value:?}"
            );
        };
        check("chunked", Ok(()));
        check("Chunked", Ok(()));
        check("gzip, chunked", Err(HeadFault::UnknownTransferCoding));
        check("identity,chunked", Err(HeadFault::UnknownTransferCoding));
        check("foo;a=b , chunked", Err(HeadFault::UnknownTransferCoding));
        for bad in [
            "",
            "identity",
            "gzip",
            "chunked, gzip",
            "chunked, chunked",
            "chunked,",
            ", chunked",
            "xchunked",
            "chunked;q=1",
            "chunked x",
            "\"chunked\"",
            "chu\tnked",
            "chunked, identity",
            "gz ip, chunked",
            "gzip\u{b}, chunked",
        ] {
            check(bad, Err(HeadFault::BadTransferEncoding));
        }
    }
}

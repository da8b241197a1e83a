//! Messages out: the serialisers, all into a buffer that the caller owns and reuses.
//!
//! What they are given is valid already, parsed or configured; they are the last line against
//! header injection all the same. A value with CR, LF or NUL in it is a bug of ours: it stops a
//! debug build, and in a release build each such byte is written as a space.

use crate::class::{control_but_del, is_token};
use crate::{Field, Span};

/// Writes `METHOD target HTTP/1.1` and the line's end.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) {
    debug_assert!(is_token(method), "a method is a token");
    debug_assert!(
        !target.is_empty() && !target.contains(&b' '),
        "a target has no space"
    );
    text(out, method);
    out.push(b' ');
    text(out, target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes a status line with the reason phrase of the status's registration.
pub fn status_line(out: &mut Vec<u8>, status: u16) {
    match prepared(status) {
        Some(line) => out.extend_from_slice(line.as_bytes()),
        None => status_line_with_reason(out, status, b""),
    }
}

/// Writes a status line with a reason phrase as received.
pub fn status_line_with_reason(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    debug_assert!((100..=999).contains(&status), "a status has three digits");
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    text(out, reason);
    out.extend_from_slice(b"\r\n");
}

/// Writes one field line.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(is_token(name), "a field name is a token");
    let start = out.len();
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    confine(out, start);
    out.extend_from_slice(b"\r\n");
}

/// Writes fields as they were received in `head`.
///
/// Fields that follow each other there, as most do, are copied together; only the whitespace
/// around values is not preserved.
pub fn fields(out: &mut Vec<u8>, head: &[u8], fields: impl IntoIterator<Item = Field>) {
    let mut run = Span::EMPTY;
    for field in fields {
        let (name, value) = (field.name, field.value);
        let after = value.end as usize;
        let as_we_write_it = name.end.checked_add(2) == Some(value.start)
            && head.get(name.end as usize + 1) == Some(&b' ')
            && head.get(after..after + 2) == Some(b"\r\n");
        if as_we_write_it && name.start == run.end {
            run.end = value.end + 2;
            continue;
        }
        out.extend_from_slice(run.of(head));
        if as_we_write_it {
            run = Span {
                start: name.start,
                end: value.end + 2,
            };
        } else {
            run = Span::EMPTY;
            self::field(out, name.of(head), value.of(head));
        }
    }
    out.extend_from_slice(run.of(head));
}

/// Writes a Content-Length field.
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Writes `Transfer-Encoding: chunked`.
pub fn chunked(out: &mut Vec<u8>) {
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
}

/// Writes the empty line after the fields of a head.
pub fn head_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes the line before the data of a chunk. A chunk of no bytes would end the body: for that
/// there is [`last_chunk`].
pub fn chunk_start(out: &mut Vec<u8>, length: u64) {
    debug_assert!(length > 0, "an empty chunk is the last one");
    let digits = (u64::BITS - length.leading_zeros()).div_ceil(4).max(1);
    let mut shift = digits * 4;
    while shift > 0 {
        shift -= 4;
        let digit = (length >> shift & 0xf) as u8;
        out.push(if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        });
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line's end after the data of a chunk.
pub fn chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk. Trailers follow, each by [`field`], and then [`head_end`].
pub fn last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
}

/// Writes a decimal number.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut first = DIGITS_MAX - 1;
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        first = at;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// Writes text that stays on its line whatever is in it.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    let start = out.len();
    out.extend_from_slice(text);
    confine(out, start);
}

/// Sees to it that what was written from `start` on is one line.
#[inline]
fn confine(out: &mut [u8], start: usize) {
    let written = out.get_mut(start..).unwrap_or_default();
    if control_but_del(written) < written.len() {
        replace_line_breaks(written);
    }
}

/// What is found first may be a harmless control character, an HTAB in most cases.
#[cold]
fn replace_line_breaks(written: &mut [u8]) {
    for byte in written {
        if matches!(byte, b'\r' | b'\n' | 0) {
            debug_assert!(false, "a line break in what is to be one line");
            *byte = b' ';
        }
    }
}

/// The registered reason phrases, each in the whole line it stands in.
macro_rules! status_lines {
    ($($status:literal $reason:literal)*) => {
        fn prepared(status: u16) -> Option<&'static str> {
            match status {
                $($status => Some(concat!("HTTP/1.1 ", $status, " ", $reason, "\r\n")),)*
                _ => None,
            }
        }

        /// The registered reason phrase of a status; empty if there is none.
        pub fn reason(status: u16) -> &'static str {
            match status {
                $($status => $reason,)*
                _ => "",
            }
        }
    };
}

status_lines! {
    100 "Continue"
    101 "Switching Protocols"
    102 "Processing"
    103 "Early Hints"
    200 "OK"
    201 "Created"
    202 "Accepted"
    203 "Non-Authoritative Information"
    204 "No Content"
    205 "Reset Content"
    206 "Partial Content"
    207 "Multi-Status"
    208 "Already Reported"
    226 "IM Used"
    300 "Multiple Choices"
    301 "Moved Permanently"
    302 "Found"
    303 "See Other"
    304 "Not Modified"
    305 "Use Proxy"
    307 "Temporary Redirect"
    308 "Permanent Redirect"
    400 "Bad Request"
    401 "Unauthorized"
    402 "Payment Required"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    406 "Not Acceptable"
    407 "Proxy Authentication Required"
    408 "Request Timeout"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    412 "Precondition Failed"
    413 "Content Too Large"
    414 "URI Too Long"
    415 "Unsupported Media Type"
    416 "Range Not Satisfiable"
    417 "Expectation Failed"
    421 "Misdirected Request"
    422 "Unprocessable Content"
    423 "Locked"
    424 "Failed Dependency"
    425 "Too Early"
    426 "Upgrade Required"
    428 "Precondition Required"
    429 "Too Many Requests"
    431 "Request Header Fields Too Large"
    451 "Unavailable For Legal Reasons"
    500 "Internal Server Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Unavailable"
    504 "Gateway Timeout"
    505 "HTTP Version Not Supported"
    506 "Variant Also Negotiates"
    507 "Insufficient Storage"
    508 "Loop Detected"
    510 "Not Extended"
    511 "Network Authentication Required"
}

#[cfg(test)]
mod tests;

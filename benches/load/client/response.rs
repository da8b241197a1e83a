//! Reads one response and compares it with the expected one, byte for byte.
//!
//! Fed by a connection with whatever a read returned. It understands what a proxy may do to a
//! known response (other header fields, `Connection: close`) and nothing else: a chunked or
//! compressed reply is wrong here, because no proxy under test has a reason to make one.

/// A head beyond this is wrong.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How far the response has come.
#[derive(Default)]
pub(crate) struct Response {
    head: Vec<u8>,
    /// Known once the head is complete.
    body: Option<Body>,
}

struct Body {
    received: usize,
    close: bool,
}

/// The verdict on some more bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The response goes on.
    Pending,
    /// Complete and as expected; `close` if the proxy announced to close.
    Complete {
        /// Whether the connection ends with this response.
        close: bool,
    },
    /// Not the expected response.
    Wrong,
}

impl Response {
    /// Whether nothing of the response has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.body.is_none()
    }

    /// Takes the next bytes of the connection; `expected` is the whole body.
    pub(crate) fn feed(&mut self, bytes: &[u8], expected: &[u8]) -> Verdict {
        let Some(body) = &mut self.body else {
            return self.feed_head(bytes, expected);
        };
        let end = body.received + bytes.len();
        match expected.get(body.received..end) {
            Some(part) if part == bytes => body.received = end,
            _ => return Verdict::Wrong,
        }
        if end < expected.len() {
            return Verdict::Pending;
        }
        let close = body.close;
        *self = Self::default();
        Verdict::Complete { close }
    }

    fn feed_head(&mut self, bytes: &[u8], expected: &[u8]) -> Verdict {
        // Nearly always the whole head comes at once and need not be copied.
        let searched = self.head.len().saturating_sub(3);
        let joined;
        let bytes = if self.head.is_empty() {
            bytes
        } else {
            self.head.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.head);
            joined.as_slice()
        };
        let Some(end) = bytes[searched..]
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
        else {
            self.head = bytes.to_vec();
            let over = bytes.len() > HEAD_BYTES_MAX;
            return if over {
                Verdict::Wrong
            } else {
                Verdict::Pending
            };
        };
        let (head, rest) = bytes.split_at(searched + end + 4);
        match check_head(head, expected.len()) {
            Some(close) => self.body = Some(Body { received: 0, close }),
            None => return Verdict::Wrong,
        }
        self.feed(rest, expected)
    }
}

/// Whether the connection closes, for a head that announces the expected response.
fn check_head(head: &[u8], body_bytes: usize) -> Option<bool> {
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return None;
    }
    let mut length = None;
    let mut close = false;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value).ok()?.parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return None;
        } else if name.eq_ignore_ascii_case(b"connection") {
            close = value.eq_ignore_ascii_case(b"close");
        }
    }
    (length == Some(body_bytes)).then_some(close)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"0123456789";

    fn response(extra: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n{extra}\r\n0123456789").into_bytes()
    }

    /// Feeds `bytes` in two parts, split everywhere, and expects the same verdict each time.
    fn check(bytes: &[u8], expected: Verdict) {
        for split in 0..bytes.len() {
            let mut response = Response::default();
            let mut verdict = response.feed(&bytes[..split], BODY);
            if verdict == Verdict::Pending {
                verdict = response.feed(&bytes[split..], BODY);
            }
            assert_eq!(verdict, expected, "split at {split}");
        }
    }

    #[test]
    fn any_split_gives_the_same_verdict() {
        check(&response(""), Verdict::Complete { close: false });
        check(
            &response("Connection: Close\r\n"),
            Verdict::Complete { close: true },
        );
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234",
            Verdict::Pending,
        );
    }

    #[test]
    fn what_differs_is_wrong() {
        check(
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 10\r\n\r\n0123456789",
            Verdict::Wrong,
        );
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n012345678",
            Verdict::Wrong,
        );
        check(b"HTTP/1.1 200 OK\r\n\r\n0123456789", Verdict::Wrong);
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234x6789",
            Verdict::Wrong,
        );
    }

    #[test]
    fn bytes_after_the_end_are_wrong() {
        let mut bytes = response("");
        bytes.push(b'!');
        let verdict = Response::default().feed(&bytes, BODY);
        assert_eq!(verdict, Verdict::Wrong);
    }
}

//! WebSocket (RFC 6455) at both ends: a client that sends the next message when the last has come
//! back, and an origin that sends back what it hears.
//!
//! Whole binary messages in single frames, masked by the client alone, as browsers and servers send
//! them. It must not accept anything else: no proxy under test has a reason to change a frame.

use std::ops::Range;

use anyhow::{Result, bail, ensure};

use super::{Heard, Talk};
use crate::certificate::DOMAIN;

/// Where the origin's proxies find it.
pub(crate) const PATH: &str = "/beside/echo";

/// Bytes of a message, as chats and dashboards send them.
const MESSAGE_BYTES: usize = 128;
/// The key of every handshake and its answer (RFC 6455 section 1.3): a proxy passes both on.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// A head beyond this is wrong.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const FINAL: u8 = 0x80;
const BINARY: u8 = 0x2;
const MASKED: u8 = 0x80;

/// The client's end.
pub(crate) struct Caller {
    /// The message under way.
    message: [u8; MESSAGE_BYTES],
    number: u32,
    is_open: bool,
    is_stopping: bool,
    is_idle: bool,
}

/// The origin's end.
#[derive(Default)]
pub(crate) struct Answerer {
    is_open: bool,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            message: std::array::from_fn(|at| (at % 251) as u8),
            number: 0,
            is_open: false,
            is_stopping: false,
            is_idle: false,
        }
    }
}

impl Caller {
    /// Says the next message, which differs from the last, under another mask.
    fn say(&mut self, out: &mut Vec<u8>) {
        self.is_idle = self.is_stopping;
        if self.is_stopping {
            return;
        }
        self.number = self.number.wrapping_add(1);
        self.message[..4].copy_from_slice(&self.number.to_be_bytes());
        let mask = self.number.wrapping_mul(0x9E37_79B1).to_be_bytes();
        write(out, Some(mask), &self.message);
    }
}

impl Talk for Caller {
    fn greet(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let request = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Heard> {
        let mut heard = Heard::default();
        if !self.is_open {
            let Some(head) = head(bytes)? else {
                return Ok(heard);
            };
            ensure!(
                head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT),
                "no WebSocket: {head}"
            );
            self.is_open = true;
            heard.taken = head.len();
            self.say(out);
        }
        while let Some(frame) = Frame::parse(&bytes[heard.taken..])? {
            let payload = &bytes[heard.taken..][frame.payload.clone()];
            ensure!(frame.mask.is_none(), "the answer is masked");
            ensure!(payload == self.message, "another message came back");
            heard.taken += frame.payload.end;
            heard.completed += 1;
            self.say(out);
        }
        Ok(heard)
    }

    fn stop(&mut self) {
        self.is_stopping = true;
    }

    fn is_idle(&self) -> bool {
        self.is_idle
    }
}

impl Talk for Answerer {
    fn greet(&mut self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Heard> {
        let mut heard = Heard::default();
        if !self.is_open {
            let Some(head) = head(bytes)? else {
                return Ok(heard);
            };
            ensure!(
                head.starts_with("GET ") && head.contains(KEY),
                "no WebSocket: {head}"
            );
            self.is_open = true;
            heard.taken = head.len();
            let reply = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
            );
            out.extend_from_slice(reply.as_bytes());
        }
        while let Some(frame) = Frame::parse(&bytes[heard.taken..])? {
            let Some(mask) = frame.mask else {
                bail!("a client's frame has no mask");
            };
            write(out, None, &bytes[heard.taken..][frame.payload.clone()]);
            let start = out.len() - frame.payload.len();
            apply(mask, &mut out[start..]);
            heard.taken += frame.payload.end;
            heard.completed += 1;
        }
        Ok(heard)
    }
}

/// The head at the beginning of `bytes`, once it is whole.
fn head(bytes: &[u8]) -> Result<Option<&str>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        ensure!(bytes.len() <= HEAD_BYTES_MAX, "a head without an end");
        return Ok(None);
    };
    Ok(Some(std::str::from_utf8(&bytes[..end + 4])?))
}

/// A binary message in one frame, found at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    mask: Option<[u8; 4]>,
    payload: Range<usize>,
}

impl Frame {
    /// Reads a frame; none if it is not whole yet.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some((&[first, second], _)) = bytes.split_first_chunk::<2>() else {
            return Ok(None);
        };
        ensure!(first == FINAL | BINARY, "a frame of kind {first:#x}");
        let (length, mut start) = match second & !MASKED {
            126 => match bytes.get(2..4) {
                Some(length) => (usize::from(u16::from_be_bytes(length.try_into()?)), 4),
                None => return Ok(None),
            },
            127 => bail!("a frame larger than any that was sent"),
            length => (usize::from(length), 2),
        };
        let mut mask = None;
        if second & MASKED != 0 {
            let Some(four) = bytes.get(start..start + 4) else {
                return Ok(None);
            };
            mask = Some(four.try_into()?);
            start += 4;
        }
        let payload = start..start + length;
        Ok((payload.end <= bytes.len()).then_some(Self { mask, payload }))
    }
}

/// Writes a frame, masked if there is a mask.
fn write(out: &mut Vec<u8>, mask: Option<[u8; 4]>, payload: &[u8]) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.push(FINAL | BINARY);
    match u8::try_from(payload.len()) {
        Ok(length @ 0..126) => out.push(masked | length),
        _ => {
            let length = u16::try_from(payload.len()).expect("messages are small");
            out.push(masked | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| mask.as_slice()));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply(mask, &mut out[start..]);
    }
}

/// Masks or unmasks (RFC 6455 section 5.3).
fn apply(mask: [u8; 4], payload: &mut [u8]) {
    for (byte, mask) in payload.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::converse;

    #[test]
    fn frames_are_read_as_written_and_only_when_whole() {
        for length in [0, 1, 125, 126, 128, 300] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let payload = (0..length).map(|at| at as u8).collect::<Vec<_>>();
                let mut bytes = Vec::new();
                write(&mut bytes, mask, &payload);
                for cut in 0..bytes.len() {
                    assert_eq!(Frame::parse(&bytes[..cut]).unwrap(), None);
                }
                let frame = Frame::parse(&bytes).unwrap().unwrap();
                assert_eq!((frame.mask, frame.payload.end), (mask, bytes.len()));
                let found = &mut bytes[frame.payload];
                apply(mask.unwrap_or_default(), found);
                assert_eq!(found, payload);
            }
        }
    }

    #[test]
    fn a_masked_text_of_the_standard_is_unmasked() {
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply([0x37, 0xfa, 0x21, 0x3d], &mut bytes);
        assert_eq!(&bytes, b"Hello");
    }

    #[test]
    fn other_frames_are_refused() {
        for first in [0x81, 0x02, 0xc2, 0x88, 0x89] {
            assert!(Frame::parse(&[first, 0]).is_err());
        }
    }

    #[test]
    fn both_ends_understand_each_other_however_bytes_come() {
        for piece in [1, 7, 10_000] {
            let completed = converse(Caller::default(), Answerer::default(), piece, 5).unwrap();
            assert!(completed >= 5);
        }
    }

    #[test]
    fn a_client_notices_what_is_wrong() {
        let answer = format!("HTTP/1.1 101 x\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
        let refused = |bytes: &[u8]| Caller::default().hear(bytes, &mut Vec::new()).is_err();
        assert!(!refused(answer.as_bytes()));
        assert!(refused(b"HTTP/1.1 200 OK\r\n\r\n"));
        assert!(refused(answer.replace(ACCEPT, KEY).as_bytes()));
        let mut changed = answer.into_bytes();
        write(&mut changed, None, &[0; MESSAGE_BYTES]);
        assert!(refused(&changed));
    }
}

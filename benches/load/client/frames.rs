//! Frames of HTTP/2 (RFC 9113 section 4.1), written by hand: as much as a request needs, and what
//! nobody but an attacker sends.
//!
//! It must not keep any state: what a frame does to a connection is its sender's business.

use crate::certificate::DOMAIN;

/// The kinds of frames (RFC 9113 section 6).
pub(crate) const DATA: u8 = 0;
/// As above.
pub(crate) const HEADERS: u8 = 1;
/// As above.
pub(crate) const RST_STREAM: u8 = 3;
/// As above.
pub(crate) const SETTINGS: u8 = 4;
/// As above.
pub(crate) const PING: u8 = 6;
/// As above.
pub(crate) const GOAWAY: u8 = 7;
/// As above.
pub(crate) const WINDOW_UPDATE: u8 = 8;
/// The flag of SETTINGS that are only acknowledged.
const ACK: u8 = 1;
/// The flag of a frame that ends its stream's direction.
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A method that the static table has (RFC 7541, appendix A).
#[derive(Clone, Copy)]
pub(crate) enum Method {
    /// Its request ends with the head.
    Get,
    /// Its request has a body to come.
    Post,
}

/// What a client says first; the server's settings are acknowledged before they have come.
pub(crate) fn greet(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(out, SETTINGS, 0, 0, &[]);
    frame(out, SETTINGS, ACK, 0, &[]);
}

/// A request of the domain that everything is measured under.
pub(crate) fn request(out: &mut Vec<u8>, method: Method, path: &str, stream: u32) {
    let (method, flags) = match method {
        Method::Get => (0x82, END_STREAM | END_HEADERS),
        Method::Post => (0x83, END_HEADERS),
    };
    // Method and https from the static table; authority and path beside their names there.
    let mut block = vec![method, 0x87];
    for (name, value) in [(1, DOMAIN), (4, path)] {
        block.extend_from_slice(&[name, value.len() as u8]);
        block.extend_from_slice(value.as_bytes());
    }
    frame(out, HEADERS, flags, stream, &block);
}

/// A frame.
pub(crate) fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use cardea_http2::{Connection, Event, Limits, Role};

    use super::*;

    #[test]
    fn a_server_understands_the_requests() {
        let check = |method, is_get: bool, line: &[u8]| {
            let mut bytes = Vec::new();
            greet(&mut bytes);
            request(&mut bytes, method, "/small", 1);
            let mut server = Connection::new(Role::Server, Limits::default());
            let mut at = 0;
            loop {
                let mut text = Vec::new();
                let (taken, event) = server.receive(&bytes[at..], 0, &mut text).unwrap();
                at += taken;
                if let Event::Head { stream, is_end, .. } = event.unwrap() {
                    assert_eq!((stream, is_end), (1, is_get));
                    assert!(text.starts_with(line), "{text:?}");
                    return;
                }
            }
        };
        check(
            Method::Get,
            true,
            b"GET /small HTTP/1.1\r\nhost: bench.test\r\n",
        );
        check(
            Method::Post,
            false,
            b"POST /small HTTP/1.1\r\nhost: bench.test\r\n",
        );
    }
}

//! As much of WebSocket (RFC 6455) as a test needs: the handshake, frames, masks.
//!
//! Must not: fragment or compress; the gateway treats all of it as bytes.

use crate::wire::{Ending, Wire};

/// A key for the handshake. Its answer is [`accept`]`(KEY)`.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// The end.
    Close,
    /// Anything else, by its opcode.
    Other(u8),
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its payload, unmasked.
    pub payload: Vec<u8>,
}

/// A text frame.
pub fn text(text: &str) -> Frame {
    Frame {
        kind: Kind::Text,
        payload: text.as_bytes().to_vec(),
    }
}

/// A close frame without a code.
pub fn close() -> Frame {
    Frame {
        kind: Kind::Close,
        payload: Vec::new(),
    }
}

/// A request for an upgrade.
pub fn handshake(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// The bytes of a frame; a client masks, a server does not.
pub fn encode(frame: &Frame, mask: Option<[u8; 4]>) -> Vec<u8> {
    let opcode = match frame.kind {
        Kind::Text => 1,
        Kind::Close => 8,
        Kind::Other(opcode) => opcode,
    };
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![0x80 | opcode];
    match frame.payload.len() {
        length @ 0..126 => bytes.push(masked | length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(masked | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| bytes.extend(mask)).unwrap_or_default();
    let masks = mask.iter().cycle();
    bytes.extend(
        frame
            .payload
            .iter()
            .zip(masks)
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// Reads a frame.
///
/// # Errors
/// How the connection ended instead.
pub fn read(wire: &mut Wire) -> Result<Frame, Ending> {
    let head = wire.take(2)?;
    let mut length = u64::from(head[1] & 0x7f);
    let extended = match length {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if extended > 0 {
        let bytes = wire.take(extended)?;
        length = bytes
            .iter()
            .fold(0, |length, &byte| (length << 8) | u64::from(byte));
    }
    let mask = if head[1] & 0x80 == 0 {
        vec![0; 4]
    } else {
        wire.take(4)?
    };
    let payload = wire.take(length as usize)?;
    let kind = match head[0] & 0x0f {
        1 => Kind::Text,
        8 => Kind::Close,
        opcode => Kind::Other(opcode),
    };
    let payload = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    Ok(Frame {
        kind,
        payload: payload.collect(),
    })
}

/// The answer to a key: base64(SHA-1(key + a fixed identifier)) (RFC 6455 section 4.2.2).
pub fn accept(key: &str) -> String {
    base64(&sha1(
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    ))
}

/// SHA-1 (FIPS 180-4), which nothing but this handshake should still need.
fn sha1(message: &[u8]) -> Vec<u8> {
    let mut state: [u32; 5] = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut words: Vec<u32> = block
            .chunks(4)
            .map(|word| {
                word.iter()
                    .fold(0, |word, &byte| (word << 8) | u32::from(byte))
            })
            .collect();
        for at in 16..80 {
            let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words.push(mixed.rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, &word) in words.iter().enumerate() {
            let (chosen, constant) = match at {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999_u32),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = [chosen, e, constant, word]
                .iter()
                .fold(a.rotate_left(5), |sum, &term| sum.wrapping_add(term));
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, term) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(term);
        }
    }
    state.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| {
            (bits << 8) | u32::from(group.get(at).copied().unwrap_or_default())
        });
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

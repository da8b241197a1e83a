//! Headers of the PROXY protocol as a proxy would write them, and with every mistake one could make.

use std::net::{IpAddr, SocketAddr};

/// What a block of version 2 begins with.
pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A value: type, length, value.
pub fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len() as u16;
    [&[kind], &length.to_be_bytes()[..], value].concat()
}

/// A block with this version and command, family and transport, and content.
pub fn block(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len() as u16;
    [
        SIGNATURE,
        &[command, family],
        &length.to_be_bytes(),
        content,
    ]
    .concat()
}

/// A block about a TCP connection, with values.
///
/// # Panics
/// If the addresses are none, or of two families.
#[track_caller]
pub fn v2(source: &str, destination: &str, values: &[u8]) -> Vec<u8> {
    let [source, destination]: [SocketAddr; 2] =
        [source, destination].map(|it| it.parse().expect("an address with a port"));
    assert_eq!(source.is_ipv4(), destination.is_ipv4());
    let mut content = Vec::new();
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => content.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => content.extend_from_slice(&ip.octets()),
        }
    }
    content.extend_from_slice(&source.port().to_be_bytes());
    content.extend_from_slice(&destination.port().to_be_bytes());
    content.extend_from_slice(values);
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    block(0x21, family, &content)
}

/// Puts the checksum into a block that has a value of four zeros for it.
///
/// # Panics
/// If it has none.
#[track_caller]
pub fn with_checksum(mut block: Vec<u8>) -> Vec<u8> {
    let empty = tlv(0x03, &[0; 4]);
    let at = block.windows(empty.len()).position(|it| it == empty);
    let at = at.expect("room for a checksum") + 3;
    let sum = checksum(&block);
    block[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    block
}

/// CRC32c, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

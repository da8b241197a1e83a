//! The PROXY protocol, versions 1 and 2: what a proxy says of a connection in its first bytes, read
//! and written as HAProxy's proxy-protocol.txt has it. Sections are cited from there.
//!
//! Must not: do IO, or use anything of the gateway. The fuzz targets build this file by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, its CR LF included (section 2.1).
pub const V1_BYTES_MAX: usize = 107;

/// The shortest line of version 1: `PROXY UNKNOWN`.
const V1_BYTES_MIN: usize = 15;

/// What a line of version 1 begins with (section 2.2).
const V1_SIGNATURE: &[u8] = b"PROXY";

/// What a block of version 2 begins with (section 2.2).
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2: signature, version and command, family, length.
const V2_PREFIX_BYTES: usize = 16;

/// The longest unique id (section 2.2.5).
const UNIQUE_ID_BYTES_MAX: usize = 128;

/// The bits of a TLS value that say what the client has (section 2.2.6).
pub mod client {
    /// It spoke TLS.
    pub const TLS: u8 = 1;
    /// It showed a certificate on this connection.
    pub const CERTIFICATE_NOW: u8 = 2;
    /// It showed a certificate when the session began.
    pub const CERTIFICATE_ONCE: u8 = 4;
}

/// Types of values (section 2.2).
pub mod kind {
    /// The protocol agreed on.
    pub const ALPN: u8 = 0x01;
    /// The host that the client named.
    pub const AUTHORITY: u8 = 0x02;
    /// The checksum of the header.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// An id of the connection.
    pub const UNIQUE_ID: u8 = 0x05;
    /// The TLS that the client spoke, with values of its own inside.
    pub const TLS: u8 = 0x20;
    /// Inside: its version.
    pub const TLS_VERSION: u8 = 0x21;
    /// Inside: whom the client's certificate names.
    pub const TLS_COMMON_NAME: u8 = 0x22;
    /// Inside: its cipher suite.
    pub const TLS_CIPHER: u8 = 0x23;
    /// Inside: the algorithm that signed the certificate.
    pub const TLS_SIGNATURE: u8 = 0x24;
    /// Inside: the algorithm of the certificate's key.
    pub const TLS_KEY: u8 = 0x25;
    /// The network namespace that the connection came through.
    pub const NAMESPACE: u8 = 0x30;
    /// Of Google Cloud: a private connection.
    pub const GCP: u8 = 0xe0;
    /// Of AWS: a kind, and its value.
    pub const AWS: u8 = 0xea;
    /// Of Azure: a kind, and its value.
    pub const AZURE: u8 = 0xee;
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// A binary block.
    V2,
}

/// What the connection is made of that the header is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Stream,
    /// UDP.
    Datagram,
}

/// The two ends of the connection that the header is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Where it comes from: the client.
    pub source: SocketAddr,
    /// Where the client wanted to.
    pub destination: SocketAddr,
    /// What it is made of.
    pub transport: Transport,
}

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'b> {
    /// Its version.
    pub version: Version,
    /// The addresses; none where the connection is the proxy's own (`LOCAL`), or of a kind that has
    /// none (`UNKNOWN`, `UNSPEC`, `AF_UNIX`): those of the socket stand.
    pub addresses: Option<Addresses>,
    /// The values after the addresses.
    pub tlvs: Tlvs<'b>,
}

/// Why bytes are not taken for a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// They begin like neither version.
    Missing,
    /// It is longer than allowed.
    TooLong,
    /// It breaks this rule.
    Malformed(&'static str),
    /// Its checksum is not that of its bytes.
    Checksum,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'b> {
    /// They may become a header: so many are missing at least.
    Incomplete(usize),
    /// They begin with a header of this length.
    Header(Header<'b>, usize),
    /// They do not begin with a header that can be taken.
    Invalid(Fault),
}

/// Values after the addresses of a header: type, length and value, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tlvs<'b>(pub &'b [u8]);

/// The TLS that a client spoke, as a proxy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls<'b> {
    /// What the client has, in the bits of [`client`].
    pub client: u8,
    /// Whether the client showed a certificate and it was verified.
    pub is_verified: bool,
    /// The values inside.
    pub tlvs: Tlvs<'b>,
}

/// Reads the header that a connection begins with. What is said of some bytes is not changed by
/// more of them, unless they were incomplete. Version 2 has no limit of its own below 64 KiB;
/// `v2_bytes_max` is it.
pub fn parse(bytes: &[u8], v2_bytes_max: usize) -> Parsed<'_> {
    let begins = |signature: &[u8]| {
        let both = signature.len().min(bytes.len());
        bytes.get(..both) == signature.get(..both)
    };
    let parsed = if begins(V2_SIGNATURE) && bytes.first() == V2_SIGNATURE.first() {
        parse_v2(bytes, v2_bytes_max)
    } else if begins(V1_SIGNATURE) {
        parse_v1(bytes)
    } else {
        Err(Stop::Fault(Fault::Missing))
    };
    match parsed {
        Ok((header, length)) => Parsed::Header(header, length),
        Err(Stop::Missing(bytes)) => Parsed::Incomplete(bytes),
        Err(Stop::Fault(fault)) => Parsed::Invalid(fault),
    }
}

/// Writes a line of version 1. Without addresses it says that there is nothing to say.
pub fn write_v1(out: &mut Vec<u8>, addresses: Option<&Addresses>) {
    let Some((source, destination)) = addresses.map(of_one_family) else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    out.extend_from_slice(line.as_bytes());
}

/// Writes a block of version 2 with values that [`push`] made. Without addresses it says that the
/// connection is our own.
pub fn write_v2(out: &mut Vec<u8>, addresses: Option<&Addresses>, tlvs: &[u8]) {
    out.extend_from_slice(V2_SIGNATURE);
    let Some(addresses) = addresses else {
        out.extend_from_slice(&[0x20, 0, 0, 0]);
        return;
    };
    let transport = match addresses.transport {
        Transport::Stream => 1,
        Transport::Datagram => 2,
    };
    let (source, destination) = of_one_family(addresses);
    let (family, length) = if source.is_ipv4() { (1, 12) } else { (2, 36) };
    // Values that could not be counted are left out.
    let (tlvs, length) = match u16::try_from(tlvs.len() + length) {
        Ok(counted) => (tlvs, counted),
        Err(_) => (&[][..], length as u16),
    };
    out.extend_from_slice(&[0x21, family << 4 | transport]);
    out.extend_from_slice(&length.to_be_bytes());
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    out.extend_from_slice(tlvs);
}

/// Adds a value to those of a header. One that is too long to be counted is left out.
pub fn push(tlvs: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if let Ok(length) = u16::try_from(value.len()) {
        tlvs.push(kind);
        tlvs.extend_from_slice(&length.to_be_bytes());
        tlvs.extend_from_slice(value);
    }
}

/// Adds what is known of the TLS that a client spoke.
pub fn push_tls(tlvs: &mut Vec<u8>, tls: &Tls<'_>) {
    let mut value = vec![tls.client];
    value.extend_from_slice(&u32::from(!tls.is_verified).to_be_bytes());
    value.extend_from_slice(tls.tlvs.0);
    push(tlvs, kind::TLS, &value);
}

impl<'b> Tlvs<'b> {
    /// The values and their types, in order, as far as they are well-formed.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'b [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (kind, value, after) = split(rest)?;
            rest = after;
            Some((kind, value))
        })
    }

    /// The first value of a type.
    pub fn find(self, kind: u8) -> Option<&'b [u8]> {
        let mut values = self.iter();
        values.find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The TLS that the client spoke.
    pub fn tls(self) -> Option<Tls<'b>> {
        let (client, rest) = self.find(kind::TLS)?.split_first()?;
        let (verify, tlvs) = rest.split_first_chunk::<4>()?;
        Some(Tls {
            client: *client,
            is_verified: *verify == [0; 4],
            tlvs: Tlvs(tlvs),
        })
    }
}

impl Fault {
    /// Which rule was broken, in words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Missing => "the connection begins with something else",
            Self::TooLong => "the header is longer than allowed",
            Self::Malformed(rule) => rule,
            Self::Checksum => "the checksum is wrong",
        }
    }
}

/// Why there is no header yet, or none.
enum Stop {
    Missing(usize),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Section 2.1.
fn parse_v1(bytes: &[u8]) -> Result<(Header<'_>, usize), Stop> {
    let window = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        if bytes.len() >= V1_BYTES_MAX {
            return Err(Fault::TooLong.into());
        }
        let end = if bytes.ends_with(b"\r") { 1 } else { 2 };
        return Err(Stop::Missing(
            V1_BYTES_MIN.saturating_sub(bytes.len()).max(end),
        ));
    };
    let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.ok_or(Fault::Malformed("the line does not end with CR LF"))?;
    let header = Header {
        version: Version::V1,
        addresses: addresses_of_line(line)?,
        tlvs: Tlvs::default(),
    };
    Ok((header, end + 1))
}

fn addresses_of_line(line: &[u8]) -> Result<Option<Addresses>, Fault> {
    const WORDS: Fault = Fault::Malformed("the line has not the words of its family");
    const ADDRESS: Fault = Fault::Malformed("an address of the line is none of its family");
    let text = std::str::from_utf8(line).map_err(|_| WORDS)?;
    let mut words = text.split(' ');
    if words.next() != Some("PROXY") {
        return Err(WORDS);
    }
    let family = words.next().ok_or(WORDS)?;
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(None);
    }
    let mut word = || words.next().ok_or(WORDS);
    let (source, destination, from, to) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(WORDS);
    }
    let ip = |text: &str| match family {
        "TCP4" => text
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .map_err(|_| ADDRESS),
        "TCP6" => text
            .parse::<Ipv6Addr>()
            .map(IpAddr::V6)
            .map_err(|_| ADDRESS),
        _ => Err(Fault::Malformed(
            "the line has another family than TCP4, TCP6 or UNKNOWN",
        )),
    };
    Ok(Some(Addresses {
        source: SocketAddr::new(ip(source)?, port(from)?),
        destination: SocketAddr::new(ip(destination)?, port(to)?),
        transport: Transport::Stream,
    }))
}

/// A port is written without signs and leading zeros.
fn port(text: &str) -> Result<u16, Fault> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    let port = (is_plain && is_short).then(|| text.parse().ok());
    port.flatten()
        .ok_or(Fault::Malformed("a port of the line is none"))
}

/// Section 2.2.
fn parse_v2(bytes: &[u8], bytes_max: usize) -> Result<(Header<'_>, usize), Stop> {
    let prefix = bytes.get(V2_SIGNATURE.len()..V2_PREFIX_BYTES);
    let Some([version, family, high, low]) = prefix.and_then(|it| it.first_chunk()) else {
        return Err(Stop::Missing(V2_PREFIX_BYTES - bytes.len()));
    };
    let is_local = match version {
        0x20 => true,
        0x21 => false,
        _ => return Err(Fault::Malformed("the block has another version or command").into()),
    };
    let length = V2_PREFIX_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
    if length > bytes_max {
        return Err(Fault::TooLong.into());
    }
    let Some(whole) = bytes.get(..length) else {
        return Err(Stop::Missing(length - bytes.len()));
    };
    let mut header = Header {
        version: Version::V2,
        addresses: None,
        tlvs: Tlvs::default(),
    };
    // What a proxy says of a connection of its own is to be ignored, its family included.
    if !is_local && let Some(at) = end_of_addresses(*family)? {
        let block = whole.get(V2_PREFIX_BYTES..at);
        let block = block.ok_or(Fault::Malformed("the block is too short for its family"))?;
        header.addresses = addresses_of_block(block, family & 0x0f);
        header.tlvs = Tlvs(whole.get(at..).unwrap_or_default());
        check_values(whole, at)?;
    }
    Ok((header, length))
}

/// Where the addresses of a block end; none where nothing says what is in it.
fn end_of_addresses(family: u8) -> Result<Option<usize>, Fault> {
    let length = match (family >> 4, family & 0x0f) {
        (0..=3, 0) | (0, 0..=2) => return Ok(None),
        (1, 1 | 2) => 12,
        (2, 1 | 2) => 36,
        (3, 1 | 2) => 216,
        _ => return Err(Fault::Malformed("the block has a family that there is not")),
    };
    Ok(Some(V2_PREFIX_BYTES + length))
}

fn addresses_of_block(block: &[u8], transport: u8) -> Option<Addresses> {
    let (ips, ports) = match block.len() {
        12 => {
            let (source, rest) = block.split_first_chunk::<4>()?;
            let (destination, ports) = rest.split_first_chunk::<4>()?;
            ([IpAddr::from(*source), IpAddr::from(*destination)], ports)
        }
        36 => {
            let (source, rest) = block.split_first_chunk::<16>()?;
            let (destination, ports) = rest.split_first_chunk::<16>()?;
            ([IpAddr::from(*source), IpAddr::from(*destination)], ports)
        }
        // Those of AF_UNIX are paths of the proxy's machine.
        _ => return None,
    };
    let (from, rest) = ports.split_first_chunk::<2>()?;
    let to = rest.first_chunk::<2>()?;
    let [source, destination] = ips;
    Some(Addresses {
        source: SocketAddr::new(source, u16::from_be_bytes(*from)),
        destination: SocketAddr::new(destination, u16::from_be_bytes(*to)),
        transport: match transport {
            1 => Transport::Stream,
            _ => Transport::Datagram,
        },
    })
}

/// Checks the values that begin at `at`, and the checksum of the whole header if it is one of them.
fn check_values(whole: &[u8], at: usize) -> Result<(), Fault> {
    let mut rest = whole.get(at..).unwrap_or_default();
    let mut checksum = None;
    while !rest.is_empty() {
        let (kind, value, after) =
            split(rest).ok_or(Fault::Malformed("a value is longer than the block"))?;
        match kind {
            kind::CRC32C => {
                let sum = <[u8; 4]>::try_from(value).map(u32::from_be_bytes);
                let sum = sum.map_err(|_| Fault::Malformed("the checksum has not four bytes"))?;
                let at = whole.len() - after.len() - value.len();
                if checksum.replace((at, sum)).is_some() {
                    return Err(Fault::Malformed("there are two checksums"));
                }
            }
            kind::UNIQUE_ID if value.len() > UNIQUE_ID_BYTES_MAX => {
                return Err(Fault::Malformed("the unique id is too long"));
            }
            kind::TLS => check_tls(value)?,
            _ => {}
        }
        rest = after;
    }
    match checksum {
        Some((at, sum)) if checksum_without(whole, at) != sum => Err(Fault::Checksum),
        _ => Ok(()),
    }
}

/// Section 2.2.6.
fn check_tls(value: &[u8]) -> Result<(), Fault> {
    let mut rest = value
        .get(5..)
        .ok_or(Fault::Malformed("the value about TLS is too short"))?;
    while !rest.is_empty() {
        let (_, _, after) = split(rest).ok_or(Fault::Malformed(
            "a value about TLS is longer than the rest",
        ))?;
        rest = after;
    }
    Ok(())
}

/// The first value, its type before it and what comes after.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [kind, high, low, rest @ ..] = bytes else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (value, after) = rest.split_at_checked(length)?;
    Some((*kind, value, after))
}

/// Two ends of one family: IPv4 among IPv6 is written as IPv6 has it.
fn of_one_family(addresses: &Addresses) -> (SocketAddr, SocketAddr) {
    let (source, destination) = (addresses.source, addresses.destination);
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let wide = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    (wide(source), wide(destination))
}

/// The checksum of a header whose own checksum, at `at`, counts as zeros (section 2.2.3).
fn checksum_without(whole: &[u8], at: usize) -> u32 {
    let before = whole.get(..at).unwrap_or_default();
    let after = whole.get(at + 4..).unwrap_or_default();
    let bytes = before.iter().chain(&[0; 4]).chain(after);
    !bytes.fold(!0, |sum, byte| {
        let entry = CRC32C.get(usize::from(*byte ^ sum as u8));
        entry.copied().unwrap_or_default() ^ (sum >> 8)
    })
}

/// CRC32c, the checksum of RFC 4960 appendix B, byte by byte.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;

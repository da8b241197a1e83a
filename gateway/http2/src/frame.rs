//! Frames (RFC 9113 section 4.1): their headers in and out.
//!
//! Must not: know what a frame means for its stream; `connection` does.

/// Bytes of a frame's header.
pub(crate) const HEADER_BYTES: usize = 9;

/// The largest payload that everybody accepts, and that we do (RFC 9113 section 6.5.2).
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 16 * 1024;

/// The client's first words (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The kinds of frames (RFC 9113 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes of a body.
    Data,
    /// Opens a stream, or ends it with trailers.
    Headers,
    /// Deprecated; says nothing here.
    Priority,
    /// Ends a stream at once.
    RstStream,
    /// How the sender wants to be spoken to.
    Settings,
    /// A response that nobody asked for.
    PushPromise,
    /// Asks for an echo.
    Ping,
    /// The sender opens no further stream, or accepts none.
    Goaway,
    /// The receiver of a body takes more.
    WindowUpdate,
    /// The rest of a field block.
    Continuation,
    /// Some other kind, to be ignored (RFC 9113 section 5.5).
    Unknown,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte {
            0x0 => Self::Data,
            0x1 => Self::Headers,
            0x2 => Self::Priority,
            0x3 => Self::RstStream,
            0x4 => Self::Settings,
            0x5 => Self::PushPromise,
            0x6 => Self::Ping,
            0x7 => Self::Goaway,
            0x8 => Self::WindowUpdate,
            0x9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Data => 0x0,
            Self::Headers => 0x1,
            Self::Priority => 0x2,
            Self::RstStream => 0x3,
            Self::Settings => 0x4,
            Self::PushPromise => 0x5,
            Self::Ping => 0x6,
            Self::Goaway => 0x7,
            Self::WindowUpdate => 0x8,
            Self::Continuation => 0x9,
            Self::Unknown => 0xff,
        }
    }
}

/// The frame ends its sender's side of the stream.
pub(crate) const END_STREAM: u8 = 0x1;
/// The frame answers one of the same kind.
pub(crate) const ACK: u8 = 0x1;
/// The frame ends a field block.
pub(crate) const END_HEADERS: u8 = 0x4;
/// The payload is padded.
pub(crate) const PADDED: u8 = 0x8;
/// Five bytes of priority come before the field block.
pub(crate) const PRIORITY: u8 = 0x20;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the payload.
    pub(crate) length: u32,
    /// What kind of frame it is.
    pub(crate) kind: Kind,
    /// Its flags; what they mean depends on the kind.
    pub(crate) flags: u8,
    /// The stream it is for; zero is the connection.
    pub(crate) stream: u32,
}

impl Header {
    /// The header that bytes begin with; `None` if they are too few.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind: Kind::of(kind),
            flags,
            // The reserved bit is ignored (RFC 9113 section 4.1).
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        })
    }

    /// Whether a flag is set.
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The bytes of the header.
    pub(crate) fn bytes(self) -> [u8; HEADER_BYTES] {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind.byte(), self.flags, s0, s1, s2, s3]
    }
}

/// Writes a whole frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    let header = Header {
        length: payload.len() as u32,
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&header.bytes());
    out.extend_from_slice(payload);
}

/// The number that four bytes at an offset are.
pub(crate) fn number(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_a_round_trip() {
        for byte in 0..=9 {
            let header = Header {
                length: 0x01_02_03,
                kind: Kind::of(byte),
                flags: 0x25,
                stream: 0x7fff_fffe,
            };
            assert_eq!(header.bytes()[3], byte);
            assert_eq!(Header::parse(&header.bytes()), Some(header));
        }
    }

    #[test]
    fn the_reserved_bit_is_ignored_and_few_bytes_are_no_header() {
        let bytes = [0, 0, 4, 8, 0, 0x80, 0, 0, 1];
        assert_eq!(Header::parse(&bytes).map(|it| it.stream), Some(1));
        assert_eq!(Header::parse(&bytes[..8]), None);
    }
}

//! The bodies of gRPC-Web: from base64 and to it, and the fields after a body as the last frame of it.
//!
//! Must not: know where bodies come from.

use std::ops::Range;

use cardea_http1::Field;
use data_encoding::BASE64;

/// The flag of the frame that holds the fields after a body.
const TRAILERS: u8 = 0x80;

/// Bytes that the fields after a body may have, as their lines in its last frame. Over HTTP/1.1 an
/// endpoint may send fewer: what the codec takes.
pub const TRAILER_BYTES_MAX: usize = 32 * 1024;

/// What a client is told when an answer ends without a status (gRPC over HTTP/2, "Responses": whoever
/// gets none makes one, which is UNKNOWN).
const NO_STATUS: &[u8] =
    b"grpc-status: 2\r\ngrpc-message: The upstream ended the call without a status.\r\n";

/// Why a body could not be turned into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// What should be base64 is not.
    #[error("the body is no base64")]
    Base64,
    /// The fields after it are larger or more than a frame may hold.
    #[error("the fields after the body are too large or too many")]
    Trailers,
}

/// Room that is kept between pieces, bytes.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// Turns a body, piece by piece, into another.
#[derive(Debug)]
pub struct Translation {
    way: Way,
    /// The piece that was made last.
    out: Vec<u8>,
    /// The part of a group of base64 that has come.
    group: Vec<u8>,
    is_over: bool,
    /// Whether the piece to read is the one that came, unchanged.
    is_unchanged: bool,
    /// Whether the fields after the body have to tell the status, for the head did not.
    owes_status: bool,
}

/// What a body is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From base64.
    Decode,
    /// To base64, the fields after it in a frame.
    Encode,
    /// As it is, the fields after it in a frame.
    Frame,
}

impl Translation {
    /// A translation that nothing has come to yet.
    pub fn new(way: Way) -> Self {
        Self {
            way,
            out: Vec::new(),
            group: Vec::new(),
            is_over: false,
            is_unchanged: false,
            owes_status: false,
        }
    }

    /// As `new`, of an answer whose head has no status: if nothing after the body tells one either, its
    /// client is told so.
    pub fn owing_status(way: Way) -> Self {
        Self {
            owes_status: true,
            ..Self::new(way)
        }
    }

    /// Whether everything was made of what came.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The bytes of the piece that was made last; none if it is the one that came.
    pub fn piece(&self, piece: Range<usize>) -> Option<&[u8]> {
        match self.is_unchanged {
            true => None,
            false => Some(self.out.get(piece).unwrap_or_default()),
        }
    }

    /// Makes a piece of what came; none if it does not suffice for one.
    pub fn take(
        &mut self,
        came: Range<usize>,
        bytes: &[u8],
    ) -> Result<Option<Range<usize>>, Untranslatable> {
        self.forget();
        self.is_unchanged = self.way == Way::Frame;
        match self.way {
            Way::Frame => return Ok(Some(came)),
            // With its padding, so that what came can be read before there is more.
            Way::Encode => encode(bytes, &mut self.out),
            Way::Decode => self.decode(bytes)?,
        }
        Ok(self.made())
    }

    /// Makes the last piece, when nothing more comes but these fields; none if nothing is left to say.
    pub fn finish(
        &mut self,
        (bytes, trailers): (&[u8], &[Field]),
    ) -> Result<Option<Range<usize>>, Untranslatable> {
        self.forget();
        self.is_unchanged = false;
        // Whoever took the body in leaves out fields that it could not.
        let is_incomplete = trailers.is_empty() && !bytes.trim_ascii().is_empty();
        match self.way {
            Way::Decode if self.group.is_empty() => {}
            Way::Decode => return Err(Untranslatable::Base64),
            Way::Encode | Way::Frame if is_incomplete => return Err(Untranslatable::Trailers),
            Way::Encode | Way::Frame if trailers.is_empty() && !self.owes_status => {}
            Way::Encode => {
                let mut frame = Vec::new();
                write_trailers(&mut frame, bytes, trailers, self.owes_status)?;
                encode(&frame, &mut self.out);
            }
            Way::Frame => write_trailers(&mut self.out, bytes, trailers, self.owes_status)?,
        }
        self.is_over = true;
        Ok(self.made())
    }

    /// Lets the piece go that was made last, and the room for it if that is large.
    pub fn forget(&mut self) {
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
        self.out.clear();
    }

    fn made(&self) -> Option<Range<usize>> {
        (!self.out.is_empty()).then_some(0..self.out.len())
    }

    /// Whole groups at a time; each may be the last of a part, with padding, before others.
    fn decode(&mut self, bytes: &[u8]) -> Result<(), Untranslatable> {
        let wanted = (4 - self.group.len()) % 4;
        let (start, rest) = bytes.split_at(wanted.min(bytes.len()));
        self.group.extend_from_slice(start);
        if self.group.len() == 4 {
            let group = std::mem::take(&mut self.group);
            self.append(&group)?;
        }
        let whole = rest.len() - rest.len() % 4;
        let (groups, start) = rest.split_at(whole);
        self.append(groups)?;
        self.group.extend_from_slice(start);
        Ok(())
    }

    fn append(&mut self, groups: &[u8]) -> Result<(), Untranslatable> {
        let start = self.out.len();
        let length = BASE64.decode_len(groups.len());
        let length = length.map_err(|_| Untranslatable::Base64)?;
        self.out.resize(start + length, 0);
        let room = self.out.get_mut(start..).unwrap_or_default();
        let decoded = BASE64.decode_mut(groups, room);
        // Padding makes it less than there is room for.
        let length = decoded.map_err(|_| Untranslatable::Base64)?;
        self.out.truncate(start + length);
        Ok(())
    }
}

/// Appends bytes as base64, with its padding.
fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + BASE64.encode_len(bytes.len()), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    BASE64.encode_mut(bytes, room);
}

/// Writes the frame of the fields after a body: names in lower case, as lines of HTTP/1.1.
fn write_trailers(
    out: &mut Vec<u8>,
    bytes: &[u8],
    trailers: &[Field],
    owes_status: bool,
) -> Result<(), Untranslatable> {
    out.extend_from_slice(&[TRAILERS, 0, 0, 0, 0]);
    let mut has_status = false;
    for field in trailers {
        let name = field.name.of(bytes);
        has_status |= name.eq_ignore_ascii_case(b"grpc-status");
        out.extend(name.iter().map(u8::to_ascii_lowercase));
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value.of(bytes));
        out.extend_from_slice(b"\r\n");
    }
    if owes_status && !has_status {
        out.extend_from_slice(NO_STATUS);
    }
    let length = out.len() - 5;
    let told = u32::try_from(length).ok();
    let (Some(told), Some(place)) = (
        told.filter(|_| length <= TRAILER_BYTES_MAX),
        out.get_mut(1..5),
    ) else {
        return Err(Untranslatable::Trailers);
    };
    place.copy_from_slice(&told.to_be_bytes());
    Ok(())
}

//! The bodies of gRPC-Web: from base64 and to it, and the fields after a body as the last frame of it.
//!
//! Must not: know where bodies come from.

use std::ops::Range;

use cardea_http1::Field;
use data_encoding::BASE64;

/// The flag of the frame that holds the fields after a body.
const TRAILERS: u8 = 0x80;

/// What should be base64 is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is no base64")]
pub struct NoBase64;

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
    ) -> Result<Option<Range<usize>>, NoBase64> {
        self.out.clear();
        self.is_unchanged = self.way == Way::Frame;
        match self.way {
            Way::Frame => return Ok(Some(came)),
            // With its padding, so that what came can be read before there is more.
            Way::Encode => self.out.extend_from_slice(BASE64.encode(bytes).as_bytes()),
            Way::Decode => self.decode(bytes)?,
        }
        Ok(self.made())
    }

    /// Makes the last piece, when nothing more comes but these fields; none if nothing is left to say.
    pub fn finish(
        &mut self,
        (bytes, trailers): (&[u8], &[Field]),
    ) -> Result<Option<Range<usize>>, NoBase64> {
        self.out.clear();
        self.is_unchanged = false;
        self.is_over = true;
        match self.way {
            Way::Decode if self.group.is_empty() => {}
            Way::Decode => return Err(NoBase64),
            Way::Encode | Way::Frame if trailers.is_empty() => {}
            Way::Encode => {
                let mut frame = Vec::new();
                write_trailers(&mut frame, bytes, trailers);
                self.out.extend_from_slice(BASE64.encode(&frame).as_bytes());
            }
            Way::Frame => write_trailers(&mut self.out, bytes, trailers),
        }
        Ok(self.made())
    }

    fn made(&self) -> Option<Range<usize>> {
        (!self.out.is_empty()).then_some(0..self.out.len())
    }

    /// Whole groups at a time; each may be the last of a part, with padding, before others.
    fn decode(&mut self, bytes: &[u8]) -> Result<(), NoBase64> {
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

    fn append(&mut self, groups: &[u8]) -> Result<(), NoBase64> {
        let decoded = BASE64.decode(groups).map_err(|_| NoBase64)?;
        self.out.extend_from_slice(&decoded);
        Ok(())
    }
}

/// Writes the frame of the fields after a body: names in lower case, as lines of HTTP/1.1.
fn write_trailers(out: &mut Vec<u8>, bytes: &[u8], trailers: &[Field]) {
    out.extend_from_slice(&[TRAILERS, 0, 0, 0, 0]);
    for field in trailers {
        out.extend(field.name.of(bytes).iter().map(u8::to_ascii_lowercase));
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value.of(bytes));
        out.extend_from_slice(b"\r\n");
    }
    // What the limits of a head let through has a length of four bytes.
    let length = u32::try_from(out.len() - 5).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(1..5) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

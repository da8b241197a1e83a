//! Reads the primitives of a header block: bytes, integers and strings (RFC 7541 section 5).
//!
//! It knows neither tables nor fields.

use super::{HpackError, huffman};

/// What is left of a header block.
#[derive(Debug)]
pub(super) struct Reader<'block> {
    rest: &'block [u8],
}

impl<'block> Reader<'block> {
    pub(super) fn new(block: &'block [u8]) -> Self {
        Self { rest: block }
    }

    /// The next byte, without taking it.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes the next byte.
    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Takes the rest of an integer whose first byte, already taken, holds `prefix_bits` of it
    /// (RFC 7541 section 5.1).
    ///
    /// Four bytes may follow the first: they reach 2^28, more than any string, index or table of a
    /// sane connection needs, and cannot overflow.
    #[inline]
    pub(super) fn integer(&mut self, first: u8, prefix_bits: u32) -> Result<u32, HpackError> {
        let prefix_max = (1 << prefix_bits) - 1;
        let mut value = u32::from(first) & prefix_max;
        if value < prefix_max {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte().ok_or(HpackError::Truncated)?;
            value += u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError::IntegerTooLong)
    }

    /// Takes a string (RFC 7541 section 5.2). It lies in the block if it is sent as it is;
    /// otherwise it is decoded to the end of `scratch`, and there is none to return.
    pub(super) fn string(
        &mut self,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<&'block [u8]>, HpackError> {
        let first = self.byte().ok_or(HpackError::Truncated)?;
        let bytes = self.integer(first, 7)? as usize;
        let (text, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(HpackError::StringTooLong)?;
        self.rest = rest;
        if first & 0x80 == 0 {
            return Ok(Some(text));
        }
        huffman::decode(text, scratch)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], prefix_bits: u32, expected: Result<u32, HpackError>) {
        let mut reader = Reader::new(bytes);
        let first = reader.byte().expect("each case has a byte");
        assert_eq!(
            reader.integer(first, prefix_bits),
            expected,
            "{bytes:02x?} with {prefix_bits} bits"
        );
        if expected.is_ok() {
            assert_eq!(reader.peek(), None, "{bytes:02x?} is read to its end");
        }
    }

    #[test]
    fn integers_of_the_appendix() {
        // RFC 7541 appendix C.1; the bits above the prefix belong to somebody else.
        check(&[0b0000_1010], 5, Ok(10));
        check(&[0b1110_1010], 5, Ok(10));
        check(&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5, Ok(1337));
        check(&[0b0010_1010], 8, Ok(42));
    }

    #[test]
    fn integers_at_their_bounds() {
        check(&[0xff, 0x00], 8, Ok(255));
        check(&[0xfe], 8, Ok(254));
        check(&[0x0f, 0x80, 0x00], 4, Ok(15));
        check(&[0xff, 0xff, 0xff, 0xff, 0x7f], 8, Ok(255 + 0x0fff_ffff));
        check(
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x00],
            8,
            Err(HpackError::IntegerTooLong),
        );
        check(
            &[0x0f, 0x80, 0x80, 0x80, 0x80, 0x00],
            4,
            Err(HpackError::IntegerTooLong),
        );
        check(&[0xff], 8, Err(HpackError::Truncated));
        check(&[0xff, 0x80, 0x80, 0x80], 8, Err(HpackError::Truncated));
    }
}

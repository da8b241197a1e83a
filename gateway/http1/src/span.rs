//! Where the parts of a message lie: offsets into the bytes it was parsed from, so that a parsed
//! head borrows nothing and can be reused for the next one.

use crate::Known;

/// A range of bytes, counted from the first byte of the head (or trailer section) it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Span {
    /// The span of nothing.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// From offsets below 4 GiB, which every caller has from comparing against a limit.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// The bytes of this span. Of bytes it was not made from, possibly nothing; never a panic.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether there is nothing in it.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The same bytes, counted from a point `offset` bytes earlier.
    #[inline]
    pub(crate) fn shifted(self, offset: u32) -> Self {
        Self {
            start: self.start.saturating_add(offset),
            end: self.end.saturating_add(offset),
        }
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// One field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The name as received, in the sender's case.
    pub name: Span,
    /// The value without the whitespace around it.
    pub value: Span,
    /// The name if it is a well-known one.
    pub known: Known,
}

//! The dynamic table of a decoder (RFC 7541 sections 2.3.2 and 4).
//!
//! Names and values lie one after the other in a single buffer; what was evicted is the dead front
//! of it, which is moved out of the way when the buffer is full. So an entry is always in one
//! piece, and insertion allocates only while the table grows towards its limit. A table without
//! entries owns nothing: a connection that never needed one stays small.

use std::collections::VecDeque;

/// Fields that the peer has told to remember, the newest first.
#[derive(Debug)]
pub(super) struct DynamicTable {
    entries: VecDeque<Entry>,
    /// The dead, then the entries from the oldest to the newest.
    bytes: Vec<u8>,
    /// How much was removed from the front of `bytes` ever, modulo 2^32.
    removed: u32,
    /// The sum of the entries' sizes as the RFC counts them.
    size: u32,
    size_max: u32,
}

/// Lengths fit because the size of the table does.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Counted from the first byte that was ever inserted, modulo 2^32.
    start: u32,
    name_bytes: u32,
    value_bytes: u32,
}

/// What an entry costs beyond its name and value (RFC 7541 section 4.1).
const OVERHEAD_BYTES: usize = 32;

/// Enough for the few fields that most clients would like to repeat.
const BYTES_INITIAL: usize = 256;

impl DynamicTable {
    pub(super) fn new(size_max: u32) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            removed: 0,
            size: 0,
            size_max,
        }
    }

    /// The name and value of an entry, counted from 0 for the newest.
    pub(super) fn field(&self, index: u32) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(index as usize)?;
        let start = entry.start.wrapping_sub(self.removed) as usize;
        let middle = start + entry.name_bytes as usize;
        let end = middle + entry.value_bytes as usize;
        Some((self.bytes.get(start..middle)?, self.bytes.get(middle..end)?))
    }

    /// Inserts a field and evicts what it displaces. One that is larger than the table displaces
    /// everything, itself included (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let bytes = name.len() + value.len();
        let left = u32::try_from(bytes + OVERHEAD_BYTES)
            .ok()
            .and_then(|size| self.size_max.checked_sub(size));
        let Some(left) = left else {
            self.evict_to(0);
            return;
        };
        self.evict_to(left);
        self.make_room(bytes);
        self.entries.push_front(Entry {
            start: self.removed.wrapping_add(self.bytes.len() as u32),
            name_bytes: name.len() as u32,
            value_bytes: value.len() as u32,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += self.size_max - left;
    }

    /// Changes the limit, evicts what is beyond it (RFC 7541 section 4.3), and gives back memory
    /// that will not be needed again.
    pub(super) fn resize(&mut self, size_max: u32) {
        self.size_max = size_max;
        self.evict_to(size_max);
        let bytes_max = size_max as usize;
        if self.bytes.capacity() > bytes_max {
            self.remove_dead();
            self.bytes.shrink_to(bytes_max);
            self.entries.shrink_to(bytes_max / OVERHEAD_BYTES);
        }
    }

    fn evict_to(&mut self, size_max: u32) {
        while self.size > size_max {
            let Some(oldest) = self.entries.pop_back() else {
                debug_assert!(false, "the size is that of the entries");
                self.size = 0;
                return;
            };
            self.size -= oldest.name_bytes + oldest.value_bytes + OVERHEAD_BYTES as u32;
        }
    }

    /// Makes the buffer hold `bytes` more. The live and they are less than `size_max`.
    fn make_room(&mut self, bytes: usize) {
        let capacity = self.bytes.capacity();
        if self.bytes.len() + bytes <= capacity {
            return;
        }
        self.remove_dead();
        // Not for a little only: otherwise the next insertion would have to move everything again.
        let live = self.bytes.len() + bytes;
        if live > capacity - capacity / 4 {
            let wanted = live.max(capacity * 2).max(BYTES_INITIAL);
            let wanted = wanted.min(self.size_max as usize);
            self.bytes
                .reserve_exact(wanted.saturating_sub(self.bytes.len()));
        }
    }

    fn remove_dead(&mut self) {
        let dead = match self.entries.back() {
            Some(oldest) => oldest.start.wrapping_sub(self.removed) as usize,
            None => self.bytes.len(),
        };
        self.bytes.drain(..dead);
        self.removed = self.removed.wrapping_add(dead as u32);
    }
}

#[cfg(test)]
impl DynamicTable {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// What it has allocated, for names and values and for the entries.
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.bytes.capacity(), self.entries.capacity())
    }

    /// As if so much had passed through it.
    pub(super) fn aged(size_max: u32, removed: u32) -> Self {
        Self {
            removed,
            ..Self::new(size_max)
        }
    }
}

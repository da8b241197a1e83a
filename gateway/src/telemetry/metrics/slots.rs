//! Label sets as numbers, and the memory behind them: chunks that are added to and never moved, so
//! that a worker counts while the control path makes room.
//!
//! Must not: free a slot while an exchange may still count in it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::OnceLock;

/// Slots of a chunk.
const CHUNK: usize = 256;

/// Chunks: room for a million label sets.
const CHUNKS: usize = 4096;

/// Where requests of a route are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteSlot(pub(super) u32);

/// Where requests to an upstream are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamSlot(pub(super) u32);

/// Where connections of a listener are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerSlot(pub(super) u32);

/// The counters of one kind of label set.
#[derive(Debug)]
pub(super) struct Slots<T>(Box<[OnceLock<Box<[T]>>]>);

impl<T: Default> Default for Slots<T> {
    fn default() -> Self {
        Self((0..CHUNKS).map(|_| OnceLock::new()).collect())
    }
}

impl<T: Default> Slots<T> {
    /// Makes room for a slot.
    pub(super) fn ensure(&self, slot: u32) {
        if let Some(chunk) = self.0.get(slot as usize / CHUNK) {
            chunk.get_or_init(|| (0..CHUNK).map(|_| T::default()).collect());
        }
    }

    /// The counters of a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.0
            .get(slot as usize / CHUNK)?
            .get()?
            .get(slot as usize % CHUNK)
    }
}

/// The label sets of one kind.
#[derive(Debug)]
pub(super) struct Labels<K> {
    slots: HashMap<K, u32>,
    next: u32,
    free: Vec<u32>,
    /// Forgotten by the last configuration: exchanges of the one before may still count there.
    resting: Vec<u32>,
}

impl<K> Default for Labels<K> {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
            next: 0,
            free: Vec::new(),
            resting: Vec::new(),
        }
    }
}

impl<K: Hash + Eq> Labels<K> {
    /// The slot of a label set: the one it has, or a new one. When there is no room for more, the
    /// last one is shared.
    pub(super) fn slot(&mut self, key: K) -> u32 {
        let Self {
            slots, next, free, ..
        } = self;
        *slots.entry(key).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                let slot = *next;
                *next = (*next + 1).min((CHUNK * CHUNKS - 1) as u32);
                slot
            })
        })
    }

    /// Forgets label sets; returns the slots that nobody counts in any more.
    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) -> Vec<u32> {
        let freed = std::mem::take(&mut self.resting);
        self.free.extend(&freed);
        let resting = &mut self.resting;
        self.slots.retain(|key, slot| {
            let stays = keep(key);
            if !stays {
                resting.push(*slot);
            }
            stays
        });
        freed
    }

    /// The label sets and their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        self.slots.iter().map(|(key, slot)| (key, *slot))
    }
}

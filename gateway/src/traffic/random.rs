//! A worker's random numbers: for balancing, weights and request ids. Seeded by the system.
//!
//! Must not: guard anything. Whoever can predict a request id gains nothing by it.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A SplitMix64 generator: one addition and a mix per number.
#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Random {
    /// A generator with a seed of the system's.
    pub fn from_system() -> Self {
        Self(Cell::new(RandomState::new().hash_one(std::process::id())))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

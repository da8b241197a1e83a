//! Maglev (Eisenbud et al., NSDI 2016, §3.4): every member has a permutation of the table of its
//! own and they take turns in claiming their next free entry. Shares come out nearly exact, and a
//! change of one member moves few keys of the others.
//!
//! Must not: change the size of the table with the number of members, except past a limit that
//! few upstreams ever meet: another size moves every key.

use super::hash::hash_with;
use super::{PROBES_MAX, Weighted, normalise, reduce};

/// Entries of a table, a prime so that any step visits them all: 128 KiB.
const ENTRIES: usize = 65_537;

/// Entries once the smaller table would leave a member fewer than [`ENTRIES_PER_MEMBER_MIN`].
const ENTRIES_MANY: usize = 655_373;

/// Entries a member needs for its share to be worth the name.
const ENTRIES_PER_MEMBER_MIN: usize = 10;

/// What marks an entry that nobody has claimed.
const FREE: u16 = u16::MAX;

/// The entries, each with its member.
#[derive(Debug)]
pub struct Maglev(Box<[u16]>);

impl Maglev {
    /// Fills the table.
    pub fn build(members: &[Weighted]) -> Self {
        let mut members = normalise(members);
        // The order of claims decides ties, so it must not depend on the order of the list.
        members.sort_unstable_by_key(|member| member.identity);
        let heaviest = members
            .iter()
            .map(|member| member.weight)
            .max()
            .unwrap_or(0);
        if heaviest == 0 {
            return Self(Box::default());
        }
        let size = match members.len() * ENTRIES_PER_MEMBER_MIN {
            needed if needed <= ENTRIES => ENTRIES,
            _ => ENTRIES_MANY,
        };
        let mut claims: Vec<Claim> = members
            .iter()
            .map(|member| Claim::new(member, size))
            .collect();
        let mut entries = vec![FREE; size].into_boxed_slice();
        let mut free = size;
        while free > 0 {
            for claim in &mut claims {
                if free == 0 {
                    break;
                }
                if claim.is_due(heaviest) {
                    claim.take(&mut entries);
                    free -= 1;
                }
            }
        }
        Self(entries)
    }

    /// The usable member at or after the key's entry.
    pub fn find(&self, key: u64, is_usable: impl Fn(u16) -> bool) -> Option<u16> {
        let (before, after) = self.0.split_at_checked(reduce(key, self.0.len()))?;
        after
            .iter()
            .chain(before)
            .take(PROBES_MAX)
            .copied()
            .find(|member| is_usable(*member))
    }
}

/// A member on its way through its permutation.
struct Claim {
    member: u16,
    weight: u64,
    credit: u64,
    at: usize,
    step: usize,
}

impl Claim {
    fn new(member: &Weighted, size: usize) -> Self {
        Self {
            member: member.member,
            weight: u64::from(member.weight),
            credit: 0,
            at: reduce(hash_with(member.identity, 0), size),
            step: 1 + reduce(hash_with(member.identity, 1), size - 1),
        }
    }

    /// Whether this round gives the member an entry: the heaviest gets one every round.
    fn is_due(&mut self, heaviest: u32) -> bool {
        self.credit += self.weight;
        let is_due = self.credit >= u64::from(heaviest);
        if is_due {
            self.credit -= u64::from(heaviest);
        }
        is_due
    }

    /// Claims the next free entry. There is one, and the step visits every entry.
    fn take(&mut self, entries: &mut [u16]) {
        for _ in 0..entries.len() {
            let at = self.at;
            self.at = (at + self.step) % entries.len();
            if let Some(entry) = entries.get_mut(at)
                && *entry == FREE
            {
                *entry = self.member;
                return;
            }
        }
        debug_assert!(false, "no free entry left");
    }
}

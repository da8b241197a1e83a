//! Slots: each member as often as its weight says, spread as evenly as the weights allow. Read in
//! turn they are smooth weighted round robin; drawn from by lot they are a weighted draw in
//! constant time.
//!
//! Must not: outgrow [`SLOTS_MAX`] plus one slot a member, whatever weights are configured.

use std::cell::Cell;
use std::cmp::Ordering;

use super::{PROBES_MAX, Weighted, normalise, reduce};

/// Slots that the weights are scaled to fit into. A weight is then exact to one part in this many.
pub const SLOTS_MAX: u64 = 8192;

/// Members repeated by weight.
#[derive(Debug)]
pub struct Slots(Box<[u16]>);

impl Slots {
    /// Lays out the members.
    ///
    /// A member of weight `w` is due at `(k + phase) / w` for every `k` below `w`, with a phase of
    /// its own so that members of equal weight do not fall due together. Sorting by that time
    /// gives each its exact share and keeps its turns an equal time apart.
    pub fn build(members: &[Weighted]) -> Self {
        let members = fit(&normalise(members));
        let count = members.len() as u64;
        let mut turns: Vec<Turn> = Vec::new();
        for (position, member) in members.iter().enumerate() {
            let phase = 2 * position as u64 + 1;
            turns.extend((0..u64::from(member.weight)).map(|k| Turn {
                due: 2 * count * k + phase,
                weight: u64::from(member.weight),
                member: member.member,
            }));
        }
        turns.sort_by(Turn::by_time);
        Self(turns.into_iter().map(|turn| turn.member).collect())
    }

    /// The next usable member after the one that had its turn last.
    pub fn next(&self, turn: &Cell<u32>, is_usable: impl Fn(u16) -> bool) -> Option<u16> {
        let length = self.0.len();
        if length == 0 {
            return None;
        }
        let start = turn.get() as usize % length;
        let (member, steps) = self.probe(start, is_usable)?;
        turn.set(((start + steps + 1) % length) as u32);
        Some(member)
    }

    /// The first usable member from a slot drawn by lot.
    pub fn draw(&self, random: u64, is_usable: impl Fn(u16) -> bool) -> Option<u16> {
        let (member, _) = self.probe(reduce(random, self.0.len()), is_usable)?;
        Some(member)
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no member has any weight.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first usable member at or after a slot, and how far that was.
    fn probe(&self, start: usize, is_usable: impl Fn(u16) -> bool) -> Option<(u16, usize)> {
        let (before, after) = self.0.split_at_checked(start)?;
        after
            .iter()
            .chain(before)
            .take(PROBES_MAX)
            .enumerate()
            .find(|(_, member)| is_usable(**member))
            .map(|(steps, member)| (*member, steps))
    }
}

/// One turn of a member, due at `due / (2 * members * weight)` of the cycle.
struct Turn {
    due: u64,
    weight: u64,
    member: u16,
}

impl Turn {
    /// Compares two fractions without rounding. The products fit: a due time is below
    /// 2 · 2¹⁶ · 2¹⁴ and a weight below 2¹⁴.
    fn by_time(&self, other: &Self) -> Ordering {
        (self.due * other.weight)
            .cmp(&(other.due * self.weight))
            .then(self.member.cmp(&other.member))
    }
}

/// Scales weights down so that their sum fits, never to zero.
fn fit(members: &[Weighted]) -> Vec<Weighted> {
    let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    if total <= SLOTS_MAX {
        return members.to_vec();
    }
    let scaled: Vec<Weighted> = members
        .iter()
        .map(|member| {
            let weight = (u64::from(member.weight) * SLOTS_MAX + total / 2) / total;
            Weighted {
                weight: weight.max(1) as u32,
                ..*member
            }
        })
        .collect();
    normalise(&scaled)
}

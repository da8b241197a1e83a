//! The power of two choices: draw two members by weight, take the less busy one. Close to the
//! least loaded of all at the price of two reads, and no herd runs to a single idle endpoint.
//!
//! Must not: compare by weight twice. The draw already favours heavy members, so a tie goes to the
//! one drawn first, and an idle upstream is served in proportion to the weights.

use super::Members;
use super::hash::hash_with;
use super::slots::Slots;

/// Draws two different usable members and takes the one with fewer requests for its weight.
pub(super) fn choose(slots: &Slots, random: u64, members: &impl Members) -> Option<u16> {
    let first = slots.draw(random, |member| members.is_usable(member))?;
    let second = slots
        .draw(hash_with(random, 1), |member| {
            member != first && members.is_usable(member)
        })
        .unwrap_or(first);
    let load =
        |of: u16, against: u16| u64::from(members.active(of)) * u64::from(members.weight(against));
    Some(if load(second, first) < load(first, second) {
        second
    } else {
        first
    })
}

//! The ring: every member stands at many points of a circle, a key belongs to the next point. A
//! member that comes or goes takes or leaves only its own arcs.
//!
//! Must not: place a member by its position in the list, or by what else is on the ring; either
//! would move keys that have nothing to do with a change.

use super::hash::hash_with;
use super::{PROBES_MAX, Weighted, normalise};

/// Points for a weight of one (ketama's number): shares even to about eight per cent.
const POINTS_PER_WEIGHT: u64 = 160;

/// Points above which every member gets half as many, again and again until they fit: one
/// mebibyte a ring. Halving, and not a share of the limit, keeps most points where they were.
const POINTS_MAX: u64 = 128 * 1024;

/// Points sorted around the circle.
#[derive(Debug)]
pub struct Ring(Box<[Point]>);

#[derive(Debug, Clone, Copy)]
struct Point {
    at: u32,
    member: u16,
}

impl Ring {
    /// Places the members.
    pub fn build(members: &[Weighted]) -> Self {
        let members = normalise(members);
        let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
        let mut halvings = 0;
        while (total * POINTS_PER_WEIGHT) >> halvings > POINTS_MAX {
            halvings += 1;
        }
        let mut points: Vec<(u64, Point)> = Vec::new();
        for member in &members {
            let count = ((u64::from(member.weight) * POINTS_PER_WEIGHT) >> halvings).max(1);
            points.extend((0..count).map(|number| {
                let at = (hash_with(member.identity, number) >> 32) as u32;
                (
                    member.identity,
                    Point {
                        at,
                        member: member.member,
                    },
                )
            }));
        }
        points.sort_unstable_by_key(|(identity, point)| (point.at, *identity));
        Self(points.into_iter().map(|(_, point)| point).collect())
    }

    /// The usable member at or after the key's place.
    pub fn find(&self, key: u64, is_usable: impl Fn(u16) -> bool) -> Option<u16> {
        let place = (key >> 32) as u32;
        let start = self.0.partition_point(|point| point.at < place);
        let (before, after) = self.0.split_at_checked(start)?;
        after
            .iter()
            .chain(before)
            .take(PROBES_MAX)
            .map(|point| point.member)
            .find(|member| is_usable(*member))
    }
}

//! The buckets of a duration: fixed for the whole gateway, so that histograms of different routes
//! and upstreams can be added up, and laid out so that the bucket of a duration is found without a
//! search.
//!
//! Must not: cost a request more than a table look-up and a comparison.

use std::time::Duration;

/// Durations are summed in units of this many nanoseconds: fine enough for the shortest exchange,
/// and 64 bits of them last for a year of fifty thousand exchanges under way at once.
const UNIT_NS: u128 = 100;

/// Units of a second.
pub(super) const UNITS_PER_SECOND: f64 = 1e9 / UNIT_NS as f64;

/// The upper bounds, in seconds; beyond the last there is one more bucket. Each is at least twice
/// the one before, which [`FIRST`] relies on.
pub const BOUNDS_S: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// The buckets, the unbounded one included.
pub(super) const BUCKETS: usize = BOUNDS_S.len() + 1;

/// The bounds in units, and one that nothing exceeds.
const BOUNDS: [u64; BUCKETS] = {
    let mut bounds = [u64::MAX; BUCKETS];
    let mut at = 0;
    while at < BOUNDS_S.len() {
        bounds[at] = (BOUNDS_S[at] * UNITS_PER_SECOND + 0.5) as u64;
        at += 1;
    }
    bounds
};

/// For each number of leading zeros, the first bucket that a number with so many can fall in. As
/// bounds double at least, it falls there or in the next.
const FIRST: [u8; 65] = {
    let mut first = [0; 65];
    let mut zeros = 0;
    while zeros <= 64 {
        let least = if zeros == 64 { 0 } else { 1u64 << (63 - zeros) };
        let mut bucket = 0;
        while BOUNDS[bucket] < least {
            bucket += 1;
        }
        first[zeros] = bucket as u8;
        zeros += 1;
    }
    first
};

/// A duration in units, rounded.
pub(super) fn units(duration: Duration) -> u64 {
    let units = (duration.as_nanos() + UNIT_NS / 2) / UNIT_NS;
    u64::try_from(units).unwrap_or(u64::MAX)
}

/// The bucket of a duration in units: the first whose bound is not below it.
pub(super) fn bucket_of(units: u64) -> usize {
    let first = FIRST
        .get(units.leading_zeros() as usize)
        .map_or(BUCKETS - 1, |first| usize::from(*first));
    let bound = BOUNDS.get(first).copied().unwrap_or(u64::MAX);
    first + usize::from(units > bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_at_least() {
        for pair in BOUNDS.windows(2) {
            assert!(pair[1] / 2 >= pair[0], "{pair:?}");
        }
    }

    #[test]
    fn a_bucket_is_the_first_whose_bound_is_not_exceeded() {
        let check = |units: u64| {
            let expected = BOUNDS.iter().position(|bound| units <= *bound).unwrap();
            assert_eq!(bucket_of(units), expected, "{units}");
        };
        for bound in BOUNDS {
            for units in [bound.saturating_sub(1), bound, bound.saturating_add(1)] {
                check(units);
            }
        }
        for shift in 0..64 {
            for units in [
                1 << shift,
                (1 << shift) - 1,
                (1 << shift) + (1 << shift) / 3,
            ] {
                check(units);
            }
        }
    }

    #[test]
    fn durations_are_rounded_to_units() {
        let check = |nanoseconds: u64, expected: u64| {
            assert_eq!(units(Duration::from_nanos(nanoseconds)), expected);
        };
        check(0, 0);
        check(49, 0);
        check(50, 1);
        check(1_000_000_000, 10_000_000);
        assert_eq!(units(Duration::MAX), u64::MAX);
        assert_eq!(bucket_of(units(Duration::from_millis(1))), 1);
        assert_eq!(bucket_of(units(Duration::from_secs(61))), BUCKETS - 1);
    }
}

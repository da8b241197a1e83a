//! A histogram of durations: buckets whose bounds double, so that the bucket is the position of a
//! bit and no search.
//!
//! Must not: allocate or compare bounds while counting.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::worker::{add, read};

/// The first bound, microseconds, as a power of two: 512 µs. The last is 67 s.
const FIRST_BOUND_BITS: u32 = 9;

/// Buckets, the last of them without a bound.
pub(super) const BUCKETS: usize = 19;

/// Durations counted by one worker.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// Durations summed over workers.
#[derive(Debug, Default, Clone)]
pub(super) struct Sums {
    pub(super) buckets: [u64; BUCKETS],
    pub(super) sum_us: u64,
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // The number of bits above the first bound: 0..=512 µs is bucket 0, ..=1024 bucket 1.
        let above = u64::BITS - (micros.saturating_sub(1) >> FIRST_BOUND_BITS).leading_zeros();
        if let Some(bucket) = self.buckets.get((above as usize).min(BUCKETS - 1)) {
            add(bucket, 1);
        }
        add(&self.sum_us, micros);
    }

    pub(super) fn add_to(&self, sums: &mut Sums) {
        for (sum, bucket) in sums.buckets.iter_mut().zip(&self.buckets) {
            *sum += read(bucket);
        }
        sums.sum_us += read(&self.sum_us);
    }

    pub(super) fn clear(&self) {
        self.buckets
            .iter()
            .chain([&self.sum_us])
            .for_each(super::worker::zero);
    }
}

impl Sums {
    /// The upper bound of a bucket in seconds; the last has none.
    pub(super) fn bound_seconds(bucket: usize) -> f64 {
        (1_u64 << (FIRST_BOUND_BITS as usize + bucket)) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_under_its_bound() {
        let check = |micros: u64, expected: usize| {
            let histogram = Histogram::default();
            histogram.observe(Duration::from_micros(micros));
            let mut sums = Sums::default();
            histogram.add_to(&mut sums);
            let found = sums.buckets.iter().position(|&count| count == 1);
            assert_eq!(found, Some(expected), "{micros}");
            let bound = Sums::bound_seconds(expected) * 1e6;
            assert!(
                expected == BUCKETS - 1 || micros as f64 <= bound,
                "{micros} {bound}"
            );
        };
        check(0, 0);
        check(1, 0);
        check(512, 0);
        check(513, 1);
        check(1024, 1);
        check(1025, 2);
        check(1_000_000, 11);
        check(67_108_864, 17);
        check(67_108_865, 18);
        check(u64::MAX / 2, 18);
    }
}

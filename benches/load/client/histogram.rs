//! Latencies, kept as counts in buckets that are at most 1.6 % wide.
//!
//! The client records one per response; a report reads percentiles at the end. Memory is fixed,
//! so that a long run costs the client no more than a short one.

use std::time::Duration;

/// Each power of two is divided into this many buckets.
const DIVISIONS_BITS: u32 = 6;
const DIVISIONS: usize = 1 << DIVISIONS_BITS;
/// Nanoseconds up to 2^40 (18 minutes) are told apart; a response never takes longer.
const BUCKETS: usize = (41 - DIVISIONS_BITS as usize) * DIVISIONS;

/// Counts of durations by size.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos).min(BUCKETS - 1)] += 1;
        self.count += 1;
    }

    /// Adds another histogram's counts to this one.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// The smallest duration that `share` (0 to 1) of all do not exceed, in milliseconds.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return lower_bound(index) as f64 / 1e6;
            }
        }
        0.0
    }
}

fn bucket(nanos: u64) -> usize {
    let width_bits = nanos
        .checked_ilog2()
        .unwrap_or(0)
        .saturating_sub(DIVISIONS_BITS);
    // The top DIVISIONS_BITS + 1 bits of the value; the first of them is set beyond the first row.
    let top = usize::try_from(nanos >> width_bits).expect("at most seven bits");
    width_bits as usize * DIVISIONS + top
}

fn lower_bound(index: usize) -> u64 {
    if index < 2 * DIVISIONS {
        return index as u64;
    }
    let width_bits = index / DIVISIONS - 1;
    ((DIVISIONS + index % DIVISIONS) as u64) << width_bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut last = 0;
        for nanos in (0..200).chain((1..3000).map(|step| step * 7919 * step)) {
            let index = bucket(nanos);
            assert!(index >= last, "{nanos}");
            last = index;
            let low = lower_bound(index);
            assert!(
                low <= nanos && nanos - low <= nanos / 64,
                "{nanos} fell to {low}"
            );
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        let check = |share: f64, millis: f64| {
            let found = histogram.quantile_ms(share);
            assert!((found - millis).abs() <= millis / 50.0, "p{share}: {found}");
        };
        check(0.5, 0.5);
        check(0.99, 0.99);
        check(1.0, 1.0);
    }
}

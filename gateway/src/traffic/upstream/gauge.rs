//! Counting what is under way: requests, connections. A gauge is a few cells, each on a cache line
//! of its own. Workers count in different cells, so that counting costs none of them a line that
//! another one holds; where a number must be exact while it is taken (a cap, the load of an
//! endpoint), everybody counts in the first.
//!
//! Must not: order anything else. The counts are relaxed; nothing may be inferred from them about
//! other memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Cells above which more would cost a reader more than they spare the workers.
const LANES_MAX: usize = 8;

/// The cell that a count goes to; what entered by a lane leaves by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane(usize);

impl Lane {
    /// The cell that all share.
    pub const SHARED: Self = Self(0);

    /// The cell of a worker.
    pub fn of_worker(index: usize) -> Self {
        Self(index % lanes())
    }
}

/// Cells of each gauge: enough for the cores, a power of two.
fn lanes() -> usize {
    static LANES: OnceLock<usize> = OnceLock::new();
    *LANES.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        cores.next_power_of_two().min(LANES_MAX)
    })
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell(AtomicU32);

/// How many of something are under way.
#[derive(Debug)]
pub struct Gauge(Box<[Cell]>);

impl Default for Gauge {
    fn default() -> Self {
        Self((0..lanes()).map(|_| Cell::default()).collect())
    }
}

impl Gauge {
    /// The number under way, over all lanes. Each lane may be momentarily out of date.
    pub fn value(&self) -> u32 {
        self.0.iter().fold(0, |sum, cell| {
            sum.wrapping_add(cell.0.load(Ordering::Relaxed))
        })
    }

    /// Counts one more.
    pub fn enter(&self, lane: Lane) {
        if let Some(cell) = self.0.get(lane.0) {
            cell.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one more in the shared lane, unless there are `max` already. What other lanes still
    /// hold, from a time without a cap, counts too. A refusal writes nothing, so that being
    /// overloaded does not itself become a load.
    pub fn try_enter(&self, max: u32) -> Option<Lane> {
        let (shared, others) = self.0.split_first()?;
        let held = others.iter().fold(0u32, |sum, cell| {
            sum.wrapping_add(cell.0.load(Ordering::Relaxed))
        });
        shared
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count.wrapping_add(held) < max).then(|| count.wrapping_add(1))
            })
            .ok()
            .map(|_| Lane::SHARED)
    }

    /// Counts one less.
    pub fn leave(&self, lane: Lane) {
        if let Some(cell) = self.0.get(lane.0) {
            cell.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_the_sum_of_its_lanes() {
        let gauge = Gauge::default();
        for worker in 0..20 {
            gauge.enter(Lane::of_worker(worker));
        }
        gauge.leave(Lane::of_worker(3));
        assert_eq!(gauge.value(), 19);
    }

    #[test]
    fn a_cap_counts_what_entered_without_one() {
        let gauge = Gauge::default();
        gauge.enter(Lane::of_worker(1));
        assert!(gauge.try_enter(2).is_some());
        assert_eq!(gauge.try_enter(2), None);
        gauge.leave(Lane::of_worker(1));
        assert!(gauge.try_enter(2).is_some());
    }

    #[test]
    fn a_cap_holds_among_threads() {
        const CAP: u32 = 7;
        let gauge = Gauge::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Some(lane) = gauge.try_enter(CAP) {
                            assert!(gauge.value() <= CAP);
                            gauge.leave(lane);
                        }
                    }
                });
            }
        });
        assert_eq!(gauge.value(), 0);
    }
}

//! Budgets for what costs its sender nothing: each such thing takes from one, time and useful work
//! fill it up again.
//!
//! Must not: punish use. A peer that asks for things and takes what it asked for never gets here.

use crate::Limits;

/// How much of something a peer may still do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    max: u32,
    /// What is left, in thousandths.
    left: u64,
    filled_at_ms: u64,
}

impl Budget {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            max,
            left: u64::from(max) * 1000,
            filled_at_ms: 0,
        }
    }

    /// Takes one; false when nothing is left.
    pub(crate) fn take(&mut self, now_ms: u64) -> bool {
        self.fill(now_ms);
        match self.left.checked_sub(1000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Whether less than half of it is left.
    pub(crate) fn is_low(&mut self, now_ms: u64) -> bool {
        self.fill(now_ms);
        self.left < u64::from(self.max) * 500
    }

    /// Gives one back.
    pub(crate) fn give(&mut self) {
        self.left = (self.left + 1000).min(u64::from(self.max) * 1000);
    }

    fn fill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.filled_at_ms);
        let gained = passed * u64::from(self.max) * 1000 / Limits::BUDGET_PERIOD_MS;
        // A moment too short to gain anything is not forgotten.
        if gained > 0 {
            self.filled_at_ms = now_ms;
            self.left = (self.left + gained).min(u64::from(self.max) * 1000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_low_until_time_has_filled_half_of_it() {
        let mut budget = Budget::new(4);
        assert!((0..2).all(|_| budget.take(0)));
        assert!(!budget.is_low(0));
        assert!(budget.take(0) && budget.is_low(0));
        assert!(!budget.is_low(Limits::BUDGET_PERIOD_MS / 2));
        assert!(!Budget::new(0).is_low(0), "nothing is not half of nothing");
    }

    #[test]
    fn a_budget_is_used_up_and_fills_with_time_and_work() {
        let mut budget = Budget::new(3);
        assert!((0..3).all(|_| budget.take(0)));
        assert!(!budget.take(0));
        budget.give();
        assert!(budget.take(0) && !budget.take(0));
        assert!(budget.take(Limits::BUDGET_PERIOD_MS / 3 + 1));
        assert!(!budget.take(Limits::BUDGET_PERIOD_MS / 3 + 2));
        let later = 100 * Limits::BUDGET_PERIOD_MS;
        assert_eq!((0..9).filter(|_| budget.take(later)).count(), 3);
    }
}

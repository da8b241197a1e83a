//! Choosing one of several by weight.
//!
//! Must not: ever choose a weight of zero.

/// Weights, summed up beforehand.
#[derive(Debug, Clone, Default)]
pub struct WeightedChoice {
    /// The sums of the weights up to and including each choice.
    sums: Box<[u64]>,
}

impl WeightedChoice {
    /// From the weights, in order.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let sums = weights.into_iter().scan(0, |sum, weight| {
            *sum += u64::from(weight);
            Some(*sum)
        });
        Self {
            sums: sums.collect(),
        }
    }

    /// The choice that a random number makes.
    pub fn choose(&self, random: u64) -> Option<usize> {
        let total = *self.sums.last()?;
        if self.sums.len() == 1 {
            return (total > 0).then_some(0);
        }
        // Multiplying instead of dividing keeps the choice even (Lemire 2019).
        let point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
        (total > 0).then(|| self.sums.partition_point(|&sum| sum <= point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_follow_the_weights() {
        let choice = WeightedChoice::new([0, 1, 3, 0]);
        let mut counts = [0; 4];
        for step in 0..4000_u64 {
            counts[choice.choose(step.wrapping_mul(u64::MAX / 4000)).unwrap()] += 1;
        }
        assert_eq!((counts[0], counts[3]), (0, 0));
        assert!((990..=1010).contains(&counts[1]), "{counts:?}");
        assert_eq!(choice.choose(u64::MAX), Some(2));
        assert_eq!(WeightedChoice::new([0]).choose(1), None);
        assert_eq!(WeightedChoice::new([]).choose(1), None);
    }
}

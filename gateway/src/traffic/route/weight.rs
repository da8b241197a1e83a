//! Choosing one of a route's backends by weight.
//!
//! Must not: ever choose a weight of zero.

/// Weights, summed up beforehand. A choice takes a multiplication and a short search.
#[derive(Debug, Clone, Default)]
pub enum WeightedChoice {
    /// Nothing to choose from.
    #[default]
    None,
    /// The only choice.
    Only,
    /// The sums of the weights up to and including each choice.
    Sums(Box<[u64]>),
}

impl WeightedChoice {
    /// From the weights, in order.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let sums = weights.into_iter().scan(0, |sum, weight| {
            *sum += u64::from(weight);
            Some(*sum)
        });
        let sums: Box<[u64]> = sums.collect();
        match *sums {
            [] | [.., 0] => Self::None,
            [_] => Self::Only,
            _ => Self::Sums(sums),
        }
    }

    /// The choice that a random number makes; none if no choice has any weight.
    #[inline]
    pub fn choose(&self, random: u64) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Only => Some(0),
            Self::Sums(sums) => {
                let total = *sums.last()?;
                // Multiplying instead of dividing keeps the choice even (Lemire 2019). The point is
                // below the total, and the first sum beyond it belongs to a choice with a weight.
                let point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
                Some(sums.partition_point(|&sum| sum <= point))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn choices_follow_the_weights() {
        let check = |weights: &[u32], expected: &[u32]| {
            let choice = WeightedChoice::new(weights.iter().copied());
            let mut counts = vec![0; weights.len()];
            for step in 0..1000u64 {
                let random = step * (u64::MAX / 1000) + u64::MAX / 2000;
                if let Some(at) = choice.choose(random) {
                    counts[at] += 1;
                }
            }
            assert_eq!(counts, expected, "{weights:?}");
        };
        check(&[], &[]);
        check(&[0], &[0]);
        check(&[7], &[1000]);
        check(&[0, 0], &[0, 0]);
        check(&[0, 1, 3, 0], &[0, 250, 750, 0]);
        check(&[9, 1], &[900, 100]);
        check(&[u32::MAX, u32::MAX], &[500, 500]);
        check(&[0, 5, 0, 0, 5], &[0, 500, 0, 0, 500]);
    }

    #[test]
    fn the_ends_of_the_range_choose_weights() {
        let choice = WeightedChoice::new([0, 1, 3, 0]);
        assert_eq!(choice.choose(0), Some(1));
        assert_eq!(choice.choose(u64::MAX), Some(2));
    }

    proptest! {
        #[test]
        fn what_is_chosen_has_a_weight(weights in prop::collection::vec(prop_oneof![Just(0), any::<u32>()], 0..9), random: u64) {
            let choice = WeightedChoice::new(weights.iter().copied());
            match choice.choose(random) {
                Some(at) => prop_assert!(weights[at] > 0),
                None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
            }
        }
    }
}

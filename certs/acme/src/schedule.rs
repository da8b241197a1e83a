//! When a certificate is renewed, and when something that failed is tried again. Nothing but
//! arithmetic.
//!
//! Must not: ask what time it is, or let many certificates come due at one moment.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;

/// The first wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(60);

/// The longest wait after many.
const RETRY_LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The part of a waiting time by which it is shortened or lengthened, so that what failed together
/// does not come back together.
const JITTER: f64 = 0.2;

/// The part of a certificate's life over which renewals are spread.
const SPREAD: f64 = 0.05;

/// When a certificate is to be renewed if nobody says otherwise: with a part of its life left, a
/// little earlier for some than for others.
pub(crate) fn renew_at(
    not_before: SystemTime,
    not_after: SystemTime,
    percent_left: u8,
    name: &str,
) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let left = f64::from(percent_left.clamp(1, 99)) / 100.0 + SPREAD * share(name);
    not_after - life.mul_f64(left.min(1.0))
}

/// When it is renewed at the latest, whatever anybody says: with half of that part left. What fails
/// then can still be tried again for a while.
pub(crate) fn renew_latest_at(
    not_before: SystemTime,
    not_after: SystemTime,
    percent_left: u8,
    name: &str,
) -> SystemTime {
    renew_at(not_before, not_after, percent_left / 2, name)
}

/// The moment in a window that the authority suggests (RFC 9773 section 4.2): the same each time it
/// is asked for, another for each certificate.
pub(crate) fn within(start: SystemTime, end: SystemTime, name: &str) -> SystemTime {
    let length = end.duration_since(start).unwrap_or_default();
    start + length.mul_f64(share(name))
}

/// How long to wait after so many failures in a row.
pub(crate) fn retry_after(failures: u32, name: &str) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let wait = doubled.min(RETRY_LONGEST);
    let jitter = 1.0 - JITTER + 2.0 * JITTER * share(&format!("{name} {failures}"));
    wait.mul_f64(jitter)
}

/// A number from zero to one that belongs to a name.
fn share(name: &str) -> f64 {
    let hash = digest::digest(&digest::SHA256, name.as_bytes());
    let bytes = hash.as_ref().first_chunk().copied().unwrap_or_default();
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn at(days: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * (20_000 + days)
    }

    #[test]
    fn renews_with_a_third_of_the_life_left_whatever_its_length() {
        for life in [6, 45, 90] {
            let moments: Vec<SystemTime> = (0..200)
                .map(|number| renew_at(at(0), at(life), 33, &format!("c{number}")))
                .collect();
            let earliest = at(0) + (DAY * life).mul_f64(0.61);
            let latest = at(0) + (DAY * life).mul_f64(0.68);
            assert!(moments.iter().all(|it| (earliest..latest).contains(it)));
            let mut apart = moments.clone();
            apart.sort_unstable();
            apart.dedup();
            assert!(apart.len() > 190, "{life}: {}", apart.len());
        }
    }

    #[test]
    fn renews_long_before_the_end_at_the_latest() {
        let check = |percent_left: u8, expected: std::ops::Range<f64>| {
            let latest = renew_latest_at(at(0), at(100), percent_left, "a");
            let left = at(100).duration_since(latest).unwrap().as_secs_f64();
            let left = left / (DAY * 100).as_secs_f64();
            assert!(expected.contains(&left), "{percent_left}: {left}");
        };
        check(33, 0.16..0.22);
        check(80, 0.40..0.46);
        check(1, 0.009..0.07);
    }

    #[test]
    fn a_window_is_used_all_over() {
        let moments: Vec<SystemTime> = (0..200)
            .map(|number| within(at(1), at(3), &format!("c{number}")))
            .collect();
        assert!(moments.iter().all(|it| (at(1)..=at(3)).contains(it)));
        assert!(moments.iter().any(|it| *it < at(2)) && moments.iter().any(|it| *it > at(2)));
        assert_eq!(within(at(1), at(3), "a"), within(at(1), at(3), "a"));
        // A window that is over, or none at all.
        assert_eq!(within(at(3), at(1), "a"), at(3));
    }

    #[test]
    fn waits_longer_after_each_failure_up_to_a_day() {
        let waits: Vec<Duration> = (1..40).map(|failures| retry_after(failures, "a")).collect();
        assert!((48..=72).contains(&waits[0].as_secs()), "{:?}", waits[0]);
        assert!(
            waits.windows(2).take(9).all(|pair| pair[0] < pair[1]),
            "{waits:?}"
        );
        let most = RETRY_LONGEST.mul_f64(1.0 + JITTER);
        assert!(waits.iter().all(|wait| *wait <= most));
        assert_ne!(retry_after(3, "a"), retry_after(3, "b"));
    }
}

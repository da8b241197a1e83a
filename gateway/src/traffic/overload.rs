//! What a worker does when it gets more than it can do. Everything that is ready waits in one queue
//! for the worker; without a limit it grows until clients give up on requests that are then worked on
//! for nothing. A worker that is behind refuses a share of the new requests instead, which costs a
//! fraction of serving them: what it admits is answered in time.
//!
//! Must not: take a pause for a load. A worker that was held up once (by another process, by the
//! machine it runs on) catches up by itself; only a wait that does not end is an overload.

use std::cell::Cell;
use std::time::Duration;

/// Ticks in a row that have to be late before anything is refused.
const LATE_TICKS: usize = 3;

/// How far a worker is behind.
#[derive(Debug, Default)]
pub struct Backlog {
    /// How late the last ticks were, the latest first, in microseconds.
    late: Cell<[u32; LATE_TICKS]>,
    is_behind: Cell<bool>,
}

impl Backlog {
    /// Takes note of how late a tick was: as long as anything that is ready waits for the worker.
    pub fn tick(&self, late: Duration, delay_max: Option<Duration>) {
        let [last, before, _] = self.late.get();
        let late = [micros(late), last, before];
        self.late.set(late);
        let bound = delay_max.map_or(u32::MAX, |delay| micros(delay / 2));
        let is_over = |late: &u32| *late > bound;
        if late.iter().all(is_over) {
            self.is_behind.set(true);
        } else if !late.iter().any(is_over) {
            self.is_behind.set(false);
        }
    }

    /// How late the last tick was.
    pub fn delay(&self) -> Duration {
        let [last, ..] = self.late.get();
        Duration::from_micros(u64::from(last))
    }

    /// Whether requests may be refused at all.
    pub fn is_behind(&self) -> bool {
        self.is_behind.get()
    }

    /// Whether a request is refused. The share grows from none, at half of the longest delay, to
    /// all, at one and a half: a worker that refuses more than it has to would be idle for a moment,
    /// one that refuses less would fall behind further.
    pub fn refuses(&self, delay_max: Option<Duration>, random: u64) -> bool {
        if !self.is_behind() {
            return false;
        }
        let Some(delay_max) = delay_max.map(micros) else {
            return false;
        };
        let [last, ..] = self.late.get();
        let beyond = last.saturating_sub(delay_max / 2);
        (random % u64::from(delay_max.max(1))) < u64::from(beyond)
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Option<Duration> = Some(Duration::from_millis(20));

    fn share(backlog: &Backlog) -> u64 {
        (0..20_000)
            .filter(|random| backlog.refuses(MAX, *random))
            .count() as u64
            / 200
    }

    fn ticks(backlog: &Backlog, late: &[u64]) {
        for late in late {
            backlog.tick(Duration::from_millis(*late), MAX);
        }
    }

    #[test]
    fn a_pause_is_no_overload() {
        let backlog = Backlog::default();
        ticks(&backlog, &[0, 500, 0]);
        assert_eq!(share(&backlog), 0);
        ticks(&backlog, &[100, 100, 0]);
        assert_eq!(share(&backlog), 0);
    }

    #[test]
    fn the_share_follows_the_delay() {
        let backlog = Backlog::default();
        ticks(&backlog, &[11, 15, 20]);
        assert_eq!(share(&backlog), 50);
        ticks(&backlog, &[25]);
        assert_eq!(share(&backlog), 75);
        ticks(&backlog, &[40]);
        assert_eq!(share(&backlog), 100);
        ticks(&backlog, &[5]);
        assert_eq!(share(&backlog), 0, "it has caught up");
        ticks(&backlog, &[12]);
        assert_eq!(share(&backlog), 10, "but the load is still there");
        ticks(&backlog, &[5, 5, 5, 12]);
        assert_eq!(share(&backlog), 0, "now it was gone");
    }

    #[test]
    fn nothing_is_refused_where_everybody_is_to_wait() {
        let backlog = Backlog::default();
        for _ in 0..5 {
            backlog.tick(Duration::from_secs(1), None);
        }
        assert!(!backlog.refuses(None, 0));
        assert_eq!(backlog.delay(), Duration::from_secs(1));
    }
}

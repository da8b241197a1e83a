//! What a worker does when it gets more than it can do. Everything that is ready waits in one queue
//! for the worker; without a limit it grows until clients give up on requests that are then worked on
//! for nothing. A worker that is behind refuses a share of the new requests instead, which costs a
//! fraction of serving them: what it admits is answered in time.
//!
//! That helps only against clients that ask whether they are answered or not. Those that wait for each
//! answer, and ask again at once when refused, ask the more the more of them are refused. It shows:
//! the worker has its hands full with refusing. Then nothing is refused for a while, and everybody waits
//! for a turn.
//!
//! Must not: take a pause for a load. A worker that was held up once (by another process, by the
//! machine it runs on) catches up by itself; only a wait that does not end is an overload.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How much of the share follows from how far the delay is from what it may be, at each tick.
const STEP: f64 = 0.05;

/// How much of it follows from a delay that grows or shrinks, as a part of the time that passes.
const TREND: f64 = 0.3;

/// How much more than what comes beyond what can be done is refused at first, to get rid of what waits
/// already, for each longest delay of it.
const FIRST: f64 = 0.1;

/// The most by which one tick changes the share.
const CHANGE_MAX: f64 = 0.25;

/// The largest share: somebody always finds out whether the load is gone.
const SHARE_MAX: f64 = 0.97;

/// How long refusing is watched before it is judged, and judged again.
const TRIAL: Duration = Duration::from_millis(500);

/// The part of a worker's time that may be spent on refusing.
const SPENT_MAX: f64 = 0.25;

/// Ticks without delay after which an overload is over: clients that ask again at once make it come and
/// go, and are to be judged by all of it.
const CALM_TICKS: u32 = 50;

/// How long nothing is refused after it did no good; twice as long each time in a row.
const PAUSE_MIN: Duration = Duration::from_secs(10);

/// How long at most.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// The share that is everything.
const SHARE_ALL: u64 = 1 << 32;

/// How far a worker is behind, and what comes of it.
#[derive(Debug, Default)]
pub struct Backlog {
    /// The last two ticks, the latest first.
    ticks: Cell<[Tick; 2]>,
    is_behind: Cell<bool>,
    /// The share that is refused, of 2^32.
    share: Cell<u64>,
    /// The time spent on refusing.
    spent: Cell<Duration>,
    trial: Cell<Option<Trial>>,
    /// Ticks in a row in which nothing was refused or late.
    calm: Cell<u32>,
    left_alone_until: Cell<Option<Instant>>,
    pause: Cell<Duration>,
}

/// One tick.
#[derive(Debug, Clone, Copy, Default)]
struct Tick {
    /// How late it was.
    late: Duration,
    /// When it came; none before the first.
    came: Option<Instant>,
}

impl Tick {
    /// How much the delay grew since another tick, as a part of the time between what they waited for.
    fn trend_since(&self, before: &Self) -> Option<f64> {
        let due = self.came?.duration_since(before.came?) + before.late;
        let apart = due.saturating_sub(self.late).as_secs_f64();
        let grown = self.late.as_secs_f64() - before.late.as_secs_f64();
        (apart > 0.0).then_some(grown / apart)
    }
}

/// What there is to judge refusing by.
#[derive(Debug, Clone, Copy)]
struct Trial {
    since: Instant,
    /// The time that had been spent on refusing then.
    spent: Duration,
}

/// What a tick changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Requests are refused from now on.
    Refusing,
    /// The worker has caught up.
    CaughtUp,
    /// Refusing did no good; nothing is refused for so long.
    Useless(Duration),
}

impl Backlog {
    /// Takes note of a tick at `now` that was so late: as long as anything that is ready waits for the
    /// worker.
    pub fn tick(
        &self,
        now: Instant,
        late: Duration,
        delay_max: Option<Duration>,
    ) -> Option<Change> {
        let [before, _] = self.ticks.get();
        let tick = Tick {
            late,
            came: Some(now),
        };
        self.ticks.set([tick, before]);
        let delay_max = delay_max.unwrap_or(Duration::MAX);
        self.is_behind.set(late > delay_max / 2);
        let Some(trial) = self.trial.get() else {
            // What one pause left behind becomes less by itself.
            let is_late = before.late > delay_max && late > before.late;
            return is_late.then(|| self.begin(tick, before, delay_max))?;
        };
        self.adjust(tick, before, delay_max);
        let is_calm = self.share.get() == 0 && late < delay_max / 2;
        self.calm.set(if is_calm { self.calm.get() + 1 } else { 0 });
        if self.calm.get() >= CALM_TICKS {
            self.trial.set(None);
            self.pause.set(Duration::ZERO);
            return Some(Change::CaughtUp);
        }
        self.judge(now, trial)
    }

    /// Begins with the share that what comes is beyond what can be done.
    fn begin(&self, tick: Tick, before: Tick, delay_max: Duration) -> Option<Change> {
        let now = tick.came?;
        if self.left_alone_until.get().is_some_and(|until| now < until) {
            return None;
        }
        let load = 1.0 + tick.trend_since(&before)?;
        let waits = tick.late.div_duration_f64(delay_max);
        self.set_share(1.0 - 1.0 / load + FIRST * (waits - 1.0));
        self.trial.set(Some(Trial {
            since: now,
            spent: self.spent.get(),
        }));
        Some(Change::Refusing)
    }

    /// Moves the share as PIE does (RFC 8033): by how far the delay is from what it may be, and by
    /// where it is going. A worker that refuses more than it has to would be idle for a moment, one
    /// that refuses less falls behind further. When the load is gone, so is the share, at once.
    fn adjust(&self, tick: Tick, before: Tick, delay_max: Duration) {
        let share = self.share.get() as f64 / SHARE_ALL as f64;
        let waits = tick.late.div_duration_f64(delay_max);
        let trend = tick.trend_since(&before).unwrap_or(0.0);
        let change = STEP * (waits - 1.0) + TREND * trend;
        self.set_share(match waits < 0.25 {
            true if share < 0.05 => 0.0,
            true => share / 2.0,
            false => share + change.clamp(-CHANGE_MAX, CHANGE_MAX),
        });
    }

    fn set_share(&self, share: f64) {
        let share = share.clamp(0.0, SHARE_MAX) * SHARE_ALL as f64;
        self.share.set(share as u64);
    }

    fn judge(&self, now: Instant, trial: Trial) -> Option<Change> {
        let time = now.duration_since(trial.since);
        if time < TRIAL {
            return None;
        }
        let spent = self.spent.get().saturating_sub(trial.spent);
        if spent.div_duration_f64(time) > SPENT_MAX {
            let pause = (self.pause.get() * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            self.pause.set(pause);
            self.left_alone_until.set(Some(now + pause));
            self.trial.set(None);
            self.share.set(0);
            return Some(Change::Useless(pause));
        }
        self.trial.set(Some(Trial {
            since: now,
            spent: self.spent.get(),
        }));
        None
    }

    /// How late the last tick was.
    pub fn delay(&self) -> Duration {
        let [last, _] = self.ticks.get();
        last.late
    }

    /// Whether the worker is behind, so that how long something took tells more of it than of anybody
    /// else.
    pub fn is_behind(&self) -> bool {
        self.is_behind.get()
    }

    /// Whether requests may be refused at all.
    pub fn is_refusing(&self) -> bool {
        self.trial.get().is_some()
    }

    /// Whether this request is refused.
    pub fn refuses(&self, random: u64) -> bool {
        random % SHARE_ALL < self.share.get()
    }

    /// Takes note of the time that a refusal took.
    pub fn spend(&self, time: Duration) {
        self.spent.set(self.spent.get() + time);
    }
}

#[cfg(test)]
mod tests;

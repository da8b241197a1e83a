//! The adaptive limit of an upstream: how many of a worker's requests may wait for its answer. An
//! upstream that gets more than it can do makes everybody wait, and the more, the longer it goes on;
//! so does a worker that begins more than it can go on with. Past the limit a request waits for its turn
//! here, where that costs next to nothing, and is refused when its turn does not come in time.
//!
//! Nobody sets the limit. While even the fastest answers of a while take far longer than they used
//! to, there is a queue at the upstream that never empties, and the limit shrinks towards what keeps
//! the upstream just busy; when they are fast again, it grows until nothing needs it. The fastest,
//! because slow kinds of requests beside quick ones are no queue.
//!
//! A limit can be wrong: where requests wait for something to happen (long polling), slow answers are
//! no sign of work. It shows: an upstream that was busy finishes as much under the limit as before,
//! one that was waiting finishes less. Then the limit is lifted and not tried again for a while.
//!
//! Must not: read the clock, or be shared between workers: each finds its own limit.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::breaker::Saturated;
use super::local::LocalUpstream;

/// Answers that a window needs before it tells anything.
const WINDOW_ANSWERS_MIN: u32 = 32;

/// How long a window lasts at least.
const WINDOW_MIN: Duration = Duration::from_millis(25);

/// How long the fastest answers have to be slow before there is a limit: a burst is gone by then.
const SLOW_MIN: Duration = Duration::from_millis(75);

/// How many times as long as they used to take the fastest answers may take, besides
/// [`AdaptiveSettings::delay_max`].
const SLOWER_MAX: u32 = 2;

/// The answers that a trial would see if the limit did no harm.
const TRIAL_ANSWERS: f64 = 256.0;

/// How many times as long as an answer takes a trial lasts at least.
const TRIAL_ROUNDS: u32 = 2;

/// How long an upstream is left alone whose limit did harm.
const LEFT_ALONE: Duration = Duration::from_secs(600);

/// No limit.
const UNLIMITED: u32 = u32::MAX;

/// How an upstream is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveSettings {
    /// Requests of one worker that may always wait.
    pub waiting_min: u32,
    /// How much longer than twice their usual time the fastest answers may take.
    pub delay_max: Duration,
    /// How long a request may wait for its turn.
    pub queue_time_max: Duration,
    /// How many may wait for their turn.
    pub queue_max: usize,
}

/// What a change of the limit means to whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Requests wait for their turn from now on.
    Limited {
        /// How long the fastest answers of the last while took.
        fastest: Duration,
        /// How long they usually take.
        usual: Duration,
    },
    /// The limit was no longer needed.
    Lifted,
    /// The limit did harm: fewer requests were answered under it.
    Useless,
}

/// The limit of one worker for one upstream.
#[derive(Debug)]
pub struct Adaptive {
    settings: AdaptiveSettings,
    waiting: Cell<u32>,
    limit: Cell<u32>,
    state: RefCell<State>,
    queue: RefCell<VecDeque<Rc<Place>>>,
}

/// A place in the queue.
#[derive(Debug)]
struct Place {
    since: Instant,
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
}

/// What became of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is not its turn yet.
    Wait,
    /// It is its turn, and counted as waiting for its answer.
    Turn,
    /// Its turn did not come in time.
    Dismissed,
    /// Nobody wants it any more.
    Given,
}

#[derive(Debug, Default)]
struct State {
    window: Window,
    /// How long the fastest answers usually take; none before the first window.
    usual: Option<Duration>,
    /// The windows in which even the fastest answers were slow, up to now.
    slow: Option<Span>,
    phase: Phase,
    /// Until when there is no limit, because one did harm.
    left_alone_until: Option<Instant>,
}

/// What was seen since some moment.
#[derive(Debug, Default)]
struct Window {
    started: Option<Instant>,
    answers: u32,
    fastest: Option<Duration>,
    waiting_most: u32,
    /// Requests that had to wait for their turn.
    held: u32,
}

/// A window that is over.
struct Seen {
    started: Instant,
    ended: Instant,
    answers: u32,
    fastest: Duration,
    waiting_most: u32,
    held: u32,
}

/// Windows in a row.
#[derive(Debug, Clone, Copy)]
struct Span {
    answers: u32,
    time: Duration,
}

impl Span {
    fn and(before: Option<Self>, seen: &Seen) -> Self {
        let before = before.unwrap_or(Self {
            answers: 0,
            time: Duration::ZERO,
        });
        Self {
            answers: before.answers + seen.answers,
            time: before.time + seen.ended.duration_since(seen.started),
        }
    }

    /// Answers in a second.
    fn rate(&self) -> f64 {
        f64::from(self.answers) / self.time.as_secs_f64()
    }
}

/// Where a limit is in its life.
#[derive(Debug, Default)]
enum Phase {
    /// There is none.
    #[default]
    Free,
    /// It stands still, at half of what waited before, until it is seen what it does.
    Trial {
        /// Requests that waited before it.
        waiting: u32,
        /// Answers in a second before it.
        rate: f64,
        /// How long the fastest answers took then.
        fastest: Duration,
        /// When those that waited before it are gone.
        settled: Instant,
        /// What was seen since.
        since: Option<Span>,
    },
    /// It follows what the upstream can do.
    Following {
        /// Requests that waited before it.
        waiting: u32,
        /// When the last step has taken hold.
        settled: Instant,
    },
}

impl Adaptive {
    /// No limit yet.
    pub fn new(settings: AdaptiveSettings) -> Self {
        Self {
            settings,
            waiting: Cell::new(0),
            limit: Cell::new(UNLIMITED),
            state: RefCell::default(),
            queue: RefCell::default(),
        }
    }

    /// What was learnt goes on under other settings, for a reload is no reason to let a flood in.
    pub(super) fn succeed(self, before: &Self) -> Self {
        self.limit.set(before.limit.get());
        self.state.swap(&before.state);
        self
    }

    /// The limit, if there is one.
    pub fn limit(&self) -> Option<u32> {
        Some(self.limit.get()).filter(|limit| *limit != UNLIMITED)
    }

    /// Has one more wait for its answer, if it may, and if nobody was there before it.
    fn try_enter(&self) -> bool {
        let may = self.waiting.get() < self.limit.get() && self.queue.borrow().is_empty();
        if may {
            self.enter();
        }
        may
    }

    /// Takes the last place in the queue.
    fn line_up(&self, now: Instant) -> Result<Rc<Place>, Saturated> {
        self.state.borrow_mut().window.held += 1;
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= self.settings.queue_max {
            return Err(Saturated);
        }
        let place = Rc::new(Place {
            since: now,
            verdict: Cell::new(Verdict::Wait),
            waker: RefCell::default(),
        });
        queue.push_back(Rc::clone(&place));
        Ok(place)
    }

    fn enter(&self) {
        let waiting = self.waiting.get() + 1;
        self.waiting.set(waiting);
        let mut state = self.state.borrow_mut();
        state.window.waiting_most = state.window.waiting_most.max(waiting);
    }

    fn leave(&self) {
        self.waiting.set(self.waiting.get().saturating_sub(1));
        self.call();
    }

    /// Calls those whose turn it is.
    fn call(&self) {
        while self.waiting.get() < self.limit.get() {
            let Some(place) = self.queue.borrow_mut().pop_front() else {
                return;
            };
            if place.decide(Verdict::Turn) {
                self.enter();
            }
        }
    }

    /// Dismisses those whose turn did not come in time; whether anybody is left.
    pub(super) fn dismiss(&self, now: Instant) -> bool {
        let time_max = self.settings.queue_time_max;
        loop {
            let mut queue = self.queue.borrow_mut();
            let is_late = |place: &Rc<Place>| now.duration_since(place.since) >= time_max;
            if !queue.front().is_some_and(is_late) {
                return !queue.is_empty();
            }
            let late = queue.pop_front();
            drop(queue);
            late.into_iter().for_each(|place| {
                place.decide(Verdict::Dismissed);
            });
        }
    }

    /// Requests that wait for their turn.
    pub fn queued(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Takes note of an answer that took so long and came at `now`.
    pub fn answered(&self, took: Duration, now: Instant) -> Option<Change> {
        let change = self.note(took, now);
        self.dismiss(now);
        self.call();
        change
    }

    fn note(&self, took: Duration, now: Instant) -> Option<Change> {
        let mut state = self.state.borrow_mut();
        let window = &mut state.window;
        let started = *window.started.get_or_insert(now);
        let fastest = window.fastest.map_or(took, |fastest| fastest.min(took));
        window.fastest = Some(fastest);
        window.answers += 1;
        if window.answers < WINDOW_ANSWERS_MIN || now.duration_since(started) < WINDOW_MIN {
            return None;
        }
        let seen = Seen {
            started,
            ended: now,
            answers: window.answers,
            fastest,
            waiting_most: window.waiting_most,
            held: window.held,
        };
        *window = Window {
            started: Some(now),
            waiting_most: self.waiting.get(),
            ..Window::default()
        };
        self.judge(&mut state, &seen)
    }

    fn judge(&self, state: &mut State, seen: &Seen) -> Option<Change> {
        let usual = *state.usual.get_or_insert(seen.fastest);
        let is_left_alone = state
            .left_alone_until
            .is_some_and(|until| seen.ended < until);
        let is_crowded = seen.waiting_most > self.settings.waiting_min && !is_left_alone;
        let is_slow = seen.fastest > usual * SLOWER_MAX + self.settings.delay_max;
        let is_congested = is_slow && is_crowded;
        if seen.fastest < usual || !is_crowded {
            // With few that wait, it is not they who make each other slow.
            state.usual = Some(approach(usual, seen.fastest));
        }
        state.slow = is_congested.then(|| Span::and(state.slow, seen));
        match &mut state.phase {
            Phase::Free => self.begin(state, seen, usual),
            Phase::Trial { .. } if seen.held == 0 && !is_congested => self.lift(state),
            Phase::Trial { .. } => self.try_out(state, seen),
            Phase::Following { .. } if is_congested => self.shrink(state, seen, usual),
            Phase::Following { .. } => self.grow(state, seen),
        }
    }

    /// Begins a limit, if answers have been slow for long enough.
    fn begin(&self, state: &mut State, seen: &Seen, usual: Duration) -> Option<Change> {
        let slow = state.slow.filter(|slow| slow.time >= SLOW_MIN)?;
        state.phase = Phase::Trial {
            waiting: seen.waiting_most,
            rate: slow.rate(),
            fastest: seen.fastest,
            settled: seen.ended + seen.fastest,
            since: None,
        };
        let limit = (seen.waiting_most / 2).max(self.settings.waiting_min);
        self.limit.set(limit);
        Some(Change::Limited {
            fastest: seen.fastest,
            usual,
        })
    }

    /// Sees whether fewer requests are answered because of the limit: about as many fewer as it lets
    /// wait.
    fn try_out(&self, state: &mut State, seen: &Seen) -> Option<Change> {
        let Phase::Trial {
            waiting,
            rate,
            fastest,
            settled,
            since,
        } = &mut state.phase
        else {
            return None;
        };
        if seen.started < *settled {
            return None;
        }
        let span = Span::and(*since, seen);
        *since = Some(span);
        // What was let in together is answered together: one round of it tells nothing.
        let is_long = span.time >= *fastest * TRIAL_ROUNDS;
        if !is_long || *rate * span.time.as_secs_f64() < TRIAL_ANSWERS {
            return None;
        }
        let share = f64::from(self.limit.get()) / f64::from(*waiting);
        if span.rate() / *rate < f64::midpoint(1.0, share) {
            state.left_alone_until = Some(seen.ended + LEFT_ALONE);
            self.lift(state);
            return Some(Change::Useless);
        }
        state.phase = Phase::Following {
            waiting: *waiting,
            settled: seen.ended,
        };
        None
    }

    /// One step down, when the last one has taken hold: what waits now waits as long as it does
    /// because of what was let in before.
    fn shrink(&self, state: &mut State, seen: &Seen, usual: Duration) -> Option<Change> {
        let Phase::Following { settled, .. } = &mut state.phase else {
            return None;
        };
        if seen.started < *settled {
            return None;
        }
        *settled = seen.ended + seen.fastest;
        let bound = self.limit.get().min(seen.waiting_most);
        // What waits is the rate times the wait: so many are enough, if they were answered as fast as
        // they should be.
        let time = seen.ended.duration_since(seen.started).as_secs_f64();
        let wait = usual * SLOWER_MAX + self.settings.delay_max;
        let enough = f64::from(seen.answers) / time * wait.as_secs_f64();
        let limit = (bound - bound / 4).min(enough as u32);
        self.limit.set(limit.max(self.settings.waiting_min));
        None
    }

    /// One step up; a limit above what was ever wanted, or that nobody comes near, is none.
    fn grow(&self, state: &mut State, seen: &Seen) -> Option<Change> {
        let Phase::Following { waiting, .. } = &state.phase else {
            return None;
        };
        let limit = self.limit.get();
        let is_near = seen.held > 0 || seen.waiting_most > limit / 2;
        if !is_near || limit > waiting.saturating_mul(2) {
            return self.lift(state);
        }
        self.limit.set(limit + (limit / 8).max(1));
        None
    }

    fn lift(&self, state: &mut State) -> Option<Change> {
        self.limit.set(UNLIMITED);
        state.phase = Phase::Free;
        state.slow = None;
        Some(Change::Lifted)
    }
}

/// Moves towards what was seen: down in a few windows, so that one odd answer does not count for
/// much, up in many, so that a queue that grows slowly is not taken for usual.
fn approach(usual: Duration, seen: Duration) -> Duration {
    if seen < usual {
        usual - (usual - seen) / 4
    } else {
        usual + (seen - usual) / 16
    }
}

impl Place {
    /// Decides about a place that somebody still wants; whether somebody does.
    fn decide(&self, verdict: Verdict) -> bool {
        if self.verdict.get() != Verdict::Wait {
            return false;
        }
        self.verdict.set(verdict);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }
}

/// A request that waits for its answer, until it is dropped.
#[derive(Debug)]
pub struct Waiting(Rc<LocalUpstream>);

impl Waiting {
    /// Lets a request wait for its answer at once, if it may.
    pub(super) fn begin(local: &Rc<LocalUpstream>) -> Option<Self> {
        let may = local.adaptive().is_none_or(Adaptive::try_enter);
        may.then(|| Self(Rc::clone(local)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(adaptive) = self.0.adaptive() {
            adaptive.leave();
        }
    }
}

/// A request that waits for its turn. Dropped, it gives its place up.
#[derive(Debug)]
pub struct Queued {
    local: Rc<LocalUpstream>,
    place: Rc<Place>,
}

impl Queued {
    pub(super) fn begin(local: &Rc<LocalUpstream>, now: Instant) -> Result<Self, Saturated> {
        // Without a limit nobody waits for a turn.
        let adaptive = local.adaptive().ok_or(Saturated)?;
        Ok(Self {
            local: Rc::clone(local),
            place: adaptive.line_up(now)?,
        })
    }

    /// Waits for the turn; an error when it did not come in time.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Result<Waiting, Saturated>> {
        match self.place.verdict.get() {
            Verdict::Turn => {
                self.place.verdict.set(Verdict::Given);
                Poll::Ready(Ok(Waiting(Rc::clone(&self.local))))
            }
            Verdict::Dismissed | Verdict::Given => Poll::Ready(Err(Saturated)),
            Verdict::Wait => {
                self.place.waker.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let before = self.place.verdict.replace(Verdict::Given);
        if let (Verdict::Turn, Some(adaptive)) = (before, self.local.adaptive()) {
            adaptive.leave();
        }
    }
}

#[cfg(test)]
mod tests;

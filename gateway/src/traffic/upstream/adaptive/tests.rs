//! The limit beside simulated upstreams: what it does for one that is overloaded, and that it leaves
//! the others alone. Time is simulated, so that every run is the same.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use std::rc::Rc;

use super::{Adaptive, AdaptiveSettings, Change, Place, Verdict};

const SETTINGS: AdaptiveSettings = AdaptiveSettings {
    waiting_min: 16,
    delay_max: Duration::from_millis(25),
    queue_time_max: Duration::from_millis(50),
    queue_max: 10_000,
};

/// Microseconds.
type Time = u64;

const MS: Time = 1000;
const SECOND: Time = 1000 * MS;

/// What one request meets.
#[derive(Clone, Copy)]
enum Kind {
    /// Work of so long at one of the servers, in the order of arrival.
    Work(Time),
    /// Waits so long for something to happen; nobody is busy with it.
    Wait(Time),
}

/// When a request came, and when it was sent.
type Sent = (Time, Time);

/// An upstream with so many servers and one queue.
struct Upstream {
    idle: usize,
    queue: VecDeque<(Sent, Time)>,
    /// When answers are due, to what, and whether a server is busy with it.
    due: BinaryHeap<Reverse<(Time, Sent, bool)>>,
}

/// What became of a run.
#[derive(Default)]
struct Outcome {
    answered: u64,
    refused: u64,
    waits: Vec<Time>,
    changes: Vec<(Time, Change)>,
}

impl Outcome {
    fn p99(&mut self) -> Time {
        self.waits.sort_unstable();
        self.waits[self.waits.len() * 99 / 100]
    }

    fn has(&self, wanted: impl Fn(&Change) -> bool) -> bool {
        self.changes.iter().any(|(_, change)| wanted(change))
    }
}

struct Run {
    adaptive: Adaptive,
    upstream: Upstream,
    /// Requests that wait for their turn, and when they came.
    queued: VecDeque<(Time, Kind, Rc<Place>)>,
    epoch: Instant,
    random: u64,
}

impl Run {
    fn new(servers: usize) -> Self {
        Self {
            adaptive: Adaptive::new(SETTINGS),
            upstream: Upstream {
                idle: servers,
                queue: VecDeque::new(),
                due: BinaryHeap::new(),
            },
            queued: VecDeque::new(),
            epoch: Instant::now(),
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// A time around `mean`, as arrivals that know nothing of each other are apart.
    fn apart(&mut self, mean: f64) -> Time {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let uniform = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        (-(1.0 - uniform).ln() * mean) as Time
    }

    /// Requests of these kinds in turn, so many a second, from one time to another.
    fn offer(&mut self, from: Time, to: Time, rate: f64, kinds: &[Kind]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut at = from;
        let mut kinds = kinds.iter().cycle();
        while at < to {
            self.answers_until(at, &mut outcome);
            self.arrive(at, *kinds.next().unwrap(), &mut outcome);
            at += self.apart(1e6 / rate);
        }
        outcome
    }

    fn instant(&self, time: Time) -> Instant {
        self.epoch + Duration::from_micros(time)
    }

    fn arrive(&mut self, at: Time, kind: Kind, outcome: &mut Outcome) {
        if self.adaptive.try_enter() {
            self.send(at, at, kind);
            return;
        }
        match self.adaptive.line_up(self.instant(at)) {
            Ok(place) => self.queued.push_back((at, kind, place)),
            Err(_) => outcome.refused += 1,
        }
    }

    /// Sends those whose turn it is, and counts those who are dismissed.
    fn look_at_queue(&mut self, at: Time, outcome: &mut Outcome) {
        while let Some((came, kind, place)) = self.queued.pop_front() {
            match place.verdict.get() {
                Verdict::Turn => self.send(at, came, kind),
                Verdict::Dismissed => outcome.refused += 1,
                _ => {
                    self.queued.push_front((came, kind, place));
                    return;
                }
            }
        }
    }

    fn send(&mut self, at: Time, came: Time, kind: Kind) {
        let sent = (came, at);
        match kind {
            Kind::Wait(time) => self.upstream.due.push(Reverse((at + time, sent, false))),
            Kind::Work(time) if self.upstream.idle > 0 => {
                self.upstream.idle -= 1;
                self.upstream.due.push(Reverse((at + time, sent, true)));
            }
            Kind::Work(time) => self.upstream.queue.push_back((sent, time)),
        }
    }

    fn answers_until(&mut self, now: Time, outcome: &mut Outcome) {
        while let Some(Reverse((due, (came, sent), was_work))) = self.upstream.due.peek().copied() {
            if due > now {
                return;
            }
            self.upstream.due.pop();
            if was_work {
                match self.upstream.queue.pop_front() {
                    Some((next, time)) => {
                        self.upstream.due.push(Reverse((due + time, next, true)));
                    }
                    None => self.upstream.idle += 1,
                }
            }
            self.adaptive.leave();
            let took = Duration::from_micros(due - sent);
            let at = self.epoch + Duration::from_micros(due);
            if let Some(change) = self.adaptive.answered(took, at) {
                outcome.changes.push((due, change));
            }
            outcome.answered += 1;
            outcome.waits.push(due - came);
            self.look_at_queue(due, outcome);
        }
    }
}

/// Four servers that take 4 ms each: 1000 requests a second.
const WORK: [Kind; 1] = [Kind::Work(4 * MS)];

#[test]
fn twice_the_load_is_answered_in_time_or_refused() {
    let mut run = Run::new(4);
    let before = run.offer(0, 2 * SECOND, 700.0, &WORK);
    assert_eq!(before.refused, 0);

    let mut first = run.offer(2 * SECOND, 3 * SECOND, 2000.0, &WORK);
    assert!(first.has(|change| matches!(change, Change::Limited { .. })));
    let p99 = first.p99();
    assert!(p99 <= 220 * MS, "p99 {p99} µs");
    let mut under = run.offer(3 * SECOND, 12 * SECOND, 2000.0, &WORK);
    assert!(under.answered >= 8600, "{} of 9000", under.answered);
    assert!(under.refused > 7500, "{}", under.refused);
    let p99 = under.p99();
    assert!(p99 <= 100 * MS, "p99 {p99} µs");
    assert!(!under.has(|change| *change == Change::Useless));

    run.offer(12 * SECOND, 12_200 * MS, 700.0, &WORK);
    let after = run.offer(12_200 * MS, 14 * SECOND, 700.0, &WORK);
    assert_eq!(after.refused, 0, "normal within 0.2 s");
    assert_eq!(run.adaptive.limit(), None);
}

#[test]
fn a_slow_upstream_that_is_not_overloaded_is_left_alone() {
    let mut run = Run::new(4000);
    let outcome = run.offer(0, 20 * SECOND, 500.0, &[Kind::Work(2 * SECOND)]);
    assert_eq!(outcome.refused, 0);
    assert!(outcome.changes.is_empty());
}

#[test]
fn slow_requests_beside_quick_ones_are_no_queue() {
    let mut run = Run::new(4000);
    let kinds = [
        Kind::Work(2 * MS),
        Kind::Work(3 * SECOND),
        Kind::Work(3 * SECOND),
    ];
    let outcome = run.offer(0, 20 * SECOND, 300.0, &kinds);
    assert_eq!(outcome.refused, 0);
}

#[test]
fn a_burst_is_served() {
    let mut run = Run::new(4);
    run.offer(0, 2 * SECOND, 500.0, &WORK);
    // A page with a hundred pictures.
    let burst = run.offer(2 * SECOND, 2 * SECOND + MS, 100_000.0, &WORK);
    let after = run.offer(2 * SECOND + MS, 4 * SECOND, 500.0, &WORK);
    assert_eq!(burst.refused + after.refused, 0);
}

#[test]
fn an_upstream_that_becomes_slower_gets_a_limit_that_fits() {
    let mut run = Run::new(8);
    run.offer(0, 2 * SECOND, 800.0, &WORK);
    // A quarter of its former pace: 500 a second of 800.
    run.offer(2 * SECOND, 3 * SECOND, 800.0, &[Kind::Work(16 * MS)]);
    let mut slow = run.offer(3 * SECOND, 12 * SECOND, 800.0, &[Kind::Work(16 * MS)]);
    assert!(slow.answered >= 4275, "{}", slow.answered);
    let p99 = slow.p99();
    assert!(p99 <= 100 * MS, "p99 {p99} µs");
}

#[test]
fn requests_that_wait_for_something_are_not_limited_for_long() {
    let mut run = Run::new(4);
    // It has something for everybody at once, so answers are usually quick.
    run.offer(0, 5 * SECOND, 300.0, &[Kind::Wait(5 * MS)]);
    // Then there is nothing for a long time.
    let quiet = run.offer(5 * SECOND, 60 * SECOND, 300.0, &[Kind::Wait(2 * SECOND)]);
    assert!(quiet.has(|change| *change == Change::Useless));
    let (found, _) = quiet.changes.last().copied().unwrap();
    assert!(found < 15 * SECOND, "{found} µs");
    // And it happens again.
    run.offer(60 * SECOND, 65 * SECOND, 300.0, &[Kind::Wait(5 * MS)]);
    let quiet = run.offer(65 * SECOND, 120 * SECOND, 300.0, &[Kind::Wait(2 * SECOND)]);
    assert_eq!(quiet.refused, 0, "it is left alone now");
}

#[test]
fn what_was_learnt_outlives_a_reload() {
    let mut run = Run::new(4);
    run.offer(0, 2 * SECOND, 700.0, &WORK);
    run.offer(2 * SECOND, 5 * SECOND, 2000.0, &WORK);
    let limit = run.adaptive.limit();
    assert!(limit.is_some());
    let after = Adaptive::new(SETTINGS).succeed(&run.adaptive);
    assert_eq!(after.limit(), limit);
}

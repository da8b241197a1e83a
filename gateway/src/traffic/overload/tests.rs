//! A simulated worker with one queue: what it refuses, and what that does for those it serves. Time is
//! simulated, so that every run is the same.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Backlog, Change, PAUSE_MIN};

const MAX: Option<Duration> = Some(Duration::from_millis(20));

/// Microseconds.
type Time = u64;

/// What serving and refusing cost: 10,000 requests a second at best.
const SERVE: Time = 100;
const REFUSE: Time = 5;
const TICK: Time = 20_000;
const SECOND: Time = 1_000_000;

struct Worker {
    backlog: Backlog,
    epoch: Instant,
    now: Time,
    next_tick: Time,
    random: u64,
    /// When what waits came.
    queue: VecDeque<Time>,
    served: u64,
    refused: u64,
    longest: Time,
    changes: Vec<Change>,
}

impl Worker {
    fn new() -> Self {
        Self {
            backlog: Backlog::default(),
            epoch: Instant::now(),
            now: 0,
            next_tick: TICK,
            random: 0x9e37_79b9_7f4a_7c15,
            queue: VecDeque::new(),
            served: 0,
            refused: 0,
            longest: 0,
            changes: Vec::new(),
        }
    }

    fn at(&self, time: Time) -> Instant {
        self.epoch + Duration::from_micros(time)
    }

    /// Does what is next; a tick waits like everything else for those before it.
    fn step(&mut self) {
        let Some(came) = self.queue.front().copied() else {
            self.now = self.next_tick;
            self.tick();
            return;
        };
        if came >= self.next_tick {
            self.now = self.now.max(self.next_tick);
            self.tick();
            return;
        }
        self.queue.pop_front();
        self.now = self.now.max(came);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if self.backlog.is_refusing() && self.backlog.refuses(self.random >> 8) {
            self.now += REFUSE;
            self.refused += 1;
            self.backlog.spend(Duration::from_micros(REFUSE));
        } else {
            self.now += SERVE;
            self.served += 1;
            self.longest = self.longest.max(self.now - came);
        }
    }

    fn tick(&mut self) {
        let late = Duration::from_micros(self.now - self.next_tick);
        let change = self.backlog.tick(self.at(self.now), late, MAX);
        self.changes.extend(change);
        // What was missed is skipped.
        self.next_tick = (self.now / TICK + 1) * TICK;
    }

    /// Requests that come whether others are answered or not, so many a second.
    fn open_load(&mut self, rate: u64, until: Time) {
        let apart = SECOND / rate;
        let mut next = self.now;
        while self.now < until {
            while next <= self.now.max(self.next_tick) {
                self.queue.push_back(next);
                next += apart;
            }
            self.step();
        }
    }

    /// Clients that ask again when they were answered, whatever it was. More join every millisecond,
    /// until there are as many.
    fn closed_load(&mut self, joining: usize, clients: usize, until: Time) {
        let (mut joined, mut next) = (0, self.now);
        while self.now < until {
            while next <= self.now && joined < clients {
                let more = joining.min(clients - joined);
                self.queue.extend(std::iter::repeat_n(next, more));
                joined += more;
                next += SECOND / 1000;
            }
            let waiting = self.queue.len();
            self.step();
            if self.queue.len() < waiting {
                self.queue.push_back(self.now);
            }
        }
        self.queue.clear();
    }

    fn reset(&mut self) {
        (self.served, self.refused, self.longest) = (0, 0, 0);
        self.changes.clear();
    }
}

#[test]
fn twice_the_load_is_served_in_time_or_refused() {
    let mut worker = Worker::new();
    worker.open_load(8000, SECOND);
    assert_eq!((worker.refused, worker.changes.len()), (0, 0));

    worker.open_load(20_000, 2 * SECOND);
    assert!(worker.longest < 100_000, "{} µs", worker.longest);
    worker.reset();
    worker.open_load(20_000, 7 * SECOND);
    // All that can be served beside refusals.
    let most = 5 * 10_000 - worker.refused * REFUSE / SERVE;
    assert!(
        worker.served * 100 > most * 95,
        "{} of {most}",
        worker.served
    );
    assert!(worker.longest < 40_000, "{} µs", worker.longest);
    assert!(
        !worker
            .changes
            .iter()
            .any(|it| matches!(it, Change::Useless(_)))
    );

    worker.open_load(8000, 7 * SECOND + SECOND / 5);
    worker.reset();
    worker.open_load(8000, 8 * SECOND);
    assert_eq!(worker.refused, 0, "it catches up at once");
    worker.open_load(8000, 9 * SECOND);
    assert_eq!(worker.changes, [Change::CaughtUp]);
}

#[test]
fn clients_that_wait_for_each_answer_wait_their_turn() {
    let mut worker = Worker::new();
    worker.closed_load(5000, 5000, 10 * SECOND);
    assert_eq!(worker.refused, 0);
    assert!(worker.served > 99_000, "{}", worker.served);
}

#[test]
fn clients_that_ask_again_when_refused_are_not_refused_for_long() {
    let mut worker = Worker::new();
    // The more of them come, the more it looks like a load.
    worker.closed_load(5, 5000, 4 * SECOND);
    assert_eq!(
        worker.changes,
        [Change::Refusing, Change::Useless(PAUSE_MIN)]
    );
    worker.reset();
    worker.closed_load(5, 5000, 9 * SECOND);
    assert_eq!(worker.refused, 0);
    assert!(worker.served > 49_000, "{}", worker.served);
    // It is tried again, ever more seldom.
    worker.now += 10 * SECOND;
    worker.next_tick = worker.now;
    let until = worker.now + 4 * SECOND;
    worker.closed_load(5, 5000, until);
    assert_eq!(
        worker.changes,
        [Change::Refusing, Change::Useless(2 * PAUSE_MIN)]
    );
}

#[test]
fn three_times_the_load_is_bounded_too() {
    let mut worker = Worker::new();
    worker.open_load(30_000, 3 * SECOND);
    worker.reset();
    worker.open_load(30_000, 8 * SECOND);
    assert!(worker.longest < 60_000, "{} µs", worker.longest);
    assert!(worker.served > 40_000, "{}", worker.served);
}

#[test]
fn a_pause_is_no_overload() {
    let mut worker = Worker::new();
    worker.open_load(5000, SECOND);
    // Somebody else had the processor for half a second.
    let until = worker.now + SECOND / 2;
    worker
        .queue
        .extend((0..2500).map(|number| worker.now + number * 200));
    worker.now = until;
    worker.open_load(5000, 3 * SECOND);
    assert_eq!((worker.refused, worker.changes.len()), (0, 0));
}

#[test]
fn nothing_is_refused_where_everybody_is_to_wait() {
    let backlog = Backlog::default();
    for _ in 0..5 {
        backlog.tick(Instant::now(), Duration::from_secs(1), None);
    }
    assert!(!backlog.is_refusing() && !backlog.is_behind());
    assert!(!backlog.refuses(0));
    assert_eq!(backlog.delay(), Duration::from_secs(1));
}

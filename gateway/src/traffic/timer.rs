//! Deadlines of sockets: a deadline is a field, not a registration. Each socket has one timer with
//! a deadline per direction; the worker's wheel looks at it rarely, finds that it moved, and goes
//! on. Setting a deadline costs a store; a wheel entry is made once per few seconds and socket.
//!
//! Must not: be exact. Deadlines are late by up to two ticks, never early.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How far apart the wheel's looks are: the precision of every deadline of the data path.
pub const TICK: Duration = Duration::from_millis(20);

/// Slots of the wheel; deadlines farther away than a turn are looked at once a turn.
const SLOTS: usize = 256;

/// A tick count that no clock reaches: no deadline.
const NEVER: u64 = u64::MAX;

/// The two directions of a socket, each with a deadline of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Waiting for bytes.
    Read,
    /// Waiting for room.
    Write,
}

/// The deadlines of one socket.
#[derive(Debug)]
pub struct Timer {
    entry: Rc<Entry>,
    wheel: Rc<Wheel>,
    /// The tick beyond which no deadline is set: the end of the exchange that uses the socket.
    end: Cell<u64>,
}

#[derive(Debug)]
struct Entry {
    read: Cell<u64>,
    write: Cell<u64>,
    /// The tick at which the wheel looks next; `NEVER` when the wheel does not hold the entry.
    looked_at: Cell<u64>,
    wakers: RefCell<[Option<Waker>; 2]>,
}

impl Timer {
    /// A timer without a deadline.
    pub fn new(wheel: &Rc<Wheel>) -> Self {
        let entry = Entry {
            read: Cell::new(NEVER),
            write: Cell::new(NEVER),
            looked_at: Cell::new(NEVER),
            wakers: RefCell::new([None, None]),
        };
        Self {
            entry: Rc::new(entry),
            wheel: Rc::clone(wheel),
            end: Cell::new(NEVER),
        }
    }

    /// Lets no deadline lie more than `after` from now, whatever is set later; zero lifts that.
    pub fn end_after(&self, after: Duration) {
        self.end.set(self.at(after));
    }

    /// Lets no deadline lie beyond that of another timer's exchange, which is the same.
    pub fn end_with(&self, other: &Self) {
        self.end.set(other.end.get());
    }

    /// Sets a direction's deadline to `after` from now; zero switches it off.
    pub fn set(&self, direction: Direction, after: Duration) {
        let deadline = self.at(after).min(self.end.get());
        self.field(direction).set(deadline);
        if deadline < self.entry.looked_at.get() {
            self.wheel.look_at(&self.entry, deadline);
        }
    }

    /// The tick that is `after` from now; zero is never.
    fn at(&self, after: Duration) -> u64 {
        if after.is_zero() {
            return NEVER;
        }
        // One tick for rounding, one because the clock is read at ticks only.
        let ticks = after.as_millis().div_ceil(TICK.as_millis()) as u64 + 1;
        self.wheel.now.get().saturating_add(ticks)
    }

    /// The present, in ticks.
    pub fn now(&self) -> u64 {
        self.wheel.now()
    }

    /// Switches a direction's deadline off.
    pub fn clear(&self, direction: Direction) {
        self.field(direction).set(NEVER);
    }

    /// Whether a direction's deadline has passed.
    pub fn is_past(&self, direction: Direction) -> bool {
        self.field(direction).get() <= self.wheel.now.get()
    }

    /// Has the task of `waker` woken when the direction's deadline passes.
    pub fn register(&self, direction: Direction, waker: &Waker) {
        let mut wakers = self.entry.wakers.borrow_mut();
        match &mut wakers[direction as usize] {
            Some(held) if held.will_wake(waker) => {}
            held => *held = Some(waker.clone()),
        }
    }

    fn field(&self, direction: Direction) -> &Cell<u64> {
        match direction {
            Direction::Read => &self.entry.read,
            Direction::Write => &self.entry.write,
        }
    }
}

impl Timer {
    /// A handle that can end the socket's wait from elsewhere in the worker.
    pub fn handle(&self) -> TimerHandle {
        TimerHandle(Rc::clone(&self.entry))
    }
}

/// Ends a socket's wait as if its deadline had passed.
#[derive(Debug)]
pub struct TimerHandle(Rc<Entry>);

impl TimerHandle {
    /// Makes the direction's deadline pass now.
    pub fn expire(&self, direction: Direction) {
        let field = match direction {
            Direction::Read => &self.0.read,
            Direction::Write => &self.0.write,
        };
        field.set(0);
        let waker = self.0.wakers.borrow_mut()[direction as usize].take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // The wheel may hold the entry for the rest of a turn; it must not hold the task.
        self.entry.read.set(NEVER);
        self.entry.write.set(NEVER);
        self.entry.wakers.replace([None, None]);
    }
}

/// A worker's wheel of timers, turned by a task of the worker.
#[derive(Debug)]
pub struct Wheel {
    started: Instant,
    now: Cell<u64>,
    slots: RefCell<Vec<Vec<Rc<Entry>>>>,
}

impl Wheel {
    /// A wheel at tick zero.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            started: Instant::now(),
            now: Cell::new(0),
            slots: RefCell::new((0..SLOTS).map(|_| Vec::new()).collect()),
        })
    }

    /// The present, in milliseconds from some beginning.
    pub fn now_ms(&self) -> u64 {
        self.now() * TICK.as_millis() as u64
    }

    /// Turns the wheel up to the present, waking whoever waits on a deadline that passed.
    pub fn turn(&self, present: Instant) {
        let elapsed = present.saturating_duration_since(self.started);
        let target = (elapsed.as_millis() / TICK.as_millis()) as u64;
        while self.now.get() < target {
            // After a long stall one turn visits every entry; further turns find nothing new.
            let behind = target - self.now.get();
            let step = if behind > SLOTS as u64 {
                behind - SLOTS as u64 + 1
            } else {
                1
            };
            self.now.set(self.now.get() + step);
            self.visit(self.now.get());
        }
    }

    /// The present, in ticks.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    fn visit(&self, now: u64) {
        let slot = (now % SLOTS as u64) as usize;
        let due = match self.slots.borrow_mut().get_mut(slot) {
            Some(entries) => std::mem::take(entries),
            None => return,
        };
        for entry in due {
            // A look that was moved closer left its old place behind; the new one is held elsewhere.
            if entry.looked_at.get() > now {
                continue;
            }
            entry.looked_at.set(NEVER);
            wake_if_past(&entry, now);
            let next = pending(&entry, now);
            if next != NEVER {
                self.look_at(&entry, next);
            }
        }
    }

    fn look_at(&self, entry: &Rc<Entry>, tick: u64) {
        let now = self.now.get();
        let at = tick.clamp(now + 1, now + SLOTS as u64 - 1);
        let held = entry.looked_at.get();
        if held <= at {
            return;
        }
        entry.looked_at.set(at);
        self.hold(Rc::clone(entry));
    }

    fn hold(&self, entry: Rc<Entry>) {
        let slot = (entry.looked_at.get() % SLOTS as u64) as usize;
        if let Some(entries) = self.slots.borrow_mut().get_mut(slot) {
            entries.push(entry);
        }
    }
}

fn wake_if_past(entry: &Entry, now: u64) {
    for (deadline, direction) in [
        (entry.read.get(), Direction::Read),
        (entry.write.get(), Direction::Write),
    ] {
        if deadline <= now {
            let waker = entry.wakers.borrow_mut()[direction as usize].take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// The earliest deadline still ahead.
fn pending(entry: &Entry, now: u64) -> u64 {
    [entry.read.get(), entry.write.get()]
        .into_iter()
        .filter(|&at| at > now)
        .min()
        .unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn woken(count: &Arc<Count>) -> usize {
        count.0.load(Ordering::Relaxed)
    }

    fn at(wheel: &Wheel, millis: u64) {
        wheel.turn(wheel.started + Duration::from_millis(millis));
    }

    #[test]
    fn a_deadline_wakes_once_it_is_past_and_not_before() {
        let wheel = Wheel::new();
        let timer = Timer::new(&wheel);
        let count = Arc::new(Count::default());
        timer.set(Direction::Read, Duration::from_millis(100));
        timer.register(Direction::Read, &Waker::from(Arc::clone(&count)));
        at(&wheel, 99);
        assert!(!timer.is_past(Direction::Read));
        assert_eq!(woken(&count), 0);
        at(&wheel, 141);
        assert!(timer.is_past(Direction::Read));
        assert!(!timer.is_past(Direction::Write));
        assert_eq!(woken(&count), 1);
    }

    #[test]
    fn a_moved_deadline_costs_no_second_entry() {
        let wheel = Wheel::new();
        let timer = Timer::new(&wheel);
        for _ in 0..1000 {
            timer.set(Direction::Read, Duration::from_secs(1));
        }
        let held: usize = wheel.slots.borrow().iter().map(Vec::len).sum();
        assert_eq!(held, 1);
    }

    #[test]
    fn moving_to_and_fro_leaves_no_entries_behind() {
        let wheel = Wheel::new();
        let timer = Timer::new(&wheel);
        for round in 0..100 {
            timer.set(Direction::Read, Duration::from_secs(4));
            timer.set(Direction::Read, Duration::from_millis(10));
            at(&wheel, (round + 1) * 100);
        }
        at(&wheel, 20_000);
        let held: usize = wheel.slots.borrow().iter().map(Vec::len).sum();
        assert!(held <= 1, "{held}");
    }

    #[test]
    fn a_deadline_may_move_closer_and_farther() {
        let wheel = Wheel::new();
        let timer = Timer::new(&wheel);
        let count = Arc::new(Count::default());
        timer.register(Direction::Write, &Waker::from(Arc::clone(&count)));
        timer.set(Direction::Write, Duration::from_secs(60));
        timer.set(Direction::Write, Duration::from_millis(40));
        at(&wheel, 100);
        assert_eq!(woken(&count), 1);
        timer.register(Direction::Write, &Waker::from(Arc::clone(&count)));
        timer.set(Direction::Write, Duration::from_secs(30));
        at(&wheel, 29_000);
        assert_eq!(woken(&count), 1);
        at(&wheel, 30_200);
        assert_eq!(woken(&count), 2);
    }

    #[test]
    fn a_stall_of_many_turns_still_wakes() {
        let wheel = Wheel::new();
        let timer = Timer::new(&wheel);
        let count = Arc::new(Count::default());
        timer.register(Direction::Read, &Waker::from(Arc::clone(&count)));
        timer.set(Direction::Read, Duration::from_secs(8));
        at(&wheel, 600_000);
        assert_eq!(woken(&count), 1);
    }

    #[test]
    fn a_dropped_timer_leaves_nothing_behind_after_a_turn() {
        let wheel = Wheel::new();
        let timer = Timer::new(&wheel);
        timer.set(Direction::Read, Duration::from_millis(40));
        drop(timer);
        at(&wheel, 10_000);
        let held: usize = wheel.slots.borrow().iter().map(Vec::len).sum();
        assert_eq!(held, 0);
    }
}

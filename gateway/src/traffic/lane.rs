//! The share of a worker that TLS handshakes have. A signature costs as much as dozens of requests,
//! and whoever can connect can ask for one, so handshakes take turns and let everybody else go
//! first: established connections wait for one of them at most, however many there are.
//!
//! A handshake has a place only while its signature is due: who says nothing, before or after it,
//! takes no place from anybody. Such clients are let go of, the one that was silent longest first,
//! when there are too many. Each listener has places of its own, and its turn after the others.
//!
//! Must not: leave the worker idle while a handshake waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

use super::timer::{Direction, TimerHandle};
use crate::snapshot::ListenerId;

/// Turns of the worker's loop that a handshake waits for requests to be served, while every turn
/// does serve some.
const TURNS_MAX: usize = 8;

/// Handshakes of a listener that wait, on one worker, for certificates that were ordered for them.
/// An authority issues a handful within the deadline of a handshake; whoever comes beyond that is
/// served what there is, and finds the certificate when it comes again.
const ORDERS_AWAITED_MAX: usize = 256;

/// The lanes of a worker, one for each listener on which a handshake is being made.
#[derive(Debug)]
pub struct Lanes {
    lanes: RefCell<Vec<(ListenerId, Weak<Lane>)>>,
    turn: Rc<Semaphore>,
}

/// The handshakes of a listener on a worker.
#[derive(Debug)]
pub struct Lane {
    underway: Cell<usize>,
    awaiting: Cell<usize>,
    silent: RefCell<BTreeMap<u64, TimerHandle>>,
    silences: Cell<u64>,
    /// The next turn among the listener's own handshakes. Whoever has it asks for the worker's, so
    /// each listener has one who asks, whatever is behind that one.
    own_turn: Semaphore,
    turn: Rc<Semaphore>,
}

/// A place among the handshakes under way.
#[derive(Debug)]
pub struct Place(Rc<Lane>);

/// A client that has the word, from when it is awaited until it has spoken.
#[derive(Debug)]
pub struct Silence {
    lane: Rc<Lane>,
    number: u64,
}

/// A handshake that waits for a certificate that was ordered for it.
#[derive(Debug)]
pub struct Awaiting(Rc<Lane>);

impl Default for Lanes {
    fn default() -> Self {
        Self {
            lanes: RefCell::default(),
            turn: Rc::new(Semaphore::new(1)),
        }
    }
}

impl Lanes {
    /// The lane of a listener.
    pub fn of(&self, listener: ListenerId) -> Rc<Lane> {
        let mut lanes = self.lanes.borrow_mut();
        let known = lanes.iter().find(|(id, _)| *id == listener);
        if let Some(lane) = known.and_then(|(_, lane)| lane.upgrade()) {
            return lane;
        }
        let lane = Rc::new(Lane::new(&self.turn));
        // What is left of lanes that nobody is on goes when the next one is made.
        lanes.retain(|(_, lane)| lane.strong_count() > 0);
        lanes.push((listener, Rc::downgrade(&lane)));
        lane
    }
}

impl Lane {
    fn new(turn: &Rc<Semaphore>) -> Self {
        Self {
            underway: Cell::new(0),
            awaiting: Cell::new(0),
            silent: RefCell::default(),
            silences: Cell::new(0),
            own_turn: Semaphore::new(1),
            turn: Rc::clone(turn),
        }
    }

    /// A place among the handshakes under way; `None` when there are too many.
    pub fn enter(self: &Rc<Self>, max: usize) -> Option<Place> {
        if self.underway.get() >= max {
            return None;
        }
        self.underway.set(self.underway.get() + 1);
        Some(Place(Rc::clone(self)))
    }

    /// Notes that a client has the word. Of more than `max` who have, the one that was silent
    /// longest has its deadline now: an honest client is silent for a round trip.
    pub fn listen(self: &Rc<Self>, max: usize, timer: TimerHandle) -> Silence {
        let mut silent = self.silent.borrow_mut();
        if silent.len() >= max
            && let Some((_, oldest)) = silent.pop_first()
        {
            oldest.expire(Direction::Read);
        }
        let number = self.silences.get();
        self.silences.set(number + 1);
        silent.insert(number, timer);
        Silence {
            lane: Rc::clone(self),
            number,
        }
    }

    /// Leave to wait for a certificate; none when too many do.
    pub fn await_order(self: &Rc<Self>) -> Option<Awaiting> {
        if self.awaiting.get() >= ORDERS_AWAITED_MAX {
            return None;
        }
        self.awaiting.set(self.awaiting.get() + 1);
        Some(Awaiting(Rc::clone(self)))
    }
}

impl Place {
    /// Does the expensive part of a handshake when its turn has come, unless nobody wants it any
    /// more by then. `served` counts the requests that the worker has served so far.
    pub async fn take_turn<T>(
        &self,
        served: impl Fn() -> u64,
        is_wanted: impl Fn() -> bool,
        work: impl FnOnce() -> T,
    ) -> Option<T> {
        // Nobody closes the semaphores, so there always is a turn.
        let _own = self.0.own_turn.acquire().await;
        let _turn = self.0.turn.acquire().await;
        if !is_wanted() {
            return None;
        }
        let mut before = served();
        for _ in 0..TURNS_MAX {
            yield_now().await;
            let now = served();
            if now == before {
                break;
            }
            before = now;
        }
        Some(work())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let underway = &self.0.underway;
        underway.set(underway.get().saturating_sub(1));
    }
}

impl Silence {
    /// Whether it lasted longest when there were too many.
    pub fn is_ended(&self) -> bool {
        !self.lane.silent.borrow().contains_key(&self.number)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.lane.silent.borrow_mut().remove(&self.number);
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        let awaiting = &self.0.awaiting;
        awaiting.set(awaiting.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::traffic::timer::{Timer, Wheel};

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        LocalSet::new().block_on(&runtime.unwrap(), test);
    }

    fn lane() -> Rc<Lane> {
        Lanes::default().of(ListenerId(1))
    }

    #[test]
    fn only_so_many_are_under_way() {
        let lane = lane();
        let first = lane.enter(2);
        let second = lane.enter(2);
        assert!(first.is_some() && second.is_some());
        assert!(lane.enter(2).is_none());
        drop(first);
        assert!(lane.enter(2).is_some());
    }

    #[test]
    fn listeners_have_places_of_their_own() {
        let lanes = Lanes::default();
        let (one, other) = (lanes.of(ListenerId(1)), lanes.of(ListenerId(2)));
        let taken = one.enter(1);
        assert!(taken.is_some() && lanes.of(ListenerId(1)).enter(1).is_none());
        assert!(other.enter(1).is_some());
        drop((taken, one, other));
        // A lane that nobody is on leaves nothing behind.
        let _third = lanes.of(ListenerId(3));
        assert_eq!(lanes.lanes.borrow().len(), 1);
    }

    #[test]
    fn who_is_silent_longest_is_let_go_when_there_are_too_many() {
        let (lane, wheel) = (lane(), Wheel::new());
        let timers: Vec<_> = (0..4).map(|_| Timer::new(&wheel)).collect();
        for timer in &timers {
            timer.set(Direction::Read, Duration::from_secs(10));
        }
        let silences: Vec<_> = timers
            .iter()
            .take(3)
            .map(|timer| lane.listen(3, timer.handle()))
            .collect();
        let ended = || silences.iter().map(Silence::is_ended).collect::<Vec<_>>();
        assert_eq!(ended(), [false, false, false]);
        let last = lane.listen(3, timers[3].handle());
        assert_eq!(ended(), [true, false, false]);
        assert!(timers[0].is_past(Direction::Read) && !timers[1].is_past(Direction::Read));
        // Who has spoken makes room.
        drop((last, silences));
        assert!(lane.silent.borrow().is_empty());
    }

    #[test]
    fn only_so_many_wait_for_certificates() {
        let lane = lane();
        let waiting: Vec<_> = (0..ORDERS_AWAITED_MAX)
            .map(|_| lane.await_order())
            .collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(lane.await_order().is_none());
        drop(waiting);
        assert!(lane.await_order().is_some());
    }

    #[test]
    fn a_turn_is_not_spent_on_who_is_gone() {
        run(async {
            let place = lane().enter(1).unwrap();
            let signed = place.take_turn(|| 0, || false, || ()).await;
            assert_eq!(signed, None);
        });
    }

    #[test]
    fn a_listener_with_few_handshakes_does_not_wait_for_one_with_many() {
        run(async {
            let lanes = Lanes::default();
            let log = Rc::new(RefCell::new(Vec::new()));
            let handshakes: Vec<_> = [1, 1, 1, 1, 1, 1, 2]
                .into_iter()
                .map(|listener| {
                    let (lane, log) = (lanes.of(ListenerId(listener)), Rc::clone(&log));
                    spawn_local(async move {
                        let place = lane.enter(9).unwrap();
                        let work = || log.borrow_mut().push(listener);
                        place.take_turn(|| 0, || true, work).await;
                    })
                })
                .collect();
            for task in handshakes {
                task.await.unwrap();
            }
            let place = log.borrow().iter().position(|it| *it == 2);
            assert!(place.is_some_and(|place| place <= 2), "{:?}", log.borrow());
        });
    }

    #[test]
    fn handshakes_take_turns_and_others_go_first() {
        run(async {
            let lane = lane();
            let log = Rc::new(RefCell::new(Vec::new()));
            let handshakes: Vec<_> = (0..6)
                .map(|number| {
                    let (lane, log) = (Rc::clone(&lane), Rc::clone(&log));
                    spawn_local(async move {
                        let place = lane.enter(9).unwrap();
                        let work = || log.borrow_mut().push(format!("handshake {number}"));
                        place.take_turn(|| 0, || true, work).await;
                    })
                })
                .collect();
            // Somebody who is ready in every turn.
            let other = Rc::clone(&log);
            let busy = spawn_local(async move {
                for _ in 0..12 {
                    other.borrow_mut().push("request".to_owned());
                    yield_now().await;
                }
            });
            for task in handshakes {
                task.await.unwrap();
            }
            busy.await.unwrap();
            // One in each turn, before or after whoever else is ready.
            let log = log.borrow();
            let is_handshake = |line: &String| line.starts_with("handshake");
            assert!(!is_handshake(&log[0]), "{log:?}");
            let mut runs = log.windows(3);
            assert!(!runs.any(|three| three.iter().all(is_handshake)), "{log:?}");
        });
    }

    #[test]
    fn waits_while_requests_are_served_but_not_for_ever() {
        run(async {
            let lane = lane();
            let place = lane.enter(1).unwrap();
            let served = Cell::new(0);
            let looks = Cell::new(0);
            let serve = || {
                looks.set(looks.get() + 1);
                served.set(served.get() + 1);
                served.get()
            };
            place.take_turn(serve, || true, || ()).await;
            assert_eq!(looks.get(), 1 + TURNS_MAX);
        });
    }
}

//! The share of a worker that TLS handshakes have. A signature costs as much as dozens of requests,
//! and whoever can connect can ask for one, so handshakes take turns and let everybody else go
//! first: established connections wait for one of them at most, however many there are.
//!
//! Must not: leave the worker idle while a handshake waits.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Turns of the worker's loop that a handshake waits for requests to be served, while every turn
/// does serve some.
const TURNS_MAX: usize = 8;

/// The handshakes of a worker.
#[derive(Debug)]
pub struct Lane {
    underway: Cell<usize>,
    turn: Semaphore,
}

/// A place among the handshakes under way.
#[derive(Debug)]
pub struct Place(Rc<Lane>);

impl Default for Lane {
    fn default() -> Self {
        Self {
            underway: Cell::new(0),
            turn: Semaphore::new(1),
        }
    }
}

impl Lane {
    /// A place among the handshakes under way; `None` when there are too many.
    pub fn enter(self: &Rc<Self>, max: usize) -> Option<Place> {
        if self.underway.get() >= max {
            return None;
        }
        self.underway.set(self.underway.get() + 1);
        Some(Place(Rc::clone(self)))
    }
}

impl Place {
    /// Does the expensive part of a handshake when its turn has come. `served` counts the requests
    /// that the worker has served so far.
    pub async fn take_turn<T>(&self, served: impl Fn() -> u64, work: impl FnOnce() -> T) -> T {
        // Nobody closes the semaphore, so there always is a turn.
        let _turn = self.0.turn.acquire().await;
        let mut before = served();
        for _ in 0..TURNS_MAX {
            yield_now().await;
            let now = served();
            if now == before {
                break;
            }
            before = now;
        }
        work()
    }

    /// Waits for something that costs nothing, and leaves its place to others meanwhile.
    pub async fn step_aside<T>(&self, wait: impl Future<Output = T>) -> T {
        let _aside = Aside::step(&self.0.underway);
        wait.await
    }
}

/// One who has left its place for a while. It comes back even if there are too many by then: it was
/// let in before them.
struct Aside<'p>(&'p Cell<usize>);

impl<'p> Aside<'p> {
    fn step(underway: &'p Cell<usize>) -> Self {
        underway.set(underway.get().saturating_sub(1));
        Self(underway)
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let underway = &self.0.underway;
        underway.set(underway.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        LocalSet::new().block_on(&runtime.unwrap(), test);
    }

    #[test]
    fn only_so_many_are_under_way() {
        let lane = Rc::new(Lane::default());
        let first = lane.enter(2);
        let second = lane.enter(2);
        assert!(first.is_some() && second.is_some());
        assert!(lane.enter(2).is_none());
        drop(first);
        assert!(lane.enter(2).is_some());
    }

    #[test]
    fn who_steps_aside_makes_room() {
        run(async {
            let lane = Rc::new(Lane::default());
            let first = lane.enter(1).unwrap();
            let seen = first.step_aside(async { lane.enter(1).is_some() }).await;
            assert!(seen);
            assert!(lane.enter(1).is_none());
            drop(first);
            assert!(lane.enter(1).is_some());
        });
    }

    #[test]
    fn handshakes_take_turns_and_others_go_first() {
        run(async {
            let lane = Rc::new(Lane::default());
            let log = Rc::new(RefCell::new(Vec::new()));
            let handshakes: Vec<_> = (0..6)
                .map(|number| {
                    let (lane, log) = (Rc::clone(&lane), Rc::clone(&log));
                    spawn_local(async move {
                        let place = lane.enter(9).unwrap();
                        let work = || log.borrow_mut().push(format!("handshake {number}"));
                        place.take_turn(|| 0, work).await;
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
            let lane = Rc::new(Lane::default());
            let place = lane.enter(1).unwrap();
            let served = Cell::new(0);
            let looks = Cell::new(0);
            let serve = || {
                looks.set(looks.get() + 1);
                served.set(served.get() + 1);
                served.get()
            };
            place.take_turn(serve, || ()).await;
            assert_eq!(looks.get(), 1 + TURNS_MAX);
        });
    }
}

//! Tasks in which the exchanges of streams run, one after another: a task and the room for all that
//! an exchange may have to remember are made once, not for each stream.
//!
//! Must not: keep more than a few idle, or anything of an exchange that is over; make anybody wait while
//! the worker has nothing else to do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::exchange::{Begun, serve};
use crate::traffic::worker::Worker;

/// Runners without a stream that a worker keeps; each has some 3 KiB.
const IDLE_MAX: usize = 1024;

/// Exchanges under way at once from which on new ones take turns with what is ready. Below, all that
/// they touch stays in the processor's caches.
const BUSY_MANY: usize = 512;

/// Exchanges that begin in one such turn: fewer than what is ready in it, so that what was begun is
/// finished first.
const BEGUN_PER_TURN: usize = 16;

/// The runners of a worker, and the exchanges that wait for one. Those cannot be more than the streams
/// that clients may have open.
#[derive(Debug, Default)]
pub struct Runners {
    /// Those that have nothing to do; the one that was busy last is taken first.
    idle: RefCell<Vec<Rc<Runner>>>,
    busy: Cell<usize>,
    waiting: RefCell<VecDeque<Begun>>,
    starter: RefCell<Option<Waker>>,
}

/// A task that waits for an exchange.
#[derive(Debug, Default)]
struct Runner {
    next: RefCell<Option<Begun>>,
    task: RefCell<Option<Waker>>,
}

/// Counts a runner as busy.
struct Busy<'r>(&'r Runners);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get().saturating_sub(1));
    }
}

/// Has an exchange run in a task of its own: at once, or where many are under way already, as soon as
/// the worker gets to it. A worker that begins more than it finishes does neither well.
pub(super) fn run(worker: &Rc<Worker>, mut begun: Begun) {
    let runners = &worker.runners;
    let mut waiting = runners.waiting.borrow_mut();
    if runners.busy.get() < BUSY_MANY && waiting.is_empty() {
        drop(waiting);
        return start(worker, begun);
    }
    begun.arrived = Some(Instant::now());
    waiting.push_back(begun);
    // Woken once only: it goes on by itself, turn by turn.
    if let Some(starter) = runners.starter.take() {
        starter.wake();
    }
}

fn start(worker: &Rc<Worker>, begun: Begun) {
    let runners = &worker.runners;
    runners.busy.set(runners.busy.get() + 1);
    let idle = runners.idle.borrow_mut().pop();
    let Some(runner) = idle else {
        let runner = Rc::new(Runner::default());
        runner.next.replace(Some(begun));
        // In a box, because a task moves its future when it begins and when it ends.
        tokio::task::spawn_local(Box::pin(serve_each(Rc::clone(worker), runner)));
        return;
    };
    runner.next.replace(Some(begun));
    if let Some(task) = &*runner.task.borrow() {
        task.wake_by_ref();
    }
}

/// Starts those that wait, a few in each turn of the worker's loop: a task of the worker.
pub async fn start_waiting(worker: Rc<Worker>) {
    loop {
        poll_fn(|cx| worker.runners.poll_waiting(cx)).await;
        for _ in 0..BEGUN_PER_TURN {
            let next = worker.runners.waiting.borrow_mut().pop_front();
            let Some(begun) = next else { break };
            start(&worker, begun);
        }
        tokio::task::yield_now().await;
    }
}

/// Serves streams until there are enough others to do that.
async fn serve_each(worker: Rc<Worker>, runner: Rc<Runner>) {
    loop {
        let begun = runner.next().await;
        let busy = Busy(&worker.runners);
        serve(begun).await;
        drop(busy);
        let mut idle = worker.runners.idle.borrow_mut();
        if idle.len() >= IDLE_MAX {
            return;
        }
        idle.push(Rc::clone(&runner));
    }
}

impl Runners {
    /// Exchanges that wait to begin.
    pub fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    fn poll_waiting(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.waiting.borrow().is_empty() {
            return Poll::Ready(());
        }
        self.starter.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Runner {
    async fn next(&self) -> Begun {
        poll_fn(|cx| match self.next.take() {
            Some(begun) => Poll::Ready(begun),
            None => {
                // A task has the same waker for all its life.
                self.task
                    .borrow_mut()
                    .get_or_insert_with(|| cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

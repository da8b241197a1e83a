//! Tasks in which the exchanges of streams run, one after another: a task and the room for all that
//! an exchange may have to remember are made once, not for each stream.
//!
//! Must not: keep more than a few idle, or anything of an exchange that is over.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::exchange::{Begun, serve};
use crate::traffic::worker::Worker;

/// Runners without a stream that a worker keeps; each has some 3 KiB.
const IDLE_MAX: usize = 1024;

/// The runners of a worker that have nothing to do; the one that was busy last is taken first.
#[derive(Debug, Default)]
pub struct Runners(RefCell<Vec<Rc<Runner>>>);

/// A task that waits for an exchange.
#[derive(Debug, Default)]
struct Runner {
    next: RefCell<Option<Begun>>,
    task: RefCell<Option<Waker>>,
}

/// Has an exchange run in a task of its own.
pub(super) fn run(worker: &Rc<Worker>, begun: Begun) {
    let idle = worker.runners.0.borrow_mut().pop();
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

/// Serves streams until there are enough others to do that.
async fn serve_each(worker: Rc<Worker>, runner: Rc<Runner>) {
    loop {
        serve(runner.next().await).await;
        let mut idle = worker.runners.0.borrow_mut();
        if idle.len() >= IDLE_MAX {
            return;
        }
        idle.push(Rc::clone(&runner));
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

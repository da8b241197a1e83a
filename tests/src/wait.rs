//! Waiting for a condition with a bound, which is the only way tests wait.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that a test waits for. Far beyond what a busy machine needs: it is
/// reached only when the test has failed.
pub const BOUND: Duration = Duration::from_secs(20);

/// Between two looks at a condition that nobody announces.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `probe` finds something.
///
/// # Panics
/// When it finds nothing within [`BOUND`]; `what` says what was waited for.
#[track_caller]
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            started.elapsed() < BOUND,
            "waited {BOUND:?} in vain: {what}"
        );
        thread::sleep(LOOK);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`BOUND`].
#[track_caller]
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}

/// A gate that a test opens once and that any number of threads wait at.
#[derive(Debug, Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Lets everybody through, from now on.
    pub fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Waits until the gate is open.
    ///
    /// # Panics
    /// When nobody opens it within [`BOUND`].
    #[track_caller]
    pub fn wait(&self) {
        let guard = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .opened
            .wait_timeout_while(guard, BOUND, |is_open| !*is_open)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(*guard, "nobody opened the gate within {BOUND:?}");
    }
}

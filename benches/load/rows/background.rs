//! A load that goes on while a row does something else, counted by phase, and the wait for that
//! something to take effect.
//!
//! Used by the rows that change a running proxy. It must not decide what a phase means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::affinity::{self, Core};
use crate::client::tally::Tally;
use crate::client::{Client, Plan};

/// A change that is not live by then has failed; a reload of some takes half a minute at best.
const LIVE_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between two probes for a change.
const PROBE_INTERVAL: Duration = Duration::from_millis(2);
/// How often the load looks whether its phase has changed.
const SLICE: Duration = Duration::from_millis(5);

/// A client that runs beside this thread and counts apart in each phase.
pub(crate) struct Background {
    thread: JoinHandle<Result<Vec<Tally>>>,
    phase: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Background {
    /// Starts a client that counts apart in each of `phases`; it begins in the first.
    pub(crate) fn start(plan: Plan, phases: usize) -> Result<Self> {
        let phase = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (watched, ended) = (Arc::clone(&phase), Arc::clone(&stop));
        let thread = thread::Builder::new().name("load".into()).spawn(move || {
            affinity::pin(Core::Client)?;
            let mut client = Client::start(plan)?;
            let mut tallies = vec![Tally::default(); phases];
            while !ended.load(Ordering::Relaxed) {
                let phase = watched.load(Ordering::Relaxed);
                client.run(SLICE)?;
                tallies[phase].append(&client.take());
            }
            Ok(tallies)
        })?;
        Ok(Self {
            thread,
            phase,
            stop,
        })
    }

    /// What is counted from now on belongs to `phase`.
    pub(crate) fn enter(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// Ends the load; a tally for each phase.
    pub(crate) fn finish(self) -> Result<Vec<Tally>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the load thread panicked"))?
    }
}

/// When a condition came to hold.
pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) -> Result<Instant> {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > LIVE_TIMEOUT {
            bail!("not live within {LIVE_TIMEOUT:?}");
        }
        thread::sleep(PROBE_INTERVAL);
    }
    Ok(Instant::now())
}

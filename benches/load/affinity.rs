//! Which core does what: the proxy has one to itself, everything that loads it shares the other.
//!
//! Used before anything is started or measured. It must not guess: on a machine without a second
//! core the figures would mean something else, so pinning fails there.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The two sides of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Core {
    /// The proxy under test, alone.
    Proxy,
    /// The client, the origin and this program.
    Client,
}

impl Core {
    fn index(self) -> usize {
        match self {
            Core::Proxy => 0,
            Core::Client => 1,
        }
    }
}

/// Pins the calling thread; threads and processes it starts inherit this.
pub(crate) fn pin(core: Core) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core.index());
    sched_setaffinity(None, &cores)
        .with_context(|| format!("pin to core {} (two cores are needed)", core.index()))
}

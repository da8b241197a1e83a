//! A proxy as the operating system sees it: started on its core, its CPU time and memory read
//! from /proc, reloaded by signal, and stopped with everything it started.
//!
//! Used by every row. It must not know one proxy from another; [`crate::rivals`] does.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::affinity::{self, Core};

/// HAProxy with 10,000 certificates needs more than twenty seconds on a quiet machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A proxy that has not ended by then after SIGTERM is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A started proxy; stopped when dropped.
pub(crate) struct Process {
    child: Child,
}

/// CPU time spent so far by a proxy and the processes it started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    /// Everything, to the nanosecond, from the scheduler.
    pub total: Duration,
    /// Of it in user mode; sampled at the timer tick, so only good as a share.
    pub user_ticks: u64,
    /// Of it in the kernel; as above.
    pub system_ticks: u64,
}

impl CpuTime {
    /// What was spent since `earlier`.
    pub(crate) fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            total: self.total.saturating_sub(earlier.total),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }

    /// The part of the time spent in user mode, 0 to 1.
    pub(crate) fn user_share(self) -> f64 {
        self.user_ticks as f64 / (self.user_ticks + self.system_ticks).max(1) as f64
    }
}

impl Process {
    /// Starts `command` on the proxy's core with its output in `log`.
    ///
    /// It goes through setpriv(1), so that the proxy is told to end even when this program is
    /// killed. Must be called on the main thread: the kernel watches the thread, not the process.
    pub(crate) fn start(
        command: &[String],
        environment: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let output = fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        affinity::pin(Core::Proxy)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .args(command)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn();
        affinity::pin(Core::Client)?;
        let child = child.with_context(|| format!("start {}", command.join(" ")))?;
        Ok(Self { child })
    }

    /// Waits until `ready` holds; fails when the process ends before.
    pub(crate) fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("not ready within {START_TIMEOUT:?}");
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Sends a signal to the process that was started.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("signal the proxy")
    }

    /// CPU time of the whole tree.
    pub(crate) fn cpu(&self) -> Result<CpuTime> {
        let mut sum = CpuTime::default();
        for pid in self.tree()? {
            // A process may end between being listed and being read.
            if let Ok(time) = cpu_of(pid) {
                sum.total += time.total;
                sum.user_ticks += time.user_ticks;
                sum.system_ticks += time.system_ticks;
            }
        }
        Ok(sum)
    }

    /// Resident bytes of the whole tree, shared pages counted once (PSS).
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in self.tree()? {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
                .with_context(|| format!("memory of process {pid}"))?;
            let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let kib = pss
                .and_then(|rest| rest.split_whitespace().next())
                .context("no Pss line")?;
            sum += kib.parse::<u64>()? * 1024;
        }
        Ok(sum)
    }

    /// The started process and all its descendants.
    fn tree(&self) -> Result<Vec<u32>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if let Ok(stat) = Stat::read(pid) {
                parents.push((pid, stat.parent));
            }
        }
        let mut tree = vec![self.child.id()];
        let mut next = 0;
        while let Some(parent) = tree.get(next).copied() {
            tree.extend(
                parents
                    .iter()
                    .filter(|(_, of)| *of == parent)
                    .map(|(pid, _)| *pid),
            );
            next += 1;
        }
        Ok(tree)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let tree = self.tree().unwrap_or_default();
        // The process may have ended already, which is what is wanted.
        let _ = self.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        for pid in tree {
            let alive = Path::new(&format!("/proc/{pid}")).exists();
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            if let (true, Some(pid)) = (alive, pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// The fields of /proc/PID/stat that are used here.
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the command in parentheses and may hold anything.
        let (_, rest) = text.rsplit_once(')').context("no command in stat")?;
        let fields = rest.split_whitespace().collect::<Vec<_>>();
        let number = |index: usize| -> Result<u64> {
            Ok(fields.get(index).context("stat is short")?.parse::<u64>()?)
        };
        Ok(Self {
            parent: u32::try_from(number(1)?)?,
            user_ticks: number(11)?,
            system_ticks: number(12)?,
        })
    }
}

fn cpu_of(pid: u32) -> Result<CpuTime> {
    let stat = Stat::read(pid)?;
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // So may a thread; what it spent since the sample before is lost, the others' is not.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let run_time = text
            .split_whitespace()
            .next()
            .context("schedstat is empty")?;
        nanos += run_time.parse::<u64>()?;
    }
    let (user_ticks, system_ticks) = (stat.user_ticks, stat.system_ticks);
    Ok(CpuTime {
        total: Duration::from_nanos(nanos),
        user_ticks,
        system_ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_accounts_of_a_process() {
        let stat = Stat::read(std::process::id()).unwrap();
        assert!(stat.parent > 0);
        let before = cpu_of(std::process::id()).unwrap();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(50) {}
        assert!(cpu_of(std::process::id()).unwrap().since(before).total > Duration::from_millis(5));
    }
}

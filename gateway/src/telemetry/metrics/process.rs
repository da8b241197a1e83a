//! What the kernel knows about the process, under the names that every Prometheus client library
//! gives it.
//!
//! Must not: be asked from a worker; it reads files.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// When the process began, for want of better when its metrics did.
#[derive(Debug)]
pub(super) struct Start(SystemTime);

impl Default for Start {
    fn default() -> Self {
        Self(SystemTime::now())
    }
}

impl Start {
    /// Unix time, seconds.
    pub(super) fn seconds(&self) -> f64 {
        let since = self.0.duration_since(UNIX_EPOCH);
        since.unwrap_or_default().as_secs_f64()
    }
}

/// Processor time used, seconds.
pub(super) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Memory in RAM, bytes; none where the kernel does not say.
pub(super) fn resident_bytes() -> Option<f64> {
    resident_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_of(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// File descriptors open; none where the kernel does not say.
pub(super) fn open_files() -> Option<f64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    // The directory itself is open while it is read.
    Some(entries.count().saturating_sub(1) as f64)
}

/// File descriptors that may be open; infinite without a limit.
pub(super) fn open_files_max() -> f64 {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(f64::INFINITY, |limit| limit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let status = "Name:\tcardea\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(resident_of(status), Some(1234.0 * 1024.0));
        assert_eq!(resident_of("Name:\tcardea\n"), None);
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000.0));
        assert!(open_files().is_some_and(|files| files >= 3.0));
        assert!(open_files_max() >= 3.0);
        assert!(cpu_seconds() > 0.0);
        assert!(Start::default().seconds() > 1.7e9);
    }
}

//! From the workers' buffers to the file: one thread writes, a bounded queue stands before it.
//!
//! Must not: make a worker wait, or lose a line without counting it.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::format::{Format, Record};
use crate::telemetry::metrics::LogCounts;

/// A worker's buffer is handed over when it is this full, bytes.
const HAND_OVER_BYTES: usize = 32 * 1024;

/// Batches waiting for the writer; the lines in them are limited by the configuration.
const BATCHES_MAX: usize = 4096;

/// How often the writer looks whether its file was moved away.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

enum Message {
    Lines(Vec<u8>, usize),
    Target(Target),
    Flush(SyncSender<()>),
}

/// The access log of the process.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    waiting: Arc<AtomicUsize>,
    waiting_max: Arc<AtomicUsize>,
    counts: Arc<LogCounts>,
}

impl AccessLog {
    /// Starts the writer; `counts` takes note of lines written and lost.
    pub fn start(target: Target, lines_max: usize, counts: Arc<LogCounts>) -> io::Result<Self> {
        let (queue, messages) = sync_channel(BATCHES_MAX);
        let log = Self {
            queue,
            waiting: Arc::default(),
            waiting_max: Arc::new(AtomicUsize::new(lines_max)),
            counts,
        };
        let mut writer = Writer {
            sink: Sink::open(target),
            waiting: Arc::clone(&log.waiting),
            counts: Arc::clone(&log.counts),
            failing: false,
        };
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run(&messages))?;
        Ok(log)
    }

    /// A worker's end of the log.
    pub fn worker(&self) -> WorkerLog {
        WorkerLog {
            log: self.clone(),
            lines: RefCell::default(),
            count: Cell::new(0),
        }
    }

    /// Changes where lines go, and how many may wait.
    pub fn configure(&self, target: Target, lines_max: usize) {
        self.waiting_max.store(lines_max, Ordering::Relaxed);
        // The writer ends with the process only.
        let _ = self.queue.send(Message::Target(target));
    }

    /// Waits until what is in the queue is written.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }

    fn hand_over(&self, lines: Vec<u8>, count: usize) {
        let waiting = self.waiting.fetch_add(count, Ordering::Relaxed);
        let fits = waiting + count <= self.waiting_max.load(Ordering::Relaxed);
        if !fits || self.queue.try_send(Message::Lines(lines, count)).is_err() {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            self.counts
                .dropped
                .fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

/// A worker's end of the access log.
#[derive(Debug)]
pub struct WorkerLog {
    log: AccessLog,
    lines: RefCell<Vec<u8>>,
    count: Cell<usize>,
}

impl WorkerLog {
    /// Writes a line into the worker's buffer.
    pub fn write(&self, format: &Format, record: &Record<'_>) {
        let mut lines = self.lines.borrow_mut();
        format.write(record, &mut lines);
        self.count.set(self.count.get() + 1);
        if lines.len() >= HAND_OVER_BYTES {
            self.hand_over(&mut lines);
        }
    }

    /// Hands over what is in the buffer.
    pub fn flush(&self) {
        let mut lines = self.lines.borrow_mut();
        if !lines.is_empty() {
            self.hand_over(&mut lines);
        }
    }

    fn hand_over(&self, lines: &mut Vec<u8>) {
        let full = std::mem::replace(lines, Vec::with_capacity(HAND_OVER_BYTES + 1024));
        self.log.hand_over(full, self.count.replace(0));
    }
}

struct Writer {
    sink: Sink,
    waiting: Arc<AtomicUsize>,
    counts: Arc<LogCounts>,
    failing: bool,
}

impl Writer {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(LOOK_EVERY) {
                Ok(Message::Lines(lines, count)) => self.write(&lines, count),
                Ok(Message::Target(target)) => self.sink.change(target),
                // Whoever waits may have lost patience.
                Ok(Message::Flush(done)) => drop(done.try_send(())),
                Err(RecvTimeoutError::Timeout) => self.sink.reopen_if_moved(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, lines: &[u8], count: usize) {
        let written = self.sink.write(lines);
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        match written {
            Ok(()) => {
                self.failing = false;
                self.counts.lines.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) => {
                self.counts
                    .dropped
                    .fetch_add(count as u64, Ordering::Relaxed);
                self.counts.errors.fetch_add(1, Ordering::Relaxed);
                // Once per outage: the counter tells the rest.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, target = ?self.sink.target, "access_log_not_written");
                }
            }
        }
    }
}

struct Sink {
    target: Target,
    file: Option<File>,
}

impl Sink {
    fn open(target: Target) -> Self {
        let mut sink = Self { target, file: None };
        sink.reopen();
        sink
    }

    fn change(&mut self, target: Target) {
        if self.target != target {
            *self = Self::open(target);
        }
    }

    fn reopen(&mut self) {
        if let Target::File(path) = &self.target {
            self.file = match OpenOptions::new().create(true).append(true).open(path) {
                Ok(file) => Some(file),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "access_log_not_opened");
                    None
                }
            };
        }
    }

    /// Log rotation moves the file away and expects a new one under the old name.
    fn reopen_if_moved(&mut self) {
        if let Target::File(path) = &self.target
            && !self.file.as_ref().is_some_and(|file| is_at(file, path))
        {
            self.reopen();
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match (&self.target, &mut self.file) {
            (Target::Stdout, _) => io::stdout().lock().write_all(lines),
            (Target::Stderr, _) => io::stderr().lock().write_all(lines),
            (Target::File(_), Some(file)) => file.write_all(lines),
            (Target::File(_), None) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else {
        return false;
    };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn lines_reach_the_file_also_after_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::start(Target::File(path.clone()), 100, Arc::default()).unwrap();
        log.hand_over(b"one\n".to_vec(), 1);
        log.flush(PATIENCE);
        assert_eq!(read(&path), "one\n");
        let moved = directory.path().join("access.log.1");
        std::fs::rename(&path, &moved).unwrap();
        for _ in 0..200 {
            if path.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        log.hand_over(b"two\n".to_vec(), 1);
        log.flush(PATIENCE);
        assert_eq!(
            (read(&moved), read(&path)),
            ("one\n".into(), "two\n".into())
        );
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let directory = tempfile::tempdir().unwrap();
        // A pipe that nobody reads: the writer stalls as on a dead disk.
        let path = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        let held = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let counts = Arc::new(LogCounts::default());
        let log = AccessLog::start(Target::File(path), 10, Arc::clone(&counts)).unwrap();
        for _ in 0..100 {
            log.hand_over(vec![b'x'; 64 * 1024], 1);
        }
        assert!(counts.dropped.load(Ordering::Relaxed) >= 80, "{counts:?}");
        drop(held);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let counts = Arc::new(LogCounts::default());
        let target = Target::File("/no/such/directory/access.log".into());
        let log = AccessLog::start(target, 10, Arc::clone(&counts)).unwrap();
        log.hand_over(b"lost\n".to_vec(), 1);
        log.flush(PATIENCE);
        assert_eq!(counts.dropped.load(Ordering::Relaxed), 1);
    }
}

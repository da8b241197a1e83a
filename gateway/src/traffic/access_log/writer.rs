//! From the workers' buffers to the target: one thread writes, a bounded queue stands before it.
//!
//! Must not: make a worker wait, or lose a line without counting it.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use super::format::Format;
use super::record::Record;
use super::sink::{Failed, LOOK_EVERY, Sink, Target};
use super::time::Clock;
use crate::telemetry::metrics::LogCounts;

/// A worker's buffer is handed over when it is this full, bytes. Each time wakes the writer, which
/// costs both as much as some ten lines; what is not full is handed over by the clock.
const HAND_OVER_BYTES: usize = 128 * 1024;

/// What a buffer has beyond that, so that the last line seldom makes it grow.
const LINE_BYTES: usize = 2 * 1024;

/// Bytes that may wait for each line that may: the mean length that the queue is meant for. Lines
/// that are all as long as a client can make them fill it sooner.
const WAITING_BYTES_PER_LINE: usize = 1024;

/// The least number of bytes that may wait, whatever the number of lines.
const WAITING_BYTES_MIN: usize = 1024 * 1024;

/// How often a loss is told in the diagnostics log.
const TELL_EVERY: Duration = Duration::from_secs(10);

enum Message {
    Lines { bytes: Vec<u8>, lines: usize },
    Target(Target),
    Reopen,
    Flush(SyncSender<()>),
}

/// The access log of the process. Its writer lives as long as a handle or a worker's end does.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Without a bound of its own: `waiting` bounds it, and what control sends must not wait.
    queue: Sender<Message>,
    waiting: Arc<Waiting>,
    counts: Arc<LogCounts>,
}

/// What is in the queue.
#[derive(Debug)]
struct Waiting {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    lines_max: AtomicUsize,
}

impl Waiting {
    /// Takes a place for lines; false if there is none. However low the limit, an empty queue
    /// takes what it is given.
    fn enter(&self, lines: usize, bytes: usize) -> bool {
        let lines_max = self.lines_max.load(Ordering::Relaxed);
        let bytes_max = WAITING_BYTES_MIN.max(lines_max.saturating_mul(WAITING_BYTES_PER_LINE));
        let before = self.lines.fetch_add(lines, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + lines <= lines_max && bytes_before + bytes <= bytes_max;
        if !fits && before > 0 {
            self.leave(lines, bytes);
            return false;
        }
        true
    }

    fn leave(&self, lines: usize, bytes: usize) {
        self.lines.fetch_sub(lines, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl AccessLog {
    /// Starts the writer. A target that cannot be opened is told in the diagnostics log and tried
    /// again.
    ///
    /// # Errors
    ///
    /// When the system refuses a thread.
    pub fn start(target: Target, lines_max: usize, counts: Arc<LogCounts>) -> io::Result<Self> {
        let (queue, messages) = channel();
        let waiting = Arc::new(Waiting {
            lines: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            lines_max: AtomicUsize::new(lines_max),
        });
        let log = Self {
            queue,
            waiting: Arc::clone(&waiting),
            counts: Arc::clone(&counts),
        };
        let run = move || Writer::new(target, waiting, counts).run(&messages);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(run)?;
        Ok(log)
    }

    /// A worker's end of the log.
    pub fn worker(&self) -> WorkerLog {
        WorkerLog {
            log: self.clone(),
            buffer: RefCell::default(),
        }
    }

    /// Changes where lines go, and how many may wait. Lines in the queue still go where they were
    /// to go.
    pub fn configure(&self, target: Target, lines_max: usize) {
        self.waiting.lines_max.store(lines_max, Ordering::Relaxed);
        self.send(Message::Target(target));
    }

    /// Opens the file anew, after log rotation. The writer also finds out by itself, a little
    /// later.
    pub fn reopen(&self) {
        self.send(Message::Reopen);
    }

    /// Waits until what is in the queue was dealt with; false if patience ended first.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, written) = sync_channel(1);
        self.send(Message::Flush(done)) && written.recv_timeout(patience).is_ok()
    }

    /// Hands lines over, or counts them as lost.
    fn hand_over(&self, bytes: Vec<u8>, lines: usize) {
        let size = bytes.len();
        if !self.waiting.enter(lines, size) {
            self.lose(lines);
        } else if !self.send(Message::Lines { bytes, lines }) {
            self.waiting.leave(lines, size);
            self.lose(lines);
        }
    }

    fn lose(&self, lines: usize) {
        let dropped = &self.counts.dropped;
        dropped.fetch_add(lines as u64, Ordering::Relaxed);
    }

    /// False if the writer is gone, which it is only if it panicked.
    fn send(&self, message: Message) -> bool {
        self.queue.send(message).is_ok()
    }
}

/// A worker's end of the access log.
#[derive(Debug)]
pub struct WorkerLog {
    log: AccessLog,
    buffer: RefCell<Buffer>,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: usize,
    clock: Clock,
}

impl WorkerLog {
    /// Writes a line into the worker's buffer.
    pub fn write(&self, format: &Format, record: &Record<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        let Buffer {
            bytes,
            lines,
            clock,
        } = &mut *buffer;
        if bytes.capacity() == 0 {
            bytes.reserve(HAND_OVER_BYTES + LINE_BYTES);
        }
        format.write(record, clock, bytes);
        *lines += 1;
        if bytes.len() >= HAND_OVER_BYTES {
            let full = std::mem::take(bytes);
            self.log.hand_over(full, std::mem::take(lines));
        }
    }

    /// Hands over what is in the buffer. To be called a few times a second, and before the worker
    /// ends.
    pub fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        buffer.clock.synchronise();
        if buffer.bytes.is_empty() {
            return;
        }
        // A copy of its own size: what waits for a stalled target would else hold whole buffers.
        let lines = buffer.bytes.as_slice().to_vec();
        buffer.bytes.clear();
        self.log.hand_over(lines, std::mem::take(&mut buffer.lines));
    }
}

/// The thread that writes.
struct Writer {
    sink: Sink,
    waiting: Arc<Waiting>,
    counts: Arc<LogCounts>,
    /// When a failure was told last; one that goes on is not told again at once.
    failure_told: Option<Instant>,
    /// When a loss was told last, and how many lines had been lost then.
    loss_told: Option<Instant>,
    dropped_told: u64,
}

impl Writer {
    fn new(target: Target, waiting: Arc<Waiting>, counts: Arc<LogCounts>) -> Self {
        let (sink, opened) = Sink::new(target);
        let mut writer = Self {
            sink,
            waiting,
            counts,
            failure_told: None,
            loss_told: None,
            dropped_told: 0,
        };
        writer.tell_failure(opened.err());
        writer
    }

    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let message = if self.sink.wants_looks() {
                messages.recv_timeout(LOOK_EVERY)
            } else {
                messages.recv().map_err(RecvTimeoutError::from)
            };
            let failure = match message {
                Ok(Message::Lines { bytes, lines }) => {
                    // Looked for under load, too: there is always another message then.
                    let failure = self.sink.look().err();
                    self.write(&bytes, lines);
                    failure
                }
                Ok(Message::Target(target)) => self.turn_to(target),
                Ok(Message::Reopen) => self.sink.reopen().err(),
                Ok(Message::Flush(done)) => {
                    // Whoever waits may have lost patience.
                    let _ = done.try_send(());
                    None
                }
                Err(RecvTimeoutError::Timeout) => self.sink.look().err(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.tell_failure(failure);
            self.tell_loss();
        }
    }

    fn turn_to(&mut self, target: Target) -> Option<io::Error> {
        if self.sink.target == target {
            return None;
        }
        let (sink, opened) = Sink::new(target);
        self.sink = sink;
        opened.err()
    }

    fn write(&mut self, bytes: &[u8], lines: usize) {
        let written = self.sink.write(bytes);
        self.waiting.leave(lines, bytes.len());
        let lost = match written {
            Ok(()) => 0,
            Err(Failed { written, error }) => {
                self.tell_failure(Some(error));
                let kept = bytes.get(..written).unwrap_or_default();
                lines.saturating_sub(kept.iter().filter(|byte| **byte == b'\n').count())
            }
        };
        let LogCounts {
            lines: kept,
            dropped,
            ..
        } = &*self.counts;
        kept.fetch_add((lines - lost) as u64, Ordering::Relaxed);
        dropped.fetch_add(lost as u64, Ordering::Relaxed);
    }

    fn tell_failure(&mut self, failure: Option<io::Error>) {
        let Some(error) = failure else { return };
        self.counts.errors.fetch_add(1, Ordering::Relaxed);
        if is_due(&mut self.failure_told) {
            tracing::error!(%error, target = %self.sink.target, "access_log_not_written");
        }
    }

    fn tell_loss(&mut self) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        if dropped > self.dropped_told && is_due(&mut self.loss_told) {
            let lines = dropped - self.dropped_told;
            self.dropped_told = dropped;
            tracing::warn!(lines, target = %self.sink.target, "access_log_lines_dropped");
        }
    }
}

/// Whether something may be told that must not be told more than once in [`TELL_EVERY`].
fn is_due(told: &mut Option<Instant>) -> bool {
    let is_due = told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
    if is_due {
        *told = Some(Instant::now());
    }
    is_due
}

//! Standard error as the diagnostics log writes to it: a write waits for room in the pipe, and the
//! wait can be given up, so that a reader who went to sleep cannot keep the process from ending.
//!
//! Must not: take the lock of `std::io::stderr`, which whoever prints there would wait for.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How often a wait looks whether it was given up.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The most that a pipe with room takes without making its writer wait, bytes (pipe(7)).
const CHUNK_BYTES_MAX: usize = 4096;

/// What the writer and the end of the process know of the reader.
#[derive(Debug, Clone, Default)]
pub(super) struct Reader(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    is_awaited: AtomicBool,
    is_given_up: AtomicBool,
}

impl Reader {
    /// Waits until the reader took what stood before it; who has not by then gets no more.
    pub(super) fn await_or_give_up(&self, patience: Duration) {
        let started = Instant::now();
        while self.0.is_awaited.load(Ordering::Acquire) {
            if started.elapsed() >= patience {
                self.0.is_given_up.store(true, Ordering::Release);
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A file, usually standard error, and what is known of its reader.
#[derive(Debug)]
pub(super) struct Patient {
    file: File,
    reader: Reader,
}

impl Patient {
    /// Writes to standard error.
    ///
    /// # Errors
    ///
    /// When it is closed.
    pub(super) fn stderr(reader: Reader) -> io::Result<Self> {
        let file = io::stderr().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, reader })
    }

    /// Waits for room; false if the wait was given up.
    fn has_room(&self) -> io::Result<bool> {
        let flags = &self.reader.0;
        while !flags.is_given_up.load(Ordering::Acquire) {
            let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
            let look = Timespec::try_from(LOOK_EVERY).ok();
            match poll(&mut fds, look.as_ref()) {
                Ok(0) => flags.is_awaited.store(true, Ordering::Release),
                Ok(_) => {
                    flags.is_awaited.store(false, Ordering::Release);
                    return Ok(true);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.has_room()? {
            return Ok(bytes.len());
        }
        let chunk = bytes.get(..CHUNK_BYTES_MAX).unwrap_or(bytes);
        self.file.write(chunk)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn all_of_a_long_line_arrives() {
        let (mut reading, writing) = io::pipe().unwrap();
        let line = "x".repeat(300_000);
        let expected = line.clone();
        let written = std::thread::spawn(move || {
            let file = File::from(std::os::fd::OwnedFd::from(writing));
            let reader = Reader::default();
            Patient { file, reader }.write_all(line.as_bytes())
        });
        let mut text = String::new();
        reading.read_to_string(&mut text).unwrap();
        written.join().unwrap().unwrap();
        assert!(text == expected, "{} bytes", text.len());
    }

    #[test]
    fn a_reader_who_sleeps_is_given_up() {
        let (reading, writing) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writing));
        let reader = Reader::default();
        let shared = reader.clone();
        let written = std::thread::spawn(move || {
            let mut patient = Patient { file, reader };
            patient.write_all(&vec![b'x'; 300_000])
        });
        while !shared.0.is_awaited.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        shared.await_or_give_up(Duration::from_millis(1));
        written.join().unwrap().unwrap();
        drop(reading);
    }

    #[test]
    fn a_reader_who_left_is_an_error_and_no_wait() {
        let (reading, writing) = io::pipe().unwrap();
        drop(reading);
        let file = File::from(std::os::fd::OwnedFd::from(writing));
        let reader = Reader::default();
        let error = Patient { file, reader }.write_all(b"line\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

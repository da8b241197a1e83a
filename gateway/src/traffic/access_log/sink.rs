//! Where lines go: standard output, standard error, or a file that log rotation may move away. It
//! belongs to the writer's thread, the only place where writing may wait.
//!
//! Must not: put two half lines together, or give up for good: whatever fails is tried again.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

/// How often a file is looked for that was moved away or could not be opened.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A log tells who asked for what; that is not for everybody on the machine.
const FILE_MODE: u32 = 0o640;

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

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => formatter.write_str("standard output"),
            Self::Stderr => formatter.write_str("standard error"),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

impl Target {
    /// Whether lines could be written there now; a file is made if it is not there. For the control
    /// path, which would rather refuse a configuration than lose its log.
    pub fn check(&self) -> io::Result<()> {
        let Self::File(path) = self else {
            return Ok(());
        };
        match std::fs::metadata(path) {
            // Opening a pipe waits for a reader.
            Ok(found) if !found.is_file() && !found.is_dir() => Ok(()),
            _ => open_file(path).map(drop),
        }
    }

    fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
            Self::Stderr => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
            Self::File(path) => open_file(path),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(FILE_MODE).open(path)
}

/// An open target.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) target: Target,
    file: Option<File>,
    looked_at: Instant,
    /// Whether what was written last is the beginning of a line.
    is_torn: bool,
}

/// A failure, and how much was written before it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) written: usize,
    pub(super) error: io::Error,
}

impl Sink {
    pub(super) fn new(target: Target) -> (Self, io::Result<()>) {
        let mut sink = Self {
            target,
            file: None,
            looked_at: Instant::now(),
            is_torn: false,
        };
        let opened = sink.reopen();
        (sink, opened)
    }

    /// Opens the target anew. If that fails, what was open stays open.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.looked_at = Instant::now();
        self.file = Some(self.target.open()?);
        self.is_torn = false;
        Ok(())
    }

    /// Whether somebody should look from time to time if the file is still there.
    pub(super) fn wants_looks(&self) -> bool {
        matches!(self.target, Target::File(_)) || self.file.is_none()
    }

    /// Opens the file anew if it was moved away or is not open, at most once in [`LOOK_EVERY`].
    pub(super) fn look(&mut self) -> io::Result<()> {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked_at = Instant::now();
        let is_there = match (&self.target, &self.file) {
            (_, None) => false,
            (Target::File(path), Some(file)) => is_at(file, path),
            (Target::Stdout | Target::Stderr, Some(_)) => true,
        };
        if is_there { Ok(()) } else { self.reopen() }
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        let Some(file) = &mut self.file else {
            let error = ErrorKind::NotFound.into();
            return Err(Failed { written: 0, error });
        };
        if self.is_torn {
            write_all(file, b"\n").map_err(|Failed { error, .. }| Failed { written: 0, error })?;
            self.is_torn = false;
        }
        write_all(file, lines).inspect_err(|failed| {
            let last = failed.written.checked_sub(1).and_then(|at| lines.get(at));
            self.is_torn = last.is_some_and(|byte| *byte != b'\n');
        })
    }
}

/// Writes everything, and waits where the target is a pipe that does not.
fn write_all(file: &mut File, bytes: &[u8]) -> Result<(), Failed> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let error = match file.write(rest) {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(more) => {
                written += more;
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Whoever shares a terminal or a pipe with us may have made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => match wait(file) {
                Ok(()) => continue,
                Err(error) => error,
            },
            Err(error) => error,
        };
        return Err(Failed { written, error });
    }
    Ok(())
}

fn wait(file: &File) -> io::Result<()> {
    match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
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

    #[test]
    fn a_target_is_checked_before_it_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let within = |name: &str| Target::File(directory.path().join(name));
        assert!(within("access.log").check().is_ok());
        assert!(directory.path().join("access.log").exists());
        assert!(within("missing/access.log").check().is_err());
        assert!(Target::File(directory.path().into()).check().is_err());
        assert!(Target::Stdout.check().is_ok());
        rustix::fs::mkfifoat(rustix::fs::CWD, directory.path().join("pipe"), 0o600.into()).unwrap();
        assert!(
            within("pipe").check().is_ok(),
            "it does not wait for a reader"
        );
    }

    #[test]
    fn half_a_line_is_ended_before_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let (mut sink, opened) = Sink::new(Target::File(path.clone()));
        opened.unwrap();
        sink.file.as_mut().unwrap().write_all(b"half").unwrap();
        sink.is_torn = true;
        sink.write(b"whole\n").unwrap();
        sink.write(b"next\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "half\nwhole\nnext\n");
    }

    #[test]
    fn a_full_device_says_how_much_it_took() {
        let full = Target::File("/dev/full".into());
        let (mut sink, opened) = Sink::new(full);
        opened.unwrap();
        let failed = sink.write(b"lost\n").unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::StorageFull);
        assert_eq!(failed.written, 0);
        assert!(!sink.is_torn);
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut file = File::from(std::os::fd::OwnedFd::from(writer));
        let reading = std::thread::spawn(move || {
            let mut read = Vec::new();
            io::Read::read_to_end(&mut reader, &mut read).unwrap();
            read.len()
        });
        write_all(&mut file, &vec![b'x'; 1 << 20]).unwrap();
        drop(file);
        assert_eq!(reading.join().unwrap(), 1 << 20);
    }
}

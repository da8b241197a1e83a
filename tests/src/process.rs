//! Child processes: started with what they print on record, signalled by id, never left behind.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{self, BOUND};

/// How long a process that a test no longer needs may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(1);

/// A process under way. It ends when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// What it printed.
    pub stdout: Printed,
    /// What it complained about.
    pub stderr: Printed,
}

/// What a process has printed so far.
#[derive(Debug, Clone, Default)]
pub struct Printed(Arc<(Mutex<String>, Condvar)>);

impl Printed {
    /// All of it.
    pub fn text(&self) -> String {
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Its lines.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// Waits until `find` finds something in what was printed.
    ///
    /// # Panics
    /// When it finds nothing within the bound.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let (text, changed) = &*self.0;
        let started = Instant::now();
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&text) {
                return found;
            }
            assert!(
                started.elapsed() < BOUND,
                "waited in vain for {what}; printed:\n{text}"
            );
            let left = BOUND.saturating_sub(started.elapsed());
            text = changed
                .wait_timeout(text, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for a line that contains `part`, and returns it.
    #[track_caller]
    pub fn wait_for_line(&self, part: &str) -> String {
        self.wait_for(part, |text| {
            text.lines()
                .find(|line| line.contains(part))
                .map(str::to_owned)
        })
    }

    fn record(&self, from: impl Read + Send + 'static) {
        let printed = self.clone();
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            // A pipe that breaks has no more lines either.
            while from
                .read_until(b'\n', &mut line)
                .is_ok_and(|count| count > 0)
            {
                let (text, changed) = &*printed.0;
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&line));
                changed.notify_all();
                line.clear();
            }
        });
    }
}

impl Process {
    /// Starts a command.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        Self::start_complaining_to(command, Stdio::piped())
    }

    /// As `start`, with a standard error of the caller's; only a pipe of its own is recorded.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn start_complaining_to(command: &mut Command, stderr: impl Into<Stdio>) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let (stdout, stderr) = (Printed::default(), Printed::default());
        stdout.record(child.stdout.take().expect("a pipe"));
        if let Some(pipe) = child.stderr.take() {
            stderr.record(pipe);
        }
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signal a child");
    }

    /// Its exit status, if it has ended.
    #[track_caller]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not within the bound.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait::until("the process ends", || self.ended())
    }

    /// The memory it holds, in bytes (`VmRSS`).
    ///
    /// # Panics
    /// If it has ended.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the status of a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes
            .and_then(|text| text.parse::<u64>().ok())
            .expect("VmRSS in kB")
            * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Either may find that the process has just ended, which is what is wanted.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let started = Instant::now();
        while started.elapsed() < FAREWELL && !thread::panicking() {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command that ran to its end left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started or does not end within the bound.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    run_on(command, Stdio::null())
}

/// As `run`, with something to read.
///
/// # Panics
/// If it cannot be started or does not end within the bound.
#[track_caller]
pub fn run_on(command: &mut Command, input: impl Into<Stdio>) -> Finished {
    let child = command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut stderr = child.stderr.take().expect("a pipe");
    let reading = thread::spawn(move || {
        let mut text = Vec::new();
        // What a broken pipe did not deliver, the test misses in the text.
        let _ = stderr.read_to_end(&mut text);
        text
    });
    let printing = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stdout.read_to_end(&mut text);
        text
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            break status;
        }
        if started.elapsed() > 3 * BOUND {
            let _ = child.kill();
            panic!("{command:?} did not end");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let text = |reading: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reading.join().expect("a thread that only reads")).into_owned()
    };
    Finished {
        code: status.code(),
        stdout: text(printing),
        stderr: text(reading),
    }
}

/// A command with its arguments.
pub fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

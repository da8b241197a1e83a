//! The diagnostics log: structured fields with stable names, on standard error, its level
//! changeable at run time. A bounded queue and a thread stand between whoever logs and whoever
//! reads; what finds the queue full is dropped and counted.
//!
//! Must not: carry secrets, bodies, or lines that a client can multiply at `info`, or make the
//! process wait for the reader of standard error.

mod stderr;

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardea_config::model::{self, DiagnosticsLog, LogDirectives, LogFormat};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

use stderr::{Patient, Reader};

/// What the modules of our own packages begin with.
const OURS: &str = "cardea";

/// The most that libraries say unless they are named: from `info` on they tell their own life, and
/// an operator wants to read ours.
const LIBRARIES_MAX: LevelFilter = LevelFilter::WARN;

/// How long a reader has, when the process ends, to take up what stands before it.
const READER_PATIENCE: Duration = Duration::from_secs(1);

/// Why the log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Standard error is closed.
    #[error("standard error cannot be written to")]
    Stderr(#[source] io::Error),
    /// There is one already.
    #[error("there is a log already")]
    Second(#[source] TryInitError),
}

/// The running log.
#[derive(Debug, Clone)]
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    directives: Arc<Mutex<LogDirectives>>,
    dropped: ErrorCounter,
}

/// Writes out what waits in the queue when it is dropped, which is the last act of the process.
#[derive(Debug)]
#[must_use = "the log ends with it"]
pub struct Flush {
    reader: Reader,
    /// Dropped after [`Drop::drop`] of this ran: waits for the writer, but not for ever.
    _guard: WorkerGuard,
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.reader.await_or_give_up(READER_PATIENCE);
    }
}

/// Starts the log. It takes panics too: the hook of the standard library would wait for the reader.
///
/// # Errors
///
/// When standard error is closed, or there is a log already.
pub fn start(settings: &DiagnosticsLog) -> Result<(Log, Flush), StartError> {
    let reader = Reader::default();
    let stderr = Patient::stderr(reader.clone()).map_err(StartError::Stderr)?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(usize::from(settings.queue_lines_max.max(1)))
        .lossy(true)
        .thread_name("diagnostics")
        .finish(stderr);
    let dropped = writer.error_counter();
    let (filter, handle) = reload::Layer::new(targets(&settings.level));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(writer);
    let started = match settings.format {
        LogFormat::Text => registry.with(layer.with_target(false)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    started.map_err(StartError::Second)?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!(thread = thread.name(), %panic, "panicked");
    }));
    let log = Log {
        filter: handle,
        directives: Arc::new(Mutex::new(settings.level.clone())),
        dropped,
    };
    let flush = Flush {
        reader,
        _guard: guard,
    };
    Ok((log, flush))
}

impl Log {
    /// Changes what is written.
    pub fn set(&self, directives: &LogDirectives) {
        let mut in_force = self
            .directives
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Fails only if the subscriber is gone, and it lives as long as the process.
        if self.filter.reload(targets(directives)).is_ok() {
            in_force.clone_from(directives);
        }
    }

    /// What is written now.
    pub fn directives(&self) -> LogDirectives {
        let in_force = self
            .directives
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        in_force.clone()
    }

    /// Counts the lines that found the queue full.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

fn targets(directives: &LogDirectives) -> Targets {
    let ours = level(directives.level);
    let modules = directives.modules.iter();
    Targets::new()
        .with_default(ours.min(LIBRARIES_MAX))
        .with_target(OURS, ours)
        .with_targets(modules.map(|(module, it)| (module.to_string(), level(*it))))
}

fn level(level: model::LogLevel) -> LevelFilter {
    match level {
        model::LogLevel::Off => LevelFilter::OFF,
        model::LogLevel::Error => LevelFilter::ERROR,
        model::LogLevel::Warn => LevelFilter::WARN,
        model::LogLevel::Info => LevelFilter::INFO,
        model::LogLevel::Debug => LevelFilter::DEBUG,
        model::LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_hold_for_us_and_by_module() {
        let check = |directives: &str, target: &str, most: Option<Level>| {
            let targets = targets(&directives.parse().unwrap());
            let mut levels = [
                Level::TRACE,
                Level::DEBUG,
                Level::INFO,
                Level::WARN,
                Level::ERROR,
            ]
            .into_iter();
            let found = levels.find(|level| targets.would_enable(target, level));
            assert_eq!(found, most, "{directives}: {target}");
        };
        check("info", "cardea_gateway::server", Some(Level::INFO));
        check("info", "rustls::client", Some(Level::WARN));
        check("debug", "cardea_certs", Some(Level::DEBUG));
        check("debug", "hyper::proto", Some(Level::WARN));
        check("debug,hyper=debug", "hyper::proto", Some(Level::DEBUG));
        check("error", "hyper::proto", Some(Level::ERROR));
        check("off", "cardea_gateway", None);
        let control = "cardea_gateway::control";
        check("cardea_gateway::control=trace", control, Some(Level::TRACE));
        check(
            "cardea_gateway::control=trace",
            "cardea_gateway",
            Some(Level::INFO),
        );
        check("cardea_gateway::control=off", control, None);
    }
}

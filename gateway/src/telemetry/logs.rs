//! The diagnostics log: structured fields with stable names, on standard error, its level
//! changeable at run time.
//!
//! Must not: carry secrets, bodies, or lines that a client can multiply at `info`.

use std::error::Error;
use std::fmt::Write as _;

use cardea_config::model::{DiagnosticsLog, LogFormat};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Changes the level of the running log.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// A level that the log does not know.
#[derive(Debug, thiserror::Error)]
#[error("`{directives}` is no log level; write `info`, or `info,cardea_gateway::control=debug`")]
pub struct LogLevelError {
    directives: String,
}

/// Starts the log.
pub fn start(settings: &DiagnosticsLog) -> Result<LogLevel, TryInitError> {
    let filter = filter(&settings.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    match settings.format {
        LogFormat::Text => {
            registry
                .with(fmt::layer().with_writer(std::io::stderr).with_target(false))
                .try_init()?;
        }
        LogFormat::Json => {
            let layer = fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(std::io::stderr);
            registry.with(layer).try_init()?;
        }
    }
    Ok(LogLevel(handle))
}

impl LogLevel {
    /// Sets the level, or directives by module.
    pub fn set(&self, directives: &str) -> Result<(), LogLevelError> {
        let filter = filter(directives)?;
        self.0.reload(filter).map_err(|_| LogLevelError {
            directives: directives.to_owned(),
        })
    }

    /// The level in force.
    pub fn current(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }
}

fn filter(directives: &str) -> Result<EnvFilter, LogLevelError> {
    // pingora tells its own life at `info`; ours is what an operator wants to read.
    let quiet = if directives.contains("pingora") {
        ""
    } else {
        "pingora_core=warn,"
    };
    EnvFilter::try_new(format!("{quiet}{directives}")).map_err(|_| LogLevelError {
        directives: directives.to_owned(),
    })
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

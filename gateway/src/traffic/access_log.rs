//! The access log: one line per exchange, written into the worker's own buffer and handed to one
//! writer thread. A full queue drops lines and counts them; traffic never waits for a disk.
//!
//! Must not: let anything a client sent break out of its field or its line.

mod format;
mod time;
mod writer;

pub use format::{Format, FormatError, Record};
pub use writer::{AccessLog, Target, WorkerLog};

pub use time::http_date;

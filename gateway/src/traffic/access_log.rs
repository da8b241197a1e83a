//! The access log: one line per exchange, written into the worker's own buffer and handed to one
//! writer thread. A full queue drops lines and counts them; traffic never waits for a disk.
//!
//! Must not: let anything a client sent break out of its field or its line.

mod escape;
mod field;
mod format;
mod record;
mod sink;
mod time;
mod writer;

pub use field::Field;
pub use format::{Format, FormatError};
pub use record::{Record, StreamFacts};
pub use sink::Target;
pub use time::http_date;
pub use writer::{AccessLog, WorkerLog};

#[cfg(test)]
mod tests;

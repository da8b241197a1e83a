//! The configuration document: its model, how it is read from files, and what is wrong with it.
//! This is the beginning of the life of a configuration; the gateway compiles what comes out.
//!
//! Must not: know the gateway, open a socket, or execute anything a document says.

pub mod source;
pub mod watch;

pub mod model;
pub mod origin;
pub mod policy;

pub mod diagnostic;
pub mod validate;

pub mod diff;
pub mod init;
pub mod schema;

mod decode;
mod yaml;

pub use source::{Loaded, Refused, load, parse};

#[cfg(fuzzing)]
pub use yaml::outline::compare_readers;

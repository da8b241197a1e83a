//! The life of a configuration.

pub mod endpoints;

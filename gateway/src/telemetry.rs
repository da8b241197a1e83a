//! What the gateway tells about itself: counters, and the diagnostics log.
//!
//! Must not: slow traffic down. A worker counts in cells of its own and never waits for whoever
//! reads them.

pub mod logs;
pub mod metrics;

//! What the gateway tells about itself: metrics and the diagnostics log.
//!
//! Must not: carry a label that a client chooses.

pub mod logs;
pub mod metrics;

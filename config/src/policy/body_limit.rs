//! Settings of `body_limit`.
//!
//! Must not: have a default that buffers or refuses: without the policy there is no limit.

use crate::model::{ByteSize, Switch};

/// The largest request body, or `off`.
pub type BodyLimit = Switch<ByteSize>;

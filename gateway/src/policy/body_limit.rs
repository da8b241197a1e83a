//! The largest request body a route takes. A declared length is refused before anything is read;
//! a body of unknown length is counted as it streams and cut off at the limit.
//!
//! Must not: buffer a body to measure it.

use super::Verdict;
use crate::traffic::exchange::Exchange;
use crate::traffic::respond::{Reason, Reply, Response};
use cardea_http1::Framing;

/// The compiled policy.
#[derive(Debug)]
pub struct BodyLimit {
    bytes_max: Option<u64>,
}

impl BodyLimit {
    /// Compiles the most specific level's setting; `None` switches the limit off.
    pub fn new(bytes_max: Option<u64>) -> Self {
        Self { bytes_max }
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        self.bytes_max.map_or("off".into(), |bytes| format!("{bytes} bytes"))
    }

    /// Refuses a declared length beyond the limit, and has other bodies counted.
    pub fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
        exchange.body_bytes_max = self.bytes_max;
        match (exchange.request.framing, self.bytes_max) {
            (Framing::Length(length), Some(max)) if length > max => Err(Reply::with_detail(
                Reason::BodyTooLarge,
                format!("The body has {length} bytes; this route takes at most {max}."),
            )),
            _ => Ok(()),
        }
    }

    /// Nothing to do.
    pub fn on_response(&self, _: &Exchange<'_>, _: &mut Response) {}
}

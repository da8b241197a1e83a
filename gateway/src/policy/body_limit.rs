//! The largest request body a route takes. A declared length is refused before anything is read;
//! a body of unknown length is counted as it streams and cut off at the limit.
//!
//! Must not: buffer a body to measure it.

use super::{Levels, Verdict};
use crate::traffic::exchange::Exchange;
use crate::traffic::respond::{Reason, Reply, Response};
use cardea_http1::Framing;

/// The compiled policy.
#[derive(Debug)]
pub struct BodyLimit {
    bytes_max: Option<u64>,
}

impl BodyLimit {
    /// The most specific level's; `off` there takes away what an outer level set.
    pub fn compile(levels: &mut Levels<'_>) -> Option<Self> {
        let limit = levels.most_specific(|level| level.body_limit.as_ref())?;
        Some(Self {
            bytes_max: limit.on().map(|size| size.0),
        })
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        self.bytes_max
            .map_or("off".into(), |bytes| format!("{bytes} bytes"))
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

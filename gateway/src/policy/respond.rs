//! A fixed answer: the route needs no upstream.
//!
//! Must not: interpret its body. There are no templates to inject into.

use std::sync::Arc;

use cardea_config::policy::Respond as Settings;

use super::{Levels, Verdict};
use crate::traffic::exchange::Exchange;
use crate::traffic::headers::HeaderName;
use crate::traffic::respond::{Page, Reason, Reply, Response};

/// The compiled policy.
#[derive(Debug)]
pub struct Respond {
    status: u16,
    body: Arc<[u8]>,
    content_type: Box<str>,
    headers: Box<[(HeaderName, Box<[u8]>)]>,
}

impl Respond {
    /// The most specific level's.
    pub fn compile(levels: &mut Levels<'_>) -> Option<Self> {
        levels
            .most_specific(|level| level.respond.as_deref())
            .map(Self::new)
    }

    fn new(settings: &Settings) -> Self {
        Self {
            status: settings.status,
            body: settings.body.as_bytes().into(),
            content_type: settings.content_type.as_str().into(),
            headers: settings
                .headers
                .iter()
                .map(|(name, value)| (HeaderName::new(name), value.as_bytes().into()))
                .collect(),
        }
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        format!(
            "{} with {} bytes of {}",
            self.status,
            self.body.len(),
            self.content_type
        )
    }

    /// Answers.
    pub fn on_request(&self, _: &mut Exchange<'_>) -> Verdict {
        let mut reply = Reply::with_status(Reason::Answered, self.status);
        reply.page = Some(Page {
            body: Arc::clone(&self.body),
            content_type: self.content_type.clone(),
        });
        for (name, value) in &self.headers {
            reply.headers.set(name, value);
        }
        Err(reply)
    }

    /// Nothing to do.
    pub fn on_response(&self, _: &Exchange<'_>, _: &mut Response) {}
}

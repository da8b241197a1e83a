//! The limiters of a configuration, remembered by their places in the document, so that counting
//! goes on across a reload that leaves them alone.
//!
//! Must not: keep a limiter whose settings changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardea_config::policy::RateLimit as Settings;

use super::Limiter;

/// The rate limiters of a configuration, shared with the one before where nothing changed.
#[derive(Debug, Default)]
pub struct Limiters {
    /// In order, so that all of a domain's are found together.
    previous: BTreeMap<String, (Settings, Arc<Limiter>)>,
    current: BTreeMap<String, (Settings, Arc<Limiter>)>,
}

impl Limiters {
    /// Limiters that go on where those before stood.
    pub fn new(previous: Option<&Self>) -> Self {
        Self {
            previous: previous
                .map(|before| before.current.clone())
                .unwrap_or_default(),
            current: BTreeMap::new(),
        }
    }

    /// Keeps the limiters below a place that is taken over as it was.
    pub fn keep(&mut self, prefix: &str) {
        let after = self.previous.range(prefix.to_owned()..);
        let kept = after.take_while(|(path, _)| path.starts_with(prefix));
        self.current
            .extend(kept.map(|(path, limiter)| (path.clone(), limiter.clone())));
    }

    /// Whether the configuration before had none.
    pub fn is_empty(&self) -> bool {
        self.previous.is_empty()
    }

    /// The limiter at a place.
    pub(super) fn limiter(&mut self, path: String, settings: &Settings) -> Arc<Limiter> {
        if let Some((_, limiter)) = self.current.get(&path) {
            return Arc::clone(limiter);
        }
        let limiter = match self.previous.get(&path) {
            Some((before, limiter)) if before == settings => Arc::clone(limiter),
            _ => Arc::new(Limiter::new(
                u64::from(settings.rate),
                settings.per.0,
                u64::from(settings.burst.unwrap_or(settings.rate)),
                settings.entries_max as usize,
            )),
        };
        self.current
            .insert(path, (settings.clone(), Arc::clone(&limiter)));
        limiter
    }
}

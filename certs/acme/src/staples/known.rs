//! What is known of the certificates in use: whom to ask about each, what was answered, and when to
//! ask again.
//!
//! Must not: ask.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cardea_certs::LiveCertificates;
use cardea_certs::ocsp::{Question, Staple, Unusable};
use rustls::pki_types::UnixTime;

use super::told::{StapleError, StapleEvent};
use super::{Fingerprint, fingerprint};
use crate::schedule;
use crate::storage::Storage;

/// The longest wait between two looks; the clock may be set.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// The longest wait after failures: answers come back soon after the responder does.
const RETRY_LONGEST: Duration = Duration::from_secs(60 * 60);

/// Files of certificates that are gone are removed when they are this old.
const KEPT_SECS_MAX: u64 = 30 * 24 * 60 * 60;

#[derive(Default)]
pub(super) struct Kept {
    pub(super) is_on: bool,
    pub(super) storage: Option<Storage>,
    pub(super) words: HashMap<Fingerprint, Word>,
}

/// What is known of a certificate.
pub(super) struct Word {
    pub(super) name: Arc<str>,
    /// None if there is nobody to ask.
    pub(super) question: Option<Arc<Question>>,
    pub(super) staple: Option<Staple>,
    pub(super) next: UnixTime,
    failures: u32,
    pub(super) error: Option<Arc<StapleError>>,
}

impl Kept {
    /// Gets to know new certificates, and forgets those that are gone.
    pub(super) fn look(&mut self, live: &LiveCertificates, now: UnixTime) {
        let mut before = std::mem::take(&mut self.words);
        if !self.is_on {
            return;
        }
        let store = live.load();
        let all = store.certificates();
        for (spec, certificate) in all.filter(|(_, it)| it.details.has_responder) {
            let fingerprint = fingerprint(certificate);
            let word = before.remove(&fingerprint);
            let word = word.unwrap_or_else(|| {
                let question = Question::about(certificate);
                let storage = self.storage.as_ref().filter(|_| question.is_some());
                let staple = storage
                    .zip(question.as_ref())
                    .and_then(|(storage, question)| {
                        let response = storage.read(&storage.staple(&fingerprint)).ok()??;
                        question.answered(&response, now).ok()
                    });
                Word::new(Arc::clone(&spec.name), question, staple, now)
            });
            self.words.insert(fingerprint, word);
        }
        self.tidy(now);
    }

    /// Removes files of certificates that went long ago.
    fn tidy(&self, now: UnixTime) {
        let Some(storage) = &self.storage else {
            return;
        };
        let files = storage.list(&storage.staples()).unwrap_or_default();
        let is_stale = |path: &Path| {
            let name = path.file_stem().and_then(|stem| stem.to_str());
            let is_known = name.is_some_and(|name| self.words.contains_key(name));
            let written = std::fs::metadata(path).and_then(|found| found.modified());
            let written = written
                .ok()
                .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            let is_old = |at: Duration| at.as_secs() + KEPT_SECS_MAX < now.as_secs();
            !is_known && written.is_some_and(is_old)
        };
        for path in files.iter().filter(|path| is_stale(path)) {
            // What cannot be removed does no harm.
            let _ = storage.remove(path);
        }
    }

    /// Whom to ask now.
    pub(super) fn due(&self, now: UnixTime) -> Vec<(Fingerprint, Arc<Question>)> {
        let due = self.words.iter().filter(|(_, word)| word.next <= now);
        due.filter_map(|(fingerprint, word)| {
            Some((Arc::clone(fingerprint), Arc::clone(word.question.as_ref()?)))
        })
        .collect()
    }

    /// How long nothing has to be done.
    pub(super) fn wait(&self, now: UnixTime) -> Duration {
        let asked = self.words.values().filter(|word| word.question.is_some());
        let moments = asked.flat_map(|word| {
            let ends = word.staple.as_ref().map(|staple| staple.next_update);
            std::iter::once(word.next).chain(ends)
        });
        let next = moments.min().map_or(LOOK_EVERY, |moment| {
            Duration::from_secs(moment.as_secs().saturating_sub(now.as_secs()))
        });
        next.clamp(Duration::from_secs(1), LOOK_EVERY)
    }
}

impl Word {
    fn new(
        name: Arc<str>,
        question: Option<Question>,
        staple: Option<Staple>,
        now: UnixTime,
    ) -> Self {
        Self {
            name,
            question: question.map(Arc::new),
            next: staple.as_ref().map_or(now, Staple::ask_again_at),
            staple,
            failures: 0,
            error: None,
        }
    }

    pub(super) fn accept(&mut self, staple: Staple) -> StapleEvent {
        let until = staple.next_update;
        // A responder that hands out answers in the second half of their time is not asked again
        // and again.
        let soon = UnixTime::now().as_secs() + schedule::retry_after(1, &self.name).as_secs();
        self.next = at(staple.ask_again_at().as_secs().max(soon));
        self.staple = Some(staple);
        self.failures = 0;
        self.error = None;
        StapleEvent::Stapled {
            certificate: Arc::clone(&self.name),
            until,
        }
    }

    pub(super) fn reject(&mut self, error: StapleError, now: UnixTime) -> StapleEvent {
        // The authority's last word counts, also where clients will not like it.
        if let StapleError::Unusable {
            source: Unusable::Revoked { .. } | Unusable::Unknown,
            ..
        } = error
        {
            self.staple = None;
        }
        let error = Arc::new(error);
        self.failures += 1;
        let wait = schedule::retry_after(self.failures, &self.name).min(RETRY_LONGEST);
        self.next = at(now.as_secs() + wait.as_secs());
        self.error = Some(Arc::clone(&error));
        StapleEvent::Failed {
            certificate: Arc::clone(&self.name),
            error,
        }
    }
}

fn at(secs: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(secs))
}

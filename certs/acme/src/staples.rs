//! Keeps what authorities say about certificates, and has it stapled: asked for in the background,
//! long before the last word ends, and kept in the storage, so that a restart begins with it.
//!
//! Must not: hold up a handshake, or serve a word that no longer counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use cardea_certs::ocsp::Question;
use cardea_certs::{Certificate, LiveCertificates};
use data_encoding::HEXLOWER;
use rustls::pki_types::UnixTime;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::storage::Storage;
use known::Kept;

mod fetch;
mod known;
mod told;

pub use told::{StapleError, StapleEvent, StapleStatus};

/// Responders asked at once.
const FETCHES_MAX: usize = 8;

/// SHA-256 of a certificate, in hexadecimal.
type Fingerprint = Arc<str>;

/// Keeps staples for the certificates in use.
pub struct Stapler {
    live: Arc<LiveCertificates>,
    observer: Box<dyn Fn(StapleEvent) + Send + Sync>,
    kept: Mutex<Kept>,
    raised: Notify,
}

impl Stapler {
    /// One that does nothing until it is configured. The observer must not block.
    pub fn new(
        live: Arc<LiveCertificates>,
        observer: impl Fn(StapleEvent) + Send + Sync + 'static,
    ) -> Self {
        Self {
            live,
            observer: Box::new(observer),
            kept: Mutex::default(),
            raised: Notify::new(),
        }
    }

    /// Whether to staple at all, and where answers are kept. What is in the storage is stapled
    /// when this returns.
    pub fn configure(&self, is_on: bool, storage: Option<Storage>) {
        let mut kept = self.kept();
        kept.is_on = is_on;
        kept.storage = storage;
        drop(kept);
        self.look();
    }

    /// Looks at the certificates in use, which may be others than before. Staples what is known of
    /// them; what is not is asked in the background.
    pub fn look(&self) {
        let now = UnixTime::now();
        self.kept().look(&self.live, now);
        self.staple(now);
        self.raised.notify_one();
    }

    /// How the staple of a certificate is doing; none if there is nobody to ask.
    pub fn status(&self, certificate: &Certificate) -> Option<StapleStatus> {
        let kept = self.kept();
        let word = kept.words.get(&*fingerprint(certificate))?;
        word.question.as_ref()?;
        Some(StapleStatus {
            until: word.staple.as_ref().map(|staple| staple.next_update),
            next: word.next,
            error: word.error.clone(),
        })
    }

    /// Until when the staples count, by the names of their certificates.
    pub fn ends(&self) -> Vec<(Arc<str>, UnixTime)> {
        let kept = self.kept();
        let words = kept.words.values();
        words
            .filter_map(|word| Some((Arc::clone(&word.name), word.staple.as_ref()?.next_update)))
            .collect()
    }

    /// Asks whenever it is time to, without end.
    pub async fn keep(&self) {
        let client = fetch::Client::new();
        loop {
            let now = UnixTime::now();
            let mut due = self.kept().due(now).into_iter();
            let mut fetches = JoinSet::new();
            loop {
                while fetches.len() < FETCHES_MAX
                    && let Some((fingerprint, question)) = due.next()
                {
                    let client = client.clone();
                    fetches.spawn(async move {
                        let answer = client.ask(&question).await;
                        (fingerprint, question, answer)
                    });
                }
                // A panic there is in the log; its question is asked again.
                match fetches.join_next().await {
                    Some(Ok((fingerprint, question, answer))) => {
                        self.answered(&fingerprint, &question, answer);
                    }
                    Some(Err(_)) => {}
                    None => break,
                }
            }
            self.staple(UnixTime::now());
            let wait = self.kept().wait(UnixTime::now());
            let _ = tokio::time::timeout(wait, self.raised.notified()).await;
            self.staple(UnixTime::now());
        }
    }

    /// Takes note of an answer, or of the want of one.
    fn answered(
        &self,
        fingerprint: &Fingerprint,
        question: &Question,
        answer: Result<Vec<u8>, StapleError>,
    ) {
        let now = UnixTime::now();
        let examined = answer.and_then(|response| {
            let staple = question.answered(&response, now);
            staple.map_err(|source| StapleError::Unusable {
                url: question.url.clone(),
                source,
            })
        });
        let mut kept = self.kept();
        let storage = kept.storage.clone();
        let Some(word) = kept.words.get_mut(fingerprint) else {
            return;
        };
        let event = match examined {
            Ok(staple) => word.accept(staple),
            Err(error) => word.reject(error, now),
        };
        let response = word.staple.as_ref().map(|staple| staple.response.clone());
        let name = Arc::clone(&word.name);
        drop(kept);
        let is_new = matches!(event, StapleEvent::Stapled { .. });
        (self.observer)(event);
        if let (true, Some(storage), Some(response)) = (is_new, storage, response)
            && let Err(error) = storage.write(&storage.staple(fingerprint), &response)
        {
            (self.observer)(StapleEvent::Failed {
                certificate: name,
                error: Arc::new(StapleError::Storage(Box::new(error))),
            });
        }
    }

    /// Has the certificates in use carry what is known of them, and nothing that ended.
    fn staple(&self, now: UnixTime) {
        let mut kept = self.kept();
        for word in kept.words.values_mut() {
            word.staple = word.staple.take().filter(|staple| staple.counts(now));
        }
        let is_on = kept.is_on;
        self.live.staple(|certificate| {
            let word = kept.words.get(&*fingerprint(certificate));
            let staple = word?.staple.as_ref().filter(|_| is_on);
            staple.map(|staple| &*staple.response)
        });
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Stapler {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Stapler").finish_non_exhaustive()
    }
}

fn fingerprint(certificate: &Certificate) -> Fingerprint {
    let leaf = certificate.certified.cert.first();
    let leaf = leaf.map_or(&[][..], |leaf| leaf.as_ref());
    let hash = digest::digest(&digest::SHA256, leaf);
    HEXLOWER.encode(hash.as_ref()).into()
}

//! Keeps one certificate: looks what there is, waits until something is due, and gets it. Gateways
//! that share a storage agree by its locks on who orders.
//!
//! Must not: order without a lock.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;
use tokio::time::Instant;

use crate::account::Access;
use crate::agent::{Event, Shared, State, Status, lock};
use crate::bundle::Bundle;
use crate::error::Error;
use crate::order::Job;
use crate::schedule;
use crate::settings::{Issuer, Managed};

/// The longest wait between two looks at a certificate. The clock may be set, another gateway may
/// have renewed it, and the authority may have changed its mind.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// The longest wait before an authority is asked again when it wants a certificate renewed.
const ASK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// How often is looked whether the gateway that orders is done.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// Attempts in a row after an answer that only wanted another nonce.
const NONCES_MAX: u32 = 50;

/// Keeps one certificate.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    managed: Managed,
    failures: u32,
    error: Option<Arc<Error>>,
    suggestion: Option<Suggestion>,
}

/// When an authority wants a certificate renewed, and when it wants to be asked again.
struct Suggestion {
    of: CertificateIdentifier<'static>,
    window: (SystemTime, SystemTime),
    ask_at: Instant,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, managed: Managed) -> Self {
        Self {
            shared,
            managed,
            failures: 0,
            error: None,
            suggestion: None,
        }
    }

    pub(crate) async fn keep(mut self) {
        let mut known = match self.managed.is_on_demand {
            // Another gateway may have ordered it: whoever asked has to be told.
            true => None,
            false => Bundle::read(&self.managed, &self.shared.storage).map(|it| it.not_after),
        };
        loop {
            let bundle = Bundle::read(&self.managed, &self.shared.storage);
            let not_after = bundle.as_ref().map(|bundle| bundle.not_after);
            if let Some(not_after) = not_after.filter(|_| not_after != known) {
                let certificate = Arc::clone(&self.managed.name);
                self.shared.observer.on_event(Event::Stored {
                    certificate,
                    not_after,
                });
            }
            known = not_after;
            let due = self.due(bundle.as_ref()).await;
            let now = SystemTime::now();
            if due > now {
                self.failures = 0;
                self.error = None;
                self.note(State::Good, not_after, Some(due));
                let wait = due.duration_since(now).unwrap_or_default();
                tokio::time::sleep(wait.min(LOOK_EVERY)).await;
                continue;
            }
            let wait = self.renew(bundle.as_ref(), not_after).await;
            let is_over = not_after.is_none_or(|end| end < SystemTime::now());
            if self.managed.is_on_demand && self.error.is_some() && is_over {
                return self.drop_it();
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Lets go of a certificate that was ordered on demand, for somebody who went away or never had
    /// the host lead here.
    fn drop_it(self) {
        let Self {
            shared, managed, ..
        } = self;
        // What cannot be removed is tried again after a restart.
        let _ = shared.storage.remove(&shared.storage.bundle(&managed.name));
        lock(&shared.statuses).remove(&managed.name);
        lock(&shared.tasks).remove(&managed.name);
        for host in &managed.hosts {
            shared.on_demand.refuse(host);
        }
        shared.observer.on_event(Event::Dropped {
            certificate: managed.name,
        });
    }

    /// When the certificate is to be renewed: as the authority says, else with a part of its life
    /// left; at once if there is none.
    async fn due(&mut self, bundle: Option<&Bundle>) -> SystemTime {
        let (Some(bundle), Some(issuer)) = (bundle, self.managed.issuers.first()) else {
            return SystemTime::UNIX_EPOCH;
        };
        let (issuer, name) = (Arc::clone(issuer), Arc::clone(&self.managed.name));
        let by_life = schedule::renew_at(
            bundle.not_before,
            bundle.not_after,
            issuer.renew_at_percent_left,
            &name,
        );
        match self.suggested(&issuer, bundle).await {
            // The authority may want it earlier, not beyond all prudence.
            Some((start, end)) => schedule::within(start, end, &name).min(bundle.not_after),
            None => by_life,
        }
    }

    /// When the authority wants the certificate renewed (RFC 9773), if it says.
    async fn suggested(
        &mut self,
        issuer: &Arc<Issuer>,
        bundle: &Bundle,
    ) -> Option<(SystemTime, SystemTime)> {
        let identifier = bundle.identifier.as_ref()?;
        let known = self.suggestion.as_ref().filter(|it| it.of == *identifier);
        if let Some(known) = known.filter(|it| Instant::now() < it.ask_at) {
            return Some(known.window);
        }
        let known = known.map(|known| known.window);
        let access = self.access(issuer).await.ok()?;
        let Ok((info, wait)) = access.account.renewal_info(identifier).await else {
            // What it said before is better than nothing.
            return known;
        };
        let window = info.suggested_window;
        let window = (window.start.into(), window.end.into());
        self.suggestion = Some(Suggestion {
            of: identifier.clone(),
            window,
            ask_at: Instant::now() + wait.min(ASK_EVERY),
        });
        Some(window)
    }

    /// Tries to get the certificate, and says how long to wait before the next look.
    async fn renew(&mut self, bundle: Option<&Bundle>, not_after: Option<SystemTime>) -> Duration {
        let lock = self.shared.storage.try_lock(&self.managed.name);
        let _lock = match lock {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                self.note(State::OrderedElsewhere, not_after, None);
                return FOLLOW_EVERY;
            }
            Err(error) => return self.failed("the storage".into(), error, not_after),
        };
        // Somebody may have been faster, and let go of the lock since.
        let now = Bundle::read(&self.managed, &self.shared.storage).map(|it| it.not_after);
        if now != not_after {
            return Duration::ZERO;
        }
        let mut wait = FOLLOW_EVERY;
        for issuer in self.managed.issuers.clone() {
            self.note(State::Ordering, not_after, None);
            match self.obtain(&issuer, bundle).await {
                Ok(()) => {
                    self.failures = 0;
                    self.error = None;
                    return Duration::ZERO;
                }
                Err(error) => wait = self.failed(Arc::clone(&issuer.name), error, not_after),
            }
        }
        wait
    }

    async fn obtain(&self, issuer: &Arc<Issuer>, bundle: Option<&Bundle>) -> Result<(), Error> {
        self.shared.allowance(&issuer.directory).await;
        // Nobody closes the semaphore.
        let _order = self.shared.orders.acquire().await;
        self.shared.observer.on_event(Event::Ordering {
            certificate: Arc::clone(&self.managed.name),
            issuer: Arc::clone(&issuer.name),
        });
        let job = Job {
            managed: &self.managed,
            issuer,
            storage: &self.shared.storage,
            challenges: &self.shared.challenges,
        };
        let mut nonces = 0;
        loop {
            let result = match self.access(issuer).await {
                Ok(access) => {
                    let replaces = self.replaces(&access, bundle).await;
                    job.run(&access, replaces).await
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.is_of_nonce() && nonces < NONCES_MAX => nonces += 1,
                result => return result,
            }
        }
    }

    /// The certificate that a new one follows, where the authority keeps account of that.
    async fn replaces(
        &self,
        access: &Access,
        bundle: Option<&Bundle>,
    ) -> Option<CertificateIdentifier<'static>> {
        let identifier = bundle?.identifier.as_ref()?;
        let info = access.account.renewal_info(identifier).await;
        info.is_ok().then(|| identifier.clone())
    }

    /// The account at an authority, opened once.
    async fn access(&self, issuer: &Arc<Issuer>) -> Result<Access, Error> {
        let mut accounts = self.shared.accounts.lock().await;
        if let Some((known, access)) = accounts.get(&issuer.name)
            && known == issuer
        {
            return Ok(access.clone());
        }
        let access = Access::open(issuer, &self.shared.storage).await?;
        let entry = (Arc::clone(issuer), access.clone());
        accounts.insert(Arc::clone(&issuer.name), entry);
        Ok(access)
    }

    fn failed(
        &mut self,
        issuer: Arc<str>,
        error: Error,
        not_after: Option<SystemTime>,
    ) -> Duration {
        self.failures += 1;
        let now = SystemTime::now();
        let wait = schedule::retry_after(self.failures, &self.managed.name);
        let asked = error.retry_at().and_then(|at| at.duration_since(now).ok());
        let wait = asked.map_or(wait, |asked| asked.max(wait));
        let error = Arc::new(error);
        self.error = Some(Arc::clone(&error));
        self.note(State::Waiting, not_after, Some(now + wait));
        self.shared.observer.on_event(Event::Failed {
            certificate: Arc::clone(&self.managed.name),
            issuer,
            error,
            retry_at: now + wait,
        });
        wait
    }

    fn note(&self, state: State, not_after: Option<SystemTime>, next: Option<SystemTime>) {
        let status = Status {
            state,
            not_after,
            next,
            error: self.error.clone(),
        };
        lock(&self.shared.statuses).insert(Arc::clone(&self.managed.name), status);
    }
}

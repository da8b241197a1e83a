//! Keeps one certificate: looks what there is, waits until something is due, and gets it. Gateways
//! that share a storage agree by its locks on who orders.
//!
//! Must not: order without a lock, or ask an authority before it may.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::CertificateIdentifier;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::account::Access;
use crate::agent::{Event, Shared, State, Status};
use crate::bundle::Bundle;
use crate::client::conversation;
use crate::error::Error;
use crate::order::{self, Job, NONCES_MAX};
use crate::settings::{Issuer, Managed};
use crate::{retries, schedule};

/// The longest wait between two looks at a certificate. The clock may be set, another gateway may
/// have renewed it, and the authority may have changed its mind.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// The longest wait between two looks at a certificate that could not be had. Another gateway may
/// have got it, or somebody removed the file that says how long to wait.
const LOOK_WAITING_EVERY: Duration = Duration::from_secs(60);

/// The longest wait before an authority is asked again when it wants a certificate renewed.
const ASK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// The pauses after which an authority that could not be reached is asked again, at once so to speak.
const ASK_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// How often is looked whether the gateway that orders is done.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// Keeps one certificate.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    managed: Managed,
    /// Failures in a row that nobody but us has a part in: of the storage.
    failures: u32,
    /// Until when issuers are not asked, where that could not be written down.
    unwritten: HashMap<Arc<str>, SystemTime>,
    error: Option<Arc<Error>>,
    suggestion: Option<Suggestion>,
    /// Whether somebody was told why nothing is done.
    has_told: bool,
}

/// When an authority wants a certificate renewed, and when it wants to be asked again.
struct Suggestion {
    of: CertificateIdentifier<'static>,
    window: Option<(SystemTime, SystemTime)>,
    ask_at: Instant,
}

/// What comes after an attempt.
enum Next {
    /// Another look, after a while.
    Look(Duration),
    /// Nothing before this moment: it could not be had.
    Wait(SystemTime),
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, managed: Managed) -> Self {
        Self {
            shared,
            managed,
            failures: 0,
            unwritten: HashMap::new(),
            error: None,
            suggestion: None,
            has_told: false,
        }
    }

    /// Keeps it until whoever has the sender lets go of it, and leaves nothing lying about then.
    pub(crate) async fn keep_while(self, mut goes: watch::Receiver<()>) {
        let (shared, managed) = (Arc::clone(&self.shared), self.managed.clone());
        tokio::select! {
            () = conversation(self.keep()) => {}
            // The sender never sends; it goes.
            _ = goes.changed() => order::clean_up(&managed, &shared.storage).await,
        }
    }

    async fn keep(mut self) {
        let mut known = match self.managed.is_on_demand {
            // Another gateway may have ordered it: whoever asked has to be told.
            true => None,
            false => self.bundle().map(|it| it.fingerprint),
        };
        loop {
            let bundle = self.bundle();
            let not_after = bundle.as_ref().map(|bundle| bundle.not_after);
            let found = bundle.as_ref().map(|bundle| bundle.fingerprint);
            if let Some(not_after) = not_after.filter(|_| found != known) {
                let certificate = Arc::clone(&self.managed.name);
                self.shared.observer.on_event(Event::Stored {
                    certificate,
                    not_after,
                });
            }
            known = found;
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
            let wait = match self.renew(bundle.as_ref(), not_after).await {
                Next::Look(wait) => wait,
                Next::Wait(until) => {
                    let wait = until.duration_since(SystemTime::now()).unwrap_or_default();
                    let is_over = not_after.is_none_or(|end| end < SystemTime::now());
                    if self.managed.is_on_demand && is_over {
                        return self.drop_it(wait);
                    }
                    wait.min(LOOK_WAITING_EVERY)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn bundle(&self) -> Option<Bundle> {
        Bundle::read(&self.managed, &self.shared.storage)
    }

    /// Lets go of a certificate that was ordered on demand, for somebody who went away or never had
    /// the host lead here. It is not wished for before it may be ordered again.
    fn drop_it(self, wait: Duration) {
        let Self {
            shared, managed, ..
        } = self;
        // What cannot be removed is tried again after a restart.
        let _ = shared.storage.remove(&shared.storage.bundle(&managed.name));
        shared.let_go(&managed.name);
        for host in &managed.hosts {
            shared.on_demand.refuse_for(host, wait);
        }
        shared.observer.on_event(Event::Dropped {
            certificate: managed.name,
        });
    }

    /// When the certificate is to be renewed: as the authority says, else with a part of its life
    /// left; at once if there is none.
    async fn due(&mut self, bundle: Option<&Bundle>) -> SystemTime {
        let (Some(bundle), Some(issuer)) = (bundle, self.managed.issuers.first()) else {
            return UNIX_EPOCH;
        };
        let (issuer, name) = (Arc::clone(issuer), Arc::clone(&self.managed.name));
        let (start, end) = (bundle.not_before, bundle.not_after);
        let percent_left = issuer.renew_at_percent_left;
        let latest = schedule::renew_latest_at(start, end, percent_left, &name);
        if latest <= SystemTime::now() {
            // Whatever the authority says.
            return latest;
        }
        match self.suggested(&issuer, bundle).await {
            // It may want it earlier, not beyond all prudence.
            Some((start, end)) => schedule::within(start, end, &name).min(latest),
            None => schedule::renew_at(start, end, percent_left, &name),
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
            return known.window;
        }
        // What it said before is better than nothing.
        let known = known.and_then(|known| known.window);
        let mut asked = self.ask(issuer, identifier).await;
        for pause in ASK_PAUSES {
            // A network that is not there yet, mostly.
            if !matches!(&asked, Err(error) if error.is_of_the_way()) {
                break;
            }
            tokio::time::sleep(pause).await;
            asked = self.ask(issuer, identifier).await;
        }
        let (window, wait) = match asked.ok() {
            Some((window, wait)) => (Some(window), wait.min(ASK_EVERY)),
            None => (known, LOOK_EVERY),
        };
        self.suggestion = Some(Suggestion {
            of: identifier.clone(),
            window,
            ask_at: Instant::now() + wait,
        });
        window
    }

    /// Asks the authority when it wants a certificate renewed, and when to ask again.
    async fn ask(
        &self,
        issuer: &Arc<Issuer>,
        identifier: &CertificateIdentifier<'static>,
    ) -> Result<((SystemTime, SystemTime), Duration), Error> {
        // Nobody closes the semaphore.
        let _turn = self.shared.suggestions.acquire().await;
        let access = self.shared.access(issuer).await?;
        let failed = |source| access.client.failed("asking when to renew", source);
        let info = access.account.renewal_info(identifier).await;
        let (info, wait) = info.map_err(failed)?;
        let window = info.suggested_window;
        Ok(((window.start.into(), window.end.into()), wait))
    }

    /// Tries to get the certificate from those who may be asked.
    async fn renew(&mut self, bundle: Option<&Bundle>, not_after: Option<SystemTime>) -> Next {
        let allowed_at = self.allowed_at();
        if allowed_at > SystemTime::now() {
            return self.wait(allowed_at, not_after);
        }
        let lock = self.shared.storage.try_lock(&self.managed.name);
        let _lock = match lock {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                self.note(State::OrderedElsewhere, not_after, None);
                return Next::Look(FOLLOW_EVERY);
            }
            Err(error) => return self.failed_here(error, not_after),
        };
        // Somebody may have been faster, and let go of the lock since.
        let found = self.bundle().map(|it| it.fingerprint);
        if found != bundle.map(|it| it.fingerprint) {
            return Next::Look(Duration::ZERO);
        }
        if let Err(error) = self.set_aside() {
            return self.failed_here(error, not_after);
        }
        for issuer in self.managed.issuers.clone() {
            if self.issuer_allowed_at(&issuer) > SystemTime::now() {
                continue;
            }
            self.note(State::Ordering, not_after, None);
            match self.obtain(&issuer, bundle).await {
                Ok(true) => {
                    self.failures = 0;
                    self.error = None;
                    self.unwritten.clear();
                    retries::note_success(&self.shared.storage, &self.managed, &issuer);
                    return Next::Look(Duration::ZERO);
                }
                Ok(false) => {}
                // It is the same with any other.
                Err(error) if error.is_of_storage() => return self.failed_here(error, not_after),
                Err(error) => self.failed(&issuer, error),
            }
        }
        self.has_told = true;
        self.wait(self.allowed_at(), not_after)
    }

    /// Waits for the moment at which somebody may be asked.
    fn wait(&mut self, until: SystemTime, not_after: Option<SystemTime>) -> Next {
        self.note(State::Waiting, not_after, Some(until));
        let because_of = self.shared.storage.retries(&self.managed.name);
        let has_told = std::mem::replace(&mut self.has_told, true);
        if !has_told && because_of.exists() {
            self.shared.observer.on_event(Event::Waiting {
                certificate: Arc::clone(&self.managed.name),
                until,
                because_of,
            });
        }
        Next::Wait(until)
    }

    /// Moves a bundle away that nobody can read: a key may be in it.
    fn set_aside(&self) -> Result<(), Error> {
        let storage = &self.shared.storage;
        let path = storage.bundle(&self.managed.name);
        if !Bundle::is_damaged(&path, storage) {
            return Ok(());
        }
        let to = storage.set_aside(&path)?;
        self.shared.observer.on_event(Event::SetAside {
            certificate: Arc::clone(&self.managed.name),
            to,
        });
        Ok(())
    }

    /// When the first of the issuers may be asked.
    fn allowed_at(&self) -> SystemTime {
        let issuers = self.managed.issuers.iter();
        let moments = issuers.map(|issuer| self.issuer_allowed_at(issuer));
        moments.min().unwrap_or(UNIX_EPOCH)
    }

    fn issuer_allowed_at(&self, issuer: &Issuer) -> SystemTime {
        let written = retries::allowed_at(&self.shared.storage, &self.managed, issuer);
        let unwritten = self.unwritten.get(&issuer.name).copied();
        written.max(unwritten.unwrap_or(UNIX_EPOCH))
    }

    /// Gets the certificate; not if the authority has had enough of others in the meantime.
    async fn obtain(&self, issuer: &Arc<Issuer>, bundle: Option<&Bundle>) -> Result<bool, Error> {
        self.shared.allowance(&issuer.directory).await;
        // Nobody closes the semaphore.
        let _order = self.shared.orders.acquire().await;
        if self.issuer_allowed_at(issuer) > SystemTime::now() {
            return Ok(false);
        }
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
            let result = match self.shared.access(issuer).await {
                Ok(access) => {
                    let replaces = self.replaces(&access, bundle).await;
                    job.run(&access, replaces).await
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.is_of_nonce() && nonces < NONCES_MAX => nonces += 1,
                result => return result.map(|()| true),
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

    /// An issuer did not give it.
    fn failed(&mut self, issuer: &Issuer, error: Error) {
        let (storage, managed) = (&self.shared.storage, &self.managed);
        let (retry_at, written) = retries::note_failure(storage, managed, issuer, &error);
        if written.is_err() {
            self.unwritten.insert(Arc::clone(&issuer.name), retry_at);
        }
        self.tell(Arc::clone(&issuer.name), error, retry_at);
    }

    /// Something failed that no issuer has a part in. A start tries again at once.
    fn failed_here(&mut self, error: Error, not_after: Option<SystemTime>) -> Next {
        self.failures += 1;
        self.has_told = true;
        let wait = schedule::retry_after(self.failures, &self.managed.name);
        let retry_at = SystemTime::now() + wait;
        self.tell("the storage".into(), error, retry_at);
        self.note(State::Waiting, not_after, Some(retry_at));
        for issuer in &self.managed.issuers {
            self.unwritten.insert(Arc::clone(&issuer.name), retry_at);
        }
        Next::Wait(retry_at)
    }

    fn tell(&mut self, issuer: Arc<str>, error: Error, retry_at: SystemTime) {
        let error = Arc::new(error);
        self.error = Some(Arc::clone(&error));
        self.shared.observer.on_event(Event::Failed {
            certificate: Arc::clone(&self.managed.name),
            issuer,
            error,
            retry_at,
        });
    }

    fn note(&self, state: State, not_after: Option<SystemTime>, next: Option<SystemTime>) {
        let status = Status {
            state,
            not_after,
            next,
            error: self.error.clone(),
        };
        self.shared.note(&self.managed.name, status);
    }
}

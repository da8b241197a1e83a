//! Keeps certificates: one task for each, which looks what there is, waits until something is due,
//! and gets it. Gateways that share a storage agree by its locks on who orders.
//!
//! Must not: order without a lock, or more than an authority puts up with.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::account::Access;
use crate::bundle::Bundle;
use crate::challenges::Challenges;
use crate::error::Error;
use crate::on_demand::{self, Denial, OnDemand};
use crate::order::Job;
use crate::schedule;
use crate::settings::{Issuer, Managed, Settings};
use crate::storage::Storage;

/// Orders under way at once.
const ORDERS_MAX: usize = 4;

/// New orders at an authority within `ORDERS_WINDOW`; Let's Encrypt takes 300.
const ORDERS_PER_WINDOW: usize = 250;

/// See `ORDERS_PER_WINDOW`.
const ORDERS_WINDOW: Duration = Duration::from_secs(3 * 60 * 60);

/// The longest wait between two looks at a certificate. The clock may be set, another gateway may
/// have renewed it, and the authority may have changed its mind.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// The longest wait before an authority is asked again when it wants a certificate renewed.
const ASK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// How often is looked whether the gateway that orders is done.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// How often is looked for challenges that other gateways put into the storage.
pub(crate) const CHALLENGES_EVERY: Duration = Duration::from_millis(500);

/// Attempts in a row after an answer that only wanted another nonce.
const NONCES_MAX: u32 = 50;

/// Accounts that were opened, by the name of their issuer, and what that was then.
type Accounts = tokio::sync::Mutex<HashMap<Arc<str>, (Arc<Issuer>, Access)>>;

/// Something that an operator, or the certificate store, should hear.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A certificate is being ordered.
    Ordering {
        /// Its name.
        certificate: Arc<str>,
        /// Who is asked for it.
        issuer: Arc<str>,
    },
    /// A certificate lies in the storage that was not there before.
    Stored {
        /// Its name.
        certificate: Arc<str>,
        /// Until when it is good.
        not_after: SystemTime,
    },
    /// A certificate that somebody asked for is not ordered.
    Denied {
        /// The host.
        host: Arc<str>,
        /// Why not.
        why: Denial,
    },
    /// A certificate that was ordered on demand is kept no longer: it could not be had, or not be
    /// renewed until it ended.
    Dropped {
        /// Its name.
        certificate: Arc<str>,
    },
    /// What other gateways do is not heard of any more, nor they of us.
    NotShared(Arc<Error>),
    /// It is again.
    SharedAgain,
    /// A certificate could not be had.
    Failed {
        /// Its name.
        certificate: Arc<str>,
        /// Who was asked for it.
        issuer: Arc<str>,
        /// Why not.
        error: Arc<Error>,
        /// When it is tried again.
        retry_at: SystemTime,
    },
}

/// Whoever wants to hear of events. Called on the agent's threads; it must not block for long.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: Event);
}

/// How a certificate is doing.
#[derive(Debug, Clone)]
pub struct Status {
    /// What is being done.
    pub state: State,
    /// Until when the certificate is good; none if there is none.
    pub not_after: Option<SystemTime>,
    /// When something will be done.
    pub next: Option<SystemTime>,
    /// Why the last attempt failed, if it did.
    pub error: Option<Arc<Error>>,
}

/// What is being done for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is good, and not due.
    Good,
    /// It is being ordered here.
    Ordering,
    /// Another gateway orders it.
    OrderedElsewhere,
    /// It could not be had, and is tried again.
    Waiting,
}

/// Keeps certificates for as long as it lives.
pub struct Agent {
    shared: Arc<Shared>,
    follower: JoinHandle<()>,
    server: JoinHandle<()>,
}

/// A certificate that is kept, and the task that keeps it.
type Task = (Managed, JoinHandle<()>);

pub(crate) struct Shared {
    pub(crate) storage: Storage,
    pub(crate) on_demand: Arc<OnDemand>,
    runtime: Handle,
    tasks: Mutex<HashMap<Arc<str>, Task>>,
    challenges: Arc<Challenges>,
    pub(crate) observer: Arc<dyn Observer>,
    orders: Semaphore,
    /// When orders were made, by authority.
    made: Mutex<HashMap<String, VecDeque<Instant>>>,
    accounts: Accounts,
    statuses: Mutex<HashMap<Arc<str>, Status>>,
}

impl Agent {
    /// Starts to keep certificates. Its challenges outlive it.
    pub fn start(
        storage: Storage,
        challenges: Arc<Challenges>,
        on_demand: Arc<OnDemand>,
        observer: Arc<dyn Observer>,
        runtime: Handle,
    ) -> Self {
        let shared = Arc::new(Shared {
            storage,
            on_demand,
            runtime: runtime.clone(),
            tasks: Mutex::default(),
            challenges,
            observer,
            orders: Semaphore::new(ORDERS_MAX),
            made: Mutex::default(),
            accounts: Accounts::default(),
            statuses: Mutex::default(),
        });
        let follower = runtime.spawn(follow(Arc::clone(&shared)));
        let server = runtime.spawn(on_demand::serve(Arc::clone(&shared)));
        Self {
            shared,
            follower,
            server,
        }
    }

    /// Turns to other settings. What stays the same goes on undisturbed.
    pub fn configure(&self, settings: &Settings) {
        let is_allowed = |managed: &Managed| {
            let mut rules = settings.on_demand.iter();
            let hosts = &managed.hosts;
            rules.any(|rule| {
                hosts
                    .iter()
                    .all(|it| rule.allows(it) && rule.managed(it) == *managed)
            })
        };
        let named = settings.certificates.iter();
        let named: HashMap<&str, &Managed> = named.map(|it| (&*it.name, it)).collect();
        lock(&self.shared.tasks).retain(|name, (managed, task)| {
            let stays = match managed.is_on_demand {
                true => is_allowed(managed),
                false => named.get(&**name) == Some(&&*managed),
            };
            if !stays {
                // Everything that matters is written down at each step.
                task.abort();
                lock(&self.shared.statuses).remove(name);
            }
            stays
        });
        for managed in &settings.certificates {
            self.shared.keep(managed.clone());
        }
        self.shared.on_demand.configure(&settings.on_demand);
        for rule in &settings.on_demand {
            let hosts = self.shared.storage.on_demand(&rule.name).into_iter();
            for host in hosts.filter(|host| rule.allows(host)) {
                self.shared.keep(rule.managed(&host));
            }
        }
    }

    /// How a certificate is doing, if it is kept.
    pub fn status(&self, name: &str) -> Option<Status> {
        lock(&self.shared.statuses).get(name).cloned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.follower.abort();
        self.server.abort();
        self.shared.on_demand.configure(&[]);
        for (_, task) in lock(&self.shared.tasks).values() {
            task.abort();
        }
    }
}

/// Answers what other gateways put into the storage.
async fn follow(shared: Arc<Shared>) {
    let mut is_failing = false;
    loop {
        let storage = shared.storage.clone();
        // Redis may take its time, and others use this thread.
        let followed = tokio::task::spawn_blocking(move || storage.follow()).await;
        match followed {
            Ok(Err(error)) if !is_failing => {
                is_failing = true;
                shared.observer.on_event(Event::NotShared(Arc::new(error)));
            }
            Ok(Ok(())) if is_failing => {
                is_failing = false;
                shared.observer.on_event(Event::SharedAgain);
            }
            _ => {}
        }
        // A storage that cannot be read is told by whoever orders; here it is tried again.
        let _ = shared.challenges.follow(&shared.storage);
        tokio::time::sleep(CHALLENGES_EVERY).await;
    }
}

/// Keeps one certificate.
struct Keeper {
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
    async fn keep(mut self) {
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
        let bundle = loop {
            let result = match self.access(issuer).await {
                Ok(access) => {
                    let replaces = self.replaces(&access, bundle).await;
                    job.run(&access, replaces).await
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.is_of_nonce() && nonces < NONCES_MAX => nonces += 1,
                result => break result?,
            }
        };
        let path = self.shared.storage.bundle(&self.managed.name);
        self.shared.storage.write(&path, &bundle)
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

impl Shared {
    /// Keeps a certificate, unless it is kept already.
    pub(crate) fn keep(self: &Arc<Self>, managed: Managed) {
        let mut tasks = lock(&self.tasks);
        if tasks.contains_key(&managed.name) {
            return;
        }
        let keeper = Keeper {
            shared: Arc::clone(self),
            managed: managed.clone(),
            failures: 0,
            error: None,
            suggestion: None,
        };
        let task = self.runtime.spawn(keeper.keep());
        tasks.insert(Arc::clone(&managed.name), (managed, task));
    }

    /// Waits until another order is within what an authority puts up with, and counts it.
    async fn allowance(&self, directory: &str) {
        loop {
            let wait = {
                let mut made = lock(&self.made);
                let made = made.entry(directory.to_owned()).or_default();
                let now = Instant::now();
                made.retain(|at| now.duration_since(*at) < ORDERS_WINDOW);
                if made.len() < ORDERS_PER_WINDOW {
                    made.push_back(now);
                    return;
                }
                let oldest = made.front().map_or(now, |at| *at);
                ORDERS_WINDOW.saturating_sub(now.duration_since(oldest))
            };
            tokio::time::sleep(wait.max(Duration::from_secs(1))).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Keeps certificates: one task for each, and what they have in common.
//!
//! Must not: have more under way at an authority than it puts up with.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::account::Access;
use crate::challenges::Challenges;
use crate::error::Error;
use crate::keeper::Keeper;
use crate::on_demand::{self, Denial, OnDemand};
use crate::retries;
use crate::settings::{Issuer, Managed, Settings};
use crate::storage::Storage;

/// Orders under way at once.
const ORDERS_MAX: usize = 4;

/// New orders at an authority within `ORDERS_WINDOW`; Let's Encrypt takes 300.
const ORDERS_PER_WINDOW: usize = 250;

/// See `ORDERS_PER_WINDOW`.
const ORDERS_WINDOW: Duration = Duration::from_secs(3 * 60 * 60);

/// Questions under way at once about when certificates are to be renewed. Thousands of them come
/// together at a start.
const SUGGESTIONS_MAX: usize = 4;

/// How often is looked for failures that count no more.
const TIDY_EVERY: Duration = Duration::from_secs(60 * 60);

/// How often is looked for challenges that other gateways put into the storage.
pub(crate) const CHALLENGES_EVERY: Duration = Duration::from_millis(500);

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
    /// A certificate is not ordered yet, for it failed before this process began.
    Waiting {
        /// Its name.
        certificate: Arc<str>,
        /// When it is tried again.
        until: SystemTime,
        /// The file that says so.
        because_of: PathBuf,
    },
    /// The file of a certificate was damaged, and moved away. Another one is ordered.
    SetAside {
        /// Its name.
        certificate: Arc<str>,
        /// Where the file is now.
        to: PathBuf,
    },
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
struct Task {
    managed: Managed,
    task: JoinHandle<()>,
    /// The task ends when this goes, and leaves nothing lying about.
    _going: watch::Sender<()>,
}

pub(crate) struct Shared {
    pub(crate) storage: Storage,
    pub(crate) on_demand: Arc<OnDemand>,
    runtime: Handle,
    tasks: Mutex<HashMap<Arc<str>, Task>>,
    pub(crate) challenges: Arc<Challenges>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) orders: Semaphore,
    pub(crate) suggestions: Semaphore,
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
            suggestions: Semaphore::new(SUGGESTIONS_MAX),
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
        lock(&self.shared.tasks).retain(|name, Task { managed, .. }| {
            let stays = match managed.is_on_demand {
                true => is_allowed(managed),
                false => named.get(&**name) == Some(&&*managed),
            };
            if !stays {
                // Everything that matters is written down at each step.
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

    /// Stops, and returns when nothing is left lying about, or cannot be taken away.
    pub async fn stop(self) {
        let tasks: Vec<Task> = lock(&self.shared.tasks).drain().map(|(_, it)| it).collect();
        let tasks: Vec<JoinHandle<()>> = tasks.into_iter().map(|it| it.task).collect();
        drop(self);
        for task in tasks {
            // One that panicked has nothing more to do.
            let _ = task.await;
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
        lock(&self.shared.tasks).clear();
    }
}

/// Answers what other gateways put into the storage.
async fn follow(shared: Arc<Shared>) {
    let mut is_failing = false;
    let mut tidied: Option<Instant> = None;
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
        if tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
            tidied = Some(Instant::now());
            let storage = shared.storage.clone();
            let _ = tokio::task::spawn_blocking(move || retries::tidy(&storage)).await;
        }
        tokio::time::sleep(CHALLENGES_EVERY).await;
    }
}

impl Shared {
    /// Keeps a certificate, unless it is kept already.
    pub(crate) fn keep(self: &Arc<Self>, managed: Managed) {
        let mut tasks = lock(&self.tasks);
        if tasks.contains_key(&managed.name) {
            return;
        }
        let keeper = Keeper::new(Arc::clone(self), managed.clone());
        let (going, goes) = watch::channel(());
        let task = Task {
            task: self.runtime.spawn(keeper.keep_while(goes)),
            _going: going,
            managed,
        };
        tasks.insert(Arc::clone(&task.managed.name), task);
    }

    /// Keeps a certificate no more. Called by the task that keeps it.
    pub(crate) fn let_go(&self, name: &str) {
        lock(&self.statuses).remove(name);
        lock(&self.tasks).remove(name);
    }

    pub(crate) fn note(&self, name: &Arc<str>, status: Status) {
        lock(&self.statuses).insert(Arc::clone(name), status);
    }

    /// The account at an authority, opened once.
    pub(crate) async fn access(&self, issuer: &Arc<Issuer>) -> Result<Access, Error> {
        let mut accounts = self.accounts.lock().await;
        if let Some((known, access)) = accounts.get(&issuer.name)
            && known == issuer
        {
            return Ok(access.clone());
        }
        let access = Access::open(issuer, &self.storage).await?;
        let entry = (Arc::clone(issuer), access.clone());
        accounts.insert(Arc::clone(&issuer.name), entry);
        Ok(access)
    }

    /// Waits until another order is within what an authority puts up with, and counts it.
    pub(crate) async fn allowance(&self, directory: &str) {
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

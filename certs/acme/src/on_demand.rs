//! Certificates that are ordered when a client first asks for their host: handshakes wish for them,
//! the agent grants or denies. A handshake waits for what it wished for as long as it may.
//!
//! Whoever can connect can ask for any name. A name counts only where a rule allows it; a service
//! may be asked on top; and orders, certificates and wishes have limits.
//!
//! Must not: order anything for a name just because somebody said it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::agent::{Event, Shared};
use crate::retries;
use crate::settings::Rule;

mod ask;

/// Hosts that are wished for at once.
const WISHES_MAX: usize = 256;

/// How long a host that was denied, or could not be had, is not wished for again.
const REFUSED_FOR: Duration = Duration::from_secs(5 * 60);

/// Refused hosts that are remembered. Those that are soonest over give way.
const REFUSED_MAX: usize = 4096;

/// Questions to services under way at once.
const ASKS_UNDER_WAY_MAX: usize = 8;

/// Questions to the service of a rule within `ASKS_PERIOD`. Anybody can have one asked by inventing
/// a host, so it is the gateway that has to be patient.
const ASKS_MAX: usize = 100;

/// See `ASKS_MAX`; also how long a host waits for which there was no question left.
const ASKS_PERIOD: Duration = Duration::from_secs(10);

/// Why a certificate is not ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denial {
    /// The service that was asked does not want it.
    #[error("{url} says no: {answer}")]
    No {
        /// Whom was asked.
        url: String,
        /// What it answered.
        answer: String,
    },
    /// The service was asked too often lately.
    #[error("{url} was asked about {ASKS_MAX} hosts within {} s", ASKS_PERIOD.as_secs())]
    Busy {
        /// Who was asked.
        url: String,
    },
    /// The authority has to be left alone, or the host was not proved a while ago.
    #[error("it is not tried again before {} s are over", after.as_secs())]
    TooEarly {
        /// How long that is.
        after: Duration,
    },
    /// There have been too many orders lately.
    #[error("`orders_max` of `{rule}` are under way or were made within `orders_period`")]
    Limited {
        /// The certificate that the rule belongs to.
        rule: Arc<str>,
    },
    /// There are too many certificates.
    #[error("`{rule}` has `certificates_max` certificates")]
    Full {
        /// The certificate that the rule belongs to.
        rule: Arc<str>,
    },
}

impl Denial {
    /// How long a host is not wished for again.
    fn lasts(&self) -> Duration {
        match self {
            Self::Busy { .. } => ASKS_PERIOD,
            Self::TooEarly { after } => REFUSED_FOR.max(*after),
            Self::No { .. } | Self::Limited { .. } | Self::Full { .. } => REFUSED_FOR,
        }
    }
}

/// What handshakes wish for. One for the process.
#[derive(Default)]
pub struct OnDemand {
    rules: ArcSwap<Vec<Rule>>,
    wishes: Mutex<Wishes>,
    raised: Notify,
}

#[derive(Default)]
struct Wishes {
    /// Those who wait, by host: the sender goes when there is no more to wait for.
    waiting: HashMap<Arc<str>, watch::Sender<()>>,
    /// Hosts that the agent has not heard of yet.
    new: VecDeque<Arc<str>>,
    /// Hosts that are not taken, and until when.
    refused: HashMap<Arc<str>, Instant>,
}

/// A wait for a certificate.
#[derive(Debug)]
pub struct Wish(watch::Receiver<()>);

impl Wish {
    /// Returns when the certificate is there, or will not be.
    pub async fn settled(mut self) {
        // The sender never sends; it goes.
        while self.0.changed().await.is_ok() {}
    }
}

impl OnDemand {
    /// Wishes for a certificate for a host; none if it will not be had.
    pub fn wish(&self, host: &str) -> Option<Wish> {
        let rules = self.rules.load();
        if rules.is_empty() {
            return None;
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if !rules.iter().any(|rule| rule.allows(&host)) {
            return None;
        }
        let mut wishes = self.wishes();
        if let Some(waiting) = wishes.waiting.get(&*host) {
            return Some(Wish(waiting.subscribe()));
        }
        let refused = wishes.refused.get(&*host);
        let is_refused = refused.is_some_and(|until| Instant::now() < *until);
        if is_refused || wishes.waiting.len() >= WISHES_MAX {
            return None;
        }
        let host: Arc<str> = host.into();
        let (sender, receiver) = watch::channel(());
        wishes.waiting.insert(Arc::clone(&host), sender);
        wishes.new.push_back(host);
        drop(wishes);
        self.raised.notify_one();
        Some(Wish(receiver))
    }

    /// Ends the wait for hosts that have a certificate by now.
    pub fn settle(&self, has_certificate: impl Fn(&str) -> bool) {
        self.wishes()
            .waiting
            .retain(|host, _| !has_certificate(host));
    }

    /// Ends the wait for a host that gets none, and takes no wish for it for as long as given, and
    /// some minutes at least.
    pub(crate) fn refuse_for(&self, host: &str, wait: Duration) {
        self.refuse(host, wait.max(REFUSED_FOR));
    }

    fn refuse(&self, host: &str, wait: Duration) {
        let mut wishes = self.wishes();
        wishes.waiting.remove(host);
        let now = Instant::now();
        if wishes.refused.len() >= REFUSED_MAX {
            wishes.refused.retain(|_, until| now < *until);
        }
        if wishes.refused.len() >= REFUSED_MAX
            && let Some(first) = wishes.refused.iter().min_by_key(|(_, until)| **until)
        {
            let first = Arc::clone(first.0);
            wishes.refused.remove(&first);
        }
        wishes.refused.insert(host.into(), now + wait);
    }

    /// Turns to other rules. What was refused may be wished for again.
    pub(crate) fn configure(&self, rules: &[Rule]) {
        if **self.rules.load() == *rules {
            return;
        }
        self.rules.store(Arc::new(rules.to_vec()));
        let mut wishes = self.wishes();
        wishes.refused.clear();
        let allowed = |host: &Arc<str>| rules.iter().any(|rule| rule.allows(host));
        wishes.waiting.retain(|host, _| allowed(host));
        wishes.new.retain(allowed);
    }

    /// The next host that is wished for, with the rule that allows it.
    async fn next(&self) -> (Arc<str>, Rule) {
        loop {
            let host = self.wishes().new.pop_front();
            let Some(host) = host else {
                self.raised.notified().await;
                continue;
            };
            let rules = self.rules.load();
            match rules.iter().find(|rule| rule.allows(&host)) {
                Some(rule) => return (host, rule.clone()),
                None => self.refuse(&host, REFUSED_FOR),
            }
        }
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("OnDemand").finish_non_exhaustive()
    }
}

/// Grants or denies wishes, without end.
pub(crate) async fn serve(shared: Arc<Shared>) {
    let counts = Arc::new(Counts::default());
    loop {
        let (host, rule) = shared.on_demand.next().await;
        let (shared, counts) = (Arc::clone(&shared), Arc::clone(&counts));
        // As many at once as there are wishes.
        tokio::spawn(async move {
            match grant(&shared, &counts, &host, &rule).await {
                Ok(()) => shared.keep(rule.managed(&host)),
                Err(why) => {
                    shared.on_demand.refuse(&host, why.lasts());
                    shared.observer.on_event(Event::Denied { host, why });
                }
            }
        });
    }
}

async fn grant(shared: &Shared, counts: &Counts, host: &str, rule: &Rule) -> Result<(), Denial> {
    let there = shared.storage.on_demand(&rule.name);
    if there.iter().any(|one| one == host) {
        // Another gateway ordered it.
        return Ok(());
    }
    if there.len() >= rule.certificates_max {
        return Err(Denial::Full {
            rule: Arc::clone(&rule.name),
        });
    }
    let allowed_at = retries::first_allowed_at(&shared.storage, &rule.managed(host));
    if let Ok(after) = allowed_at.duration_since(SystemTime::now()) {
        return Err(Denial::TooEarly { after });
    }
    let Some(url) = &rule.ask else {
        return counts.order(rule);
    };
    // Nobody is asked about what could not be ordered anyhow.
    counts.may_order(rule)?;
    counts.ask(rule, url)?;
    let _turn = counts.asks_under_way.acquire().await;
    ask::ask(url, host).await?;
    counts.order(rule)
}

/// What happened lately, in this process.
struct Counts {
    /// When certificates were ordered, by rule.
    orders: Recent,
    /// When its service was asked, by rule.
    asks: Recent,
    asks_under_way: Semaphore,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            orders: Recent::default(),
            asks: Recent::default(),
            asks_under_way: Semaphore::new(ASKS_UNDER_WAY_MAX),
        }
    }
}

impl Counts {
    /// Counts an order, if there may be another.
    fn order(&self, rule: &Rule) -> Result<(), Denial> {
        let is_in = self
            .orders
            .add(&rule.name, rule.orders_max, rule.orders_period);
        is_in.then_some(()).ok_or_else(|| limited(rule))
    }

    fn may_order(&self, rule: &Rule) -> Result<(), Denial> {
        let made = self.orders.count(&rule.name, rule.orders_period);
        (made < rule.orders_max)
            .then_some(())
            .ok_or_else(|| limited(rule))
    }

    /// Counts a question, if there may be another.
    fn ask(&self, rule: &Rule, url: &str) -> Result<(), Denial> {
        let is_in = self.asks.add(&rule.name, ASKS_MAX, ASKS_PERIOD);
        is_in.then_some(()).ok_or_else(|| Denial::Busy {
            url: url.to_owned(),
        })
    }
}

fn limited(rule: &Rule) -> Denial {
    Denial::Limited {
        rule: Arc::clone(&rule.name),
    }
}

/// When something happened within a period, by rule.
#[derive(Default)]
struct Recent(Mutex<HashMap<Arc<str>, VecDeque<Instant>>>);

impl Recent {
    /// Counts one more, unless there are as many as may be.
    fn add(&self, rule: &Arc<str>, most: usize, period: Duration) -> bool {
        self.with(rule, period, |moments| {
            let is_in = moments.len() < most;
            if is_in {
                moments.push_back(Instant::now());
            }
            is_in
        })
    }

    fn count(&self, rule: &Arc<str>, period: Duration) -> usize {
        self.with(rule, period, |moments| moments.len())
    }

    fn with<T>(
        &self,
        rule: &Arc<str>,
        period: Duration,
        look: impl FnOnce(&mut VecDeque<Instant>) -> T,
    ) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let moments = all.entry(Arc::clone(rule)).or_default();
        moments.retain(|at| at.elapsed() < period);
        look(moments)
    }
}

#[cfg(test)]
mod tests;

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
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::agent::{Event, Shared};
use crate::settings::Rule;

mod ask;

/// Hosts that are wished for at once.
const WISHES_MAX: usize = 256;

/// How long a host that was denied, or could not be had, is not wished for again.
const REFUSED_FOR: Duration = Duration::from_secs(5 * 60);

/// Refused hosts that are remembered. The oldest give way.
const REFUSED_MAX: usize = 4096;

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
        let is_refused = refused.is_some_and(|at| at.elapsed() < REFUSED_FOR);
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

    /// Ends the wait for a host that gets none, and takes no wish for it for a while.
    pub(crate) fn refuse(&self, host: &str) {
        let mut wishes = self.wishes();
        wishes.waiting.remove(host);
        if wishes.refused.len() >= REFUSED_MAX {
            wishes.refused.retain(|_, at| at.elapsed() < REFUSED_FOR);
        }
        if wishes.refused.len() >= REFUSED_MAX
            && let Some(oldest) = wishes.refused.iter().min_by_key(|(_, at)| **at)
        {
            let oldest = Arc::clone(oldest.0);
            wishes.refused.remove(&oldest);
        }
        wishes.refused.insert(host.into(), Instant::now());
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
                None => self.refuse(&host),
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
    let made = Arc::new(Made::default());
    loop {
        let (host, rule) = shared.on_demand.next().await;
        let (shared, made) = (Arc::clone(&shared), Arc::clone(&made));
        // As many at once as there are wishes. A service that is slow holds up its own alone.
        tokio::spawn(async move {
            match grant(&shared, &made, &host, &rule).await {
                Ok(()) => shared.keep(rule.managed(&host)),
                Err(why) => {
                    shared.on_demand.refuse(&host);
                    shared.observer.on_event(Event::Denied { host, why });
                }
            }
        });
    }
}

async fn grant(shared: &Shared, made: &Made, host: &str, rule: &Rule) -> Result<(), Denial> {
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
    if let Some(url) = &rule.ask {
        ask::ask(url, host).await?;
    }
    made.count(rule)
}

/// When certificates were ordered, by rule.
#[derive(Default)]
struct Made(Mutex<HashMap<Arc<str>, VecDeque<Instant>>>);

impl Made {
    /// Counts an order, if there may be another.
    fn count(&self, rule: &Rule) -> Result<(), Denial> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.entry(Arc::clone(&rule.name)).or_default();
        made.retain(|at| at.elapsed() < rule.orders_period);
        if made.len() >= rule.orders_max {
            return Err(Denial::Limited {
                rule: Arc::clone(&rule.name),
            });
        }
        made.push_back(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests;

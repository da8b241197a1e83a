//! Following a name: looking it up when its answer expires, or sooner again when there was none.
//!
//! Must not: take addresses away because a name server failed. The last answer stands until there
//! is another one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::jittered;
use crate::traffic::upstream::dns::{Answer, DnsError, Resolver};
use crate::traffic::upstream::{Upstream, describe};

/// The wait after a first failure; each further one doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest wait after a failure.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A configured endpoint whose name is followed.
pub(super) struct Following {
    pub(super) upstream: Arc<Upstream>,
    pub(super) source: usize,
    pub(super) host: Arc<str>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) lookups: Arc<Semaphore>,
}

/// A name that has not been answered for since it was configured; it has when this is dropped.
pub(super) struct FirstAnswer(watch::Sender<usize>);

impl FirstAnswer {
    pub(super) fn awaited(unanswered: &watch::Sender<usize>) -> Self {
        unanswered.send_modify(|count| *count += 1);
        Self(unanswered.clone())
    }
}

impl Drop for FirstAnswer {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Following {
    /// Follows the name until the task is aborted.
    pub(super) async fn follow(self, first_answer: FirstAnswer) {
        let mut first_answer = Some(first_answer);
        let mut backoff = Backoff::default();
        loop {
            let answer = {
                // The semaphore is never closed; without it the lookup would only be unbounded.
                let _place = self.lookups.acquire().await;
                self.resolver.resolve(&self.host).await
            };
            let wait = match answer {
                Ok(answer) => self.take(answer, &mut backoff),
                Err(error) => self.fail(&error, &mut backoff),
            };
            first_answer.take();
            tokio::time::sleep(jittered(wait)).await;
        }
    }

    /// Puts an answer into effect, and says how long to wait.
    fn take(&self, mut answer: Answer, backoff: &mut Backoff) -> Duration {
        let is_partial = answer.ipv4_failed || answer.ipv6_failed;
        let earlier = self
            .upstream
            .addresses(self.source)
            .into_iter()
            .filter(|address| match address {
                IpAddr::V4(_) => answer.ipv4_failed,
                IpAddr::V6(_) => answer.ipv6_failed,
            });
        let addresses: Vec<IpAddr> = earlier.collect();
        answer.addresses.extend(addresses);
        let count = answer.addresses.len();
        let was_failing = backoff.is_failing();
        if self.upstream.set_addresses(self.source, answer.addresses) || was_failing {
            tracing::info!(
                upstream = %self.upstream.name,
                name = %self.host,
                addresses = count,
                "name resolved"
            );
        }
        if is_partial {
            return backoff.partial().min(answer.valid_for);
        }
        backoff.reset();
        answer.valid_for
    }

    /// Takes note of a failure, and says how long to wait.
    fn fail(&self, error: &DnsError, backoff: &mut Backoff) -> Duration {
        let text = describe(error);
        // A name that stays unresolved is told once.
        if !backoff.is_failing() {
            tracing::warn!(
                upstream = %self.upstream.name,
                name = %self.host,
                error = text,
                addresses_kept = self.upstream.addresses(self.source).len(),
                "name does not resolve"
            );
        }
        self.upstream.set_unresolved(self.source, &text);
        backoff.failed()
    }
}

/// Waits that double.
#[derive(Debug, Default)]
struct Backoff {
    wait: Option<Duration>,
    is_failing: bool,
}

impl Backoff {
    fn is_failing(&self) -> bool {
        self.is_failing
    }

    fn failed(&mut self) -> Duration {
        self.is_failing = true;
        self.longer()
    }

    /// An answer for one address family only: asked for again soon, yet not a failure.
    fn partial(&mut self) -> Duration {
        self.is_failing = false;
        self.longer()
    }

    fn longer(&mut self) -> Duration {
        let wait = self
            .wait
            .map_or(RETRY_MIN, |wait| (wait * 2).min(RETRY_MAX));
        self.wait = Some(wait);
        wait
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.failed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert!(backoff.is_failing());
        backoff.reset();
        assert!(!backoff.is_failing());
        assert_eq!(backoff.failed(), RETRY_MIN);
    }
}

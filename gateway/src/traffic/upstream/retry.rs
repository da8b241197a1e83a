//! Whether a failed attempt is repeated. Three questions, in this order: may it be (would a repeat
//! be safe), is it wanted (the settings), can the upstream bear it (the budget).
//!
//! Must not: repeat what an origin may have acted on, unless the method says that doing it twice
//! is doing it once. "A proxy MUST NOT automatically retry non-idempotent requests" (RFC 9110
//! §9.2.2): settings cannot waive it.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::local::LocalUpstream;

/// Retries under way may be at most this part of the requests under way: an upstream that fails
/// everything sees a fifth more load, not twice as much.
pub const BUDGET_PERCENT: u32 = 20;

/// Retries under way that are always allowed; a quiet upstream has no requests to take a part of.
pub const BUDGET_MIN: u32 = 3;

/// When attempts are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// Attempts after the first; zero switches repeating off.
    pub attempts: u32,
    /// After a connection could not be opened.
    pub on_connect_failure: bool,
    /// After a reused connection ended before a byte of a response.
    pub on_idle_reset: bool,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 1,
            on_connect_failure: true,
            on_idle_reset: true,
        }
    }
}

/// Where an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// No connection could be opened; nothing was sent.
    Connecting,
    /// A connection that had served before ended without a byte of a response: most likely it was
    /// closed while idle, and the request crossed the close on its way.
    ReusedUnanswered,
    /// The origin says that it did nothing about the request (RFC 9113 section 8.7).
    Unprocessed,
    /// Anything later: the origin had the request and did something with it.
    Answering,
}

/// How much of the request had left the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Nothing: the connection failed before the first byte.
    Nothing,
    /// Bytes that the gateway still has, so that it can send them again.
    Repeatable,
    /// A part of the body that is gone.
    Streamed,
}

/// An attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Where it failed.
    pub failed: Failed,
    /// How much had been sent.
    pub sent: Sent,
    /// Whether the method is idempotent (RFC 9110 §9.2.2).
    pub is_idempotent: bool,
    /// Attempts already repeated for this request.
    pub retries: u32,
}

/// Why an attempt is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRetry {
    /// The origin may have acted on the request.
    #[error("repeating the request would not be safe")]
    Unsafe,
    /// Not after this kind of failure.
    #[error("the upstream does not repeat after this failure")]
    Unwanted,
    /// All attempts are used.
    #[error("all attempts are used")]
    Spent,
    /// Too many retries are under way at the upstream.
    #[error("the retry budget of the upstream is used up")]
    OverBudget,
}

impl RetrySettings {
    /// Whether the attempt may and should be repeated, the budget aside.
    pub fn decide(&self, attempt: &Attempt) -> Result<(), NoRetry> {
        let is_safe = match (attempt.failed, attempt.sent) {
            (Failed::Answering, _) | (_, Sent::Streamed) => false,
            (Failed::Unprocessed, _) | (_, Sent::Nothing) => true,
            (_, Sent::Repeatable) => attempt.is_idempotent,
        };
        if !is_safe {
            return Err(NoRetry::Unsafe);
        }
        let is_wanted = match attempt.failed {
            Failed::Connecting => self.on_connect_failure,
            Failed::ReusedUnanswered => self.on_idle_reset,
            Failed::Unprocessed => true,
            Failed::Answering => false,
        };
        if !is_wanted {
            return Err(NoRetry::Unwanted);
        }
        if attempt.retries >= self.attempts {
            return Err(NoRetry::Spent);
        }
        Ok(())
    }
}

/// A retry under way, counted against the budget until it is dropped.
#[derive(Debug)]
pub struct RetryPermit(Rc<LocalUpstream>);

impl RetryPermit {
    /// Decides on an attempt, and takes a place in the budget for the next one.
    pub(super) fn new(local: &Rc<LocalUpstream>, attempt: &Attempt) -> Result<Self, NoRetry> {
        let upstream = local.upstream();
        upstream.settings.retry.decide(attempt)?;
        let part = u64::from(upstream.load.requests.value()) * u64::from(BUDGET_PERCENT) / 100;
        let budget = u32::try_from(part).unwrap_or(u32::MAX).max(BUDGET_MIN);
        upstream
            .load
            .retries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |retries| {
                (retries < budget).then(|| retries + 1)
            })
            .map_err(|_| NoRetry::OverBudget)?;
        Ok(Self(Rc::clone(local)))
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0
            .upstream()
            .load
            .retries
            .fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: Attempt = Attempt {
        failed: Failed::Connecting,
        sent: Sent::Nothing,
        is_idempotent: false,
        retries: 0,
    };
    const IDLE: Attempt = Attempt {
        failed: Failed::ReusedUnanswered,
        sent: Sent::Repeatable,
        is_idempotent: true,
        retries: 0,
    };

    fn check(settings: RetrySettings, attempt: Attempt, expected: Result<(), NoRetry>) {
        assert_eq!(
            settings.decide(&attempt),
            expected,
            "{settings:?} {attempt:?}"
        );
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        let on = RetrySettings {
            attempts: 9,
            ..RetrySettings::default()
        };
        let post = Attempt {
            is_idempotent: false,
            ..IDLE
        };
        check(on, CONNECT, Ok(()));
        check(on, IDLE, Ok(()));
        // A POST that left may have been acted on; one that never left was not.
        check(on, post, Err(NoRetry::Unsafe));
        check(
            on,
            Attempt {
                sent: Sent::Nothing,
                ..post
            },
            Ok(()),
        );
        // A body that is gone cannot be sent again, whatever the method.
        check(
            on,
            Attempt {
                sent: Sent::Streamed,
                ..IDLE
            },
            Err(NoRetry::Unsafe),
        );
        check(
            on,
            Attempt {
                failed: Failed::Answering,
                ..IDLE
            },
            Err(NoRetry::Unsafe),
        );
    }

    #[test]
    fn only_what_is_wanted_is_repeated() {
        let on = RetrySettings::default();
        check(
            on,
            Attempt {
                retries: 1,
                ..CONNECT
            },
            Err(NoRetry::Spent),
        );
        let thrice = RetrySettings { attempts: 3, ..on };
        check(
            thrice,
            Attempt {
                retries: 2,
                ..CONNECT
            },
            Ok(()),
        );
        check(
            thrice,
            Attempt {
                retries: 3,
                ..CONNECT
            },
            Err(NoRetry::Spent),
        );
        check(
            RetrySettings { attempts: 0, ..on },
            CONNECT,
            Err(NoRetry::Spent),
        );
        let not_idle = RetrySettings {
            on_idle_reset: false,
            ..on
        };
        check(not_idle, IDLE, Err(NoRetry::Unwanted));
        check(not_idle, CONNECT, Ok(()));
        let not_connect = RetrySettings {
            on_connect_failure: false,
            ..on
        };
        check(not_connect, CONNECT, Err(NoRetry::Unwanted));
        check(not_connect, IDLE, Ok(()));
    }
}

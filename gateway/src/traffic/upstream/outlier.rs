//! Outlier ejection: an endpoint that keeps failing real requests is left alone for a while, and
//! for twice as long each time it does so again.
//!
//! Workers only count, and take out an endpoint whose count is full; for how long, and when it
//! comes back, the control path decides. An endpoint comes back on probation: its first failure
//! ejects it again, its first success clears it.
//!
//! Must not: take out more of an upstream than the settings allow, or cost a request that
//! succeeds more than reading a zero.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Upstream;
use super::endpoint::Endpoint;
use super::set::EndpointSet;

/// The longest that doubling makes an ejection, unless one is configured longer from the start.
pub const EJECT_FOR_MAX: Duration = Duration::from_secs(300);

/// When endpoints are ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierSettings {
    /// Failures in a row that eject.
    pub consecutive_failures: u32,
    /// The first ejection's length.
    pub eject_for: Duration,
    /// The part of the endpoints that may be out at once.
    pub eject_percent_max: u32,
}

/// How a request to an endpoint ended, seen from the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered; an origin's own errors are its business.
    Success,
    /// No connection could be opened, TLS included.
    ConnectFailure,
    /// The connection broke, or what came was no HTTP.
    Broken,
    /// The answer took too long.
    Timeout,
    /// 502, 503 or 504: the endpoint says that it cannot serve.
    Unavailable,
}

impl Outcome {
    /// The outcome that a response's status tells.
    pub fn from_status(status: u16) -> Self {
        match status {
            502..=504 => Self::Unavailable,
            _ => Self::Success,
        }
    }
}

/// The ejections of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    /// How often in a row, which sets how long.
    streak: u32,
    ends_at: Option<Instant>,
    readmitted_at: Option<Instant>,
    pub(super) total: u64,
}

impl Ejections {
    /// Begins an ejection and says how long it lasts. Each `eject_for` that the endpoint has
    /// stayed in takes one doubling back.
    fn begin(&mut self, settings: &OutlierSettings, now: Instant) -> Duration {
        if let Some(readmitted_at) = self.readmitted_at {
            let quiet_ms = now.saturating_duration_since(readmitted_at).as_millis();
            let earned = quiet_ms / settings.eject_for.as_millis().max(1);
            self.streak = self
                .streak
                .saturating_sub(u32::try_from(earned).unwrap_or(u32::MAX));
        }
        let longest = EJECT_FOR_MAX.max(settings.eject_for);
        let doubled = 2u32
            .checked_pow(self.streak)
            .and_then(|n| settings.eject_for.checked_mul(n));
        let lasts = doubled.map_or(longest, |lasts| lasts.min(longest));
        // A time that the clock cannot express is not waited for.
        self.ends_at = now.checked_add(lasts).or(Some(now));
        self.streak = self.streak.saturating_add(1);
        self.total += 1;
        lasts
    }

    fn end(&mut self, now: Instant) {
        self.ends_at = None;
        self.readmitted_at = Some(now);
    }
}

impl Upstream {
    /// Takes note of how a request ended. A success after a success reads one number.
    pub(super) fn record(&self, set: &EndpointSet, endpoint: &Endpoint, outcome: Outcome) {
        let Some(settings) = &self.settings.outlier else {
            return;
        };
        let failures = &endpoint.state.failures;
        if outcome == Outcome::Success {
            if failures.load(Ordering::Relaxed) != 0 {
                failures.store(0, Ordering::Relaxed);
            }
            return;
        }
        let count = failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if count >= settings.consecutive_failures && endpoint.state.eject() {
            let total = set.endpoints().len() as u64;
            let out = set
                .endpoints()
                .iter()
                .filter(|other| other.state.is_ejected())
                .count() as u64;
            if out * 100 > total * u64::from(settings.eject_percent_max) {
                // Others are out already. Two workers that come to this at once both step back.
                endpoint.state.readmit();
                failures.store(0, Ordering::Relaxed);
                return;
            }
            self.alarm.raise();
        }
    }

    /// Gives new ejections their length and ends those that are over. Returns when the next one
    /// ends. For the control path.
    pub fn tend(&self, now: Instant) -> Option<Instant> {
        let set = self.endpoints();
        let mut next = None;
        let mut has_changed = false;
        for endpoint in set
            .endpoints()
            .iter()
            .filter(|endpoint| endpoint.state.is_ejected())
        {
            let tended = self.tend_ejected(endpoint, now);
            has_changed |= tended.has_changed;
            next = next.into_iter().chain(tended.ends_at).min();
        }
        if has_changed {
            self.refresh();
        }
        next
    }

    fn tend_ejected(&self, endpoint: &Endpoint, now: Instant) -> Tended {
        let state = &endpoint.state;
        let mut details = state.details();
        let ejections = &mut details.ejections;
        let Some(settings) = &self.settings.outlier else {
            ejections.end(now);
            state.readmit();
            return Tended {
                has_changed: true,
                ends_at: None,
            };
        };
        match ejections.ends_at {
            None => {
                let lasts = ejections.begin(settings, now);
                self.load.ejections_total.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    upstream = %self.name,
                    endpoint = %endpoint.address,
                    failures = state.failures.load(Ordering::Relaxed),
                    for_ms = lasts.as_millis() as u64,
                    "endpoint ejected"
                );
                Tended {
                    has_changed: true,
                    ends_at: ejections.ends_at,
                }
            }
            Some(ends_at) if ends_at <= now => {
                ejections.end(now);
                let probation = settings.consecutive_failures.saturating_sub(1);
                state.failures.store(probation, Ordering::Relaxed);
                state.readmit();
                tracing::info!(
                    upstream = %self.name,
                    endpoint = %endpoint.address,
                    "endpoint readmitted"
                );
                Tended {
                    has_changed: true,
                    ends_at: None,
                }
            }
            Some(ends_at) => Tended {
                has_changed: false,
                ends_at: Some(ends_at),
            },
        }
    }
}

/// What became of an ejected endpoint.
struct Tended {
    has_changed: bool,
    ends_at: Option<Instant>,
}

#[cfg(test)]
mod tests;

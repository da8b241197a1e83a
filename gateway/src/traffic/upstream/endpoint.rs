//! An endpoint: one address that serves an upstream, and what is known about how it is doing.
//!
//! The endpoint itself never changes; its state does, and is shared by all the endpoints that
//! stand for the same place before and after a reload. Workers read one byte of it to see whether
//! a request may go there.
//!
//! Must not: lock on the data path. The details behind the lock are for the control path and for
//! those who watch.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::gauge::Gauge;
use super::health::Checks;
use super::outlier::Ejections;

/// Names an endpoint for as long as the process lives: the key of the connection pools. An
/// endpoint gets a new one when a connection made before must not be used any more, as when its
/// TLS settings change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u32);

impl EndpointId {
    /// An id that no endpoint had before.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One address that serves an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Its identity in connection pools.
    pub id: EndpointId,
    /// Where it is.
    pub address: SocketAddr,
    /// The name it was configured under; none if it was configured by its address.
    pub host: Option<Arc<str>>,
    /// Its share of the traffic; zero takes it out without forgetting it.
    pub weight: u32,
    /// How it is doing.
    pub state: Arc<EndpointState>,
}

impl Endpoint {
    /// What there is to tell about it.
    pub fn report(&self) -> EndpointReport {
        let details = self.state.details();
        EndpointReport {
            address: self.address,
            host: self.host.clone(),
            weight: self.weight,
            health: self.state.health(),
            is_ejected: self.state.is_ejected(),
            active: self.state.active.value(),
            failures: self.state.failures.load(Ordering::Relaxed),
            ejections_total: details.ejections.total,
            checks_passed_total: details.checks.passed_total,
            checks_failed_total: details.checks.failed_total,
            last_check_error: details.checks.last_error.clone(),
        }
    }
}

/// What an active check has said about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing, so it is taken to be well.
    Unchecked,
    /// Nothing, and it came to a set that serves without it: it waits for its first check.
    Joining,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl Health {
    /// The word in logs, metrics and the admin interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Joining => "joining",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// An endpoint as metrics and the admin interface show it.
#[derive(Debug, Clone)]
pub struct EndpointReport {
    /// Where it is.
    pub address: SocketAddr,
    /// The name it was configured under.
    pub host: Option<Arc<str>>,
    /// Its share of the traffic.
    pub weight: u32,
    /// What the active checks say.
    pub health: Health,
    /// Whether failed requests took it out for a while.
    pub is_ejected: bool,
    /// Requests under way.
    pub active: u32,
    /// Failures in a row.
    pub failures: u32,
    /// How often it was ejected.
    pub ejections_total: u64,
    /// Active checks that passed.
    pub checks_passed_total: u64,
    /// Active checks that failed.
    pub checks_failed_total: u64,
    /// Why the last active check failed, if it did.
    pub last_check_error: Option<Arc<str>>,
}

const UNHEALTHY: u8 = 1;
const JOINING: u8 = 1 << 1;
const EJECTED: u8 = 1 << 2;
const CHECKED: u8 = 1 << 3;

/// What keeps requests away.
const BARRED: u8 = UNHEALTHY | JOINING | EJECTED;

/// How an endpoint is doing.
#[derive(Debug, Default)]
pub struct EndpointState {
    standing: AtomicU8,
    /// Failures in a row, as the workers saw them.
    pub(super) failures: AtomicU32,
    /// Requests under way.
    pub active: Gauge,
    details: Mutex<Details>,
}

/// What only the control path changes.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) checks: Checks,
    pub(super) ejections: Ejections,
}

impl EndpointState {
    /// The state of an endpoint that nobody has heard of; `Joining` or `Unchecked`.
    pub(super) fn new(health: Health) -> Self {
        let state = Self::default();
        state.set_health(health);
        state
    }

    /// Whether a request may go there.
    pub fn is_usable(&self) -> bool {
        self.standing.load(Ordering::Relaxed) & BARRED == 0
    }

    /// Whether failed requests took it out for a while.
    pub fn is_ejected(&self) -> bool {
        self.standing.load(Ordering::Relaxed) & EJECTED != 0
    }

    /// What the active checks say.
    pub fn health(&self) -> Health {
        let standing = self.standing.load(Ordering::Relaxed);
        match standing & (UNHEALTHY | JOINING | CHECKED) {
            0 => Health::Unchecked,
            CHECKED => Health::Healthy,
            bits if bits & UNHEALTHY != 0 => Health::Unhealthy,
            _ => Health::Joining,
        }
    }

    /// Sets what the active checks say; the ejection stays. True if requests notice.
    pub(super) fn set_health(&self, health: Health) -> bool {
        let bits = match health {
            Health::Unchecked => 0,
            Health::Joining => JOINING,
            Health::Healthy => CHECKED,
            Health::Unhealthy => CHECKED | UNHEALTHY,
        };
        let change = |standing: u8| Some(standing & EJECTED | bits);
        let before = match self
            .standing
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
        {
            Ok(before) | Err(before) => before,
        };
        (before & BARRED == 0) != ((before & EJECTED | bits) & BARRED == 0)
    }

    /// Takes it out; false if it was out already.
    pub(super) fn eject(&self) -> bool {
        self.standing.fetch_or(EJECTED, Ordering::AcqRel) & EJECTED == 0
    }

    /// Takes it back.
    pub(super) fn readmit(&self) {
        self.standing.fetch_and(!EJECTED, Ordering::AcqRel);
    }

    /// What only the control path and those who watch may ask for.
    pub(super) fn details(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_and_ejection_are_apart() {
        let check = |health: Health, is_ejected: bool, is_usable: bool| {
            let state = EndpointState::new(health);
            if is_ejected {
                assert!(state.eject());
                assert!(!state.eject());
            }
            assert_eq!(state.health(), health);
            assert_eq!(state.is_ejected(), is_ejected);
            assert_eq!(state.is_usable(), is_usable, "{health:?} {is_ejected}");
            state.readmit();
            assert_eq!(state.health(), health);
        };
        check(Health::Unchecked, false, true);
        check(Health::Unchecked, true, false);
        check(Health::Joining, false, false);
        check(Health::Healthy, false, true);
        check(Health::Healthy, true, false);
        check(Health::Unhealthy, false, false);
        check(Health::Unhealthy, true, false);
    }

    #[test]
    fn a_change_of_health_tells_whether_requests_notice() {
        let state = EndpointState::new(Health::Unchecked);
        assert!(!state.set_health(Health::Healthy));
        assert!(state.set_health(Health::Unhealthy));
        state.eject();
        assert!(
            !state.set_health(Health::Healthy),
            "it is ejected all the same"
        );
    }
}

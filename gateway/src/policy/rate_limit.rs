//! A local rate limit: GCRA (the generic cell rate algorithm of ATM Forum TM 4.0), which is a
//! token bucket that needs one number per key. Keys are client addresses, values of a header, or
//! the route itself. Levels stack: a request has to pass every one.
//!
//! Must not: grow with the number of keys an attacker can think of. The table has a fixed size;
//! when a set of it is full, the key that is nearest to having its whole burst back is forgotten.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cardea_config::policy::{RateLimit as Settings, RateLimitKey};

use super::{Levels, Verdict};
use crate::traffic::exchange::{Exchange, RateNote};
use crate::traffic::headers::HeaderName;
use crate::traffic::respond::{Reason, Reply, Response};

mod limiters;

pub use limiters::Limiters;

/// The compiled policy of one level.
#[derive(Debug)]
pub struct RateLimit {
    limiter: Arc<Limiter>,
    by: Key,
    status: u16,
    state: HeaderName,
    policy: HeaderName,
}

#[derive(Debug)]
enum Key {
    ClientAddress,
    Header(HeaderName),
    Route,
}

impl RateLimit {
    /// One for each limit of each level: all of them count. The limiters outlive reloads that
    /// leave their settings alone.
    pub fn compile(levels: &mut Levels<'_>) -> Vec<Self> {
        let mut all = Vec::new();
        let (levels, limiters) = levels.with_limiters();
        for (policies, place) in levels {
            let limits = policies.rate_limit.iter().flat_map(|limits| &limits.0);
            for (number, settings) in limits.enumerate() {
                let limiter = limiters.limiter(format!("{}#{number}", place.path), settings);
                all.push(Self::new(settings, limiter));
            }
        }
        all
    }

    fn new(settings: &Settings, limiter: Arc<Limiter>) -> Self {
        Self {
            limiter,
            by: match &settings.by {
                RateLimitKey::ClientIp => Key::ClientAddress,
                RateLimitKey::Header(name) => Key::Header(HeaderName::new(name)),
                RateLimitKey::Route => Key::Route,
            },
            status: settings.status,
            state: HeaderName::new("ratelimit"),
            policy: HeaderName::new("ratelimit-policy"),
        }
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        let Limiter {
            rate, per, burst, ..
        } = &*self.limiter;
        format!("{rate} per {per:?}, burst {burst}, by {:?}", self.by)
    }

    /// Counts the request, or refuses it.
    pub fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
        let now = self.limiter.now();
        let decision = match &self.by {
            Key::ClientAddress => self.limiter.check_address(exchange.client_address, now),
            Key::Header(name) => {
                let value = exchange.request.headers.value(name).unwrap_or_default();
                self.limiter.check(value, now)
            }
            Key::Route => self.limiter.check(b"", now),
        };
        let note = self.limiter.note(&decision);
        if exchange
            .notes
            .rate
            .is_none_or(|held| note.remaining < held.remaining)
        {
            exchange.notes.rate = Some(note);
        }
        match decision {
            Decision::Pass { .. } => Ok(()),
            Decision::Refuse { retry_after } => {
                // A whole number of seconds, rounded up: never told to come back too early.
                let seconds = retry_after.as_nanos().div_ceil(1_000_000_000).max(1);
                let reply = Reply::with_status(Reason::RateLimited, self.status);
                Err(reply.header("retry-after", seconds.to_string().as_bytes()))
            }
        }
    }

    /// Tells the client where it stands, by the tightest limit it passed (the RateLimit fields of
    /// draft-ietf-httpapi-ratelimit-headers).
    pub fn on_response(&self, exchange: &Exchange<'_>, response: &mut Response) {
        let Some(note) = exchange.notes.rate else {
            return;
        };
        if response.headers.value(&self.state).is_some() {
            return;
        }
        let state = format!("\"default\";r={};t={}", note.remaining, note.reset_s);
        let policy = format!("\"default\";q={};w={}", note.quota, note.window_s);
        response.headers.append(&self.state, state.as_bytes());
        response.headers.append(&self.policy, policy.as_bytes());
    }
}

/// Keys that share a set of the table: where a key may be.
const WAYS: usize = 8;

/// Bits of a slot that tell keys of a set apart; the others hold the time.
const MARK_BITS: u32 = 20;

/// A tick of the table's clock, as a power of two of nanoseconds: 64 ns. The 44 bits of a slot's
/// time then turn over after 13 days, and half of that tells past from future.
const TICK_SHIFT: u32 = 6;

const TIME_BITS: u32 = 64 - MARK_BITS;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// The longest time a whole burst may take to come back.
pub const BURST_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// The state of a rate limit, shared by all workers.
#[derive(Debug)]
pub struct Limiter {
    rate: u64,
    per: Duration,
    burst: u64,
    /// Ticks that one request is worth.
    interval: u64,
    started: Instant,
    hasher: RandomState,
    slots: Box<[AtomicU64]>,
}

/// What a limiter decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The request passes; so many more would pass now, and the burst is whole again after so long.
    Pass {
        /// Further requests that would pass now.
        remaining: u64,
        /// Until the whole burst is back.
        reset: Duration,
    },
    /// The request is refused; one would pass after so long.
    Refuse {
        /// Until the next request would pass.
        retry_after: Duration,
    },
}

impl Limiter {
    /// A limiter that lets `rate` requests pass per `per`, `burst` of them at once, and remembers
    /// at most `entries_max` keys.
    pub fn new(rate: u64, per: Duration, burst: u64, entries_max: usize) -> Self {
        let interval = (per.as_nanos() / u128::from(rate.max(1))) >> TICK_SHIFT;
        let sets = entries_max.div_ceil(WAYS).max(1).next_power_of_two();
        Self {
            rate,
            per,
            burst: burst.max(1),
            interval: u64::try_from(interval).unwrap_or(u64::MAX).max(1),
            started: Instant::now(),
            hasher: RandomState::new(),
            slots: (0..sets * WAYS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The present on this limiter's clock.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts a request of a client. An IPv6 client is its /64: it has all of its addresses.
    pub fn check_address(&self, address: IpAddr, now: Duration) -> Decision {
        match address.to_canonical() {
            IpAddr::V4(address) => self.check(&address.octets(), now),
            IpAddr::V6(address) => self.check(
                address.octets().first_chunk::<8>().map_or(&[], |half| half),
                now,
            ),
        }
    }

    /// Counts a request of a key.
    pub fn check(&self, key: &[u8], now: Duration) -> Decision {
        let hash = self.hasher.hash_one(key);
        let now = ((now.as_nanos() >> TICK_SHIFT) as u64) & TIME_MASK;
        let mark = (hash >> TIME_BITS).max(1);
        let sets = self.slots.len() / WAYS;
        let start = (hash as usize & (sets - 1)) * WAYS;
        let Some(set) = self.slots.get(start..start + WAYS) else {
            return Decision::Pass {
                remaining: 0,
                reset: Duration::ZERO,
            };
        };
        loop {
            let (slot, held) = find(set, mark, now);
            let is_own = held >> TIME_BITS == mark;
            let due = if is_own {
                ahead(held & TIME_MASK, now)
            } else {
                0
            };
            let after = due + self.interval;
            let whole = self.burst.saturating_mul(self.interval);
            if after > whole {
                return Decision::Refuse {
                    retry_after: ticks(after - whole),
                };
            }
            let next = (mark << TIME_BITS) | ((now + after) & TIME_MASK);
            let swapped =
                slot.compare_exchange_weak(held, next, Ordering::Relaxed, Ordering::Relaxed);
            if swapped.is_ok() {
                let remaining = (whole - after) / self.interval;
                return Decision::Pass {
                    remaining,
                    reset: ticks(after),
                };
            }
        }
    }

    fn note(&self, decision: &Decision) -> RateNote {
        let (remaining, reset) = match *decision {
            Decision::Pass { remaining, reset } => (remaining, reset),
            Decision::Refuse { retry_after } => (0, retry_after),
        };
        RateNote {
            quota: self.rate,
            window_s: self.per.as_secs().max(1),
            remaining,
            reset_s: reset.as_nanos().div_ceil(1_000_000_000) as u64,
        }
    }
}

/// The key's slot, or the one to forget for it: an unused or recovered one if there is one.
fn find(set: &[AtomicU64], mark: u64, now: u64) -> (&AtomicU64, u64) {
    let mut best = (&set[0], set[0].load(Ordering::Relaxed));
    let mut best_ahead = u64::MAX;
    for slot in set {
        let held = slot.load(Ordering::Relaxed);
        if held >> TIME_BITS == mark {
            return (slot, held);
        }
        let ahead = if held == 0 {
            0
        } else {
            ahead(held & TIME_MASK, now)
        };
        if ahead < best_ahead {
            best = (slot, held);
            best_ahead = ahead;
        }
    }
    best
}

/// How far a time is in the future; zero for the past.
fn ahead(time: u64, now: u64) -> u64 {
    let distance = time.wrapping_sub(now) & TIME_MASK;
    if distance > TIME_MASK / 2 {
        0
    } else {
        distance
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_nanos(count << TICK_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn passes(limiter: &Limiter, key: &[u8], now: Duration) -> bool {
        matches!(limiter.check(key, now), Decision::Pass { .. })
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = Limiter::new(10, Duration::from_secs(1), 3, 64);
        for left in [2, 1, 0] {
            match limiter.check(b"a", at(0)) {
                Decision::Pass { remaining, .. } => assert_eq!(remaining, left),
                Decision::Refuse { .. } => unreachable!("the burst passes"),
            }
        }
        match limiter.check(b"a", at(0)) {
            Decision::Refuse { retry_after } => {
                assert!(
                    (99..=100).contains(&retry_after.as_millis()),
                    "{retry_after:?}"
                );
            }
            Decision::Pass { .. } => unreachable!("the burst is spent"),
        }
        assert!(passes(&limiter, b"b", at(0)));
        assert!(passes(&limiter, b"a", at(101)));
        assert!(!passes(&limiter, b"a", at(102)));
        assert!((0..3).all(|_| passes(&limiter, b"a", at(10_000))));
    }

    #[test]
    fn the_rate_holds_over_time() {
        let limiter = Limiter::new(100, Duration::from_secs(1), 1, 64);
        let passed = (0..10_000)
            .filter(|&millis| passes(&limiter, b"a", at(millis)))
            .count();
        assert!((990..=1001).contains(&passed), "{passed}");
    }

    #[test]
    fn memory_is_bounded_whatever_the_keys() {
        let limiter = Limiter::new(1, Duration::from_secs(60), 1, 1024);
        let slots = limiter.slots.len();
        for key in 0..100_000_u32 {
            limiter.check(&key.to_le_bytes(), at(0));
        }
        assert_eq!(limiter.slots.len(), slots);
        assert!(slots <= 1024);
    }

    #[test]
    fn the_clock_may_turn_over() {
        let limiter = Limiter::new(1, Duration::from_secs(1), 1, 64);
        let turn = Duration::from_nanos((TIME_MASK << TICK_SHIFT) - 1000);
        assert!(passes(&limiter, b"a", turn));
        assert!(!passes(&limiter, b"a", turn + at(500)));
        assert!(passes(&limiter, b"a", turn + at(1001)));
    }

    #[test]
    fn addresses_of_one_subnet_share_a_key() {
        let limiter = Limiter::new(1, Duration::from_secs(60), 1, 64);
        let check = |address: &str| {
            matches!(
                limiter.check_address(address.parse().unwrap(), at(0)),
                Decision::Pass { .. }
            )
        };
        assert!(check("2001:db8::1"));
        assert!(!check("2001:db8::2"));
        assert!(check("2001:db8:0:1::1"));
        assert!(check("192.0.2.1"));
        assert!(!check("::ffff:192.0.2.1"));
    }

    #[test]
    fn workers_share_one_count() {
        let limiter = Limiter::new(1000, Duration::from_secs(3600), 1000, 64);
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..1000).filter(|_| passes(&limiter, b"k", at(1))).count())
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(passed, 1000);
    }
}

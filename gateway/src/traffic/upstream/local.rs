//! What one worker holds of the upstreams: whose turn it is, and the endpoint set it saw last.
//! Everything here is the worker's own, so that choosing an endpoint, and keeping it for as long
//! as an exchange lasts, writes to no memory that another worker reads.
//!
//! Must not: be shared. A worker that lags a moment behind a swap uses endpoints that were good a
//! moment ago.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::adaptive::{Adaptive, Change, Queued, Waiting};
use super::breaker::{ConnectionPermit, RequestPermit, Saturated};
use super::endpoint::{Endpoint, EndpointId};
use super::gauge::Lane;
use super::outlier::Outcome;
use super::retry::{Attempt, NoRetry, RetryPermit};
use super::set::{EndpointSet, Tried};
use super::{Upstream, UpstreamId};
use crate::traffic::balance::hash::hash_with;
use crate::traffic::balance::{Balance, Draw};

/// The upstreams as one worker knows them.
#[derive(Debug)]
pub struct LocalUpstreams {
    worker: usize,
    known: RefCell<HashMap<UpstreamId, Rc<LocalUpstream>, BuildIdHasher>>,
    crowded: Rc<Crowded>,
}

/// The upstreams for which requests wait for their turn.
type Crowded = RefCell<Vec<Rc<LocalUpstream>>>;

impl LocalUpstreams {
    /// The upstreams of a worker, counted from zero.
    pub fn new(worker: usize) -> Self {
        Self {
            worker,
            known: RefCell::default(),
            crowded: Rc::default(),
        }
    }

    /// The worker's part of an upstream.
    pub fn of(&self, upstream: &Arc<Upstream>) -> Rc<LocalUpstream> {
        let mut known = self.known.borrow_mut();
        if let Some(local) = known.get(&upstream.id) {
            return Rc::clone(local);
        }
        let before = known
            .values()
            .find(|before| Arc::ptr_eq(&before.upstream.load, &upstream.load));
        let local = Rc::new(LocalUpstream::new(
            upstream,
            self.worker,
            before.map(AsRef::as_ref),
            &self.crowded,
        ));
        known.insert(upstream.id, Rc::clone(&local));
        local
    }

    /// Forgets upstreams that a new configuration no longer has.
    pub fn retain(&self, is_current: impl Fn(&Upstream) -> bool) {
        self.known
            .borrow_mut()
            .retain(|_, local| is_current(&local.upstream));
    }

    /// Dismisses requests that have waited for their turn for too long.
    pub fn dismiss(&self, now: Instant) {
        let mut crowded = self.crowded.borrow_mut();
        crowded.retain(|local| {
            let adaptive = local.adaptive.as_ref();
            let is_crowded = adaptive.is_some_and(|adaptive| adaptive.dismiss(now));
            local.tell();
            is_crowded
        });
    }

    /// The endpoints that requests may still be sent to; connections to others can be closed.
    pub fn endpoint_ids(&self) -> HashSet<EndpointId> {
        let known = self.known.borrow();
        let sets = known.values().map(|local| local.set());
        sets.flat_map(|set| set.0.endpoints().iter().map(|it| it.id).collect::<Vec<_>>())
            .collect()
    }
}

/// One worker's part of an upstream.
#[derive(Debug)]
pub struct LocalUpstream {
    upstream: Arc<Upstream>,
    lane: Lane,
    turn: Cell<u32>,
    adaptive: Option<Adaptive>,
    told: Told,
    crowded: Rc<Crowded>,
    set: RefCell<Rc<LocalSet>>,
}

impl Drop for LocalUpstream {
    fn drop(&mut self) {
        self.tell_these(0, 0);
    }
}

/// How long a worker says no more about the limit of an upstream after it said something.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// What was said of the adaptive limit.
#[derive(Debug, Default)]
struct Told {
    /// This worker's part of the sum that metrics show; zero for no limit.
    limit: Cell<u32>,
    /// Likewise of those that wait for their turn.
    queued: Cell<u32>,
    /// When something was logged.
    logged: Cell<Option<Instant>>,
}

/// A set with a reference count of the worker's own.
#[derive(Debug)]
struct LocalSet(Arc<EndpointSet>);

/// Why there is no endpoint for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// None is known: no name of the upstream has resolved yet.
    #[error("no endpoint of the upstream is known")]
    Unresolved,
    /// The request failed at each that may be used, or none has any weight.
    #[error("no further endpoint of the upstream can be used")]
    Exhausted,
}

impl LocalUpstream {
    /// A part that takes over what `before`, of the same upstream before a reload, has learnt.
    fn new(
        upstream: &Arc<Upstream>,
        worker: usize,
        before: Option<&Self>,
        crowded: &Rc<Crowded>,
    ) -> Self {
        let adaptive = upstream.settings.adaptive.map(Adaptive::new);
        let learnt = before.and_then(|before| before.adaptive.as_ref());
        // Workers that all began with the first endpoint would march in step.
        let start = hash_with(worker as u64, u64::from(upstream.id.0)) as u32;
        Self {
            upstream: Arc::clone(upstream),
            lane: Lane::of_worker(worker),
            turn: Cell::new(start),
            adaptive: match learnt {
                Some(before) => adaptive.map(|adaptive| adaptive.succeed(before)),
                None => adaptive,
            },
            told: Told::default(),
            crowded: Rc::clone(crowded),
            set: RefCell::new(Rc::new(LocalSet(upstream.endpoints()))),
        }
    }

    /// The upstream.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Where this worker counts.
    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Admits a request under the upstream's cap; it counts until the permit is dropped.
    pub fn admit(self: &Rc<Self>) -> Result<RequestPermit, Saturated> {
        RequestPermit::new(self)
    }

    /// The limit that this worker found for the upstream by itself; none if that is switched off.
    pub fn adaptive(&self) -> Option<&Adaptive> {
        self.adaptive.as_ref()
    }

    /// Takes note of an answer, for the adaptive limit: how long it took, and when it came.
    pub fn answered(&self, took: Duration, now: Instant) {
        let Some(adaptive) = &self.adaptive else {
            return;
        };
        let change = adaptive.answered(took, now);
        if let Some(change) = change {
            self.tell();
            self.log(change, adaptive.limit().unwrap_or(0), now);
        }
    }

    /// Keeps the sums over the workers true.
    fn tell(&self) {
        let adaptive = self.adaptive.as_ref();
        let limit = adaptive.and_then(Adaptive::limit).unwrap_or(0);
        self.tell_these(limit, adaptive.map_or(0, Adaptive::queued) as u32);
    }

    fn tell_these(&self, limit: u32, queued: u32) {
        let load = &self.upstream.load;
        for (sum, told, now) in [
            (&load.adaptive_limit, &self.told.limit, limit),
            (&load.queued, &self.told.queued, queued),
        ] {
            let before = told.replace(now);
            if now != before {
                sum.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
            }
        }
    }

    /// Logs a change, unless one was logged a moment ago: at its limit, an upstream may change often.
    fn log(&self, change: Change, limit: u32, now: Instant) {
        let told = self.told.logged.get();
        if told.is_some_and(|told| now.duration_since(told) < LOG_PAUSE) {
            return;
        }
        self.told.logged.set(Some(now));
        let upstream = &*self.upstream.name;
        match change {
            Change::Limited { fastest, usual } => tracing::warn!(
                upstream,
                limit,
                fastest_ms = fastest.as_secs_f64() * 1e3,
                usual_ms = usual.as_secs_f64() * 1e3,
                "upstream_limited"
            ),
            Change::Lifted => tracing::info!(upstream, "upstream_limit_lifted"),
            Change::Useless => tracing::warn!(
                upstream,
                remedy =
                    "if its requests wait for something to happen, set `adaptive_concurrency: off`",
                "upstream_limit_did_harm"
            ),
        }
    }

    /// Lets a request wait for its answer at once, if it may; it counts until the guard is dropped.
    pub fn wait(self: &Rc<Self>) -> Option<Waiting> {
        Waiting::begin(self)
    }

    /// Has a request wait for its turn to wait for its answer.
    pub fn line_up(self: &Rc<Self>, now: Instant) -> Result<Queued, Saturated> {
        let queued = Queued::begin(self, now)?;
        let is_first = self.adaptive.as_ref().is_some_and(|it| it.queued() == 1);
        if is_first {
            let mut crowded = self.crowded.borrow_mut();
            if !crowded.iter().any(|local| Rc::ptr_eq(local, self)) {
                crowded.push(Rc::clone(self));
            }
        }
        Ok(queued)
    }

    /// Admits a connection under the upstream's cap; it counts until the permit is dropped.
    pub fn admit_connection(&self) -> Result<ConnectionPermit, Saturated> {
        ConnectionPermit::new(self)
    }

    /// Chooses an endpoint for a request that failed at those `tried`. The key is the hash of what
    /// [`Balance::hash_by`] names, if the request has it.
    pub fn choose(
        self: &Rc<Self>,
        random: u64,
        key: Option<u64>,
        tried: &Tried,
    ) -> Result<Chosen, NoEndpoint> {
        let set = self.set();
        let draw = Draw {
            turn: &self.turn,
            random,
            key,
        };
        match set.0.choose(draw, tried) {
            Some(member) => Ok(Chosen {
                local: Rc::clone(self),
                set,
                member,
            }),
            None if set.0.endpoints().is_empty() => Err(NoEndpoint::Unresolved),
            None => Err(NoEndpoint::Exhausted),
        }
    }

    /// Decides whether a failed attempt is repeated; the repeat counts against the retry budget
    /// until the permit is dropped.
    pub fn retry(self: &Rc<Self>, attempt: &Attempt) -> Result<RetryPermit, NoRetry> {
        RetryPermit::new(self, attempt)
    }

    /// The set of now: a comparison, unless it was swapped.
    fn set(&self) -> Rc<LocalSet> {
        let mut set = self.set.borrow_mut();
        if set.0.version() != self.upstream.version() {
            *set = Rc::new(LocalSet(self.upstream.endpoints()));
        }
        Rc::clone(&set)
    }
}

/// The endpoint chosen for an attempt. It stays valid when the set is swapped meanwhile.
#[derive(Debug, Clone)]
pub struct Chosen {
    local: Rc<LocalUpstream>,
    set: Rc<LocalSet>,
    member: u16,
}

impl Deref for Chosen {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        let endpoint = self.set.0.endpoints().get(usize::from(self.member));
        endpoint.expect("the member was chosen from this set, and sets do not change")
    }
}

impl Chosen {
    /// The worker's part of the upstream it belongs to.
    pub fn upstream(&self) -> &Rc<LocalUpstream> {
        &self.local
    }

    /// Counts a request as under way at the endpoint, until the guard is dropped.
    pub fn begin(&self) -> ActiveRequest {
        // Who compares endpoints by load needs one number; others need not share one.
        let lane = match self.local.upstream.settings.balance {
            Balance::LeastRequest => Lane::SHARED,
            _ => self.local.lane,
        };
        self.state.active.enter(lane);
        ActiveRequest {
            chosen: self.clone(),
            lane,
        }
    }

    /// Takes note of how the attempt ended, for outlier ejection.
    pub fn record(&self, outcome: Outcome) {
        self.local.upstream.record(&self.set.0, self, outcome);
    }
}

/// A request under way at an endpoint.
#[derive(Debug)]
pub struct ActiveRequest {
    chosen: Chosen,
    lane: Lane,
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.chosen.state.active.leave(self.lane);
    }
}

/// Builds hashers for maps by ids of ours.
pub(in crate::traffic) type BuildIdHasher = BuildHasherDefault<IdHasher>;

/// Hashes an id that counts up, which nobody outside chooses: one multiplication spreads it.
#[derive(Debug, Default)]
pub(in crate::traffic) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

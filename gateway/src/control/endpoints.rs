//! Keeping endpoint sets true: names are looked up as their answers expire, endpoints are checked,
//! ejections get their length and their end. All of it runs on the control path's runtime and
//! reaches traffic only as a swapped endpoint set.
//!
//! Must not: outlive the upstream it serves (a task ends when its upstream leaves the
//! configuration), or do more at once than its limits say.

mod checks;
mod ejections;
mod lookups;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::traffic::upstream::compile::Upstreams;
use crate::traffic::upstream::dns::Resolver;
use crate::traffic::upstream::settings::Target;
use crate::traffic::upstream::{Upstream, UpstreamId};

/// Names looked up at once.
const LOOKUPS_MAX: usize = 64;

/// Endpoints checked at once.
const CHECKS_MAX: usize = 256;

/// Keeps the endpoint sets of a configuration true, for as long as it lives.
#[derive(Debug)]
pub struct EndpointsSupervisor {
    runtime: Handle,
    resolver: Arc<Resolver>,
    /// The tasks of each upstream; they end when they are dropped from here.
    tasks: HashMap<UpstreamId, JoinSet<()>>,
    lookups: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    /// Names that have not been answered for, once, since they were configured.
    unanswered: watch::Sender<usize>,
    current: watch::Sender<Upstreams>,
    _ejections: JoinSet<()>,
}

impl EndpointsSupervisor {
    /// Begins with the upstreams of a first configuration.
    pub fn start(runtime: Handle, upstreams: &Upstreams) -> Self {
        let (current, watched) = watch::channel(upstreams.clone());
        let mut ejections = JoinSet::new();
        ejections.spawn_on(ejections::keep(watched), &runtime);
        let mut supervisor = Self {
            runtime,
            resolver: Arc::new(Resolver::new(upstreams.resolver().clone())),
            tasks: HashMap::new(),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            unanswered: watch::Sender::new(0),
            current,
            _ejections: ejections,
        };
        supervisor.apply(upstreams);
        supervisor
    }

    /// Turns to the upstreams of another configuration. What did not change goes on undisturbed.
    pub fn apply(&mut self, upstreams: &Upstreams) {
        if upstreams.resolver() != self.resolver.settings() {
            self.resolver = Arc::new(Resolver::new(upstreams.resolver().clone()));
            self.tasks.clear();
        }
        let current: HashSet<UpstreamId> = upstreams.iter().map(|upstream| upstream.id).collect();
        self.tasks.retain(|id, _| current.contains(id));
        for upstream in upstreams.iter() {
            if !self.tasks.contains_key(&upstream.id) {
                upstream.adopt();
                let tasks = self.spawn(upstream);
                self.tasks.insert(upstream.id, tasks);
            }
        }
        self.current.send_replace(upstreams.clone());
    }

    /// Waits until every configured name has been answered for at least once, well or badly, but
    /// not longer than `bound`. False if the bound was reached.
    pub async fn settled(&self, bound: Duration) -> bool {
        let mut unanswered = self.unanswered.subscribe();
        tokio::time::timeout(bound, unanswered.wait_for(|count| *count == 0))
            .await
            .is_ok()
    }

    fn spawn(&self, upstream: &Arc<Upstream>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for (source, configured) in upstream.settings.sources.iter().enumerate() {
            let Target::Name { host, .. } = &configured.target else {
                continue;
            };
            let following = lookups::Following {
                upstream: Arc::clone(upstream),
                source,
                host: Arc::clone(host),
                resolver: Arc::clone(&self.resolver),
                lookups: Arc::clone(&self.lookups),
            };
            let first_answer = lookups::FirstAnswer::awaited(&self.unanswered);
            tasks.spawn_on(following.follow(first_answer), &self.runtime);
        }
        if upstream.settings.health.is_some() {
            let watching = checks::watch(Arc::clone(upstream), Arc::clone(&self.checks));
            tasks.spawn_on(watching, &self.runtime);
        }
        tasks
    }
}

/// The shortest wait of a task between two rounds, whatever intervals are configured.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// A duration up to a tenth longer or shorter, so that what began together does not stay together.
fn jittered(duration: Duration) -> Duration {
    let lot = RandomState::new().hash_one(0) as u32;
    let factor = 0.9 + 0.2 * f64::from(lot) / f64::from(u32::MAX);
    let wait = Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(duration);
    wait.max(WAIT_MIN)
}

#[cfg(test)]
mod tests;

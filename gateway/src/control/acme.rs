//! The ACME agent of the process: started when a configuration first orders a certificate, told of
//! every configuration after it. What it gets is served at once; what fails is in the log.
//!
//! Must not: hold up a reload. Authorities are asked on a thread of their own.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cardea_acme::{Agent, Challenges, Event, Observer, OnDemand, State, Storage};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Control;
use super::compile::acme::Acme;
use crate::snapshot::Snapshot;
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::{Metrics, OrderCounts};

/// How long orders under way have, when they are given up, to take away what they put elsewhere.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The agent, once there is one.
pub(super) struct AcmeAgent {
    running: Mutex<Option<Running>>,
    challenges: Arc<Challenges>,
    on_demand: Arc<OnDemand>,
    counts: Arc<OrderCounts>,
}

struct Running {
    agent: Agent,
    acme: Acme,
    runtime: Runtime,
}

impl AcmeAgent {
    /// No agent yet. What it will have answered, and what handshakes will wish for, is the same in
    /// all snapshots.
    pub(super) fn new(snapshot: &Snapshot, metrics: &Metrics) -> Self {
        Self {
            running: Mutex::default(),
            challenges: Arc::clone(&snapshot.challenges),
            on_demand: Arc::clone(&snapshot.on_demand),
            counts: metrics.order_counts(),
        }
    }

    /// Ends the wait of handshakes for what is there by now.
    pub(super) fn settle(&self, has_certificate: impl Fn(&str) -> bool) {
        self.on_demand.settle(has_certificate);
    }

    /// Turns to what a configuration has ordered.
    pub(super) fn configure(&self, acme: Option<&Acme>, control: &Weak<Control>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().map(|running| &running.acme) == acme {
            return;
        }
        let Some(acme) = acme else {
            end(running.take());
            return;
        };
        if let Some(running) = running
            .as_mut()
            .filter(|it| it.acme.storage == acme.storage && it.acme.redis == acme.redis)
        {
            running.agent.configure(&acme.settings);
            running.acme = acme.clone();
            return;
        }
        end(running.take());
        match self.start(acme, control) {
            Ok(started) => *running = Some(started),
            Err(error) => tracing::error!(%error, "acme_not_started"),
        }
    }

    fn start(&self, acme: &Acme, control: &Weak<Control>) -> std::io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("acme")
            .enable_all()
            .build()?;
        let storage = acme.storage();
        let observer = Listener {
            control: Weak::clone(control),
            storage: storage.clone(),
            counts: Arc::clone(&self.counts),
        };
        let agent = Agent::start(
            storage,
            Arc::clone(&self.challenges),
            Arc::clone(&self.on_demand),
            Arc::new(observer),
            runtime.handle().clone(),
        );
        agent.configure(&acme.settings);
        Ok(Running {
            agent,
            acme: acme.clone(),
            runtime,
        })
    }

    /// Stops, and waits until nothing is left lying about, but not for long.
    pub(super) fn finish(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ending) = end(running.take()) {
            // One that panicked has nothing more to do.
            let _ = ending.join();
        }
    }

    /// How the ordered certificates are doing, as the admin listener shows them, by name.
    pub(super) fn report(&self, name: &str) -> Value {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.as_ref();
        let Some(status) = running.and_then(|running| running.agent.status(name)) else {
            return Value::Null;
        };
        json!({
            "state": match status.state {
                State::Good => "good",
                State::Ordering => "ordering",
                State::OrderedElsewhere => "ordered_elsewhere",
                State::Waiting => "waiting",
            },
            "next": status.next.map(secs),
            "error": status.error.as_ref().map(|error| chain(&**error)),
            "remedy": status.error.as_ref().map(|error| error.remedy()),
        })
    }
}

/// Ends an agent on a thread of its own: this may run on one of another runtime, and a name server
/// takes its time to forget what was put there.
fn end(running: Option<Running>) -> Option<JoinHandle<()>> {
    let Running { agent, runtime, .. } = running?;
    let stop = move || {
        let stopped = async { tokio::time::timeout(STOP_MAX, agent.stop()).await };
        // What is left is taken away by whoever goes on with the order.
        let _ = runtime.block_on(stopped);
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("acme-end".to_owned());
    thread.spawn(stop).ok()
}

impl std::fmt::Debug for AcmeAgent {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("AcmeAgent").finish_non_exhaustive()
    }
}

/// Hears of events, and has what was stored served.
struct Listener {
    control: Weak<Control>,
    storage: Storage,
    counts: Arc<OrderCounts>,
}

impl Listener {
    fn have_looked_at(&self, certificate: &str) {
        let files = BTreeSet::from([self.storage.bundle(certificate)]);
        if let Some(control) = self.control.upgrade() {
            control.look_at(files);
        }
    }
}

impl Observer for Listener {
    fn on_event(&self, event: Event) {
        match event {
            Event::Ordering {
                certificate,
                issuer,
            } => tracing::info!(%certificate, %issuer, "certificate_ordering"),
            Event::Stored {
                certificate,
                not_after,
            } => {
                self.counts.stored.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%certificate, not_after = secs(not_after), "certificate_stored");
                self.have_looked_at(&certificate);
            }
            Event::NotShared(error) => tracing::error!(
                error = %chain(&*error),
                remedy = error.remedy(),
                "certificates_not_shared"
            ),
            Event::SharedAgain => tracing::info!("certificates_shared_again"),
            Event::Denied { host, why } => {
                self.counts.denied.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%host, %why, "certificate_denied");
            }
            Event::Dropped { certificate } => {
                tracing::warn!(%certificate, "certificate_dropped");
                self.have_looked_at(&certificate);
            }
            Event::Waiting {
                certificate,
                until,
                because_of,
            } => tracing::warn!(
                %certificate,
                until = secs(until),
                remedy = format!(
                    "Nothing; to have it tried at once, mend what failed and remove {}.",
                    because_of.display()
                ),
                "certificate_waiting"
            ),
            Event::SetAside { certificate, to } => tracing::error!(
                %certificate,
                file = %to.display(),
                remedy = "Nothing, another one is ordered; look at the disk, and remove the file.",
                "certificate_damaged"
            ),
            Event::Failed {
                certificate,
                issuer,
                error,
                retry_at,
            } => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    %certificate,
                    %issuer,
                    error = %chain(&*error),
                    remedy = error.remedy(),
                    retry_at = secs(retry_at),
                    "certificate_not_issued"
                );
            }
            _ => {}
        }
    }
}

impl Control {
    /// Has files looked at that changed.
    fn look_at(&self, files: BTreeSet<std::path::PathBuf>) {
        self.changed.add(files);
    }
}

fn secs(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

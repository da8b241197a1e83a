//! The life of a configuration: read, checked, compiled beside the running one, swapped in, or
//! refused. Control owns the workers' threads, the listeners' sockets and the last good
//! configuration.
//!
//! Must not: run on a worker, or let a configuration take effect in part.

mod acme;

pub mod compile;
pub mod listen;

pub mod reload;

pub mod endpoints;

pub mod outlets;
pub(crate) mod service_manager;
mod sessions;
mod staples;
pub mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use cardea_config::origin::Sources;
use cardea_config::source::Loaded;
use cardea_config::watch::Watch;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use acme::AcmeAgent;
use compile::redis::SharedRedis;
use compile::{BindKey, Compiled, settings};
use endpoints::EndpointsSupervisor;
use listen::Bound;
use reload::Cause;
use sessions::SharedSessions;
use staples::Staples;

use crate::admin::Admin;
use crate::snapshot::Published;
use crate::telemetry::logs::Log;
use crate::telemetry::metrics::Metrics;
use crate::traffic::access_log::AccessLog;
use crate::traffic::worker::{self, COMMANDS_MAX, Command, Crew, Member, WorkerParts};

/// How long a start or a reload waits for names to resolve before it goes on without them.
const NAMES_SETTLE: Duration = Duration::from_secs(2);

/// How often what goes by the clock is looked at: whether ticket keys have served their time, and
/// certificates that share their names.
const CHORES_EVERY: Duration = Duration::from_secs(30);

/// How often the dates of certificates are looked at: whoever reads the log is told at the start
/// and twice a day.
const DATES_EVERY: Duration = Duration::from_secs(12 * 60 * 60);

/// How long the access log has to be written out at the end.
const LOG_FLUSH: Duration = Duration::from_secs(2);

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file, read again whenever it changes.
    File(PathBuf),
    /// Text made up by the quick-start mode.
    Text(String),
}

/// The control path of a process.
#[derive(Debug)]
pub struct Control {
    source: Source,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
    log: Log,
    this: Weak<Self>,
    published: Arc<Published>,
    crew: Arc<Crew>,
    acme: AcmeAgent,
    sessions: SharedSessions,
    staples: Staples,
    state: Mutex<State>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    /// Files that changed and were not looked at yet; reloads are made one after another.
    changed: Arc<Changed>,
    /// Whether the first names have settled and traffic is welcome.
    ready: AtomicBool,
    /// Whether the process is about to end. Set before the workers are told.
    draining: AtomicBool,
}

/// Files that changed, on their way from the watch to the next reload.
#[derive(Debug, Default)]
struct Changed {
    files: Mutex<BTreeSet<PathBuf>>,
    raised: Notify,
}

impl Changed {
    fn add(&self, files: BTreeSet<PathBuf>) {
        let mut waiting = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(files);
        drop(waiting);
        self.raised.notify_one();
    }

    fn take(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut *self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What only control knows of the configuration in force.
#[derive(Debug)]
pub(crate) struct State {
    compiled: Compiled,
    fingerprint: u64,
    /// The sockets that the workers accept on, by what they were configured as.
    in_use: BTreeMap<BindKey, SocketAddr>,
    supervisor: Option<EndpointsSupervisor>,
    /// The files that the document came from.
    places: Arc<Sources>,
    /// The admin listener, and the address it was configured with.
    admin: Option<(SocketAddr, Admin)>,
    /// The files and directories that had a say when the configuration was last read, whether it
    /// took effect or not.
    watched: Vec<PathBuf>,
    /// Why the files as they are now are refused, if they are.
    refused: Option<String>,
}

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error("the configuration is refused\n\n{0}")]
    Refused(String),
    /// The system refused a thread or a file.
    #[error("the gateway cannot start")]
    System(#[from] std::io::Error),
}

impl Control {
    /// Starts the workers on a first configuration.
    pub fn start(source: Source, loaded: Loaded, log: Log) -> Result<Arc<Self>, StartError> {
        let Loaded {
            document,
            warnings,
            sources,
            fingerprint,
        } = loaded;
        let workers = worker_count(&document);
        let metrics = Metrics::new(workers);
        metrics.set_diagnostics(log.dropped());
        let refused = |diagnostics: &[_]| {
            StartError::Refused(cardea_config::diagnostic::render(
                diagnostics,
                &sources,
                false,
            ))
        };
        let (compiled, more) = compile::compile(Arc::new(document), 1, None, &metrics)
            .map_err(|diagnostics| refused(&diagnostics))?;
        reload::log_warnings(&[warnings, more].concat(), &sources);
        let bound = Bound::bind(
            compiled.listeners.wanted().iter(),
            &BTreeMap::new(),
            workers,
        )
        .map_err(|errors| {
            let diagnostics: Vec<_> = errors.iter().map(listen::BindError::diagnostic).collect();
            refused(&diagnostics)
        })?;
        outlets::check_access_log(&compiled.document).map_err(|found| refused(&[found]))?;
        let (target, lines_max) = settings::access_log_target(&compiled.document);
        let access_log = AccessLog::start(target, lines_max, metrics.log_counts())?;
        let published = Arc::new(Published::new(Arc::clone(&compiled.snapshot)));
        let acme = AcmeAgent::new(&compiled.snapshot, &metrics);
        let staples = Staples::new(compiled.certificates.live());
        let (crew, receivers) = crew(workers);
        let control = Arc::new_cyclic(|this| Self {
            source,
            metrics: Arc::clone(&metrics),
            access_log,
            log,
            published,
            crew,
            acme,
            sessions: SharedSessions::default(),
            staples,
            state: Mutex::new(State {
                compiled,
                fingerprint,
                in_use: bound.actual.clone(),
                supervisor: None,
                places: status::places(&sources),
                admin: None,
                watched: reload::watched(&sources),
                refused: None,
            }),
            workers: Mutex::default(),
            changed: Arc::default(),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            this: Weak::clone(this),
        });
        control.state().compiled.certificates.take_effect();
        // The first client gets what the last process knew.
        let document = Arc::clone(&control.state().compiled.document);
        control.staples.configure(&document);
        control.start_workers(receivers)?;
        control.hand_over(bound);
        control.applied(1);
        Ok(control)
    }

    fn start_workers(&self, receivers: Vec<mpsc::Receiver<Command>>) -> std::io::Result<()> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for (index, commands) in receivers.into_iter().enumerate() {
            let Some(metrics) = self.metrics.worker(index) else {
                continue;
            };
            let log = self.access_log.clone();
            let (crew, published) = (Arc::clone(&self.crew), Arc::clone(&self.published));
            // With more workers than processors the kernel spreads them better than we would.
            let processor = (self.crew.members.len() <= processors).then_some(index);
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    let parts = WorkerParts {
                        index,
                        crew,
                        published,
                        metrics,
                        log: log.worker(),
                        commands,
                        processor,
                    };
                    if let Err(error) = worker::run(parts) {
                        tracing::error!(worker = index, %error, "worker_failed");
                    }
                })?;
            self.workers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread);
        }
        Ok(())
    }

    /// Keeps the control path going: name resolution, health checks, reloads on signals, on file
    /// changes and on request. Ends only when it is dropped.
    pub async fn run(self: Arc<Self>) {
        let (Ok(mut hangup), Ok(mut rotated)) = (
            signal(SignalKind::hangup()),
            signal(SignalKind::user_defined1()),
        ) else {
            tracing::error!("signals_unavailable");
            return std::future::pending().await;
        };
        let watch = self.watch();
        tokio::spawn(self.staples.keep());
        let upstreams = self.state().compiled.upstreams.clone();
        let supervisor = EndpointsSupervisor::start(tokio::runtime::Handle::current(), &upstreams);
        supervisor.settled(NAMES_SETTLE).await;
        self.state().supervisor = Some(supervisor);
        self.ready.store(true, Ordering::Release);
        service_manager::ready(&self.status_line());
        let mut chores = tokio::time::interval(CHORES_EVERY);
        let mut dates = tokio::time::interval(DATES_EVERY);
        loop {
            let cause = tokio::select! {
                _ = hangup.recv() => Cause::Asked,
                () = self.changed.raised.notified() => Cause::Changed(self.changed.take()),
                _ = chores.tick() => {
                    let state = self.state();
                    state.compiled.certificates.rotate_tickets();
                    state.compiled.certificates.keep_in_order();
                    continue;
                }
                _ = dates.tick() => {
                    self.state().compiled.certificates.warn_of_expiry();
                    continue;
                }
                _ = rotated.recv() => {
                    self.access_log.reopen();
                    continue;
                }
            };
            let control = Arc::clone(&self);
            // Reading files and compiling block; the runtime's other tasks must not wait.
            let reload = tokio::task::spawn_blocking(move || control.reload_and_log(&cause));
            if let Err(error) = reload.await {
                tracing::error!(%error, "reload_panicked");
            }
            if let Some(watch) = &watch {
                watch.watch(self.watched_files());
            }
        }
    }

    fn watch(&self) -> Option<Watch> {
        let Source::File(_) = &self.source else {
            return None;
        };
        let changed = Arc::clone(&self.changed);
        // The first call comes at once and names all files: they may have changed since they were
        // read and before they were watched.
        match Watch::start(move |files| changed.add(files)) {
            Ok(watch) => {
                watch.watch(self.watched_files());
                Some(watch)
            }
            Err(error) => {
                tracing::error!(%error, "config_watch_failed: use SIGHUP or `cardea reload`");
                None
            }
        }
    }

    /// Hands bound sockets to the workers.
    fn hand_over(&self, bound: Bound) {
        for (worker, socket) in bound.into_sockets() {
            self.tell(worker, Command::Listen(socket));
        }
    }

    fn tell(&self, worker: usize, command: Command) {
        let Some(member) = self.crew.members.get(worker) else {
            return;
        };
        let mut command = command;
        // Control has time; the workers' queues are emptied within a turn of their loops.
        while let Err(mpsc::error::TrySendError::Full(returned)) = member.commands.try_send(command)
        {
            std::thread::sleep(Duration::from_millis(1));
            command = returned;
        }
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for worker in 0..self.crew.members.len() {
            self.tell(worker, command());
        }
    }

    fn applied(&self, generation: u64) {
        self.metrics.reload_applied(generation);
        let acme = self.state().compiled.acme.clone();
        self.acme.configure(acme.as_ref(), &self.this);
        self.share_sessions();
        self.metrics.set_upstreams(&self.state().compiled.upstreams);
        let document = Arc::clone(&self.state().compiled.document);
        self.staples.configure(&document);
        self.note_certificates();
    }

    fn share_sessions(&self) {
        let state = self.state();
        let Compiled {
            redis,
            certificates,
            document,
            ..
        } = &state.compiled;
        let redis = redis.as_ref().filter(|_| document.tls_sessions.redis);
        let vault = redis.map(SharedRedis::vault);
        self.sessions.configure(vault, certificates.resumption());
    }

    /// The certificates in use may be others than before.
    fn note_certificates(&self) {
        self.staples.look();
        let live = Arc::clone(self.state().compiled.certificates.live());
        self.acme.settle(|host| live.has_name(host));
        let certificates = self.state().compiled.certificates.expiries();
        self.metrics.set_certificates(certificates);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the configuration in force wants the process to shut down: the readiness delay and the
    /// grace period.
    pub fn shutdown_settings(&self) -> (Duration, Duration) {
        let shutdown = &self.state().compiled.document.shutdown;
        (shutdown.readiness_delay.0, shutdown.grace.0)
    }

    /// Turns readiness off.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        service_manager::stopping();
    }

    /// The process in a line.
    fn status_line(&self) -> String {
        let refused = match self.state().refused {
            Some(_) => "; the newest configuration is refused",
            None => "",
        };
        format!("generation {} serves{refused}", self.generation())
    }

    /// Whether traffic is welcome.
    fn is_serving(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.draining.load(Ordering::Acquire)
    }

    /// Closes listeners and idle connections; what is under way may end.
    pub fn drain_workers(&self) {
        self.crew.draining.store(true, Ordering::Relaxed);
        self.tell_all(|| Command::Drain);
    }

    /// Connections open now, over all workers.
    pub fn open_connections(&self) -> u64 {
        self.crew
            .members
            .iter()
            .map(|member| member.open.load(Ordering::Relaxed))
            .sum()
    }

    /// Gives up orders under way and writes out what is left of the access log; the last act before
    /// the process ends.
    pub fn finish(&self) {
        self.acme.finish();
        if self.open_connections() == 0 {
            for thread in self
                .workers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .drain(..)
            {
                // A worker that panicked has said so already.
                let _ = thread.join();
            }
        }
        self.access_log.flush(LOG_FLUSH);
    }
}

fn worker_count(document: &cardea_config::model::Document) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    document
        .workers
        .map_or(processors, |workers| usize::from(workers.max(1)))
}

fn crew(workers: usize) -> (Arc<Crew>, Vec<mpsc::Receiver<Command>>) {
    let (members, receivers): (Vec<_>, Vec<_>) = (0..workers)
        .map(|_| {
            let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
            (
                Member {
                    open: AtomicU64::new(0),
                    commands,
                },
                receiver,
            )
        })
        .unzip();
    (
        Arc::new(Crew {
            members: members.into(),
            draining: AtomicBool::new(false),
        }),
        receivers,
    )
}

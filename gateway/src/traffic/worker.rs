//! A worker: one pinned thread with its own runtime, sockets, buffers, timers, connection pool and
//! counters. A request lives and dies on one worker; nothing of its path crosses threads.
//!
//! Must not: block, lock, or share anything that is written per request.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cardea_http1::{Limits, RequestHead};
use tokio::sync::mpsc;

use super::access_log::WorkerLog;
use super::buffer::Buffers;
use super::connection::http2::{Runners, start_waiting};
use super::connection::{self, Ticket};
use super::exchange::{Client, Request};
use super::forward::ResponseParts;
use super::lane::Lanes;
use super::listener::{Listening, Socket as ListenerSocket};
use super::random::Random;
use super::socket::Socket;
use super::splice::Pipes;
use super::timer::{TICK, Wheel};
use super::upstream::http2::SharedPool;
use super::upstream::local::LocalUpstreams;
use super::upstream::pool::Pool;
use crate::snapshot::{ListenerId, ListenerPlan, Published, WorkerSnapshot};
use crate::telemetry::metrics::WorkerMetrics;

/// Commands waiting for one worker.
pub const COMMANDS_MAX: usize = 1024;

/// How often a worker flushes its log and sweeps its pool.
const HOUSEKEEPING: Duration = Duration::from_millis(200);

/// Spare requests and responses that a worker keeps.
const SPARE_MAX: usize = 1024;

/// What control, or another worker, asks of a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept on a socket.
    Listen(ListenerSocket),
    /// Accept no more on a listener's address: what is in its queue is served, then it closes.
    Unlisten(ListenerId, SocketAddr),
    /// Let the connections of a listener that was removed go.
    Release(ListenerId),
    /// Serve a connection that another worker accepted.
    Adopt(ListenerId, StdStream, SocketAddr),
    /// Accept no more, let idle connections go, finish the rest.
    Drain,
}

/// What all workers know of each other.
#[derive(Debug)]
pub struct Crew {
    /// Open connections of each worker, each on a cache line of its own.
    pub members: Box<[Member]>,
    /// Whether the process is shutting down.
    pub draining: AtomicBool,
}

/// One worker as the others see it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Member {
    /// Its open connections.
    pub open: AtomicU64,
    /// Where to send it commands.
    pub commands: mpsc::Sender<Command>,
}

/// The state of a worker.
#[derive(Debug)]
pub struct Worker {
    /// Its place among the workers.
    pub index: usize,
    /// The workers.
    pub crew: Arc<Crew>,
    /// The configuration in force.
    pub snapshot: WorkerSnapshot,
    /// Spare buffers.
    pub buffers: Buffers,
    /// Spare pipes for `splice`.
    pub pipes: Pipes,
    /// The clock and the deadlines.
    pub wheel: Rc<Wheel>,
    /// Idle connections to endpoints.
    pub pool: Pool,
    /// Connections to endpoints that exchanges share.
    pub shared: SharedPool,
    /// This worker's part of the upstreams.
    pub upstreams: LocalUpstreams,
    /// Random numbers, for balancing and ids.
    pub random: Random,
    /// This worker's counters.
    pub metrics: WorkerMetrics,
    /// This worker's access-log buffer.
    pub log: WorkerLog,
    /// What an origin may send as a head.
    pub response_limits: Limits,
    /// How long what is ready waits for this worker, as of the last tick.
    pub delay: Cell<Duration>,
    /// Tasks for the exchanges of streams.
    pub runners: Runners,
    /// The share that TLS handshakes have of this worker.
    pub lanes: Lanes,
    register: RefCell<Vec<Option<Rc<Ticket>>>>,
    vacant: RefCell<Vec<usize>>,
    #[expect(
        clippy::vec_box,
        reason = "taking a request must move a pointer, not the request"
    )]
    requests: RefCell<Vec<Box<Request>>>,
    heads: RefCell<Vec<RequestHead>>,
    #[expect(
        clippy::vec_box,
        reason = "taking a response must move a pointer, not the response"
    )]
    responses: RefCell<Vec<Box<ResponseParts>>>,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerParts {
    /// Its place among the workers.
    pub index: usize,
    /// The workers.
    pub crew: Arc<Crew>,
    /// Where snapshots are published.
    pub published: Arc<Published>,
    /// Its counters.
    pub metrics: WorkerMetrics,
    /// Its access-log buffer.
    pub log: WorkerLog,
    /// Its commands.
    pub commands: mpsc::Receiver<Command>,
    /// The processor it is pinned to.
    pub processor: Option<usize>,
}

/// Runs a worker on the calling thread until it was told to drain and its connections are gone.
pub fn run(parts: WorkerParts) -> io::Result<()> {
    if let Some(processor) = parts.processor {
        pin(processor);
    }
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io().enable_time().event_interval(61);
    let runtime = builder.build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let mut commands = parts.commands;
        let wheel = Wheel::new();
        let worker = Rc::new(Worker {
            index: parts.index,
            crew: parts.crew,
            snapshot: WorkerSnapshot::new(parts.published),
            buffers: Buffers::default(),
            pipes: Pipes::default(),
            pool: Pool::new(&wheel),
            shared: SharedPool::default(),
            wheel,
            upstreams: LocalUpstreams::new(parts.index),
            random: Random::from_system(),
            metrics: parts.metrics,
            log: parts.log,
            response_limits: super::upstream::response::limits(),
            register: RefCell::default(),
            vacant: RefCell::default(),
            delay: Cell::default(),
            runners: Runners::default(),
            lanes: Lanes::default(),
            requests: RefCell::default(),
            heads: RefCell::default(),
            responses: RefCell::default(),
        });
        tokio::task::spawn_local(turn_wheel(Rc::clone(&worker)));
        tokio::task::spawn_local(start_waiting(Rc::clone(&worker)));
        tokio::task::spawn_local(keep_house(Rc::clone(&worker)));
        obey(&worker, &mut commands).await;
        worker.log.flush();
    });
    Ok(())
}

/// Pins the thread; a container may forbid it, and the worker is as correct unpinned.
fn pin(processor: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(processor, %error, "worker_not_pinned");
    }
}

async fn turn_wheel(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let due = interval.tick().await;
        let now = Instant::now();
        let late = now.saturating_duration_since(due.into_std());
        worker.delay.set(late);
        worker.upstreams.dismiss(now);
        worker.wheel.turn(now);
    }
}

async fn keep_house(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        worker.log.flush();
        worker.pool.sweep();
        worker.snapshot.forget();
        worker.metrics.set_pool_idle(worker.pool.len());
        worker.metrics.set_delay(worker.delay.get());
        worker.metrics.set_buffers_in_use(worker.buffers.in_use());
        worker
            .metrics
            .set_requests_waiting(worker.runners.waiting());
    }
}

async fn obey(worker: &Rc<Worker>, commands: &mut mpsc::Receiver<Command>) {
    let mut listening = Listening::default();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Listen(socket) => listening.start(worker, socket),
            Command::Unlisten(id, address) => listening.stop(worker, id, address),
            Command::Release(id) => worker.release(|ticket| ticket.listener() == id),
            Command::Adopt(id, stream, peer) => worker.adopt(id, stream, peer),
            Command::Drain => {
                listening.stop_all(worker);
                worker.release(|_| true);
                worker.pool.clear();
                drain(worker, commands).await;
                return;
            }
        }
    }
}

/// Waits until the last connection is gone; connections handed over late are still served.
async fn drain(worker: &Rc<Worker>, commands: &mut mpsc::Receiver<Command>) {
    let mut interval = tokio::time::interval(TICK);
    while worker.open_connections() > 0 {
        tokio::select! {
            _ = interval.tick() => worker.release(|_| true),
            Some(command) = commands.recv() => {
                if let Command::Adopt(id, stream, peer) = command {
                    worker.adopt(id, stream, peer);
                }
            }
        }
    }
}

impl Worker {
    /// Whether the process is shutting down: connections are told to close after their exchange.
    pub fn is_draining(&self) -> bool {
        self.crew.draining.load(Ordering::Relaxed)
    }

    /// This worker's open connections.
    pub fn open_connections(&self) -> u64 {
        self.crew
            .members
            .get(self.index)
            .map_or(0, |member| member.open.load(Ordering::Relaxed))
    }

    /// Serves a connection on this worker.
    pub fn adopt(self: &Rc<Self>, listener: ListenerId, stream: StdStream, peer: SocketAddr) {
        let adopted = stream
            .set_nonblocking(true)
            .and_then(|()| tokio::net::TcpStream::from_std(stream));
        match adopted {
            Ok(stream) => self.serve(listener, stream, peer),
            Err(error) => tracing::debug!(%error, "connection_lost_in_handover"),
        }
    }

    /// Begins serving a connection.
    pub fn serve(
        self: &Rc<Self>,
        listener: ListenerId,
        stream: tokio::net::TcpStream,
        peer: SocketAddr,
    ) {
        let client = Client::new(peer);
        let socket = Socket::new(stream, &self.wheel);
        let connection = connection::serve(Rc::clone(self), listener, socket, client);
        // In a box, because a task moves its future when it begins and when it ends.
        tokio::task::spawn_local(Box::pin(connection));
    }

    /// Enters a connection into the register until the guard goes.
    pub fn open_connection(
        self: &Rc<Self>,
        plan: &Arc<ListenerPlan>,
        ticket: &Rc<Ticket>,
    ) -> OpenConnection {
        let mut register = self.register.borrow_mut();
        let place = match self.vacant.borrow_mut().pop() {
            Some(place) => place,
            None => {
                register.push(None);
                register.len() - 1
            }
        };
        if let Some(entry) = register.get_mut(place) {
            *entry = Some(Rc::clone(ticket));
        }
        plan.open.fetch_add(1, Ordering::Relaxed);
        self.count_open(1);
        self.metrics.connection_opened(plan.slot.id());
        OpenConnection {
            worker: Rc::clone(self),
            plan: Arc::clone(plan),
            place,
        }
    }

    /// Counts a session of UDP as open until the guard goes.
    pub fn open_session(self: &Rc<Self>, plan: &Arc<ListenerPlan>) -> OpenSession {
        plan.open.fetch_add(1, Ordering::Relaxed);
        self.count_open(1);
        self.metrics.connection_opened(plan.slot.id());
        OpenSession {
            worker: Rc::clone(self),
            plan: Arc::clone(plan),
        }
    }

    fn count_open(&self, change: i64) {
        if let Some(member) = self.crew.members.get(self.index) {
            // Only this worker writes its count.
            let open = member.open.load(Ordering::Relaxed);
            member
                .open
                .store(open.saturating_add_signed(change), Ordering::Relaxed);
        }
    }

    /// Lets the connections go for which `matches` holds, those that serve a request after it.
    pub fn release(&self, matches: impl Fn(&Ticket) -> bool) {
        for ticket in self.register.borrow().iter().flatten() {
            if matches(ticket) {
                ticket.release();
            }
        }
    }

    /// A request to fill in.
    pub fn take_request(&self) -> Box<Request> {
        self.requests.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a request back.
    pub fn give_request(&self, mut request: Box<Request>) {
        self.buffers
            .give_input(std::mem::take(&mut request.headers.bytes));
        request.clear();
        give(&self.requests, request);
    }

    /// A parser for a request head.
    pub fn take_request_head(&self) -> RequestHead {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a parser back.
    pub fn give_request_head(&self, head: RequestHead) {
        give(&self.heads, head);
    }

    /// A response to fill in.
    pub fn take_response(&self) -> Box<ResponseParts> {
        self.responses.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a response back.
    pub fn give_response(&self, mut parts: Box<ResponseParts>) {
        self.buffers
            .give_input(std::mem::take(&mut parts.response.headers.bytes));
        parts.response.headers.clear();
        give(&self.responses, parts);
    }
}

fn give<T>(spare: &RefCell<Vec<T>>, value: T) {
    let mut spare = spare.borrow_mut();
    if spare.len() < SPARE_MAX {
        spare.push(value);
    }
}

/// A connection in the register.
#[derive(Debug)]
pub struct OpenConnection {
    worker: Rc<Worker>,
    plan: Arc<ListenerPlan>,
    place: usize,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(entry) = self.worker.register.borrow_mut().get_mut(self.place) {
            *entry = None;
        }
        self.worker.vacant.borrow_mut().push(self.place);
        self.plan.open.fetch_sub(1, Ordering::Relaxed);
        self.worker.count_open(-1);
        self.worker.metrics.connection_closed(self.plan.slot.id());
    }
}

/// A session of UDP. Dropping it gives its place to another one.
#[derive(Debug)]
pub struct OpenSession {
    worker: Rc<Worker>,
    plan: Arc<ListenerPlan>,
}

impl OpenSession {
    /// How its listener served when it began.
    pub fn plan(&self) -> &ListenerPlan {
        &self.plan
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.plan.open.fetch_sub(1, Ordering::Relaxed);
        self.worker.count_open(-1);
        self.worker.metrics.connection_closed(self.plan.slot.id());
    }
}

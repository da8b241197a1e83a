//! Connections of HTTP/2 to endpoints: many exchanges of a worker share one. Each is driven by a task
//! of its own, which notices its end at once, so nothing has to be asked before it is used.
//!
//! Must not: let an exchange wait for another's connection that may never come, or open more streams
//! than the endpoint allows.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use cardea_http2::{Event, Fault, Limits, Role};

use super::endpoint::EndpointId;
use super::local::BuildIdHasher;
use super::pool::Connection;
use super::settings::PoolSettings;
use crate::traffic::buffer::Inbound;
use crate::traffic::http2::{Head, Hub, Loss, Stream, write, write_rest};
use crate::traffic::socket::Socket;
use crate::traffic::timer::Direction;
use crate::traffic::worker::Worker;

/// How long an endpoint may say nothing while exchanges wait for it before it is asked whether it is
/// there. Exchanges have deadlines of their own; this is for the connection, which outlives them.
const PING_AFTER: Duration = Duration::from_secs(20);

/// How long it then has to answer.
const PONG_TIME_MAX: Duration = Duration::from_secs(10);

/// How long it may take nothing of what it is sent.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long the last frames may take to leave.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// What an endpoint may cost us. It is held to the windows, and to the size of heads; how often it
/// pings is its affair, within reason.
fn limits() -> Limits {
    let heads = super::response::limits();
    Limits {
        head_bytes_max: heads.head_bytes_max,
        field_count_max: heads.field_count_max,
        block_bytes_max: heads.head_bytes_max,
        connection_window_bytes: 4 * 1024 * 1024,
        control_frames_max: 10_000,
        resets_max: 10_000,
        ..Limits::default()
    }
}

/// The connections of one worker that exchanges share.
#[derive(Debug, Default)]
pub struct SharedPool(RefCell<HashMap<EndpointId, Shared, BuildIdHasher>>);

/// Those to one endpoint.
#[derive(Debug, Default)]
struct Shared {
    connections: Vec<Member>,
    /// Whether the endpoint is known to speak HTTP/2, so that one connection is worth waiting for.
    is_known: bool,
    /// Connections that are being made.
    connecting: usize,
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Member {
    hub: Rc<Hub>,
    /// Streams that may still be opened on it.
    left: u64,
}

impl Shared {
    fn is_unused(&self) -> bool {
        self.connections.is_empty() && self.connecting == 0
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl SharedPool {
    /// A new stream to an endpoint, on a connection that is there or that somebody is making; `None`
    /// when the caller has to make one.
    pub async fn stream(&self, endpoint: EndpointId, is_known: bool) -> Option<Rc<Stream>> {
        poll_fn(|cx| {
            let mut shared = self.0.borrow_mut();
            let Some(shared) = shared.get_mut(&endpoint) else {
                return Poll::Ready(None);
            };
            let opened = shared.open();
            let is_worth_waiting = (is_known || shared.is_known) && shared.connecting > 0;
            if opened.is_some() || !is_worth_waiting {
                return Poll::Ready(opened);
            }
            shared.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Says that the caller makes a connection, until the guard goes.
    pub fn begin_connecting(&self, endpoint: EndpointId) -> Connecting<'_> {
        let mut shared = self.0.borrow_mut();
        shared.entry(endpoint).or_default().connecting += 1;
        Connecting {
            pool: self,
            endpoint,
        }
    }

    /// Has a connection shared from now on, and opens its first stream.
    pub fn share(
        &self,
        worker: &Rc<Worker>,
        endpoint: EndpointId,
        connection: Connection,
        settings: &PoolSettings,
    ) -> Option<Rc<Stream>> {
        let hub = Hub::new(worker, Role::Client, limits());
        let mut shared = self.0.borrow_mut();
        let shared = shared.entry(endpoint).or_default();
        shared.is_known = true;
        shared.connections.push(Member {
            hub: Rc::clone(&hub),
            left: match settings.requests_per_connection_max {
                0 => u64::MAX,
                max => max,
            },
        });
        let drive = drive(hub, endpoint, connection, settings.idle_timeout);
        tokio::task::spawn_local(Box::pin(drive));
        shared.open()
    }

    /// Opens the only stream of a connection that nobody else may use.
    pub fn use_alone(
        &self,
        worker: &Rc<Worker>,
        endpoint: EndpointId,
        connection: Connection,
    ) -> Option<Rc<Stream>> {
        let hub = Hub::new(worker, Role::Client, limits());
        let stream = open(&hub);
        let drive = drive(hub, endpoint, connection, Duration::ZERO);
        tokio::task::spawn_local(Box::pin(drive));
        stream
    }

    /// Whether an endpoint has said that it knows of tunnels (RFC 8441 section 3).
    pub fn has_tunnels(&self, endpoint: EndpointId) -> bool {
        let shared = self.0.borrow();
        let members = shared.get(&endpoint).map(|it| it.connections.as_slice());
        let mut members = members.unwrap_or_default().iter();
        members.any(|member| member.hub.codec().has_tunnels())
    }

    /// How many connections are shared.
    pub fn len(&self) -> usize {
        let shared = self.0.borrow();
        shared.values().map(|it| it.connections.len()).sum()
    }

    /// Whether no connection is shared.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remove(&self, endpoint: EndpointId, hub: &Rc<Hub>) {
        self.change(endpoint, |shared| {
            shared.connections.retain(|it| !Rc::ptr_eq(&it.hub, hub));
        });
    }

    fn change(&self, endpoint: EndpointId, change: impl FnOnce(&mut Shared)) {
        let mut all = self.0.borrow_mut();
        if let Some(shared) = all.get_mut(&endpoint) {
            change(shared);
            shared.wake();
            if shared.is_unused() {
                all.remove(&endpoint);
            }
        }
    }
}

impl Shared {
    /// A stream on the first connection that takes one; those that take none any more are left to
    /// end.
    fn open(&mut self) -> Option<Rc<Stream>> {
        self.connections.retain(|it| it.left > 0);
        for member in &mut self.connections {
            if let Some(stream) = open(&member.hub) {
                member.left -= 1;
                return Some(stream);
            }
        }
        None
    }
}

fn open(hub: &Rc<Hub>) -> Option<Rc<Stream>> {
    let id = hub.act(cardea_http2::Connection::open)?;
    let stream = Stream::new(hub, id, false);
    hub.add(Rc::clone(&stream));
    Some(stream)
}

/// A connection being made.
#[derive(Debug)]
pub struct Connecting<'p> {
    pool: &'p SharedPool,
    endpoint: EndpointId,
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.pool.change(self.endpoint, |shared| {
            shared.connecting = shared.connecting.saturating_sub(1);
        });
    }
}

/// Drives a connection to its end: `idle` after its last stream, or with it.
async fn drive(hub: Rc<Hub>, endpoint: EndpointId, connection: Connection, idle: Duration) {
    let Connection {
        socket,
        permit: _permit,
        ..
    } = connection;
    let driver = Driver {
        hub: &hub,
        socket: &socket,
        idle,
        is_idle: Cell::new(false),
        is_pinged: Cell::new(false),
    };
    let end = driver.run().await;
    let worker = hub.worker();
    worker.shared.remove(endpoint, &hub);
    if let End::Fault(fault) = end {
        tracing::debug!(fault = fault.as_str(), "http2_upstream_fault");
        hub.act(|codec| codec.give_up(fault));
    }
    if end != End::Gone {
        // The endpoint may be gone already; there is nobody left to tell.
        let _ = write_rest(&hub, &socket, FAREWELL_TIME_MAX).await;
    }
    hub.end();
    hub.until_empty().await;
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nobody needs it.
    Orderly,
    /// The endpoint closed it, or does not answer.
    Gone,
    /// The endpoint broke a rule.
    Fault(Fault),
}

struct Driver<'d> {
    hub: &'d Rc<Hub>,
    socket: &'d Socket,
    idle: Duration,
    is_idle: Cell<bool>,
    is_pinged: Cell<bool>,
}

impl Driver<'_> {
    async fn run(&self) -> End {
        let mut inbound = Inbound::default();
        let end = {
            let mut reading = pin!(self.read(&mut inbound));
            let mut writing = pin!(write(self.hub, self.socket, WRITE_TIME_MAX));
            poll_fn(|cx| {
                if let Poll::Ready(end) = reading.as_mut().poll(cx) {
                    return Poll::Ready(end);
                }
                if writing.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(End::Gone);
                }
                self.rearm();
                let is_of_use = !self.idle.is_zero() && self.hub.codec().can_open();
                match self.hub.is_empty() && !is_of_use {
                    true => Poll::Ready(End::Orderly),
                    false => Poll::Pending,
                }
            })
            .await
        };
        inbound.discard(&self.hub.worker().buffers);
        end
    }

    async fn read(&self, inbound: &mut Inbound) -> End {
        let buffers = &self.hub.worker().buffers;
        loop {
            if let Err(fault) = self.take_in(inbound) {
                return End::Fault(fault);
            }
            poll_fn(|cx| self.hub.poll_drained(cx)).await;
            let room = inbound.room();
            match inbound.fill(self.socket, buffers).await {
                Ok(0) => return End::Gone,
                Ok(read) => {
                    self.is_pinged.set(false);
                    if !self.is_idle.get() {
                        self.socket.set_deadline(Direction::Read, PING_AFTER);
                    }
                    if read == room {
                        inbound.widen(buffers);
                    }
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    if self.hub.is_empty() {
                        return End::Orderly;
                    }
                    if self.is_pinged.replace(true) {
                        return End::Gone;
                    }
                    self.hub.act(cardea_http2::Connection::ping);
                    self.socket.set_deadline(Direction::Read, PONG_TIME_MAX);
                }
                Err(_) => return End::Gone,
            }
        }
    }

    fn take_in(&self, inbound: &mut Inbound) -> Result<(), Fault> {
        let worker = self.hub.worker();
        let now_ms = worker.wheel.now_ms();
        let mut text = worker.buffers.take_output();
        loop {
            text.clear();
            let received = self.hub.codec().receive(inbound.bytes(), now_ms, &mut text);
            let (taken, event) = received?;
            let is_last = event.is_none();
            match event {
                Some(Event::Data {
                    stream,
                    bytes,
                    is_end,
                }) => self.hub.receive(stream, bytes, is_end),
                Some(Event::Head {
                    stream,
                    is_end,
                    verdict,
                }) => {
                    let text = std::mem::replace(&mut text, worker.buffers.take_output());
                    let head = Head {
                        text,
                        is_end,
                        verdict,
                    };
                    self.hub.receive_head(stream, head);
                }
                Some(Event::Trailers { stream }) => {
                    let text = std::mem::replace(&mut text, worker.buffers.take_output());
                    self.hub.receive_trailers(stream, text);
                }
                Some(Event::Reset { stream, code }) => {
                    let is_refused = code == cardea_http2::ErrorCode::REFUSED_STREAM;
                    let loss = if is_refused {
                        Loss::Refused
                    } else {
                        Loss::Reset
                    };
                    self.hub.lose(stream, loss);
                }
                Some(Event::Broken { stream, .. }) => self.hub.lose(stream, Loss::Reset),
                Some(Event::Window { stream }) => self.hub.wake_writers(stream),
                // RFC 9113 section 6.8: what is above was not looked at.
                Some(Event::Goaway { last, .. }) => self.hub.lose_above(last),
                Some(Event::Pong) | None => {}
            }
            inbound.consume(taken);
            if is_last {
                break;
            }
        }
        worker.buffers.give_output(text);
        inbound.release(&worker.buffers);
        Ok(())
    }

    /// Sets the deadline of what is waited for, when that changed.
    fn rearm(&self) {
        let is_idle = self.hub.is_empty();
        if is_idle == self.is_idle.replace(is_idle) {
            return;
        }
        let wait = if is_idle { self.idle } else { PING_AFTER };
        self.is_pinged.set(false);
        self.socket.set_deadline(Direction::Read, wait);
    }
}

//! One HTTP/2 connection of a client: frames in and out, and a task for each stream, in which an
//! exchange runs as it does on a connection of its own.
//!
//! One task drives the connection: it reads what is there, hands it to the streams, and sends what
//! they wrote together. It takes no more from a client that does not read, and none of its waits is
//! without a deadline: for a head, for the next request, for the client to take what it asked for.
//!
//! Must not: know what a request means, or let one stream wait for another.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use cardea_http2::{Event, Fault, Role};

use super::upgrade::Turned;
use super::{LINGER_TIME_MAX, Ticket};
use crate::telemetry::metrics::ListenerSlotId;
use crate::traffic::buffer::Inbound;
use crate::traffic::exchange::Client;
use crate::traffic::http2::{Hub, Loss, write, write_rest};
use crate::traffic::socket::Socket;
use crate::traffic::timer::Direction;
use crate::traffic::worker::Worker;

mod exchange;
mod runner;

pub use runner::{Runners, start_waiting};

/// How long a client has to hear that the connection ends before its new streams are ignored.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a connection is left unread that has used up half of a budget, each time.
const PAUSE: Duration = Duration::from_millis(20);

/// Who is at the other end of a connection.
#[derive(Debug)]
struct Caller {
    client: Client,
    ticket: Rc<Ticket>,
}

/// Serves a connection to its end.
pub async fn serve(
    worker: &Rc<Worker>,
    ticket: Rc<Ticket>,
    socket: Socket,
    client: Client,
    turned: Turned,
) {
    let snapshot = worker.snapshot.of(ticket.listener());
    let Some(plan) = snapshot.listener(ticket.listener()) else {
        return;
    };
    // What came before the handshake was done may be a copy that somebody else sent; it is as well
    // to wait for the end of it.
    socket.set_deadline(Direction::Read, plan.handshake_timeout);
    socket.set_deadline(Direction::Write, plan.handshake_timeout);
    if socket.handshake().await.is_err() {
        return;
    }
    let hub = Hub::new(worker, Role::Server, plan.http2);
    hub.set_local_address(socket.local_address().ok());
    let caller = Rc::new(Caller { client, ticket });
    let waits = Waits {
        head: plan.head_timeout,
        idle: plan.idle_timeout,
        write: snapshot.timeouts.write_progress,
        requests_max: plan.requests_per_connection_max,
    };
    drop(snapshot);
    // Told to go, it is woken whatever it is doing.
    caller.ticket.set_idle(true);
    let mut driver = Driver {
        hub: &hub,
        caller: &caller,
        socket: &socket,
        waits,
        is_within_head: Cell::new(true),
        leaving: Cell::new(Leaving::No),
        awaited: Cell::new(Awaited::Head),
    };
    socket.set_deadline(Direction::Read, driver.waits.head);
    let mut reader = Reader {
        inbound: turned.received,
        text: Vec::new(),
        served: u64::from(turned.first.is_some()),
    };
    let begun = match turned.first {
        Some(first) => exchange::begin_upgraded(&hub, &caller, *first),
        None => Ok(()),
    };
    let end = match begun {
        Ok(()) => driver.run(&mut reader).await,
        Err(fault) => End::Fault(fault),
    };
    caller.ticket.set_idle(false);
    hub.end();
    driver.say_last_words(end).await;
    reader.inbound.discard(&worker.buffers);
    worker.buffers.give_output(reader.text);
    hub.until_empty().await;
}

/// How long things may take.
struct Waits {
    head: Duration,
    idle: Duration,
    write: Duration,
    requests_max: u64,
}

/// How far the end of the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client was told; its new streams are still served until it has heard.
    Announced,
    /// Streams that are open are served, others are not.
    Ended,
}

/// What the client is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The rest of a head that it began.
    Head,
    /// The next request.
    Request,
    /// Nothing that has to come: streams have deadlines of their own.
    Nothing,
}

/// How the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything was said.
    Orderly,
    /// The client closed, or does not read.
    Gone,
    /// The client broke a rule.
    Fault(Fault),
}

struct Driver<'d> {
    hub: &'d Rc<Hub>,
    caller: &'d Rc<Caller>,
    socket: &'d Socket,
    waits: Waits,
    /// Whether the client has begun something that it has to go on with.
    is_within_head: Cell<bool>,
    leaving: Cell<Leaving>,
    awaited: Cell<Awaited>,
}

struct Reader {
    inbound: Inbound,
    /// Where the text of the next head is written.
    text: Vec<u8>,
    served: u64,
}

impl Driver<'_> {
    async fn run(&mut self, reader: &mut Reader) -> End {
        if self.caller.ticket.is_released() {
            self.announce();
        }
        let mut reading = pin!(self.read(reader));
        let mut writing = pin!(write(self.hub, self.socket, self.waits.write));
        poll_fn(|cx| {
            if let Poll::Ready(end) = reading.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            if writing.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Gone);
            }
            self.rearm();
            let is_over = self.leaving.get() == Leaving::Ended
                && self.hub.is_empty()
                && self.hub.pending() == 0;
            if is_over {
                return Poll::Ready(End::Orderly);
            }
            Poll::Pending
        })
        .await
    }

    /// Reads frames; ends when no more are to come.
    async fn read(&self, reader: &mut Reader) -> End {
        loop {
            if let Err(fault) = self.take_in(reader) {
                return End::Fault(fault);
            }
            poll_fn(|cx| self.hub.poll_drained(cx)).await;
            self.pause_if_wasteful().await;
            self.rearm();
            let buffers = &self.hub.worker().buffers;
            let room = reader.inbound.room();
            let filled = poll_fn(|cx| {
                if self.hub.is_empty() {
                    // Nobody waits for anything: what is held is held for nothing.
                    buffers.give_output(std::mem::take(&mut reader.text));
                    reader.inbound.release(buffers);
                }
                reader.inbound.poll_fill(self.socket, buffers, cx)
            });
            match filled.await {
                Ok(0) => return End::Gone,
                // More than fits was there: a body comes in.
                Ok(read) if read == room => reader.inbound.widen(buffers),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    if let Some(end) = self.overdue() {
                        return end;
                    }
                }
                Err(_) => return End::Gone,
            }
        }
    }

    /// Leaves the connection unread for a moment if most of what came on it asked for nothing: to read
    /// it, and to be woken for it, is most of what that costs us.
    async fn pause_if_wasteful(&self) {
        let worker = self.hub.worker();
        if !self.hub.codec().is_wasteful(worker.wheel.now_ms()) {
            return;
        }
        if let Some(slot) = self.slot() {
            worker.metrics.http2_paused(slot);
        }
        Box::pin(tokio::time::sleep(PAUSE)).await;
    }

    /// Takes in the frames that are there as a whole.
    fn take_in(&self, reader: &mut Reader) -> Result<(), Fault> {
        let worker = self.hub.worker();
        let now_ms = worker.wheel.now_ms();
        loop {
            if reader.text.capacity() == 0 {
                reader.text = worker.buffers.take_output();
            }
            reader.text.clear();
            let Reader {
                inbound,
                text,
                served,
            } = &mut *reader;
            let received = self.hub.codec().receive(inbound.bytes(), now_ms, text);
            let (taken, event) = received?;
            match event {
                None => {
                    inbound.consume(taken);
                    break;
                }
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
                    let text = std::mem::take(text);
                    exchange::begin(self.hub, self.caller, stream, is_end, verdict, text);
                    *served += 1;
                    if *served >= self.waits.requests_max {
                        self.announce();
                    }
                }
                Some(Event::Trailers { stream }) => {
                    let text = std::mem::take(text);
                    self.hub.receive_trailers(stream, text);
                }
                Some(Event::Reset { stream, .. }) => self.hub.lose(stream, Loss::Reset),
                Some(Event::Broken { stream, fault }) => {
                    self.count_fault(fault);
                    self.hub.lose(stream, Loss::Reset);
                }
                Some(Event::Window { stream }) => self.hub.wake_writers(stream),
                Some(Event::Pong) if self.leaving.get() == Leaving::Announced => self.end(),
                Some(Event::Pong) => {}
                // It asks for nothing more.
                Some(Event::Goaway { .. }) => self.end(),
            }
            inbound.consume(taken);
        }
        let is_within = !reader.inbound.is_empty() || self.hub.codec().is_within_head();
        self.is_within_head.set(is_within);
        Ok(())
    }

    /// Sets the deadline of what the client is waited for, when that changed.
    fn rearm(&self) {
        let awaited = if self.is_within_head.get() {
            Awaited::Head
        } else if self.hub.is_empty() {
            Awaited::Request
        } else {
            Awaited::Nothing
        };
        if self.leaving.get() == Leaving::Announced || awaited == self.awaited.replace(awaited) {
            return;
        }
        let wait = match awaited {
            Awaited::Head => self.waits.head,
            Awaited::Request => self.waits.idle,
            Awaited::Nothing => Duration::ZERO,
        };
        self.socket.set_deadline(Direction::Read, wait);
    }

    /// A deadline passed, or somebody says that the connection is to go.
    fn overdue(&self) -> Option<End> {
        match self.leaving.get() {
            Leaving::No if self.caller.ticket.is_released() => self.announce(),
            Leaving::Announced => self.end(),
            _ if self.awaited.get() == Awaited::Head => {
                let has_begun = self.hub.codec().has_begun();
                return Some(match has_begun {
                    true => End::Fault(Fault::Stalled),
                    false => End::Orderly,
                });
            }
            _ if self.hub.is_empty() => {
                self.end();
                return Some(End::Orderly);
            }
            _ => self.socket.set_deadline(Direction::Read, Duration::ZERO),
        }
        None
    }

    /// Tells the client to open no more streams, before they are ignored.
    fn announce(&self) {
        if self.leaving.get() == Leaving::No {
            self.leaving.set(Leaving::Announced);
            self.caller.ticket.set_idle(false);
            self.hub.act(cardea_http2::Connection::announce_end);
            self.socket.set_deadline(Direction::Read, FAREWELL_TIME_MAX);
        }
    }

    fn end(&self) {
        if self.leaving.replace(Leaving::Ended) != Leaving::Ended {
            self.caller.ticket.set_idle(false);
            self.hub.act(cardea_http2::Connection::end);
            self.socket.set_deadline(Direction::Read, Duration::ZERO);
            self.awaited.set(Awaited::Nothing);
        }
    }

    /// Sends what is left to say, and closes without a reset that would overtake it.
    async fn say_last_words(&self, end: End) {
        match end {
            End::Gone => return,
            End::Orderly => self.end(),
            End::Fault(fault) => {
                self.count_fault(fault);
                self.hub.act(|codec| codec.give_up(fault));
            }
        }
        let sent = write_rest(self.hub, self.socket, LINGER_TIME_MAX).await;
        if sent.is_ok() {
            super::http1::linger(self.socket).await;
        }
    }

    /// Where the connection is counted.
    fn slot(&self) -> Option<ListenerSlotId> {
        let listener = self.caller.ticket.listener();
        let snapshot = self.hub.worker().snapshot.of(listener);
        snapshot.listener(listener).map(|plan| plan.slot.id())
    }

    /// Counts a rule that the client broke.
    fn count_fault(&self, fault: Fault) {
        let worker = self.hub.worker();
        if let Some(slot) = self.slot() {
            worker.metrics.http2_fault(slot, fault);
        }
        tracing::debug!(peer = %self.caller.client.peer, fault = fault.as_str(), "http2_fault");
    }
}

//! A client's connection from accept to close: what a proxy in front says of it, its TLS handshake,
//! then the stream that takes it, or the protocol that was agreed on it.
//!
//! Must not: know what a request means.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use self::tcp::Taken;
use self::upgrade::Turned;
use super::exchange::Client;
use super::socket::Socket;
use super::timer::{Direction, TimerHandle};
use super::worker::Worker;
use crate::snapshot::ListenerId;
use crate::telemetry::metrics::HandshakeEnd;

mod handshake;
mod head;

pub mod proxy_header;

mod tcp;

pub mod client;
mod conduct;

pub mod http1;
pub mod http2;
mod upgrade;

/// Bytes that are dropped of what a client still sends after it was told something last: the rest of a
/// body after an early response, or what it had on the way when its handshake failed.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// How long it has to hear that and to close.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// A connection's entry in its worker's register: enough to tell it to go.
#[derive(Debug)]
pub struct Ticket {
    listener: ListenerId,
    idle: Cell<bool>,
    released: Cell<bool>,
    timer: TimerHandle,
}

impl Ticket {
    /// The ticket of a connection.
    pub fn new(listener: ListenerId, timer: TimerHandle) -> Self {
        Self {
            listener,
            idle: Cell::new(false),
            released: Cell::new(false),
            timer,
        }
    }

    /// The listener the connection came through.
    pub fn listener(&self) -> ListenerId {
        self.listener
    }

    /// Says whether the connection waits for a request.
    pub fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }

    /// Whether the connection was told to go after the exchange under way.
    pub fn is_released(&self) -> bool {
        self.released.get()
    }

    /// Tells the connection to go: at once if it waits for a request, else after its exchange.
    pub fn release(&self) {
        self.released.set(true);
        if self.idle.get() {
            self.timer.expire(Direction::Read);
        }
    }
}

/// Serves an accepted connection to its end.
pub async fn serve(
    worker: Rc<Worker>,
    listener: ListenerId,
    mut socket: Socket,
    mut client: Client,
) {
    let snapshot = worker.snapshot.of(listener);
    let Some(plan) = snapshot.listener(listener).cloned() else {
        return;
    };
    drop(snapshot);
    let ticket = Rc::new(Ticket::new(listener, socket.timer().handle()));
    if worker.snapshot.load().listener(listener).is_none() {
        // It came as its listener went: it is served, once.
        ticket.release();
    }
    let open = worker.open_connection(&plan, &ticket);
    let introduced = proxy_header::introduce(&worker, &plan, &socket, &mut client).await;
    if introduced.is_err() {
        return;
    }
    let taken = match &plan.tls {
        Some(_) => {
            // In boxes, as everything that has an end: a connection that waits for its next request
            // has room for that alone.
            let making = handshake::make(&worker, &plan, &mut socket, &mut client);
            match Box::pin(making).await {
                Ok(taken) => taken,
                Err(end) => {
                    worker.metrics.handshake_finished(plan.slot.id(), end);
                    if end == HandshakeEnd::PlainHttp && plan.serves_http() {
                        http1::refuse_plain(&worker, &ticket, &socket).await;
                    }
                    Box::pin(handshake::part(&socket, end)).await;
                    return;
                }
            }
        }
        None => plan.stream_of(None).map(Taken::unread),
    };
    if let Some(taken) = taken {
        return Box::pin(tcp::serve(&worker, &plan, &socket, &client, taken)).await;
    }
    if !plan.serves_http() {
        return;
    }
    drop(plan);
    let is_http2 = client.tls.as_ref().is_some_and(|tls| tls.is_http2);
    // In boxes, too: neither has a use for the other's room.
    let turned = match is_http2 {
        true => Some(Turned::default()),
        false => Box::pin(http1::serve(&worker, &ticket, &socket, &client)).await,
    };
    if let Some(turned) = turned {
        Box::pin(http2::serve(&worker, ticket, socket, client, turned)).await;
    }
    drop(open);
}

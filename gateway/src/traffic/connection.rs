//! A client's connection from accept to close: its TLS handshake, then the protocol that was
//! agreed on it.
//!
//! Must not: know what a request means.

use std::cell::Cell;
use std::rc::Rc;

use cardea_http1::{ErrorKind as HeadErrorKind, HeadError, HeadFault};

use super::exchange::Client;
use super::respond::Reason;
use super::socket::Socket;
use super::timer::{Direction, TimerHandle};
use super::worker::Worker;
use crate::snapshot::ListenerId;
use crate::telemetry::metrics::HandshakeEnd;

mod handshake;

pub mod client;
pub mod http1;

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
    let snapshot = worker.snapshot.load();
    let Some(plan) = snapshot.listener(listener).cloned() else {
        return;
    };
    drop(snapshot);
    let ticket = Rc::new(Ticket::new(listener, socket.timer().handle()));
    let open = worker.open_connection(&plan, &ticket);
    if plan.tls.is_some() {
        let met = handshake::make(&worker, &plan, &mut socket, &mut client).await;
        if let Err(end) = met {
            worker.metrics.handshake_finished(plan.slot.id(), end);
            if end == HandshakeEnd::PlainHttp {
                http1::refuse_plain(&worker, &ticket, &socket).await;
            }
            return;
        }
    }
    drop(plan);
    http1::serve(&worker, &ticket, &socket, &client).await;
    drop(open);
}

/// The reason of a head that cannot be served.
pub fn head_fault(error: &HeadError) -> Reason {
    match error.fault() {
        HeadFault::BareLf | HeadFault::BareCr => return Reason::LineEndingInvalid,
        HeadFault::Underscore => return Reason::HeaderUnderscore,
        HeadFault::BadConnection => return Reason::ConnectionInvalid,
        HeadFault::LengthAndEncoding => return Reason::FramingConflict,
        HeadFault::BadContentLength | HeadFault::RepeatedContentLength => {
            return Reason::LengthInvalid;
        }
        HeadFault::BadMethod | HeadFault::BadVersion | HeadFault::EmptyFirstLine => {
            return Reason::RequestLineMalformed;
        }
        HeadFault::MethodTooLong => return Reason::MethodUnknown,
        _ => {}
    }
    match error.kind() {
        HeadErrorKind::Syntax => Reason::HeaderMalformed,
        HeadErrorKind::Framing => Reason::TransferEncodingInvalid,
        HeadErrorKind::Host => Reason::HostInvalid,
        HeadErrorKind::Target => Reason::RequestLineMalformed,
        HeadErrorKind::TargetTooLong => Reason::TargetTooLong,
        HeadErrorKind::HeadTooLarge => Reason::HeadTooLarge,
        HeadErrorKind::NotImplemented => Reason::TransferEncodingUnsupported,
        HeadErrorKind::Version => Reason::VersionUnsupported,
        HeadErrorKind::Expectation => Reason::ExpectationUnknown,
    }
}

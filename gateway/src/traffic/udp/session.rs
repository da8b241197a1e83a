//! The session of one client of UDP: a socket towards one endpoint, which takes nothing from
//! anybody else, and replies from there back to the client.
//!
//! Must not: outlive the silence that its stream allows, or reply to another address than the one
//! that opened it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use tokio::io::{Interest, Ready};
use tokio::net::UdpSocket;

use super::socket::Ends;
use super::{Receiver, TURN_MAX};
use crate::telemetry::metrics::{DatagramDrop, StreamEnd};
use crate::traffic::exchange::Client;
use crate::traffic::stream::{Lead, Stream, Trace};
use crate::traffic::timer::{Direction, TICK, Timer};
use crate::traffic::upstream::breaker::ConnectionPermit;
use crate::traffic::upstream::local::{ActiveRequest, Chosen};
use crate::traffic::upstream::outlier::Outcome;
use crate::traffic::upstream::set::Tried;
use crate::traffic::worker::{OpenSession, Worker};

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    ends: Ends,
    stream: Arc<Stream>,
    lead: Lead,
    endpoint: Chosen,
    socket: UdpSocket,
    timer: Timer,
    started: Instant,
    received: Cell<u64>,
    sent: Cell<u64>,
    /// Whether the endpoint has replied since the client last said something.
    is_answered: Cell<bool>,
    /// Whether the endpoint refused a datagram.
    has_failed: Cell<bool>,
    /// How it is to end, once that is known.
    end: Cell<Option<StreamEnd>>,
    _active: ActiveRequest,
    _permit: ConnectionPermit,
}

/// There is no endpoint for a session, or no socket.
#[derive(Debug)]
pub(super) struct NoSession;

impl Session {
    /// A session for a client, with an endpoint that is better than that of the one before it.
    pub(super) fn open(
        worker: &Worker,
        stream: &Arc<Stream>,
        client: Client,
        ends: Ends,
        instead_of: Option<&Self>,
    ) -> Result<Self, NoSession> {
        let lead = Lead::of(worker, stream, client.peer.ip()).map_err(|_| NoSession)?;
        let mut tried = Tried::default();
        if let Some(before) = instead_of {
            tried.insert(before.endpoint.id);
        }
        let endpoint = lead.choose(worker, &tried).map_err(|_| NoSession)?;
        // Of two that are both out of use, the one that is known is as good.
        if instead_of.is_some_and(|it| !it.has_failed.get()) && !endpoint.state.is_usable() {
            return Err(NoSession);
        }
        let permit = lead.upstream.admit_connection().map_err(|_| NoSession)?;
        let socket = connected(endpoint.address).map_err(|error| {
            tracing::debug!(endpoint = %endpoint.address, %error, "connect_failed");
            worker
                .metrics
                .upstream_connect_failed(lead.backend.slot.id());
            NoSession
        })?;
        worker.metrics.upstream_connected(lead.backend.slot.id());
        worker.metrics.stream_opened(stream.slot.id());
        let session = Self {
            client,
            ends,
            stream: Arc::clone(stream),
            _active: endpoint.begin(),
            lead,
            endpoint,
            socket,
            timer: Timer::new(&worker.wheel),
            started: Instant::now(),
            received: Cell::new(0),
            sent: Cell::new(0),
            is_answered: Cell::new(false),
            has_failed: Cell::new(false),
            end: Cell::new(None),
            _permit: permit,
        };
        session.keep_alive();
        Ok(session)
    }

    /// Between whom its datagrams pass on the side of the client.
    pub(super) fn ends(&self) -> Ends {
        self.ends
    }

    /// Whether its endpoint may be used further.
    pub(super) fn is_good(&self) -> bool {
        !self.has_failed.get() && self.endpoint.state.is_usable()
    }

    /// Sends a datagram of the client to the endpoint.
    pub(super) fn send(&self, worker: &Worker, datagram: &[u8]) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let Err(error) = rustix::net::send(&self.socket, datagram, flags) {
            let error = io::Error::from(error);
            if error.kind() == ErrorKind::ConnectionRefused {
                self.fail();
            }
            return Err(error);
        }
        self.is_answered.set(false);
        self.keep_alive();
        let bytes = datagram.len() as u64;
        self.received.set(self.received.get() + bytes);
        worker.metrics.stream_moved(self.stream.slot.id(), bytes, 0);
        Ok(())
    }

    /// Takes note that nobody is at the endpoint's port (RFC 1122 section 4.1.3.3).
    fn fail(&self) {
        if !self.has_failed.replace(true) {
            self.endpoint.record(Outcome::ConnectFailure);
        }
    }

    /// Ends it.
    pub(super) fn end(&self, how: StreamEnd) {
        self.end.set(Some(how));
        self.timer.handle().expire(Direction::Read);
    }

    /// Lets it wait for the reply to the last datagram, and for nothing else.
    pub(super) fn linger(&self, longest: Duration) {
        self.end.set(Some(StreamEnd::Released));
        let is_waiting = !self.is_answered.get();
        let longest = if is_waiting { longest } else { TICK };
        self.timer.set(Direction::Read, longest);
    }

    fn keep_alive(&self) {
        if self.end.get().is_none() {
            let idle = self.stream.session_idle;
            self.timer.set(Direction::Read, idle);
        }
    }

    /// Waits for something from the endpoint; none when the time is up.
    async fn heard(&self) -> Option<Ready> {
        let mut ready = pin!(self.socket.ready(Interest::READABLE | Interest::ERROR));
        poll_fn(|cx| {
            if self.timer.is_past(Direction::Read) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(ready) = ready.as_mut().poll(cx) {
                return Poll::Ready(ready.ok());
            }
            self.timer.register(Direction::Read, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Looks at what the socket met, and puts the flag down that told of it.
    fn take_error(&self) {
        let error = self.socket.take_error().ok().flatten();
        let looked = self.socket.try_io(Interest::ERROR, || {
            Err::<(), _>(ErrorKind::WouldBlock.into())
        });
        debug_assert!(looked.is_err(), "nothing was tried");
        if error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            self.fail();
        }
    }

    /// Passes one reply on; false if there is none.
    fn reply(&self, worker: &Worker, receiver: &Receiver, bytes_max: usize) -> bool {
        let mut datagram = receiver.datagram.borrow_mut();
        let length = match self.socket.try_recv(&mut datagram) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.fail();
                return true;
            }
            Err(_) => return false,
        };
        self.has_failed.set(false);
        if !self.is_answered.replace(true) {
            self.endpoint.record(Outcome::Success);
        }
        self.keep_alive();
        let slot = self.stream.slot.id();
        let bytes = datagram.get(..length).unwrap_or_default();
        if length > bytes_max {
            worker
                .metrics
                .datagram_dropped(slot, DatagramDrop::TooLarge);
        } else if receiver.socket.reply(self.ends, bytes).is_ok() {
            self.sent.set(self.sent.get() + length as u64);
            worker.metrics.stream_moved(slot, 0, length as u64);
        } else {
            worker
                .metrics
                .datagram_dropped(slot, DatagramDrop::ClientFull);
        }
        true
    }
}

/// Passes replies on until the session ends.
pub(super) async fn serve(
    worker: Rc<Worker>,
    receiver: Rc<Receiver>,
    session: Rc<Session>,
    open: OpenSession,
) {
    let bytes_max = open.plan().streams.as_ref();
    let bytes_max = bytes_max.map_or(0, |streams| streams.datagram_bytes_max);
    while let Some(ready) = session.heard().await {
        if ready.is_error() {
            session.take_error();
        }
        let mut replies = 0;
        while replies < TURN_MAX && session.reply(&worker, &receiver, bytes_max) {
            replies += 1;
        }
        if receiver.stopped.get() && session.is_answered.get() {
            break;
        }
        if replies > 0 {
            tokio::task::yield_now().await;
        }
    }
    receiver.forget(&session);
    let trace = Trace {
        listener: &open.plan().name,
        stream: &session.stream,
        protocol: "UDP",
        client: &session.client,
        server_name: None,
        started: session.started,
        upstream: Some(&session.lead.backend.upstream.name),
        endpoint: Some(session.endpoint.address),
        connect: None,
        retries: 0,
        received: session.received.get(),
        sent: session.sent.get(),
        end: session.end.get().unwrap_or(StreamEnd::Idle),
    };
    trace.finish(&worker);
}

/// A socket that talks to one address and takes nothing from others.
fn connected(endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match endpoint {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = StdSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(endpoint)?;
    UdpSocket::from_std(socket)
}

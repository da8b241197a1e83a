//! Datagrams: each client, by its address and port, has a session with one socket of its own towards
//! one endpoint, so that replies find their way back. The kernel gives the datagrams of a client to
//! the same worker as long as that worker listens, and the session stays there.
//!
//! Nothing is queued here: a datagram that the system does not take at once is dropped and counted,
//! as any router would. A session answers nobody but the address that opened it.
//!
//! Must not: keep a datagram, or let more sessions be than the listener may have.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Type};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use self::session::{NoSession, Session};
use super::exchange::Client;
use super::stream::Stream;
use super::worker::Worker;
use crate::snapshot::{ListenerId, ListenerPlan};
use crate::telemetry::metrics::{DatagramDrop, StreamEnd};

mod session;

/// The largest datagram, bytes: its length is a number of 16 bits.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Datagrams taken from a socket before others get their turn.
const TURN_MAX: usize = 64;

/// What the kernel is asked to hold of datagrams that the worker did not come to yet, bytes. The
/// system may allow less (`net.core.rmem_max`).
const RECEIVE_BYTES: usize = 1024 * 1024;

/// How long sessions of a listener that is gone may wait for the reply to their last datagram.
const LINGER: Duration = Duration::from_secs(1);

/// Binds one socket of an address; every worker gets its own and the kernel spreads clients over
/// them.
pub fn bind(address: SocketAddr) -> io::Result<StdSocket> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A smaller buffer serves as well, with less patience.
    let _ = socket.set_recv_buffer_size(RECEIVE_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A worker's socket of a listener, with its sessions.
#[derive(Debug)]
pub struct Receiver {
    id: ListenerId,
    socket: UdpSocket,
    sessions: RefCell<HashMap<SocketAddr, Rc<Session>>>,
    /// The datagram on its way through. One byte longer than any may be, to see that it is not.
    datagram: RefCell<Box<[u8]>>,
    stopped: Cell<bool>,
    task: RefCell<Option<AbortHandle>>,
}

impl Receiver {
    /// Begins to receive on a socket.
    pub fn start(worker: &Rc<Worker>, id: ListenerId, socket: StdSocket) -> io::Result<Rc<Self>> {
        let receiver = Rc::new(Self {
            id,
            socket: UdpSocket::from_std(socket)?,
            sessions: RefCell::default(),
            datagram: RefCell::new(vec![0; DATAGRAM_BYTES_MAX + 1].into()),
            stopped: Cell::new(false),
            task: RefCell::default(),
        });
        let task = tokio::task::spawn_local(receive(Rc::clone(worker), Rc::clone(&receiver)));
        *receiver.task.borrow_mut() = Some(task.abort_handle());
        Ok(receiver)
    }

    /// Receives no more, after what is in the queue; sessions that wait for a reply get it.
    pub fn stop(self: &Rc<Self>, worker: &Rc<Worker>) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.abort();
        }
        while self.take_one(worker) {}
        self.stopped.set(true);
        for session in self.sessions.borrow().values() {
            session.linger(LINGER);
        }
    }

    /// Takes one datagram from the socket; false if there is none.
    fn take_one(self: &Rc<Self>, worker: &Rc<Worker>) -> bool {
        let mut datagram = self.datagram.borrow_mut();
        match self.socket.try_recv_from(&mut datagram) {
            Ok((length, from)) => {
                let bytes = datagram.get(..length).unwrap_or_default();
                self.pass(worker, from, bytes);
                true
            }
            // What an earlier reply met is nothing to this socket.
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Passes a datagram of a client on.
    fn pass(self: &Rc<Self>, worker: &Rc<Worker>, from: SocketAddr, datagram: &[u8]) {
        let snapshot = worker.snapshot.load();
        let Some(plan) = snapshot.listener(self.id) else {
            return;
        };
        let streams = plan.streams.as_ref();
        let Some(streams) = streams else { return };
        let Some(stream) = streams.find(None, &plan.hosts) else {
            return;
        };
        let dropped = |why| worker.metrics.datagram_dropped(stream.slot.id(), why);
        if datagram.len() > streams.datagram_bytes_max {
            return dropped(DatagramDrop::TooLarge);
        }
        // A session whose endpoint refuses is replaced once; its datagram goes to another one.
        for _ in 0..2 {
            let session = match self.session(worker, plan, stream, from) {
                Ok(session) => session,
                Err(why) => return dropped(why),
            };
            match session.send(worker, datagram) {
                Ok(()) => return,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return dropped(DatagramDrop::EndpointFull),
            }
        }
        dropped(DatagramDrop::NoEndpoint);
    }

    /// The session of a client: the one it has, if its endpoint is still good, or another one.
    fn session(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        plan: &Arc<ListenerPlan>,
        stream: &Arc<Stream>,
        from: SocketAddr,
    ) -> Result<Rc<Session>, DatagramDrop> {
        let known = self.sessions.borrow().get(&from).cloned();
        let Some(known) = known else {
            let sessions_max = plan.streams.as_ref().map_or(0, |it| it.sessions_max);
            if plan.open.load(Ordering::Relaxed) >= sessions_max {
                worker.metrics.connection_refused(plan.slot.id());
                return Err(DatagramDrop::SessionsMax);
            }
            return match self.open(worker, plan, stream, from, None) {
                Ok(session) => Ok(session),
                Err(NoSession) => Err(DatagramDrop::NoEndpoint),
            };
        };
        if known.is_good() {
            return Ok(known);
        }
        match self.open(worker, plan, stream, from, Some(&known)) {
            Ok(session) => {
                known.end(StreamEnd::EndpointReset);
                Ok(session)
            }
            Err(NoSession) => Ok(known),
        }
    }

    fn open(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        plan: &Arc<ListenerPlan>,
        stream: &Arc<Stream>,
        from: SocketAddr,
        instead_of: Option<&Session>,
    ) -> Result<Rc<Session>, NoSession> {
        let client = Client {
            peer: from,
            introduction: None,
            tls: None,
        };
        let session = Session::open(worker, stream, client, instead_of)?;
        let session = Rc::new(session);
        self.sessions.borrow_mut().insert(from, Rc::clone(&session));
        let open = worker.open_session(plan);
        let serving = session::serve(
            Rc::clone(worker),
            Rc::clone(self),
            Rc::clone(&session),
            open,
        );
        tokio::task::spawn_local(Box::pin(serving));
        Ok(session)
    }

    /// Sends a reply to the client of a session.
    fn reply(&self, client: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendto(&self.socket, datagram, flags, &client)?;
        Ok(())
    }

    /// Forgets a session, unless its client has another one by now.
    fn forget(&self, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        let client = session.client();
        if sessions
            .get(&client)
            .is_some_and(|it| Rc::ptr_eq(it, session))
        {
            sessions.remove(&client);
        }
    }
}

async fn receive(worker: Rc<Worker>, receiver: Rc<Receiver>) {
    loop {
        if let Err(error) = receiver.socket.readable().await {
            tracing::error!(%error, "datagrams_not_received");
            return;
        }
        for _ in 0..TURN_MAX {
            if !receiver.take_one(&worker) {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

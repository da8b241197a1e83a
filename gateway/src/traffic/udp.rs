//! Datagrams: each client, by its address and port and the address that it sends to, has a session with one socket of its own towards
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
use std::net::UdpSocket as StdSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::AbortHandle;

pub use self::socket::bind;

use self::session::{NoSession, Session};
use self::socket::{ClientSocket, Ends};
use super::exchange::Client;
use super::stream::Stream;
use super::worker::Worker;
use crate::snapshot::{ListenerId, ListenerPlan};
use crate::telemetry::metrics::{DatagramDrop, StreamEnd};

mod session;
mod socket;

/// The largest datagram, bytes: its length is a number of 16 bits.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Datagrams taken from a socket before others get their turn.
const TURN_MAX: usize = 64;

/// How long sessions of a listener that is gone may wait for the reply to their last datagram.
const LINGER: Duration = Duration::from_secs(1);

/// A worker's socket of a listener, with its sessions.
#[derive(Debug)]
pub struct Receiver {
    id: ListenerId,
    socket: ClientSocket,
    sessions: RefCell<HashMap<Ends, Rc<Session>>>,
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
            socket: ClientSocket::new(socket)?,
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
        match self.socket.receive(&mut datagram) {
            Ok((length, ends)) => {
                let bytes = datagram.get(..length).unwrap_or_default();
                self.pass(worker, ends, bytes);
                true
            }
            // What an earlier reply met is nothing to this socket.
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Passes a datagram of a client on.
    fn pass(self: &Rc<Self>, worker: &Rc<Worker>, ends: Ends, datagram: &[u8]) {
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
            let session = match self.session(worker, plan, stream, ends) {
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
        ends: Ends,
    ) -> Result<Rc<Session>, DatagramDrop> {
        let known = self.sessions.borrow().get(&ends).cloned();
        let Some(known) = known else {
            let sessions_max = plan.streams.as_ref().map_or(0, |it| it.sessions_max);
            if plan.open.load(Ordering::Relaxed) >= sessions_max {
                worker.metrics.connection_refused(plan.slot.id());
                return Err(DatagramDrop::SessionsMax);
            }
            return match self.open(worker, plan, stream, ends, None) {
                Ok(session) => Ok(session),
                Err(NoSession) => Err(DatagramDrop::NoEndpoint),
            };
        };
        if known.is_good() {
            return Ok(known);
        }
        match self.open(worker, plan, stream, ends, Some(&known)) {
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
        ends: Ends,
        instead_of: Option<&Session>,
    ) -> Result<Rc<Session>, NoSession> {
        let client = Client::new(ends.client);
        let session = Session::open(worker, stream, client, ends, instead_of)?;
        let session = Rc::new(session);
        self.sessions.borrow_mut().insert(ends, Rc::clone(&session));
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

    /// Forgets a session, unless its client has another one by now.
    fn forget(&self, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        let ends = session.ends();
        if sessions
            .get(&ends)
            .is_some_and(|it| Rc::ptr_eq(it, session))
        {
            sessions.remove(&ends);
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

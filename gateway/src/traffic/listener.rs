//! Listening: one socket per address and worker, bound by control before a configuration takes
//! effect, so that an address that cannot be had refuses the configuration and not the traffic.
//!
//! Must not: drop a connection that the kernel has accepted while a listener goes away.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdDatagrams};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::udp::Receiver;
use super::worker::{Command, Worker};
use crate::snapshot::ListenerId;

/// Connections the kernel holds for us while the workers are busy.
const BACKLOG: i32 = 4096;

/// The wait after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How far above the average a worker's connections may be before it hands new ones over.
const UNEVEN_MIN: u64 = 4;

/// A bound socket on its way to a worker.
#[derive(Debug)]
pub struct Socket {
    /// The listener it belongs to.
    pub id: ListenerId,
    /// The address as configured: the key for `Unlisten`.
    pub address: SocketAddr,
    /// The socket.
    pub socket: Bound,
}

/// A bound socket.
#[derive(Debug)]
pub enum Bound {
    /// For connections.
    Connections(StdListener),
    /// For datagrams.
    Datagrams(StdDatagrams),
}

/// Binds one socket of an address; every worker gets its own and the kernel spreads connections
/// over them.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit the option, which saves a call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The sockets a worker accepts on.
#[derive(Debug, Default)]
pub struct Listening(Vec<Accepting>);

#[derive(Debug)]
struct Accepting {
    id: ListenerId,
    address: SocketAddr,
    source: Accepted,
}

/// Where connections or datagrams come from.
#[derive(Debug)]
enum Accepted {
    Connections(Rc<TcpListener>, AbortHandle),
    Datagrams(Rc<Receiver>),
}

impl Listening {
    /// Begins to accept on a socket.
    pub fn start(&mut self, worker: &Rc<Worker>, socket: Socket) {
        let Socket {
            id,
            address,
            socket,
        } = socket;
        let started = match socket {
            Bound::Connections(socket) => TcpListener::from_std(socket).map(|listener| {
                let listener = Rc::new(listener);
                let accepting = accept(Rc::clone(worker), id, Rc::clone(&listener));
                let task = tokio::task::spawn_local(accepting);
                Accepted::Connections(listener, task.abort_handle())
            }),
            Bound::Datagrams(socket) => {
                Receiver::start(worker, id, socket).map(Accepted::Datagrams)
            }
        };
        match started {
            Ok(source) => self.0.push(Accepting {
                id,
                address,
                source,
            }),
            Err(error) => tracing::error!(%address, %error, "listener_not_started"),
        }
    }

    /// Stops accepting on an address, after serving what is in its queue.
    pub fn stop(&mut self, worker: &Rc<Worker>, id: ListenerId, address: SocketAddr) {
        self.0.retain(|accepting| {
            let stays = accepting.id != id || accepting.address != address;
            if !stays {
                accepting.stop(worker);
            }
            stays
        });
    }

    /// Stops accepting anywhere.
    pub fn stop_all(&mut self, worker: &Rc<Worker>) {
        for accepting in self.0.drain(..) {
            accepting.stop(worker);
        }
    }
}

impl Accepting {
    fn stop(&self, worker: &Rc<Worker>) {
        let (listener, task) = match &self.source {
            Accepted::Connections(listener, task) => (listener, task),
            Accepted::Datagrams(receiver) => return receiver.stop(worker),
        };
        task.abort();
        let socket = socket2::SockRef::from(&**listener);
        while let Ok((stream, peer)) = socket.accept() {
            if let Some(peer) = peer.as_socket() {
                worker.adopt(self.id, stream.into(), peer);
            }
        }
    }
}

async fn accept(worker: Rc<Worker>, id: ListenerId, listener: Rc<TcpListener>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => place(&worker, id, stream, peer),
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                worker.metrics.accept_failed();
                tracing::warn!(%error, "accept_failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves an accepted connection here, or on the worker with the fewest if this one has far more
/// than its share. Beyond the listener's limit it is closed at once.
fn place(worker: &Rc<Worker>, id: ListenerId, stream: TcpStream, peer: SocketAddr) {
    let snapshot = worker.snapshot.of(id);
    if let Some(plan) = snapshot.listener(id)
        && plan.open.load(Ordering::Relaxed) >= plan.connections_max
    {
        worker.metrics.connection_refused(plan.slot.id());
        return;
    }
    let Some(other) = less_busy(worker) else {
        return worker.serve(id, stream, peer);
    };
    let Ok(stream) = stream.into_std() else {
        return;
    };
    let Some(member) = worker.crew.members.get(other) else {
        return;
    };
    if let Err(error) = member.commands.try_send(Command::Adopt(id, stream, peer))
        && let Command::Adopt(id, stream, peer) = error.into_inner()
    {
        worker.adopt(id, stream, peer);
    }
}

fn less_busy(worker: &Worker) -> Option<usize> {
    let members = &worker.crew.members;
    if members.len() < 2 {
        return None;
    }
    let open = |index: usize| {
        members
            .get(index)
            .map_or(0, |m| m.open.load(Ordering::Relaxed))
    };
    let mine = open(worker.index);
    let least = (0..members.len()).min_by_key(|&index| open(index))?;
    let total: u64 = (0..members.len()).map(open).sum();
    let share = total / members.len() as u64;
    (mine > share + share / 4 + UNEVEN_MIN && least != worker.index).then_some(least)
}

/// Whether an accept failed because of the connection it would have returned.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

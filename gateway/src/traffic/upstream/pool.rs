//! Idle connections to endpoints, kept by the worker that made them and handed out last in, first
//! out. Whether one can still be used is read from its readiness flag at checkout; nothing watches
//! it meanwhile.
//!
//! A connection that was made for one client (PROXY protocol) is kept by that client's own connection
//! and goes with it; the worker only sees to it that it does not wait too long.
//!
//! Must not: hand out a connection on which bytes wait that nobody asked for, or one that was made for
//! another client, or outgrow the limits of the upstream.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::breaker::ConnectionPermit;
use super::endpoint::EndpointId;
use super::local::BuildIdHasher;
use super::settings::PoolSettings;
use crate::traffic::socket::Socket;
use crate::traffic::timer::{TICK, Wheel};

/// Idle connections that one client's connection keeps, to all endpoints together: the oldest goes when
/// there are more. One request at a time needs one for each endpoint that it may go to.
const KEPT_FOR_CLIENT_MAX: usize = 8;

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Connection {
    /// The socket, its TLS handshake done.
    pub socket: Socket,
    /// Whether HTTP/2 is spoken on it.
    pub is_http2: bool,
    /// Requests sent on it so far.
    pub requests: u64,
    /// Whether it began by saying whom it is for (PROXY protocol): it never carries anything else.
    pub is_introduced: bool,
    /// Releases its place under the upstream's connection cap when the connection goes.
    pub permit: ConnectionPermit,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    expires_at: u64,
}

impl Idle {
    fn is_good(&self, now: u64) -> bool {
        self.expires_at > now && !self.connection.socket.is_stale()
    }
}

/// The idle connections of one worker.
#[derive(Debug)]
pub struct Pool {
    wheel: Rc<Wheel>,
    idle: RefCell<HashMap<EndpointId, Vec<Idle>, BuildIdHasher>>,
    /// Those that clients keep.
    kept: RefCell<Vec<Weak<Kept>>>,
}

/// The idle connections that were made for one client.
#[derive(Debug, Default)]
struct Kept(RefCell<Vec<(EndpointId, Idle)>>);

/// What a client's connection has of them: nothing, as a rule.
#[derive(Debug, Default)]
pub struct OwnPool(OnceCell<Rc<Kept>>);

impl Pool {
    /// An empty pool whose clock is the worker's wheel.
    pub fn new(wheel: &Rc<Wheel>) -> Self {
        Self {
            wheel: Rc::clone(wheel),
            idle: RefCell::default(),
            kept: RefCell::default(),
        }
    }

    /// The connection to an endpoint that was used last and is still good.
    pub fn checkout(&self, endpoint: EndpointId) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&endpoint)?;
        while let Some(candidate) = connections.pop() {
            if candidate.is_good(self.wheel.now()) {
                return Some(candidate.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if the settings allow.
    pub fn keep(&self, endpoint: EndpointId, connection: Connection, settings: &PoolSettings) {
        if connection.is_introduced {
            return;
        }
        let Some(kept) = self.idle(connection, settings) else {
            return;
        };
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(endpoint).or_default();
        if connections.len() >= settings.idle_per_worker_max {
            connections.remove(0);
        }
        connections.push(kept);
    }

    /// The connection to an endpoint that was made for this client, if one is still good.
    pub fn checkout_own(&self, own: &OwnPool, endpoint: EndpointId) -> Option<Connection> {
        let mut kept = own.0.get()?.0.borrow_mut();
        while let Some(at) = kept.iter().rposition(|(id, _)| *id == endpoint) {
            let (_, candidate) = kept.remove(at);
            if candidate.is_good(self.wheel.now()) {
                return Some(candidate.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request of the client that it was made for.
    pub fn keep_own(
        &self,
        own: &OwnPool,
        endpoint: EndpointId,
        connection: Connection,
        settings: &PoolSettings,
    ) {
        let Some(idle) = self.idle(connection, settings) else {
            return;
        };
        let kept = own.0.get_or_init(|| {
            let kept = Rc::default();
            self.kept.borrow_mut().push(Rc::downgrade(&kept));
            kept
        });
        let mut kept = kept.0.borrow_mut();
        if kept.len() >= KEPT_FOR_CLIENT_MAX {
            kept.remove(0);
        }
        kept.push((endpoint, idle));
    }

    /// A connection that waits, unless it is of no use any more or the settings have none wait.
    fn idle(&self, connection: Connection, settings: &PoolSettings) -> Option<Idle> {
        let worn_out = settings.requests_per_connection_max != 0
            && connection.requests >= settings.requests_per_connection_max;
        if worn_out || settings.idle_per_worker_max == 0 || connection.socket.is_stale() {
            return None;
        }
        let wait = ticks(settings.idle_timeout);
        Some(Idle {
            connection,
            expires_at: self.wheel.now().saturating_add(wait),
        })
    }

    /// Closes what expired or failed. Connections of endpoints that are gone expire like others.
    pub fn sweep(&self) {
        let now = self.wheel.now();
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain(|idle| idle.is_good(now));
            !connections.is_empty()
        });
        self.kept.borrow_mut().retain(|kept| {
            let kept = kept.upgrade();
            if let Some(kept) = &kept {
                kept.0.borrow_mut().retain(|(_, idle)| idle.is_good(now));
            }
            kept.is_some()
        });
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
        for kept in self.kept.borrow().iter().filter_map(Weak::upgrade) {
            kept.0.borrow_mut().clear();
        }
    }

    /// How many connections are idle.
    pub fn len(&self) -> usize {
        let kept = self.kept.borrow();
        let kept = kept.iter().filter_map(Weak::upgrade);
        let own: usize = kept.map(|kept| kept.0.borrow().len()).sum();
        own + self.idle.borrow().values().map(Vec::len).sum::<usize>()
    }

    /// Whether no connection is idle.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn ticks(duration: Duration) -> u64 {
    (duration.as_millis() / TICK.as_millis()) as u64
}

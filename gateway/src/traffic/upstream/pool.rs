//! Idle connections to endpoints, kept by the worker that made them and handed out last in, first
//! out. Whether one can still be used is read from its readiness flag at checkout; nothing watches
//! it meanwhile.
//!
//! Must not: hand out a connection on which bytes wait that nobody asked for, or that was made for
//! one client, or outgrow the limits of the upstream.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::breaker::ConnectionPermit;
use super::endpoint::EndpointId;
use super::local::BuildIdHasher;
use super::settings::PoolSettings;
use crate::traffic::socket::Socket;
use crate::traffic::timer::{TICK, Wheel};

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

/// The idle connections of one worker.
#[derive(Debug)]
pub struct Pool {
    wheel: Rc<Wheel>,
    idle: RefCell<HashMap<EndpointId, Vec<Idle>, BuildIdHasher>>,
}

impl Pool {
    /// An empty pool whose clock is the worker's wheel.
    pub fn new(wheel: &Rc<Wheel>) -> Self {
        Self {
            wheel: Rc::clone(wheel),
            idle: RefCell::default(),
        }
    }

    /// The connection to an endpoint that was used last and is still good.
    pub fn checkout(&self, endpoint: EndpointId) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&endpoint)?;
        while let Some(candidate) = connections.pop() {
            if candidate.expires_at > self.wheel.now() && !candidate.connection.socket.is_stale() {
                return Some(candidate.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if the settings allow.
    pub fn keep(&self, endpoint: EndpointId, connection: Connection, settings: &PoolSettings) {
        let worn_out = settings.requests_per_connection_max != 0
            && connection.requests >= settings.requests_per_connection_max;
        if worn_out
            || connection.is_introduced
            || settings.idle_per_worker_max == 0
            || connection.socket.is_stale()
        {
            return;
        }
        let expires_at = self
            .wheel
            .now()
            .saturating_add(ticks(settings.idle_timeout));
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(endpoint).or_default();
        if connections.len() >= settings.idle_per_worker_max {
            connections.remove(0);
        }
        connections.push(Idle {
            connection,
            expires_at,
        });
    }

    /// Closes what expired or failed. Connections of endpoints that are gone expire like others.
    pub fn sweep(&self) {
        let now = self.wheel.now();
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain(|idle| idle.expires_at > now && !idle.connection.socket.is_stale());
            !connections.is_empty()
        });
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// How many connections are idle.
    pub fn len(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    /// Whether no connection is idle.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn ticks(duration: Duration) -> u64 {
    (duration.as_millis() / TICK.as_millis()) as u64
}

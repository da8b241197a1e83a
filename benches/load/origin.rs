//! The origin behind every proxy under test: one epoll loop on the client's core that answers
//! each request from a ready-made buffer, so that what it costs is the same for all and small.
//!
//! It stands last in the life of a measured request. It must not interpret more of a request than
//! its path: a proxy that forwards nonsense is the end-to-end tests' business, not this one's.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use socket2::SockRef;

use crate::affinity::{self, Core};

/// What a request for [`SMALL_PATH`] is answered with: the size of a typical API reply.
const SMALL_BODY_BYTES: usize = 150;
/// What a request for [`LARGE_PATH`] is answered with.
const LARGE_BODY_BYTES: usize = 1024 * 1024;
/// The path of the small body.
pub(crate) const SMALL_PATH: &str = "/small";
/// The path of the 1 MiB body.
pub(crate) const LARGE_PATH: &str = "/large";

/// One read takes everything a proxy can have pipelined on one connection.
const READ_BYTES: usize = 64 * 1024;
/// A proxy that sends a head beyond this is broken; the connection is closed.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const EVENTS_MAX: usize = 256;
const LISTENER: u64 = u64::MAX;

/// A running origin. Its thread lives as long as the process: nothing stops it, nothing needs to.
pub(crate) struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    /// The bodies it serves, for the client to compare with.
    pub bodies: Bodies,
    accepted: Arc<AtomicU64>,
}

/// The bodies that an origin serves; cheap to clone.
#[derive(Clone)]
pub(crate) struct Bodies {
    /// The body at [`SMALL_PATH`].
    pub small: Arc<[u8]>,
    /// The body at [`LARGE_PATH`].
    pub large: Arc<[u8]>,
}

impl Origin {
    /// Binds a free loopback port and serves it from a thread of its own.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("bind the origin")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        // 64 idle clients may reconnect at once after a reload: a short backlog would be our fault.
        SockRef::from(&listener)
            .listen(4096)
            .context("widen the origin's backlog")?;
        let bodies = Bodies {
            small: pattern(SMALL_BODY_BYTES),
            large: pattern(LARGE_BODY_BYTES),
        };
        let accepted = Arc::new(AtomicU64::new(0));
        let server = Server {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            listener,
            small: reply(&bodies.small),
            large: reply(&bodies.large),
            connections: HashMap::new(),
            next: 0,
            accepted: Arc::clone(&accepted),
        };
        thread::Builder::new()
            .name("origin".into())
            .spawn(move || {
                let served = affinity::pin(Core::Client).and_then(|()| server.serve());
                if let Err(error) = served {
                    eprintln!("the origin stopped: {error:#}");
                    std::process::exit(1);
                }
            })?;
        Ok(Self {
            address,
            bodies,
            accepted,
        })
    }

    /// Connections accepted so far: tells whether a proxy reuses its upstream connections.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// Bytes whose value depends on the position, so that a lost or repeated block shows.
fn pattern(length: usize) -> Arc<[u8]> {
    (0..length)
        .map(|at| b"abcdefghijklmnopqrstuvwxyz0123456789-"[(at + at / 8192) % 37])
        .collect()
}

/// A whole response: a head as application servers send it, then the body.
fn reply(body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\n\
         Server: origin\r\n\
         Date: Mon, 23 Nov 2026 09:00:00 GMT\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\
         Cache-Control: no-cache\r\n\
         ETag: \"5f3759df-96\"\r\n\
         Vary: Accept-Encoding\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

struct Server {
    epoll: rustix::fd::OwnedFd,
    listener: TcpListener,
    small: Vec<u8>,
    large: Vec<u8>,
    connections: HashMap<u64, Connection>,
    next: u64,
    accepted: Arc<AtomicU64>,
}

struct Connection {
    socket: TcpStream,
    /// The beginning of a head whose end has not arrived; nearly always empty.
    partial: Vec<u8>,
    /// Replies that wait for room in the socket, oldest first: which body, how much is sent.
    unsent: Vec<(Body, usize)>,
}

#[derive(Clone, Copy)]
enum Body {
    Small,
    Large,
}

impl Server {
    fn serve(mut self) -> Result<()> {
        epoll::add(
            &self.epoll,
            &self.listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut input = vec![0; READ_BYTES];
        loop {
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &events {
                let key = event.data.u64();
                if key == LISTENER {
                    self.accept()?;
                } else if !self.advance(key, event.flags, &mut input) {
                    self.connections.remove(&key);
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("accept"),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(self.next), flags)?;
            let connection = Connection {
                socket,
                partial: Vec::new(),
                unsent: Vec::new(),
            };
            self.connections.insert(self.next, connection);
            self.next += 1;
            self.accepted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers what has arrived on one connection; false when the connection is done with.
    fn advance(&mut self, key: u64, flags: EventFlags, input: &mut [u8]) -> bool {
        let Some(connection) = self.connections.get_mut(&key) else {
            return true;
        };
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if flags.contains(EventFlags::IN) || ended {
            loop {
                match connection.socket.read(input) {
                    Ok(0) => return false,
                    Ok(count) => {
                        if !connection.receive(&input[..count]) {
                            return false;
                        }
                        // A short read has emptied the socket: the next byte is a new event.
                        if count < input.len() && !ended {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return false,
                }
            }
        }
        connection.send(&self.small, &self.large)
    }
}

impl Connection {
    /// Queues one reply for every whole head in `bytes`; false for a head that never ends.
    fn receive(&mut self, bytes: &[u8]) -> bool {
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            joined.as_slice()
        };
        while let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
            // Nobody who means it sends one: it is an attacker's, and its body never ends.
            if rest.starts_with(b"POST ") {
                rest = &rest[end + 4..];
                continue;
            }
            let path = rest.get(4..).unwrap_or_default();
            let body = if path.starts_with(LARGE_PATH.as_bytes()) {
                Body::Large
            } else {
                Body::Small
            };
            self.unsent.push((body, 0));
            rest = &rest[end + 4..];
        }
        self.partial.extend_from_slice(rest);
        self.partial.len() <= HEAD_BYTES_MAX
    }

    /// Sends as much as the socket takes; false when the peer is gone.
    fn send(&mut self, small: &[u8], large: &[u8]) -> bool {
        while let Some((body, sent)) = self.unsent.first_mut() {
            let reply = match body {
                Body::Small => small,
                Body::Large => large,
            };
            match self.socket.write(&reply[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
            if *sent == reply.len() {
                self.unsent.remove(0);
            }
        }
        true
    }
}

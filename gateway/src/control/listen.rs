//! Binding: the difference between the addresses in use and those that a new configuration wants,
//! made before the swap so that an address that cannot be had refuses the configuration.
//!
//! Must not: close anything. Closing comes after the swap, when nothing can go wrong any more.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use cardea_config::diagnostic::Diagnostic;

use super::compile::{BindKey, Transport};
use crate::traffic::listener::{self, Socket};
use crate::traffic::udp;

/// Sockets bound for the workers and not handed to them yet.
#[derive(Debug, Default)]
pub struct Bound {
    /// One socket per worker for each new address.
    sockets: Vec<(BindKey, Vec<listener::Bound>)>,
    /// The addresses as the kernel gave them, where a port was left to it.
    pub actual: BTreeMap<BindKey, SocketAddr>,
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The listener and address.
    pub key: BindKey,
    /// The address.
    pub address: SocketAddr,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl Bound {
    /// Binds the addresses that are wanted and not in use; all that fail are reported.
    pub fn bind<'k>(
        wanted: impl Iterator<Item = &'k BindKey>,
        in_use: &BTreeMap<BindKey, SocketAddr>,
        workers: usize,
    ) -> Result<Self, Vec<BindError>> {
        let mut bound = Self::default();
        let mut failed = Vec::new();
        for key in wanted.filter(|key| !in_use.contains_key(key)) {
            // An address that moves to another listener is ours already.
            let is_same =
                |held: &BindKey| held.address == key.address && held.transport == key.transport;
            match bind_one(key, workers, in_use.keys().any(is_same)) {
                Ok((actual, sockets)) => {
                    bound.actual.insert(*key, actual);
                    bound.sockets.push((*key, sockets));
                }
                Err(source) => failed.push(BindError {
                    key: *key,
                    address: key.address,
                    source,
                }),
            }
        }
        if failed.is_empty() {
            Ok(bound)
        } else {
            Err(failed)
        }
    }

    /// The sockets, each with the worker it is for.
    pub fn into_sockets(self) -> impl Iterator<Item = (usize, Socket)> {
        self.sockets.into_iter().flat_map(|(key, sockets)| {
            sockets
                .into_iter()
                .enumerate()
                .map(move |(worker, socket)| {
                    (
                        worker,
                        Socket {
                            id: key.id,
                            address: key.address,
                            socket,
                        },
                    )
                })
        })
    }
}

fn bind_one(
    key: &BindKey,
    workers: usize,
    is_ours: bool,
) -> io::Result<(SocketAddr, Vec<listener::Bound>)> {
    if !is_ours {
        refuse_taken(key)?;
    }
    let (first, actual) = bind_at(key.transport, key.address)?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(bind_at(key.transport, actual)?.0);
    }
    Ok((actual, sockets))
}

fn bind_at(transport: Transport, address: SocketAddr) -> io::Result<(listener::Bound, SocketAddr)> {
    match transport {
        Transport::Tcp => {
            let socket = listener::bind(address)?;
            let actual = socket.local_addr()?;
            Ok((listener::Bound::Connections(socket), actual))
        }
        Transport::Udp => {
            let socket = udp::bind(address)?;
            let actual = socket.local_addr()?;
            Ok((listener::Bound::Datagrams(socket), actual))
        }
    }
}

/// Two gateways of one user could share a port through `SO_REUSEPORT` and split its traffic
/// unnoticed; binding once without it finds out.
fn refuse_taken(key: &BindKey) -> io::Result<()> {
    let address = key.address;
    if address.port() == 0 {
        return Ok(());
    }
    let (kind, protocol) = match key.transport {
        Transport::Tcp => (socket2::Type::STREAM, socket2::Protocol::TCP),
        Transport::Udp => (socket2::Type::DGRAM, socket2::Protocol::UDP),
    };
    let domain = socket2::Domain::for_address(address);
    let probe = socket2::Socket::new(domain, kind, Some(protocol))?;
    // For datagrams the option would do what is to be found out.
    probe.set_reuse_address(key.transport == Transport::Tcp)?;
    if address.is_ipv6() {
        probe.set_only_v6(true)?;
    }
    probe.bind(&address.into())
}

impl BindError {
    /// The error as a finding about the configuration.
    pub fn diagnostic(&self) -> Diagnostic {
        let remedy = match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                "another process listens there: stop it, or choose another port"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or choose a higher port"
            }
            io::ErrorKind::AddrNotAvailable => "this host does not have that address",
            _ => "check the address",
        };
        let message = format!("cannot listen on {}: {}", self.address, self.source);
        Diagnostic::error("E-bind", None, message).remedy(remedy)
    }
}

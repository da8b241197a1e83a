//! A worker's socket of a listener of UDP, and which address of the machine a datagram came to. A
//! client takes replies only from the address that it asked, so a socket that is bound to all of
//! them has the kernel say which one it was with each datagram, and says it to the kernel with each
//! reply. No call to the system is added for that.
//!
//! Must not: ask the kernel what it was not asked to say, where there is but one address.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::AsRawFd;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What the kernel is asked to hold of datagrams that the worker did not come to yet, bytes. The
/// system may allow less (`net.core.rmem_max`).
const RECEIVE_BYTES: usize = 1024 * 1024;

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
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        IpAddr::V6(ip) if ip.is_unspecified() => {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    // A smaller buffer serves as well, with less patience.
    let _ = socket.set_recv_buffer_size(RECEIVE_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Between whom datagrams pass on the side of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    /// The address of the machine that the client sends to; none if it is the socket's own.
    pub(super) gateway: Option<IpAddr>,
}

/// A socket to which clients send.
#[derive(Debug)]
pub(super) struct ClientSocket {
    socket: UdpSocket,
    /// What the kernel writes down about a datagram; empty on a socket with an address of its own.
    notes: RefCell<Vec<u8>>,
}

impl ClientSocket {
    /// Takes over a socket that `bind` made.
    pub(super) fn new(socket: StdSocket) -> io::Result<Self> {
        let is_everywhere = socket.local_addr()?.ip().is_unspecified();
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            notes: RefCell::new(if is_everywhere {
                nix::cmsg_space!(in_pktinfo, in6_pktinfo)
            } else {
                Vec::new()
            }),
        })
    }

    /// Waits until there may be a datagram.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes a datagram, and says how long it is and between whom it passes.
    pub(super) fn receive(&self, datagram: &mut [u8]) -> io::Result<(usize, Ends)> {
        let mut notes = self.notes.borrow_mut();
        if notes.is_empty() {
            let (length, client) = self.socket.try_recv_from(datagram)?;
            let ends = Ends {
                client,
                gateway: None,
            };
            return Ok((length, ends));
        }
        self.socket.try_io(Interest::READABLE, || {
            let mut pieces = [IoSliceMut::new(datagram)];
            let message = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut pieces,
                Some(&mut notes[..]),
                MsgFlags::MSG_DONTWAIT,
            )?;
            let client = message.address.as_ref().and_then(from_storage);
            let client = client.ok_or(io::ErrorKind::InvalidData)?;
            let gateway = message.cmsgs()?.find_map(|note| asked_address(&note));
            Ok((message.bytes, Ends { client, gateway }))
        })
    }

    /// Sends a datagram to a client, from the address that it sent to.
    pub(super) fn reply(&self, ends: Ends, datagram: &[u8]) -> io::Result<()> {
        let send = |note: ControlMessage<'_>| {
            sendmsg(
                self.socket.as_raw_fd(),
                &[IoSlice::new(datagram)],
                &[note],
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
                Some(&SockaddrStorage::from(ends.client)),
            )
        };
        match ends.gateway {
            None => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::sendto(&self.socket, datagram, flags, &ends.client)?;
            }
            Some(IpAddr::V4(ip)) => {
                send(ControlMessage::Ipv4PacketInfo(&in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr {
                        s_addr: u32::from_ne_bytes(ip.octets()),
                    },
                    ipi_addr: in_addr { s_addr: 0 },
                }))?;
            }
            // The interface is in the client's address, where the address alone does not say it.
            Some(IpAddr::V6(ip)) => {
                send(ControlMessage::Ipv6PacketInfo(&in6_pktinfo {
                    ipi6_addr: in6_addr {
                        s6_addr: ip.octets(),
                    },
                    ipi6_ifindex: 0,
                }))?;
            }
        }
        Ok(())
    }
}

/// The address of the machine that a note of the kernel tells of; none for a group of many, from
/// which nobody can reply (RFC 1122 section 4.1.3.5).
fn asked_address(note: &ControlMessageOwned) -> Option<IpAddr> {
    match note {
        // For a datagram to many, this is the address of the interface.
        ControlMessageOwned::Ipv4PacketInfo(it) => {
            Some(IpAddr::from(it.ipi_spec_dst.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(it) => {
            let ip = Ipv6Addr::from(it.ipi6_addr.s6_addr);
            (!ip.is_multicast()).then_some(IpAddr::V6(ip))
        }
        _ => None,
    }
}

fn from_storage(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|it| SocketAddr::V4((*it).into()));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|it| SocketAddr::V6((*it).into()))
    })
}

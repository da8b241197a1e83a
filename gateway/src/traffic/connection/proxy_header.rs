//! The header with which a proxy in front of a listener says where a connection comes from (PROXY
//! protocol). It is looked at where it lies in the socket, and exactly its bytes are taken: what
//! follows, a request or the first words of TLS, is left for whoever reads next.
//!
//! Must not: look at what anybody else sends than the proxies that the listener names, or write to
//! the log above debug level: refusals are counted by what they were.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use cardea_config::model::ProxyValue;
use ipnet::IpNet;

use crate::snapshot::ListenerPlan;
use crate::telemetry::metrics::ProxyHeaderEnd;
use crate::traffic::buffer::Buffers;
use crate::traffic::exchange::{Client, Introduction};
use crate::traffic::headers::HeaderName;
use crate::traffic::proxy_protocol::{Fault, Header, Parsed, Transport, Version, parse};
use crate::traffic::socket::Socket;
use crate::traffic::timer::Direction;
use crate::traffic::worker::Worker;

/// Whose headers are taken, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRules {
    /// The proxies.
    pub from: Box<[IpNet]>,
    /// Whether their connections have to begin with a header.
    pub is_required: bool,
    /// From accept to the end of the header, absolute.
    pub timeout: Duration,
    /// Bytes of a header of version 2.
    pub bytes_max: usize,
    /// Fields of requests, and what was said that is their value.
    pub fields: Box<[(HeaderName, ProxyValue)]>,
}

impl ProxyRules {
    fn trusts(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        self.from.iter().any(|network| network.contains(&peer))
    }
}

/// Takes the header of a connection, if its peer is one of the proxies of the listener, and lets
/// the client be whom it says. An error when the connection is of no use.
pub async fn introduce(
    worker: &Worker,
    plan: &ListenerPlan,
    socket: &Socket,
    client: &mut Client,
) -> Result<(), ProxyHeaderEnd> {
    let Some(rules) = &plan.proxy_protocol else {
        return Ok(());
    };
    if !rules.trusts(client.peer) {
        return Ok(());
    }
    let received = receive(rules, socket, &worker.buffers, client).await;
    let end = match &received {
        Ok(end) => *end,
        Err(failure) => failure.end(),
    };
    worker.metrics.proxy_header_received(plan.slot.id(), end);
    let Err(failure) = received else {
        return Ok(());
    };
    tracing::debug!(
        proxy = %client.peer,
        listener = &*plan.name,
        end = end.as_str(),
        failure = failure.describe(),
        "proxy_header_refused"
    );
    Err(end)
}

/// Takes the header of a connection from a proxy, within its deadline.
async fn receive(
    rules: &ProxyRules,
    socket: &Socket,
    buffers: &Buffers,
    client: &mut Client,
) -> Result<ProxyHeaderEnd, Failure> {
    socket.set_deadline(Direction::Read, rules.timeout);
    let mut seen = 0;
    loop {
        match socket.readable().await {
            Err(error)
                if error.kind() == ErrorKind::TimedOut && seen == 0 && !rules.is_required =>
            {
                return Ok(ProxyHeaderEnd::Absent);
            }
            ready => ready?,
        }
        let mut buffer = buffers.take_head();
        let looked = look(rules, socket, &mut buffer, seen, client);
        buffers.give_input(buffer);
        match looked {
            Ok(Look::Incomplete(length)) => seen = length,
            Ok(Look::Taken(end)) => return Ok(end),
            Err(Failure::Fault(Fault::Missing)) if !rules.is_required => {
                return Ok(ProxyHeaderEnd::Absent);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// What a look into the socket found.
enum Look {
    /// So many bytes, which are not all.
    Incomplete(usize),
    /// A header, which was taken.
    Taken(ProxyHeaderEnd),
}

/// Looks at what has come beyond the bytes seen before, and takes the header if it is whole.
fn look(
    rules: &ProxyRules,
    socket: &Socket,
    buffer: &mut [u8],
    seen: usize,
    client: &mut Client,
) -> Result<Look, Failure> {
    let length = match socket.peek(buffer, seen) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Look::Incomplete(seen)),
        peeked => peeked?,
    };
    let peeked = buffer.get_mut(..length).unwrap_or_default();
    match parse(peeked, rules.bytes_max) {
        Parsed::Incomplete(_) => Ok(Look::Incomplete(length)),
        Parsed::Invalid(fault) => Err(Failure::Fault(fault)),
        Parsed::Header(header, taken) => {
            let end = believe(client, &header);
            socket.take_peeked(peeked, taken)?;
            Ok(Look::Taken(end))
        }
    }
}

/// Lets the client be whom a header says.
fn believe(client: &mut Client, header: &Header<'_>) -> ProxyHeaderEnd {
    let addresses = header.addresses;
    // An address of something else than TCP is none of this connection.
    let addresses = addresses.filter(|it| it.transport == Transport::Stream);
    if addresses.is_none() && header.tlvs.0.is_empty() {
        return ProxyHeaderEnd::Local;
    }
    let proxy = client.peer;
    // One client has one address, whichever way it is written.
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    if let Some(addresses) = addresses {
        client.peer = plain(addresses.source);
    }
    client.introduction = Some(Box::new(Introduction {
        proxy,
        destination: addresses.map(|it| plain(it.destination)),
        values: header.tlvs.0.into(),
    }));
    match (addresses, header.version) {
        (None, _) => ProxyHeaderEnd::Local,
        (_, Version::V1) => ProxyHeaderEnd::V1,
        (_, Version::V2) => ProxyHeaderEnd::V2,
    }
}

/// Why there is no header.
#[derive(Debug)]
enum Failure {
    Io(io::Error),
    Fault(Fault),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failure {
    fn end(&self) -> ProxyHeaderEnd {
        match self {
            Self::Io(error) if error.kind() == ErrorKind::TimedOut => ProxyHeaderEnd::TimedOut,
            Self::Io(_) => ProxyHeaderEnd::Closed,
            Self::Fault(Fault::Missing) => ProxyHeaderEnd::Missing,
            Self::Fault(Fault::TooLong) => ProxyHeaderEnd::TooLong,
            Self::Fault(Fault::Malformed(_)) => ProxyHeaderEnd::Malformed,
            Self::Fault(Fault::Checksum) => ProxyHeaderEnd::Checksum,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Io(error) => error.to_string(),
            Self::Fault(fault) => fault.describe().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;

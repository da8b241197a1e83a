//! What an endpoint is told of the client that a connection is made for: a header of the PROXY
//! protocol, before anything else. The connection is about that one client from then on.
//!
//! Must not: tell anything that was not verified, or that only a request says: whoever reads the
//! header has not seen a request yet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::traffic::exchange::{Client, TlsIdentity};
use crate::traffic::proxy_protocol::{
    Addresses, Tls, Tlvs, Transport, Version, client, kind, push, push_tls, write_v1, write_v2,
};

/// The longest name that is told: hosts have 253 bytes, common names 64.
const NAME_BYTES_MAX: usize = 255;

/// The header of a connection made for a client. `local` is the address that the client's own
/// connection ends at, for clients of whom no proxy says where they wanted to.
pub fn for_client(
    version: Version,
    client: &Client,
    local: impl FnOnce() -> Option<SocketAddr>,
    id: &[u8],
) -> Vec<u8> {
    let said = client.introduction.as_deref().and_then(|it| it.destination);
    let addresses = Addresses {
        source: client.peer,
        destination: said.or_else(local).unwrap_or(nowhere(client.peer)),
        transport: Transport::Stream,
    };
    let mut header = Vec::with_capacity(128);
    match version {
        Version::V1 => write_v1(&mut header, Some(&addresses)),
        Version::V2 => {
            let mut tlvs = Vec::new();
            if !id.is_empty() {
                push(&mut tlvs, kind::UNIQUE_ID, id);
            }
            if let Some(tls) = &client.tls {
                push_identity(&mut tlvs, tls);
            }
            write_v2(&mut header, Some(&addresses), &tlvs);
        }
    }
    header
}

/// The header of a connection of our own: a check.
pub fn for_ourselves(version: Version) -> Vec<u8> {
    let mut header = Vec::new();
    match version {
        Version::V1 => write_v1(&mut header, None),
        Version::V2 => write_v2(&mut header, None, &[]),
    }
    header
}

fn push_identity(tlvs: &mut Vec<u8>, tls: &TlsIdentity) {
    if let Some(name) = tls.server_name.as_deref().filter(|it| is_short(it)) {
        push(tlvs, kind::AUTHORITY, name.as_bytes());
    }
    let mut inside = Vec::new();
    push(&mut inside, kind::TLS_VERSION, tls.version.as_bytes());
    let name = tls.peer.as_ref().and_then(|it| it.common_name.as_deref());
    if let Some(name) = name.filter(|it| is_short(it)) {
        push(&mut inside, kind::TLS_COMMON_NAME, name.as_bytes());
    }
    let certificate = match (&tls.peer, tls.resumed) {
        (None, _) => 0,
        (Some(_), true) => client::CERTIFICATE_ONCE,
        (Some(_), false) => client::CERTIFICATE_ONCE | client::CERTIFICATE_NOW,
    };
    let tls = Tls {
        client: client::TLS | certificate,
        // One that was not would not be here.
        is_verified: tls.peer.is_some(),
        tlvs: Tlvs(&inside),
    };
    push_tls(tlvs, &tls);
}

fn is_short(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
}

/// Where a client wanted to whose connection is gone.
fn nowhere(source: SocketAddr) -> SocketAddr {
    let ip = match source {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

#[cfg(test)]
mod tests;

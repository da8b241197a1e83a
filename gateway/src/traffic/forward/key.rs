//! Which part of a request chooses its endpoint, where the balance goes by one.
//!
//! Must not: leave a request without a key: one that lacks the part goes by its client's address.

use std::net::IpAddr;

use crate::traffic::balance::HashBy;
use crate::traffic::balance::hash::hash;
use crate::traffic::exchange::Exchange;
use crate::traffic::upstream::local::LocalUpstream;

/// The hash of the part of a request that chooses the endpoint, where the balance goes by one. A
/// request that does not have that part goes by its client's address.
pub(super) fn hash_key(upstream: &LocalUpstream, exchange: &Exchange<'_>) -> Option<u64> {
    let request = &exchange.request;
    let key = match upstream.upstream().settings.balance.hash_by()? {
        HashBy::ClientIp => None,
        HashBy::Header(name) => request.headers.values_of(name).next().map(hash),
        HashBy::Cookie(name) => cookie(exchange, name).map(hash),
        HashBy::Path => Some(hash(&request.path)),
    };
    key.or_else(|| {
        Some(match exchange.client_address.to_canonical() {
            IpAddr::V4(address) => hash(&address.octets()),
            IpAddr::V6(address) => hash(&address.octets()),
        })
    })
}

/// The value of a cookie, from the first field that has it (RFC 6265 §5.4).
fn cookie<'e>(exchange: &'e Exchange<'_>, name: &str) -> Option<&'e [u8]> {
    let lines = exchange.request.headers.values_of("cookie");
    lines
        .flat_map(|line| line.split(|&byte| byte == b';'))
        .find_map(|pair| {
            pair.trim_ascii()
                .strip_prefix(name.as_bytes())?
                .strip_prefix(b"=")
        })
}

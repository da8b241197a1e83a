//! Routing: from a host to a domain, from a path as sent to its normal form, from a request to a
//! route. Everything is compiled beforehand; a lookup neither allocates nor costs more with ten
//! thousand hosts than with one.
//!
//! The rules, for users, are in docs/guides/routing.md; a change here is a change there.
//!
//! Must not: normalise twice, look at a path that is not normal, or let `explain` tell another
//! story than the lookup itself.

pub mod host;
pub mod normalise;

pub mod explain;
pub mod lint;
pub mod table;
pub mod weight;

mod matcher;
mod pattern;
mod query;
mod reading;
mod tree;

#[cfg(test)]
mod tests;

pub use host::HostTable;
pub use normalise::{PathError, PathRules, normalise, normalise_written, normalised};
pub use table::RouteTable;
pub use weight::WeightedChoice;

use cardea_certs::peer::PeerCertificate;

use super::headers::Headers;

/// What routing sees of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'r> {
    /// The method as sent.
    pub method: &'r [u8],
    /// The path in its normal form.
    pub path: &'r [u8],
    /// The query without its `?`.
    pub query: Option<&'r [u8]>,
    /// The header fields.
    pub headers: &'r Headers,
    /// The certificate that the client showed.
    pub client: Option<&'r PeerCertificate>,
}

/// The route that takes a request, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The route's place in the document.
    pub route: usize,
    /// The place in the route of the alternative that matched.
    pub alternative: usize,
    /// Bytes of the path that the prefix of that alternative covers: all of an exact path, none
    /// for a regular expression.
    pub path_bytes: usize,
}

/// Why no route takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// None matches.
    #[error("no route matches")]
    Unmatched,
    /// Origins read such a path in different ways, and these lead to different routes.
    #[error("the path leads to different routes, depending on how it is read")]
    Ambiguous,
}

//! Routing: from a host to a domain, from a normalised path to a route. Everything is compiled
//! beforehand; a lookup allocates nothing and costs the same with ten thousand hosts as with one.
//!
//! Must not: normalise twice, or let two lookups disagree about what a request is.

mod host;
mod normalise;
mod table;
mod value;
mod weight;

#[cfg(test)]
mod oracle;

pub use host::HostTable;
pub use normalise::{PathError, PathRules, normalise};
pub use table::{Candidate, Loss, RouteTable, RouteTableError};
pub use weight::WeightedChoice;

use super::headers::Headers;

/// What routing sees of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'r> {
    /// The method as sent.
    pub method: &'r [u8],
    /// The normalised path.
    pub path: &'r [u8],
    /// The query without its `?`.
    pub query: Option<&'r [u8]>,
    /// The fields.
    pub headers: &'r Headers,
}

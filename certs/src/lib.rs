//! TLS for the gateway: who we are, how sessions are kept, whom we trust.
//!
//! In the life of a configuration this package reads certificate files, says what is wrong with
//! them, and builds the immutable [`CertificateStore`] and the rustls configurations of listeners
//! and upstreams. In the life of a request only lookups remain: a certificate by server name, a
//! session ticket.
//!
//! It knows rustls, and neither the gateway nor its configuration document. It writes no log:
//! what an operator should hear is returned as an [`Error`] or a [`Warning`].

pub mod client;
pub mod greeting;
pub mod local;
pub mod ocsp;
pub mod peer;
pub mod provider;
pub mod resumption;
pub mod server;
pub mod vault;

mod error;
mod files;
mod live;
mod load;
mod stand_in;
mod store;

pub use error::{Calendar, Error, Failure, Found, Notice, Warning};
pub use files::REST_SECS;
pub use live::{LiveCertificates, Refreshed};
pub use load::{Certificate, Details, load, parse};
pub use store::{CertificateSpec, CertificateStore, HostAssignment, Plan};

#[cfg(test)]
mod testing;

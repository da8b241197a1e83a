//! The rustls configuration of a listener, or of a domain that has a TLS policy of its own.
//!
//! Built when a configuration is compiled, one for each policy; the listener chooses among them
//! for each ClientHello. Certificates and sessions are not in it: they live longer, and the
//! configuration only refers to them.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use rustls::version::{TLS12, TLS13};

use crate::error::Error;
use crate::provider;
use crate::resumption::Resumption;

/// Tickets sent with a TLS 1.3 handshake. One: each is 175 to 195 bytes and two percent of the
/// handshake's CPU on every new connection, and a client that comes back on one connection at a
/// time gets its next ticket then.
const TICKETS_SENT: usize = 1;

/// Tickets sent at most to a client that asks for a number of them (RFC 9149), as it does when it
/// means to open several connections at once.
const TICKETS_ASKED_MAX: usize = 4;

/// The oldest TLS version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// How a listener, or a domain of it, speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// What tells this policy from others, in words that a reload keeps: sessions made under one
    /// identity are refused under every other.
    pub identity: String,
    /// The oldest version.
    pub min_version: MinVersion,
    /// Protocols offered within TLS, the preferred one first.
    pub alpn: Vec<Vec<u8>>,
}

impl TlsPolicy {
    /// What sessions are bound to. The version is part of it: when a policy is made stricter,
    /// what was agreed before counts no more. The protocols are not: they are agreed anew.
    fn scope_identity(&self) -> String {
        format!("{:?} {}", self.min_version, self.identity)
    }
}

/// Builds the configuration of a policy.
pub fn server_config(
    policy: &TlsPolicy,
    certificates: Arc<dyn ResolvesServerCert>,
    resumption: &Resumption,
) -> Result<Arc<ServerConfig>, Error> {
    let versions = match policy.min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12][..],
        MinVersion::Tls13 => &[&TLS13][..],
    };
    let builder = ServerConfig::builder_with_details(provider::provider(), resumption.clock())
        .with_protocol_versions(versions)
        .map_err(|source| Error::Tls {
            what: "the TLS policy",
            source,
        })?;
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    let scope = resumption.scope(&policy.scope_identity());
    config.ticketer = scope.tickets;
    config.session_storage = scope.sessions;
    config.alpn_protocols.clone_from(&policy.alpn);
    config.send_tls13_tickets = TICKETS_SENT;
    config.max_tls13_tickets = TICKETS_ASKED_MAX;
    // Early data can be replayed by anyone who saw it (RFC 8470).
    config.max_early_data_size = 0;
    // Phones without AES in hardware prefer ChaCha20, and know best.
    config.ignore_client_order = false;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;

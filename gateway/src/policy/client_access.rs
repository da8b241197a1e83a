//! Who may come, by the certificate that the client showed. Every level that sets it must allow
//! the client.
//!
//! Must not: believe a header field. What counts is what this connection's handshake proved.

use cardea_certs::peer::{PeerCertificate, PeerRule};
use cardea_config::policy::ClientAccess as Settings;

use super::{Levels, Verdict};
use crate::traffic::exchange::Exchange;
use crate::traffic::peer;
use crate::traffic::respond::{Reason, Reply, Response};

/// The compiled policy.
#[derive(Debug)]
pub struct ClientAccess {
    allow: Box<[PeerRule]>,
}

impl ClientAccess {
    /// One for each level: all of them have to allow the client.
    pub fn compile(levels: &mut Levels<'_>) -> Vec<Self> {
        levels
            .each(|level| level.client_access.as_deref())
            .map(Self::new)
            .collect()
    }

    fn new(settings: &Settings) -> Self {
        Self {
            allow: settings.allow.iter().map(peer::rule).collect(),
        }
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        if self.allow.is_empty() {
            return "any client certificate".to_owned();
        }
        let rules = self.allow.iter().map(peer::describe);
        format!("allow {}", rules.collect::<Vec<_>>().join("; "))
    }

    /// Refuses clients without a certificate, and those that no rule means.
    pub fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
        match exchange.peer_certificate() {
            None => Err(Reply::new(Reason::ClientCertificateRequired)),
            Some(peer) if self.allows(peer) => Ok(()),
            Some(_) => Err(Reply::new(Reason::ClientDenied)),
        }
    }

    /// Nothing to do.
    pub fn on_response(&self, _: &Exchange<'_>, _: &mut Response) {}

    fn allows(&self, peer: &PeerCertificate) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|rule| rule.matches(peer))
    }
}

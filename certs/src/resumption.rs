//! Sessions that clients come back to: tickets, and a memory for clients without tickets.
//!
//! Tickets are sealed with random keys that never leave memory, or with keys of secrets that several
//! gateways share.
//!
//! One [`Resumption`] lives as long as the process, beside the configurations that come and go;
//! that is why a reload costs no session. Each TLS policy gets its own [`Scope`] of it. A session
//! is worth something only in the scope that made it: what one domain's policy let in, another
//! domain's policy has not checked (a client certificate, for one).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::server::{ProducesTickets, StoresServerSessions};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use crate::error::Error;
use crate::files::ContentHash;

mod secrets;
mod sessions;
mod tickets;

pub use secrets::{TicketSecrets, read_secret};

use sessions::{ScopedSessions, SessionMemory};
use tickets::{ScopedTickets, TicketKeys};

/// How long one key makes tickets; for the same time again it is accepted. rustls' own choice:
/// who steals a key of memory can read what was resumed in half a day, not more.
pub const TICKET_KEY_PERIOD: Duration = Duration::from_secs(6 * 60 * 60);

/// Sessions remembered for TLS 1.2 clients that know no tickets and for early data, over all
/// policies. A session is about 200 bytes.
pub const SESSIONS_MAX: usize = 16 * 1024;

/// How sessions are kept.
#[derive(Debug, Clone)]
pub struct ResumptionSettings {
    /// How long one key makes tickets.
    pub ticket_key_period: Duration,
    /// How many sessions are remembered for clients without tickets.
    pub sessions_max: usize,
    /// What time it is; a test's own clock, or the system's.
    pub clock: Arc<dyn TimeProvider>,
}

impl Default for ResumptionSettings {
    fn default() -> Self {
        Self {
            ticket_key_period: TICKET_KEY_PERIOD,
            sessions_max: SESSIONS_MAX,
            clock: Arc::new(DefaultTimeProvider),
        }
    }
}

/// The process's memory for sessions: ticket keys and the session store.
#[derive(Debug)]
pub struct Resumption {
    tickets: Arc<TicketKeys>,
    sessions: Arc<SessionMemory>,
    clock: Arc<dyn TimeProvider>,
}

impl Resumption {
    /// Starts with fresh keys and no sessions.
    pub fn new(settings: ResumptionSettings) -> Result<Self, Error> {
        let period_secs = settings.ticket_key_period.as_secs().max(1);
        let clock = settings.clock;
        Ok(Self {
            tickets: Arc::new(TicketKeys::new(period_secs, Arc::clone(&clock))?),
            sessions: Arc::new(SessionMemory::new(
                settings.sessions_max,
                // As long as a ticket lasts.
                period_secs.saturating_mul(2),
                Arc::clone(&clock),
            )),
            clock,
        })
    }

    /// What a policy keeps its sessions with. The same identity gives the same scope, before and
    /// after a reload; whatever makes two policies differ in whom they let in belongs into it.
    pub fn scope(&self, identity: &[u8]) -> Scope {
        let id = ScopeId(*ContentHash::of(&[b"cardea session scope", identity]).as_bytes());
        Scope {
            tickets: Arc::new(ScopedTickets::new(Arc::clone(&self.tickets), id)),
            sessions: Arc::new(ScopedSessions::new(Arc::clone(&self.sessions), id)),
        }
    }

    /// Replaces the ticket key if its time is over. Tickets do this themselves when they are made
    /// or read; calling it every few minutes erases old keys in time when there is no traffic.
    pub fn rotate(&self) -> Result<(), Error> {
        self.tickets.rotate()
    }

    /// Makes tickets with keys of these secrets from now on, or with random ones if there are none.
    /// Tickets made before are read as long as they would have been.
    pub fn use_secrets(&self, secrets: Arc<TicketSecrets>) -> Result<(), Error> {
        self.tickets.use_secrets(secrets)
    }

    pub(crate) fn clock(&self) -> Arc<dyn TimeProvider> {
        Arc::clone(&self.clock)
    }
}

/// The sessions of one policy, in the forms that rustls asks for.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Makes and reads tickets.
    pub tickets: Arc<dyn ProducesTickets>,
    /// Remembers sessions for clients without tickets.
    pub sessions: Arc<dyn StoresServerSessions>,
}

/// A policy's identity, hashed to one length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScopeId([u8; 32]);

impl fmt::Debug for ScopeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(4) {
            write!(out, "{byte:02x}")?;
        }
        Ok(())
    }
}

fn secs(clock: &dyn TimeProvider) -> Option<u64> {
    clock.current_time().map(|now: UnixTime| now.as_secs())
}

#[cfg(test)]
mod tests;

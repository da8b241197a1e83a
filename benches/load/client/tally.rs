//! What a client counted: responses, latencies, and every way in which a request can fail.

use std::fmt;
use std::time::Duration;

use super::histogram::Histogram;

/// Counts since the client was last asked.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// Responses that were exactly as expected; of slots that only shake hands, handshakes.
    pub completed: u64,
    /// Connections begun.
    pub connections: u64,
    /// Of the ended connections, those that resumed a session.
    pub resumed: u64,
    /// From due time to last byte.
    pub latency: Histogram,
    /// How long the client ran.
    pub elapsed: Duration,
    failures: [u64; Failure::ALL.len()],
}

/// Why a request did not get its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection was not accepted.
    Refused,
    /// The TLS session could not be set up or was broken.
    Tls,
    /// The connection closed after the request was sent, before any byte of a response.
    Unanswered,
    /// The connection closed within a response.
    Cut,
    /// The response was not the expected one: status, length or content.
    Wrong,
    /// Nothing came in time.
    Timeout,
}

impl Failure {
    const ALL: [Failure; 6] = [
        Failure::Refused,
        Failure::Tls,
        Failure::Unanswered,
        Failure::Cut,
        Failure::Wrong,
        Failure::Timeout,
    ];
}

impl Tally {
    /// Counts one failure.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failures[failure as usize] += 1;
    }

    /// All failures together.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Adds another client's counts; both ran at the same time.
    pub(crate) fn merge(&mut self, other: &Tally) {
        self.completed += other.completed;
        self.connections += other.connections;
        self.resumed += other.resumed;
        self.latency.merge(&other.latency);
        self.elapsed = self.elapsed.max(other.elapsed);
        for (mine, theirs) in self.failures.iter_mut().zip(other.failures) {
            *mine += theirs;
        }
    }

    /// Adds what the same client counted afterwards.
    pub(crate) fn append(&mut self, later: &Tally) {
        let elapsed = self.elapsed + later.elapsed;
        self.merge(later);
        self.elapsed = elapsed;
    }

    /// Responses a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.completed as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Shows the failures only: `3 cut, 1 refused`, or `none`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for failure in Failure::ALL {
            let count = self.failures[failure as usize];
            if count > 0 {
                let name = format!("{failure:?}").to_lowercase();
                write!(f, "{separator}{count} {name}")?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

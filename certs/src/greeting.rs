//! The first words of a client, read before anything is agreed: the name in them decides under which
//! policy the rest happens.
//!
//! Part of the life of a request. Whoever can connect can send anything here, so it is bounded, and
//! fuzzed (tests/fuzz/targets/client_hello.rs).

use rustls::server::{Accepted, AcceptedAlert, Acceptor};

/// The most that a client's first words may be, bytes. A post-quantum key share makes them 1.8 KiB
/// long, and whatever is invented next has room.
const HELLO_BYTES_MAX: usize = 64 * 1024;

/// The alert that there is nobody here of the name that was asked for (RFC 6066 section 3), in a
/// record of its own.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The first words of a client, until they are whole.
#[derive(Default)]
pub struct Greeting {
    acceptor: Acceptor,
    received: usize,
}

/// Why a client is refused before anything is agreed, and what it is told: an alert, ready to be
/// sent.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: rustls::Error,
    /// The alert's record; empty for none.
    pub alert: Vec<u8>,
}

impl Refused {
    /// What came of an attempt, in the library's terms.
    pub fn new(error: rustls::Error, mut alert: AcceptedAlert) -> Self {
        let mut bytes = Vec::new();
        // Writing to a vector does not fail.
        let _ = alert.write_all(&mut bytes);
        Self {
            error,
            alert: bytes,
        }
    }

    /// There is nobody of the name that was asked for.
    pub fn unknown_name() -> Self {
        Self {
            error: rustls::Error::General("no certificate has the name".to_owned()),
            alert: UNRECOGNIZED_NAME.to_vec(),
        }
    }
}

impl Greeting {
    /// Takes records received: the whole of the first words once they are there.
    pub fn feed(&mut self, mut records: &[u8]) -> Result<Option<Accepted>, Refused> {
        self.received += records.len();
        if self.received > HELLO_BYTES_MAX {
            return Err(too_long());
        }
        while !records.is_empty() {
            match self.acceptor.read_tls(&mut records) {
                Ok(0) | Err(_) => return Err(too_long()),
                Ok(_) => {}
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                // A client has nothing to say behind its first words before it is answered; what
                // it says nevertheless waits in there with them.
                Ok(Some(accepted)) => return Ok(Some(accepted)),
                Err((error, alert)) => return Err(Refused::new(error, alert)),
            }
        }
        Ok(None)
    }
}

fn too_long() -> Refused {
    Refused {
        error: rustls::Error::PeerSentOversizedRecord,
        alert: Vec::new(),
    }
}

#[cfg(test)]
mod tests;

//! The first words of a client, read before anything is agreed: the name in them decides under which
//! policy the rest happens.
//!
//! Part of the life of a request. Whoever can connect can send anything here, so it is bounded, and
//! fuzzed (tests/fuzz/targets/client_hello.rs).

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{ContentType, HandshakeType};

mod name;

/// The most that a client's first words may be, bytes of the handshake. A post-quantum key share
/// makes them 1.8 KiB long, and what is invented next has room; most servers stop at half of it.
///
/// What is around them needs no limit of its own: a record holds a byte of them at the least, so
/// there are at most six bytes on the wire for each of theirs.
pub const HELLO_BYTES_MAX: usize = 32 * 1024;

/// The most that a record of plain bytes may hold (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// How many bytes the library is handed in one record: few enough that what comes behind the last
/// one always fits in beside it.
const PASSED_BYTES: usize = 4 * 1024;

/// The content type of handshake messages (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// The type of the only handshake message that a client may begin with (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;

/// The alert that first words, or a record of them, are too long (RFC 8446 section 6.2).
const RECORD_OVERFLOW: [u8; 7] = [21, 3, 3, 0, 2, 2, 22];

/// The alert that something else was expected.
const UNEXPECTED_MESSAGE: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// The alert that there is nobody here of the name that was asked for (RFC 6066 section 3), in a
/// record of its own.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The first words of a client, until they are whole.
///
/// They are put together here, and not by the library, because a client may spread them over as
/// many records as they have bytes: the library would count what is around them as well, and look
/// at all of them again with each.
#[derive(Default)]
pub struct Greeting {
    words: Vec<u8>,
    /// The beginning of a record, until it says how long it is.
    rim: Vec<u8>,
    /// Bytes of the record under way that are to come.
    left: usize,
    /// What was received, where somebody else may have to hear it: at most six bytes for each of
    /// the words', and what came with the last of them.
    kept: Option<Vec<u8>>,
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
    /// First words that somebody else may have to hear, too: they are kept as they were sent.
    pub fn keeping() -> Self {
        Self {
            kept: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// The name in words that were refused, for whoever passes them on to somebody who may not
    /// refuse them; none unless they are whole and were kept.
    pub fn name_of_refused(&self) -> Option<String> {
        name::server_name(self.kept.as_deref()?)
    }

    /// All that was received, if it was kept.
    pub fn into_words(self) -> Vec<u8> {
        self.kept.unwrap_or_default()
    }

    /// Takes bytes received: the whole of the first words once they are there.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Accepted>, Refused> {
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.left == 0 {
                rest = self.take_rim(rest)?;
                continue;
            }
            let (taken, behind) = rest.split_at(rest.len().min(self.left));
            self.words.extend_from_slice(taken);
            self.left -= taken.len();
            rest = behind;
            if let Some(length) = self.length()?
                && self.words.len() >= length
            {
                // Keys change behind the first words, so a record must not go on behind them
                // (RFC 8446 section 5.1).
                if self.left > 0 || self.words.len() > length {
                    return Err(unexpected_handshake(self.words.get(length)));
                }
                return self.accept(rest).map(Some);
            }
        }
        Ok(None)
    }

    /// Takes what there is of the beginning of a record; the bytes behind it.
    fn take_rim<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Refused> {
        const RIM_BYTES: usize = 5;
        let (taken, behind) = bytes.split_at(bytes.len().min(RIM_BYTES - self.rim.len()));
        self.rim.extend_from_slice(taken);
        let &[kind, major, _, high, low] = self.rim.as_slice() else {
            return Ok(behind);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || length == 0 || length > RECORD_BYTES_MAX {
            return Err(refuse_record(&self.rim, kind));
        }
        self.left = length;
        self.rim.clear();
        Ok(behind)
    }

    /// How long the words are, once they say so.
    fn length(&self) -> Result<Option<usize>, Refused> {
        match *self.words.as_slice() {
            [kind, ..] if kind != CLIENT_HELLO => Err(unexpected_handshake(Some(&kind))),
            [_, high, middle, low, ..] => {
                let length = u32::from_be_bytes([0, high, middle, low]);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                match length.saturating_add(4) {
                    length if length > HELLO_BYTES_MAX => Err(too_long()),
                    length => Ok(Some(length)),
                }
            }
            _ => Ok(None),
        }
    }

    /// Has the library understand the words. A client has nothing to say behind them before it is
    /// answered, unless it has early data; what it says nevertheless waits with them.
    fn accept(&mut self, behind: &[u8]) -> Result<Accepted, Refused> {
        let words = std::mem::take(&mut self.words);
        let mut acceptor = Acceptor::default();
        let mut pieces = words.chunks(PASSED_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let mut record = vec![HANDSHAKE, 3, 1];
            let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
            record.extend_from_slice(&length.to_be_bytes());
            record.extend_from_slice(piece);
            if pieces.peek().is_none() {
                record.extend_from_slice(behind);
            }
            let mut record = record.as_slice();
            while !record.is_empty() {
                match acceptor.read_tls(&mut record) {
                    Ok(0) | Err(_) => return Err(too_long()),
                    Ok(_) => {}
                }
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => return Ok(accepted),
                Err((error, alert)) => return Err(Refused::new(error, alert)),
            }
        }
        Err(unexpected_handshake(None))
    }
}

/// Refuses a client for the beginning of a record, in the library's words where it has some.
fn refuse_record(rim: &[u8], kind: u8) -> Refused {
    let mut acceptor = Acceptor::default();
    let mut rest = rim;
    if acceptor.read_tls(&mut rest).is_ok()
        && let Err((error, alert)) = acceptor.accept()
    {
        return Refused::new(error, alert);
    }
    if kind == HANDSHAKE {
        return too_long();
    }
    Refused {
        error: rustls::Error::InappropriateMessage {
            expect_types: vec![ContentType::Handshake],
            got_type: kind.into(),
        },
        alert: UNEXPECTED_MESSAGE.to_vec(),
    }
}

fn unexpected_handshake(kind: Option<&u8>) -> Refused {
    Refused {
        error: rustls::Error::InappropriateHandshakeMessage {
            expect_types: vec![HandshakeType::ClientHello],
            got_type: kind.copied().unwrap_or_default().into(),
        },
        alert: UNEXPECTED_MESSAGE.to_vec(),
    }
}

fn too_long() -> Refused {
    Refused {
        error: rustls::Error::PeerSentOversizedRecord,
        alert: RECORD_OVERFLOW.to_vec(),
    }
}

#[cfg(test)]
mod tests;

//! The name in first words that the library does not serve: those of clients that know no version of
//! TLS that is served here, and may know one that an endpoint serves which they are passed on to.
//!
//! Must not: judge anything else. Whoever passes words on does not answer them.

/// A client's first words as a handshake record has them (RFC 5246 section 6.2.1).
const HANDSHAKE: u8 = 22;

/// Their type among handshake messages (RFC 5246 section 7.4).
const CLIENT_HELLO: u8 = 1;

/// The extension with the name (RFC 6066 section 3), and the kind of name there is.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The longest name of a host, bytes (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// The name in first words that are whole; none where they are not, or have no name that a host
/// could have.
pub(super) fn server_name(records: &[u8]) -> Option<String> {
    let message = message(records)?;
    let mut body = Bytes(&message);
    if body.number::<1>()? != usize::from(CLIENT_HELLO) {
        return None;
    }
    let mut hello = Bytes(body.vector::<3>()?);
    // The version and the random bytes, the session, the cipher suites, the compressions.
    hello.take(2 + 32)?;
    hello.vector::<1>()?;
    hello.vector::<2>()?;
    hello.vector::<1>()?;
    let mut extensions = Bytes(hello.vector::<2>()?);
    loop {
        let kind = extensions.number::<2>()?;
        let content = extensions.vector::<2>()?;
        if kind == usize::from(SERVER_NAME) {
            let mut names = Bytes(Bytes(content).vector::<2>()?);
            let is_host = names.number::<1>()? == usize::from(HOST_NAME);
            return host(names.vector::<2>()?).filter(|_| is_host);
        }
    }
}

/// A name as a host can have it.
fn host(name: &[u8]) -> Option<String> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let is_host = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.iter().all(fits);
    let name = std::str::from_utf8(name).ok().filter(|_| is_host)?;
    Some(name.to_ascii_lowercase())
}

/// The first message, put together from the records it came in.
fn message(records: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Bytes(records);
    let mut message = Vec::new();
    while !is_whole(&message) {
        if rest.number::<1>()? != usize::from(HANDSHAKE) {
            return None;
        }
        rest.take(2)?;
        message.extend_from_slice(rest.vector::<2>()?);
    }
    Some(message)
}

fn is_whole(message: &[u8]) -> bool {
    let mut message = Bytes(message);
    message.number::<1>().is_some() && message.vector::<3>().is_some()
}

/// Bytes that were not read yet.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of `N` bytes, the most significant first.
    fn number<const N: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(N)?.iter();
        Some(bytes.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What follows its length, a number of `N` bytes.
    fn vector<const N: usize>(&mut self) -> Option<&'b [u8]> {
        let length = self.number::<N>()?;
        self.take(length)
    }
}

//! TLS on a socket of the data path: rustls driven directly, so that records are read in large
//! pieces into buffers the caller has anyway, and a session holds next to nothing while idle.
//!
//! A client's first words are read before anything is agreed, because the name in them decides
//! under which policy the rest happens: the domain's, where it has one, else the listener's.
//!
//! Must not: make certificates or policies (`certs` does) or do IO of its own: the socket passes
//! bytes in and out.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use cardea_certs::LiveCertificates;
use cardea_certs::greeting::Refused;
use cardea_certs::server::{PolicyIdentity, ServerPolicy};
use rustls::pki_types::ServerName;
use rustls::server::Accepted;
use rustls::{ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig};
use rustls::{ProtocolVersion, ServerConnection};

use super::buffer::BODY_BYTES;
use super::exchange::TlsIdentity;

/// Decrypted bytes that a session may hold before it stops taking records; rustls' own limit.
const PLAINTEXT_HELD_MAX: usize = 16 * 1024;

/// The TLS side of a listener.
#[derive(Debug)]
pub struct ListenerTls {
    /// The certificates in use.
    pub certificates: Arc<LiveCertificates>,
    /// How TLS is spoken where no domain says otherwise.
    pub policy: Arc<ServerPolicy>,
    /// How it is spoken for each domain, by its place in the snapshot; empty where none has a
    /// policy of its own.
    pub by_domain: Box<[Option<Arc<ServerPolicy>>]>,
    /// Whether clients are refused that name no host, or one that no certificate has.
    pub refuses_unknown: bool,
}

impl ListenerTls {
    /// How TLS is spoken for a domain.
    pub fn policy_of(&self, domain: Option<u32>) -> &Arc<ServerPolicy> {
        let own = domain.and_then(|place| self.by_domain.get(place as usize)?.as_ref());
        own.unwrap_or(&self.policy)
    }

    /// Whether a client that asks for a name, or for none, is to be refused for it.
    pub fn refuses(&self, server_name: Option<&str>) -> bool {
        let is_known = |name: &str| self.certificates.has_name(name);
        self.refuses_unknown && !server_name.is_some_and(is_known)
    }

    /// Whether a connection that was made under one policy is as good as one made under another.
    pub fn agrees(&self, domain: Option<u32>, made_under: PolicyIdentity) -> bool {
        self.policy_of(domain).identity == made_under
    }
}

/// The most that a session seals before it is sent, bytes: a body buffer and its records' rims.
const SEALED_BYTES_MAX: usize = BODY_BYTES + 4096;

/// One TLS session over one socket.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    plaintext: usize,
    /// Records received that rustls had no room for yet.
    pending: Vec<u8>,
    /// Whether the client may send a request before its handshake is done.
    is_early: bool,
    /// What it sent then and nobody read yet.
    early: Vec<u8>,
    ended: bool,
}

impl Session {
    /// The session with a client whose first words are known.
    pub fn accept(accepted: Accepted, config: &Arc<ServerConfig>) -> Result<Self, Refused> {
        let mut connection: ServerConnection = accepted
            .into_connection(Arc::clone(config))
            .map_err(|(error, alert)| Refused::new(error, alert))?;
        let is_early = connection.early_data().is_some();
        let mut session = Self::new(Connection::Server(connection));
        session.is_early = is_early;
        Ok(session)
    }

    /// The session of a connection to an endpoint.
    pub fn connect(
        config: &Arc<ClientConfig>,
        server_name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        let connection = ClientConnection::new(Arc::clone(config), server_name)?;
        Ok(Self::new(Connection::Client(connection)))
    }

    fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(SEALED_BYTES_MAX));
        Self {
            connection,
            plaintext: 0,
            pending: Vec::new(),
            is_early: false,
            early: Vec::new(),
            ended: false,
        }
    }

    /// Whether a read would find something without the socket: bytes, or the end.
    pub fn has_plaintext(&self) -> bool {
        self.plaintext > 0 || self.ended || !self.pending.is_empty() || !self.early.is_empty()
    }

    /// Whether the client may send a request before its handshake is done (RFC 8446 section 2.3).
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// Takes what came with the client's first words.
    pub fn take_early(&mut self) -> io::Result<()> {
        self.process()
    }

    /// Whether records wait to be sent.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Whether HTTP/2 was agreed on.
    pub fn is_http2(&self) -> bool {
        self.connection.alpn_protocol() == Some(b"h2")
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Moves decrypted bytes out; `None` when there are none yet, zero at the end of the stream.
    /// A stream that ends without close_notify is an error: it may have been cut short.
    pub fn read_plaintext(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buffer.len());
            let taken = self.early.drain(..length);
            for (place, byte) in buffer.iter_mut().zip(taken) {
                *place = byte;
            }
            return Ok(Some(length));
        }
        loop {
            match self.connection.reader().read(buffer) {
                Ok(read) => {
                    self.plaintext = self.plaintext.saturating_sub(read);
                    self.ended |= read == 0;
                    return Ok(Some(read));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
            if self.pending.is_empty() {
                return Ok(None);
            }
            let pending = std::mem::take(&mut self.pending);
            self.feed(&pending)?;
        }
    }

    /// Takes records received into the caller's buffer; empty input is the end of the stream.
    pub fn feed(&mut self, mut records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            self.connection.read_tls(&mut io::empty())?;
            self.process()?;
            return Ok(());
        }
        while !records.is_empty() {
            if self.plaintext > PLAINTEXT_HELD_MAX {
                self.pending.extend_from_slice(records);
                return Ok(());
            }
            if self.connection.read_tls(&mut records)? == 0 {
                // After close_notify nothing more is taken (RFC 8446 §6.1).
                return Ok(());
            }
            self.process()?;
        }
        Ok(())
    }

    fn process(&mut self) -> io::Result<()> {
        let state = self
            .connection
            .process_new_packets()
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        self.plaintext = state.plaintext_bytes_to_read();
        if self.is_early
            && let Connection::Server(server) = &mut self.connection
            && let Some(mut early) = server.early_data()
        {
            early.read_to_end(&mut self.early)?;
        }
        Ok(())
    }

    /// Encrypts as much of `head` and then `body` as the session will hold; how much that was.
    pub fn write_plaintext(&mut self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let mut writer = self.connection.writer();
        match (head, body) {
            // One piece is sealed where it is; two that share a record are copied together.
            (bytes, []) | ([], bytes) => writer.write(bytes),
            _ => writer.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]),
        }
    }

    /// Passes waiting records to `send`; how many bytes it took.
    pub fn send(
        &mut self,
        send: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.connection.write_tls(&mut Sender(send))
    }

    /// Queues close_notify.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// What the handshake with a client established under a policy. An error is a client
    /// certificate that was good when the session began and is not any more.
    pub fn identity(&self, policy: &ServerPolicy) -> Result<TlsIdentity, rustls::Error> {
        let server_name = match &self.connection {
            Connection::Server(server) => server.server_name().map(Into::into),
            Connection::Client(_) => None,
        };
        let resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let peer = policy.client(self.connection.peer_certificates(), resumed)?;
        Ok(TlsIdentity {
            server_name,
            policy: policy.identity,
            peer: peer.map(Box::new),
            version: match self.connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher: self
                .connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            resumed,
            is_http2: self.is_http2(),
        })
    }
}

/// Lets a closure stand where rustls wants a writer.
struct Sender<F>(F);

impl<F: FnMut(&[IoSlice<'_>]) -> io::Result<usize>> Write for Sender<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (self.0)(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! TLS on a socket of the data path: rustls driven directly, so that records are read in large
//! pieces into buffers the caller has anyway, and a session holds next to nothing while idle.
//!
//! Must not: choose certificates or policies (the listener's configuration, made by `certs`,
//! does) or do IO of its own: the socket passes bytes in and out.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig};
use rustls::{ProtocolVersion, ServerConnection};

use super::buffer::BODY_BYTES;
use super::exchange::TlsIdentity;

/// Decrypted bytes that a session may hold before it stops taking records; rustls' own limit.
const PLAINTEXT_HELD_MAX: usize = 16 * 1024;

/// The TLS side of a listener.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// Versions, certificates, tickets and protocols, as `certs` built them.
    pub config: Arc<ServerConfig>,
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
    ended: bool,
}

impl Session {
    /// The session of an accepted connection.
    pub fn accept(config: &Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(Connection::Server(ServerConnection::new(
            Arc::clone(config),
        )?)))
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
            ended: false,
        }
    }

    /// Whether a read would find something without the socket: bytes, or the end.
    pub fn has_plaintext(&self) -> bool {
        self.plaintext > 0 || self.ended || !self.pending.is_empty()
    }

    /// Whether records wait to be sent.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Moves decrypted bytes out; `None` when there are none yet, zero at the end of the stream.
    /// A stream that ends without close_notify is an error: it may have been cut short.
    pub fn read_plaintext(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
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

    /// What the handshake established.
    pub fn identity(&self) -> TlsIdentity {
        let server_name = match &self.connection {
            Connection::Server(server) => server.server_name().map(Into::into),
            Connection::Client(_) => None,
        };
        TlsIdentity {
            server_name,
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
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
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

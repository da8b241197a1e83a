//! One end of a connection, plain or TLS: sends exactly these bytes, reads exactly what comes, and
//! says how the connection ended.
//!
//! Must not: repair anything. A connection that ends early or breaks the grammar is reported.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{ClientConnection, ServerConnection, StreamOwned};
use socket2::SockRef;

use crate::message::{Fields, Framing, latin1, parse_fields};
use crate::wait::BOUND;

/// Bytes asked for at once.
const READ_BYTES: usize = 64 * 1024;

/// The longest line of a chunked body that is read.
const CHUNK_LINE_BYTES_MAX: usize = 16 * 1024;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// In order: FIN, over TLS after a close_notify.
    Eof,
    /// TLS only: FIN without a close_notify.
    Truncated,
    /// RST, or an error that amounts to one.
    Reset,
    /// Not at all: nothing more came within the bound.
    Silence,
}

/// Why a message could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The connection ended first.
    Ended(Ending),
    /// The bytes break the grammar.
    Malformed(String),
}

/// A body, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The trailer fields.
    pub trailers: Fields,
    /// The sizes of its chunks, if it came in chunks.
    pub chunks: Vec<usize>,
}

/// A stream of bytes, plain or TLS.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS, client side.
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// TLS, server side.
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// The connection underneath.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Client(tls) => &tls.sock,
            Self::Server(tls) => &tls.sock,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            Self::Client(tls) => tls.read(into),
            Self::Server(tls) => tls.read(into),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.write_all(bytes),
            Self::Client(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
            Self::Server(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    fn close_notify(&mut self) {
        // The peer may be gone already; there is nobody left to notify.
        let _ = match self {
            Self::Plain(_) => Ok(()),
            Self::Client(tls) => {
                tls.conn.send_close_notify();
                tls.flush()
            }
            Self::Server(tls) => {
                tls.conn.send_close_notify();
                tls.flush()
            }
        };
    }
}

/// A record of everything that was read from a connection.
pub type Tap = Arc<Mutex<Vec<u8>>>;

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    unread: Vec<u8>,
    tap: Tap,
}

impl Wire {
    /// Takes over a stream. Reads wait [`BOUND`] at most.
    ///
    /// # Panics
    /// If the socket refuses its options.
    #[track_caller]
    pub fn new(stream: Stream) -> Self {
        let tcp = stream.tcp();
        tcp.set_nodelay(true).expect("set TCP_NODELAY");
        tcp.set_write_timeout(Some(BOUND))
            .expect("set the write timeout");
        let mut wire = Self {
            stream,
            unread: Vec::new(),
            tap: Tap::default(),
        };
        wire.wait_at_most(Some(BOUND));
        wire
    }

    /// How long a read waits; for ever if `None`.
    #[track_caller]
    pub fn wait_at_most(&mut self, bound: Option<Duration>) {
        self.stream
            .tcp()
            .set_read_timeout(bound)
            .expect("set the read timeout");
    }

    /// The connection underneath.
    pub fn tcp(&self) -> &TcpStream {
        self.stream.tcp()
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The address of the other side.
    #[track_caller]
    pub fn peer(&self) -> SocketAddr {
        self.tcp().peer_addr().expect("a connected socket")
    }

    /// The address of this side.
    #[track_caller]
    pub fn local(&self) -> SocketAddr {
        self.tcp().local_addr().expect("a bound socket")
    }

    /// The record of everything that was read.
    pub fn tap(&self) -> Tap {
        Arc::clone(&self.tap)
    }

    /// Records what is read from now on elsewhere.
    pub fn share_tap(&mut self, tap: Tap) {
        self.tap = tap;
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the connection does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes)
            .expect("the connection takes what is sent");
        self
    }

    /// Sends bytes to a peer that may have closed already.
    ///
    /// # Errors
    /// If the connection does not take them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write(bytes.as_ref())
    }

    /// Sends bytes in pieces of `size`, each in a segment of its own where the kernel lets it.
    ///
    /// # Errors
    /// If the connection does not take them.
    pub fn try_send_pieces(&mut self, bytes: impl AsRef<[u8]>, size: usize) -> io::Result<()> {
        bytes
            .as_ref()
            .chunks(size)
            .try_for_each(|piece| self.try_send(piece))
    }

    /// Ends this direction: FIN, over TLS after a close_notify.
    pub fn half_close(&mut self) {
        self.stream.close_notify();
        // A peer that is gone needs no FIN.
        let _ = self.tcp().shutdown(Shutdown::Write);
    }

    /// Ends the connection with RST.
    #[track_caller]
    pub fn reset(self) {
        let linger = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
        linger.expect("set SO_LINGER");
    }

    /// Reads more.
    ///
    /// # Errors
    /// How the connection ended instead.
    pub fn fill(&mut self) -> Result<(), Ending> {
        let mut piece = [0; READ_BYTES];
        let count = match self.stream.read(&mut piece) {
            Ok(0) => return Err(Ending::Eof),
            Ok(count) => count,
            Err(error) => {
                return Err(match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => Ending::Silence,
                    ErrorKind::UnexpectedEof => Ending::Truncated,
                    _ => Ending::Reset,
                });
            }
        };
        self.unread.extend_from_slice(&piece[..count]);
        let mut tap = self.tap.lock().unwrap_or_else(PoisonError::into_inner);
        tap.extend_from_slice(&piece[..count]);
        Ok(())
    }

    /// What was received and not yet taken.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Takes the first `count` bytes, waiting for them.
    ///
    /// # Errors
    /// How the connection ended before that.
    pub fn take(&mut self, count: usize) -> Result<Vec<u8>, Ending> {
        while self.unread.len() < count {
            self.fill()?;
        }
        let rest = self.unread.split_off(count);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    /// Takes everything up to and including `end`, waiting for it.
    ///
    /// # Errors
    /// How the connection ended before that.
    pub fn take_through(&mut self, end: &[u8]) -> Result<Vec<u8>, Ending> {
        let mut searched = 0;
        loop {
            let found = self.unread[searched..]
                .windows(end.len())
                .position(|bytes| bytes == end);
            if let Some(at) = found {
                return self.take(searched + at + end.len());
            }
            searched = self.unread.len().saturating_sub(end.len() - 1);
            self.fill()?;
        }
    }

    /// Reads until the connection ends: what came, and how it ended.
    pub fn take_rest(&mut self) -> (Vec<u8>, Ending) {
        loop {
            if let Err(ending) = self.fill() {
                return (std::mem::take(&mut self.unread), ending);
            }
        }
    }

    /// Takes a body.
    ///
    /// # Errors
    /// What came of it, and what is wrong.
    pub fn take_body(&mut self, framing: Framing) -> Result<Body, (Body, Broken)> {
        let mut body = Body::default();
        let taken = match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.take_into(&mut body.bytes, length),
            Framing::Chunked => self.take_chunks(&mut body),
            Framing::UntilClose => match self.take_rest() {
                (bytes, Ending::Eof) => {
                    body.bytes = bytes;
                    Ok(())
                }
                (bytes, ending) => {
                    body.bytes = bytes;
                    Err(Broken::Ended(ending))
                }
            },
        };
        match taken {
            Ok(()) => Ok(body),
            Err(broken) => Err((body, broken)),
        }
    }

    /// Moves `count` bytes, or as many as come.
    fn take_into(&mut self, into: &mut Vec<u8>, count: usize) -> Result<(), Broken> {
        let mut left = count;
        while left > 0 {
            if self.unread.is_empty() {
                self.fill().map_err(Broken::Ended)?;
            }
            let some = self.unread.len().min(left);
            into.extend(self.unread.drain(..some));
            left -= some;
        }
        Ok(())
    }

    fn take_chunks(&mut self, body: &mut Body) -> Result<(), Broken> {
        loop {
            let line = self.take_line()?;
            // Canonical: a size in hexadecimal and nothing else.
            let is_hexadecimal = line.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = usize::from_str_radix(&line, 16)
                .ok()
                .filter(|_| is_hexadecimal);
            let size = size.ok_or_else(|| Broken::Malformed(format!("chunk header {line:?}")))?;
            if size == 0 {
                break;
            }
            self.take_into(&mut body.bytes, size)?;
            body.chunks.push(size);
            let end = self.take_line()?;
            if !end.is_empty() {
                return Err(Broken::Malformed(format!(
                    "{end:?} after the data of a chunk"
                )));
            }
        }
        let mut trailers = String::new();
        loop {
            match self.take_line()?.as_str() {
                "" => break,
                line => trailers = trailers + line + "\r\n",
            }
        }
        body.trailers = parse_fields(&trailers).map_err(Broken::Malformed)?;
        Ok(())
    }

    fn take_line(&mut self) -> Result<String, Broken> {
        let line = self.take_through(b"\r\n").map_err(Broken::Ended)?;
        let line = latin1(&line[..line.len() - 2]);
        if line.len() > CHUNK_LINE_BYTES_MAX || line.contains(['\r', '\n']) {
            return Err(Broken::Malformed(format!(
                "a line of a chunked body: {line:?}"
            )));
        }
        Ok(line)
    }
}

//! A socket of the data path, plain or TLS, towards a client or an endpoint: readiness, reads and
//! writes with deadlines, and no system call that a readiness flag could have saved.
//!
//! Must not: own buffers, or hold a borrow over an await. Everything takes `&self`, because the
//! two directions of an exchange run side by side in one task.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use cardea_certs::greeting::{Greeting, Refused};
use rustix::net::{RecvFlags, SendFlags};
use rustls::server::Accepted;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::timer::{Direction, Timer, Wheel};
use super::tls::Session;

/// Records read at once from a busy session, bytes: a whole record and its header.
const RECORD_BYTES: usize = 16 * 1024 + 256;

/// Handshake bytes read at once: a ClientHello with a post-quantum key share is under 2 KiB.
const HANDSHAKE_BYTES: usize = 4 * 1024;

/// Why a client's first words are of no use.
#[derive(Debug)]
pub enum GreetingError {
    /// They did not come.
    Io(io::Error),
    /// They are HTTP, without TLS.
    PlainHttp,
    /// They cannot be answered.
    Refused(Refused),
}

impl From<io::Error> for GreetingError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whether the first bytes are a request line's: TLS begins with 22 or, in its oldest form, with
/// a byte above 127.
fn is_plain_http(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase());
    let letters = method.count();
    letters >= 3 && bytes.get(letters).is_none_or(|next| *next == b' ')
}

/// A connected socket.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    timer: Timer,
    session: Option<Box<RefCell<Session>>>,
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Socket {
    /// A plain socket.
    pub fn new(stream: TcpStream, wheel: &Rc<Wheel>) -> Self {
        Self {
            stream,
            timer: Timer::new(wheel),
            session: None,
            received: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    /// Puts a TLS session on the socket; its handshake has not been made yet.
    pub fn start_session(&mut self, session: Session) {
        self.session = Some(Box::new(RefCell::new(session)));
    }

    /// The deadlines.
    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Bytes that crossed the socket so far, received and sent, before encryption.
    pub fn crossed(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }

    /// The socket itself, when no session encrypts it: what `splice` needs.
    pub fn plain(&self) -> Option<&TcpStream> {
        self.session.is_none().then_some(&self.stream)
    }

    /// The TLS session.
    pub fn session(&self) -> Option<&RefCell<Session>> {
        self.session.as_deref()
    }

    /// Counts bytes that `splice` moved past this type.
    pub fn count_spliced(&self, received: u64, sent: u64) {
        self.received.set(self.received.get() + received);
        self.sent.set(self.sent.get() + sent);
    }

    /// Waits until reading can make progress, without a buffer.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// One step of waiting until a read would find something.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = self.session.as_ref();
        if session.is_some_and(|session| session.borrow().has_plaintext()) {
            return Poll::Ready(Ok(()));
        }
        self.poll_ready(Direction::Read, cx)
    }

    /// Reads at least one byte; zero is the end of the stream.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// One step of a read.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = match &self.session {
            None => loop {
                ready!(self.poll_ready(Direction::Read, cx))?;
                match self.try_receive(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    other => break other?,
                }
            },
            Some(session) => loop {
                if let Some(read) = session.borrow_mut().read_plaintext(buffer)? {
                    break read;
                }
                ready!(self.poll_ready(Direction::Read, cx))?;
                // Records land in the caller's buffer first: what they decrypt to is no longer.
                let length = buffer.len().min(RECORD_BYTES);
                let records = buffer.get_mut(..length).unwrap_or_default();
                match self.try_receive(records) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    received => self.feed(session, records, received?)?,
                }
            },
        };
        self.received.set(self.received.get() + read as u64);
        Poll::Ready(Ok(read))
    }

    /// Copies what has come without taking it, if that is more than was seen before; else it would
    /// block. For before a session is started.
    pub fn peek(&self, buffer: &mut [u8], seen: usize) -> io::Result<usize> {
        let is_ended = self.is_ended();
        self.stream.try_io(Interest::READABLE, || {
            let peeked = rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::PEEK)?.0;
            match peeked > seen {
                true => Ok(peeked),
                // The readiness flag stays up at the end of a stream.
                false if is_ended || peeked == 0 => Err(ErrorKind::UnexpectedEof.into()),
                false => Err(ErrorKind::WouldBlock.into()),
            }
        })
    }

    /// Takes the first bytes of those peeked. If these were all, the socket is empty, and so the
    /// readiness flag is cleared.
    pub fn take_peeked(&self, peeked: &mut [u8], length: usize) -> io::Result<()> {
        let is_all = length == peeked.len();
        let mut taken = 0;
        let emptied = self.stream.try_io(Interest::READABLE, || {
            let wanted = peeked.get_mut(..length).unwrap_or_default();
            taken = rustix::net::recv(&self.stream, wanted, RecvFlags::empty())?.0;
            match is_all {
                true => Err(ErrorKind::WouldBlock.into()),
                false => Ok(()),
            }
        });
        match emptied {
            Err(error) if taken == 0 => Err(error),
            _ if taken != length => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Whether the peer has ended its direction: there is no more to come than what is here.
    fn is_ended(&self) -> bool {
        let mut ready = std::pin::pin!(self.stream.ready(Interest::READABLE));
        let polled = ready.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// The address of our end.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Writes once: how many bytes of `head` and then `body` were taken. A session may hold some
    /// of them until the next write or flush.
    pub async fn write(&self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write(cx, head, body)).await
    }

    /// Sends what the session holds.
    pub async fn flush(&self) -> io::Result<()> {
        if self.session.is_none() {
            return Ok(());
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// One step of a write: how many bytes of `head` and then `body` were taken.
    pub fn poll_write(
        &self,
        cx: &mut Context<'_>,
        head: &[u8],
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &self.session {
            None => loop {
                ready!(self.poll_ready(Direction::Write, cx))?;
                match self.try_send(head, body) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    other => break other?,
                }
            },
            Some(session) => {
                ready!(self.poll_flush(cx))?;
                let taken = session.borrow_mut().write_plaintext(head, body)?;
                // What does not leave now leaves with the next write or flush.
                if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                    return Poll::Ready(Err(error));
                }
                taken
            }
        };
        self.sent.set(self.sent.get() + written as u64);
        Poll::Ready(Ok(written))
    }

    /// Sends what the session still holds.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(session) = &self.session else {
            return Poll::Ready(Ok(()));
        };
        while session.borrow().wants_write() {
            ready!(self.poll_ready(Direction::Write, cx))?;
            match session
                .borrow_mut()
                .send(|slices| self.try_send_slices(slices))
            {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => {
                    other?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a client's first words, within the deadline set.
    pub async fn greeted(&self, greeting: &mut Greeting) -> Result<Accepted, GreetingError> {
        let mut records = [0; HANDSHAKE_BYTES];
        let mut is_first = true;
        loop {
            poll_fn(|cx| self.poll_ready(Direction::Read, cx)).await?;
            let received = match self.try_receive(&mut records) {
                Ok(0) => return Err(GreetingError::Io(ErrorKind::UnexpectedEof.into())),
                Ok(received) => records.get(..received).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            if std::mem::take(&mut is_first) && is_plain_http(received) {
                return Err(GreetingError::PlainHttp);
            }
            match greeting.feed(received) {
                Ok(Some(accepted)) => return Ok(accepted),
                Ok(None) => {}
                Err(refused) => return Err(GreetingError::Refused(refused)),
            }
        }
    }

    /// Waits for something else than the peer, within the deadline for reading.
    pub async fn wait_for(&self, event: impl Future<Output = ()>) {
        let mut event = std::pin::pin!(event);
        poll_fn(|cx| {
            if event.as_mut().poll(cx).is_ready() || self.timer.is_past(Direction::Read) {
                return Poll::Ready(());
            }
            self.timer.register(Direction::Read, cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Sends bytes that no session seals, as far as they leave at once: an alert. A peer that
    /// takes nothing any more hears nothing either.
    pub fn send_plain(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let _ = self.try_send(bytes, &[]);
        }
    }

    /// Whether the handshake of the session is still under way.
    pub fn is_handshaking(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.borrow().is_handshaking())
    }

    /// Makes the handshake of the session, within the deadlines set.
    pub async fn handshake(&self) -> io::Result<()> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        loop {
            // An alert must leave before the connection is closed, or the peer sees a reset.
            poll_fn(|cx| self.poll_flush(cx)).await?;
            if !session.borrow().is_handshaking() {
                return Ok(());
            }
            poll_fn(|cx| self.poll_ready(Direction::Read, cx)).await?;
            match self.handshake_step(session) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    poll_fn(|cx| self.poll_flush(cx)).await?;
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
    }

    /// Answers a client's first words, and takes the request that came with them.
    pub async fn start_early(&self) -> io::Result<()> {
        let taken = self.session.as_ref().map(|it| it.borrow_mut().take_early());
        // An alert must leave before the connection is closed.
        poll_fn(|cx| self.poll_flush(cx)).await?;
        taken.unwrap_or(Ok(()))
    }

    fn handshake_step(&self, session: &RefCell<Session>) -> io::Result<()> {
        let mut records = [0; HANDSHAKE_BYTES];
        match self.try_receive(&mut records)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            received => session
                .borrow_mut()
                .feed(records.get(..received).unwrap_or_default()),
        }
    }

    fn feed(&self, session: &RefCell<Session>, records: &[u8], length: usize) -> io::Result<()> {
        let fed = session
            .borrow_mut()
            .feed(records.get(..length).unwrap_or_default());
        self.flush_now(session)?;
        fed
    }

    /// Sends close_notify on a TLS session. A plain socket says as much by being closed.
    pub async fn say_goodbye(&self) -> io::Result<()> {
        if let Some(session) = &self.session {
            session.borrow_mut().close();
            poll_fn(|cx| self.poll_flush(cx)).await?;
        }
        Ok(())
    }

    /// Ends our direction: close_notify on a TLS session, then the end of the stream.
    pub async fn close_write(&self) -> io::Result<()> {
        self.say_goodbye().await?;
        rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write)?;
        Ok(())
    }

    /// Ends our direction of the stream, and drops what the peer still sends, whatever it is, until
    /// it has closed, the time is up or so much has come: closing on bytes that nobody read would be
    /// a reset, and overtake what was sent last (RFC 9112 section 9.6).
    pub async fn part(&self, time_max: Duration, bytes_max: usize) {
        if rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write).is_err() {
            return;
        }
        self.set_deadline(Direction::Read, time_max);
        let mut dropped = 0;
        while dropped < bytes_max {
            let ready = poll_fn(|cx| self.poll_ready(Direction::Read, cx)).await;
            if ready.is_err() || self.timer.is_past(Direction::Read) {
                return;
            }
            match self.drop_received() {
                Ok(0) => return,
                Ok(received) => dropped += received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Drops some of what came. The room for it is no part of a future.
    fn drop_received(&self) -> io::Result<usize> {
        self.try_receive(&mut [0; HANDSHAKE_BYTES])
    }

    /// Makes the close a reset, which no peer takes for the orderly end of a body.
    pub fn reset_on_close(&self) {
        // A socket that refuses the option is closed in the ordinary way.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Whether an idle connection can no longer be used: the peer closed it, failed, or said
    /// something that nobody asked for. Reads a flag; only when that is up, which it also is after
    /// a read that happened to take exactly what was there, the kernel is asked.
    pub fn is_stale(&self) -> bool {
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.borrow().has_plaintext())
        {
            return true;
        }
        let mut cx = Context::from_waker(Waker::noop());
        if self.stream.poll_read_ready(&mut cx).is_pending() {
            return false;
        }
        !matches!(self.peek_byte(), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Whether the peer has closed the connection, as far as reading a flag tells.
    pub fn is_gone(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if self.stream.poll_read_ready(&mut cx).is_pending() {
            return false;
        }
        match self.peek_byte() {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Looks whether there is a byte, without taking it.
    fn peek_byte(&self) -> io::Result<usize> {
        self.stream.try_io(Interest::READABLE, || {
            let mut byte = [0];
            Ok(rustix::net::recv(&self.stream, &mut byte, RecvFlags::PEEK)?.0)
        })
    }

    /// Waits until the peer has reset the connection. A peer that only ended its own direction may
    /// still be waiting for its answer, and one that said something certainly is.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.stream.poll_read_ready(cx).is_pending() {
                return Poll::Pending;
            }
            match self.peek_byte() {
                // The flag was old and is down now.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
                Ok(_) => return Poll::Pending,
            }
        }
    }

    /// Tries an operation of somebody else's on the socket until it does not block.
    pub fn poll_io<T>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_ready(direction, cx))?;
            match operation() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Sets a deadline for the next reads or writes.
    pub fn set_deadline(&self, direction: Direction, after: Duration) {
        self.timer.set(direction, after);
    }

    /// Sends whatever can leave at once, leaving the rest for later: for the records that
    /// reading produced (session tickets, key updates, alerts).
    fn flush_now(&self, session: &RefCell<Session>) -> io::Result<()> {
        while session.borrow().wants_write() {
            match session
                .borrow_mut()
                .send(|slices| self.try_send_slices(slices))
            {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = match direction {
            Direction::Read => self.stream.poll_read_ready(cx),
            Direction::Write => self.stream.poll_write_ready(cx),
        };
        if ready.is_ready() {
            return ready;
        }
        if self.timer.is_past(direction) {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        self.timer.register(direction, cx.waker());
        Poll::Pending
    }

    /// Reads once. A short read empties the socket, so the readiness flag is cleared with it and
    /// the next read waits instead of asking the kernel again.
    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut short = None;
        let result = self.stream.try_io(Interest::READABLE, || {
            let read = rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::empty())?.0;
            if read > 0 && read < buffer.len() {
                short = Some(read);
                return Err(ErrorKind::WouldBlock.into());
            }
            Ok(read)
        });
        short.map_or(result, Ok)
    }

    fn try_send(&self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        if body.is_empty() {
            return self.try_send_slices(&[IoSlice::new(head)]);
        }
        self.try_send_slices(&[IoSlice::new(head), IoSlice::new(body)])
    }

    /// Writes once; a short write fills the socket, so the readiness flag is cleared with it.
    fn try_send_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut short = None;
        let result = self.stream.try_io(Interest::WRITABLE, || {
            let written = match slices {
                [one] => rustix::net::send(&self.stream, one, SendFlags::NOSIGNAL)?,
                many => rustix::net::sendmsg(
                    &self.stream,
                    many,
                    &mut rustix::net::SendAncillaryBuffer::default(),
                    SendFlags::NOSIGNAL,
                )?,
            };
            if written < total {
                short = Some(written);
                return Err(ErrorKind::WouldBlock.into());
            }
            Ok(written)
        });
        short.map_or(result, Ok)
    }
}

//! Both ends of protocols other than HTTP/1.1: one epoll loop that has a conversation on each of
//! its connections, as the client in front of the proxies or as the origin behind them.
//!
//! It runs on the client's core and only moves bytes, through TLS if there is any; what they say is
//! for a [`Talk`]. It must not forgive: a client whose connection ends, or whose exchange is not
//! exactly as expected, has failed, and with it the turn.

use std::collections::HashMap;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::SockRef;

use crate::affinity::{self, Core};
use crate::certificate::DOMAIN;

pub(crate) mod grpc;
pub(crate) mod websocket;

/// What has begun must be answered by then; a proxy that is slower is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const EVENTS_MAX: usize = 256;
/// The key of a listener's events; connections count from zero.
const LISTENER: u64 = u64::MAX;
const INPUT_BYTES: usize = 64 * 1024;

/// One end of a conversation, as bytes.
pub(crate) trait Talk {
    /// What it says first.
    fn greet(&mut self, out: &mut Vec<u8>) -> Result<()>;

    /// Takes what has arrived, as far as it is whole, and adds what is to be said to `out`. What
    /// is not taken comes again with more behind it.
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Heard>;

    /// Begins nothing more; only those who ask need it.
    fn stop(&mut self) {}

    /// Whether everything that was begun is complete.
    fn is_idle(&self) -> bool {
        true
    }

    /// Whether the peer has said that this connection takes nothing more.
    fn is_leaving(&self) -> bool {
        false
    }
}

/// What became of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Bytes that need not come again.
    pub taken: usize,
    /// Exchanges that are complete with them.
    pub completed: u64,
}

/// Clients: connections that ask and ask again.
pub(crate) struct Callers<T> {
    conversations: Conversations<T>,
    target: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    talk: fn() -> T,
    is_stopping: bool,
    /// Connections that were opened because the proxy took leave of others.
    reopened: u64,
}

/// What was counted in a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    /// Exchanges that were complete and as expected.
    pub completed: u64,
    /// Connections that took the place of those that the proxy had taken leave of.
    pub reopened: u64,
    /// How long that took.
    pub elapsed: Duration,
}

impl<T: Talk> Callers<T> {
    /// Opens `count` connections, each with a conversation made by `talk`, and lets them begin.
    pub(crate) fn start(
        (target, tls): (SocketAddr, Option<Arc<ClientConfig>>),
        count: usize,
        talk: fn() -> T,
    ) -> Result<Self> {
        let mut callers = Self {
            conversations: Conversations::new()?,
            target,
            tls,
            talk,
            is_stopping: false,
            reopened: 0,
        };
        for _ in 0..count {
            callers.open()?;
        }
        Ok(callers)
    }

    fn open(&mut self) -> Result<()> {
        let socket = TcpStream::connect(self.target).context("connect")?;
        let tls = self.tls.as_ref();
        let tls = tls.map(|config| shake_hands(&socket, config)).transpose()?;
        self.conversations.add(socket, tls, (self.talk)())
    }

    /// Talks for `window`, then returns with exchanges under way.
    pub(crate) fn run(&mut self, window: Duration) -> Result<Count> {
        let begin = Instant::now();
        let mut completed = 0;
        while let Some(left) = window.checked_sub(begin.elapsed()) {
            completed += self.turn(left)?;
        }
        Ok(Count {
            completed,
            reopened: std::mem::take(&mut self.reopened),
            elapsed: begin.elapsed(),
        })
    }

    /// Waits until everything that was begun is answered: nothing may be lost.
    pub(crate) fn finish(mut self) -> Result<()> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        self.is_stopping = true;
        for caller in self.conversations.all.values_mut() {
            caller.speech.talk.stop();
        }
        loop {
            let all = self.conversations.all.values();
            let waiting = all.filter(|caller| !caller.speech.talk.is_idle()).count();
            if waiting == 0 {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "{waiting} connections wait for an answer after {ANSWER_TIMEOUT:?}"
            );
            self.turn(left)?;
        }
    }

    fn turn(&mut self, timeout: Duration) -> Result<u64> {
        self.conversations.wait(Some(timeout))?;
        let mut completed = 0;
        for at in 0..self.conversations.events.len() {
            let (key, flags) = self.conversations.event(at);
            let progress = self.conversations.advance(key, flags)?;
            let caller = self.conversations.all.get(&key);
            let is_over = caller.is_some_and(|caller| {
                let talk = &caller.speech.talk;
                talk.is_leaving() && talk.is_idle()
            });
            match progress {
                Progress::Completed(count) => completed += count,
                Progress::Ended(count) if is_over => completed += count,
                Progress::Ended(_) => bail!("the proxy has closed a connection"),
            }
            if is_over {
                self.conversations.all.remove(&key);
            }
            if is_over && !self.is_stopping {
                self.open()?;
                self.reopened += 1;
            }
        }
        Ok(completed)
    }
}

/// Serves a free loopback port from a thread of its own, which lives as long as the process.
pub(crate) fn serve<T: Talk + 'static>(name: &str, talk: fn() -> T) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("bind an origin")?;
    listener.set_nonblocking(true)?;
    // A proxy may open hundreds at once.
    SockRef::from(&listener).listen(4096)?;
    let address = listener.local_addr()?;
    thread::Builder::new().name(name.into()).spawn(move || {
        let served = affinity::pin(Core::Client).and_then(|()| answer(&listener, talk));
        if let Err(error) = served {
            eprintln!("an origin stopped: {error:#}");
            std::process::exit(1);
        }
    })?;
    Ok(address)
}

fn answer<T: Talk>(listener: &TcpListener, talk: fn() -> T) -> Result<()> {
    let mut conversations = Conversations::new()?;
    let key = EventData::new_u64(LISTENER);
    epoll::add(&conversations.epoll, listener, key, EventFlags::IN)?;
    loop {
        conversations.wait(None)?;
        for at in 0..conversations.events.len() {
            let (key, flags) = conversations.event(at);
            if key == LISTENER {
                accept(listener, &mut conversations, talk)?;
                continue;
            }
            let over = match conversations.advance(key, flags) {
                Ok(Progress::Completed(_)) => false,
                Ok(Progress::Ended(_)) => true,
                // The client notices as well; this says why.
                Err(error) => {
                    eprintln!("an origin was told nonsense: {error:#}");
                    true
                }
            };
            if over {
                conversations.all.remove(&key);
            }
        }
    }
}

fn accept<T: Talk>(
    listener: &TcpListener,
    conversations: &mut Conversations<T>,
    talk: fn() -> T,
) -> Result<()> {
    loop {
        match listener.accept() {
            Ok((socket, _)) => conversations.add(socket, None, talk())?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error).context("accept"),
        }
    }
}

/// Completes a handshake on a socket that blocks.
fn shake_hands(mut socket: &TcpStream, config: &Arc<ClientConfig>) -> Result<ClientConnection> {
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut tls = ClientConnection::new(Arc::clone(config), ServerName::try_from(DOMAIN)?)?;
    // What is said later is read and written as a whole.
    tls.set_buffer_limit(None);
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).context("TLS handshake")?;
    }
    let agreed = tls.alpn_protocol();
    ensure!(
        agreed == config.alpn_protocols.first().map(Vec::as_slice),
        "the proxy chose {:?} as protocol",
        agreed.map(String::from_utf8_lossy)
    );
    Ok(tls)
}

/// Connections under one epoll instance.
struct Conversations<T> {
    epoll: OwnedFd,
    all: HashMap<u64, Conversation<T>>,
    next: u64,
    events: Vec<epoll::Event>,
    input: Vec<u8>,
}

/// How a connection fares.
enum Progress {
    /// It goes on; so many exchanges are complete.
    Completed(u64),
    /// The peer has closed or reset it, after so many that are complete.
    Ended(u64),
}

impl<T: Talk> Conversations<T> {
    fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            all: HashMap::new(),
            next: 0,
            events: Vec::with_capacity(EVENTS_MAX),
            input: vec![0; INPUT_BYTES],
        })
    }

    fn add(&mut self, socket: TcpStream, tls: Option<ClientConnection>, talk: T) -> Result<()> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let key = EventData::new_u64(self.next);
        epoll::add(&self.epoll, socket.as_fd(), key, flags)?;
        let mut speech = Speech::new(talk);
        speech.talk.greet(&mut speech.out)?;
        let conversation = Conversation {
            socket,
            tls,
            speech,
            sent: 0,
        };
        // The first event, which says that there is room, has the greeting sent.
        self.all.insert(self.next, conversation);
        self.next += 1;
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.events.clear();
        let timeout = timeout.map(Timespec::try_from).transpose()?;
        let buffer = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("epoll_wait"),
        }
    }

    fn event(&self, at: usize) -> (u64, EventFlags) {
        let event = &self.events[at];
        (event.data.u64(), event.flags)
    }

    fn advance(&mut self, key: u64, flags: EventFlags) -> Result<Progress> {
        match self.all.get_mut(&key) {
            Some(conversation) => conversation.advance(flags, &mut self.input),
            None => Ok(Progress::Completed(0)),
        }
    }
}

/// A connection and what is said on it.
struct Conversation<T> {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    speech: Speech<T>,
    /// Bytes of `speech.out` that the socket has taken, without TLS.
    sent: usize,
}

/// A conversation without its connection.
struct Speech<T> {
    talk: T,
    /// Heard and not taken: the beginning of something.
    arrived: Vec<u8>,
    out: Vec<u8>,
}

impl<T: Talk> Conversation<T> {
    fn advance(&mut self, flags: EventFlags, input: &mut [u8]) -> Result<Progress> {
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let mut completed = 0;
        while flags.contains(EventFlags::IN) || ended {
            let count = match self.socket.read(input) {
                Ok(0) => return Ok(Progress::Ended(completed)),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Ok(Progress::Ended(completed)),
            };
            completed += self.take(&input[..count])?;
            // A short read has emptied the socket: the next byte is a new event.
            if count < input.len() && !ended {
                break;
            }
        }
        match self.flush() {
            Ok(()) => Ok(Progress::Completed(completed)),
            Err(_) => Ok(Progress::Ended(completed)),
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<u64> {
        let Some(tls) = &mut self.tls else {
            return self.speech.hear(bytes);
        };
        let mut completed = 0;
        while !bytes.is_empty() {
            ensure!(tls.read_tls(&mut bytes)? > 0, "bytes after the end of TLS");
            tls.process_new_packets()?;
            loop {
                let mut reader = tls.reader();
                // WouldBlock: no more whole records.
                let Ok(plain) = reader.fill_buf() else { break };
                if plain.is_empty() {
                    break;
                }
                completed += self.speech.hear(plain)?;
                let count = plain.len();
                reader.consume(count);
            }
        }
        Ok(completed)
    }

    /// Sends what is to be said, as far as the socket takes it.
    fn flush(&mut self) -> io::Result<()> {
        let out = &mut self.speech.out;
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(out)?;
            out.clear();
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
        while self.sent < out.len() {
            match self.socket.write(&out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        out.clear();
        self.sent = 0;
        Ok(())
    }
}

impl<T: Talk> Speech<T> {
    fn new(talk: T) -> Self {
        Self {
            talk,
            arrived: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Passes bytes on, behind those that were not taken before.
    fn hear(&mut self, bytes: &[u8]) -> Result<u64> {
        if self.arrived.is_empty() {
            let heard = self.talk.hear(bytes, &mut self.out)?;
            self.arrived.extend_from_slice(&bytes[heard.taken..]);
            return Ok(heard.completed);
        }
        self.arrived.extend_from_slice(bytes);
        let heard = self.talk.hear(&self.arrived, &mut self.out)?;
        self.arrived.drain(..heard.taken);
        Ok(heard.completed)
    }
}

/// Lets two ends talk in memory, in pieces of `piece` bytes, until one is content: how the tests of
/// the conversations see both ends of each.
#[cfg(test)]
fn converse<A: Talk, B: Talk>(caller: A, answerer: B, piece: usize, enough: u64) -> Result<u64> {
    let (mut caller, mut answerer) = (Speech::new(caller), Speech::new(answerer));
    caller.talk.greet(&mut caller.out)?;
    answerer.talk.greet(&mut answerer.out)?;
    let mut completed = 0;
    loop {
        if completed >= enough {
            caller.talk.stop();
        }
        if completed >= enough && caller.talk.is_idle() {
            return Ok(completed);
        }
        ensure!(
            !(caller.out.is_empty() && answerer.out.is_empty()),
            "both are silent after {completed}"
        );
        for part in std::mem::take(&mut caller.out).chunks(piece) {
            answerer.hear(part)?;
        }
        for part in std::mem::take(&mut answerer.out).chunks(piece) {
            completed += caller.hear(part)?;
        }
    }
}

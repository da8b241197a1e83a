//! Origins on real sockets: each connection runs a handler on a thread of its own, and everything
//! it received is on record, byte for byte and as requests.
//!
//! Must not: be lenient unless a test wrote it so. A request that is not canonical is a fault, and
//! an origin with a fault fails the test when it is dropped.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::json;
use socket2::SockRef;

use crate::message::{Framing, Request, latin1, parse_request};
use crate::tls;
use crate::wait::BOUND;
use crate::websocket;
use crate::wire::{Broken, Ending, Stream, Tap, Wire};

/// What an origin does with a connection; when it returns, the connection is closed.
pub trait Handler: Fn(&mut Connection) + Send + Sync + 'static {}

impl<F: Fn(&mut Connection) + Send + Sync + 'static> Handler for F {}

/// A running origin. It stops when it is dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    changed: Condvar,
    is_stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Log {
    connections: Vec<Seen>,
    requests: Vec<Request>,
    faults: Vec<String>,
}

#[derive(Debug)]
struct Seen {
    tap: Tap,
    socket: Option<TcpStream>,
    is_over: bool,
}

/// A connection that an origin accepted.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    /// Its place among the origin's connections, counted from zero.
    pub number: usize,
    shared: Arc<Shared>,
    is_aborted: bool,
}

impl Deref for Connection {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.log());
        self.changed.notify_all();
    }
}

impl Connection {
    /// The next request, whole; `None` when the connection ended before it began.
    pub fn request(&mut self) -> Option<Request> {
        let (mut request, framing) = self.head()?;
        match self.wire.take_body(framing) {
            Ok(body) => {
                request.body = body.bytes;
                request.trailers = body.trailers;
                request.chunks = body.chunks;
                request.is_whole = true;
                self.record(request.clone());
                Some(request)
            }
            Err((body, Broken::Ended(_))) => {
                request.body = body.bytes;
                self.record(request);
                None
            }
            Err((_, Broken::Malformed(fault))) => self.fault(&fault),
        }
    }

    /// The head of the next request, for handlers that read the body their own way. It is not
    /// recorded as a request.
    pub fn head(&mut self) -> Option<(Request, Framing)> {
        match self.wire.take_through(b"\r\n\r\n") {
            Ok(head) => match parse_request(&head) {
                Ok(parsed) => Some(parsed),
                Err(fault) => self.fault(&fault),
            },
            Err(_) if self.wire.unread().is_empty() => None,
            Err(ending) => {
                let rest = latin1(self.wire.unread());
                self.fault(&format!("{ending:?} within a head: {rest:?}"))
            }
        }
    }

    /// Puts a request on record.
    pub fn record(&mut self, request: Request) {
        self.shared.change(|log| log.requests.push(request));
    }

    /// Sends bytes; whether the peer took them is for the test to find out elsewhere.
    pub fn answer(&mut self, bytes: impl AsRef<[u8]>) {
        // A gateway that closed on us has its reasons; what it told its client shows them.
        let _ = self.wire.try_send(bytes);
    }

    /// Ends the connection with RST once the handler returns.
    #[track_caller]
    pub fn abort(&mut self) {
        self.is_aborted = true;
        let linger = SockRef::from(self.wire.tcp()).set_linger(Some(Duration::ZERO));
        linger.expect("set SO_LINGER");
        // A socket is closed when its last descriptor is.
        let number = self.number;
        self.shared
            .change(|log| log.connections[number].socket = None);
    }

    fn fault<T>(&mut self, fault: &str) -> Option<T> {
        let fault = format!("connection {}: {fault}", self.number);
        self.shared.change(|log| log.faults.push(fault));
        None
    }
}

impl Origin {
    /// Starts an origin on a free port of the loopback interface.
    #[track_caller]
    pub fn serve(handler: impl Handler) -> Self {
        Self::start((Ipv4Addr::LOCALHOST, 0).into(), None, Arc::new(handler))
    }

    /// Starts an origin that speaks TLS.
    #[track_caller]
    pub fn serve_tls(config: Arc<ServerConfig>, handler: impl Handler) -> Self {
        Self::start(
            (Ipv4Addr::LOCALHOST, 0).into(),
            Some(config),
            Arc::new(handler),
        )
    }

    /// Starts an origin at an address where one was before.
    #[track_caller]
    pub fn serve_at(address: SocketAddr, handler: impl Handler) -> Self {
        Self::start(address, None, Arc::new(handler))
    }

    /// An origin that answers with what it saw, as JSON.
    #[track_caller]
    pub fn echo() -> Self {
        Self::serve(echo)
    }

    #[track_caller]
    fn start(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("bind an origin");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::<Shared>::default();
        let acceptor = Acceptor {
            listener,
            tls,
            handler,
            shared: Arc::clone(&shared),
        };
        let accepting = thread::spawn(move || acceptor.run());
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in the order they came.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log().requests.clone()
    }

    /// As [`requests`](Self::requests), and forgets them.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.log().requests)
    }

    /// The only request so far.
    ///
    /// # Panics
    /// If there were none or several.
    #[track_caller]
    pub fn only_request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "requests at the origin: {requests:#?}");
        requests.remove(0)
    }

    /// The latest request.
    ///
    /// # Panics
    /// If there was none.
    #[track_caller]
    pub fn last_request(&self) -> Request {
        self.requests().pop().expect("a request at the origin")
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.log().connections.len()
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared
            .log()
            .connections
            .iter()
            .filter(|seen| !seen.is_over)
            .count()
    }

    /// Everything received on a connection, byte for byte.
    pub fn received(&self, connection: usize) -> Vec<u8> {
        let tap = self
            .shared
            .log()
            .connections
            .get(connection)
            .map(|seen| Arc::clone(&seen.tap));
        tap.map(|tap| tap.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }

    /// What was not canonical so far; taking it keeps the origin from failing the test for it.
    pub fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.log().faults)
    }

    /// Waits until the record satisfies a condition.
    ///
    /// # Panics
    /// When it does not within the bound.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let started = std::time::Instant::now();
        while !condition(self) {
            let log = self.shared.log();
            let wake = BOUND / 1000;
            drop(
                self.shared
                    .changed
                    .wait_timeout(log, wake)
                    .unwrap_or_else(PoisonError::into_inner),
            );
            assert!(
                started.elapsed() < BOUND,
                "the origin waited in vain: {what}"
            );
        }
    }

    /// Closes every connection from this side and waits until their handlers saw it.
    #[track_caller]
    pub fn close_connections(&self) {
        for seen in &self.shared.log().connections {
            // One that is closed already needs no closing.
            let _ = seen
                .socket
                .as_ref()
                .map(|socket| socket.shutdown(Shutdown::Both));
        }
        self.wait_until("connections close", |origin| origin.open_connections() == 0);
    }

    /// Stops listening and closes every connection: the origin is down.
    #[track_caller]
    pub fn stop(&mut self) {
        self.stop_accepting();
        self.close_connections();
    }

    fn stop_accepting(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor; if it cannot be reached, it has ended.
        let _ = TcpStream::connect(self.address);
        let _ = accepting.join();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop_accepting();
        let faults = self.take_faults();
        if !thread::panicking() {
            assert!(
                faults.is_empty(),
                "the origin received what is not canonical: {faults:#?}"
            );
        }
    }
}

struct Acceptor {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    handler: Arc<dyn Handler>,
    shared: Arc<Shared>,
}

impl Acceptor {
    fn run(&self) {
        loop {
            let accepted = self.listener.accept();
            if self.shared.is_stopped.load(Ordering::SeqCst) {
                return;
            }
            let socket = accepted.expect("accept at an origin").0;
            let Ok(connection) = self.admit(socket) else {
                continue;
            };
            let (handler, tls) = (Arc::clone(&self.handler), self.tls.clone());
            thread::spawn(move || serve(connection, tls, &*handler));
        }
    }

    fn admit(&self, socket: TcpStream) -> io::Result<Connection> {
        let copy = socket.try_clone()?;
        let mut wire = Wire::new(Stream::Plain(socket));
        // An idle pooled connection waits for as long as the gateway keeps it.
        wire.wait_at_most(None);
        let mut log = self.shared.log();
        let number = log.connections.len();
        log.connections.push(Seen {
            tap: wire.tap(),
            socket: Some(copy),
            is_over: false,
        });
        self.shared.changed.notify_all();
        let shared = Arc::clone(&self.shared);
        Ok(Connection {
            wire,
            number,
            shared,
            is_aborted: false,
        })
    }
}

/// Marks a connection as over when its handler is done, even by a panic.
struct Over(Arc<Shared>, usize);

impl Drop for Over {
    fn drop(&mut self) {
        let number = self.1;
        self.0.change(|log| log.connections[number].is_over = true);
    }
}

fn serve(mut connection: Connection, tls: Option<Arc<ServerConfig>>, handler: &dyn Handler) {
    let over = Over(Arc::clone(&connection.shared), connection.number);
    if let Some(config) = tls {
        let Ok(tcp) = connection.wire.tcp().try_clone() else {
            return;
        };
        // A gateway that does not trust this origin ends the handshake.
        let Ok(stream) = tls::accept(tcp, &config) else {
            return;
        };
        let tap = connection.wire.tap();
        connection.wire = Wire::new(Stream::Server(Box::new(stream)));
        connection.wire.wait_at_most(None);
        connection.wire.share_tap(tap);
    }
    handler(&mut connection);
    if connection.is_aborted {
        return;
    }
    connection.wire.half_close();
    drop(over);
    // The peer's side is read to its end: closing over unread bytes would be a reset.
    connection.wire.wait_at_most(Some(BOUND));
    let _: (Vec<u8>, Ending) = connection.wire.take_rest();
}

/// A whole response with a body.
pub fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Answers every request with what it saw, as JSON.
pub fn echo(connection: &mut Connection) {
    while let Some(request) = connection.request() {
        let seen = json!({
            "connection": connection.number,
            "method": request.method,
            "target": request.target,
            "version": request.version,
            "fields": request.fields.0,
            "body": request.text(),
            "trailers": request.trailers.0,
        });
        let body = seen.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        match request.method.as_str() {
            "HEAD" => connection.answer(head),
            _ => connection.answer(head + &body),
        }
    }
}

/// Answers every request with a text.
pub fn saying(text: impl Into<String>) -> impl Handler {
    answering(ok(&text.into()))
}

/// Answers every request with exactly these bytes, and keeps the connection.
pub fn answering(bytes: impl Into<Vec<u8>>) -> impl Handler {
    let bytes = bytes.into();
    move |connection: &mut Connection| {
        while connection.request().is_some() {
            connection.answer(&bytes);
        }
    }
}

/// Answers one request with exactly these bytes and closes.
pub fn answering_once(bytes: impl Into<Vec<u8>>) -> impl Handler {
    let bytes = bytes.into();
    move |connection: &mut Connection| {
        if connection.request().is_some() {
            connection.answer(&bytes);
        }
    }
}

/// Reads requests and never answers.
pub fn silent(connection: &mut Connection) {
    while connection.request().is_some() {}
}

/// Agrees to every WebSocket handshake and sends each message back.
pub fn websocket(connection: &mut Connection) {
    let Some(request) = connection.request() else {
        return;
    };
    let accept = request.field("sec-websocket-key").map(websocket::accept);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept.unwrap_or_default()
    );
    connection.answer(head);
    while let Ok(frame) = websocket::read(connection) {
        let is_close = frame.kind == websocket::Kind::Close;
        connection.answer(websocket::encode(&frame, None));
        if is_close {
            return;
        }
    }
}

//! One HTTP/1 connection of a client: heads in, exchanges run one after another, responses out in
//! order. A pipelined request waits in the inbound buffer until its turn.
//!
//! Must not: hold a buffer while idle, or go on after anything that leaves the next message's
//! start in doubt.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea_http1::{Framing, HeadScan, Known, Method, RequestHead, Upgrade};

use super::client::{ClientSide, write_pace};
use super::{Ticket, head_fault};
use crate::snapshot::{ListenerPlan, Snapshot};
use crate::traffic::body::{BodyReader, Pace};
use crate::traffic::buffer::Inbound;
use crate::traffic::exchange::{Client, Exchange, Request};
use crate::traffic::forward::{End, forward};
use crate::traffic::respond::{self, Reason, Reply};
use crate::traffic::socket::Socket;
use crate::traffic::timer::Direction;
use crate::traffic::upload::RequestBody;
use crate::traffic::worker::Worker;
use crate::traffic::{admit, finish};

/// Bytes of an unread request body that are read and dropped after an early response, so that the
/// client sees the response before the close.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// How long that may take.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// Serves a connection to its end.
pub async fn serve(worker: &Rc<Worker>, ticket: &Ticket, socket: &Socket, client: &Client) {
    let mut connection = Http1 {
        worker,
        ticket,
        socket,
        client,
        inbound: Inbound::default(),
        served: 0,
    };
    let close = match connection.run().await {
        // Closing on bytes that nobody read would reset the connection.
        Close::Orderly if !connection.inbound.is_empty() => Close::Linger,
        close => close,
    };
    connection.inbound.discard(&worker.buffers);
    match close {
        Close::Silent => {}
        Close::Orderly => {
            socket.set_deadline(Direction::Write, LINGER_TIME_MAX);
            // The peer may be gone already; there is nobody left to tell.
            let _ = socket.say_goodbye().await;
        }
        Close::Linger => linger(worker, socket).await,
        Close::Abort => socket.reset_on_close(),
    }
}

/// How a connection ends.
enum Close {
    /// The peer closed, or never said anything.
    Silent,
    /// After a whole response.
    Orderly,
    /// After a response that came before the end of the request.
    Linger,
    /// A response stayed incomplete, and only a reset tells the client so.
    Abort,
}

struct Http1<'c> {
    worker: &'c Rc<Worker>,
    ticket: &'c Ticket,
    socket: &'c Socket,
    client: &'c Client,
    inbound: Inbound,
    served: u64,
}

/// What a head says about the message around it.
struct HeadFacts {
    persistent: bool,
    expects_continue: bool,
    is_upgrade: bool,
}

impl Http1<'_> {
    async fn run(&mut self) -> Close {
        loop {
            if self.inbound.is_empty() && !self.wait().await {
                return self.unasked();
            }
            let snapshot = self.worker.snapshot.load();
            let Some(plan) = snapshot.listener(self.ticket.listener()) else {
                return Close::Orderly;
            };
            let mut head = self.worker.take_request_head();
            let ended = self.serve_one(&snapshot, plan, &mut head).await;
            self.worker.give_request_head(head);
            if let Err(close) = ended {
                return close;
            }
            self.served += 1;
        }
    }

    /// How a connection ends on which nothing more is asked.
    fn unasked(&self) -> Close {
        if self.served > 0 {
            Close::Orderly
        } else {
            Close::Silent
        }
    }

    /// Waits for the first byte of a request; false when there is none to come.
    async fn wait(&mut self) -> bool {
        let snapshot = self.worker.snapshot.load();
        let Some(plan) = snapshot.listener(self.ticket.listener()) else {
            return false;
        };
        let idle_timeout = plan.idle_timeout;
        self.inbound.release(&self.worker.buffers);
        // What follows an early request can wait for the handshake that it overtook.
        if self.served > 0
            && self.socket.is_handshaking()
            && self.finish_handshake(plan).await.is_err()
        {
            return false;
        }
        drop(snapshot);
        if self.worker.is_draining() {
            return false;
        }
        self.socket.set_deadline(Direction::Read, idle_timeout);
        self.ticket.set_idle(true);
        let readable = self.socket.readable().await;
        self.ticket.set_idle(false);
        readable.is_ok()
    }

    async fn serve_one(
        &mut self,
        snapshot: &Snapshot,
        plan: &ListenerPlan,
        head: &mut RequestHead,
    ) -> Result<(), Close> {
        let mut request = self.worker.take_request();
        let read = self.read_head(plan, head, &mut request).await;
        let facts = match read {
            Ok(facts) => facts,
            Err(HeadEnd::Closed) => {
                self.worker.give_request(request);
                return Err(self.unasked());
            }
            Err(HeadEnd::Refused(reason, detail)) => {
                return Err(self.refuse(snapshot, plan, request, reason, detail).await);
            }
        };
        let mut exchange = admit::open(self.worker, snapshot, plan, self.client, request);
        let persistent = facts.persistent
            && !self.worker.is_draining()
            && self.served + 1 < plan.requests_per_connection_max;
        let client = ClientSide {
            socket: self.socket,
            ticket: self.ticket,
            version: exchange.request.version,
            is_head: exchange.request.method == Method::Head,
            persistent: Cell::new(persistent),
            head_sent: Cell::new(false),
            expects_continue: Cell::new(facts.expects_continue),
        };
        let pace = Pace::new(
            exchange.timeouts.body_progress,
            exchange.timeouts.body_rate_min,
        );
        let mut body = RequestBody {
            reader: BodyReader::new(exchange.request.framing, &plan.limits, pace),
            inbound: &mut self.inbound,
        };
        let result = match admit::admit(self.worker, &mut exchange) {
            Ok(()) => {
                forward(
                    self.worker,
                    &mut exchange,
                    &client,
                    &mut body,
                    facts.is_upgrade,
                )
                .await
            }
            Err(reply) => Err(reply),
        };
        let end = match result {
            Ok(end) => end,
            Err(reply) => answer(&mut exchange, &client, &mut body, *reply).await,
        };
        let close = match end {
            End::Complete if client.persistent.get() && body.reader.is_done() => Ok(()),
            End::Complete if body.reader.is_done() => Err(Close::Orderly),
            End::Complete => Err(Close::Linger),
            End::Cut(reason) => {
                exchange.fail(reason);
                Err(Close::Abort)
            }
        };
        finish::finish(self.worker, exchange);
        close
    }

    /// Reads a whole head within its deadline, and fills in the request.
    async fn read_head(
        &mut self,
        plan: &ListenerPlan,
        head: &mut RequestHead,
        request: &mut Request,
    ) -> Result<HeadFacts, HeadEnd> {
        self.socket.set_deadline(Direction::Read, plan.head_timeout);
        let mut scan = HeadScan::request();
        let span = loop {
            match head.receive(&mut scan, self.inbound.bytes(), &plan.limits) {
                Ok(Some(span)) => break span,
                Ok(None) => {}
                Err(error) => return Err(HeadEnd::from_error(&error)),
            }
            match self.inbound.fill(self.socket, &self.worker.buffers).await {
                Ok(0) => return Err(HeadEnd::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut && !self.inbound.is_empty() => {
                    return Err(HeadEnd::Refused(Reason::HeadTimeout, None));
                }
                Err(_) => return Err(HeadEnd::Closed),
            }
        };
        // An empty line before the request was skipped (RFC 9112 §2.2).
        self.inbound.consume(span.start as usize);
        let bytes = self.inbound.split_head(span.len(), &self.worker.buffers);
        self.worker
            .buffers
            .give_input(std::mem::replace(&mut request.headers.bytes, bytes));
        fill_request(request, head);
        let facts = facts(head)?;
        if self.socket.is_handshaking() {
            self.settle_early(plan, request, &facts).await?;
        }
        Ok(facts)
    }

    /// Has a request that came before the end of its handshake wait for that, unless it may be
    /// handled at once: sent again by somebody who saw it, it must do nothing (RFC 8470 section 3).
    async fn settle_early(
        &self,
        plan: &ListenerPlan,
        request: &mut Request,
        facts: &HeadFacts,
    ) -> Result<(), HeadEnd> {
        if !request.method.is_safe() || request.has_body() || facts.is_upgrade {
            self.finish_handshake(plan)
                .await
                .map_err(|_| HeadEnd::Closed)?;
        }
        request.is_early = self.socket.is_handshaking();
        Ok(())
    }

    async fn finish_handshake(&self, plan: &ListenerPlan) -> std::io::Result<()> {
        self.socket
            .set_deadline(Direction::Read, plan.handshake_timeout);
        self.socket
            .set_deadline(Direction::Write, plan.handshake_timeout);
        self.socket.handshake().await
    }

    /// Answers a head that could not be read, and ends the connection.
    async fn refuse(
        &mut self,
        snapshot: &Snapshot,
        plan: &ListenerPlan,
        mut request: Box<Request>,
        reason: Reason,
        detail: Option<Box<str>>,
    ) -> Close {
        request.headers.fields.clear();
        let mut exchange = admit::open(self.worker, snapshot, plan, self.client, request);
        let client = ClientSide::farewell(self.socket, self.ticket);
        let mut reply = Reply::new(reason);
        reply.detail = detail;
        let mut body = RequestBody {
            reader: BodyReader::new(Framing::None, &plan.limits, Pace::new(Duration::ZERO, 0)),
            inbound: &mut self.inbound,
        };
        answer(&mut exchange, &client, &mut body, *reply).await;
        finish::finish(self.worker, exchange);
        Close::Linger
    }
}

/// Tells a client that speaks HTTP to a TLS listener what it did: an alert it would not read.
pub async fn refuse_plain(worker: &Worker, ticket: &Ticket, socket: &Socket) {
    let snapshot = worker.snapshot.load();
    let rendered = respond::render(*Reply::new(Reason::PlainHttp), &snapshot.style, None, None);
    let length = rendered.body.len() as u64;
    let client = ClientSide::farewell(socket, ticket);
    let mut out = Vec::new();
    let framing = Framing::Length(length);
    client.write_head(&mut out, &rendered.response, framing, Some(length));
    out.extend_from_slice(&rendered.body);
    let mut pace = write_pace(&snapshot.timeouts);
    if client.send(&out, &[], &mut pace).await.is_ok() {
        linger(worker, socket).await;
    }
}

/// Why no head was read.
enum HeadEnd {
    Closed,
    Refused(Reason, Option<Box<str>>),
}

impl HeadEnd {
    fn from_error(error: &cardea_http1::HeadError) -> Self {
        Self::Refused(
            head_fault(error),
            Some(format!("{error}.").into_boxed_str()),
        )
    }
}

fn fill_request(request: &mut Request, head: &mut RequestHead) {
    std::mem::swap(&mut request.headers.fields, &mut head.fields);
    request.headers.remove_hop_by_hop(&head.nominated);
    request.method = head.method;
    request.method_text = head.method_span;
    request.version = head.version;
    request.framing = head.framing;
    request.authority = head.authority;
    request.host_text = head.host;
    request.port = head.port;
    request.target = head.target;
}

/// What the head asks of the connection. The only upgrade there is is WebSocket, by GET, without
/// a body; other offers are not taken up (RFC 9110 §7.8 lets a server ignore them).
fn facts(head: &RequestHead) -> Result<HeadFacts, HeadEnd> {
    let is_upgrade = head.upgrade == Upgrade::WebSocket;
    let has_body = !matches!(head.framing, Framing::None | Framing::Length(0));
    if is_upgrade && (head.method != Method::Get || has_body) {
        return Err(HeadEnd::Refused(Reason::UpgradeInvalid, None));
    }
    Ok(HeadFacts {
        persistent: head.persistent,
        expects_continue: head.expect_continue,
        is_upgrade,
    })
}

/// Sends a response of our own.
async fn answer(
    exchange: &mut Exchange<'_>,
    client: &ClientSide<'_>,
    body: &mut RequestBody<'_>,
    reply: Reply,
) -> End {
    exchange.fail(reply.reason);
    // A body that is here already is dropped; one that is not keeps the connection from reuse.
    while let Ok(Some(_)) = body.reader.next_received(body.inbound) {}
    if !body.reader.is_done() {
        client.persistent.set(false);
    }
    let style: &Arc<respond::ResponseStyle> = exchange
        .domain
        .map_or(&exchange.snapshot.style, |domain| &domain.style);
    let accept = exchange.request.headers.known(Known::Accept);
    let mut rendered = respond::render(reply, style, accept, Some(exchange.request_id.as_bytes()));
    let chain = match (exchange.route, exchange.domain) {
        (Some(route), _) => &route.chain,
        (None, Some(domain)) => &domain.chain,
        (None, None) => &exchange.snapshot.chain,
    };
    chain.on_response(exchange, &mut rendered.response);
    exchange.status = rendered.response.status;
    let length = rendered.body.len() as u64;
    let framing = client.framing(rendered.response.status, Framing::Length(length));
    let mut out = Vec::with_capacity(512 + rendered.body.len());
    client.write_head(&mut out, &rendered.response, framing, Some(length));
    if framing != Framing::None {
        out.extend_from_slice(&rendered.body);
        exchange.bytes_sent += length;
    }
    client.head_sent.set(true);
    match client
        .send(&out, &[], &mut write_pace(exchange.timeouts))
        .await
    {
        Ok(()) => End::Complete,
        Err(_) => End::Cut(Reason::ClientClosed),
    }
}

/// Reads and drops what a client still sends after an early response: closing on unread bytes
/// would reset the connection, and the reset would overtake the response (RFC 9112 §9.6).
async fn linger(worker: &Worker, socket: &Socket) {
    socket.set_deadline(Direction::Write, LINGER_TIME_MAX);
    if socket.close_write().await.is_err() {
        return;
    }
    let started = Instant::now();
    let mut dropped = 0;
    let mut buffer = worker.buffers.take_head();
    while dropped < LINGER_BYTES_MAX && started.elapsed() < LINGER_TIME_MAX {
        socket.set_deadline(Direction::Read, LINGER_TIME_MAX);
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => dropped += read,
        }
    }
    worker.buffers.give_input(buffer);
}

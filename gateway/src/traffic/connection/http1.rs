//! One HTTP/1 connection of a client: heads in, exchanges run one after another, responses out in
//! order. A pipelined request waits in the inbound buffer until its turn.
//!
//! Must not: hold a buffer while idle, or go on after anything that leaves the next message's
//! start in doubt.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use cardea_http1::{Framing, HeadFault, HeadScan, Method, RequestHead, Version};

use super::client::{ClientEnd, ClientSide, send, write_pace};
use super::conduct::{answer, conduct};
use super::head::{HeadFacts, Refused, facts, fill_request};
use super::upgrade::{self, First, Turned};
use super::{LINGER_BYTES_MAX, LINGER_TIME_MAX, Ticket};
use crate::snapshot::{ListenerPlan, Snapshot};
use crate::traffic::body::{Body, BodyReader, Pace, SocketBody};
use crate::traffic::buffer::Inbound;
use crate::traffic::exchange::{Client, Request};
use crate::traffic::forward::End;
use crate::traffic::respond::{self, Reason, Reply};
use crate::traffic::socket::Socket;
use crate::traffic::timer::Direction;
use crate::traffic::worker::Worker;
use crate::traffic::{admit, finish};

/// Serves a connection to its end, or until it turns out to speak HTTP/2.
pub async fn serve(
    worker: &Rc<Worker>,
    ticket: &Ticket,
    socket: &Socket,
    client: &Client,
) -> Option<Turned> {
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
    if let Close::Http2(first) = close {
        return Some(Turned {
            received: connection.inbound,
            first,
        });
    }
    connection.inbound.discard(&worker.buffers);
    match close {
        Close::Silent | Close::Http2(_) => {}
        Close::Orderly => {
            socket.set_deadline(Direction::Write, LINGER_TIME_MAX);
            // The peer may be gone already; there is nobody left to tell.
            let _ = socket.say_goodbye().await;
        }
        Close::Linger => linger(socket).await,
        Close::Abort => socket.reset_on_close(),
    }
    None
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
    /// The client speaks HTTP/2: it knew before that we do (RFC 9113 section 3.3), or asked for it by
    /// this request.
    Http2(Option<Box<First>>),
}

struct Http1<'c> {
    worker: &'c Rc<Worker>,
    ticket: &'c Ticket,
    socket: &'c Socket,
    client: &'c Client,
    inbound: Inbound,
    served: u64,
}

impl Http1<'_> {
    async fn run(&mut self) -> Close {
        loop {
            if self.inbound.is_empty() && !self.wait().await {
                return self.unasked();
            }
            let snapshot = self.worker.snapshot.of(self.ticket.listener());
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
        let snapshot = self.worker.snapshot.of(self.ticket.listener());
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
            Err(HeadEnd::Http2) => {
                self.worker.give_request(request);
                return Err(Close::Http2(None));
            }
            Err(HeadEnd::Upgrade(facts, settings)) => {
                let first = First {
                    request,
                    facts,
                    settings,
                };
                return Err(Box::pin(self.switch(snapshot, first)).await);
            }
            Err(HeadEnd::Refused(refused)) => {
                return Err(self.refuse(snapshot, plan, request, refused).await);
            }
        };
        let mut exchange = admit::open(self.worker, snapshot, plan, self.client, request);
        let persistent = facts.persistent
            && !self.worker.is_draining()
            && self.served + 1 < plan.requests_per_connection_max;
        let client = ClientSide {
            end: ClientEnd::Http1(self.socket, head.version),
            ticket: self.ticket,
            is_head: exchange.request.method == Method::Head,
            persistent: Cell::new(persistent),
            head_sent: Cell::new(false),
            expects_continue: Cell::new(facts.expects_continue),
        };
        let pace = Pace::new(
            exchange.timeouts.body_progress,
            exchange.timeouts.body_rate_min,
        );
        let mut body = Body::from(SocketBody {
            socket: self.socket,
            reader: BodyReader::new(exchange.request.framing, &plan.limits, pace),
            inbound: &mut self.inbound,
        });
        let is_upgrade = facts.is_upgrade;
        let end = conduct(self.worker, &mut exchange, &client, &mut body, is_upgrade).await;
        let close = match end {
            End::Complete if client.persistent.get() && body.is_done() => Ok(()),
            End::Complete if body.is_done() => Err(Close::Orderly),
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
                Err(error) if self.is_http2(plan, error.fault()) => return Err(HeadEnd::Http2),
                Err(error) => return Err(HeadEnd::Refused(Refused::from(&error))),
            }
            match self.inbound.fill(self.socket, &self.worker.buffers).await {
                Ok(0) => return Err(HeadEnd::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut && !self.inbound.is_empty() => {
                    return Err(HeadEnd::Refused(Reason::HeadTimeout.into()));
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
        let settings = match self.may_upgrade(plan) {
            true => upgrade::settings(head, &request.headers.bytes),
            false => None,
        };
        fill_request(request, head);
        let facts = facts(head).map_err(HeadEnd::Refused)?;
        if let Some(settings) = settings {
            return Err(HeadEnd::Upgrade(facts, settings));
        }
        if self.socket.is_handshaking() {
            self.settle_early(plan, request, &facts).await?;
        }
        Ok(facts)
    }

    /// Whether what cannot be read is the preface of a client that speaks HTTP/2.
    fn is_http2(&self, plan: &ListenerPlan, fault: HeadFault) -> bool {
        let preface = cardea_http2::PREFACE.get(..PREFACE_LINE_BYTES);
        fault == HeadFault::UnsupportedVersion
            && self.served == 0
            && plan.takes_cleartext_http2
            && self.socket.session().is_none()
            && self.inbound.bytes().get(..PREFACE_LINE_BYTES) == preface
    }

    /// Whether a request may have the connection go on in HTTP/2.
    fn may_upgrade(&self, plan: &ListenerPlan) -> bool {
        plan.upgrades_to_http2
            && self.socket.session().is_none()
            && !self.ticket.is_released()
            && !self.worker.is_draining()
    }

    /// Goes on in HTTP/2, with a request as the first stream.
    async fn switch(&self, snapshot: &Snapshot, first: First) -> Close {
        let mut pace = write_pace(&snapshot.timeouts);
        match send(self.socket, upgrade::SWITCHING, &[], &mut pace).await {
            Ok(()) => Close::Http2(Some(Box::new(first))),
            Err(_) => Close::Silent,
        }
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
        refused: Refused,
    ) -> Close {
        request.headers.fields.clear();
        let mut exchange = admit::open(self.worker, snapshot, plan, self.client, request);
        let end = ClientEnd::Http1(self.socket, Version::Http11);
        let client = ClientSide::farewell(end, self.ticket);
        let mut reply = Reply::new(refused.reason);
        reply.detail = refused.detail;
        let pace = Pace::new(Duration::ZERO, 0);
        let mut body = Body::from(SocketBody {
            socket: self.socket,
            reader: BodyReader::new(Framing::None, &plan.limits, pace),
            inbound: &mut self.inbound,
        });
        answer(&mut exchange, &client, &mut body, *reply).await;
        finish::finish(self.worker, exchange);
        Close::Linger
    }
}

/// Bytes of the preface's first line, which is as much of it as a parser of requests looks at.
const PREFACE_LINE_BYTES: usize = b"PRI * HTTP/2.0".len();

/// Tells a client that speaks HTTP to a TLS listener what it did: an alert it would not read.
pub async fn refuse_plain(worker: &Worker, ticket: &Ticket, socket: &Socket) {
    let snapshot = worker.snapshot.of(ticket.listener());
    let rendered = respond::render(*Reply::new(Reason::PlainHttp), &snapshot.style, None, None);
    let end = ClientEnd::Http1(socket, Version::Http11);
    let client = ClientSide::farewell(end, ticket);
    let framing = Framing::Length(rendered.body.len() as u64);
    let mut pace = write_pace(&snapshot.timeouts);
    let sent = client.send_whole(&rendered.response, framing, &rendered.body, &mut pace);
    if sent.await.is_ok() {
        linger(socket).await;
    }
}

/// Why no head was read.
enum HeadEnd {
    Closed,
    Refused(Refused),
    Http2,
    /// The request asks for HTTP/2, with these settings.
    Upgrade(HeadFacts, Vec<u8>),
}

/// Closes a connection so that the client hears what it was told last: it may still be sending.
pub(super) async fn linger(socket: &Socket) {
    socket.set_deadline(Direction::Write, LINGER_TIME_MAX);
    if socket.close_write().await.is_ok() {
        socket.part(LINGER_TIME_MAX, LINGER_BYTES_MAX).await;
    }
}

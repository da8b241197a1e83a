//! Taking a request to an upstream and its response back: which backend, which endpoint, over
//! which connection, and what happens when an attempt fails.
//!
//! Must not: send a request twice that an origin may have acted on, or reuse a connection whose
//! exchange did not end cleanly.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use cardea_http1::{Framing, Method, ResponseHead};
use cardea_http2::ErrorCode;

use super::body::{Body, BodyReader, Pace, SocketBody};
use super::buffer::Inbound;
use super::connection::client::{self, ClientSide, write_pace};
use super::exchange::Exchange;
use super::grpc_web;
use super::http2::{Stream, StreamBody};
use super::relay::{Incoming, client_fault, relay};
use super::respond::{Reason, Reply, Response};
use super::timer::Direction;
use super::upload::{Upload, UploadFault, client_body_fault};
use super::upstream::OriginEnd;
use super::upstream::adaptive::Waiting;
use super::upstream::local::{Chosen, LocalUpstream, NoEndpoint};
use super::upstream::outlier::Outcome;
use super::upstream::pool::Connection;
use super::upstream::request::Outgoing;
use super::upstream::response::{Failure, INTERIM_MAX, read_head, read_head_on};
use super::upstream::retry::{self, Failed, Sent};
use super::upstream::set::Tried;
use super::worker::Worker;

mod key;
mod link;
mod upgrade;

use key::hash_key;
use link::Link;
use upgrade::is_tunnel;

/// How an exchange with an upstream ended, once its response was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The response was sent whole.
    Complete,
    /// The response stayed incomplete; the client must not take it for whole.
    Cut(Reason),
}

/// Forwards a request. An error means that nothing of a final response was sent: the reply says
/// what the client is told instead.
pub async fn forward(
    worker: &Rc<Worker>,
    exchange: &mut Exchange<'_>,
    client: &ClientSide<'_>,
    body: &mut Body<'_>,
    is_upgrade: bool,
) -> Result<End, Box<Reply>> {
    let Some(route) = exchange.route else {
        return Err(Reply::new(Reason::RouteUnknown));
    };
    let chosen = route.weights.choose(worker.random.next());
    let Some(backend) = chosen.and_then(|index| route.backends.get(index)) else {
        return Err(Reply::new(Reason::RouteUnknown));
    };
    exchange.backend = Some(backend);
    let upstream = worker.upstreams.of(&backend.upstream);
    let Ok(_admitted) = upstream.admit() else {
        return Err(Reply::new(Reason::UpstreamSaturated));
    };
    let waiting = match upstream.wait() {
        Some(waiting) => waiting,
        None => {
            let waiting = Box::pin(turn(client, &upstream)).await?;
            exchange.upstream.turn = Some(Instant::now());
            waiting
        }
    };
    let out = worker.buffers.take_output();
    let outgoing = Outgoing::new(out, exchange, is_upgrade, body)
        .map_err(|error| Reply::new(client_body_fault(&error)))?;
    exchange.bytes_received = outgoing.body_bytes;
    if exchange
        .body_bytes_max
        .is_some_and(|max| outgoing.body_bytes > max)
    {
        return Err(Reply::new(Reason::BodyTooLarge));
    }
    // How long an upload takes says nothing about the upstream.
    exchange.upstream.waiting = Some(waiting).filter(|_| outgoing.is_whole);
    client.timer().end_after(exchange.left());
    let result = attempts(worker, exchange, client, body, &upstream, &outgoing).await;
    client.timer().end_after(Duration::ZERO);
    worker.buffers.give_output(outgoing.bytes);
    match result {
        Ok(End::Cut(reason)) => Ok(End::Cut(exchange.blamed(reason))),
        Ok(End::Complete) => Ok(End::Complete),
        Err(mut reply) => {
            reply.reason = exchange.blamed(reply.reason);
            Err(reply)
        }
    }
}

/// Waits until a request may wait for an answer of the upstream, unless its client gives it up.
async fn turn(
    client: &ClientSide<'_>,
    upstream: &Rc<LocalUpstream>,
) -> Result<Waiting, Box<Reply>> {
    let refused = || Reply::new(Reason::UpstreamOverloaded).header("retry-after", b"1");
    let queued = upstream.line_up(Instant::now()).map_err(|_| refused())?;
    poll_fn(|cx| match queued.poll_turn(cx) {
        Poll::Ready(turn) => Poll::Ready(turn.map_err(|_| refused())),
        Poll::Pending if client.poll_reset(cx).is_ready() => {
            Poll::Ready(Err(Reply::new(Reason::ClientClosed)))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

async fn attempts(
    worker: &Rc<Worker>,
    exchange: &mut Exchange<'_>,
    client: &ClientSide<'_>,
    body: &mut Body<'_>,
    upstream: &Rc<LocalUpstream>,
    outgoing: &Outgoing,
) -> Result<End, Box<Reply>> {
    let mut tried = Tried::default();
    let key = hash_key(upstream, exchange);
    let mut last = None;
    let mut _permit = None;
    loop {
        let endpoint = match upstream.choose(worker.random.next(), key, &tried) {
            Ok(endpoint) => endpoint,
            Err(none) => return Err(Reply::new(last.unwrap_or(unavailable(none)))),
        };
        exchange.upstream.endpoint = Some(endpoint.address);
        let attempt = Attempt {
            worker,
            client,
            endpoint: &endpoint,
            outgoing,
        };
        let failure = match attempt.run(exchange, body).await {
            Ok(end) => return Ok(end),
            Err(failure) => failure,
        };
        // A connection that died while idle says nothing about the endpoint.
        if failure.failed != Failed::ReusedUnanswered
            && let Some(outcome) = outcome(failure.reason)
        {
            endpoint.record(outcome);
        }
        if client.head_sent.get() {
            return Ok(End::Cut(failure.reason));
        }
        if failure.reason == Reason::ClientClosed || exchange.is_overdue() {
            return Err(Reply::new(failure.reason));
        }
        let repeat = upstream.retry(&retry::Attempt {
            failed: failure.failed,
            sent: match failure.failed {
                Failed::Connecting => Sent::Nothing,
                _ if outgoing.is_whole => Sent::Repeatable,
                _ => Sent::Streamed,
            },
            is_idempotent: is_idempotent(exchange.request.method),
            retries: exchange.upstream.retries,
        });
        match repeat {
            Ok(permit) => _permit = Some(permit),
            Err(_) => return Err(Reply::new(failure.reason)),
        }
        if failure.failed == Failed::Connecting {
            tried.insert(endpoint.id);
        }
        last = Some(failure.reason);
        exchange.upstream.retries += 1;
    }
}

/// The reason of a request for which there is no endpoint.
fn unavailable(none: NoEndpoint) -> Reason {
    match none {
        NoEndpoint::Unresolved => Reason::UpstreamUnresolved,
        NoEndpoint::Exhausted => Reason::UpstreamUnhealthy,
    }
}

/// What a failure says about the endpoint; nothing, where it is the client's or our own.
fn outcome(reason: Reason) -> Option<Outcome> {
    match reason {
        Reason::UpstreamConnectFailed | Reason::UpstreamTlsFailed => Some(Outcome::ConnectFailure),
        Reason::UpstreamConnectTimeout
        | Reason::UpstreamHeadTimeout
        | Reason::UpstreamBodyTimeout => Some(Outcome::Timeout),
        Reason::UpstreamReset
        | Reason::UpstreamMalformed
        | Reason::UpstreamHeadTooLarge
        | Reason::UpstreamTrailersTooLarge
        | Reason::UpstreamInterimFlood
        | Reason::UpstreamBodyCut => Some(Outcome::Broken),
        _ => None,
    }
}

/// One attempt at one endpoint.
struct Attempt<'a> {
    worker: &'a Rc<Worker>,
    client: &'a ClientSide<'a>,
    endpoint: &'a Chosen,
    outgoing: &'a Outgoing,
}

impl Attempt<'_> {
    async fn run(&self, exchange: &mut Exchange<'_>, body: &mut Body<'_>) -> Result<End, Failure> {
        match self.link(exchange).await? {
            Link::Own(connection, is_reused) => {
                self.run_alone(exchange, body, connection, is_reused).await
            }
            // What is rare is in boxes, for every connection has room for what is not.
            Link::Shared(stream) => Box::pin(self.run_among_others(exchange, body, &stream)).await,
        }
    }

    /// The exchange on a stream of a connection that others share.
    async fn run_among_others(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut Body<'_>,
        stream: &Rc<Stream>,
    ) -> Result<End, Failure> {
        stream.timer().end_with(self.client.timer());
        let active = self.endpoint.begin();
        let origin = OriginEnd::Http2(stream);
        let conversed = match self.may_converse(exchange, stream).await {
            Ok(()) => {
                let mut inbound = Inbound::default();
                self.converse(exchange, body, origin, &mut inbound).await
            }
            Err(failure) => Err(failure),
        };
        drop(active);
        let is_complete = matches!(&conversed, Ok(ended) if ended.end == End::Complete);
        stream.close(if is_complete {
            ErrorCode::NO_ERROR
        } else {
            ErrorCode::CANCEL
        });
        let ended = conversed?;
        if let Some(outcome) = ended.outcome {
            self.endpoint.record(outcome);
        }
        Ok(ended.end)
    }

    /// The exchange on a connection of its own.
    async fn run_alone(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut Body<'_>,
        mut connection: Connection,
        is_reused: bool,
    ) -> Result<End, Failure> {
        connection.requests += 1;
        connection.socket.timer().end_with(self.client.timer());
        let active = self.endpoint.begin();
        let mut inbound = Inbound::default();
        let origin = OriginEnd::Http1(&connection.socket);
        let conversed = self.converse(exchange, body, origin, &mut inbound).await;
        drop(active);
        let is_drained = inbound.is_empty();
        inbound.discard(&self.worker.buffers);
        let ended = match conversed {
            Ok(ended) => ended,
            Err(mut failure) => {
                if !is_reused {
                    // A fresh connection that ends unanswered is the origin's answer.
                    failure.failed = Failed::Answering;
                }
                return Err(failure);
            }
        };
        if ended.end == End::Complete && ended.is_reusable && is_drained {
            connection.socket.timer().end_after(Duration::ZERO);
            self.keep(exchange, connection);
        }
        if let Some(outcome) = ended.outcome {
            self.endpoint.record(outcome);
        }
        Ok(ended.end)
    }

    /// Sends the request and relays the response, side by side when the body is still coming.
    async fn converse(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut Body<'_>,
        origin: OriginEnd<'_>,
        inbound: &mut Inbound,
    ) -> Result<Ended, Failure> {
        let mut pace = Pace::new(exchange.timeouts.upstream_body, 0);
        let sent = match origin {
            OriginEnd::Http1(socket) => {
                client::send(socket, &self.outgoing.bytes, &[], &mut pace).await
            }
            OriginEnd::Http2(stream) => {
                let settings = &self.endpoint.upstream().upstream().settings;
                let is_secure = settings.tls.is_some();
                let sending = self
                    .outgoing
                    .send_on(stream, exchange, is_secure, &mut pace);
                sending.await
            }
        };
        // An origin may answer before it has read everything.
        if sent.is_err() && !matches!(origin, OriginEnd::Http2(stream) if stream.loss().is_none()) {
            return Err(origin.unanswered());
        }
        if self.outgoing.is_whole {
            return self.respond(exchange, origin, inbound, Some(body)).await;
        }
        Box::pin(self.both_ways(exchange, body, origin, inbound)).await
    }

    /// Streams the rest of the request's body while the response may already be coming.
    async fn both_ways(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut Body<'_>,
        origin: OriginEnd<'_>,
        inbound: &mut Inbound,
    ) -> Result<Ended, Failure> {
        let mut upload = Upload {
            worker: self.worker,
            client: self.client,
            origin,
            framing: exchange.request.framing,
            left_max: exchange
                .body_bytes_max
                .map(|max| max.saturating_sub(exchange.bytes_received)),
            pace: Pace::new(exchange.timeouts.upstream_body, 0),
            continue_pace: write_pace(exchange.timeouts),
            sent: 0,
        };
        body.set_pace(Pace::new(
            exchange.timeouts.body_progress,
            exchange.timeouts.body_rate_min,
        ));
        let mut uploaded = None;
        let result = {
            let mut uploading = pin!(upload.run(body));
            let mut responding = pin!(self.respond(exchange, origin, inbound, None));
            poll_fn(|cx| {
                if uploaded.is_none()
                    && let Poll::Ready(end) = uploading.as_mut().poll(cx)
                {
                    // An answer to what was no call must not look like one.
                    if let Err(UploadFault::Client(reason)) = end
                        && (!self.client.head_sent.get() || reason == Reason::GrpcWebMalformed)
                    {
                        return Poll::Ready(Err(Failure::answering(reason)));
                    }
                    uploaded = Some(end);
                }
                responding.as_mut().poll(cx)
            })
            .await
        };
        exchange.bytes_received += upload.sent;
        let is_uploaded = matches!(uploaded, Some(Ok(())));
        result.map(|ended| Ended {
            is_reusable: ended.is_reusable && is_uploaded,
            ..ended
        })
    }

    /// Reads heads until a final one, applies the policies, and relays the response.
    async fn respond(
        &self,
        exchange: &mut Exchange<'_>,
        origin: OriginEnd<'_>,
        inbound: &mut Inbound,
        from_client: Option<&mut Body<'_>>,
    ) -> Result<Ended, Failure> {
        let mut parts = self.worker.take_response();
        let ResponseParts { head, response } = &mut *parts;
        let result = async {
            let is_end = self
                .final_head_or_reset(exchange, origin, inbound, head, response)
                .await?;
            self.answered(exchange, response.status);
            if is_tunnel(origin, self.outgoing.is_upgrade, response.status) {
                let tunnel = self.tunnel(exchange, origin, inbound, head, response, from_client);
                return Box::pin(tunnel).await;
            }
            let length = head.content_length();
            let framing = framing(origin, is_end, head, exchange.request.method);
            let is_persistent = head.persistent;
            let status = response.status;
            if let Some(route) = exchange.route {
                route.chain.on_response(exchange, response);
            }
            let received = match self.client.framing(status, framing) {
                Framing::None => Framing::None,
                _ => framing,
            };
            let web = exchange.web;
            let web = web.and_then(|web| grpc_web::answer(web, &exchange.request, response));
            let mut body = self.body(exchange, origin, inbound, received);
            let is_reusable = is_persistent && framing != Framing::UntilClose;
            let (framing, length) = match web {
                Some(translation) if framing != Framing::None => {
                    body.translate(translation);
                    (Framing::Chunked, None)
                }
                _ => (framing, length),
            };
            let incoming = Incoming {
                response,
                framing,
                length,
                body,
            };
            let end = match relay(self.worker, exchange, self.client, incoming).await {
                Ok(()) => End::Complete,
                Err(reason) => End::Cut(reason),
            };
            let outcome = match end {
                End::Cut(reason) => outcome(reason),
                End::Complete => Some(Outcome::from_status(status)),
            };
            Ok(Ended {
                end,
                is_reusable,
                outcome,
            })
        }
        .await;
        self.worker.give_response(parts);
        result
    }

    /// The body of a response that is delimited so.
    fn body<'b>(
        &self,
        exchange: &Exchange<'_>,
        origin: OriginEnd<'b>,
        inbound: &'b mut Inbound,
        framing: Framing,
    ) -> Body<'b> {
        let pace = Pace::new(exchange.timeouts.upstream_body, 0);
        match origin {
            OriginEnd::Http1(socket) => Body::from(SocketBody {
                socket,
                inbound,
                reader: BodyReader::new(framing, &self.worker.response_limits, pace),
            }),
            OriginEnd::Http2(stream) => {
                let mut body = StreamBody::new(stream, false, pace);
                if let Framing::Length(length) = framing {
                    body.expect(length);
                }
                Body::from(body)
            }
        }
    }

    /// Takes note of the time at which the upstream answered.
    fn answered(&self, exchange: &mut Exchange<'_>, status: u16) {
        let now = Instant::now();
        let took = now.duration_since(exchange.started);
        exchange.upstream.first_byte = Some(took);
        let was_waiting = exchange.upstream.waiting.take().is_some();
        // A refusal is quick, however long a real answer would have taken.
        let is_refusal = status == 429 || status >= 500;
        if was_waiting && exchange.upstream.retries == 0 && !is_refusal {
            let began = exchange.upstream.turn.unwrap_or(exchange.started);
            let took = now.duration_since(began);
            self.endpoint.upstream().answered(took, now);
        }
    }

    /// As `final_head`, unless the client resets its connection meanwhile: then nobody waits for
    /// the origin's work. While a body is still coming, reading it tells as much.
    async fn final_head_or_reset(
        &self,
        exchange: &Exchange<'_>,
        origin: OriginEnd<'_>,
        inbound: &mut Inbound,
        head: &mut ResponseHead,
        response: &mut Response,
    ) -> Result<bool, Failure> {
        let mut receiving = pin!(self.final_head(exchange, origin, inbound, head, response));
        poll_fn(|cx| {
            let received = receiving.as_mut().poll(cx);
            if received.is_pending()
                && self.outgoing.is_whole
                && self.client.poll_reset(cx).is_ready()
            {
                return Poll::Ready(Err(Failure::answering(Reason::ClientClosed)));
            }
            received
        })
        .await
    }

    /// The final head, or a 101; interim heads before it are relayed, a few at most. Says whether the
    /// response is known to end with it.
    async fn final_head(
        &self,
        exchange: &Exchange<'_>,
        origin: OriginEnd<'_>,
        inbound: &mut Inbound,
        head: &mut ResponseHead,
        response: &mut Response,
    ) -> Result<bool, Failure> {
        let worker = self.worker;
        let timeout = exchange.timeouts.upstream_head;
        origin.timer().set(Direction::Read, timeout);
        for _ in 0..=INTERIM_MAX {
            response.headers.clear();
            let limits = &worker.response_limits;
            let buffers = &worker.buffers;
            let is_end = match origin {
                OriginEnd::Http1(socket) => {
                    read_head(socket, inbound, buffers, limits, head, response).await?;
                    false
                }
                OriginEnd::Http2(stream) => {
                    read_head_on(stream, buffers, limits, head, response).await?
                }
            };
            match response.status {
                101 => return Ok(is_end),
                // We answered the client's expectation ourselves.
                100 => {}
                102..=199 => {
                    let mut pace = write_pace(exchange.timeouts);
                    let sent = self.client.send_interim(response, &mut pace).await;
                    sent.map_err(|error| Failure::answering(client_fault(&error)))?;
                }
                _ => return Ok(is_end),
            }
        }
        Err(Failure::answering(Reason::UpstreamInterimFlood))
    }
}

/// How the body of a response is delimited: on a stream by its end, which may be known already.
fn framing(origin: OriginEnd<'_>, is_end: bool, head: &ResponseHead, method: Method) -> Framing {
    match (origin, is_end, head.content_length()) {
        (OriginEnd::Http1(_), _, _) => head.framing(method),
        (OriginEnd::Http2(_), true, _) => Framing::Length(0),
        (OriginEnd::Http2(_), false, Some(length)) => Framing::Length(length),
        (OriginEnd::Http2(_), false, None) => Framing::Chunked,
    }
}

/// The pieces of a response that a worker keeps from one to the next.
#[derive(Debug, Default)]
pub struct ResponseParts {
    head: ResponseHead,
    /// Status and fields.
    pub response: Response,
}

/// How an attempt ended, once a response was begun.
struct Ended {
    end: End,
    is_reusable: bool,
    outcome: Option<Outcome>,
}

/// Methods that may be sent twice (RFC 9110 §9.2.2).
fn is_idempotent(method: Method) -> bool {
    matches!(
        method,
        Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace
    )
}

//! Taking a request to an upstream and its response back: which backend, which endpoint, over
//! which connection, and what happens when an attempt fails.
//!
//! Must not: send a request twice that an origin may have acted on, or reuse a connection whose
//! exchange did not end cleanly.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use cardea_http1::{Framing, Method, ResponseHead, Upgrade};

use super::balance::HashBy;
use super::balance::hash::hash;
use super::body::Pace;
use super::buffer::Inbound;
use super::connection::client::{self, ClientSide, write_pace};
use super::exchange::Exchange;
use super::relay::{Incoming, client_fault, relay};
use super::respond::{Reason, Reply, Response};
use super::timer::Direction;
use super::tunnel::{self, TunnelEnds};
use super::upload::{RequestBody, Upload, UploadFault, client_body_fault};
use super::upstream::connect::connect;
use super::upstream::local::{Chosen, LocalUpstream, NoEndpoint};
use super::upstream::outlier::Outcome;
use super::upstream::pool::Connection;
use super::upstream::request::Outgoing;
use super::upstream::response::{Failure, INTERIM_MAX, read_head};
use super::upstream::retry::{self, Failed, Sent};
use super::upstream::set::Tried;
use super::worker::Worker;

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
    worker: &Worker,
    exchange: &mut Exchange<'_>,
    client: &ClientSide<'_>,
    body: &mut RequestBody<'_>,
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
    let out = worker.buffers.take_output();
    let outgoing = Outgoing::new(out, exchange, is_upgrade, &mut body.reader, body.inbound)
        .map_err(|error| Reply::new(client_body_fault(&error)))?;
    exchange.bytes_received = outgoing.body_bytes;
    if exchange
        .body_bytes_max
        .is_some_and(|max| outgoing.body_bytes > max)
    {
        return Err(Reply::new(Reason::BodyTooLarge));
    }
    client.socket.timer().end_after(exchange.left());
    let result = attempts(worker, exchange, client, body, &upstream, &outgoing).await;
    client.socket.timer().end_after(Duration::ZERO);
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

async fn attempts(
    worker: &Worker,
    exchange: &mut Exchange<'_>,
    client: &ClientSide<'_>,
    body: &mut RequestBody<'_>,
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
        | Reason::UpstreamInterimFlood
        | Reason::UpstreamBodyCut => Some(Outcome::Broken),
        _ => None,
    }
}

/// The hash of the part of a request that chooses the endpoint, where the balance goes by one. A
/// request that does not have that part goes by its client's address.
fn hash_key(upstream: &LocalUpstream, exchange: &Exchange<'_>) -> Option<u64> {
    let request = &exchange.request;
    let key = match upstream.upstream().settings.balance.hash_by()? {
        HashBy::ClientIp => None,
        HashBy::Header(name) => request.headers.values_of(name).next().map(hash),
        HashBy::Cookie(name) => cookie(exchange, name).map(hash),
        HashBy::Path => Some(hash(&request.path)),
    };
    key.or_else(|| {
        Some(match exchange.client_address.to_canonical() {
            IpAddr::V4(address) => hash(&address.octets()),
            IpAddr::V6(address) => hash(&address.octets()),
        })
    })
}

/// The value of a cookie, from the first field that has it (RFC 6265 §5.4).
fn cookie<'e>(exchange: &'e Exchange<'_>, name: &str) -> Option<&'e [u8]> {
    let lines = exchange.request.headers.values_of("cookie");
    lines
        .flat_map(|line| line.split(|&byte| byte == b';'))
        .find_map(|pair| {
            pair.trim_ascii()
                .strip_prefix(name.as_bytes())?
                .strip_prefix(b"=")
        })
}

/// One attempt at one endpoint.
struct Attempt<'a> {
    worker: &'a Worker,
    client: &'a ClientSide<'a>,
    endpoint: &'a Chosen,
    outgoing: &'a Outgoing,
}

impl Attempt<'_> {
    async fn run(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut RequestBody<'_>,
    ) -> Result<End, Failure> {
        let (mut connection, is_reused) = self.connection(exchange).await?;
        connection.requests += 1;
        connection.socket.timer().end_after(exchange.left());
        let active = self.endpoint.begin();
        let mut inbound = Inbound::default();
        let conversed = self
            .converse(exchange, body, &connection, &mut inbound)
            .await;
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
            let settings = &self.endpoint.upstream().upstream().settings.pool;
            self.worker
                .pool
                .keep(self.endpoint.id, connection, settings);
        }
        if let Some(outcome) = ended.outcome {
            self.endpoint.record(outcome);
        }
        Ok(ended.end)
    }

    /// A pooled connection, or a new one.
    async fn connection(&self, exchange: &mut Exchange<'_>) -> Result<(Connection, bool), Failure> {
        let metrics = &self.worker.metrics;
        let slot = exchange.backend.map(|backend| backend.slot.id());
        if let Some(connection) = self.worker.pool.checkout(self.endpoint.id) {
            if let Some(slot) = slot {
                metrics.upstream_reused(slot);
            }
            return Ok((connection, true));
        }
        let started = Instant::now();
        let timeout = exchange.within(exchange.timeouts.connect);
        let connected = connect(self.endpoint, timeout, &self.worker.wheel).await;
        exchange.upstream.connect = Some(started.elapsed());
        match connected {
            Ok(connection) => {
                if let Some(slot) = slot {
                    metrics.upstream_connected(slot);
                }
                Ok((connection, false))
            }
            Err(error) => {
                if let Some(slot) = slot {
                    metrics.upstream_connect_failed(slot);
                }
                tracing::debug!(
                    upstream = &*self.endpoint.upstream().upstream().name,
                    endpoint = %self.endpoint.address,
                    error = %crate::telemetry::logs::chain(&error),
                    "connect_failed"
                );
                Err(Failure::connecting(error.reason()))
            }
        }
    }

    /// Sends the request and relays the response, side by side when the body is still coming.
    async fn converse(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut RequestBody<'_>,
        connection: &Connection,
        inbound: &mut Inbound,
    ) -> Result<Ended, Failure> {
        let mut pace = Pace::new(exchange.timeouts.upstream_body, 0);
        let sent = client::send(&connection.socket, &self.outgoing.bytes, &[], &mut pace).await;
        if sent.is_err() {
            return Err(Failure::unanswered());
        }
        if self.outgoing.is_whole {
            return self
                .respond(exchange, connection, inbound, body.inbound)
                .await;
        }
        self.both_ways(exchange, body, connection, inbound).await
    }

    /// Streams the rest of the request's body while the response may already be coming.
    async fn both_ways(
        &self,
        exchange: &mut Exchange<'_>,
        body: &mut RequestBody<'_>,
        connection: &Connection,
        inbound: &mut Inbound,
    ) -> Result<Ended, Failure> {
        let mut upload = Upload {
            worker: self.worker,
            client: self.client,
            connection,
            framing: exchange.request.framing,
            left_max: exchange
                .body_bytes_max
                .map(|max| max.saturating_sub(exchange.bytes_received)),
            pace: Pace::new(exchange.timeouts.upstream_body, 0),
            continue_pace: write_pace(exchange.timeouts),
            sent: 0,
        };
        body.reader.set_pace(Pace::new(
            exchange.timeouts.body_progress,
            exchange.timeouts.body_rate_min,
        ));
        let mut nothing = Inbound::default();
        let mut uploaded = None;
        let result = {
            let mut uploading = pin!(upload.run(body));
            let mut responding = pin!(self.respond(exchange, connection, inbound, &mut nothing));
            poll_fn(|cx| {
                if uploaded.is_none()
                    && let Poll::Ready(end) = uploading.as_mut().poll(cx)
                {
                    if let Err(UploadFault::Client(reason)) = end
                        && !self.client.head_sent.get()
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
        connection: &Connection,
        inbound: &mut Inbound,
        from_client: &mut Inbound,
    ) -> Result<Ended, Failure> {
        let mut parts = self.worker.take_response();
        let ResponseParts { head, response } = &mut *parts;
        let result = async {
            self.final_head_or_reset(exchange, connection, inbound, head, response)
                .await?;
            exchange.upstream.first_byte = Some(exchange.started.elapsed());
            if response.status == 101 {
                return self
                    .tunnel(exchange, connection, inbound, head, response, from_client)
                    .await;
            }
            let framing = head.framing(exchange.request.method);
            let length = head.content_length();
            let is_persistent = head.persistent;
            let status = response.status;
            if let Some(route) = exchange.route {
                route.chain.on_response(exchange, response);
            }
            let incoming = Incoming {
                response,
                framing,
                length,
                socket: &connection.socket,
                inbound,
            };
            let end = match relay(self.worker, exchange, self.client, incoming).await {
                Ok(()) => End::Complete,
                Err(reason) => End::Cut(reason),
            };
            let outcome = match end {
                End::Cut(reason) => outcome(reason),
                End::Complete => Some(Outcome::from_status(status)),
            };
            let is_reusable = is_persistent && framing != Framing::UntilClose;
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

    /// As `final_head`, unless the client resets its connection meanwhile: then nobody waits for
    /// the origin's work. While a body is still coming, reading it tells as much.
    async fn final_head_or_reset(
        &self,
        exchange: &Exchange<'_>,
        connection: &Connection,
        inbound: &mut Inbound,
        head: &mut ResponseHead,
        response: &mut Response,
    ) -> Result<(), Failure> {
        let mut receiving = pin!(self.final_head(exchange, connection, inbound, head, response));
        poll_fn(|cx| {
            let received = receiving.as_mut().poll(cx);
            if received.is_pending()
                && self.outgoing.is_whole
                && self.client.socket.poll_reset(cx).is_ready()
            {
                return Poll::Ready(Err(Failure::answering(Reason::ClientClosed)));
            }
            received
        })
        .await
    }

    /// The final head, or a 101; interim heads before it are relayed, a few at most.
    async fn final_head(
        &self,
        exchange: &Exchange<'_>,
        connection: &Connection,
        inbound: &mut Inbound,
        head: &mut ResponseHead,
        response: &mut Response,
    ) -> Result<(), Failure> {
        let worker = self.worker;
        let timeout = exchange.timeouts.upstream_head;
        connection.socket.set_deadline(Direction::Read, timeout);
        for _ in 0..=INTERIM_MAX {
            response.headers.clear();
            let limits = &worker.response_limits;
            read_head(connection, inbound, &worker.buffers, limits, head, response).await?;
            match response.status {
                101 => return Ok(()),
                // We answered the client's expectation ourselves.
                100 => {}
                102..=199 => {
                    let mut pace = write_pace(exchange.timeouts);
                    let sent = self.client.send_interim(response, &mut pace).await;
                    sent.map_err(|error| Failure::answering(client_fault(&error)))?;
                }
                _ => return Ok(()),
            }
        }
        Err(Failure::answering(Reason::UpstreamInterimFlood))
    }

    /// Turns the exchange into a tunnel, if that is what the client asked for.
    async fn tunnel(
        &self,
        exchange: &mut Exchange<'_>,
        connection: &Connection,
        inbound: &mut Inbound,
        head: &ResponseHead,
        response: &mut Response,
        from_client: &mut Inbound,
    ) -> Result<Ended, Failure> {
        if !self.outgoing.is_upgrade || head.upgrade != Upgrade::WebSocket {
            return Err(Failure::answering(Reason::UpstreamMalformed));
        }
        if let Some(route) = exchange.route {
            route.chain.on_response(exchange, response);
        }
        exchange.status = 101;
        self.client.persistent.set(false);
        self.client.head_sent.set(true);
        // A tunnel lasts as long as there is traffic, not as long as an exchange may.
        self.client.socket.timer().end_after(Duration::ZERO);
        connection.socket.timer().end_after(Duration::ZERO);
        let mut ends = TunnelEnds {
            client: self.client.socket,
            from_client,
            origin: &connection.socket,
            from_origin: inbound,
        };
        let idle = exchange.timeouts.tunnel_idle;
        self.worker.metrics.tunnel_opened();
        let traffic = tunnel::run(self.worker, &mut ends, response, idle).await;
        self.worker.metrics.tunnel_closed();
        exchange.bytes_received += traffic.from_client;
        exchange.bytes_sent += traffic.from_origin;
        Ok(Ended {
            end: End::Complete,
            is_reusable: false,
            outcome: Some(Outcome::Success),
        })
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

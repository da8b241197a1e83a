//! What an attempt has of its endpoint: a stream of a connection that others share, a connection that
//! was kept, or a new one.
//!
//! Must not: choose the endpoint, or send anything of the request.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Attempt;
use crate::traffic::exchange::Exchange;
use crate::traffic::http2::Stream;
use crate::traffic::respond::Reason;
use crate::traffic::upstream::connect::{Purpose, connect};
use crate::traffic::upstream::introduce;
use crate::traffic::upstream::pool::Connection;
use crate::traffic::upstream::response::Failure;
use crate::traffic::upstream::settings::Protocol;

/// What an attempt has of its endpoint.
pub(super) enum Link {
    /// A connection, and whether it served before.
    Own(Connection, bool),
    /// A stream of a connection that others share.
    Shared(Rc<Stream>),
}

impl Attempt<'_> {
    /// A stream of a shared connection, a pooled connection, or a new one of either kind.
    pub(super) async fn link(&self, exchange: &mut Exchange<'_>) -> Result<Link, Failure> {
        let worker = self.worker;
        let settings = &self.endpoint.upstream().upstream().settings;
        let reused = || {
            if let Some(backend) = exchange.backend {
                worker.metrics.upstream_reused(backend.slot.id());
            }
        };
        let may_share = settings.may_share();
        if may_share && let Some(stream) = Box::pin(self.shared_stream(exchange)).await {
            reused();
            return Ok(Link::Shared(stream));
        }
        if settings.protocol != Protocol::Http2
            && let Some(connection) = self.waiting(exchange)
        {
            reused();
            return Ok(Link::Own(connection, true));
        }
        let connecting = may_share.then(|| worker.shared.begin_connecting(self.endpoint.id));
        let connection = Box::pin(self.connect(exchange)).await?;
        if !connection.is_http2 {
            return Ok(Link::Own(connection, false));
        }
        let (id, pool) = (self.endpoint.id, &settings.pool);
        let stream = match connection.is_introduced {
            true => worker.shared.use_alone(worker, id, connection),
            false => worker.shared.share(worker, id, connection, pool),
        };
        drop(connecting);
        let stream = stream.ok_or(Failure::connecting(Reason::UpstreamConnectFailed))?;
        Ok(Link::Shared(stream))
    }

    /// A connection that was kept: by the worker for anybody, or by the client for itself if the
    /// endpoint is told whom a connection is for.
    fn waiting(&self, exchange: &Exchange<'_>) -> Option<Connection> {
        let (pool, id) = (&self.worker.pool, self.endpoint.id);
        let settings = &self.endpoint.upstream().upstream().settings;
        match settings.proxy_protocol {
            None => pool.checkout(id),
            Some(_) => pool.checkout_own(&exchange.client.own, id),
        }
    }

    /// Keeps a connection whose exchange is over.
    pub(super) fn keep(&self, exchange: &Exchange<'_>, connection: Connection) {
        let (pool, id) = (&self.worker.pool, self.endpoint.id);
        let settings = &self.endpoint.upstream().upstream().settings;
        if !connection.is_introduced {
            pool.keep(id, connection, &settings.pool);
        } else if settings.caps.connections_max == 0 {
            // Under a cap, what waits for one client would be missing for another.
            pool.keep_own(&exchange.client.own, id, connection, &settings.pool);
        }
    }

    /// A stream of a connection that is there, or that is being made. A tunnel needs one whose
    /// endpoint has said that it knows of tunnels.
    async fn shared_stream(&self, exchange: &Exchange<'_>) -> Option<Rc<Stream>> {
        let settings = &self.endpoint.upstream().upstream().settings;
        let is_known = settings.protocol == Protocol::Http2;
        let shared = &self.worker.shared;
        if self.outgoing.is_upgrade && !shared.has_tunnels(self.endpoint.id) && !is_known {
            return None;
        }
        let opening = shared.stream(self.endpoint.id, is_known);
        match exchange.within(exchange.timeouts.connect) {
            Duration::ZERO => opening.await,
            wait => tokio::time::timeout(wait, opening).await.ok().flatten(),
        }
    }

    async fn connect(&self, exchange: &mut Exchange<'_>) -> Result<Connection, Failure> {
        let metrics = &self.worker.metrics;
        let slot = exchange.backend.map(|backend| backend.slot.id());
        let started = Instant::now();
        let timeout = exchange.within(exchange.timeouts.connect);
        let header = self.introduction(exchange);
        let purpose = match self.outgoing.is_upgrade || header.is_some() {
            true => Purpose::Alone,
            false => Purpose::Requests,
        };
        let (header, wheel) = (header.as_deref(), &self.worker.wheel);
        let connected = connect(self.endpoint, purpose, header, timeout, wheel).await;
        exchange.upstream.connect = Some(started.elapsed());
        match connected {
            Ok(connection) => {
                if let Some(slot) = slot {
                    metrics.upstream_connected(slot);
                }
                Ok(connection)
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

    /// What a new connection begins with, if the upstream wants to know whom it is for.
    fn introduction(&self, exchange: &Exchange<'_>) -> Option<Vec<u8>> {
        let settings = &self.endpoint.upstream().upstream().settings;
        let version = settings.proxy_protocol?;
        let local = || self.client.local_address();
        let id = exchange.request_id.as_bytes();
        Some(introduce::for_client(version, exchange.client, local, id))
    }
}

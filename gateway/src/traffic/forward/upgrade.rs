//! An exchange that becomes a tunnel: what an endpoint has to know of it before, and what is done once
//! the endpoint agreed.
//!
//! Must not: pass a byte of the client's on before the endpoint has agreed.

use std::io::ErrorKind;
use std::time::Duration;

use cardea_http1::{Known, ResponseHead, Upgrade};

use super::{Attempt, End, Ended};
use crate::traffic::body::Body;
use crate::traffic::buffer::Inbound;
use crate::traffic::exchange::Exchange;
use crate::traffic::http2::Stream;
use crate::traffic::respond::{Reason, Response};
use crate::traffic::timer::Direction;
use crate::traffic::tunnel::{self, Origin};
use crate::traffic::upstream::OriginEnd;
use crate::traffic::upstream::outlier::Outcome;
use crate::traffic::upstream::response::Failure;

impl Attempt<'_> {
    /// Whether the endpoint may be asked this at all: for a tunnel only once it has said that it knows
    /// of them (RFC 8441 section 3).
    pub(super) async fn may_converse(
        &self,
        exchange: &Exchange<'_>,
        stream: &Stream,
    ) -> Result<(), Failure> {
        if !self.outgoing.is_upgrade {
            return Ok(());
        }
        let wait = exchange.within(exchange.timeouts.connect);
        stream.timer().set(Direction::Read, wait);
        stream.introduced().await.map_err(|error| {
            Failure::connecting(match error.kind() {
                ErrorKind::TimedOut => Reason::UpstreamConnectTimeout,
                _ => Reason::UpstreamConnectFailed,
            })
        })?;
        match stream.hub().codec().has_tunnels() {
            true => Ok(()),
            false => Err(Failure::answering(Reason::UpgradeInvalid)),
        }
    }

    /// Turns the exchange into a tunnel, if that is what the client asked for.
    pub(super) async fn tunnel(
        &self,
        exchange: &mut Exchange<'_>,
        origin: OriginEnd<'_>,
        inbound: &mut Inbound,
        head: &ResponseHead,
        response: &mut Response,
        from_client: Option<&mut Body<'_>>,
    ) -> Result<Ended, Failure> {
        let is_agreed = match origin {
            OriginEnd::Http1(_) => self.outgoing.is_upgrade && head.upgrade == Upgrade::WebSocket,
            OriginEnd::Http2(_) => true,
        };
        let Some(from_client) = from_client.filter(|_| is_agreed) else {
            return Err(Failure::answering(Reason::UpstreamMalformed));
        };
        if let Some(route) = exchange.route {
            route.chain.on_response(exchange, response);
        }
        exchange.status = 101;
        self.client.persistent.set(false);
        self.client.head_sent.set(true);
        // A tunnel lasts as long as there is traffic, not as long as an exchange may.
        self.client.timer().end_after(Duration::ZERO);
        origin.timer().end_after(Duration::ZERO);
        let origin = Origin {
            end: origin,
            inbound,
            key: exchange.request.headers.known(Known::SecWebSocketKey),
        };
        let idle = exchange.timeouts.tunnel_idle;
        self.worker.metrics.tunnel_opened();
        let traffic = tunnel::run(
            self.worker,
            self.client,
            from_client,
            origin,
            response,
            idle,
        )
        .await;
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

/// Whether a response turns the exchange into a tunnel: what a 101 is to an upgrade, a 2xx is to an
/// extended CONNECT (RFC 8441 section 5).
pub(super) fn is_tunnel(origin: OriginEnd<'_>, is_asked: bool, status: u16) -> bool {
    match origin {
        OriginEnd::Http1(_) => status == 101,
        OriginEnd::Http2(_) => is_asked && (200..300).contains(&status),
    }
}

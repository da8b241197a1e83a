//! An exchange from admission to the last byte of its response, whatever it came on.
//!
//! Must not: know what the connection does next.

use std::rc::Rc;
use std::sync::Arc;

use cardea_http1::{Framing, Known};

use super::client::{ClientSide, write_pace};
use crate::traffic::body::Body;
use crate::traffic::exchange::Exchange;
use crate::traffic::forward::{End, forward};
use crate::traffic::respond::{self, Reason, Reply};
use crate::traffic::worker::Worker;
use crate::traffic::{admit, grpc_web};

/// Admits, forwards, or answers a request.
pub(super) async fn conduct(
    worker: &Rc<Worker>,
    exchange: &mut Exchange<'_>,
    client: &ClientSide<'_>,
    body: &mut Body<'_>,
    is_upgrade: bool,
) -> End {
    let result = match admit::admit(worker, exchange) {
        Ok(()) => {
            if exchange.route.is_some_and(|route| route.grpc_web) {
                grpc_web::begin(exchange, body);
            }
            forward(worker, exchange, client, body, is_upgrade).await
        }
        Err(reply) => Err(reply),
    };
    match result {
        Ok(end) => end,
        Err(reply) => answer(exchange, client, body, *reply).await,
    }
}

/// Sends a response of our own.
pub(super) async fn answer(
    exchange: &mut Exchange<'_>,
    client: &ClientSide<'_>,
    body: &mut Body<'_>,
    reply: Reply,
) -> End {
    exchange.fail(reply.reason);
    // A body that is here already is dropped; one that is not keeps the connection from reuse.
    while let Ok(Some(_)) = body.next_received() {}
    if !body.is_done() {
        client.persistent.set(false);
    }
    let style: &Arc<respond::ResponseStyle> = exchange
        .domain
        .map_or(&exchange.snapshot.style, |domain| &domain.style);
    let accept = exchange.request.headers.known(Known::Accept);
    let call = respond::grpc::call(&exchange.request, exchange.web);
    let detail = call.map(|call| {
        let told = reply.detail.as_deref();
        let detail = told.unwrap_or(reply.reason.explanation()).to_owned();
        (call, detail)
    });
    let mut rendered = respond::render(reply, style, accept, Some(exchange.request_id.as_bytes()));
    let chain = match (exchange.route, exchange.domain) {
        (Some(route), _) => &route.chain,
        (None, Some(domain)) => &domain.chain,
        (None, None) => &exchange.snapshot.chain,
    };
    chain.on_response(exchange, &mut rendered.response);
    if let Some((call, detail)) = detail {
        respond::grpc::translate(&mut rendered, call, &detail);
    }
    exchange.status = rendered.response.status;
    let length = rendered.body.len() as u64;
    let framing = client.framing(rendered.response.status, Framing::Length(length));
    if framing != Framing::None {
        exchange.bytes_sent += length;
    }
    let mut pace = write_pace(exchange.timeouts);
    let sent = client.send_whole(&rendered.response, framing, &rendered.body, &mut pace);
    match sent.await {
        Ok(()) => End::Complete,
        Err(_) => End::Cut(Reason::ClientClosed),
    }
}

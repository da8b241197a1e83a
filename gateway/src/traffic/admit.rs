//! From a parsed head to a decision: who the client is, which domain and route take the request,
//! and whether their policies let it pass.
//!
//! Must not: answer anything itself. It names the reason; the connection sends the reply.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::exchange::{Client, Exchange, Notes, Request, RequestId, UpstreamTrace};
use super::proxy_value;
use super::respond::{self, Page, Reason, Reply};
use super::route::{NoRoute, RequestView, normalise};
use super::worker::Worker;
use crate::policy::Verdict;
use crate::snapshot::{Forwarding, ListenerPlan, RequestIdFrom, Snapshot};
use cardea_http1::{Form, Known, Method};

/// Begins an exchange.
pub fn open<'t>(
    worker: &Worker,
    snapshot: &'t Snapshot,
    listener: &'t ListenerPlan,
    client: &'t Client,
    request: Box<Request>,
) -> Exchange<'t> {
    let peer_is_trusted = is_trusted(&snapshot.forwarding, client.peer.ip());
    let mut exchange = Exchange {
        snapshot,
        listener,
        client,
        client_address: client.peer.ip(),
        peer_is_trusted,
        request,
        domain: None,
        route: None,
        matched_bytes: 0,
        timeouts: &snapshot.timeouts,
        time_max: snapshot.timeouts.request,
        body_bytes_max: None,
        request_id: RequestId::NONE,
        reason: None,
        status: 0,
        bytes_received: 0,
        bytes_sent: 0,
        started: Instant::now(),
        backend: None,
        upstream: UpstreamTrace::default(),
        notes: Notes::default(),
        web: None,
    };
    if peer_is_trusted {
        exchange.client_address = vouched_address(&exchange);
    } else {
        exchange.request.headers.remove_claims();
    }
    if let Some(rules) = &listener.proxy_protocol {
        proxy_value::tell(&rules.fields, client, &mut exchange.request.headers);
    }
    exchange.request_id = request_id(worker, &exchange);
    if let Some(name) = &snapshot.forwarding.request_id {
        // The origin is told one id: the one chosen.
        exchange.request.headers.remove(name);
    }
    exchange
}

/// Finds the domain and the route, and asks the policies.
pub fn admit(worker: &Worker, exchange: &mut Exchange<'_>) -> Verdict {
    if matches!(exchange.request.method, Method::Connect | Method::Trace) {
        return Err(Reply::new(Reason::MethodRefused)
            .header("allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    answer_authority(exchange)?;
    find_domain(exchange)?;
    normalise_path(exchange)?;
    if let Err(no_route) = find_route(exchange) {
        let domain = exchange.domain;
        if let Some(domain) = domain {
            domain.chain.on_request(exchange)?;
        }
        return Err(Reply::new(match no_route {
            NoRoute::Unmatched => Reason::RouteUnknown,
            NoRoute::Ambiguous => Reason::PathAmbiguous,
        }));
    }
    let _ = worker;
    match exchange.route {
        Some(route) => route.chain.on_request(exchange),
        None => Ok(()),
    }
}

fn find_domain(exchange: &mut Exchange<'_>) -> Verdict {
    let request = &mut *exchange.request;
    let host = request.host_text.of(&request.headers.bytes);
    request.host.clear();
    request.host.extend(host.iter().map(u8::to_ascii_lowercase));
    let snapshot = exchange.snapshot;
    match exchange.listener.hosts.find(&request.host) {
        Some(index) => {
            exchange.domain = snapshot.domains.get(index as usize).map(AsRef::as_ref);
            is_directed(exchange, index)
        }
        // The host is ours, but not on this listener (RFC 9110 §15.5.20).
        None if snapshot.hosts.claimed(&request.host).is_some() => {
            Err(Reply::new(Reason::Misdirected))
        }
        None => Err(Reply::new(Reason::DomainUnknown)),
    }
}

/// Where an authority looks for proof that a host is ours (RFC 8555 §8.3).
const PROOF_PATH: &[u8] = b"/.well-known/acme-challenge/";

/// Shows an authority the proof it looks for, whatever the host and the policies. Tokens that no
/// order of ours has are the origin's business.
fn answer_authority(exchange: &Exchange<'_>) -> Verdict {
    let request = &exchange.request;
    let path = request.target.path.of(&request.headers.bytes);
    let Some(token) = path.strip_prefix(PROOF_PATH) else {
        return Ok(());
    };
    let Some(proof) = exchange.snapshot.challenges.file(token) else {
        return Ok(());
    };
    let mut reply = Reply::new(Reason::AuthorityAnswered);
    reply.page = Some(Page {
        body: proof.as_bytes().into(),
        content_type: "application/octet-stream".into(),
    });
    Err(reply)
}

/// Whether the connection was made as the domain of the request has it. A client that shook hands
/// for one domain has proved nothing to another that asks for more, nor on a listener that cannot
/// ask (RFC 9110 §15.5.20).
fn is_directed(exchange: &Exchange<'_>, domain: u32) -> Verdict {
    let is_directed = match (&exchange.listener.tls, &exchange.client.tls) {
        (Some(tls), Some(made)) => tls.agrees(Some(domain), made.policy),
        _ => !exchange.domain.is_some_and(|domain| domain.demands_client),
    };
    if is_directed {
        return Ok(());
    }
    Err(Reply::new(Reason::Misdirected))
}

fn normalise_path(exchange: &mut Exchange<'_>) -> Verdict {
    let request = &mut *exchange.request;
    let path = match request.target.form {
        // OPTIONS of the server as a whole has no path to match; it goes where `/` goes.
        Form::Asterisk => b"/",
        _ => request.target.path.of(&request.headers.bytes),
    };
    let path = if path.is_empty() { b"/" } else { path };
    match normalise(path, &exchange.listener.paths, &mut request.path) {
        Ok(()) => Ok(()),
        Err(error) => Err(Reply::with_detail(
            Reason::of_path(error),
            format!("{error}."),
        )),
    }
}

fn find_route(exchange: &mut Exchange<'_>) -> Result<(), NoRoute> {
    let Some(domain) = exchange.domain else {
        return Err(NoRoute::Unmatched);
    };
    let request = &*exchange.request;
    let view = RequestView {
        method: request.method_bytes(),
        path: &request.path,
        query: request.query_bytes(),
        headers: &request.headers,
        client: exchange
            .client
            .tls
            .as_ref()
            .and_then(|tls| tls.peer.as_deref()),
    };
    let found = domain.table.find(&view)?;
    let route = domain.routes.get(found.route).ok_or(NoRoute::Unmatched)?;
    exchange.route = Some(route);
    exchange.matched_bytes = found.path_bytes;
    exchange.timeouts = &route.timeouts;
    exchange.time_max = time_max(exchange);
    Ok(())
}

/// How long the exchange may take: as the route has it, or as long as a client of gRPC waits, if that
/// is less.
fn time_max(exchange: &Exchange<'_>) -> Duration {
    let of_route = exchange.timeouts.request;
    match respond::grpc::time_max(&exchange.request) {
        Some(told) if of_route.is_zero() => told,
        Some(told) => told.min(of_route),
        None => of_route,
    }
}

fn is_trusted(forwarding: &Forwarding, address: IpAddr) -> bool {
    let address = address.to_canonical();
    forwarding
        .trusted_proxies
        .iter()
        .any(|network| network.contains(&address))
}

/// The last address of the forwarding chain that no trusted proxy has.
fn vouched_address(exchange: &Exchange<'_>) -> IpAddr {
    let mut address = exchange.client.peer.ip();
    let chain: Vec<&[u8]> = exchange
        .request
        .headers
        .iter()
        .filter(|(known, _, _)| *known == Known::XForwardedFor)
        .flat_map(|(_, _, value)| value.split(|&byte| byte == b','))
        .collect();
    for hop in chain.into_iter().rev() {
        let hop = std::str::from_utf8(hop.trim_ascii()).ok();
        let Some(hop) = hop.and_then(parse_hop) else {
            break;
        };
        address = hop;
        if !is_trusted(&exchange.snapshot.forwarding, hop) {
            break;
        }
    }
    address
}

/// An element of `X-Forwarded-For`: an address, perhaps with brackets or a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next())
        .unwrap_or(text);
    bare.parse().ok().or_else(|| {
        text.parse::<std::net::SocketAddr>()
            .ok()
            .map(|address| address.ip())
    })
}

fn request_id(worker: &Worker, exchange: &Exchange<'_>) -> RequestId {
    let forwarding = &exchange.snapshot.forwarding;
    let Some(name) = &forwarding.request_id else {
        return RequestId::NONE;
    };
    let believed = match forwarding.request_id_from {
        RequestIdFrom::Never => false,
        RequestIdFrom::Trusted => exchange.peer_is_trusted,
        RequestIdFrom::Always => true,
    };
    if believed
        && let Some(id) = exchange
            .request
            .headers
            .value(name)
            .and_then(RequestId::try_from_client)
    {
        return id;
    }
    RequestId::from_random(worker.random.next(), worker.random.next())
}

//! The policy chain: what a route with the usual policies adds to a request and its response.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use cardea_gateway::control::compile::compile;
use cardea_gateway::snapshot::Snapshot;
use cardea_gateway::telemetry::metrics::Metrics;
use cardea_gateway::traffic::exchange::{
    Client, Exchange, Notes, Request, RequestId, UpstreamTrace,
};
use cardea_gateway::traffic::headers::Headers;
use cardea_gateway::traffic::respond::Response;
use cardea_http1::{Limits, RequestHead, ResponseHead};

use super::config::{LISTENERS, loaded};
use super::http1::{BROWSER, RESPONSE};
use super::{Case, Work};

pub(super) const CASES: [Case; 2] = [
    Case {
        name: "policy_none",
        prepare: || chain(""),
    },
    Case {
        name: "policy_usual",
        prepare: || chain(USUAL),
    },
];

/// One of each policy that lets a request pass, as an operator would combine them.
const USUAL: &str = "\x20   policies:
      ip_access: { allow: [203.0.113.0/24, 127.0.0.0/8], deny: [203.0.113.66/32] }
      rate_limit: { rate: 1000000, per: 1s, burst: 2000000 }
      cors: { allow_origins: [\"https://app.example.com\"] }
      body_limit: 10MiB
      rewrite: { path: { replace_prefix: /catalogue } }
      header_edits:
        request: { set: { x-edge: cardea }, remove: [sec-ch-ua] }
        response: { set: { strict-transport-security: max-age=31536000 }, remove: [server] }
";

fn snapshot(policies: &str) -> Arc<Snapshot> {
    let text = LISTENERS.to_owned()
        + "domains:\n  - hosts: [shop.example.com]\n"
        + policies
        + "    routes:\n      - { match: [{ path: { prefix: /products } }], to: origin }\n\
           upstreams:\n  origin: { endpoints: [\"127.0.0.1:3000\"] }\n";
    let metrics = Metrics::new(1);
    let compiled = compile(Arc::new(loaded(&text)), 1, None, &metrics);
    compiled.expect("a document that compiles").0.snapshot
}

/// Both phases of the chain. Filling request and response from their heads is part of the count,
/// and all of it without policies: the difference is the chain's.
fn chain(policies: &str) -> Work {
    let snapshot = snapshot(policies);
    let client = Client::new(SocketAddr::from((Ipv4Addr::new(203, 0, 113, 7), 40_000)));
    let mut head = RequestHead::default();
    head.parse(BROWSER.as_bytes(), &Limits::default())
        .expect("a valid head");
    let mut answer = ResponseHead::default();
    answer
        .parse(RESPONSE.as_bytes(), &Limits::default())
        .expect("a valid head");
    let mut request = Some(Box::<Request>::default());
    let mut response = Response {
        status: 200,
        headers: Headers::default(),
    };
    Box::new(move || {
        let filled = fill(request.take().expect("put back below"), &head);
        let mut exchange = begin(&snapshot, &client, filled);
        let route = exchange.route.expect("set above");
        assert!(route.chain.on_request(black_box(&mut exchange)).is_ok());
        response.headers.clear();
        response
            .headers
            .bytes
            .extend_from_slice(RESPONSE.as_bytes());
        response.headers.fields.extend_from_slice(&answer.fields);
        route.chain.on_response(&exchange, black_box(&mut response));
        request = Some(exchange.request);
    })
}

fn fill(mut request: Box<Request>, head: &RequestHead) -> Box<Request> {
    request.clear();
    request.headers.bytes.extend_from_slice(BROWSER.as_bytes());
    request.headers.fields.extend_from_slice(&head.fields);
    request.method = head.method;
    request.method_text = head.method_span;
    request.authority = head.authority;
    request.host_text = head.host;
    request.target = head.target;
    request
        .host
        .extend_from_slice(head.host.of(BROWSER.as_bytes()));
    request
        .path
        .extend_from_slice(head.target.path.of(BROWSER.as_bytes()));
    request
}

fn begin<'t>(snapshot: &'t Snapshot, client: &'t Client, request: Box<Request>) -> Exchange<'t> {
    let domain = snapshot.domains.first().expect("one domain");
    Exchange {
        snapshot,
        listener: snapshot.listeners.first().expect("one listener"),
        client,
        client_address: client.peer.ip(),
        peer_is_trusted: false,
        request,
        domain: Some(domain),
        route: domain.routes.first(),
        matched_bytes: "/products".len(),
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
    }
}

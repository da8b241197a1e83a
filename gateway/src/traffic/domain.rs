//! The compiled domain and its routes: what a host's traffic is matched against, under which
//! policies, and where it goes. Made by `control::compile`, read by every exchange.
//!
//! Among ten thousand hosts, hardly any is in a cache when a request for it comes. So what one
//! request reads lies close together: the only route is in its domain, its only backend in the
//! route, and what is the same for many is shared.
//!
//! Must not: hold anything that changes while it is in use; endpoint sets and counters live
//! behind the upstreams and policies it points to.

use std::sync::Arc;

use smallvec::SmallVec;

use super::exchange::Timeouts;
use super::respond::ResponseStyle;
use super::route::{RouteTable, WeightedChoice};
use super::upstream::Upstream;
use crate::policy::Chain;
use crate::telemetry::metrics::{RouteSlot, UpstreamSlot};

/// A domain: the hosts it claims, and what happens to their requests.
#[derive(Debug)]
pub struct Domain {
    /// The name that logs and metrics carry.
    pub name: Arc<str>,
    /// Which route a request takes: an index into `routes`.
    pub table: RouteTable,
    /// The routes in the order of the document.
    pub routes: SmallVec<[Route; 1]>,
    /// How the gateway's own responses look here.
    pub style: Arc<ResponseStyle>,
    /// Whether it is only for clients that showed a certificate, which no plain listener can ask
    /// for.
    pub demands_client: bool,
    /// The policies of requests that match no route: those of the gateway and the domain.
    pub chain: Chain,
    /// Where requests that match no route are counted.
    pub slot: RouteSlot,
}

/// One route of a domain.
#[derive(Debug)]
pub struct Route {
    /// The name that logs and metrics carry.
    pub name: Arc<str>,
    /// The policies in execution order.
    pub chain: Chain,
    /// The deadlines, shared by all routes that have the same.
    pub timeouts: Arc<Timeouts>,
    /// Whether calls of gRPC-Web are made calls of gRPC.
    pub grpc_web: bool,
    /// Where requests go; empty when a policy answers.
    pub backends: SmallVec<[Backend; 1]>,
    /// Which of the backends takes a request.
    pub weights: WeightedChoice,
    /// Where requests are counted.
    pub slot: RouteSlot,
}

/// An upstream that a route's requests go to.
#[derive(Debug, Clone)]
pub struct Backend {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// Where its requests are counted.
    pub slot: UpstreamSlot,
}

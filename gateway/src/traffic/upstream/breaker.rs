//! The caps of an upstream: how many requests and connections may be under way at once, over all
//! workers. Beyond them a request is refused at once, which an origin that is behind survives
//! better than a queue in front of it.
//!
//! Must not: let a permit outlive what it was given for, or forget one: permits return on drop.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::gauge::{Gauge, Lane};
use super::local::LocalUpstream;

/// The caps; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// Connections, busy and idle.
    pub connections_max: u32,
    /// Requests, from admission to the end of the response.
    pub requests_max: u32,
}

/// What is under way at an upstream, and what it has been through. It outlives a change of the upstream's settings, so that a
/// reload does not open the caps.
#[derive(Debug, Default)]
pub struct Load {
    /// Requests admitted and not finished.
    pub requests: Gauge,
    /// Connections open.
    pub connections: Gauge,
    /// Attempts under way that are not the first of their request.
    pub retries: AtomicU32,
    /// The sum of the adaptive limits of the workers that have one.
    pub adaptive_limit: AtomicU32,
    /// Requests that wait for their turn, as of a moment ago.
    pub queued: AtomicU32,
    /// Ejections so far, of endpoints that are gone, too.
    pub ejections_total: AtomicU64,
}

/// The upstream has all that it may have; the client is answered 503 `upstream_saturated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upstream is at its limit of concurrent requests or connections")]
pub struct Saturated;

/// A request's place at its upstream.
#[derive(Debug)]
pub struct RequestPermit {
    local: Rc<LocalUpstream>,
    lane: Lane,
}

impl RequestPermit {
    /// Admits a request, if the caps allow.
    pub(super) fn new(local: &Rc<LocalUpstream>) -> Result<Self, Saturated> {
        let requests = &local.upstream().load.requests;
        let lane = admit(
            requests,
            local.upstream().settings.caps.requests_max,
            local.lane(),
        )?;
        Ok(Self {
            local: Rc::clone(local),
            lane,
        })
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.local.upstream().load.requests.leave(self.lane);
    }
}

/// A connection's place at its upstream. It stays with the connection while that is idle.
#[derive(Debug)]
pub struct ConnectionPermit {
    load: Arc<Load>,
    lane: Lane,
}

impl ConnectionPermit {
    /// Admits a connection, if the caps allow.
    pub(super) fn new(local: &LocalUpstream) -> Result<Self, Saturated> {
        let load = &local.upstream().load;
        let cap = local.upstream().settings.caps.connections_max;
        let lane = admit(&load.connections, cap, local.lane())?;
        Ok(Self {
            load: Arc::clone(load),
            lane,
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.load.connections.leave(self.lane);
    }
}

fn admit(gauge: &Gauge, cap: u32, lane: Lane) -> Result<Lane, Saturated> {
    if cap == 0 {
        gauge.enter(lane);
        return Ok(lane);
    }
    gauge.try_enter(cap).ok_or(Saturated)
}

//! The endpoints of an upstream at one moment, with the table to choose among them. A set never
//! changes; when an endpoint comes, goes, falls ill or recovers, another set takes its place.
//!
//! Must not: leave a request without an endpoint while any is known. If none is usable, all of
//! them are used ("panic"): a health check that is wrong about everything must not be able to do
//! what only a dead upstream may, and trying costs a dead upstream's client nothing.

use std::sync::Arc;

use super::endpoint::{Endpoint, EndpointId};
use crate::traffic::balance::hash::hash;
use crate::traffic::balance::{Balance, Draw, MEMBERS_MAX, Members, Table, Weighted};

/// The endpoints of an upstream at one moment.
#[derive(Debug)]
pub struct EndpointSet {
    version: u64,
    endpoints: Box<[Arc<Endpoint>]>,
    is_panicking: bool,
    table: Arc<Table>,
}

impl EndpointSet {
    /// The set of an upstream that knows no endpoint yet.
    pub(super) fn empty(balance: &Balance) -> Self {
        Self::new(0, balance, Vec::new())
    }

    /// A set with its table. Endpoints beyond [`MEMBERS_MAX`] are left out.
    pub(super) fn new(version: u64, balance: &Balance, mut endpoints: Vec<Arc<Endpoint>>) -> Self {
        endpoints.truncate(MEMBERS_MAX);
        let is_panicking = !endpoints.iter().any(|endpoint| is_serving(endpoint));
        let only_usable = !is_panicking && !Table::keeps_places(balance);
        let members: Vec<Weighted> = (0u16..)
            .zip(&endpoints)
            .filter(|(_, endpoint)| !only_usable || endpoint.state.is_usable())
            .map(|(member, endpoint)| Weighted {
                member,
                weight: endpoint.weight,
                identity: identity(endpoint),
            })
            .collect();
        let table = Arc::new(Table::build(balance, &members));
        Self {
            version,
            endpoints: endpoints.into(),
            is_panicking,
            table,
        }
    }

    /// The same endpoints, after some of them changed their standing. A table that keeps the
    /// places of endpoints out of use is taken over as it is.
    pub(super) fn renewed(&self, version: u64, balance: &Balance) -> Self {
        if !Table::keeps_places(balance) {
            return Self::new(version, balance, self.endpoints.to_vec());
        }
        Self {
            version,
            endpoints: self.endpoints.clone(),
            is_panicking: !self.endpoints.iter().any(|endpoint| is_serving(endpoint)),
            table: Arc::clone(&self.table),
        }
    }

    /// Counts the sets of the upstream.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The endpoints, usable or not, in the order of the configuration.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Whether an endpoint belongs to the set.
    pub fn contains(&self, id: EndpointId) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.id == id)
    }

    /// Whether no endpoint was usable when the set was made, so that all are used.
    pub fn is_panicking(&self) -> bool {
        self.is_panicking && !self.endpoints.is_empty()
    }

    /// Chooses an endpoint that was not tried, by its index; none if there is no such.
    pub(super) fn choose(&self, draw: Draw<'_>, tried: &Tried) -> Option<u16> {
        let view = View {
            set: self,
            tried,
            heeds_standing: !self.is_panicking,
        };
        let chosen = self.table.choose(draw, &view);
        if chosen.is_some() || self.is_panicking {
            return chosen;
        }
        if self.endpoints.iter().any(|endpoint| is_serving(endpoint)) {
            // The usable ones were tried; the others are out for a reason.
            return None;
        }
        // The last usable one was ejected since the set was made.
        self.table.choose(
            draw,
            &View {
                set: self,
                tried,
                heeds_standing: false,
            },
        )
    }
}

/// Whether an endpoint takes part in the traffic.
fn is_serving(endpoint: &Endpoint) -> bool {
    endpoint.weight > 0 && endpoint.state.is_usable()
}

/// What names an endpoint in the tables: the same in every gateway and after every reload.
fn identity(endpoint: &Endpoint) -> u64 {
    let host = endpoint.host.as_deref().unwrap_or_default();
    hash(format!("{host}|{}", endpoint.address).as_bytes())
}

/// The set as the tables see it for one request.
struct View<'a> {
    set: &'a EndpointSet,
    tried: &'a Tried,
    heeds_standing: bool,
}

impl View<'_> {
    fn endpoint(&self, member: u16) -> Option<&Arc<Endpoint>> {
        self.set.endpoints.get(usize::from(member))
    }
}

impl Members for View<'_> {
    fn count(&self) -> usize {
        self.set.endpoints.len()
    }

    fn is_usable(&self, member: u16) -> bool {
        self.endpoint(member).is_some_and(|endpoint| {
            (!self.heeds_standing || endpoint.state.is_usable())
                && !self.tried.contains(endpoint.id)
        })
    }

    fn active(&self, member: u16) -> u32 {
        self.endpoint(member)
            .map_or(0, |endpoint| endpoint.state.active.value())
    }

    fn weight(&self, member: u16) -> u32 {
        self.endpoint(member).map_or(0, |endpoint| endpoint.weight)
    }
}

/// Endpoints remembered as tried by one request. More attempts than this may meet the first again.
const TRIED_MAX: usize = 8;

/// The endpoints at which a request failed, so that it goes elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    ids: [Option<EndpointId>; TRIED_MAX],
    next: usize,
}

impl Tried {
    /// Remembers an endpoint, if need be in place of the one remembered longest.
    pub fn insert(&mut self, id: EndpointId) {
        if let Some(place) = self.ids.get_mut(self.next % TRIED_MAX) {
            *place = Some(id);
            self.next += 1;
        }
    }

    /// Whether an endpoint is remembered.
    pub fn contains(&self, id: EndpointId) -> bool {
        self.next > 0 && self.ids.contains(&Some(id))
    }
}

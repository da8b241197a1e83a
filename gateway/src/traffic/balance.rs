//! Choosing an endpoint: the algorithms, as tables that are built when the endpoint set changes
//! and only read while a request waits.
//!
//! A table knows members by their index in the set and nothing else about them. What changes from
//! one request to the next (who is usable, who is busy) it asks through [`Members`], so the tables
//! stay pure and can be tested without a socket.
//!
//! Must not: block, allocate or fail to terminate while choosing; every walk over a table has a
//! bound, and past it the members themselves are scanned once.

pub mod hash;
pub mod maglev;
pub mod ring;
pub mod slots;

mod least_request;

use std::cell::Cell;

use maglev::Maglev;
use ring::Ring;
use slots::Slots;

/// Members one table can hold: an index is 16 bits, which halves every table.
pub const MEMBERS_MAX: usize = u16::MAX as usize;

/// Table entries looked at before the members are scanned instead. A walk this long means that
/// nearly everything was taken out since the table was built.
const PROBES_MAX: usize = 64;

/// How an upstream spreads requests over its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn, heavier endpoints more often, evenly spread.
    #[default]
    RoundRobin,
    /// By lot, in proportion to the weights.
    Random,
    /// Of two drawn by lot, the one with fewer requests under way for its weight.
    LeastRequest,
    /// By key, on a ring: a change moves only the keys of the endpoint that changed.
    RingHash(HashBy),
    /// By key, in a Maglev table: more even than a ring, a change moves a few keys more.
    Maglev(HashBy),
}

impl Balance {
    /// The part of a request that chooses the endpoint, where the algorithm goes by one.
    pub fn hash_by(&self) -> Option<&HashBy> {
        match self {
            Self::RingHash(by) | Self::Maglev(by) => Some(by),
            Self::RoundRobin | Self::Random | Self::LeastRequest => None,
        }
    }
}

/// The part of a request whose hash chooses the endpoint; where a request does not have it, its
/// client's address does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// The client's address, without the port.
    ClientIp,
    /// The value of a header, its name in lower case.
    Header(Box<str>),
    /// The value of a cookie.
    Cookie(Box<str>),
    /// The normalised path, without the query.
    Path,
}

/// A member as the tables see it when they are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weighted {
    /// Its index in the set.
    pub member: u16,
    /// Its share of the traffic; zero keeps it out of the table.
    pub weight: u32,
    /// What names it wherever it stands in the list, so that two gateways, or one gateway before
    /// and after a change, send a key to the same place.
    pub identity: u64,
}

/// What choosing asks about the members of a set.
pub trait Members {
    /// How many there are.
    fn count(&self) -> usize;
    /// Whether a request may go there now.
    fn is_usable(&self, member: u16) -> bool;
    /// Requests under way there.
    fn active(&self, member: u16) -> u32;
    /// The member's share of the traffic.
    fn weight(&self, member: u16) -> u32;
}

/// What one choice starts from.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// Whose turn it is; each worker has its own.
    pub turn: &'a Cell<u32>,
    /// A fresh random number.
    pub random: u64,
    /// The hash of the request's key; without one, an algorithm that goes by key goes by lot.
    pub key: Option<u64>,
}

impl Draw<'_> {
    fn key(&self) -> u64 {
        self.key.unwrap_or(self.random)
    }
}

/// An algorithm with its table.
#[derive(Debug)]
pub enum Table {
    /// See [`Balance::RoundRobin`].
    RoundRobin(Slots),
    /// See [`Balance::Random`].
    Random(Slots),
    /// See [`Balance::LeastRequest`].
    LeastRequest(Slots),
    /// See [`Balance::RingHash`].
    RingHash(Ring),
    /// See [`Balance::Maglev`].
    Maglev(Maglev),
}

impl Table {
    /// Builds the table of an algorithm over these members.
    pub fn build(balance: &Balance, members: &[Weighted]) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin(Slots::build(members)),
            Balance::Random => Self::Random(Slots::build(members)),
            Balance::LeastRequest => Self::LeastRequest(Slots::build(members)),
            Balance::RingHash(_) => Self::RingHash(Ring::build(members)),
            Balance::Maglev(_) => Self::Maglev(Maglev::build(members)),
        }
    }

    /// Whether the table holds on to members that are out of use, so that the keys of the others
    /// stay where they are while one is away.
    pub fn keeps_places(balance: &Balance) -> bool {
        balance.hash_by().is_some()
    }

    /// The member for one request; none if no member of the table is usable.
    pub fn choose(&self, draw: Draw<'_>, members: &impl Members) -> Option<u16> {
        let chosen = match self {
            Self::RoundRobin(slots) => slots.next(draw.turn, |member| members.is_usable(member)),
            Self::Random(slots) => slots.draw(draw.random, |member| members.is_usable(member)),
            Self::LeastRequest(slots) => least_request::choose(slots, draw.random, members),
            Self::RingHash(ring) => ring.find(draw.key(), |member| members.is_usable(member)),
            Self::Maglev(maglev) => maglev.find(draw.key(), |member| members.is_usable(member)),
        };
        chosen.or_else(|| scan(draw.key(), members))
    }
}

/// The first usable member from a start that depends on the key, weights left aside.
fn scan(key: u64, members: &impl Members) -> Option<u16> {
    let count = members.count().min(MEMBERS_MAX);
    if count == 0 {
        return None;
    }
    let start = reduce(key, count);
    (start..count)
        .chain(0..start)
        .map(|index| index as u16)
        .find(|member| members.weight(*member) > 0 && members.is_usable(*member))
}

/// Maps a well-mixed number to `0..count` without a division (Lemire's multiply-shift).
fn reduce(number: u64, count: usize) -> usize {
    ((u128::from(number) * count as u128) >> 64) as usize
}

/// Divides the weights by what they have in common, and drops members without weight.
fn normalise(members: &[Weighted]) -> Vec<Weighted> {
    let divisor = members
        .iter()
        .fold(0, |divisor, member| gcd(divisor, member.weight))
        .max(1);
    members
        .iter()
        .filter(|member| member.weight > 0)
        .map(|member| Weighted {
            weight: member.weight / divisor,
            ..*member
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;

//! Which certificates stand behind which host name.
//!
//! Built with the store; read by every handshake. It holds positions in the store's list, and
//! knows nothing of keys or files.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rustls::SignatureAlgorithm;
use rustls::pki_types::UnixTime;

use super::{Entry, Plan};

/// The longest name that DNS knows (RFC 1035 section 2.3.4), as text.
const NAME_BYTES_MAX: usize = 253;

/// Positions of certificates for one name, the preferred one first. Hardly any name has two.
type Positions = Box<[u32]>;

/// Names to certificates.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    /// Hosts of domains, where any domain makes a choice.
    chosen: Choices,
    /// Names in certificates.
    exact: HashMap<Box<str>, Positions>,
    /// What follows `*.` in names in certificates. Such a wildcard is one label.
    wildcard: HashMap<Box<str>, Positions>,
    /// Names that are in several certificates, of which not all may be kept above.
    contested: HashSet<Box<str>>,
    /// When the order of certificates for one name is another, as one of them begins or ends.
    holds_until: Option<UnixTime>,
}

/// What domains chose for their hosts; `None` leaves it to the names in certificates.
#[derive(Debug, Default)]
struct Choices {
    exact: HashMap<Box<str>, Option<Positions>>,
    /// What follows `*.` in hosts of domains. Such a wildcard is any number of labels.
    below: HashMap<Box<str>, Option<Positions>>,
}

impl NameIndex {
    pub(super) fn build(
        plan: &Plan,
        by_name: &HashMap<Arc<str>, usize>,
        entries: &[Entry],
        now: UnixTime,
    ) -> Self {
        let mut exact: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        let mut wildcard: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        for (position, entry) in entries.iter().enumerate() {
            let position = in_list(position);
            for name in &entry.certificate.details.names {
                let (names, key) = match name.strip_prefix("*.") {
                    Some(suffix) => (&mut wildcard, suffix),
                    None => (&mut exact, &**name),
                };
                names.entry(key.into()).or_default().push(position);
            }
        }
        let exact_shared = exact.iter().filter(|it| it.1.len() > 1);
        let wild_shared = wildcard.iter().filter(|it| it.1.len() > 1);
        let shared = exact_shared.clone().chain(wild_shared.clone());
        let holds_until = next_turn(shared.flat_map(|it| it.1), entries, now);
        let contested = exact_shared.map(|(name, _)| name.clone());
        let wild = wild_shared.map(|(suffix, _)| format!("*.{suffix}").into());
        let contested = contested.chain(wild).collect();
        let preferred = |names: HashMap<Box<str>, Vec<u32>>| {
            names
                .into_iter()
                .map(|(name, positions)| (name, preferred(positions, entries, now)))
                .collect()
        };
        Self {
            chosen: Choices::build(plan, by_name),
            exact: preferred(exact),
            wildcard: preferred(wildcard),
            contested,
            holds_until,
        }
    }

    /// Whether the certificates for a name stand in another order by now.
    pub(super) fn is_over(&self, now: UnixTime) -> bool {
        self.holds_until
            .is_some_and(|until| until.as_secs() <= now.as_secs())
    }

    /// Whether each of these names in a certificate is in one certificate alone.
    pub(super) fn is_alone(&self, names: &[Box<str>]) -> bool {
        names.iter().all(|name| !self.contested.contains(name))
    }

    /// The certificates for a host, in whatever case it is written.
    pub(super) fn find(&self, host: &str) -> Option<&[u32]> {
        let host = host.strip_suffix('.').unwrap_or(host);
        if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find_lower(host);
        }
        let mut buffer = [0; NAME_BYTES_MAX];
        let lower = buffer.get_mut(..host.len())?;
        lower.copy_from_slice(host.as_bytes());
        lower.make_ascii_lowercase();
        self.find_lower(std::str::from_utf8(lower).ok()?)
    }

    fn find_lower(&self, host: &str) -> Option<&[u32]> {
        if let Some(positions) = self.chosen.find(host) {
            return Some(positions);
        }
        if let Some(positions) = self.exact.get(host) {
            return Some(positions);
        }
        let (_, parent) = host.split_once('.')?;
        self.wildcard.get(parent).map(|positions| &**positions)
    }
}

impl Choices {
    fn build(plan: &Plan, by_name: &HashMap<Arc<str>, usize>) -> Self {
        let mut choices = Self::default();
        // Without a single choice there is nothing to shield from it either.
        if plan
            .assignments
            .iter()
            .all(|host| host.certificate.is_none())
        {
            return choices;
        }
        for assignment in &plan.assignments {
            let chosen = assignment.certificate.as_ref();
            let position = chosen.and_then(|name| by_name.get(name)).copied();
            let positions = position.map(|at| Box::from([in_list(at)]));
            let (hosts, key) = match assignment.host.strip_prefix("*.") {
                Some(suffix) => (&mut choices.below, suffix),
                None => (&mut choices.exact, &*assignment.host),
            };
            // Two domains may claim one host on different listeners; the first one's choice holds.
            hosts.entry(key.into()).or_insert(positions);
        }
        choices
    }

    fn find(&self, host: &str) -> Option<&[u32]> {
        if self.exact.is_empty() && self.below.is_empty() {
            return None;
        }
        if let Some(choice) = self.exact.get(host) {
            return choice.as_deref();
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(choice) = self.below.get(parent) {
                return choice.as_deref();
            }
            rest = parent;
        }
        None
    }
}

/// Orders the certificates of one name, and keeps one of each kind of key: what is valid now, then
/// what is cheapest to sign with, then what lasts longest, then what stands first.
fn preferred(mut positions: Vec<u32>, entries: &[Entry], now: UnixTime) -> Positions {
    let certificate = |position: &u32| {
        let entry = entries.get(*position as usize);
        entry.map(|entry| &entry.certificate)
    };
    positions.sort_by_key(|position| {
        certificate(position).map(|certificate| {
            (
                !certificate.is_timely(now),
                cost(certificate.details.key),
                Reverse(certificate.details.not_after.as_secs()),
            )
        })
    });
    let mut kept: Vec<u32> = Vec::with_capacity(positions.len());
    for position in positions {
        let schemes = certificate(&position).map(|certificate| &certificate.schemes);
        let has_kind = |other: &u32| certificate(other).map(|other| &other.schemes) == schemes;
        if !kept.iter().any(has_kind) {
            kept.push(position);
        }
    }
    kept.into_boxed_slice()
}

/// When the first of some certificates begins or ceases to be valid.
fn next_turn<'p>(
    positions: impl Iterator<Item = &'p u32>,
    entries: &[Entry],
    now: UnixTime,
) -> Option<UnixTime> {
    let entries = positions.filter_map(|position| entries.get(*position as usize));
    let dates = entries.flat_map(|entry| {
        let details = &entry.certificate.details;
        [
            details.not_before.as_secs(),
            details.not_after.as_secs().saturating_add(1),
        ]
    });
    let next = dates.filter(|date| *date > now.as_secs()).min()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(next)))
}

/// What a signature costs, in order: an RSA one costs as much as dozens of the others.
fn cost(key: SignatureAlgorithm) -> u8 {
    match key {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 => 1,
        SignatureAlgorithm::RSA => 2,
        _ => 3,
    }
}

fn in_list(position: usize) -> u32 {
    u32::try_from(position).expect("a configuration has fewer than four billion certificates")
}

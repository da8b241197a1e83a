//! Session tickets: a session, sealed so that only this process can open it, kept by the client.
//!
//! Part of the life of a request: a handshake seals or opens a ticket without locks. Once in a
//! period one of them replaces the key.
//!
//! A ticket is `name of the key | nonce | sealed session`, sealed with AES-256-GCM-SIV by
//! aws-lc-rs. The policy's identity is authenticated with it, so a ticket opens only for the
//! policy that made it. SIV, because the nonce is random and one key serves a busy machine for
//! hours: with plain GCM a repeated nonce would give the key away, here it gives away nothing.
//!
//! rustls' own ticketer would do for one policy. It reads the system's clock itself, keeps keys
//! beyond their time when a scope is idle, and would have to be kept per policy over reloads.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use zeroize::Zeroizing;

use super::secrets::{Secret, TicketSecrets};
use super::{ScopeId, secs};
use crate::error::Error;

/// The longest ticket made or looked at. It holds the client's certificates, where there are any;
/// one that is longer still would not fit into the client's next greeting.
const TICKET_BYTES_MAX: usize = 16 * 1024;

const KEY_NAME_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// The keys of the process.
#[derive(Debug)]
pub(super) struct TicketKeys {
    keys: ArcSwap<Keys>,
    /// What keys are derived from; random ones are made if there is nothing.
    secrets: ArcSwap<TicketSecrets>,
    /// Held while replacing, so that one handshake does it, not all at once.
    replacing: Mutex<()>,
    period_secs: u64,
    clock: Arc<dyn TimeProvider>,
}

/// The key that makes tickets, and those that are read besides: the one before, those of the other
/// secrets, and those of the next period, which a gateway whose clock is ahead makes already.
#[derive(Debug)]
struct Keys {
    current: Arc<Key>,
    others: Box<[Arc<Key>]>,
}

#[derive(Debug)]
struct Key {
    name: [u8; KEY_NAME_BYTES],
    key: RandomizedNonceKey,
    /// Makes tickets until then.
    seals_until: u64,
    /// Reads them until then.
    opens_until: u64,
    /// Whether no other gateway has it.
    is_random: bool,
}

impl TicketKeys {
    pub(super) fn new(period_secs: u64, clock: Arc<dyn TimeProvider>) -> Result<Self, Error> {
        let now = secs(&*clock).unwrap_or(0);
        let current = Arc::new(Key::new(now, period_secs)?);
        Ok(Self {
            keys: ArcSwap::from_pointee(Keys {
                current,
                others: Box::new([]),
            }),
            secrets: ArcSwap::default(),
            replacing: Mutex::new(()),
            period_secs,
            clock,
        })
    }

    pub(super) fn rotate(&self) -> Result<(), Error> {
        match secs(&*self.clock) {
            Some(now) => self.keys_at(now).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The keys for this moment, replaced first if their time is over.
    fn keys_at(&self, now: u64) -> Result<arc_swap::Guard<Arc<Keys>>, Error> {
        let keys = self.keys.load();
        if !self.is_over(&keys, now) {
            return Ok(keys);
        }
        drop(keys);
        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys.load();
        // Another handshake was first.
        if !self.is_over(&keys, now) {
            return Ok(keys);
        }
        let successors = self.successors(&self.secrets.load(), &keys, now)?;
        self.keys.store(Arc::new(successors));
        Ok(self.keys.load())
    }

    pub(super) fn use_secrets(&self, secrets: Arc<TicketSecrets>) -> Result<(), Error> {
        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = secs(&*self.clock).unwrap_or(0);
        let keys = self.successors(&secrets, &self.keys.load(), now)?;
        self.secrets.store(secrets);
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// The keys for this moment, those before it among them as far as they are still read.
    fn successors(&self, secrets: &TicketSecrets, before: &Keys, now: u64) -> Result<Keys, Error> {
        let period = now / self.period_secs;
        let mut derived = Vec::new();
        for secret in secrets.iter() {
            for period in [period, period.saturating_sub(1), period.saturating_add(1)] {
                derived.push(Arc::new(Key::derived(secret, period, self.period_secs)?));
            }
        }
        let mut derived = derived.into_iter();
        let current = match derived.next() {
            Some(current) => current,
            None => Arc::new(Key::new(now, self.period_secs)?),
        };
        let is_readable = |key: &&Arc<Key>| key.opens_until > now && !self.is_ahead(key, now);
        let before = std::iter::once(&before.current).chain(&before.others);
        let before = before.filter(is_readable).cloned();
        let mut others: Vec<Arc<Key>> = derived.collect();
        for key in before {
            let is_known = |other: &Arc<Key>| other.name == key.name;
            if !is_known(&current) && !others.iter().any(is_known) {
                others.push(key);
            }
        }
        Ok(Keys {
            current,
            others: others.into(),
        })
    }

    /// Whether the current key must make no more tickets.
    fn is_over(&self, keys: &Keys, now: u64) -> bool {
        keys.current.seals_until <= now || self.is_ahead(&keys.current, now)
    }

    /// Whether a key was made later than now: the clock was put back, and the key would outlive
    /// its time. One that is derived for the next period is not meant.
    fn is_ahead(&self, key: &Key, now: u64) -> bool {
        key.seals_until.saturating_sub(now) > self.period_secs.saturating_mul(2)
            || key.is_random && key.seals_until.saturating_sub(now) > self.period_secs
    }

    fn seal(&self, scope: ScopeId, session: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys_at(secs(&*self.clock)?).ok()?;
        let Key { name, key, .. } = &*keys.current;
        if session.len() + KEY_NAME_BYTES + NONCE_LEN + TAG_BYTES > TICKET_BYTES_MAX {
            return None;
        }
        let mut sealed = Zeroizing::new(Vec::with_capacity(session.len() + TAG_BYTES));
        sealed.extend_from_slice(session);
        let nonce = key
            .seal_in_place_append_tag(associated(scope, name), &mut *sealed)
            .ok()?;
        Some([&name[..], nonce.as_ref(), &sealed[..]].concat())
    }

    fn open(&self, scope: ScopeId, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let now = secs(&*self.clock)?;
        let keys = self.keys_at(now).ok()?;
        let (name, rest) = ticket.split_first_chunk::<KEY_NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = std::iter::once(&keys.current)
            .chain(&keys.others)
            .find(|key| key.name == *name && now < key.opens_until)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key
            .key
            .open_in_place(nonce, associated(scope, name), &mut sealed);
        let session_bytes = opened.ok()?.len();
        sealed.truncate(session_bytes);
        Some(sealed)
    }
}

impl Key {
    fn new(now: u64, period_secs: u64) -> Result<Self, Error> {
        let mut name = [0; KEY_NAME_BYTES];
        rand::fill(&mut name).map_err(|_| Error::NoRandomness)?;
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(&mut *key).map_err(|_| Error::NoRandomness)?;
        let seals_until = now.saturating_add(period_secs);
        Ok(Self::from_bytes(name, &key, seals_until, period_secs, true))
    }

    /// The key of a period that every gateway with the secret has.
    fn derived(secret: &Secret, period: u64, period_secs: u64) -> Result<Self, Error> {
        let name = secret.derive::<KEY_NAME_BYTES>("name", period)?;
        let key = secret.derive::<32>("key", period)?;
        let seals_until = period.saturating_add(1).saturating_mul(period_secs);
        Ok(Self::from_bytes(
            *name,
            &key,
            seals_until,
            period_secs,
            false,
        ))
    }

    fn from_bytes(
        name: [u8; KEY_NAME_BYTES],
        key: &[u8; 32],
        seals_until: u64,
        period_secs: u64,
        is_random: bool,
    ) -> Self {
        let key =
            RandomizedNonceKey::new(&AES_256_GCM_SIV, key).expect("32 bytes are a key of AES-256");
        Self {
            name,
            key,
            seals_until,
            opens_until: seals_until.saturating_add(period_secs),
            is_random,
        }
    }
}

/// What a ticket is bound to besides its content: both parts have one length, so no two pairs
/// look alike.
fn associated(scope: ScopeId, name: &[u8; KEY_NAME_BYTES]) -> Aad<[u8; 32 + KEY_NAME_BYTES]> {
    let mut bound = [0; 32 + KEY_NAME_BYTES];
    let (to_scope, to_name) = bound.split_at_mut(32);
    to_scope.copy_from_slice(&scope.0);
    to_name.copy_from_slice(name);
    Aad::from(bound)
}

/// The tickets of one policy.
#[derive(Debug)]
pub(super) struct ScopedTickets {
    keys: Arc<TicketKeys>,
    scope: ScopeId,
}

impl ScopedTickets {
    pub(super) fn new(keys: Arc<TicketKeys>, scope: ScopeId) -> Self {
        Self { keys, scope }
    }
}

impl ProducesTickets for ScopedTickets {
    fn enabled(&self) -> bool {
        true
    }

    /// For how long a ticket may be read: as long as one made with a key on its first day. One
    /// made later is read for less, and its client then shakes hands in full, no worse than if it
    /// had thrown the ticket away earlier.
    fn lifetime(&self) -> u32 {
        u32::try_from(self.keys.period_secs.saturating_mul(2)).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(self.scope, session)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(self.scope, ticket)
    }
}

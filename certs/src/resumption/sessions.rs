//! Sessions remembered for TLS 1.2 clients that send a session id and know no tickets, and where
//! early data is allowed, for everybody: what is taken from here can be used once.
//!
//! Part of the life of a request, for few clients: one short lock per full handshake of TLS 1.2.
//! It is split so that workers seldom meet.

use std::fmt;
use std::sync::Arc;

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use rustls::time_provider::TimeProvider;

use super::{ScopeId, secs};

/// Parts of the memory, each with a lock of its own.
const PARTS: usize = 16;

const TIME_BYTES: usize = 8;

/// The sessions of all policies. The number is bounded; the oldest give way.
pub(super) struct SessionMemory {
    parts: Vec<Arc<ServerSessionMemoryCache>>,
    lifetime_secs: u64,
    clock: Arc<dyn TimeProvider>,
}

impl SessionMemory {
    pub(super) fn new(
        sessions_max: usize,
        lifetime_secs: u64,
        clock: Arc<dyn TimeProvider>,
    ) -> Self {
        let part = || ServerSessionMemoryCache::new(sessions_max.div_ceil(PARTS));
        Self {
            parts: std::iter::repeat_with(part).take(PARTS).collect(),
            lifetime_secs,
            clock,
        }
    }

    /// The part for a session id. Ids are random, of our own making; what a client invents only
    /// decides where it is not found.
    fn part(&self, id: &[u8]) -> Option<&ServerSessionMemoryCache> {
        let last = usize::from(*id.last()?);
        self.parts.get(last % PARTS).map(|part| &**part)
    }

    fn put(&self, scope: ScopeId, id: &[u8], session: &[u8]) -> bool {
        let (Some(part), Some(now)) = (self.part(id), secs(&*self.clock)) else {
            return false;
        };
        part.put(key(scope, id), [&now.to_be_bytes(), session].concat())
    }

    fn get(&self, scope: ScopeId, id: &[u8]) -> Option<Vec<u8>> {
        self.still_valid(self.part(id)?.get(&key(scope, id))?)
    }

    fn take(&self, scope: ScopeId, id: &[u8]) -> Option<Vec<u8>> {
        self.still_valid(self.part(id)?.take(&key(scope, id))?)
    }

    fn still_valid(&self, mut stored: Vec<u8>) -> Option<Vec<u8>> {
        let made = u64::from_be_bytes(*stored.first_chunk::<TIME_BYTES>()?);
        let now = secs(&*self.clock)?;
        // A session from the future means that the clock was put back: its age is unknown.
        if made > now || now - made >= self.lifetime_secs {
            return None;
        }
        stored.drain(..TIME_BYTES);
        Some(stored)
    }
}

impl fmt::Debug for SessionMemory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SessionMemory").finish_non_exhaustive()
    }
}

/// Ids of different policies never meet: the scope has a fixed length and stands first.
fn key(scope: ScopeId, id: &[u8]) -> Vec<u8> {
    [&scope.0, id].concat()
}

/// The remembered sessions of one policy.
#[derive(Debug)]
pub(super) struct ScopedSessions {
    memory: Arc<SessionMemory>,
    scope: ScopeId,
}

impl ScopedSessions {
    pub(super) fn new(memory: Arc<SessionMemory>, scope: ScopeId) -> Self {
        Self { memory, scope }
    }
}

impl StoresServerSessions for ScopedSessions {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        self.memory.put(self.scope, &id, &session)
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.memory.get(self.scope, id)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.memory.take(self.scope, id)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

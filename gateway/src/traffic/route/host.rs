//! From a host to whoever claims it: the host itself, else the longest wildcard, else the default.
//! It is the first lookup in the life of a request, and decides whose rules apply to the rest.
//!
//! A wildcard `*.example.com` takes names of any depth below `example.com`, as in the Gateway API,
//! and not `example.com` itself. Case does not matter, nor does one final dot.
//!
//! A lookup is one hash of the host and one of each suffix that could be a wildcard's, so it costs
//! the same with ten thousand hosts as with one. Names lie packed in one block of bytes: a host
//! costs its length and about 20 bytes.
//!
//! Must not: allocate or copy to find a host, or compare with case, however many hosts there are.

use std::hash::{BuildHasher, RandomState};

use cardea_config::model::HostPattern;

/// The longest host that is looked up. DNS has none beyond 253 bytes (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// Who claims which host. Targets are indices that mean something to whoever compiled the table.
#[derive(Debug, Default)]
pub struct HostTable {
    /// Keeps those who choose host names from choosing where they lie in the table.
    seed: u64,
    exact: Names,
    /// By what follows `*.`.
    wildcard: Names,
    default: Option<u32>,
}

/// The claim that a host falls under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'t> {
    /// Whose it is.
    pub target: u32,
    /// By which rule.
    pub rule: HostRule<'t>,
}

/// How a host is claimed, the strongest claim first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRule<'t> {
    /// The host itself.
    Exact(&'t str),
    /// `*.` and this.
    Wildcard(&'t str),
    /// Nobody claims the host; the default takes it.
    Default,
}

impl HostTable {
    /// Compiles claims and the target of hosts that nobody claims. Of two equal claims the first
    /// stands.
    pub fn compile<'p>(
        claims: impl IntoIterator<Item = (&'p HostPattern, u32)>,
        default: Option<u32>,
    ) -> Self {
        let seed = RandomState::new().hash_one(0);
        let (mut exact, mut wildcard) = (Vec::new(), Vec::new());
        for (pattern, target) in claims {
            match pattern.suffix() {
                Some(suffix) => wildcard.push((suffix, target)),
                None => exact.push((pattern.as_str(), target)),
            }
        }
        Self {
            seed,
            exact: Names::compile(seed, &exact),
            wildcard: Names::compile(seed, &wildcard),
            default,
        }
    }

    /// Who takes a host, given without its port.
    #[inline]
    pub fn find(&self, host: &[u8]) -> Option<u32> {
        self.claimed(host).or(self.default)
    }

    /// Who claims a host by name, the default left aside.
    #[inline]
    pub fn claimed(&self, host: &[u8]) -> Option<u32> {
        self.search(host).map(|(entry, _)| entry.target)
    }

    /// Who takes a host, and by which rule.
    pub fn claim(&self, host: &[u8]) -> Option<Claim<'_>> {
        let default = |target| Claim {
            target,
            rule: HostRule::Default,
        };
        match self.search(host) {
            Some((entry, is_exact)) => Some(Claim {
                target: entry.target,
                rule: entry.rule(is_exact),
            }),
            None => self.default.map(default),
        }
    }

    /// The entry that a host falls under, and whether it is of the host itself.
    fn search(&self, host: &[u8]) -> Option<(Entry<'_>, bool)> {
        // A name with a final dot is the same name (RFC 3986 section 3.2.2).
        let host = host.strip_suffix(b".").unwrap_or(host);
        if host.len() > HOST_BYTES_MAX {
            return None;
        }
        if let Some(entry) = self.exact.find(self.seed, host) {
            return Some((entry, true));
        }
        let entry = suffixes(host).find_map(|suffix| self.wildcard.find(self.seed, suffix))?;
        Some((entry, false))
    }
}

/// What lies behind each dot that has something before it, the longest first.
fn suffixes(host: &[u8]) -> impl Iterator<Item = &[u8]> {
    memchr::memchr_iter(b'.', host)
        .filter(|dot| *dot > 0)
        .filter_map(|dot| host.get(dot + 1..))
}

/// The hash of a name, whatever its case: eight bytes at a time, folded by multiplication.
#[inline]
fn hash(seed: u64, name: &[u8]) -> u64 {
    // Sets the bit that tells cases apart. Other bytes may become alike too; comparing tells.
    const LOWER: u64 = u64::MAX / 255 * 0x20;
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ (word | LOWER)) * 0x9e37_79b9_7f4a_7c15;
        (product >> 64) as u64 ^ product as u64
    };
    let start = seed ^ name.len() as u64;
    match name.last_chunk() {
        // The last word overlaps the one before where the length is no multiple of eight.
        Some(last) => {
            let (words, _) = name.as_chunks();
            let words = words.iter().chain([last]);
            words.fold(start, |hash, word| fold(hash, u64::from_le_bytes(*word)))
        }
        None => {
            let word = name
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            fold(start, word)
        }
    }
}

/// A hash table with open addressing over names packed into one block.
#[derive(Debug, Default)]
struct Names {
    /// A power of two of them, at most three quarters taken; none at all for no names.
    slots: Box<[Slot]>,
    /// For each name its target, its length and itself.
    packed: Box<[u8]>,
    /// Bytes of the longest name. Nothing longer is hashed.
    longest: usize,
}

/// A place in the table. The tag spares a look at most names that are others.
#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
    /// Where the name lies in the block; [`Slot::FREE`] for none.
    at: u32,
}

impl Slot {
    const FREE: u32 = u32::MAX;
}

/// A name in the table.
#[derive(Debug, Clone, Copy)]
struct Entry<'t> {
    target: u32,
    name: &'t [u8],
}

impl<'t> Entry<'t> {
    fn rule(self, is_exact: bool) -> HostRule<'t> {
        let name = str::from_utf8(self.name).expect("names were packed from text");
        match is_exact {
            true => HostRule::Exact(name),
            false => HostRule::Wildcard(name),
        }
    }
}

impl Names {
    fn compile(seed: u64, names: &[(&str, u32)]) -> Self {
        if names.is_empty() {
            return Self::default();
        }
        let free = Slot {
            tag: 0,
            at: Slot::FREE,
        };
        let count = (names.len() + names.len() / 3 + 1).next_power_of_two();
        let mut table = Self {
            slots: vec![free; count].into(),
            packed: Box::default(),
            longest: names.iter().map(|(name, _)| name.len()).max().unwrap_or(0),
        };
        let mut packed = Vec::with_capacity(names.iter().map(|(name, _)| name.len() + 5).sum());
        for (name, target) in names {
            let hash = hash(seed, name.as_bytes());
            let at = u32::try_from(packed.len()).expect("a document's hosts are far below 4 GiB");
            let length = u8::try_from(name.len()).expect("a host pattern has at most 255 bytes");
            let Some(slot) = table.free_slot(hash, name.as_bytes(), &packed) else {
                continue;
            };
            *slot = Slot { tag: tag(hash), at };
            packed.extend_from_slice(&target.to_le_bytes());
            packed.push(length);
            packed.extend_from_slice(name.as_bytes());
        }
        table.packed = packed.into();
        table
    }

    /// The slot for a new name; none if it is in the table.
    fn free_slot(&mut self, hash: u64, name: &[u8], packed: &[u8]) -> Option<&mut Slot> {
        let mut at = self.first(hash);
        loop {
            let slot = *self.slots.get(at)?;
            if slot.at == Slot::FREE {
                return self.slots.get_mut(at);
            }
            if slot.tag == tag(hash) && entry(packed, slot.at)?.name == name {
                return None;
            }
            at = self.after(at);
        }
    }

    #[inline]
    fn find(&self, seed: u64, name: &[u8]) -> Option<Entry<'_>> {
        if name.len() > self.longest {
            return None;
        }
        let hash = hash(seed, name);
        let mut at = self.first(hash);
        // Ends at a free slot, of which there always is one; without names there is none to get.
        loop {
            let slot = self.slots.get(at)?;
            if slot.at == Slot::FREE {
                return None;
            }
            if slot.tag == tag(hash) {
                let entry = entry(&self.packed, slot.at)?;
                // Clients write hosts in lower case, and comparing bytes is the cheaper look.
                if entry.name == name || entry.name.eq_ignore_ascii_case(name) {
                    return Some(entry);
                }
            }
            at = self.after(at);
        }
    }

    /// The slot where the search for a hash begins.
    fn first(&self, hash: u64) -> usize {
        (hash >> 32) as usize & self.slots.len().wrapping_sub(1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & self.slots.len().wrapping_sub(1)
    }
}

fn tag(hash: u64) -> u32 {
    hash as u32
}

fn entry(packed: &[u8], at: u32) -> Option<Entry<'_>> {
    let (target, rest) = packed.get(at as usize..)?.split_first_chunk()?;
    let (length, rest) = rest.split_first()?;
    Some(Entry {
        target: u32::from_le_bytes(*target),
        name: rest.get(..usize::from(*length))?,
    })
}

#[cfg(test)]
mod tests;

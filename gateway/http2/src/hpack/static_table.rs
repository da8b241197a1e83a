//! The static table (RFC 7541 appendix A), by index for the decoder and by name for the encoder.

/// A field of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: &'static [u8],
    pub(super) value: &'static [u8],
}

/// What the table has of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Name and value, at this index.
    Field(u8),
    /// The name, at this index and perhaps at others.
    Name(u8),
}

/// The entry of an index. Indices begin with 1.
#[inline]
pub(super) fn entry(index: u32) -> Option<&'static Entry> {
    ENTRIES.get((index as usize).wrapping_sub(1))
}

/// Looks for a field whose name may be in any case.
///
/// One multiplication finds the only candidate, one comparison settles it.
#[inline]
pub(super) fn find(name: &[u8], value: &[u8]) -> Option<Found> {
    let (&first, &last) = (name.first()?, name.last()?);
    // A vacant slot leads to index 0, where there is no entry.
    let index = *SLOTS.get(slot(first, last, name.len(), SEED))?;
    let candidate = entry(u32::from(index))?;
    if !candidate.name.eq_ignore_ascii_case(name) {
        return None;
    }
    let same_name = ENTRIES.iter().skip(usize::from(index) - 1);
    let same_name = same_name.take_while(|entry| entry.name == candidate.name);
    for (entry, index) in same_name.zip(index..) {
        if entry.value == value {
            return Some(Found::Field(index));
        }
    }
    Some(Found::Name(index))
}

/// The index of the last entry; the dynamic table goes on from there (RFC 7541 section 2.3.3).
pub(super) const INDEX_MAX: u32 = ENTRIES.len() as u32;

/// A power of two; large enough to find a seed without collisions at once.
const SLOT_BITS: u32 = 9;

static SLOTS: [u8; 1 << SLOT_BITS] = match slots(SEED) {
    Some(slots) => slots,
    None => panic!("the seed was tried"),
};
/// Found at compile time.
const SEED: u32 = find_seed();

/// No two names of the table have the same length and begin and end alike.
#[inline(always)]
const fn slot(first: u8, last: u8, length: usize, seed: u32) -> usize {
    // Folds the case of letters, and leaves the colon as it is.
    const LOWER: u8 = 0x20;
    let mixed = (first | LOWER) as u32 | ((last | LOWER) as u32) << 8 | (length as u32) << 16;
    (mixed.wrapping_mul(seed) >> (32 - SLOT_BITS)) as usize
}

/// The index of each name's first entry at its slot, unless two names share one.
const fn slots(seed: u32) -> Option<[u8; 1 << SLOT_BITS]> {
    let mut slots = [0; 1 << SLOT_BITS];
    let mut index = 1;
    while index <= ENTRIES.len() {
        let name = ENTRIES[index - 1].name;
        let at = slot(name[0], name[name.len() - 1], name.len(), seed);
        if slots[at] == 0 {
            slots[at] = index as u8;
        } else if !same(ENTRIES[slots[at] as usize - 1].name, name) {
            return None;
        }
        index += 1;
    }
    Some(slots)
}

const fn find_seed() -> u32 {
    // Odd numbers with many bits, from the golden ratio on.
    let mut seed = 0x9e37_79b9_u32;
    while slots(seed).is_none() {
        seed = seed.wrapping_mul(0x915f_77f5) | 1;
    }
    seed
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

const fn field(name: &'static str, value: &'static str) -> Entry {
    Entry {
        name: name.as_bytes(),
        value: value.as_bytes(),
    }
}

const fn name(name: &'static str) -> Entry {
    field(name, "")
}

/// Entries of one name are neighbours.
static ENTRIES: [Entry; 61] = [
    name(":authority"),
    field(":method", "GET"),
    field(":method", "POST"),
    field(":path", "/"),
    field(":path", "/index.html"),
    field(":scheme", "http"),
    field(":scheme", "https"),
    field(":status", "200"),
    field(":status", "204"),
    field(":status", "206"),
    field(":status", "304"),
    field(":status", "400"),
    field(":status", "404"),
    field(":status", "500"),
    name("accept-charset"),
    field("accept-encoding", "gzip, deflate"),
    name("accept-language"),
    name("accept-ranges"),
    name("accept"),
    name("access-control-allow-origin"),
    name("age"),
    name("allow"),
    name("authorization"),
    name("cache-control"),
    name("content-disposition"),
    name("content-encoding"),
    name("content-language"),
    name("content-length"),
    name("content-location"),
    name("content-range"),
    name("content-type"),
    name("cookie"),
    name("date"),
    name("etag"),
    name("expect"),
    name("expires"),
    name("from"),
    name("host"),
    name("if-match"),
    name("if-modified-since"),
    name("if-none-match"),
    name("if-range"),
    name("if-unmodified-since"),
    name("last-modified"),
    name("link"),
    name("location"),
    name("max-forwards"),
    name("proxy-authenticate"),
    name("proxy-authorization"),
    name("range"),
    name("referer"),
    name("refresh"),
    name("retry-after"),
    name("server"),
    name("set-cookie"),
    name("strict-transport-security"),
    name("transfer-encoding"),
    name("user-agent"),
    name("vary"),
    name("via"),
    name("www-authenticate"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_those_of_the_appendix() {
        for (index, name, value) in [
            (1, ":authority", ""),
            (2, ":method", "GET"),
            (14, ":status", "500"),
            (15, "accept-charset", ""),
            (16, "accept-encoding", "gzip, deflate"),
            (31, "content-type", ""),
            (46, "location", ""),
            (61, "www-authenticate", ""),
        ] {
            let entry = entry(index).expect("within the table");
            assert_eq!(
                (entry.name, entry.value),
                (name.as_bytes(), value.as_bytes())
            );
        }
        assert!(entry(0).is_none());
        assert!(entry(INDEX_MAX + 1).is_none());
    }

    #[test]
    fn every_entry_is_found_in_any_case() {
        for index in 1..=INDEX_MAX {
            let Entry { name, value } = *entry(index).expect("within the table");
            let exact = Some(Found::Field(index as u8));
            assert_eq!(find(name, value), exact, "{}", name.escape_ascii());
            assert_eq!(find(&name.to_ascii_uppercase(), value), exact);
            let Some(Found::Name(index)) = find(name, b"another") else {
                panic!("{} is not found", name.escape_ascii());
            };
            let first = entry(u32::from(index)).expect("within the table");
            assert_eq!(first.name, name);
        }
    }

    #[test]
    fn names_of_one_run_have_its_first_index() {
        assert_eq!(find(b":status", b"201"), Some(Found::Name(8)));
        assert_eq!(find(b":path", b"/a"), Some(Found::Name(4)));
    }

    #[test]
    fn other_names_are_not_found() {
        for name in [
            "",
            "a",
            "accepts",
            "content-xxxx",
            ":",
            "\x1astatus",
            "x-host",
            "agE ",
        ] {
            assert_eq!(find(name.as_bytes(), b""), None, "{name:?}");
        }
        for index in 1..=INDEX_MAX {
            let name = entry(index).expect("within the table").name;
            for at in 0..name.len() {
                let mut other = name.to_vec();
                other[at] ^= 0x41;
                assert_eq!(find(&other, b""), None, "{}", other.escape_ascii());
            }
        }
    }
}

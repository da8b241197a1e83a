//! From a host to whoever claims it: exact hosts first, then the longest wildcard, then the
//! default. A wildcard `*.example.com` takes names of any depth below `example.com`, as in the
//! Gateway API, and not `example.com` itself.
//!
//! Must not: grow slower with more hosts. A lookup is one hash per label at most.

use std::collections::HashMap;

/// Claims of hosts.
#[derive(Debug, Default, Clone)]
pub struct HostTable {
    exact: HashMap<Box<[u8]>, u32>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<[u8]>, u32>,
    default: Option<u32>,
}

impl HostTable {
    /// Adds a pattern in lower case: a host, or `*.` and a suffix. The first claim stands.
    pub fn insert(&mut self, pattern: &str, target: u32) {
        match pattern.strip_prefix("*.") {
            Some(suffix) => self
                .wildcard
                .entry(suffix.as_bytes().into())
                .or_insert(target),
            None => self
                .exact
                .entry(pattern.as_bytes().into())
                .or_insert(target),
        };
    }

    /// Sets who takes hosts that nobody claims.
    pub fn set_default(&mut self, target: u32) {
        self.default.get_or_insert(target);
    }

    /// Who takes a host, given in lower case and without its port.
    pub fn find(&self, host: &[u8]) -> Option<u32> {
        self.claimed(host).or(self.default)
    }

    /// Who claims a host by name, the default left aside.
    pub fn claimed(&self, host: &[u8]) -> Option<u32> {
        // A trailing dot names the same host (RFC 3986 §3.2.2).
        let host = host.strip_suffix(b".").unwrap_or(host);
        if let Some(target) = self.exact.get(host) {
            return Some(*target);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some(dot) = memchr::memchr(b'.', rest) {
            let is_label = dot > 0;
            rest = rest.get(dot + 1..).unwrap_or_default();
            if is_label && let Some(target) = self.wildcard.get(rest) {
                return Some(*target);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_beats_wildcard_beats_default() {
        let mut table = HostTable::default();
        for (target, pattern) in [
            "example.com",
            "*.example.com",
            "a.example.com",
            "*.b.example.com",
        ]
        .iter()
        .enumerate()
        {
            table.insert(pattern, target as u32);
        }
        let check = |host: &str, expected: Option<u32>| {
            assert_eq!(table.find(host.as_bytes()), expected, "{host}");
        };
        check("example.com", Some(0));
        check("example.com.", Some(0));
        check("x.example.com", Some(1));
        check("x.y.example.com", Some(1));
        check("a.example.com", Some(2));
        check("x.a.example.com", Some(1));
        check("x.b.example.com", Some(3));
        check("b.example.com", Some(1));
        check(".example.com", None);
        check("xexample.com", None);
        check("other.org", None);
        check("", None);
        table.set_default(9);
        assert_eq!(table.find(b"other.org"), Some(9));
        assert_eq!(table.claimed(b"other.org"), None);
    }
}

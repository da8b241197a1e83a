//! Patterns of names: text in which each `*` stands for any run of characters.
//!
//! Must not: cost more than the length of the name times that of the pattern, whatever either
//! holds: what is matched comes from clients.

/// A pattern of names. Without `*` it is the name itself. Case matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// A pattern; every text is one.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether the whole of a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let Some(last) = pieces.next_back() else {
            return rest.is_empty();
        };
        // Between two stars the earliest place is as good as any.
        for piece in pieces {
            let Some((_, behind)) = rest.split_once(piece) else {
                return false;
            };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plainest way to match, at any cost.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| naive(rest, &name[at..])),
            ([one, rest @ ..], [other, name @ ..]) => one == other && naive(rest, name),
            _ => false,
        }
    }

    #[test]
    fn a_star_is_any_run_of_characters() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(
                Pattern::new(pattern).matches(name),
                expected,
                "{pattern} {name}"
            );
        };
        check("a.example", "a.example", true);
        check("a.example", "a.example.evil", false);
        check("*.example", "a.b.example", true);
        check("*.example", ".example", true);
        check("*.example", "example", false);
        check("spiffe://x/ns/*/sa/web", "spiffe://x/ns/prod/sa/web", true);
        check(
            "spiffe://x/ns/*/sa/web",
            "spiffe://x/ns/prod/sa/webs",
            false,
        );
        check("ab*ba", "aba", false);
        check("*", "", true);
        check("", "", true);
        check("", "a", false);
    }

    proptest! {
        #[test]
        fn agrees_with_the_plainest_matcher(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            let expected = naive(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(Pattern::new(&pattern).matches(&name), expected);
        }
    }
}

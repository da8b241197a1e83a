//! Regular expressions over paths and values: matched as a whole, in time linear to what they are
//! matched against, over bytes.
//!
//! Bytes, because neither header fields nor decoded query parameters have to be UTF-8: where `.`
//! means a character, a byte that is part of none slips past an expression that was meant to take
//! everything (CVE-2026-73552). So `.` is any byte, and `\w`, `\d` and `(?i)` are about ASCII.
//!
//! Must not: let a pattern say how it is anchored, or grow without a limit.

use regex::bytes::{Regex, RegexBuilder};

/// The size of a compiled pattern, bytes. Repetitions such as `(a{1000}){1000}` reach it.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Memory for one worker's matching of one pattern, bytes. Beyond, matching is slower and still
/// linear.
const PATTERN_CACHE_BYTES_MAX: usize = 256 * 1024;

/// A regular expression for the whole of something.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    regex: Regex,
    text: Box<str>,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn compile(text: &str) -> Result<Self, regex::Error> {
        // By itself first: what only becomes an expression between the anchors, such as `a)|(b`,
        // is none, and would not be anchored.
        build(text)?;
        // With `(?x)` it may end in a comment, which only a line break ends.
        let regex = build(&format!(r"\A(?:{text})\z"))
            .or_else(|_| build(&format!("\\A(?:{text}\n)\\z")))?;
        Ok(Self {
            regex,
            text: text.into(),
        })
    }

    /// Whether all of it matches.
    #[inline]
    pub(super) fn is_match(&self, bytes: &[u8]) -> bool {
        self.regex.is_match(bytes)
    }

    /// The pattern as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

fn build(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_CACHE_BYTES_MAX)
        .build()
}

/// What is wrong with a pattern, in one line.
pub(super) fn describe(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => {
            format!("compiled, it is larger than {PATTERN_BYTES_MAX} bytes; repeat less")
        }
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_the_whole() {
        let check = |pattern: &str, bytes: &[u8], expected: bool| {
            let found = Pattern::compile(pattern)
                .expect("a pattern")
                .is_match(bytes);
            assert_eq!(found, expected, "{pattern} {}", bytes.escape_ascii());
        };
        check("/a|/b", b"/a", true);
        check("/a|/b", b"/ab", false);
        check("a|ab", b"ab", true);
        check("", b"", true);
        check("", b"a", false);
        check("^/a$", b"/a", true);
        check("/a", b"/a\n", false);
        check("(?i)/Admin/.*", b"/aDMIN/x", true);
        check("(?m)^a$", b"b\na", false);
        check("(?x) a | b # either )", b"b", true);
        check("(?x) a | b # either )", b"bc", false);
        check("é", "é".as_bytes(), true);
        // CVE-2026-73552: everything means every byte.
        check(".*", b"\xff\xfe", true);
        check("a.*", b"a\n\x80\r", true);
        check(r"\w+", "é".as_bytes(), false);
    }

    #[test]
    fn bad_patterns_say_why() {
        let check = |pattern: &str, expected: &str| {
            let error = Pattern::compile(pattern).expect_err(pattern);
            assert_eq!(describe(&error), expected, "{pattern}");
        };
        check("(", "unclosed group");
        check("a)|(?:b", "unopened group");
        check("[é]", "Unicode not allowed here");
        check(r"\p{Greek}", "Unicode not allowed here");
        check(
            "(?=a)",
            "look-around, including look-ahead and look-behind, is not supported",
        );
        check(r"(a)\1", "backreferences are not supported");
        check(
            "((a{100}){100}){100}",
            "compiled, it is larger than 262144 bytes; repeat less",
        );
    }
}

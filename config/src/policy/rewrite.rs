//! Settings of `rewrite`, and the path rewrites that `redirect` shares.
//!
//! Must not: allow a pattern that takes more than linear time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::text::{self, Authority, NewPath, NewPrefix, Pattern, Sound};

crate::model::section! {
    /// What the upstream is asked for instead.
    pub struct Rewrite {
        /// The path.
        pub path: Option<PathRewrite> = None,
        /// The host, with a port or without.
        #[serde(deserialize_with = "text::maybe::<Authority, _>")]
        pub host: Option<String> = None,
    }
}

/// How a path becomes another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathRewrite {
    /// The prefix that the route matched becomes this one: of `/api/x` matched by `/api`, `/v2`
    /// makes `/v2/x` and `/` makes `/x`.
    ReplacePrefix(#[serde(deserialize_with = "text::one::<NewPrefix, _>")] String),
    /// The whole path becomes this one.
    ReplaceFull(#[serde(deserialize_with = "text::one::<NewPath, _>")] String),
    /// Whatever matches the pattern is replaced.
    Regex(PatternRewrite),
}

/// A pattern and what stands in place of its matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatternRewrite {
    /// A regular expression, in linear time.
    #[serde(deserialize_with = "text::one::<Pattern, _>")]
    pub pattern: String,
    /// What stands in place of a match: `$1` and `${name}` are its captures.
    pub replacement: String,
}

impl Sound for Rewrite {
    fn check(&self) -> Result<(), String> {
        if self.path.is_none() && self.host.is_none() {
            return Err(
                "a rewrite that changes nothing\nset `path` or `host`, or take it out".into(),
            );
        }
        self.path.check()
    }
}

impl Sound for PathRewrite {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Regex(rewrite) => rewrite.check(),
            Self::ReplacePrefix(_) | Self::ReplaceFull(_) => Ok(()),
        }
    }
}

impl Sound for PatternRewrite {
    /// Every capture that the replacement asks for has to be in the pattern: what is not would
    /// silently be nothing, and `$1st` asks for a capture named `1st`.
    fn check(&self) -> Result<(), String> {
        let Ok(pattern) = regex::bytes::Regex::new(&self.pattern) else {
            // The pattern was refused by itself.
            return Ok(());
        };
        for name in captures(&self.replacement) {
            let is_there = match name.parse::<usize>() {
                Ok(number) => number < pattern.captures_len(),
                Err(_) => pattern.capture_names().flatten().any(|other| other == name),
            };
            if !is_there {
                return Err(format!(
                    "the pattern has no group `{name}`, which the replacement asks for\nwrite `${{1}}` where letters or digits follow, and `$$` for a `$`"
                ));
            }
        }
        Ok(())
    }
}

/// The captures that a replacement asks for: `$name` as long as the name may be, or `${name}`.
fn captures(replacement: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = replacement;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(escaped) = after.strip_prefix('$') {
            rest = escaped;
            continue;
        }
        let (name, next) = match after
            .strip_prefix('{')
            .and_then(|braced| braced.split_once('}'))
        {
            Some(braced) => braced,
            None => {
                let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                let end = after.find(|letter| !is_part(letter)).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        if !name.is_empty() {
            names.push(name);
        }
        rest = next;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_ask_for_groups_there_are() {
        let check = |pattern: &str, replacement: &str, expected: bool| {
            let rewrite = PatternRewrite {
                pattern: pattern.to_owned(),
                replacement: replacement.to_owned(),
            };
            assert_eq!(rewrite.check().is_ok(), expected, "{pattern} {replacement}");
        };
        check("^/(.*)$", "/x/$1", true);
        check("^/(.*)$", "/x/$0", true);
        check("^/(.*)$", "/x/$2", false);
        check("^/(.*)$", "/$1st", false);
        check("^/(.*)$", "/${1}st", true);
        check("^/(?P<rest>.*)$", "/$rest/${rest}", true);
        check("^/(?P<rest>.*)$", "/$other", false);
        check("^/$", "/$$1", true);
        check("^/$", "/costs-5$", true);
        check("^/$", "/${", true);
        check("^/$", "/${x", true);
    }
}

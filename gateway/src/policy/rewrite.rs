//! Rewriting what the upstream is asked for: the path by prefix, whole, or by regular expression,
//! and the host. It also serves `redirect`, which builds a location from the same pieces.
//!
//! Must not: produce a path that is not normalised; what a rewrite makes is normalised again, so
//! that a capture cannot smuggle `..` past the route that allowed it.

use cardea_config::policy::PathRewrite as Settings;
use regex::bytes::Regex;

use super::{Levels, Verdict};
use crate::traffic::exchange::Exchange;
use crate::traffic::respond::{Reason, Reply, Response};
use crate::traffic::route::normalise;

/// The compiled policy.
#[derive(Debug)]
pub struct Rewrite {
    path: Option<PathRewrite>,
    host: Option<Box<str>>,
}

/// How a path becomes another.
#[derive(Debug)]
pub enum PathRewrite {
    /// The prefix that the route matched is replaced by this one.
    Prefix {
        /// What the route's longest matching prefix is.
        matched: Box<[Box<str>]>,
        /// What stands in its place.
        with: Box<str>,
    },
    /// The whole path is replaced.
    Full(Box<str>),
    /// Every part that matches is replaced; `$1` and `${name}` stand for captures.
    Pattern {
        /// What is looked for, in linear time.
        pattern: Regex,
        /// What stands in its place.
        replacement: Box<[u8]>,
    },
}

impl Rewrite {
    /// The most specific level's.
    pub fn compile(levels: &mut Levels<'_>) -> Option<Self> {
        let settings = levels.most_specific(|level| level.rewrite.as_deref())?;
        Some(Self {
            path: settings
                .path
                .as_ref()
                .and_then(|path| PathRewrite::compile(path, levels)),
            host: settings.host.as_deref().map(Into::into),
        })
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        format!("path {:?}, host {:?}", self.path, self.host)
    }

    /// Rewrites.
    pub fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
        if let Some(path) = &self.path {
            let rewritten = path.apply(&exchange.request.path);
            let request = &mut *exchange.request;
            normalise(&rewritten, &exchange.listener.paths, &mut request.path).map_err(
                |error| {
                    Reply::with_detail(Reason::PathInvalid, format!("The rewritten path: {error}."))
                },
            )?;
        }
        if let Some(host) = &self.host {
            exchange.request.host_forwarded = Some(host.clone());
        }
        Ok(())
    }

    /// Nothing to do.
    pub fn on_response(&self, _: &Exchange<'_>, _: &mut Response) {}
}

impl PathRewrite {
    /// Compiles a rewrite; none, and a refusal, if it is no expression.
    pub(super) fn compile(settings: &Settings, levels: &mut Levels<'_>) -> Option<Self> {
        Some(match settings {
            Settings::ReplaceFull(path) => Self::Full(path.as_str().into()),
            Settings::ReplacePrefix(with) => Self::Prefix {
                matched: levels.prefixes(),
                with: with.as_str().into(),
            },
            Settings::Regex(settings) => match Regex::new(&settings.pattern) {
                Ok(pattern) => Self::Pattern {
                    pattern,
                    replacement: settings.replacement.as_bytes().into(),
                },
                Err(error) => {
                    levels.refuse("E-rewrite", "a rewrite cannot be compiled", &error);
                    return None;
                }
            },
        })
    }

    /// The path that a normalised path becomes.
    pub fn apply(&self, path: &[u8]) -> Vec<u8> {
        match self {
            Self::Prefix { matched, with } => replace_prefix(path, matched, with),
            Self::Full(full) => full.as_bytes().to_vec(),
            Self::Pattern {
                pattern,
                replacement,
            } => {
                let replaced = pattern.replace_all(path, &**replacement);
                if replaced.starts_with(b"/") {
                    replaced.into_owned()
                } else {
                    [b"/", replaced.as_ref()].concat()
                }
            }
        }
    }
}

/// Replaces the longest of the route's prefixes that the path has, by whole segments: `/api` in
/// `/api/x` by `/` gives `/x`, by `/v2` gives `/v2/x` (Gateway API, ReplacePrefixMatch).
fn replace_prefix(path: &[u8], matched: &[Box<str>], with: &str) -> Vec<u8> {
    let rest = matched
        .iter()
        .filter_map(|prefix| segments_after(path, prefix.trim_end_matches('/').as_bytes()))
        .min_by_key(|rest| rest.len());
    let Some(rest) = rest else {
        return path.to_vec();
    };
    let with = with.trim_end_matches('/').as_bytes();
    let joined = [with, rest].concat();
    if joined.is_empty() {
        b"/".to_vec()
    } else {
        joined
    }
}

fn segments_after<'p>(path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_by_whole_segments() {
        let check = |path: &str, prefix: &str, with: &str, expected: &str| {
            let matched = [Box::from(prefix)];
            let found = replace_prefix(path.as_bytes(), &matched, with);
            assert_eq!(
                String::from_utf8(found).unwrap(),
                expected,
                "{path} {prefix} {with}"
            );
        };
        // The table of the Gateway API's HTTPPathModifier.
        check("/foo/bar", "/foo", "/xyz", "/xyz/bar");
        check("/foo/bar", "/foo", "/xyz/", "/xyz/bar");
        check("/foo/bar", "/foo/", "/xyz", "/xyz/bar");
        check("/foo/bar", "/foo/", "/xyz/", "/xyz/bar");
        check("/foo", "/foo", "/xyz", "/xyz");
        check("/foo/", "/foo", "/xyz", "/xyz/");
        check("/foo/bar", "/foo", "", "/bar");
        check("/foo/", "/foo", "", "/");
        check("/foo", "/foo", "", "/");
        check("/foo/", "/foo", "/", "/");
        check("/foo", "/foo", "/", "/");
        check("/football", "/foo", "/xyz", "/football");
    }

    #[test]
    fn a_pattern_rewrites_with_captures() {
        let rewrite = PathRewrite::Pattern {
            pattern: Regex::new("^/users/(?<id>[0-9]+)/(.*)$").unwrap(),
            replacement: b"/$2/by/${id}".as_slice().into(),
        };
        assert_eq!(rewrite.apply(b"/users/7/posts"), b"/posts/by/7");
        assert_eq!(rewrite.apply(b"/other"), b"/other");
    }
}

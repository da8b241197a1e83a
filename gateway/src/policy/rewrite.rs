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
use crate::traffic::route::{PathRules, normalise, normalise_written};

/// The compiled policy.
#[derive(Debug)]
pub struct Rewrite {
    path: Option<PathRewrite>,
    host: Option<Box<str>>,
}

/// How a path becomes another.
#[derive(Debug)]
pub enum PathRewrite {
    /// The prefix by which the route took the request is replaced by this one, which does not end
    /// in a slash.
    Prefix(Box<[u8]>),
    /// The whole path is replaced.
    Full(Box<[u8]>),
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
            let rewritten = path.apply(&exchange.request.path, exchange.matched_bytes);
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
    /// Compiles a rewrite; none, and a refusal, if it is no path or no expression.
    pub(super) fn compile(settings: &Settings, levels: &mut Levels<'_>) -> Option<Self> {
        let compiled = match settings {
            Settings::ReplaceFull(path) => written(path).map(|path| Self::Full(path.into())),
            Settings::ReplacePrefix(path) if path.is_empty() => Ok(Self::Prefix(Box::default())),
            Settings::ReplacePrefix(path) => written(path).map(|mut path| {
                path.pop_if(|last| *last == b'/');
                Self::Prefix(path.into())
            }),
            Settings::Regex(settings) => Regex::new(&settings.pattern)
                .map(|pattern| Self::Pattern {
                    pattern,
                    replacement: in_ascii(&settings.replacement).into(),
                })
                .map_err(|error| error.to_string()),
        };
        compiled
            .inspect_err(|why| levels.refuse("E-rewrite", "a rewrite cannot be compiled", why))
            .ok()
    }

    /// What a normalised path becomes, of which so many bytes were matched by a prefix.
    pub fn apply(&self, path: &[u8], matched_bytes: usize) -> Vec<u8> {
        match self {
            Self::Prefix(with) => replace_prefix(path, matched_bytes, with),
            Self::Full(full) => full.to_vec(),
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

/// A path as somebody wrote it, in its normal form.
fn written(path: &str) -> Result<Vec<u8>, String> {
    // Which listeners serve the route is not known here: as much is kept as any of them keeps.
    let rules = PathRules {
        keep_encoded_slashes: true,
        merge_slashes: false,
    };
    normalise_written(path, &rules).map_err(|error| error.to_string())
}

/// A replacement with what is not ASCII percent-encoded, as it has to be in a path.
fn in_ascii(replacement: &str) -> Vec<u8> {
    let encoded = replacement.bytes().map(|byte| match byte.is_ascii() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect::<String>().into_bytes()
}

/// Replaces the matched prefix, which is whole segments: `/api` in `/api/x` by nothing gives `/x`,
/// by `/v2` gives `/v2/x` (Gateway API, ReplacePrefixMatch).
fn replace_prefix(path: &[u8], matched_bytes: usize, with: &[u8]) -> Vec<u8> {
    let rest = path.get(matched_bytes..).unwrap_or_default();
    match [with, rest].concat() {
        empty if empty.is_empty() => b"/".to_vec(),
        replaced => replaced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_by_whole_segments() {
        let check = |path: &str, prefix: &str, with: &str, expected: &str| {
            let matched = prefix.trim_end_matches('/').len();
            let with = with.trim_end_matches('/').as_bytes();
            let found = replace_prefix(path.as_bytes(), matched, with);
            let found = String::from_utf8(found).unwrap();
            assert_eq!(found, expected, "{path} {prefix} {with:?}");
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
    }

    #[test]
    fn a_pattern_rewrites_with_captures() {
        let rewrite = PathRewrite::Pattern {
            pattern: Regex::new("^/users/(?<id>[0-9]+)/(.*)$").unwrap(),
            replacement: b"/$2/by/${id}".as_slice().into(),
        };
        assert_eq!(rewrite.apply(b"/users/7/posts", 0), b"/posts/by/7");
        assert_eq!(rewrite.apply(b"/other", 0), b"/other");
    }
}

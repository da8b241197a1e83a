//! Settings of `rewrite`, and the path rewrites that `redirect` shares.
//!
//! Must not: allow a pattern that takes more than linear time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::model::section! {
    /// What the upstream is asked for instead.
    pub struct Rewrite {
        /// The path.
        pub path: Option<PathRewrite> = None,
        /// The host.
        pub host: Option<String> = None,
    }
}

/// How a path becomes another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathRewrite {
    /// The prefix that the route matched becomes this one: of `/api/x` matched by `/api`, `/v2`
    /// makes `/v2/x` and `/` makes `/x`.
    ReplacePrefix(String),
    /// The whole path becomes this one.
    ReplaceFull(String),
    /// Whatever matches the pattern is replaced.
    Regex(PatternRewrite),
}

/// A pattern and what stands in place of its matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatternRewrite {
    /// A regular expression, in linear time.
    pub pattern: String,
    /// What stands in place of a match: `$1` and `${name}` are its captures.
    pub replacement: String,
}

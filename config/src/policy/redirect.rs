//! Settings of `redirect`.
//!
//! Must not: allow a status that is no redirect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PathRewrite;

crate::model::section! {
    /// An answer that sends the client elsewhere. What is not set stays as the client asked.
    pub struct Redirect {
        /// The scheme.
        pub scheme: Option<Scheme> = None,
        /// The host.
        pub host: Option<String> = None,
        /// The port. If it is not set, a changed scheme goes to its own well-known port.
        pub port: Option<u16> = None,
        /// The path.
        pub path: Option<PathRewrite> = None,
        /// The status.
        pub status: RedirectStatus = RedirectStatus::PermanentRedirect,
    }
}

/// A scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// A status that redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RedirectStatus {
    /// 301: for good; browsers turn POST into GET.
    #[serde(rename = "301")]
    MovedPermanently = 301,
    /// 302: for now; browsers turn POST into GET.
    #[serde(rename = "302")]
    Found = 302,
    /// 303: see there, with GET.
    #[serde(rename = "303")]
    SeeOther = 303,
    /// 307: for now, with the same method.
    #[serde(rename = "307")]
    TemporaryRedirect = 307,
    /// 308: for good, with the same method.
    #[serde(rename = "308")]
    PermanentRedirect = 308,
}

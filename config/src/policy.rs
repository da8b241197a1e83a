//! The policies' settings: one file each, one optional field each at every level (gateway, domain,
//! route).
//!
//! Must not: say what a policy does at run time; the gateway's file of the same name does.

use serde::{Deserialize, Serialize};

use crate::model::shared;
use crate::model::text::sound;

mod body_limit;
mod client_access;
mod cors;
mod header_edits;
mod ip_access;
mod rate_limit;
mod redirect;
mod respond;
mod rewrite;
mod timeouts;

pub use body_limit::BodyLimit;
pub use client_access::ClientAccess;
pub use cors::Cors;
pub(crate) use header_edits::is_secret;
pub use header_edits::{Edits, HeaderEdits};
pub use ip_access::IpAccess;
pub use rate_limit::{RateLimit, RateLimitKey, RateLimits};
pub use redirect::{Redirect, RedirectStatus, Scheme};
pub use respond::Respond;
pub use rewrite::{PathRewrite, PatternRewrite, Rewrite};
pub use timeouts::Timeouts;

/// The policies of one level.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// Who may come, by address. Every level has to allow the client.
    #[serde(deserialize_with = "sound", skip_serializing_if = "Option::is_none")]
    pub ip_access: Option<Box<IpAccess>>,
    /// Cross-origin requests of browsers. The most specific level wins.
    #[serde(deserialize_with = "sound", skip_serializing_if = "Option::is_none")]
    pub cors: Option<Box<Cors>>,
    /// Who may come, by client certificate. Every level has to allow the client.
    #[serde(deserialize_with = "sound", skip_serializing_if = "Option::is_none")]
    pub client_access: Option<Box<ClientAccess>>,
    /// How many requests pass. Every level counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimits>,
    /// The largest request body, or `off`. The most specific level wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<BodyLimit>,
    /// An answer that sends the client elsewhere. The most specific level wins.
    #[serde(deserialize_with = "sound", skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Box<Redirect>>,
    /// A fixed answer. The most specific level wins.
    #[serde(deserialize_with = "sound", skip_serializing_if = "Option::is_none")]
    pub respond: Option<Box<Respond>>,
    /// What the upstream is asked for instead. The most specific level wins.
    #[serde(deserialize_with = "sound", skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Box<Rewrite>>,
    /// Header fields of requests and responses. All levels apply: gateway, domain, route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_edits: Option<Box<HeaderEdits>>,
    /// Whether calls of gRPC-Web, as browsers make them, go to the upstream as calls of gRPC. The most
    /// specific level wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_web: Option<bool>,
    /// Deadlines and least rates. The most specific level wins, field by field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Box<Timeouts>>,
}

shared!(Policies);

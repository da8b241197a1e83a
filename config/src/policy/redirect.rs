//! Settings of `redirect`.
//!
//! Must not: allow a status that is no redirect.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PathRewrite;
use crate::model::text::{self, Host, Sound};

crate::model::section! {
    /// An answer that sends the client elsewhere. What is not set stays as the client asked.
    pub struct Redirect {
        /// The scheme.
        pub scheme: Option<Scheme> = None,
        /// The host.
        #[serde(deserialize_with = "text::maybe::<Host, _>")]
        pub host: Option<String> = None,
        /// The port. If it is not set, a changed scheme goes to its own well-known port.
        #[serde(deserialize_with = "text::positive")]
        pub port: Option<u16> = None,
        /// The path.
        pub path: Option<PathRewrite> = None,
        /// The status.
        pub status: RedirectStatus = RedirectStatus::PermanentRedirect,
    }
}

impl Sound for Redirect {
    fn check(&self) -> Result<(), String> {
        let changes = [
            self.scheme.is_some(),
            self.host.is_some(),
            self.port.is_some(),
            self.path.is_some(),
        ];
        if !changes.contains(&true) {
            return Err(
                "a redirect that changes nothing leads to itself\nset `scheme`, `host`, `port` or `path`"
                    .to_owned(),
            );
        }
        self.path.check()
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
#[schemars(transform = numbers)]
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

/// Statuses are written as numbers, which serde's names of variants cannot be.
fn numbers(schema: &mut Schema) {
    let choices = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for choice in choices.into_iter().flatten() {
        let status = choice["const"].as_str().map(str::parse::<u16>);
        if let Some(Ok(status)) = status {
            choice["type"] = json!("integer");
            choice["const"] = json!(status);
        }
    }
}

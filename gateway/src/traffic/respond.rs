//! Every response the gateway itself makes: a reason decides the status and the words, the
//! domain's style decides how they look. It stands after routing and policies, before the codec.
//!
//! Must not: be bypassed. No other file chooses a status code for a response of ours, and a new
//! refusal is a new line in the table of `Reason`.

use std::collections::HashMap;
use std::sync::Arc;

use cardea_http1::{Known, write};

use super::access_log::http_date;
use super::headers::{HeaderName, Headers, lists_token};

pub mod grpc;
mod reason;

pub use reason::Reason;

/// How the gateway's own responses look; compiled from `responses` of the gateway and the domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseStyle {
    /// Which form the body takes.
    pub format: BodyFormat,
    /// The field that carries the reason code, if one is wanted.
    pub reason_header: Option<HeaderName>,
    /// The value of `Server`, if one is wanted.
    pub server: Option<Box<str>>,
    /// Bodies of the operator's own, by reason code, status, or class (`4xx`).
    pub pages: HashMap<Box<str>, Page>,
}

/// The form of a body of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFormat {
    /// JSON when `Accept` names it, plain text otherwise.
    #[default]
    Auto,
    /// Always plain text.
    Plain,
    /// Always `application/problem+json` (RFC 9457).
    Json,
}

/// A body the operator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What is sent.
    pub body: Arc<[u8]>,
    /// Its media type.
    pub content_type: Box<str>,
}

/// A decision to answer without asking an upstream.
#[derive(Debug)]
pub struct Reply {
    /// Why: what the log, the metrics and the reason header say.
    pub reason: Reason,
    /// The status code.
    pub status: u16,
    /// Fields beyond those that every response of ours has.
    pub headers: Headers,
    /// The body; none asks for the words of the reason.
    pub page: Option<Page>,
    /// More about this one case, safe to show to the client.
    pub detail: Option<Box<str>>,
}

impl Reply {
    /// The answer that belongs to a reason.
    pub fn new(reason: Reason) -> Box<Self> {
        Self::with_status(reason, reason.status())
    }

    /// The answer of a reason with more about this case. The detail is shown to the client.
    pub fn with_detail(reason: Reason, detail: impl Into<Box<str>>) -> Box<Self> {
        let mut reply = Self::new(reason);
        reply.detail = Some(detail.into());
        reply
    }

    /// An answer whose status the operator configured (redirect, rate limit, fixed response).
    pub fn with_status(reason: Reason, status: u16) -> Box<Self> {
        Box::new(Self {
            reason,
            status,
            headers: Headers::default(),
            page: None,
            detail: None,
        })
    }

    /// Adds a field to the answer.
    #[must_use]
    pub fn header(mut self: Box<Self>, name: &str, value: &[u8]) -> Box<Self> {
        self.headers.append(&HeaderName::new(name), value);
        self
    }
}

/// A response head on its way to the client, from an upstream or of our own making.
#[derive(Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The fields, hop-by-hop ones already removed.
    pub headers: Headers,
}

/// A response of ours, ready for a codec: head fields and the whole body.
#[derive(Debug)]
pub struct Rendered {
    /// Status and fields, framing excepted.
    pub response: Response,
    /// The body; empty for statuses that have none.
    pub body: Arc<[u8]>,
}

/// Dresses a reply in a domain's style. `accept` is the request's field, `request_id` is shown so
/// that a user can quote it.
pub fn render(
    reply: Reply,
    style: &ResponseStyle,
    accept: Option<&[u8]>,
    request_id: Option<&[u8]>,
) -> Rendered {
    let Reply {
        reason,
        status,
        headers,
        page,
        detail,
    } = reply;
    let mut response = Response { status, headers };
    let page = page
        .or_else(|| style.page(reason, status).cloned())
        .unwrap_or_else(|| words(reason, status, style.format, accept, request_id, detail));
    let body = if has_body(status) {
        page.body
    } else {
        Arc::from([])
    };
    if !body.is_empty() && response.headers.known(Known::ContentType).is_none() {
        let value = page.content_type.as_bytes();
        response
            .headers
            .append_parts(Known::ContentType, b"content-type", &[value]);
    }
    if status >= 400 && response.headers.known(Known::CacheControl).is_none() {
        // An error of ours describes this moment; a cache that keeps it prolongs the outage.
        response
            .headers
            .append_parts(Known::CacheControl, b"cache-control", &[b"no-store"]);
    }
    let date = http_date();
    response
        .headers
        .append_parts(Known::Date, b"date", &[&date]);
    if let Some(server) = &style.server {
        response
            .headers
            .append_parts(Known::Server, b"server", &[server.as_bytes()]);
    }
    if let Some(name) = &style.reason_header {
        response.headers.set(name, reason.code().as_bytes());
    }
    Rendered { response, body }
}

impl ResponseStyle {
    /// The operator's page for a case: the most specific key wins.
    fn page(&self, reason: Reason, status: u16) -> Option<&Page> {
        if self.pages.is_empty() {
            return None;
        }
        let by_status = || self.pages.get(status.to_string().as_str());
        let by_class = || self.pages.get(format!("{}xx", status / 100).as_str());
        self.pages
            .get(reason.code())
            .or_else(by_status)
            .or_else(by_class)
    }
}

/// Whether a final response of this status may carry a body (RFC 9110 §6.4.1).
pub fn has_body(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

fn words(
    reason: Reason,
    status: u16,
    format: BodyFormat,
    accept: Option<&[u8]>,
    request_id: Option<&[u8]>,
    detail: Option<Box<str>>,
) -> Page {
    let detail = detail.as_deref().unwrap_or_else(|| reason.explanation());
    let id = request_id.and_then(|id| std::str::from_utf8(id).ok());
    let json = match format {
        BodyFormat::Json => true,
        BodyFormat::Plain => false,
        BodyFormat::Auto => accept.is_some_and(prefers_json),
    };
    if json {
        let mut document = serde_json::json!({
            "title": write::reason(status),
            "status": status,
            "reason": reason.code(),
            "detail": detail,
        });
        if let (Some(id), Some(object)) = (id, document.as_object_mut()) {
            object.insert("request_id".into(), id.into());
        }
        let body = format!("{document}\n").into_bytes();
        return Page {
            body: body.into(),
            content_type: "application/problem+json".into(),
        };
    }
    let mut text = format!(
        "{status} {}\n{detail}\n\nreason: {}\n",
        write::reason(status),
        reason.code()
    );
    if let Some(id) = id {
        text.push_str(&format!("request: {id}\n"));
    }
    Page {
        body: text.into_bytes().into(),
        content_type: "text/plain; charset=utf-8".into(),
    }
}

/// Whether `Accept` asks for JSON and not for a page to look at.
fn prefers_json(accept: &[u8]) -> bool {
    let names = |media: &[u8]| {
        accept.split(|&byte| byte == b',').any(|item| {
            let kind = item.split(|&byte| byte == b';').next().unwrap_or_default();
            kind.trim_ascii().eq_ignore_ascii_case(media)
        })
    };
    !lists_token(accept, b"text/html")
        && (names(b"application/json") || names(b"application/problem+json"))
}

#[cfg(test)]
mod tests;

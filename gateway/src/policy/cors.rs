//! Cross-origin resource sharing, as the Fetch standard has it: preflights are answered here, and
//! responses to allowed origins say so.
//!
//! Must not: allow credentials together with any origin at all (the configuration refuses it), or
//! reflect an origin that is not on the list.

use cardea_config::policy::Cors as Settings;

use super::{Levels, Verdict};
use crate::traffic::exchange::Exchange;
use crate::traffic::headers::HeaderName;
use crate::traffic::respond::{Reason, Reply, Response};
use cardea_http1::{Known, Method};

/// The compiled policy.
#[derive(Debug)]
pub struct Cors {
    origins: Box<[OriginPattern]>,
    methods: Box<[u8]>,
    headers: Box<[u8]>,
    exposed: Box<[u8]>,
    credentials: bool,
    max_age: Box<[u8]>,
    names: Names,
}

#[derive(Debug)]
enum OriginPattern {
    Any,
    Exact(Box<str>),
    /// `https://*.example.com`: what stands before and after the star.
    Wildcard(Box<str>, Box<str>),
}

/// The fields CORS speaks in, resolved once.
#[derive(Debug)]
struct Names {
    origin: HeaderName,
    methods: HeaderName,
    headers: HeaderName,
    exposed: HeaderName,
    credentials: HeaderName,
    max_age: HeaderName,
    request_headers: HeaderName,
    request_method: HeaderName,
}

/// Where a call of gRPC-Web that failed at once tells how: fields of the head, which its client has to
/// read.
const CALL_STATUS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

impl Cors {
    /// The most specific level's.
    pub fn compile(levels: &mut Levels<'_>) -> Option<Self> {
        let settings = levels.most_specific(|level| level.cors.as_deref())?;
        let speaks_grpc_web = levels.most_specific(|level| level.grpc_web) == Some(true);
        let mut exposed = settings.expose_headers.clone();
        if speaks_grpc_web {
            let is_new = |name: &&str| !exposed.iter().any(|it| it.eq_ignore_ascii_case(name));
            let more: Vec<_> = CALL_STATUS.into_iter().filter(is_new).collect();
            exposed.extend(more.into_iter().map(str::to_owned));
        }
        Some(Self::new(settings, &exposed))
    }

    fn new(settings: &Settings, exposed: &[String]) -> Self {
        let list = |items: &[String]| items.join(", ").into_bytes().into_boxed_slice();
        Self {
            origins: settings
                .allow_origins
                .iter()
                .map(|text| OriginPattern::new(text))
                .collect(),
            methods: list(&settings.allow_methods),
            headers: list(&settings.allow_headers),
            exposed: list(exposed),
            credentials: settings.allow_credentials,
            max_age: settings.max_age.0.as_secs().to_string().into_bytes().into(),
            names: Names {
                origin: HeaderName::new("access-control-allow-origin"),
                methods: HeaderName::new("access-control-allow-methods"),
                headers: HeaderName::new("access-control-allow-headers"),
                exposed: HeaderName::new("access-control-expose-headers"),
                credentials: HeaderName::new("access-control-allow-credentials"),
                max_age: HeaderName::new("access-control-max-age"),
                request_headers: HeaderName::new("access-control-request-headers"),
                request_method: HeaderName::new("access-control-request-method"),
            },
        }
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        format!(
            "origins {:?}, credentials {}",
            self.origins, self.credentials
        )
    }

    /// Answers a preflight. Any other request goes on: the browser enforces what the response says.
    pub fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
        let headers = &exchange.request.headers;
        let Some(origin) = headers.known(Known::Origin) else {
            return Ok(());
        };
        let is_preflight = exchange.request.method == Method::Options
            && headers.value(&self.names.request_method).is_some();
        if !is_preflight {
            return Ok(());
        }
        if !self.allows(origin) {
            return Err(Reply::new(Reason::OriginDenied));
        }
        let mut reply = Reply::with_status(Reason::Answered, 204);
        reply.headers.set(&self.names.methods, &self.methods);
        // With no list of its own the policy allows what is asked for, as browsers expect of `*`
        // together with credentials.
        let asked = headers
            .value(&self.names.request_headers)
            .unwrap_or_default();
        let allowed = if self.headers.is_empty() {
            asked
        } else {
            &self.headers
        };
        if !allowed.is_empty() {
            reply.headers.set(&self.names.headers, allowed);
        }
        reply.headers.set(&self.names.max_age, &self.max_age);
        Err(reply)
    }

    /// Tells the browser what it may do with the response.
    pub fn on_response(&self, exchange: &Exchange<'_>, response: &mut Response) {
        if !matches!(self.origins.as_ref(), [OriginPattern::Any]) {
            add_vary(response);
        }
        let Some(origin) = exchange.request.headers.known(Known::Origin) else {
            return;
        };
        if !self.allows(origin) {
            response.headers.remove(&self.names.origin);
            return;
        }
        let is_any = matches!(self.origins.as_ref(), [OriginPattern::Any]);
        response
            .headers
            .set(&self.names.origin, if is_any { b"*" } else { origin });
        if self.credentials {
            response.headers.set(&self.names.credentials, b"true");
        }
        if !self.exposed.is_empty() {
            response.headers.set(&self.names.exposed, &self.exposed);
        }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        std::str::from_utf8(origin)
            .is_ok_and(|origin| self.origins.iter().any(|pattern| pattern.matches(origin)))
    }
}

/// A cache must not serve one origin's answer to another.
fn add_vary(response: &mut Response) {
    let has = response.headers.iter().any(|(known, _, value)| {
        known == Known::Vary && crate::traffic::headers::lists_token(value, b"origin")
    });
    if !has {
        response
            .headers
            .append_parts(Known::Vary, b"vary", &[b"Origin"]);
    }
}

impl OriginPattern {
    fn new(text: &str) -> Self {
        match text.split_once('*') {
            Some(("", "")) => Self::Any,
            Some((before, after)) => Self::Wildcard(
                before.to_ascii_lowercase().into(),
                after.to_ascii_lowercase().into(),
            ),
            None => Self::Exact(text.to_ascii_lowercase().into()),
        }
    }

    fn matches(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *origin,
            // The star stands for host labels: letters, digits, hyphens and dots, at least one.
            Self::Wildcard(before, after) => origin
                .strip_prefix(&**before)
                .and_then(|rest| rest.strip_suffix(&**after))
                .is_some_and(|labels| {
                    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
                    !labels.is_empty() && labels.bytes().all(is_label)
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_whole_and_by_label() {
        let check = |pattern: &str, origin: &str, expected: bool| {
            assert_eq!(
                OriginPattern::new(pattern).matches(origin),
                expected,
                "{pattern} {origin}"
            );
        };
        check("*", "https://anything.example", true);
        check("https://app.example.com", "https://app.example.com", true);
        check("https://app.example.com", "https://APP.example.com", true);
        check(
            "https://app.example.com",
            "https://app.example.com.evil.example",
            false,
        );
        check("https://app.example.com", "http://app.example.com", false);
        check("https://*.example.com", "https://a.b.example.com", true);
        check("https://*.example.com", "https://example.com", false);
        check(
            "https://*.example.com",
            "https://evil.example/.example.com",
            false,
        );
        check(
            "https://*.example.com",
            "https://evil.example:80#.example.com",
            false,
        );
        check("https://app.example.com", "null", false);
    }
}

//! Sending the client elsewhere: another scheme, host, port or path, with the status that says
//! for how long and with which method.
//!
//! Must not: take a host from anywhere but the configuration or the Host that routing matched.

use cardea_config::policy::{RedirectStatus, Scheme};

use super::rewrite::PathRewrite;
use super::{Levels, Verdict};
use crate::traffic::exchange::Exchange;
use crate::traffic::respond::{Reason, Reply, Response};

/// The compiled policy.
#[derive(Debug)]
pub struct Redirect {
    /// The request's own if none.
    scheme: Option<&'static str>,
    /// The request's own if none.
    host: Option<Box<str>>,
    /// Without one, a changed scheme goes to its well-known port, and an unchanged one keeps the
    /// request's.
    port: Option<u16>,
    path: Option<PathRewrite>,
    status: u16,
}

impl Redirect {
    /// The most specific level's.
    pub fn compile(levels: &mut Levels<'_>) -> Option<Self> {
        let settings = levels.most_specific(|level| level.redirect.as_deref())?;
        Some(Self {
            scheme: settings.scheme.map(|scheme| match scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            }),
            host: settings.host.as_deref().map(Into::into),
            port: settings.port,
            path: settings
                .path
                .as_ref()
                .and_then(|path| PathRewrite::compile(path, levels)),
            status: match settings.status {
                RedirectStatus::MovedPermanently => 301,
                RedirectStatus::Found => 302,
                RedirectStatus::SeeOther => 303,
                RedirectStatus::TemporaryRedirect => 307,
                RedirectStatus::PermanentRedirect => 308,
            },
        })
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        format!(
            "{} to scheme {:?}, host {:?}, port {:?}, path {:?}",
            self.status, self.scheme, self.host, self.port, self.path
        )
    }

    /// Answers with the new location.
    pub fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
        let location = self.location(exchange);
        Err(Reply::with_status(Reason::Redirected, self.status).header("location", &location))
    }

    /// Nothing to do.
    pub fn on_response(&self, _: &Exchange<'_>, _: &mut Response) {}

    fn location(&self, exchange: &Exchange<'_>) -> Vec<u8> {
        let request = &exchange.request;
        let own_scheme = if exchange.is_secure() {
            "https"
        } else {
            "http"
        };
        let scheme = self.scheme.unwrap_or(own_scheme);
        let mut location = Vec::with_capacity(128);
        location.extend_from_slice(scheme.as_bytes());
        location.extend_from_slice(b"://");
        match &self.host {
            Some(host) => location.extend_from_slice(host.as_bytes()),
            None => location.extend_from_slice(&request.host),
        }
        let port = self.port.or_else(|| {
            let keeps = self.scheme.is_none_or(|scheme| scheme == own_scheme);
            keeps
                .then(|| asked_port(request.authority_bytes()))
                .flatten()
        });
        let is_default = matches!((scheme, port), ("http", Some(80)) | ("https", Some(443)));
        if let Some(port) = port.filter(|_| !is_default) {
            location.extend_from_slice(format!(":{port}").as_bytes());
        }
        match &self.path {
            Some(path) => {
                location.extend_from_slice(&path.apply(&request.path, exchange.matched_bytes))
            }
            None => location.extend_from_slice(&request.path),
        }
        if let Some(query) = request.query_bytes() {
            location.push(b'?');
            location.extend_from_slice(query);
        }
        location
    }
}

/// The port of an authority as sent, if it names one.
fn asked_port(authority: &[u8]) -> Option<u16> {
    let colon = authority.iter().rposition(|&byte| byte == b':')?;
    std::str::from_utf8(authority.get(colon + 1..)?)
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_off_the_authority() {
        let check = |authority: &str, expected: Option<u16>| {
            assert_eq!(asked_port(authority.as_bytes()), expected, "{authority}");
        };
        check("example.com", None);
        check("example.com:8080", Some(8080));
        check("[2001:db8::1]:8080", Some(8080));
        check("[2001:db8::1]", None);
    }
}

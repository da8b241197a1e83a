//! What many tests start from.
//!
//! Must not: grow into a second harness; a test's own set-up stands in the test.

use cardea_tests::{Gateway, Origin, Response};

/// One domain with one route to one upstream.
pub(crate) const PLAIN: &str = r#"
domains:
  - hosts: [a.test]
    routes: [{ to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;

/// The start of a configuration with the upstream `origin` and the domain `a.test`, whose routes
/// are to follow.
pub(crate) const ROUTES: &str = r#"
upstreams:
  origin: { endpoints: ["<origin>"] }
domains:
  - hosts: [a.test]
    routes:
"#;

/// A gateway with [`PLAIN`] in front of an origin.
#[track_caller]
pub(crate) fn plain(origin: &Origin) -> Gateway {
    Gateway::start(PLAIN, &[("origin", &origin.address())])
}

/// A gateway with [`PLAIN`] and more sections.
#[track_caller]
pub(crate) fn plain_with(origin: &Origin, sections: &str) -> Gateway {
    let config = format!("{PLAIN}{sections}");
    Gateway::start(&config, &[("origin", &origin.address())])
}

/// A gateway with these routes in the domain `a.test`, each a line of YAML.
#[track_caller]
pub(crate) fn with_routes(origin: &Origin, routes: &[&str]) -> Gateway {
    let routes: String = routes
        .iter()
        .map(|route| format!("      - {route}\n"))
        .collect();
    let config = format!("{ROUTES}{routes}");
    Gateway::start(&config, &[("origin", &origin.address())])
}

/// Asserts that a response is the gateway's own, with this status and reason.
#[track_caller]
pub(crate) fn assert_refused(response: &Response, status: u16, reason: &str, about: &str) {
    let found = (response.status, response.reason());
    assert_eq!(
        found,
        (status, Some(reason)),
        "{about}\n{}",
        response.text()
    );
}

/// A GET of a host and path, with more header lines.
pub(crate) fn get(host: &str, path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")
}

/// A POST with a body of known length.
pub(crate) fn post(host: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}")
}

//! Keeps web pages out. A browser on the operator's machine can reach the admin listener, and any
//! page can make it try: by a form or a script that sends a request across origins, or by a host
//! name that first resolves to the page's server and then to ours (DNS rebinding).
//!
//! Must not: rely on anything that a page can choose. It can choose neither `Host` nor `Origin`.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem;

/// Refuses what a page could have sent, and tells browsers to do nothing with the answer but show
/// it as what it is.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let mut response = match refuse(&request) {
        Some((status, why)) => problem(status, why),
        None => next.run(request).await,
    };
    let fields = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fields {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn refuse<B>(request: &axum::http::Request<B>) -> Option<(StatusCode, &'static str)> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some((
            StatusCode::BAD_REQUEST,
            "the request has more than one Host",
        ));
    }
    // HTTP/1.0 has no Host, and no browser speaks it.
    if host.is_none() && request.version() != Version::HTTP_10 {
        return Some((StatusCode::BAD_REQUEST, "the request has no Host"));
    }
    let is_ours = |authority: &Authority| is_address(authority);
    let host = host.map(|host| Authority::try_from(host.as_bytes()));
    let is_named = match &host {
        Some(Ok(host)) => !is_ours(host),
        Some(Err(_)) => true,
        None => false,
    };
    if is_named || request.uri().authority().is_some_and(|it| !is_ours(it)) {
        return Some((
            StatusCode::MISDIRECTED_REQUEST,
            "ask for the admin listener by its address, or as localhost",
        ));
    }
    let host = host.and_then(Result::ok);
    if is_from_page(request.method(), headers, host.as_ref()) {
        return Some((
            StatusCode::FORBIDDEN,
            "requests of pages from elsewhere are not served here",
        ));
    }
    None
}

/// Whether an authority is an address or `localhost`, which nobody can make resolve to another
/// place.
fn is_address(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// Whether a page that did not come from here sent the request. Browsers name the page's origin
/// with everything that may change something, and with every request of a script.
fn is_from_page(method: &Method, headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let origin = headers.get(header::ORIGIN);
    let is_foreign = origin.is_some_and(|origin| !is_same_origin(origin, host));
    let is_safe = *method == Method::GET || *method == Method::HEAD;
    let site = headers.get(HeaderName::from_static("sec-fetch-site"));
    let is_cross_site = site.is_some_and(|site| site != "same-origin" && site != "none");
    is_foreign || (is_cross_site && !is_safe)
}

fn is_same_origin(origin: &HeaderValue, host: Option<&Authority>) -> bool {
    let origin = origin.to_str().ok().and_then(|origin| {
        let rest = origin.strip_prefix("http://");
        rest.or_else(|| origin.strip_prefix("https://"))
    });
    match (origin, host) {
        (Some(origin), Some(host)) => origin.eq_ignore_ascii_case(host.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(build: impl FnOnce(&mut axum::http::Request<()>)) -> Option<u16> {
        let mut request = axum::http::Request::new(());
        build(&mut request);
        refuse(&request).map(|(status, _)| status.as_u16())
    }

    fn with(method: Method, fields: &[(&'static str, &'static str)]) -> Option<u16> {
        status(|request| {
            *request.method_mut() = method;
            for (name, value) in fields {
                let value = HeaderValue::from_static(value);
                request.headers_mut().append(*name, value);
            }
        })
    }

    #[test]
    fn only_addresses_are_hosts() {
        let check = |host: &'static str, expected: Option<u16>| {
            assert_eq!(with(Method::GET, &[("host", host)]), expected, "{host}");
        };
        check("127.0.0.1", None);
        check("127.0.0.1:9180", None);
        check("[::1]:9180", None);
        check("[2001:db8::1]", None);
        check("localhost:9180", None);
        check("LOCALHOST", None);
        check("evil.example:9180", Some(421));
        check("127.0.0.1.evil.example", Some(421));
        check("localhost.evil.example", Some(421));
        check("localhost.", Some(421));
        check("evil@127.0.0.1", Some(421));
        check("127.0.0.1:9180@evil.example", Some(421));
        check("127.1", Some(421));
        check("0x7f000001", Some(421));
        check("", Some(421));
        check(" ", Some(421));
    }

    #[test]
    fn a_host_is_needed_once() {
        assert_eq!(with(Method::GET, &[]), Some(400));
        let twice = [("host", "127.0.0.1"), ("host", "127.0.0.1")];
        assert_eq!(with(Method::GET, &twice), Some(400));
        let old = status(|request| *request.version_mut() = Version::HTTP_10);
        assert_eq!(old, None);
        let absolute = status(|request| {
            *request.uri_mut() = "http://evil.example/reload".parse().unwrap();
            let host = HeaderValue::from_static("127.0.0.1");
            request.headers_mut().insert(header::HOST, host);
        });
        assert_eq!(absolute, Some(421));
    }

    #[test]
    fn pages_are_refused() {
        let check = |method: &Method, name: &'static str, value: &'static str, expected| {
            let fields = [("host", "127.0.0.1:9180"), (name, value)];
            assert_eq!(with(method.clone(), &fields), expected, "{method} {value}");
        };
        for method in [Method::GET, Method::POST, Method::PUT] {
            check(&method, "origin", "http://127.0.0.1:9180", None);
            check(&method, "origin", "https://evil.example", Some(403));
            check(&method, "origin", "http://127.0.0.1:8080", Some(403));
            check(&method, "origin", "http://127.0.0.1", Some(403));
            check(&method, "origin", "http://localhost:9180", Some(403));
            check(&method, "origin", "null", Some(403));
            check(&method, "sec-fetch-site", "none", None);
            check(&method, "sec-fetch-site", "same-origin", None);
        }
        check(&Method::POST, "sec-fetch-site", "cross-site", Some(403));
        check(&Method::PUT, "sec-fetch-site", "same-site", Some(403));
        check(&Method::GET, "sec-fetch-site", "cross-site", None);
    }
}

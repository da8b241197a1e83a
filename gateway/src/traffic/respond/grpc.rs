//! Responses of ours to gRPC: a client of that reads no page and no status of HTTP, it reads
//! `grpc-status` and `grpc-message` (gRPC over HTTP/2, "Responses": Trailers-Only).
//!
//! Must not: say more than the page would have said.

use std::time::Duration;

use cardea_http1::Known;

use super::{Rendered, Response};
use crate::traffic::exchange::Request;
use crate::traffic::grpc_web::{self, Web};
use crate::traffic::headers::{HeaderName, Headers};

/// A call, whose client would not understand a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Of gRPC.
    Grpc,
    /// Of gRPC-Web.
    Web(Web),
}

/// What kind of call a request is, if it is one; `web` is what it was before it was made one of gRPC.
pub fn call(request: &Request, web: Option<Web>) -> Option<Call> {
    let kind = request.headers.known(Known::ContentType)?;
    match web.or_else(|| grpc_web::call(request)) {
        Some(web) => Some(Call::Web(web)),
        None => is_grpc(kind).then_some(Call::Grpc),
    }
}

/// Whether a content type is that of a call, whole or as a browser sends it.
pub fn is_call(kind: &[u8]) -> bool {
    is_grpc(kind) || grpc_web::kind(kind).is_some()
}

fn is_grpc(kind: &[u8]) -> bool {
    media_type(kind, b"application/grpc").is_some()
}

/// What follows a media type in a field, if it is this one: a suffix or parameters.
pub fn media_type<'k>(kind: &'k [u8], name: &[u8]) -> Option<&'k [u8]> {
    let (start, rest) = kind.split_at_checked(name.len())?;
    let is_it = start.eq_ignore_ascii_case(name) && matches!(rest, [] | [b'+' | b';' | b' ', ..]);
    is_it.then_some(rest)
}

/// How long the client of a call waits, if it says so.
pub fn time_max(request: &Request) -> Option<Duration> {
    call(request, None)?;
    timeout(request.headers.values_of("grpc-timeout").next()?)
}

/// The value of `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    let time = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    // No time at all is still a limit.
    Some(time.max(Duration::from_millis(1)))
}

/// Says in gRPC's words what a response says in HTTP's.
pub fn translate(rendered: &mut Rendered, call: Call, detail: &str) {
    let status = rendered.response.status;
    let mut headers = Headers::default();
    let content_type = match call {
        Call::Grpc => "application/grpc",
        Call::Web(web) => web.content_type(),
    };
    headers.append(&HeaderName::new("content-type"), content_type.as_bytes());
    let code = code(status).to_string();
    headers.append(&HeaderName::new("grpc-status"), code.as_bytes());
    let message = encode(detail);
    headers.append(&HeaderName::new("grpc-message"), message.as_bytes());
    // What policies and the style have to say stays.
    for (known, name, value) in rendered.response.headers.iter() {
        if !matches!(known, Known::ContentType | Known::ContentLength) {
            headers.append_parts(known, name, &[value]);
        }
    }
    rendered.response = Response {
        status: 200,
        headers,
    };
    rendered.body = std::sync::Arc::from([]);
}

/// What a status of HTTP is in gRPC ("HTTP to gRPC Status Code Mapping"), and where that has nothing
/// better than "unknown", what fits.
fn code(status: u16) -> u8 {
    const UNKNOWN: u8 = 2;
    const DEADLINE_EXCEEDED: u8 = 4;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match status {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 405 => UNIMPLEMENTED,
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 431 => RESOURCE_EXHAUSTED,
        429 | 502 | 503 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// Percent-encodes a message as gRPC has it.
fn encode(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_their_content_type() {
        let check = |kind: &[u8], expected: Option<Call>| {
            let mut request = Request::default();
            let name = HeaderName::new("content-type");
            request.headers.append(&name, kind);
            assert_eq!(call(&request, None), expected, "{kind:?}");
        };
        let web = |is_text| Some(Call::Web(Web { is_text }));
        check(b"application/grpc", Some(Call::Grpc));
        check(b"application/grpc+proto", Some(Call::Grpc));
        check(b"application/grpc;charset=utf-8", Some(Call::Grpc));
        check(b"application/grpc-web", web(false));
        check(b"application/grpc-web-text+proto", web(true));
        check(b"application/grpc-webby", None);
        check(b"application/grpcs", None);
        check(b"application/json", None);
        assert_eq!(call(&Request::default(), None), None);
    }

    #[test]
    fn browsers_call_too() {
        let check = |kind: &str, expected: bool| {
            assert_eq!(is_call(kind.as_bytes()), expected, "{kind}");
        };
        for call in [
            "application/grpc",
            "Application/gRPC+proto",
            "application/grpc-web",
            "application/grpc-web+json",
            "application/grpc-web-text",
            "application/grpc-web-text+proto",
            "application/grpc; charset=utf-8",
        ] {
            check(call, true);
        }
        for other in [
            "",
            "application/json",
            "application/grpcx",
            "application/grpc-webx",
        ] {
            check(other, false);
        }
    }

    #[test]
    fn timeouts_have_a_number_and_a_unit() {
        let check = |value: &str, expected: Option<Duration>| {
            assert_eq!(timeout(value.as_bytes()), expected, "{value}");
        };
        check("1H", Some(Duration::from_secs(3600)));
        check("2M", Some(Duration::from_secs(120)));
        check("3S", Some(Duration::from_secs(3)));
        check("99999999m", Some(Duration::from_millis(99_999_999)));
        check("5000u", Some(Duration::from_millis(5)));
        check("0n", Some(Duration::from_millis(1)));
        for wrong in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", " 1S"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_page_becomes_a_status_and_a_message() {
        let mut headers = Headers::default();
        headers.append(&HeaderName::new("content-type"), b"text/plain");
        headers.append(&HeaderName::new("retry-after"), b"3");
        let mut rendered = Rendered {
            response: Response {
                status: 429,
                headers,
            },
            body: std::sync::Arc::from(*b"slow down"),
        };
        translate(&mut rendered, Call::Grpc, "50 % too fast\n");
        assert_eq!((rendered.response.status, rendered.body.len()), (200, 0));
        let fields: Vec<_> = rendered
            .response
            .headers
            .iter()
            .map(|(_, name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(
            fields,
            [
                field("content-type", "application/grpc"),
                field("grpc-status", "14"),
                field("grpc-message", "50 %25 too fast%0A"),
                field("retry-after", "3"),
            ]
        );
    }
}

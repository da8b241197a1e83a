//! gRPC-Web, which is gRPC as browsers can speak it: over any version of HTTP, with the fields after
//! a body as the last frame of it, and as base64 if asked (gRPC's PROTOCOL-WEB). Towards the endpoint a
//! call is one of gRPC.
//!
//! Must not: hold a body. What comes goes on at once, whole groups of base64 at a time.

use cardea_http1::{Framing, Known, Method};

use super::body::Body;
use super::exchange::{Exchange, Request};
use super::headers::HeaderName;
use super::respond::{Response, grpc};

mod translation;

pub use translation::{TRAILER_BYTES_MAX, Translation, Untranslatable, Way};

/// What a client of gRPC-Web wants its answer to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Web {
    /// Whether it comes as base64.
    pub is_text: bool,
}

/// The content type of gRPC-Web that a field names, and what comes after it: `+proto`, or parameters.
pub fn kind(content_type: &[u8]) -> Option<(Web, &[u8])> {
    [false, true].into_iter().find_map(|is_text| {
        let web = Web { is_text };
        let rest = grpc::media_type(content_type, web.content_type().as_bytes())?;
        Some((web, rest))
    })
}

/// What the client of a call wants, if the request is one of gRPC-Web.
pub fn call(request: &Request) -> Option<Web> {
    let (asked, _) = kind(request.headers.known(Known::ContentType)?)?;
    // Who reads text says so, whatever it writes.
    let accepted = request.headers.known(Known::Accept).and_then(|accepted| {
        let mut listed = accepted.split(|byte| *byte == b',');
        listed.find_map(|item| kind(item.trim_ascii()))
    });
    Some(accepted.map_or(asked, |(accepted, _)| accepted))
}

/// Makes a call of gRPC of one of gRPC-Web; what is no call stays as it is.
pub fn begin(exchange: &mut Exchange<'_>, body: &mut Body<'_>) {
    let request = &mut *exchange.request;
    let Some(web) = call(request).filter(|_| request.method == Method::Post) else {
        return;
    };
    let content_type = request.headers.known(Known::ContentType);
    let Some((sent, rest)) = content_type.and_then(kind) else {
        return;
    };
    let told = [b"application/grpc", rest].concat();
    request.headers.set(&HeaderName::new("content-type"), &told);
    // An answer that is compressed as a whole could not get its last frame.
    for name in ["accept", "accept-encoding", "x-grpc-web"] {
        request.headers.remove(&HeaderName::new(name));
    }
    request.takes_trailers = true;
    if sent.is_text && request.has_body() {
        body.translate(Translation::new(Way::Decode));
        // How long it is without base64, its end will tell.
        request.framing = Framing::Chunked;
    }
    exchange.web = Some(web);
}

/// Has the answer of an endpoint to a request come as the client wants it, and says what its body is
/// turned into; none if it is no answer of gRPC. Those, such as pages about errors, stay as they are:
/// clients look at their status.
pub fn answer(web: Web, request: &Request, response: &mut Response) -> Option<Translation> {
    let headers = &response.headers;
    let is_compressed = headers.known(Known::ContentEncoding);
    if is_compressed.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return None;
    }
    let rest = grpc::media_type(headers.known(Known::ContentType)?, b"application/grpc")?;
    // An endpoint that does not say in what form its messages are answers in that of the call.
    let asked = request.headers.known(Known::ContentType);
    let asked = asked.and_then(|kind| grpc::media_type(kind, b"application/grpc"));
    let rest = match rest {
        [] => asked.unwrap_or_default(),
        rest => rest,
    };
    let told = [web.content_type().as_bytes(), rest].concat();
    let way = match web.is_text {
        true => Way::Encode,
        false => Way::Frame,
    };
    let translation = match headers.values_of("grpc-status").next() {
        Some(_) => Translation::new(way),
        None => Translation::owing_status(way),
    };
    response
        .headers
        .set(&HeaderName::new("content-type"), &told);
    Some(translation)
}

impl Web {
    /// The content type of answers.
    pub fn content_type(self) -> &'static str {
        match self.is_text {
            true => "application/grpc-web-text",
            false => "application/grpc-web",
        }
    }
}

#[cfg(test)]
mod tests;

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

pub use translation::{NoBase64, Translation, Way};

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
    let accepted = request.headers.known(Known::Accept).and_then(kind);
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
    for name in ["accept", "x-grpc-web"] {
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

/// Has the answer of an endpoint come as the client wants it; whether it is one of gRPC at all. Others,
/// such as pages about errors, stay as they are: clients look at their status.
pub fn answer(web: Web, response: &mut Response) -> bool {
    let content_type = response.headers.known(Known::ContentType);
    let rest = content_type.and_then(|kind| grpc::media_type(kind, b"application/grpc"));
    let Some(rest) = rest else {
        return false;
    };
    let told = [web.content_type().as_bytes(), rest].concat();
    let name = HeaderName::new("content-type");
    response.headers.set(&name, &told);
    true
}

impl Web {
    /// The content type of answers.
    pub fn content_type(self) -> &'static str {
        match self.is_text {
            true => "application/grpc-web-text",
            false => "application/grpc-web",
        }
    }

    /// What turns the body of an endpoint's answer into that of the client's.
    pub fn translation(self) -> Translation {
        Translation::new(match self.is_text {
            true => Way::Encode,
            false => Way::Frame,
        })
    }
}

#[cfg(test)]
mod tests;

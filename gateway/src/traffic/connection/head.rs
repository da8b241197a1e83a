//! From a parsed head to the request of an exchange: the same for every protocol, because every
//! protocol's heads are judged by one parser.
//!
//! Must not: know how the head came.

use cardea_http1::{ErrorKind, Framing, HeadError, HeadFault, Method, RequestHead, Upgrade};

use crate::traffic::exchange::Request;
use crate::traffic::respond::Reason;

/// What a head says about the message around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadFacts {
    /// Whether the client lets the connection serve another request.
    pub(super) persistent: bool,
    /// Whether the client waits for 100 (Continue) before it sends its body.
    pub(super) expects_continue: bool,
    /// Whether it asks for a WebSocket.
    pub(super) is_upgrade: bool,
}

/// Why a head cannot be served.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) detail: Option<Box<str>>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            detail: None,
        }
    }
}

impl From<&HeadError> for Refused {
    fn from(error: &HeadError) -> Self {
        Self {
            reason: reason(error),
            detail: Some(format!("{error}.").into_boxed_str()),
        }
    }
}

/// Moves what was parsed into the request.
pub(super) fn fill_request(request: &mut Request, head: &mut RequestHead) {
    std::mem::swap(&mut request.headers.fields, &mut head.fields);
    request.headers.remove_hop_by_hop(&head.nominated);
    request.method = head.method;
    request.method_text = head.method_span;
    request.protocol = head.version.into();
    request.framing = head.framing;
    request.authority = head.authority;
    request.host_text = head.host;
    request.port = head.port;
    request.target = head.target;
    request.takes_trailers = head.te_trailers;
}

/// What the head asks of the connection. The only upgrade there is is WebSocket, by GET, without
/// a body; other offers are not taken up (RFC 9110 §7.8 lets a server ignore them).
pub(super) fn facts(head: &RequestHead) -> Result<HeadFacts, Refused> {
    let is_upgrade = head.upgrade == Upgrade::WebSocket;
    let has_body = !matches!(head.framing, Framing::None | Framing::Length(0));
    if is_upgrade && (head.method != Method::Get || has_body) {
        return Err(Reason::UpgradeInvalid.into());
    }
    Ok(HeadFacts {
        persistent: head.persistent,
        expects_continue: head.expect_continue,
        is_upgrade,
    })
}

/// The reason of a head that cannot be served.
fn reason(error: &HeadError) -> Reason {
    match error.fault() {
        HeadFault::BareLf | HeadFault::BareCr => return Reason::LineEndingInvalid,
        HeadFault::Underscore => return Reason::HeaderUnderscore,
        HeadFault::BadConnection => return Reason::ConnectionInvalid,
        HeadFault::LengthAndEncoding => return Reason::FramingConflict,
        HeadFault::BadContentLength | HeadFault::RepeatedContentLength => {
            return Reason::LengthInvalid;
        }
        HeadFault::BadMethod | HeadFault::BadVersion | HeadFault::EmptyFirstLine => {
            return Reason::RequestLineMalformed;
        }
        HeadFault::MethodTooLong => return Reason::MethodUnknown,
        _ => {}
    }
    match error.kind() {
        ErrorKind::Syntax => Reason::HeaderMalformed,
        ErrorKind::Framing => Reason::TransferEncodingInvalid,
        ErrorKind::Host => Reason::HostInvalid,
        ErrorKind::Target => Reason::RequestLineMalformed,
        ErrorKind::TargetTooLong => Reason::TargetTooLong,
        ErrorKind::HeadTooLarge => Reason::HeadTooLarge,
        ErrorKind::NotImplemented => Reason::TransferEncodingUnsupported,
        ErrorKind::Version => Reason::VersionUnsupported,
        ErrorKind::Expectation => Reason::ExpectationUnknown,
    }
}

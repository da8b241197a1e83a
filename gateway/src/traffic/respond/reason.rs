//! The table of reasons: for each, the stable code that logs, metrics and the reason header
//! carry, the status it answers with, and what a user is told.
//!
//! Must not: reuse a code for another meaning. Codes are a promise; words may improve.

use crate::traffic::route::PathError;

macro_rules! reasons {
    ($($variant:ident $code:literal $status:literal $explanation:literal)*) => {
        /// Why the gateway answered by itself, or ended an exchange early.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $(#[doc = $explanation] $variant),* }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The status it answers with. For an exchange that ended after its head was sent,
            /// or whose client is gone, the status that logs and metrics count it under.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// What a user is told.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation),* }
            }
        }
    };
}

reasons! {
    RequestLineMalformed "request_line_malformed" 400 "The request line is not valid HTTP/1.1."
    LineEndingInvalid "line_ending_invalid" 400 "A line of the request does not end in CRLF."
    HeaderMalformed "header_malformed" 400 "A header field of the request is not valid."
    HeaderUnderscore "header_underscore" 400 "A header field name contains an underscore, which origins confuse with a hyphen."
    HostInvalid "host_invalid" 400 "The request must carry exactly one valid Host."
    LengthInvalid "content_length_invalid" 400 "The Content-Length of the request is not one decimal number."
    FramingConflict "framing_conflict" 400 "The request carries both Content-Length and Transfer-Encoding."
    TransferEncodingInvalid "transfer_encoding_invalid" 400 "The Transfer-Encoding of the request is not valid."
    TransferEncodingUnsupported "transfer_encoding_unsupported" 501 "Only the chunked transfer coding is supported."
    ChunkMalformed "chunk_malformed" 400 "The chunked body of the request is not valid."
    ConnectionInvalid "connection_invalid" 400 "The Connection field names a field that it must not."
    PathInvalid "path_invalid" 400 "The path of the request is not valid."
    PathAmbiguous "path_ambiguous" 400 "The path of the request can be read in more than one way."
    UpgradeInvalid "upgrade_invalid" 400 "The request asks for an upgrade that it may not have."
    MethodUnknown "method_unknown" 501 "No method here has a name that long."
    MethodRefused "method_refused" 405 "This method is not served here."
    HeadTimeout "head_timeout" 408 "The head of the request did not arrive in time."
    BodyTimeout "body_timeout" 408 "The body of the request came too slowly."
    BodyTooLarge "body_too_large" 413 "The body of the request is larger than this route allows."
    TargetTooLong "target_too_long" 414 "The request target is longer than this listener allows."
    ExpectationUnknown "expectation_unknown" 417 "The only expectation served is 100-continue."
    Misdirected "misdirected" 421 "This connection may not ask for that host; open another."
    HeadTooLarge "head_too_large" 431 "The header fields of the request are larger or more than this listener allows."
    VersionUnsupported "version_unsupported" 505 "Only HTTP/1.0 and HTTP/1.1 are served on this connection."
    DomainUnknown "domain_unknown" 404 "No domain here serves this host."
    RouteUnknown "route_unknown" 404 "No route of this domain matches the request."
    AddressDenied "address_denied" 403 "Requests from this address are not served here."
    OriginDenied "origin_denied" 403 "This origin may not make this request."
    RateLimited "rate_limited" 429 "Too many requests; try again later."
    Redirected "redirected" 308 "The resource is elsewhere."
    Answered "answered" 200 "The route answers by itself."
    UpstreamUnresolved "upstream_unresolved" 503 "The upstream has no address yet."
    UpstreamUnhealthy "upstream_unhealthy" 503 "No endpoint of the upstream can be used."
    UpstreamSaturated "upstream_saturated" 503 "The upstream is at its limit."
    UpstreamConnectFailed "upstream_connect_failed" 502 "The upstream could not be reached."
    UpstreamConnectTimeout "upstream_connect_timeout" 504 "The upstream could not be reached in time."
    UpstreamTlsFailed "upstream_tls_failed" 502 "The upstream could not prove who it is, or would not speak TLS with us."
    UpstreamReset "upstream_reset" 502 "The upstream closed the connection before it answered."
    UpstreamHeadTimeout "upstream_head_timeout" 504 "The upstream did not answer in time."
    UpstreamHeadTooLarge "upstream_head_too_large" 502 "The head of the upstream's response is larger than allowed."
    UpstreamMalformed "upstream_malformed" 502 "The upstream's response is not valid HTTP."
    UpstreamInterimFlood "upstream_interim_flood" 502 "The upstream sent too many interim responses."
    UpstreamBodyCut "upstream_body_cut" 502 "The upstream cut the body of its response short."
    UpstreamBodyTimeout "upstream_body_timeout" 504 "The body of the upstream's response came too slowly."
    RequestTimeout "request_timeout" 504 "The exchange took longer than this route allows."
    GatewayDraining "gateway_draining" 503 "The gateway is shutting down."
    GatewayOverloaded "gateway_overloaded" 503 "The gateway is at its limit."
    ClientClosed "client_closed" 499 "The client closed the connection before the exchange was over."
    ClientTooSlow "client_too_slow" 499 "The client took the response too slowly."
}

impl Reason {
    /// The reason of a path that has no normal form.
    pub fn of_path(error: PathError) -> Self {
        match error.is_ambiguity() {
            true => Self::PathAmbiguous,
            false => Self::PathInvalid,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.code())
    }
}

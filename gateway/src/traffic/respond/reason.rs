//! The table of reasons: for each, the stable code that logs, metrics and the reason header
//! carry, the status it answers with, what a user is told, and what an operator does about it.
//!
//! Must not: reuse a code for another meaning. Codes are a promise; words may improve.

use crate::traffic::route::PathError;

macro_rules! reasons {
    ($($variant:ident $code:literal $status:literal $explanation:literal $advice:literal)*) => {
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

            /// What an operator does about it, in Markdown.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),* }
            }
        }
    };
}

reasons! {
    RequestLineMalformed "request_line_malformed" 400 "The request line is not valid HTTP/1.1."
        "Mend the client: it sends something that is not HTTP, perhaps TLS to a plain listener."
    PlainHttp "plain_http" 400 "This port speaks TLS: ask for https instead of http."
        "Mend the link or the client. To serve plain HTTP as well, add a listener without `tls`."
    LineEndingInvalid "line_ending_invalid" 400 "A line of the request does not end in CRLF."
        "Mend the client. A bare LF or CR in a head is how requests are smuggled, so there is no switch."
    HeaderMalformed "header_malformed" 400 "A header field of the request is not valid."
        "Mend the client: space before a colon, a folded line, or a character that no field may have."
    HeaderUnderscore "header_underscore" 400 "A header field name contains an underscore, which origins confuse with a hyphen."
        "Rename the field, or set `forwarding.underscores` to `drop` or `keep`."
    HostInvalid "host_invalid" 400 "The request must carry exactly one valid Host."
        "Mend the client: Host is missing, repeated, no host name, or differs from the target's."
    LengthInvalid "content_length_invalid" 400 "The Content-Length of the request is not one decimal number."
        "Mend the client, or the proxy before the gateway, that wrote the length."
    FramingConflict "framing_conflict" 400 "The request carries both Content-Length and Transfer-Encoding."
        "Mend the client. Two lengths for one body are how requests are smuggled, so there is no switch."
    TransferEncodingInvalid "transfer_encoding_invalid" 400 "The Transfer-Encoding of the request is not valid."
        "Mend the client: `chunked` has to come last, once, and not in HTTP/1.0."
    TransferEncodingUnsupported "transfer_encoding_unsupported" 501 "Only the chunked transfer coding is supported."
        "Have the client compress with Content-Encoding instead, or not at all."
    ChunkMalformed "chunk_malformed" 400 "The chunked body of the request is not valid."
        "Mend the client: a chunk's size, its extension or its line ending is wrong."
    GrpcWebMalformed "grpc_web_malformed" 400 "The body of the call is no base64."
        "Mend the client: `application/grpc-web-text` is base64 in groups of four characters."
    ConnectionInvalid "connection_invalid" 400 "The Connection field names a field that it must not."
        "Mend the client: Connection may not name fields such as Host or Content-Length."
    PathInvalid "path_invalid" 400 "The path of the request is not valid."
        "Mend the client: the path has a character that must be escaped, or a broken escape. If the detail speaks of a rewritten path, mend the route's `rewrite`."
    PathAmbiguous "path_ambiguous" 400 "The path of the request can be read in more than one way."
        "Mend the client. If the origin has names with an encoded slash, set `http.encoded_slashes: keep` on the listener."
    UpgradeInvalid "upgrade_invalid" 400 "The request asks for an upgrade that it may not have."
        "Mend the client: a WebSocket begins with a GET that has no body."
    MethodUnknown "method_unknown" 501 "No method here has a name that long."
        "Nothing, unless a client of yours has such a method."
    MethodRefused "method_refused" 405 "This method is not served here."
        "Nothing: CONNECT and TRACE are never served."
    HeadTimeout "head_timeout" 408 "The head of the request did not arrive in time."
        "Look for slow clients; `timeouts.head` of the listener is the limit."
    BodyTimeout "body_timeout" 408 "The body of the request came too slowly."
        "Look for slow clients; the policy `timeouts` has `body_progress` and `body_rate_min`."
    BodyTooLarge "body_too_large" 413 "The body of the request is larger than this route allows."
        "Raise the policy `body_limit` of the route, if such bodies are meant to come."
    TargetTooLong "target_too_long" 414 "The request target is longer than this listener allows."
        "Raise `http.uri_bytes_max` of the listener, if such targets are meant to come."
    ExpectationUnknown "expectation_unknown" 417 "The only expectation served is 100-continue."
        "Mend the client."
    Misdirected "misdirected" 421 "This connection may not ask for that host; open another."
        "Nothing: browsers open another connection. Otherwise let the client ask for the host that it named in its handshake, and see `hosts` of the listener and `listeners` of the domain."
    HeadTooLarge "head_too_large" 431 "The header fields of the request are larger or more than this listener allows."
        "Raise `http.head_bytes_max` or `http.field_count_max` of the listener; large cookies are the usual cause."
    VersionUnsupported "version_unsupported" 505 "Only HTTP/1.0 and HTTP/1.1 are served on this connection."
        "Mend the client: HTTP/2 has to be agreed on in the TLS handshake (`tls.alpn`), or begin the connection where there is none (`http2.cleartext`)."
    DomainUnknown "domain_unknown" 404 "No domain here serves this host."
        "Add the host to a domain, or mark one with `default: true`."
    RouteUnknown "route_unknown" 404 "No route of this domain matches the request."
        "Add a route; `cardea explain METHOD URL` tells of each route why it does not match."
    AddressDenied "address_denied" 403 "Requests from this address are not served here."
        "See the policies `ip_access` at the gateway, the domain and the route: each has to allow the client. Behind a balancer, `forwarding.trusted_proxies` has to name it."
    ClientCertificateRequired "client_certificate_required" 403 "This needs a client certificate, and the connection was made without one."
        "Let the client show its certificate. It is asked for one only if `tls.client_certificates` of the domain or the listener is set."
    ClientDenied "client_denied" 403 "The owner of this client certificate may not have this."
        "Look at `client_access` of the gateway, the domain and the route; the log has `client_subject` and `client_name`."
    OriginDenied "origin_denied" 403 "This origin may not make this request."
        "Add the origin to `cors.allow_origins`, if its pages may call this route."
    RateLimited "rate_limited" 429 "Too many requests; try again later."
        "Raise `rate_limit`, or see who asks so often. Behind a balancer that `forwarding.trusted_proxies` does not name, all clients count as one."
    Redirected "redirected" 308 "The resource is elsewhere."
        "Nothing: the policy `redirect` answered. The status is the policy's."
    AuthorityAnswered "authority_answered" 200 "An authority asked for proof that the host is served here."
        "Nothing: a certificate is being ordered for the host, see `acme`."
    Answered "answered" 200 "The route answers by itself."
        "Nothing: the policy `respond` answered. The status is the policy's."
    UpstreamUnresolved "upstream_unresolved" 503 "The upstream has no address yet."
        "See the name in `endpoints` and the `resolver`; the log says `name does not resolve`."
    UpstreamUnhealthy "upstream_unhealthy" 503 "No endpoint of the upstream can be used."
        "See `/upstreams` of the admin listener: endpoints that fail their checks, that are ejected, or of weight zero."
    UpstreamSaturated "upstream_saturated" 503 "The upstream is at its limit."
        "Add endpoints, or raise the upstream's `limits`."
    UpstreamOverloaded "upstream_overloaded" 503 "The upstream is busy; try again in a moment."
        "The upstream, or the gateway in front of it, gets more than it can do, and what has waited too long for its turn is refused (`adaptive_concurrency`). Add endpoints, or see why they became slow; if `cardea_worker_delay_seconds` is high, it is the gateway that needs processors."
    UpstreamConnectFailed "upstream_connect_failed" 502 "The upstream could not be reached."
        "See that the origin listens on that address and port; the log names the error at `debug`."
    UpstreamConnectTimeout "upstream_connect_timeout" 504 "The upstream could not be reached in time."
        "See firewalls and the origin's backlog; the policy `timeouts` has `connect`."
    UpstreamTlsFailed "upstream_tls_failed" 502 "The upstream could not prove who it is, or would not speak TLS with us."
        "See the upstream's `tls`: `ca`, `server_name`, and `certificate` if the origin asks for one."
    UpstreamReset "upstream_reset" 502 "The upstream closed the connection before it answered."
        "See the origin's log: it crashed, or closes idle connections sooner than the `pool.idle_timeout` of the upstream."
    UpstreamHeadTimeout "upstream_head_timeout" 504 "The upstream did not answer in time."
        "See why the origin is slow; the policy `timeouts` has `upstream_head`."
    UpstreamHeadTooLarge "upstream_head_too_large" 502 "The head of the upstream's response is larger than allowed."
        "See what the origin sends: usually too many cookies."
    UpstreamMalformed "upstream_malformed" 502 "The upstream's response is not valid HTTP."
        "See that the port speaks what the upstream's `tls` and `protocol` say; otherwise mend the origin."
    UpstreamInterimFlood "upstream_interim_flood" 502 "The upstream sent too many interim responses."
        "Mend the origin: it keeps sending 1xx responses and no answer."
    UpstreamTrailersTooLarge "upstream_trailers_too_large" 502 "The fields after the upstream's response are larger or more than allowed."
        "See what the origin sends after its responses: usually the details of a failed call. Over HTTP/1.1 it may send 8 KiB in 32 fields, and in answer to gRPC-Web over HTTP/2 32 KiB in as many."
    UpstreamBodyCut "upstream_body_cut" 502 "The upstream cut the body of its response short."
        "See the origin's log: it ended before the length that it had promised."
    UpstreamBodyTimeout "upstream_body_timeout" 504 "The body of the upstream's response came too slowly."
        "See why the origin stalls; the policy `timeouts` has `upstream_body`."
    RequestTimeout "request_timeout" 504 "The exchange took longer than this route allows."
        "See what takes so long; the policy `timeouts` has `request`."
    ClientClosed "client_closed" 499 "The client closed the connection before the exchange was over."
        "Nothing, unless there are many: then users give up on a slow origin."
    ClientTooSlow "client_too_slow" 499 "The client took the response too slowly."
        "Nothing, unless there are many; the policy `timeouts` has `write_progress` and `write_rate_min`."
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

#[cfg(test)]
mod tests;

//! The well-known field names, interned: one byte instead of a comparison wherever a field is
//! looked at again. One table, one place to add a name.

/// Declares the names once; everything else in this file follows from the list.
macro_rules! known {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A well-known field name, or [`Known::Other`].
        ///
        /// The names that decide about the message itself come first: the parser tells them apart
        /// from the rest by one comparison.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Known {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// Any other name.
            Other,
        }

        impl Known {
            /// Every well-known name.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name as it is usually written; empty for [`Known::Other`].
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other => "",
                }
            }
        }
    };
}

known! {
    Host = "Host",
    ContentLength = "Content-Length",
    TransferEncoding = "Transfer-Encoding",
    Connection = "Connection",
    Upgrade = "Upgrade",
    Expect = "Expect",
    Te = "TE",
    KeepAlive = "Keep-Alive",
    ProxyConnection = "Proxy-Connection",
    Trailer = "Trailer",
    Http2Settings = "HTTP2-Settings",
    Forwarded = "Forwarded",
    Via = "Via",
    XForwardedFor = "X-Forwarded-For",
    XForwardedProto = "X-Forwarded-Proto",
    XForwardedHost = "X-Forwarded-Host",
    XForwardedPort = "X-Forwarded-Port",
    XForwardedServer = "X-Forwarded-Server",
    XForwardedPrefix = "X-Forwarded-Prefix",
    XForwardedUri = "X-Forwarded-Uri",
    XForwardedMethod = "X-Forwarded-Method",
    XForwardedClientCert = "X-Forwarded-Client-Cert",
    ClientCert = "Client-Cert",
    ClientCertChain = "Client-Cert-Chain",
    XRealIp = "X-Real-IP",
    XOriginalUrl = "X-Original-URL",
    XRewriteUrl = "X-Rewrite-URL",
    XHttpMethodOverride = "X-HTTP-Method-Override",
    XRequestId = "X-Request-ID",
    XCorrelationId = "X-Correlation-ID",
    Traceparent = "Traceparent",
    Tracestate = "Tracestate",
    Baggage = "Baggage",
    Authorization = "Authorization",
    AuthenticationInfo = "Authentication-Info",
    ProxyAuthorization = "Proxy-Authorization",
    ProxyAuthenticate = "Proxy-Authenticate",
    ProxyAuthenticationInfo = "Proxy-Authentication-Info",
    WwwAuthenticate = "WWW-Authenticate",
    XApiKey = "X-API-Key",
    XCsrfToken = "X-CSRF-Token",
    Cookie = "Cookie",
    SetCookie = "Set-Cookie",
    Accept = "Accept",
    AcceptCharset = "Accept-Charset",
    AcceptEncoding = "Accept-Encoding",
    AcceptLanguage = "Accept-Language",
    AcceptRanges = "Accept-Ranges",
    UserAgent = "User-Agent",
    Referer = "Referer",
    Origin = "Origin",
    From = "From",
    Dnt = "DNT",
    Priority = "Priority",
    MaxForwards = "Max-Forwards",
    EarlyData = "Early-Data",
    Prefer = "Prefer",
    XRequestedWith = "X-Requested-With",
    UpgradeInsecureRequests = "Upgrade-Insecure-Requests",
    SecFetchSite = "Sec-Fetch-Site",
    SecFetchMode = "Sec-Fetch-Mode",
    SecFetchDest = "Sec-Fetch-Dest",
    SecFetchUser = "Sec-Fetch-User",
    SecChUa = "Sec-CH-UA",
    SecChUaMobile = "Sec-CH-UA-Mobile",
    SecChUaPlatform = "Sec-CH-UA-Platform",
    SecWebSocketKey = "Sec-WebSocket-Key",
    SecWebSocketVersion = "Sec-WebSocket-Version",
    SecWebSocketAccept = "Sec-WebSocket-Accept",
    SecWebSocketProtocol = "Sec-WebSocket-Protocol",
    SecWebSocketExtensions = "Sec-WebSocket-Extensions",
    ContentType = "Content-Type",
    ContentEncoding = "Content-Encoding",
    ContentLanguage = "Content-Language",
    ContentLocation = "Content-Location",
    ContentRange = "Content-Range",
    ContentDisposition = "Content-Disposition",
    ContentSecurityPolicy = "Content-Security-Policy",
    CacheControl = "Cache-Control",
    Pragma = "Pragma",
    Age = "Age",
    Expires = "Expires",
    Date = "Date",
    Etag = "ETag",
    LastModified = "Last-Modified",
    Vary = "Vary",
    Warning = "Warning",
    IfMatch = "If-Match",
    IfNoneMatch = "If-None-Match",
    IfModifiedSince = "If-Modified-Since",
    IfUnmodifiedSince = "If-Unmodified-Since",
    IfRange = "If-Range",
    Range = "Range",
    Location = "Location",
    RetryAfter = "Retry-After",
    Allow = "Allow",
    Server = "Server",
    Link = "Link",
    AltSvc = "Alt-Svc",
    ServerTiming = "Server-Timing",
    StrictTransportSecurity = "Strict-Transport-Security",
    XContentTypeOptions = "X-Content-Type-Options",
    XFrameOptions = "X-Frame-Options",
    XXssProtection = "X-XSS-Protection",
    XPoweredBy = "X-Powered-By",
    ReferrerPolicy = "Referrer-Policy",
    PermissionsPolicy = "Permissions-Policy",
    AccessControlAllowOrigin = "Access-Control-Allow-Origin",
    AccessControlAllowMethods = "Access-Control-Allow-Methods",
    AccessControlAllowHeaders = "Access-Control-Allow-Headers",
    AccessControlAllowCredentials = "Access-Control-Allow-Credentials",
    AccessControlExposeHeaders = "Access-Control-Expose-Headers",
    AccessControlMaxAge = "Access-Control-Max-Age",
    AccessControlRequestMethod = "Access-Control-Request-Method",
    AccessControlRequestHeaders = "Access-Control-Request-Headers",
}

const COUNT: usize = Known::ALL.len();

impl Known {
    /// The interned form of a field name, whatever its case.
    ///
    /// One multiplication finds the only candidate, two or three word comparisons settle it.
    #[inline(always)]
    pub fn of(name: &[u8]) -> Self {
        let (head, tail) = ends(name);
        let slot = slot(head, tail, name.len(), SEED);
        // A vacant slot leads past the end.
        let Some(entry) = ENTRIES.get(usize::from(SLOTS[slot])) else {
            return Self::Other;
        };
        let differs = ((head | entry.head_case) ^ entry.head)
            | ((tail | entry.tail_case) ^ entry.tail)
            | (name.len() as u64 ^ entry.length);
        if differs != 0
            || (name.len() > 16 && !entry.known.name().as_bytes().eq_ignore_ascii_case(name))
        {
            return Self::Other;
        }
        entry.known
    }

    /// Whether the name decides about the message itself rather than about its content.
    #[inline]
    pub(crate) fn decides(self) -> bool {
        self <= Self::Te
    }

    /// Whether the name belongs to one connection and is never forwarded as received
    /// (RFC 9110 section 7.6.1, and those that predate it).
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }

    /// Whether a trailer of this name may be passed on (RFC 9110 section 6.5.1).
    ///
    /// A trailer arrives after everything was decided. Of the well-known names only those that
    /// report on the content just sent are harmless then; all that frames, routes, authenticates,
    /// conditions or controls is not. Names nobody here knows are the applications' own.
    pub fn is_allowed_in_trailers(self) -> bool {
        matches!(
            self,
            Self::Other | Self::Etag | Self::ServerTiming | Self::Link
        )
    }
}

struct Entry {
    known: Known,
    length: u64,
    /// The first and last eight bytes in lower case, and 0x20 where they are letters: or-ing that
    /// into a candidate folds the case of letters and of nothing else.
    head: u64,
    head_case: u64,
    tail: u64,
    tail_case: u64,
}

/// Powers of two; as large as it takes to find a seed without collisions quickly.
const SLOT_BITS: u32 = 11;
const VACANT: u8 = u8::MAX;

static ENTRIES: [Entry; COUNT] = entries();
static SLOTS: [u8; 1 << SLOT_BITS] = slots(SEED);
/// Found at compile time, so that adding a name is adding a line.
const SEED: u64 = find_seed();

/// The first and last eight bytes; a shorter name is padded with zeros, and has no last eight.
#[inline(always)]
const fn ends(name: &[u8]) -> (u64, u64) {
    if let (Some(head), Some(tail)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        return (u64::from_le_bytes(*head), u64::from_le_bytes(*tail));
    }
    let bits = name.len() * 8;
    if let (Some(low), Some(high)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        // The halves overlap in bytes that are the same in both.
        let high = (u32::from_le_bytes(*high) as u64) << (bits - 32);
        return (u32::from_le_bytes(*low) as u64 | high, 0);
    }
    match *name {
        [a] => (a as u64, 0),
        [a, b] => (a as u64 | (b as u64) << 8, 0),
        [a, b, c] => (a as u64 | (b as u64) << 8 | (c as u64) << 16, 0),
        _ => (0, 0),
    }
}

#[inline(always)]
const fn slot(head: u64, tail: u64, length: usize, seed: u64) -> usize {
    const LOWER: u64 = u64::MAX / 255 * 0x20;
    // Short names are padded with zeros, which this turns into spaces: the same for all of them.
    let mixed = (head | LOWER) ^ (tail | LOWER).rotate_left(29) ^ (length as u64) << 56;
    (mixed.wrapping_mul(seed) >> (64 - SLOT_BITS)) as usize
}

const fn case_of(lower: u64) -> u64 {
    let mut bytes = lower.to_le_bytes();
    let mut i = 0;
    while i < 8 {
        bytes[i] = if bytes[i].is_ascii_lowercase() {
            0x20
        } else {
            0
        };
        i += 1;
    }
    u64::from_le_bytes(bytes)
}

const fn lower(word: u64) -> u64 {
    let mut bytes = word.to_le_bytes();
    let mut i = 0;
    while i < 8 {
        bytes[i] = bytes[i].to_ascii_lowercase();
        i += 1;
    }
    u64::from_le_bytes(bytes)
}

const fn entry(known: Known) -> Entry {
    let name = known.name();
    let (head, tail) = ends(name.as_bytes());
    let (head, tail) = (lower(head), lower(tail));
    Entry {
        known,
        length: name.len() as u64,
        head,
        head_case: case_of(head),
        tail,
        tail_case: case_of(tail),
    }
}

const fn entries() -> [Entry; COUNT] {
    let mut entries = [const { entry(Known::Host) }; COUNT];
    let mut i = 0;
    while i < COUNT {
        entries[i] = entry(Known::ALL[i]);
        i += 1;
    }
    entries
}

const fn slots(seed: u64) -> [u8; 1 << SLOT_BITS] {
    let mut slots = [VACANT; 1 << SLOT_BITS];
    let mut i = 0;
    while i < COUNT {
        let name = Known::ALL[i].name().as_bytes();
        let (head, tail) = ends(name);
        slots[slot(head, tail, name.len(), seed)] = i as u8;
        i += 1;
    }
    slots
}

const fn find_seed() -> u64 {
    let mut keys = [(0, 0, 0); COUNT];
    let mut i = 0;
    while i < COUNT {
        let name = Known::ALL[i].name().as_bytes();
        let (head, tail) = ends(name);
        keys[i] = (head, tail, name.len());
        i += 1;
    }
    // Odd numbers with many bits, from the golden ratio on.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    loop {
        let mut taken = [0u64; 1 << (SLOT_BITS - 6)];
        let mut i = 0;
        while i < COUNT {
            let (head, tail, length) = keys[i];
            let at = slot(head, tail, length, seed);
            if taken[at / 64] & 1 << (at % 64) != 0 {
                break;
            }
            taken[at / 64] |= 1 << (at % 64);
            i += 1;
        }
        if i == COUNT {
            return seed;
        }
        seed = seed.wrapping_mul(0xd134_2543_de82_ef95) | 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for &known in Known::ALL {
            let name = known.name();
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
            assert_eq!(
                Known::of(name.to_ascii_lowercase().as_bytes()),
                known,
                "{name}"
            );
            assert_eq!(
                Known::of(name.to_ascii_uppercase().as_bytes()),
                known,
                "{name}"
            );
        }
    }

    #[test]
    fn a_name_with_one_byte_changed_is_another() {
        for &known in Known::ALL {
            for offset in 0..known.name().len() {
                for byte in 0..=255 {
                    let mut name = known.name().as_bytes().to_vec();
                    name[offset] = byte;
                    let same = name.eq_ignore_ascii_case(known.name().as_bytes());
                    assert_eq!(Known::of(&name) == known, same, "{}", name.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn other_names_are_other() {
        for name in [
            "",
            "H",
            "Hos",
            "Hostt",
            "X-Forwarded-Fo",
            "X-Hinge",
            "content-lengths",
        ] {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
    }
}

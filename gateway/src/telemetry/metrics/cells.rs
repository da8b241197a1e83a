//! Where a worker counts: cells that it alone writes and a scrape reads, grouped so that a request
//! touches few cache lines, and allocated by the worker when it first needs them.
//!
//! Must not: be written by two threads while a slot is in use, or order anything else. The counts
//! are relaxed, so a scrape may see one half of a request; nothing may be inferred from that.

use cardea_http2::Fault;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::buckets::{self, BUCKETS};
use crate::traffic::respond::Reason;

/// A count that one thread writes and any thread reads. Adding costs a load and a store.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.set(self.value().wrapping_add(more));
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something with cells that can begin anew, for another owner.
pub(super) trait Cells: Default {
    /// How many are allocated together.
    const PER_CHUNK: usize;

    /// Sets every cell to zero. Only while nobody counts in them.
    fn clear(&self);
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) buckets: [Count; BUCKETS],
}

/// Counts of statuses by their class.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a status among [`CLASSES`]; what is not a status counts as the gravest.
pub(super) fn class_of(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class - 1),
        _ => CLASSES.len() - 1,
    }
}

/// What is counted for a route: one cache line and two of buckets.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct RouteCells {
    pub(super) classes: [Count; CLASSES.len()],
    pub(super) duration: Count,
    pub(super) bytes_received: Count,
    pub(super) bytes_sent: Count,
    pub(super) times: Times,
}

impl RouteCells {
    pub(super) fn observe(&self, duration: Duration) {
        observe(&self.duration, &self.times, duration);
    }
}

/// What is counted for an upstream.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct UpstreamCells {
    pub(super) classes: [Count; CLASSES.len()],
    pub(super) unanswered: Count,
    pub(super) duration: Count,
    pub(super) retries: Count,
    pub(super) times: Times,
    pub(super) opened: Count,
    pub(super) reused: Count,
    pub(super) failed: Count,
}

impl UpstreamCells {
    pub(super) fn observe(&self, duration: Duration) {
        observe(&self.duration, &self.times, duration);
    }
}

fn observe(sum: &Count, times: &Times, duration: Duration) {
    let units = buckets::units(duration);
    sum.add(units);
    if let Some(bucket) = times.buckets.get(buckets::bucket_of(units)) {
        bucket.add(1);
    }
}

/// What is counted for a domain: the responses that the gateway made, by the place of their reason.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct DomainCells {
    pub(super) reasons: [Count; Reason::ALL.len()],
}

impl Default for DomainCells {
    fn default() -> Self {
        Self {
            reasons: std::array::from_fn(|_| Count::default()),
        }
    }
}

macro_rules! closed_set {
    ($(#[$meta:meta])* $Ends:ident { $($End:ident $name:literal $help:literal)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $Ends { $(#[doc = $help] $End),* }

        impl $Ends {
            pub(super) const ALL: &'static [Self] = &[$(Self::$End),*];

            /// The word that metrics and logs have for it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$End => $name),* }
            }

            /// What it means.
            #[cfg(test)]
            pub(super) const fn help(self) -> &'static str {
                match self { $(Self::$End => $help),* }
            }
        }
    };
}

closed_set! {
    /// How a TLS handshake with a client ended.
    HandshakeEnd {
        Full "full" "A new session was made."
        Resumed "resumed" "An earlier session was resumed."
        Early "early" "An earlier session was resumed, and a request may have come with the first words (0-RTT)."
        Refused "refused" "There were too many that waited for their turn."
        Silent "silent" "The client was silent longest when too many were."
        TimedOut "timed_out" "It took too long."
        Closed "closed" "The client went away."
        PlainHttp "plain_http" "The client spoke HTTP without TLS."
        Malformed "malformed" "What the client sent is not TLS, or breaks its rules."
        Version "version" "The client knows no version that is served."
        Algorithms "algorithms" "The client knows no cipher suite, key exchange or signature that is served."
        Protocol "protocol" "The client wants another protocol than those offered."
        UnknownName "unknown_name" "No certificate has the name that the client asked for."
        ClientCertificateMissing "client_certificate_missing" "The client showed no certificate where one is required."
        ClientCertificateExpired "client_certificate_expired" "The client's certificate is past or ahead of its time."
        ClientCertificateRevoked "client_certificate_revoked" "The client's certificate is revoked, or nothing says whether it is."
        ClientCertificateInvalid "client_certificate_invalid" "The client's certificate is of an authority that does not count, or is broken."
        ClientCertificateDenied "client_certificate_denied" "The client's certificate is good, and no rule lets its owner in."
        Passed "passed" "The connection went to a stream as it was."
        Proved "proved" "An authority was shown proof that the host is served here."
        Alert "alert" "The client refused what it was shown, and said so in an alert."
        Failed "failed" "Anything else."
    }
}

closed_set! {
    /// How it ended to look for the header of a proxy (PROXY protocol).
    ProxyHeaderEnd {
        V1 "v1" "A header of version 1 said where the connection comes from."
        V2 "v2" "A header of version 2 said where the connection comes from."
        Local "local" "A header named no client: the proxy's own connection, or one of a kind without addresses."
        Absent "absent" "There was none, and none is required."
        Missing "missing" "The connection began with something else."
        Malformed "malformed" "The header breaks a rule of its version."
        TooLong "too_long" "The header is longer than allowed."
        Checksum "checksum" "The checksum of the header is wrong."
        TimedOut "timed_out" "It took too long."
        Closed "closed" "The proxy went away."
    }
}

closed_set! {
    /// How a stream's connection or session ended.
    StreamEnd {
        Closed "closed" "Both sides had ended it."
        Idle "idle" "Nothing crossed it for as long as the stream allows."
        ClientReset "client_reset" "The client broke it off."
        EndpointReset "endpoint_reset" "The endpoint broke it off, refused a datagram, or is not to be used any more."
        Released "released" "The listener is gone, or the gateway shuts down."
        Saturated "upstream_saturated" "The upstream has all the connections or requests it may have."
        Unresolved "upstream_unresolved" "No endpoint of the upstream is known."
        Unhealthy "upstream_unhealthy" "No endpoint of the upstream can be used."
        ConnectFailed "upstream_connect_failed" "No connection to an endpoint could be opened."
        ConnectTimeout "upstream_connect_timeout" "No endpoint answered in time."
        TlsFailed "upstream_tls_failed" "The TLS handshake with the endpoint failed."
    }
}

closed_set! {
    /// Why a datagram was dropped.
    DatagramDrop {
        SessionsMax "sessions_max" "The listener had as many sessions as it may have, and this would have been another."
        TooLarge "too_large" "It was larger than the listener's `datagram_bytes_max`."
        NoEndpoint "no_endpoint" "No endpoint could be used, or the gateway had no socket for it."
        EndpointFull "endpoint_full" "The system would not take it for the endpoint at once."
        ClientFull "client_full" "The system would not take it for the client at once."
    }
}

/// What is counted for a stream.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct StreamCells {
    pub(super) opened: Count,
    pub(super) closed: Count,
    pub(super) received: Count,
    pub(super) sent: Count,
    pub(super) ends: [Count; StreamEnd::ALL.len()],
    pub(super) dropped: [Count; DatagramDrop::ALL.len()],
}

impl Default for StreamCells {
    fn default() -> Self {
        let count = |_| Count::default();
        Self {
            opened: Count::default(),
            closed: Count::default(),
            received: Count::default(),
            sent: Count::default(),
            ends: std::array::from_fn(count),
            dropped: std::array::from_fn(count),
        }
    }
}

/// What is counted for a listener.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct ListenerCells {
    pub(super) opened: Count,
    pub(super) closed: Count,
    pub(super) refused: Count,
    pub(super) handshakes: [Count; HandshakeEnd::ALL.len()],
    pub(super) http2_faults: Http2Faults,
    pub(super) http2_pauses: Count,
    pub(super) proxy_headers: [Count; ProxyHeaderEnd::ALL.len()],
}

/// Rules of HTTP/2 that clients broke, by the place of the fault.
#[derive(Debug)]
pub(super) struct Http2Faults(pub(super) [Count; Fault::ALL.len()]);

impl Default for Http2Faults {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

fn clear_all<'a>(counts: impl IntoIterator<Item = &'a Count>) {
    for count in counts {
        count.set(0);
    }
}

impl Cells for RouteCells {
    const PER_CHUNK: usize = 32;

    fn clear(&self) {
        clear_all(&self.classes);
        clear_all([&self.duration, &self.bytes_received, &self.bytes_sent]);
        clear_all(&self.times.buckets);
    }
}

impl Cells for UpstreamCells {
    const PER_CHUNK: usize = 16;

    fn clear(&self) {
        clear_all(&self.classes);
        clear_all([&self.unanswered, &self.duration, &self.retries]);
        clear_all(&self.times.buckets);
        clear_all([&self.opened, &self.reused, &self.failed]);
    }
}

impl Cells for DomainCells {
    const PER_CHUNK: usize = 8;

    fn clear(&self) {
        clear_all(&self.reasons);
    }
}

impl Cells for ListenerCells {
    const PER_CHUNK: usize = 16;

    fn clear(&self) {
        clear_all([&self.opened, &self.closed, &self.refused]);
        clear_all([&self.http2_pauses]);
        clear_all(&self.handshakes);
        clear_all(&self.http2_faults.0);
        clear_all(&self.proxy_headers);
    }
}

impl Cells for StreamCells {
    const PER_CHUNK: usize = 16;

    fn clear(&self) {
        clear_all([&self.opened, &self.closed, &self.received, &self.sent]);
        clear_all(&self.ends);
        clear_all(&self.dropped);
    }
}

/// What a worker counts for itself.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct OwnCells {
    pub(super) requests: Count,
    pub(super) accept_failures: Count,
    pub(super) tunnels_opened: Count,
    pub(super) tunnels_closed: Count,
    pub(super) pool_idle: Count,
    pub(super) buffers_in_use: Count,
    pub(super) requests_waiting: Count,
    /// Microseconds.
    pub(super) delay: Count,
}

/// The cells of many slots, allocated in chunks when a slot of the chunk is first counted in.
#[derive(Debug)]
pub(super) struct Chunks<C>(Box<[OnceLock<Box<[C]>>]>);

impl<C: Cells> Chunks<C> {
    /// Room for so many slots.
    pub(super) fn new(slots_max: usize) -> Self {
        let chunks = slots_max.div_ceil(C::PER_CHUNK);
        Self((0..chunks).map(|_| OnceLock::new()).collect())
    }

    /// The cells of a slot, for the worker that owns them.
    pub(super) fn owned(&self, slot: u32) -> Option<&C> {
        let slot = slot as usize;
        let chunk = self.0.get(slot / C::PER_CHUNK)?;
        let cells = chunk.get_or_init(|| (0..C::PER_CHUNK).map(|_| C::default()).collect());
        cells.get(slot % C::PER_CHUNK)
    }

    /// The cells of a slot, if anything was ever counted near it.
    pub(super) fn seen(&self, slot: u32) -> Option<&C> {
        let slot = slot as usize;
        self.0
            .get(slot / C::PER_CHUNK)?
            .get()?
            .get(slot % C::PER_CHUNK)
    }
}

/// Everything one worker counts.
#[derive(Debug)]
pub(super) struct WorkerCells {
    pub(super) own: OwnCells,
    pub(super) routes: Chunks<RouteCells>,
    pub(super) domains: Chunks<DomainCells>,
    pub(super) upstreams: Chunks<UpstreamCells>,
    pub(super) listeners: Chunks<ListenerCells>,
    pub(super) streams: Chunks<StreamCells>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_touches_few_lines() {
        assert_eq!(size_of::<RouteCells>(), 3 * 64);
        assert_eq!(size_of::<UpstreamCells>(), 4 * 64);
        assert_eq!(size_of::<ListenerCells>(), 8 * 64);
    }

    #[test]
    fn statuses_fall_in_classes() {
        let check = |status: u16, expected: &str| assert_eq!(CLASSES[class_of(status)], expected);
        check(101, "1xx");
        check(200, "2xx");
        check(308, "3xx");
        check(499, "4xx");
        check(599, "5xx");
        check(0, "5xx");
        check(700, "5xx");
    }

    #[test]
    fn chunks_are_made_when_they_are_needed() {
        let chunks: Chunks<RouteCells> = Chunks::new(RouteCells::PER_CHUNK + 1);
        let last = RouteCells::PER_CHUNK as u32;
        assert!(chunks.seen(0).is_none());
        chunks.owned(last).unwrap().bytes_sent.add(3);
        assert!(chunks.seen(0).is_none());
        assert_eq!(chunks.seen(last).unwrap().bytes_sent.value(), 3);
        chunks.seen(last).unwrap().clear();
        assert_eq!(chunks.seen(last).unwrap().bytes_sent.value(), 0);
        assert!(chunks.owned(2 * last).is_none());
    }
}

//! Every metric there is: its name, kind, labels and meaning, in one table. The collector, the
//! reference page and the tests all read this table.
//!
//! Must not: name a label whose values a client chooses. Labels are configured names and closed
//! sets, so that nobody can make series at will.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process or the series begins anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! metrics {
    ($($variant:ident $name:literal $kind:ident [$($label:literal)*] $help:literal)*) => {
        /// A metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric { $(#[doc = $help] $variant),* }

        impl Metric {
            /// Every metric, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name that Prometheus sees.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// How it behaves.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind),* }
            }

            /// Its labels, in the order in which their values are given.
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($label),*]),* }
            }

            /// What it means.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),* }
            }
        }
    };
}

metrics! {
    Requests "cardea_requests_total" Counter ["domain" "route" "code"]
        "Requests answered, by class of status."
    RequestDuration "cardea_request_duration_seconds" Histogram ["domain" "route"]
        "From the head of the request to the end of the response. Tunnels are not timed."
    RequestBytes "cardea_request_body_bytes_total" Counter ["domain" "route"]
        "Body bytes received from clients."
    ResponseBytes "cardea_response_body_bytes_total" Counter ["domain" "route"]
        "Body bytes sent to clients."
    ResponsesByGateway "cardea_responses_by_gateway_total" Counter ["domain" "reason"]
        "Exchanges that the gateway answered by itself or ended early, by reason."

    ConnectionsOpen "cardea_connections_open" Gauge ["listener"]
        "Client connections open now; on a listener for UDP, sessions."
    Connections "cardea_connections_total" Counter ["listener"]
        "Client connections accepted; on a listener for UDP, sessions begun."
    ConnectionsRefused "cardea_connections_refused_total" Counter ["listener"]
        "Client connections closed at once because the listener had connections_max of them; on a listener for UDP, datagrams dropped for sessions_max."
    AcceptFailures "cardea_accept_failures_total" Counter []
        "Accepts that failed, mostly for want of file descriptors."
    Handshakes "cardea_tls_handshakes_total" Counter ["listener" "result"]
        "TLS handshakes with clients, by how they ended."
    Http2Faults "cardea_http2_faults_total" Counter ["listener" "fault"]
        "Rules of HTTP/2 that clients broke: streams reset and connections closed for it."
    Http2Pauses "cardea_http2_pauses_total" Counter ["listener"]
        "Times that a connection of HTTP/2 was left unread for 20 ms, because its client had used up half of a budget."
    ProxyHeaders "cardea_proxy_headers_total" Counter ["listener" "result"]
        "Connections from proxies that say where these come from (PROXY protocol), by what came of it."
    TunnelsOpen "cardea_tunnels_open" Gauge []
        "Upgraded connections, such as WebSockets, open now."
    Tunnels "cardea_tunnels_total" Counter []
        "Connections upgraded."

    StreamConnectionsOpen "cardea_stream_connections_open" Gauge ["stream"]
        "Connections and sessions of UDP that the stream has now."
    StreamConnections "cardea_stream_connections_total" Counter ["stream"]
        "Connections and sessions of UDP that the stream took."
    StreamReceivedBytes "cardea_stream_received_bytes_total" Counter ["stream"]
        "Bytes that the stream took from clients to endpoints."
    StreamSentBytes "cardea_stream_sent_bytes_total" Counter ["stream"]
        "Bytes that the stream took from endpoints to clients."
    StreamEnds "cardea_stream_ends_total" Counter ["stream" "reason"]
        "Connections and sessions of UDP that ended, by how."
    StreamDatagramsDropped "cardea_stream_datagrams_dropped_total" Counter ["stream" "reason"]
        "Datagrams dropped, by why."

    UpstreamRequests "cardea_upstream_requests_total" Counter ["upstream" "code"]
        "Requests sent to the upstream, by class of its status; none when it gave none."
    UpstreamDuration "cardea_upstream_request_duration_seconds" Histogram ["upstream"]
        "From the first attempt to the head of the upstream's response."
    UpstreamRetries "cardea_upstream_retries_total" Counter ["upstream"]
        "Attempts after the first."
    UpstreamConnectionsOpened "cardea_upstream_connections_opened_total" Counter ["upstream"]
        "Connections made to endpoints."
    UpstreamConnectionsReused "cardea_upstream_connections_reused_total" Counter ["upstream"]
        "Attempts sent on a connection that was kept."
    UpstreamConnectionsFailed "cardea_upstream_connections_failed_total" Counter ["upstream"]
        "Connections to endpoints that could not be made."
    UpstreamRequestsActive "cardea_upstream_requests_active" Gauge ["upstream"]
        "Requests under way at the upstream."
    UpstreamConnectionsOpen "cardea_upstream_connections_open" Gauge ["upstream"]
        "Connections to endpoints open now, busy and idle."
    UpstreamAdaptiveLimit "cardea_upstream_adaptive_limit" Gauge ["upstream"]
        "Requests that may wait for the upstream's answer, over the workers that found a limit; zero while none has."
    UpstreamQueued "cardea_upstream_requests_queued" Gauge ["upstream"]
        "Requests that wait for their turn, because the upstream has as many as a worker found to be its limit."
    UpstreamEjections "cardea_upstream_ejections_total" Counter ["upstream"]
        "Endpoints that failed requests took out for a while."
    UpstreamEndpoints "cardea_upstream_endpoints" Gauge ["upstream" "state"]
        "Endpoints of the upstream, by state."

    WorkerRequests "cardea_worker_requests_total" Counter ["worker"]
        "Requests answered by each worker."
    WorkerDelay "cardea_worker_delay_seconds" Gauge ["worker"]
        "How long work waited for the worker just now."
    WorkerWaiting "cardea_worker_requests_waiting" Gauge ["worker"]
        "Requests of HTTP/2 that wait for the worker to begin with them, while it finishes others."
    WorkerBuffers "cardea_worker_buffers_in_use" Gauge ["worker"]
        "Buffers that connections of the worker hold now."
    WorkerIdleConnections "cardea_worker_idle_upstream_connections" Gauge ["worker"]
        "Connections to endpoints that the worker keeps for the next request."

    Generation "cardea_config_generation" Gauge []
        "The configuration in force, counted from one."
    LastReloadSuccessful "cardea_config_last_reload_successful" Gauge []
        "Whether the configuration that was read last is in force: 1 or 0."
    LastReload "cardea_config_last_reload_timestamp_seconds" Gauge []
        "When a configuration was read last, Unix time."
    Reloads "cardea_config_reloads_total" Counter ["result"]
        "Configurations read, by what came of it."
    CertificateExpiry "cardea_certificate_expiry_seconds" Gauge ["certificate"]
        "When the certificate expires, Unix time."
    StapleExpiry "cardea_certificate_staple_expiry_seconds" Gauge ["certificate"]
        "Until when the authority's word counts that is stapled to handshakes, Unix time."
    CertificateOrders "cardea_certificate_orders_total" Counter ["result"]
        "Orders of certificates: stored, failed attempts, and denied to those who asked by a handshake."

    LogLines "cardea_access_log_lines_total" Counter []
        "Access-log lines written."
    LogLinesDropped "cardea_access_log_lines_dropped_total" Counter []
        "Access-log lines lost because the queue was full or could not be written."
    LogErrors "cardea_access_log_write_errors_total" Counter []
        "Failures to open or write the access log."
    DiagnosticsDropped "cardea_diagnostics_lines_dropped_total" Counter []
        "Lines of the diagnostics log lost because whoever reads it is too slow."

    BuildInfo "cardea_build_info" Gauge ["version"]
        "Always 1."
    ProcessCpu "process_cpu_seconds_total" Counter []
        "Processor time used by the process, user and system."
    ProcessMemory "process_resident_memory_bytes" Gauge []
        "Memory of the process that is in RAM."
    ProcessFiles "process_open_fds" Gauge []
        "File descriptors open now."
    ProcessFilesMax "process_max_fds" Gauge []
        "File descriptors that the process may open."
    ProcessStart "process_start_time_seconds" Gauge []
        "When the process began, Unix time."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for metric in Metric::ALL {
            let name = metric.name();
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(plain), "{name}");
            assert!(
                name.starts_with("cardea_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                metric.kind() == Kind::Counter,
                "{name}"
            );
            if metric.kind() == Kind::Histogram {
                assert!(name.ends_with("_seconds"), "{name}");
            }
            assert!(metric.help().ends_with('.'), "{name}");
            assert!(metric.labels().iter().all(|label| label.chars().all(plain)));
        }
    }

    #[test]
    fn names_are_not_used_twice() {
        let mut names: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Metric::ALL.len());
    }
}

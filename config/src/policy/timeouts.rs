//! Settings of `timeouts`.
//!
//! Must not: have defaults here: a level that sets nothing leaves the next one to decide.

use crate::model::Period;

crate::model::section! {
    /// Deadlines and least rates of an exchange; `0s` and `0` switch one off.
    pub struct Timeouts {
        /// The whole exchange. Default: off.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub request: Option<Period> = None,
        /// The longest wait for more of a request body. Default: 30s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub body_progress: Option<Period> = None,
        /// The least average rate of a request body, bytes per second. Default: 240.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub body_rate_min: Option<u64> = None,
        /// The longest wait for the client to take more of a response. Default: 30s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub write_progress: Option<Period> = None,
        /// The least average rate at which the client takes a response, bytes per second.
        /// Default: 240.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub write_rate_min: Option<u64> = None,
        /// Connecting to an endpoint, TLS included. Default: 5s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub connect: Option<Period> = None,
        /// From the request sent to the head of the response. Default: 60s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub upstream_head: Option<Period> = None,
        /// The longest wait for more of a response body. Default: 60s.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub upstream_body: Option<Period> = None,
        /// The longest silence of a tunnel. Default: 1h.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tunnel_idle: Option<Period> = None,
    }
}

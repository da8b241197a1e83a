//! Settings of `cors`.
//!
//! Must not: combine any origin with credentials; validation refuses that.

use crate::model::Period;

crate::model::section! {
    /// Cross-origin requests of browsers.
    pub struct Cors {
        /// Origins that may read responses: `https://app.example.com`, `https://*.example.com`, or
        /// `*` for any.
        pub allow_origins: Vec<String> = Vec::new(),
        /// Methods they may use beyond the simple ones.
        pub allow_methods: Vec<String> = ["GET", "HEAD", "POST"].map(str::to_owned).into(),
        /// Request header fields they may set; whatever they ask for if empty.
        pub allow_headers: Vec<String> = Vec::new(),
        /// Response header fields they may read.
        pub expose_headers: Vec<String> = Vec::new(),
        /// Whether cookies and the like are sent.
        pub allow_credentials: bool = false,
        /// How long a browser may remember the answer.
        pub max_age: Period = Period::from_secs(600),
    }
}

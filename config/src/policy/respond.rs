//! Settings of `respond`.
//!
//! Must not: have templates.

use std::collections::BTreeMap;

crate::model::section! {
    /// A fixed answer.
    pub struct Respond {
        /// The status.
        pub status: u16 = 200,
        /// The body.
        pub body: String = String::new(),
        /// The body's media type.
        pub content_type: String = "text/plain; charset=utf-8".to_owned(),
        /// Further header fields.
        pub headers: BTreeMap<String, String> = BTreeMap::new(),
    }
}

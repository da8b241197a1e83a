//! Settings of `header_edits`.
//!
//! Must not: reach framing, Host or connection fields; validation refuses their names.

use std::collections::BTreeMap;

use crate::model::SecretText;

crate::model::section! {
    /// Edits of header fields.
    pub struct HeaderEdits {
        /// Of requests, on their way to the upstream.
        pub request: Edits = Edits::default(),
        /// Of responses, on their way to the client.
        pub response: Edits = Edits::default(),
    }
}

crate::model::section! {
    /// Edits of one direction, in this order: remove, set, add.
    pub struct Edits {
        /// Fields to remove.
        pub remove: Vec<String> = Vec::new(),
        /// Fields to set, in place of any there are.
        pub set: BTreeMap<String, SecretText> = BTreeMap::new(),
        /// Fields to add to any there are.
        pub add: BTreeMap<String, SecretText> = BTreeMap::new(),
    }
}

//! Settings of `header_edits`.
//!
//! Must not: reach framing, Host or connection fields, or print a secret.

use std::collections::BTreeMap;

use serde::Serializer;
use serde::ser::SerializeMap;

use crate::model::SecretText;
use crate::model::text::{self, EditableField};

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
        #[serde(deserialize_with = "text::many::<EditableField, _>")]
        pub remove: Vec<String> = Vec::new(),
        /// Fields to set, in place of any there are.
        #[serde(
            deserialize_with = "text::keys::<EditableField, _, _>",
            serialize_with = "redacted"
        )]
        pub set: BTreeMap<String, SecretText> = BTreeMap::new(),
        /// Fields to add to any there are.
        #[serde(
            deserialize_with = "text::keys::<EditableField, _, _>",
            serialize_with = "redacted"
        )]
        pub add: BTreeMap<String, SecretText> = BTreeMap::new(),
    }
}

/// What stands for a value that is not shown.
const REDACTED: &str = "(redacted)";

/// Whether the value of a field is a secret by what the field is for.
pub(crate) fn is_secret(field: &str) -> bool {
    let secret = [
        "authorization",
        "cookie",
        "token",
        "secret",
        "password",
        "api-key",
        "apikey",
    ];
    let lower = field.to_ascii_lowercase();
    secret.iter().any(|word| lower.contains(word))
}

fn redacted<S: Serializer>(
    fields: &BTreeMap<String, SecretText>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    for (name, value) in fields {
        // A reference shows where a secret is, not what it is.
        if value.is_literal() && is_secret(name) {
            map.serialize_entry(name, REDACTED)?;
        } else {
            map.serialize_entry(name, value)?;
        }
    }
    map.end()
}

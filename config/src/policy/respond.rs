//! Settings of `respond`.
//!
//! Must not: have templates.

use std::collections::BTreeMap;

use serde::Deserializer;

use crate::model::text::{self, EditableField, FieldValue, Sound};

crate::model::section! {
    /// A fixed answer.
    pub struct Respond {
        /// The status.
        #[serde(deserialize_with = "final_status")]
        pub status: u16 = 200,
        /// The body.
        pub body: String = String::new(),
        /// The body's media type.
        #[serde(deserialize_with = "text::one::<FieldValue, _>")]
        pub content_type: String = "text/plain; charset=utf-8".to_owned(),
        /// Further header fields.
        #[serde(deserialize_with = "text::pairs::<EditableField, FieldValue, _>")]
        pub headers: BTreeMap<String, String> = BTreeMap::new(),
    }
}

impl Sound for Respond {
    fn check(&self) -> Result<(), String> {
        match self.status {
            // RFC 9110 §15.3.5, §15.3.6 and §15.4.5.
            204 | 205 | 304 if !self.body.is_empty() => Err(format!(
                "a response with status {} has no body\ntake `body` out, or use another status",
                self.status
            )),
            _ => Ok(()),
        }
    }
}

fn final_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    text::within(deserializer, 200..=599, "final status")
}

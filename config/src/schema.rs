//! The JSON schema of the document, generated from its types.
//!
//! Must not: be edited by hand.

use crate::model::Document;

/// The schema, as JSON text.
pub fn text() -> String {
    let schema = schemars::schema_for!(Document);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

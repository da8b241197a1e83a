//! The JSON schema of the document, generated from its types: editors complete from it, and the
//! reference is made of it.
//!
//! Must not: be edited by hand, or refuse what the document allows.

use serde_json::Value;

use crate::model::Document;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

/// The schema, as JSON text.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
    text.push('\n');
    text
}

fn schema() -> Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    tidy(&mut schema);
    schema
}

/// Takes out what only matters to programs written in Rust: the width of numbers, nothing as a
/// default, and the line breaks of doc comments.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("format");
            if fields.get("default").is_some_and(Value::is_null) {
                fields.remove("default");
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text
                    .replace("\n\n", "\0")
                    .replace('\n', " ")
                    .replace('\0', "\n\n");
            }
            // A field of that name is a schema, and no such word.
            if let Some(Value::Object(properties)) = fields.get_mut("properties") {
                properties.values_mut().for_each(tidy);
            }
            for (name, inner) in fields.iter_mut() {
                if !matches!(name.as_str(), "properties" | "default") {
                    tidy(inner);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

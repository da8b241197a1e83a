//! The first configuration that `cardea init` writes.
//!
//! Must not: need anything that a fresh machine does not have.

/// A dozen commented lines with a schema modeline.
pub fn text() -> &'static str {
    include_str!("../examples/first.yaml")
}

//! A tree as text, for those who compare what two readers made of a document.
//!
//! Must not: be built into what is shipped.

use std::fmt::Write;

use super::{Kind, Node, Tree};
#[cfg(fuzzing)]
use super::{full, quick};
#[cfg(fuzzing)]
use crate::origin::SourceId;

/// Panics if the quick reader reads a text that the full one refuses, or reads otherwise.
#[cfg(fuzzing)]
pub fn compare_readers(text: &str) {
    if let Some(quick) = quick::read(text, SourceId::default()) {
        let full = full::read(text, SourceId::default()).expect("the full reader knows more");
        assert_eq!(outlined(&quick), outlined(&full));
    }
}

pub(super) fn outlined(tree: &Tree<'_>) -> String {
    let mut text = String::new();
    outline(tree.root(), &mut text);
    text
}

/// A tree as text: scalars in quotes if they are, and where everything begins.
fn outline(node: Node<'_>, text: &mut String) {
    let origin = node.origin();
    match node.kind() {
        // Where nothing is, is a matter of taste.
        Kind::Scalar {
            text: "",
            plain: true,
        } => text.push('~'),
        Kind::Scalar { text: value, plain } => {
            let mark = if plain { "" } else { "'" };
            let _ = write!(text, "{}:{} {value}{mark}", origin.line, origin.column);
        }
        Kind::List(items) => {
            // Where a block list begins is, too: at its dash, or at what follows.
            text.push('[');
            for item in items {
                outline(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Kind::Map(pairs) => {
            let _ = write!(text, "{}:{} {{", origin.line, origin.column);
            for (key, value) in pairs {
                outline(key, text);
                text.push('=');
                outline(value, text);
                text.push(',');
            }
            text.push('}');
        }
    }
}

//! What is wrong, or only questionable, with a configuration: what, where, why, and how to mend
//! it. Rendered like a compiler's diagnostics, all of them at once.
//!
//! Must not: be cut short. A user mends every mistake in one round.

use serde_json::json;

use crate::origin::{Origin, Sources};

mod render;

#[cfg(test)]
mod tests;

pub use render::{brief, render};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken; somebody should look.
    Warning,
}

impl Severity {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub origin: Option<Origin>,
    /// What is the matter at that place; shown under the line.
    pub label: Box<str>,
    /// Other places it has to do with, and what is there.
    pub related: Vec<(Origin, String)>,
    /// How to mend it.
    pub remedy: Option<Box<str>>,
}

impl Diagnostic {
    /// A finding that refuses the configuration.
    pub fn error(code: &'static str, origin: Option<Origin>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            origin,
            label: Box::default(),
            related: Vec::new(),
            remedy: None,
        }
    }

    /// A finding that somebody should look at.
    pub fn warning(code: &'static str, origin: Option<Origin>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, origin, message)
        }
    }

    /// Says what is the matter at the place itself.
    #[must_use]
    pub fn label(mut self, label: impl Into<Box<str>>) -> Self {
        self.label = label.into();
        self
    }

    /// Shows another place that it has to do with.
    #[must_use]
    pub fn related(mut self, origin: Origin, label: impl Into<String>) -> Self {
        self.related.push((origin, label.into()));
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Box<str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Whether the configuration is refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `2 errors, 1 warning`.
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .count();
    let count = |number: usize, word: &str| {
        format!("{number} {word}{}", if number == 1 { "" } else { "s" })
    };
    format!(
        "{}, {}",
        count(errors, "error"),
        count(diagnostics.len() - errors, "warning")
    )
}

/// Renders findings for programs.
pub fn to_json(diagnostics: &[Diagnostic], sources: &Sources) -> serde_json::Value {
    let place = |origin: Origin| {
        let source = sources.find(origin.source)?;
        let file = source.path.display().to_string();
        (origin.line > 0).then_some((file, origin.line, origin.column))
    };
    let one = |diagnostic: &Diagnostic| {
        let at = diagnostic.origin.and_then(place);
        let related = diagnostic.related.iter().filter_map(|(origin, label)| {
            let (file, line, column) = place(*origin)?;
            Some(json!({ "file": file, "line": line, "column": column, "label": label }))
        });
        json!({
            "severity": diagnostic.severity.as_str(),
            "code": diagnostic.code,
            "message": diagnostic.message,
            "label": diagnostic.label,
            "remedy": diagnostic.remedy,
            "file": at.as_ref().map(|(file, _, _)| file),
            "line": at.as_ref().map(|(_, line, _)| line),
            "column": at.as_ref().map(|(_, _, column)| column),
            "related": related.collect::<Vec<_>>(),
        })
    };
    diagnostics.iter().map(one).collect()
}

//! What is wrong, or only questionable, with a configuration: what, where, why, and how to mend
//! it. Rendered like a compiler's diagnostics, all of them at once.
//!
//! Must not: be cut short. A user mends every mistake in one round.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::json;

use crate::origin::{Origin, Source, Sources};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken; somebody should look.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub label: String,
    /// How to mend it.
    pub remedy: Option<String>,
}

impl Diagnostic {
    /// A finding that refuses the configuration.
    pub fn error(code: &'static str, origin: Option<Origin>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            origin,
            label: String::new(),
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
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Whether the configuration is refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Renders findings for people, with the lines they are about.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&render_one(&renderer, diagnostic, sources));
        text.push_str("\n\n");
    }
    text.push_str(&summary(diagnostics));
    text
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
    let one = |diagnostic: &Diagnostic| {
        let place = diagnostic.origin.and_then(|origin| {
            Some((
                sources.find(origin.source)?.path.display().to_string(),
                origin,
            ))
        });
        json!({
            "severity": match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "code": diagnostic.code,
            "message": diagnostic.message,
            "label": diagnostic.label,
            "remedy": diagnostic.remedy,
            "file": place.as_ref().map(|(file, _)| file),
            "line": place.as_ref().map(|(_, origin)| origin.line),
            "column": place.as_ref().map(|(_, origin)| origin.column),
        })
    };
    diagnostics.iter().map(one).collect()
}

fn render_one(renderer: &Renderer, diagnostic: &Diagnostic, sources: &Sources) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code);
    let place = diagnostic
        .origin
        .and_then(|origin| Some((sources.find(origin.source)?, origin)))
        .and_then(|(source, origin)| Some((source, span(source, origin)?)));
    let path = place
        .as_ref()
        .map(|(source, _)| source.path.display().to_string());
    let mut group = match (&place, &path) {
        (Some((source, span)), Some(path)) => Group::with_title(title).element(
            Snippet::source(&*source.text)
                .path(path.as_str())
                .annotation(
                    AnnotationKind::Primary
                        .span(span.clone())
                        .label(diagnostic.label.as_str()),
                ),
        ),
        _ => Group::with_title(title),
    };
    if let Some(remedy) = &diagnostic.remedy {
        group = group.element(Level::HELP.message(remedy.as_str()));
    }
    renderer.render(&[group])
}

/// The bytes from an origin to the end of the word that begins there.
fn span(source: &Source, origin: Origin) -> Option<std::ops::Range<usize>> {
    let text = &*source.text;
    let line_start = match origin.line {
        0 => return None,
        1 => 0,
        line => text.match_indices('\n').nth(line as usize - 2)?.0 + 1,
    };
    let line = text
        .get(line_start..)?
        .split('\n')
        .next()?
        .trim_end_matches('\r');
    let column = line
        .char_indices()
        .nth((origin.column as usize).saturating_sub(1))
        .map_or(line.len(), |(at, _)| at);
    let rest = line.get(column..)?;
    let length = match rest
        .find(" #")
        .map_or(rest, |comment| &rest[..comment])
        .trim_end()
        .len()
    {
        0 => rest.len().min(1),
        length => length,
    };
    Some(line_start + column..line_start + column + length)
}

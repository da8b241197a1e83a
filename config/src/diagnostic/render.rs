//! Findings for people: with the lines they are about, or one line each.
//!
//! Must not: go through a whole file for each finding; there may be many of both.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Severity, summary};
use crate::origin::{Origin, Source, SourceId, Sources};

/// Findings that are shown with their lines; of more, one line tells.
const SHOWN_MAX: usize = 100;

/// Places of one file that are no further apart than this are shown in one piece, lines.
const PIECE_LINES_MAX: u32 = 20;

/// Renders findings with the lines they are about; `color` is for terminals.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut lines = Lines {
        sources,
        starts: HashMap::new(),
    };
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN_MAX) {
        text.push_str(&render_one(&renderer, diagnostic, &mut lines));
        text.push_str("\n\n");
    }
    if let Some(more) = diagnostics.len().checked_sub(SHOWN_MAX + 1) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "… and {} more\n", more + 1);
    }
    text.push_str(&summary(diagnostics));
    text
}

/// Renders findings in one line each: `file:line:column: error[code]: message; remedy`.
pub fn brief(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        if let Some(origin) = diagnostic.origin {
            let _ = write!(text, "{}: ", sources.describe(origin));
        }
        let severity = diagnostic.severity.as_str();
        let _ = write!(
            text,
            "{severity}[{}]: {}",
            diagnostic.code,
            diagnostic.message.replace('\n', " ")
        );
        if let Some(remedy) = &diagnostic.remedy {
            let _ = write!(text, "; {}", remedy.replace('\n', " "));
        }
        text.push('\n');
    }
    text
}

/// A piece of a file, and what is to be said about it.
struct Piece<'s> {
    path: String,
    text: &'s str,
    /// The number of its first line.
    line: usize,
    marks: Vec<Mark<'s>>,
}

/// Something said about a place in a piece.
struct Mark<'s> {
    span: Range<usize>,
    label: &'s str,
    kind: AnnotationKind,
}

impl<'s> Mark<'s> {
    fn annotation(&self) -> Annotation<'s> {
        self.kind.span(self.span.clone()).label(self.label)
    }
}

/// A place in a file, and what is there.
type Place<'s> = (Origin, &'s str, AnnotationKind);

fn render_one<'s>(
    renderer: &Renderer,
    diagnostic: &'s Diagnostic,
    lines: &mut Lines<'s>,
) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code);
    let pieces = pieces(diagnostic, lines);
    let mut group = Group::with_title(title);
    for piece in &pieces {
        let snippet = Snippet::source(piece.text)
            .line_start(piece.line)
            .path(piece.path.as_str());
        group = group.element(snippet.annotations(piece.marks.iter().map(Mark::annotation)));
    }
    if let Some(remedy) = &diagnostic.remedy {
        group = group.element(Level::HELP.message(&**remedy));
    }
    renderer.render(&[group])
}

/// The pieces of files that a finding is about: its own place first, others with it if they are
/// near, else by themselves.
fn pieces<'s>(diagnostic: &'s Diagnostic, lines: &mut Lines<'s>) -> Vec<Piece<'s>> {
    let own = diagnostic.origin.map(|origin| {
        let label = &*diagnostic.label;
        (origin, label, AnnotationKind::Primary)
    });
    let related = diagnostic.related.iter();
    let others = related.map(|(origin, label)| (*origin, label.as_str(), AnnotationKind::Context));
    let mut groups: Vec<Vec<Place<'_>>> = Vec::new();
    for place in own.into_iter().chain(others) {
        let is_near = |(origin, _, _): &Place<'_>| {
            origin.source == place.0.source && origin.line.abs_diff(place.0.line) <= PIECE_LINES_MAX
        };
        match groups.iter_mut().find(|group| group.iter().any(is_near)) {
            Some(group) => group.push(place),
            None => groups.push(vec![place]),
        }
    }
    groups
        .iter()
        .filter_map(|group| lines.piece(group))
        .collect()
}

/// Where the lines of the sources begin, for those that were asked about.
struct Lines<'s> {
    sources: &'s Sources,
    starts: HashMap<SourceId, Vec<usize>>,
}

impl<'s> Lines<'s> {
    fn piece(&mut self, places: &[Place<'s>]) -> Option<Piece<'s>> {
        let id = places.first()?.0.source;
        let source = self.sources.find(id)?;
        let numbers = places.iter().map(|(origin, _, _)| origin.line as usize);
        let (first, last) = (numbers.clone().min()?, numbers.max()?);
        let begin = self.line(id, source, first)?.start;
        let end = self.line(id, source, last)?.end;
        let mut marks = Vec::new();
        for (origin, label, kind) in places {
            let line = self.line(id, source, origin.line as usize)?;
            let span = word(source.text.get(line.clone())?, origin.column)?;
            let shift = line.start - begin;
            marks.push(Mark {
                span: span.start + shift..span.end + shift,
                label,
                kind: *kind,
            });
        }
        Some(Piece {
            path: source.path.display().to_string(),
            text: source.text.get(begin..end)?,
            line: first,
            marks,
        })
    }

    /// The bytes of a line, without its line break.
    fn line(&mut self, id: SourceId, source: &Source, number: usize) -> Option<Range<usize>> {
        let text = &*source.text;
        let starts = self.starts.entry(id).or_insert_with(|| {
            let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(breaks).collect()
        });
        let start = *starts.get(number.checked_sub(1)?)?;
        let end = starts.get(number).map_or(text.len(), |next| next - 1);
        let line = text.get(start..end)?;
        Some(start..start + line.trim_end_matches('\r').len())
    }
}

/// The bytes of what begins at a column of a line: a key, a scalar, or a list or map up to the end
/// of the line.
fn word(line: &str, column: u32) -> Option<Range<usize>> {
    let start = line
        .char_indices()
        .nth((column as usize).saturating_sub(1))
        .map_or(line.len(), |(at, _)| at);
    let rest = line.get(start..)?;
    let comment = rest.find(" #").unwrap_or(rest.len());
    let length = match rest.chars().next() {
        None => 0,
        Some(quote @ ('"' | '\'')) => {
            let inside = rest.get(1..).unwrap_or_default();
            inside.find(quote).map_or(comment, |end| end + 2)
        }
        Some('[' | '{') => closing(rest).unwrap_or(comment),
        Some(_) => {
            let ends = [": ", ", ", "]", "}", " #"];
            let end = ends.iter().filter_map(|end| rest.find(end)).min();
            let end = end.unwrap_or(rest.len());
            let word = rest.get(..end).unwrap_or(rest).trim_end();
            word.strip_suffix(':').unwrap_or(word).len()
        }
    };
    let length = rest.get(..length).unwrap_or(rest).trim_end().len();
    // Something has to be marked, even at the end of a line.
    let least = rest.chars().next().map_or(0, char::len_utf8);
    Some(start..start + length.max(least))
}

/// Where the bracket that a text begins with is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

//! The full reader: all of YAML, through its events. Anchors and merge keys are resolved within a
//! budget; what YAML allows and a configuration has no use for is refused by name.
//!
//! Must not: let an alias stand for more nodes than a document may have.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{DEPTH_MAX, Entry, Form, Kind, NODES_MAX, Node, Tree};
use crate::diagnostic::Diagnostic;
use crate::origin::{Origin, SourceId};

/// Reads a text.
pub(super) fn read(text: &str, source: SourceId) -> Result<Tree<'_>, Box<Diagnostic>> {
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        disallow_directives: true,
    };
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        weight: 0,
        tree: Tree::new(text, source),
    };
    reader.document()?;
    Ok(reader.tree)
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Anchor>,
    /// Nodes so far, those that aliases repeat included.
    weight: usize,
    tree: Tree<'t>,
}

/// A node that aliases may repeat.
#[derive(Clone, Copy)]
struct Anchor {
    index: u32,
    /// The nodes it stands for; none while it is being read.
    weight: Option<usize>,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<(), Box<Diagnostic>> {
        loop {
            let (event, span) = self.event()?;
            match event {
                Event::DocumentStart(..) if self.tree.next() != 0 => {
                    return Err(self
                        .error("E-yaml-documents", span, "a second YAML document")
                        .label("it begins here")
                        .remedy("keep one document per file; others go through `include`")
                        .into());
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                event => self.node(event, span, 0)?,
            }
        }
        let is_nothing = self.tree.next() == 0 || self.tree.root().is_null();
        if is_nothing {
            self.tree.entries.clear();
            let map = self.tree.push(1, 1, Form::Map { end: 0, count: 0 });
            self.tree.close(map, 0);
        }
        Ok(())
    }

    fn event(&mut self) -> Result<(Event<'t>, Span), Box<Diagnostic>> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error).into()),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<(), Box<Diagnostic>> {
        self.weight += 1;
        if self.weight > NODES_MAX || depth > DEPTH_MAX {
            let message = "the document is too large or too deep";
            let limits = format!("at most {NODES_MAX} nodes, {DEPTH_MAX} deep, aliases included");
            return Err(self
                .error("E-yaml-size", span, message)
                .label(limits)
                .remedy("spread it over several files, see `include`")
                .into());
        }
        let (line, column) = place(span);
        let before = self.weight;
        let index = self.tree.next();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.untagged(tag.as_deref(), span)?;
                let form = self.scalar(text, style == ScalarStyle::Plain);
                self.tree.push(line, column, form);
                self.anchor(anchor, index, Some(1));
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.untagged(tag.as_deref(), span)?;
                self.anchor(anchor, index, None);
                self.tree
                    .push(line, column, Form::List { end: 0, count: 0 });
                self.items(index, depth)?;
                self.anchor(anchor, index, Some(self.weight - before + 1));
            }
            Event::MappingStart(_, anchor, tag) => {
                self.untagged(tag.as_deref(), span)?;
                self.anchor(anchor, index, None);
                self.tree.push(line, column, Form::Map { end: 0, count: 0 });
                self.pairs(index, depth)?;
                self.anchor(anchor, index, Some(self.weight - before + 1));
            }
            Event::Alias(id) => {
                let anchor = self.anchors.get(&id).copied();
                let Some((target, weight)) = anchor.and_then(|a| Some((a.index, a.weight?))) else {
                    return Err(self
                        .error("E-yaml-alias", span, "an alias inside its own anchor")
                        .remedy("write out what is meant")
                        .into());
                };
                self.weight = self.weight.saturating_add(weight);
                self.tree.push(line, column, Form::Alias { target });
            }
            Event::UnresolvedAlias(name) => return Err(self.unknown_alias(&name, span).into()),
            _ => {
                return Err(self
                    .error("E-yaml", span, "the file is not valid YAML")
                    .remedy("compare it with the lines around it")
                    .into());
            }
        }
        Ok(())
    }

    fn anchor(&mut self, id: usize, index: u32, weight: Option<usize>) {
        if id != 0 {
            self.anchors.insert(id, Anchor { index, weight });
        }
    }

    fn scalar(&mut self, text: Cow<'t, str>, plain: bool) -> Form {
        let borrowed = match &text {
            Cow::Borrowed(text) => (text.as_ptr().addr())
                .checked_sub(self.tree.text.as_ptr().addr())
                .filter(|start| start + text.len() <= self.tree.text.len())
                .and_then(|start| {
                    Some((
                        u32::try_from(start).ok()?,
                        u32::try_from(start + text.len()).ok()?,
                    ))
                }),
            Cow::Owned(_) => None,
        };
        match (borrowed, plain) {
            (Some((start, end)), true) => Form::Plain { start, end },
            (Some((start, end)), false) => Form::Quoted { start, end },
            // Where nothing is written, the parser says `~`.
            (None, true) if matches!(text, Cow::Borrowed("~" | "")) => {
                Form::Plain { start: 0, end: 0 }
            }
            (None, _) => self.tree.keep(text.into_owned(), plain),
        }
    }

    fn items(&mut self, list: u32, depth: usize) -> Result<(), Box<Diagnostic>> {
        let mut count = 0;
        loop {
            match self.event()? {
                (Event::SequenceEnd, _) => break,
                (event, span) => self.node(event, span, depth + 1)?,
            }
            count += 1;
        }
        self.tree.close(list, count);
        Ok(())
    }

    fn pairs(&mut self, map: u32, depth: usize) -> Result<(), Box<Diagnostic>> {
        let mut count = 0;
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.event()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.tree.next();
            self.node(event, span, depth + 1)?;
            let Kind::Scalar { text, plain } = self.tree.at(key).kind() else {
                let found = self.error("E-yaml-key", span, "a key must be text");
                return Err(found.remedy("write `name: value`").into());
            };
            let is_merge = plain && text == "<<";
            let (event, span) = self.event()?;
            let value = self.tree.next();
            self.node(event, span, depth + 1)?;
            if is_merge {
                // What is merged goes to the end of the map; the key and its value stay in the
                // vector, where an anchor inside the value may still be referred to.
                merged.push((key, value, span));
            } else {
                count += 1;
            }
        }
        if merged.is_empty() {
            self.tree.close(map, count);
        } else {
            self.merge(map, &merged)?;
        }
        match self.tree.repeated_key(map) {
            Some(key) => Err(repeated(self.tree.at(map), key).into()),
            None => Ok(()),
        }
    }

    /// Merge keys (`<<: *defaults`): what is set beside them wins, then earlier ones. The whole map
    /// is written behind the one that was read, as aliases of its nodes and of the merged ones.
    fn merge(&mut self, map: u32, merged: &[(u32, u32, Span)]) -> Result<(), Box<Diagnostic>> {
        let end = self.tree.next();
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut key = map + 1;
        while key < end {
            let value = self.after(key);
            if !merged.iter().any(|(other, _, _)| *other == key) {
                pairs.push((key, value));
            }
            key = self.after(value);
        }
        for (_, value, span) in merged {
            self.gather(*value, *span, &mut pairs)?;
        }
        let whole = self.alias_of(map, Form::Map { end: 0, count: 0 });
        for node in pairs.iter().flat_map(|(key, value)| [*key, *value]) {
            self.alias_of(node, Form::Alias { target: node });
        }
        self.tree.close(whole, count(pairs.len()));
        let end = self.tree.next();
        if let Some(entry) = self.tree.entries.get_mut(map as usize) {
            entry.form = Form::Merged { end, whole };
        }
        Ok(())
    }

    /// Adds a node that says it stands where another does.
    fn alias_of(&mut self, index: u32, form: Form) -> u32 {
        let origin = self.tree.at(index).origin();
        self.tree.push(origin.line, origin.column, form)
    }

    fn after(&self, index: u32) -> u32 {
        self.tree.form(index).end(index)
    }

    fn gather(
        &self,
        value: u32,
        span: Span,
        pairs: &mut Vec<(u32, u32)>,
    ) -> Result<(), Box<Diagnostic>> {
        match self.tree.at(value).kind() {
            Kind::Map(more) => {
                for (key, value) in more {
                    let same = |(other, _): &(u32, u32)| self.tree.at(*other).text() == key.text();
                    if !pairs.iter().any(same) {
                        pairs.push((key.index(), value.index()));
                    }
                }
                Ok(())
            }
            Kind::List(maps) => {
                let maps: Vec<u32> = maps.map(Node::index).collect();
                maps.iter()
                    .try_for_each(|map| self.gather(*map, span, pairs))
            }
            Kind::Scalar { .. } => {
                let message = "only a map can be merged";
                let found = self.error("E-yaml-merge", span, message);
                Err(found
                    .remedy("write `<<: *name` of a map with `&name`")
                    .into())
            }
        }
    }

    fn untagged(&self, tag: Option<&Tag>, span: Span) -> Result<(), Box<Diagnostic>> {
        match tag {
            None => Ok(()),
            Some(_) => {
                let span = span.tag_start().map_or(span, Span::empty);
                Err(self
                    .error("E-yaml-tag", span, "tags have no meaning here")
                    .remedy("take out what begins with `!`, or put it in quotes")
                    .into())
            }
        }
    }

    /// An alias of nothing: most often a `*` that was meant as text.
    fn unknown_alias(&self, name: &str, span: Span) -> Diagnostic {
        let message = format!("there is no anchor `&{name}` for `*{name}`");
        self.error("E-yaml-alias", span, message)
            .label("YAML reads `*` as a reference")
            .remedy(format!(
                "if it is meant as text, put it in quotes: \"*{name}\""
            ))
    }

    fn syntax(&self, error: &ScanError) -> Diagnostic {
        let (why, remedy) = explain(error);
        let span = Span::empty(*error.marker());
        let found = self
            .error("E-yaml", span, "the file is not valid YAML")
            .label(why);
        // A `key: value` inside a bracket is most often one that follows a bracket left open.
        match (self.open_bracket(span), remedy) {
            (Some(open), _) => found
                .related(open, "this bracket is still open here")
                .remedy("close the bracket, unless the mistake is inside it"),
            (None, Some(remedy)) => found.remedy(remedy),
            (None, None) => found.remedy("compare it with the lines around it"),
        }
    }

    /// The bracket of the innermost flow list or map on an earlier line that is not closed.
    fn open_bracket(&self, span: Span) -> Option<Origin> {
        let is_open = |entry: &&Entry| {
            matches!(
                entry.form,
                Form::List { end: 0, .. } | Form::Map { end: 0, .. }
            )
        };
        let open = self.tree.entries.iter().rev().find(is_open)?;
        let line = self.tree.text.lines().nth(open.line as usize - 1)?;
        let character = line.chars().nth(open.column as usize - 1)?;
        let is_bracket = matches!(character, '[' | '{') && open.line < place(span).0;
        is_bracket.then_some(Origin {
            source: self.tree.source,
            line: open.line,
            column: open.column,
        })
    }

    fn error(&self, code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        let (line, column) = place(span);
        let origin = Origin {
            source: self.tree.source,
            line,
            column,
        };
        Diagnostic::error(code, Some(origin), message)
    }
}

/// What is wrong with the YAML, in the words of somebody who writes a configuration.
fn explain(error: &ScanError) -> (String, Option<&'static str>) {
    use ErrorKind as Kind;
    let (why, remedy) = match error.kind() {
        Kind::TabNotAllowed
        | Kind::TabInBlockIndentation
        | Kind::TabInIndentation
        | Kind::TabAtBlockScalarStart
        | Kind::TabInPlainScalar => ("there is a tab", "indent with spaces"),
        Kind::UnexpectedCharacter { character } => {
            let why = format!("no value begins with `{}`", character.escape_debug());
            return (why, Some("put the value in quotes"));
        }
        Kind::MappingValueNotAllowed
        | Kind::InvalidColonPlacement
        | Kind::InvalidMappingValueWhitespace
        | Kind::MappingKeyNotAllowed => (
            "there cannot be a `key: value` here",
            "put the value in quotes if the colon belongs to it; else begin a new line",
        ),
        Kind::SimpleKeyExpected
        | Kind::ExpectedBlockMappingKey
        | Kind::ExpectedBlockSequenceEntry
        | Kind::InvalidIndentation
        | Kind::BlockSequenceEntryNotAllowed => (
            "this fits neither the lines above nor a `key: value`",
            "look for a missing `: `, or for a line indented otherwise than its neighbours",
        ),
        Kind::UnclosedQuotedScalar | Kind::InvalidQuotedScalarIndent => (
            "these quotes are not closed",
            "close them; inside single quotes write `'` as `''`",
        ),
        Kind::UnknownQuotedScalarEscape => (
            "there is no such escape",
            "in single quotes a `\\` is an ordinary character",
        ),
        Kind::UnclosedFlowCollection { open } => {
            return (format!("this `{open}` is not closed"), None);
        }
        Kind::MismatchedFlowCollectionEnd { open, close } => {
            return (format!("`{close}` does not close `{open}`"), None);
        }
        Kind::ExpectedFlowSequenceSeparator | Kind::ExpectedFlowMappingSeparator => (
            "there is no `,` before this",
            "separate items with `,` and close the bracket",
        ),
        Kind::DirectiveDisallowed => (
            "directives have no meaning here",
            "take the line out; put a value that begins with `%` in quotes",
        ),
        _ => return (error.info().clone(), None),
    };
    (why.to_owned(), Some(remedy))
}

fn repeated(map: Node<'_>, key: Node<'_>) -> Diagnostic {
    let name = key.text().unwrap_or_default();
    let first = match map.kind() {
        Kind::Map(mut pairs) => pairs.find(|(other, _)| other.text() == key.text()),
        _ => None,
    };
    let found = Diagnostic::error(
        "E-duplicate-key",
        Some(key.origin()),
        format!("`{name}` stands here twice"),
    );
    match first {
        Some((first, _)) => found.related(first.origin(), "the first one"),
        None => found,
    }
    .label("the second one")
    .remedy("keep one of them")
}

fn place(span: Span) -> (u32, u32) {
    (count(span.start.line()), count(span.start.col() + 1))
}

/// Counts of things in a text, which is shorter than `u32::MAX`.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

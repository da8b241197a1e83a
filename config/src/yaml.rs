//! From text to a tree of nodes that know where they stand. Anchors and merge keys are resolved
//! within a budget; what YAML allows and a configuration has no use for is refused by name.
//!
//! Must not: give a scalar a type. What `off`, `80` or `1.0` mean is for the field to say.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use crate::diagnostic::Diagnostic;
use crate::origin::{Origin, SourceId};

/// Nodes of one document, those that aliases repeat included. Ten thousand domains have about a
/// tenth of it; an alias bomb does not get far.
const NODES_MAX: usize = 4_000_000;

/// How deep nodes may nest.
const DEPTH_MAX: usize = 64;

/// A node and where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Node<'t> {
    pub(crate) origin: Origin,
    pub(crate) kind: Kind<'t>,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Kind<'t> {
    /// A scalar; plain ones may stand for null, a boolean or a number.
    Scalar { text: Cow<'t, str>, plain: bool },
    /// A list.
    List(Vec<Node<'t>>),
    /// A map in the order written, keys unique.
    Map(Vec<(Node<'t>, Node<'t>)>),
    /// A node written elsewhere.
    Shared(Rc<Node<'t>>),
}

impl<'t> Node<'t> {
    /// The node itself, or the one it is an alias of.
    pub(crate) fn resolved(&self) -> &Kind<'t> {
        match &self.kind {
            Kind::Shared(node) => node.resolved(),
            kind => kind,
        }
    }

    /// Whether it is nothing: empty, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.resolved(), Kind::Scalar { text, plain: true }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Reads one document; an empty one is an empty map.
pub(crate) fn read(text: &str, source: SourceId) -> Result<Node<'_>, Diagnostic> {
    let mut options = Options::default();
    options.emit_comments = false;
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        source,
        anchors: HashMap::new(),
        nodes: 0,
    };
    reader.document()
}

struct Reader<'t> {
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    source: SourceId,
    anchors: HashMap<usize, Rc<Node<'t>>>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Node<'t>, Diagnostic> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {
                    if matches!(event, Event::DocumentStart(..)) && root.is_some() {
                        return Err(self
                            .error("E-yaml-documents", span, "a second YAML document")
                            .remedy("keep one document per file; others go through `include`"));
                    }
                }
                Event::StreamEnd => break,
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        let empty = Origin {
            source: self.source,
            line: 1,
            column: 1,
        };
        Ok(root.unwrap_or(Node {
            origin: empty,
            kind: Kind::Map(Vec::new()),
        }))
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Diagnostic> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let marker = *error.marker();
                let origin = self.origin(marker.line(), marker.col());
                let what = error.info().to_string();
                Err(
                    Diagnostic::error("E-yaml", Some(origin), "the file is not valid YAML")
                        .label(what),
                )
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node<'t>, Diagnostic> {
        self.nodes += 1;
        if self.nodes > NODES_MAX || depth > DEPTH_MAX {
            return Err(self.error("E-yaml-size", span, "the document is too large or too deep"));
        }
        let origin = self.origin(span.start.line(), span.start.col());
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (
                Kind::Scalar {
                    text,
                    plain: style == ScalarStyle::Plain,
                },
                anchor,
            ),
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(node) => {
                    self.nodes += size(node);
                    return Ok(Node {
                        origin,
                        kind: Kind::Shared(Rc::clone(node)),
                    });
                }
                None => {
                    return Err(self.error("E-yaml-alias", span, "an alias inside its own anchor"));
                }
            },
            _ => return Err(self.error("E-yaml", span, "the file is not valid YAML")),
        };
        let node = Node { origin, kind };
        if anchor == 0 {
            return Ok(node);
        }
        let shared = Rc::new(node);
        self.anchors.insert(anchor, Rc::clone(&shared));
        Ok(Node {
            origin,
            kind: Kind::Shared(shared),
        })
    }

    fn list(&mut self, depth: usize) -> Result<Kind<'t>, Diagnostic> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind<'t>, Diagnostic> {
        let mut entries: Vec<(Node<'t>, Node<'t>)> = Vec::new();
        let mut merged = Vec::new();
        let mut lines = HashMap::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => break,
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let Kind::Scalar { text, plain } = key.resolved() else {
                return Err(Diagnostic::error(
                    "E-yaml-key",
                    Some(key.origin),
                    "a key must be text",
                ));
            };
            if *plain && text == "<<" {
                merged.push(value);
                continue;
            }
            if let Some(first) = lines.insert(text.clone(), key.origin.line) {
                let message = format!("`{text}` stands here twice");
                return Err(
                    Diagnostic::error("E-duplicate-key", Some(key.origin), message)
                        .label("again here")
                        .remedy(format!("it was set in line {first} already; keep one")),
                );
            }
            entries.push((key, value));
        }
        for value in merged {
            merge(&mut entries, &value)?;
        }
        Ok(Kind::Map(entries))
    }

    fn origin(&self, line: usize, column: usize) -> Origin {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Origin {
            source: self.source,
            line: narrow(line),
            column: narrow(column + 1),
        }
    }

    fn error(&self, code: &'static str, span: Span, message: &str) -> Diagnostic {
        let origin = self.origin(span.start.line(), span.start.col());
        Diagnostic::error(code, Some(origin), message)
    }
}

/// Merge keys (`<<: *defaults`): what is set beside them wins, then earlier ones.
fn merge<'t>(entries: &mut Vec<(Node<'t>, Node<'t>)>, value: &Node<'t>) -> Result<(), Diagnostic> {
    match value.resolved() {
        Kind::Map(more) => {
            for (key, value) in more {
                if !entries.iter().any(|(other, _)| same_key(other, key)) {
                    entries.push((key.clone(), value.clone()));
                }
            }
            Ok(())
        }
        Kind::List(maps) => maps.iter().try_for_each(|map| merge(entries, map)),
        _ => Err(Diagnostic::error(
            "E-yaml-merge",
            Some(value.origin),
            "only a map can be merged",
        )),
    }
}

fn same_key(one: &Node<'_>, other: &Node<'_>) -> bool {
    match (one.resolved(), other.resolved()) {
        (Kind::Scalar { text: one, .. }, Kind::Scalar { text: other, .. }) => one == other,
        _ => false,
    }
}

fn size(node: &Node<'_>) -> usize {
    match node.resolved() {
        Kind::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Map(entries) => {
            1 + entries
                .iter()
                .map(|(key, value)| size(key) + size(value))
                .sum::<usize>()
        }
        _ => 1,
    }
}

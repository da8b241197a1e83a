//! From text to a tree of nodes that know where they stand. It lies flat in one vector, in the
//! order of the text, because a document of ten thousand domains has half a million nodes.
//!
//! Two readers fill it. `quick` knows the plain forms that configurations are written in and gives
//! up at anything else; `full` knows all of YAML. Where both can read a text they agree, which a
//! property test and a fuzz target watch; only `full` ever refuses a text.
//!
//! Must not: give a scalar a type. What `off`, `80` or `1.0` mean is for the field to say.

use std::collections::HashSet;

use crate::diagnostic::Diagnostic;
use crate::origin::{Origin, SourceId};

mod full;
mod quick;

#[cfg(any(test, fuzzing))]
pub(crate) mod outline;

#[cfg(test)]
mod tests;

/// Nodes of one document, those that aliases repeat included. Ten thousand domains have about a
/// tenth of it; an alias bomb does not get far.
const NODES_MAX: usize = 4_000_000;

/// How deep nodes may nest.
const DEPTH_MAX: usize = 64;

/// Maps with more keys than this look for repeated ones through a hash set.
const KEYS_COMPARED_MAX: usize = 12;

/// Reads the one document of a text; an empty one is an empty map.
pub(crate) fn read(text: &str, source: SourceId) -> Result<Tree<'_>, Box<Diagnostic>> {
    match quick::read(text, source) {
        Some(tree) => Ok(tree),
        None => full::read(text, source),
    }
}

/// The nodes of one document.
#[derive(Debug)]
pub(crate) struct Tree<'t> {
    text: &'t str,
    source: SourceId,
    entries: Vec<Entry>,
    /// Values of scalars that are not what is written, such as those with escapes.
    kept: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    line: u32,
    column: u32,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// A scalar as it is written, by its bytes in the text.
    Plain { start: u32, end: u32 },
    /// A scalar in quotes, or a block: text, whatever it looks like.
    Quoted { start: u32, end: u32 },
    /// A scalar whose value is kept apart.
    Kept { index: u32, plain: bool },
    /// A list: its items follow, up to `end`.
    List { end: u32, count: u32 },
    /// A map: keys and values follow in turn, up to `end`.
    Map { end: u32, count: u32 },
    /// A map with merge keys, up to `end`, that stands behind its own nodes as a whole.
    Merged { end: u32, whole: u32 },
    /// What another node is.
    Alias { target: u32 },
}

impl Form {
    /// What follows the node that is at `index`.
    fn end(self, index: u32) -> u32 {
        match self {
            Self::List { end, .. } | Self::Map { end, .. } | Self::Merged { end, .. } => end,
            _ => index + 1,
        }
    }
}

/// A node and where it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'t> {
    tree: &'t Tree<'t>,
    index: u32,
}

/// What a node is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind<'t> {
    /// A scalar; plain ones may stand for null, a boolean or a number.
    Scalar { text: &'t str, plain: bool },
    /// A list.
    List(Items<'t>),
    /// A map in the order written, keys unique.
    Map(Pairs<'t>),
}

impl<'t> Tree<'t> {
    fn new(text: &'t str, source: SourceId) -> Self {
        Self {
            text,
            source,
            entries: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// The node that holds all others.
    pub(crate) fn root(&self) -> Node<'_> {
        Node {
            tree: self,
            index: 0,
        }
    }

    /// Adds a node and says where it is; a list or map has to be closed.
    fn push(&mut self, line: u32, column: u32, form: Form) -> u32 {
        let index = self.next();
        self.entries.push(Entry { line, column, form });
        index
    }

    /// Where the next node will be.
    fn next(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    fn form(&self, index: u32) -> Form {
        match self.entries.get(index as usize) {
            Some(entry) => entry.form,
            None => Form::Plain { start: 0, end: 0 },
        }
    }

    /// Says that a list or map, opened without contents, has all of them.
    fn close(&mut self, index: u32, items: u32) {
        let next = self.next();
        match self
            .entries
            .get_mut(index as usize)
            .map(|entry| &mut entry.form)
        {
            Some(Form::List { end, count } | Form::Map { end, count }) => {
                (*end, *count) = (next, items);
            }
            _ => debug_assert!(false, "only lists and maps are closed"),
        }
    }

    /// Keeps a value that is not what is written.
    fn keep(&mut self, value: String, plain: bool) -> Form {
        self.kept.push(value.into());
        Form::Kept {
            index: u32::try_from(self.kept.len() - 1).unwrap_or(u32::MAX),
            plain,
        }
    }

    /// The first key of a map that stands there a second time.
    fn repeated_key(&self, map: u32) -> Option<Node<'_>> {
        let Kind::Map(pairs) = self.at(map).kind() else {
            return None;
        };
        let keys = pairs.map(|(key, _)| key);
        if pairs.len() > KEYS_COMPARED_MAX {
            let mut seen = HashSet::with_capacity(pairs.len());
            return keys.into_iter().find(|key| !seen.insert(key.text()));
        }
        keys.enumerate()
            .find(|(place, key)| {
                pairs
                    .take(*place)
                    .any(|(other, _)| other.text() == key.text())
            })
            .map(|(_, key)| key)
    }

    fn at(&self, index: u32) -> Node<'_> {
        Node { tree: self, index }
    }
}

impl<'t> Node<'t> {
    /// Where it begins; an alias, where the alias is.
    pub(crate) fn origin(self) -> Origin {
        let entry = self.tree.entries.get(self.index as usize);
        Origin {
            source: self.tree.source,
            line: entry.map_or(0, |entry| entry.line),
            column: entry.map_or(0, |entry| entry.column),
        }
    }

    /// What tells it from every other node of its tree.
    pub(crate) fn index(self) -> u32 {
        self.index
    }

    /// Whether a node stands inside it.
    pub(crate) fn holds(self, index: u32) -> bool {
        let end = self.tree.form(self.index).end(self.index);
        (self.index..end).contains(&index)
    }

    /// What it is, or what it is an alias of.
    pub(crate) fn kind(self) -> Kind<'t> {
        let tree = self.tree;
        let mut index = self.index;
        loop {
            let written = |start: u32, end: u32| {
                tree.text
                    .get(start as usize..end as usize)
                    .unwrap_or_default()
            };
            let (text, plain) = match tree.form(index) {
                Form::Plain { start, end } => (written(start, end), true),
                Form::Quoted { start, end } => (written(start, end), false),
                Form::Kept { index, plain } => {
                    let kept = tree.kept.get(index as usize);
                    (kept.map(|text| &**text).unwrap_or_default(), plain)
                }
                Form::List { count, .. } => {
                    return Kind::List(Items {
                        tree,
                        next: index + 1,
                        left: count,
                    });
                }
                Form::Map { count, .. } => {
                    return Kind::Map(Pairs(Items {
                        tree,
                        next: index + 1,
                        left: count * 2,
                    }));
                }
                Form::Alias { target: node } | Form::Merged { whole: node, .. } => {
                    index = node;
                    continue;
                }
            };
            return Kind::Scalar { text, plain };
        }
    }

    /// A scalar's text; nothing for lists and maps.
    pub(crate) fn text(self) -> Option<&'t str> {
        match self.kind() {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether it is nothing: empty, `~` or `null`.
    pub(crate) fn is_null(self) -> bool {
        matches!(self.kind(), Kind::Scalar { text, plain: true }
            if matches!(text, "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// The items of a list that are still to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Items<'t> {
    tree: &'t Tree<'t>,
    next: u32,
    left: u32,
}

impl<'t> Iterator for Items<'t> {
    type Item = Node<'t>;

    fn next(&mut self) -> Option<Node<'t>> {
        self.left = self.left.checked_sub(1)?;
        let node = Node {
            tree: self.tree,
            index: self.next,
        };
        self.next = self.tree.form(self.next).end(self.next);
        Some(node)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Items<'_> {}

/// The keys and values of a map that are still to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairs<'t>(Items<'t>);

impl<'t> Iterator for Pairs<'t> {
    type Item = (Node<'t>, Node<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.0.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.len() / 2;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

//! Where an element of a configuration came from, so that diagnostics, `explain` and status can
//! say so, whatever the source.
//!
//! Must not: influence equality. Two elements that say the same are the same wherever they stand.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One of the sources of a document, by its place in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct SourceId(pub u32);

/// A place in a source. Line and column count from one; zero means that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Origin {
    /// The source.
    pub source: SourceId,
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// The sources a document was read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    read: Vec<Source>,
    watched: BTreeSet<PathBuf>,
}

/// One source.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file, as the user would name it.
    pub path: PathBuf,
    /// Its text.
    pub text: Arc<str>,
}

impl Sources {
    /// Adds a source and says how origins will name it.
    pub fn add(&mut self, path: PathBuf, text: Arc<str>) -> SourceId {
        self.watch(path.clone());
        self.read.push(Source { path, text });
        SourceId(u32::try_from(self.read.len() - 1).unwrap_or(u32::MAX))
    }

    /// A source.
    pub fn find(&self, id: SourceId) -> Option<&Source> {
        self.read.get(id.0 as usize)
    }

    /// All of them, the document itself first.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.read.iter()
    }

    /// Says that a file or directory has a say in the document.
    pub(crate) fn watch(&mut self, path: PathBuf) {
        self.watched.insert(path);
    }

    /// What has to be watched for the document to change: its files, those of its secrets, and the
    /// directories in which its includes look for more. They may not exist, or not yet.
    pub fn watched(&self) -> impl Iterator<Item = &Path> {
        self.watched.iter().map(PathBuf::as_path)
    }

    /// `file:line:column`, for people.
    pub fn describe(&self, origin: Origin) -> String {
        match self.find(origin.source) {
            Some(source) if origin.line > 0 => format!(
                "{}:{}:{}",
                source.path.display(),
                origin.line,
                origin.column
            ),
            _ => "(built in)".to_owned(),
        }
    }
}

/// A value and where it was written. It reads and compares as the value alone.
#[derive(Clone, Default)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub origin: Origin,
}

impl<T> Located<T> {
    /// A value that was not written anywhere.
    pub fn built_in(value: T) -> Self {
        Self {
            value,
            origin: Origin::default(),
        }
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Located<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(formatter)
    }
}

impl<T: Serialize> Serialize for Located<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::decode::located(deserializer)
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

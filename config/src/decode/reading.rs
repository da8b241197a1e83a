//! What values have to know while files are being read, and serde has no way to tell them: the
//! directory that paths are relative to, the names there are already, and which files were read on
//! the way.
//!
//! Must not: outlive the reading of one document, or be needed for a value to parse.

use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

thread_local! {
    static READING: RefCell<Option<State>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct State {
    directory: PathBuf,
    names: HashSet<Arc<str>>,
    /// The files that values were read from, and a digest of what was in them.
    files: BTreeMap<PathBuf, u64>,
}

/// The reading of a document, until it is dropped. There is one at a time per thread.
#[derive(Debug)]
pub(crate) struct Reading(());

impl Reading {
    /// Begins.
    pub(crate) fn start() -> Self {
        READING.set(Some(State::default()));
        Self(())
    }

    /// Says which directory paths are relative to from now on. It is made absolute: whoever opens
    /// a file later need not have today's working directory.
    #[expect(clippy::unused_self, reason = "there has to be a reading")]
    pub(crate) fn enter(&self, directory: &Path) {
        let here = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        READING.with_borrow_mut(|state| {
            if let Some(state) = state {
                state.directory =
                    std::path::absolute(here).unwrap_or_else(|_| directory.to_path_buf());
            }
        });
    }

    /// The files that values were read from, and a digest of what was in them.
    #[expect(clippy::unused_self, reason = "there has to be a reading")]
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, u64> {
        READING.with_borrow(|state| match state {
            Some(state) => state.files.clone(),
            None => BTreeMap::new(),
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.set(None);
    }
}

/// A text, shared with every equal one of the document that is being read.
pub(crate) fn intern(text: &str) -> Arc<str> {
    READING.with_borrow_mut(|state| {
        let Some(state) = state else {
            return text.into();
        };
        if let Some(name) = state.names.get(text) {
            return Arc::clone(name);
        }
        let name: Arc<str> = text.into();
        state.names.insert(Arc::clone(&name));
        name
    })
}

/// A path as it is meant by the file that is being read.
pub(crate) fn relative(path: &str) -> PathBuf {
    READING.with_borrow(|state| match state {
        Some(state) => state.directory.join(path),
        None => PathBuf::from(path),
    })
}

/// Notes that the document depends on a file, and on what is in it.
pub(crate) fn note_file(path: &Path, contents: &[u8]) {
    READING.with_borrow_mut(|state| {
        if let Some(state) = state {
            let mut hasher = DefaultHasher::new();
            contents.hash(&mut hasher);
            state.files.insert(path.to_path_buf(), hasher.finish());
        }
    });
}

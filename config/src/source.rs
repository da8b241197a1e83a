//! Reading a document from files: the file itself, what it includes, and a fingerprint of all of
//! it, so that a notification about a file that did not change changes nothing.
//!
//! Must not: follow an include of an include, or return a document with a mistake in it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{self, Diagnostic};
use crate::model::{Document, Fragment};
use crate::origin::{Located, Origin, SourceId, Sources};
use crate::{decode, validate, yaml};

/// The largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A document that may take effect.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub document: Document,
    /// What somebody should look at.
    pub warnings: Vec<Diagnostic>,
    /// Where it came from.
    pub sources: Sources,
    /// The same for the same contents.
    pub fingerprint: u64,
}

/// A document that may not.
#[derive(Debug)]
pub struct Refused {
    /// Everything that is wrong with it, and what else somebody should look at.
    pub diagnostics: Vec<Diagnostic>,
    /// Where it came from.
    pub sources: Sources,
}

impl Refused {
    /// The findings, for people.
    pub fn render(&self, color: bool) -> String {
        diagnostic::render(&self.diagnostics, &self.sources, color)
    }
}

/// Reads the document of a file.
pub fn load(path: &Path) -> Result<Loaded, Refused> {
    let mut sources = Sources::default();
    match read(path) {
        Ok(text) => {
            let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
            let id = sources.add(path.to_path_buf(), Arc::clone(&text));
            finish(sources, id, &text, Some(&base))
        }
        Err(problem) => Err(Refused {
            diagnostics: vec![*problem],
            sources,
        }),
    }
}

/// Reads a document from text; it cannot include anything.
pub fn parse(text: &str, name: &str) -> Result<Loaded, Refused> {
    let mut sources = Sources::default();
    let text: Arc<str> = text.into();
    let id = sources.add(name.into(), Arc::clone(&text));
    finish(sources, id, &text, None)
}

fn finish(
    mut sources: Sources,
    id: SourceId,
    text: &str,
    base: Option<&Path>,
) -> Result<Loaded, Refused> {
    let mut problems = Vec::new();
    let mut document: Option<Document> = decoded(text, id, &mut problems);
    if let Some(document) = &mut document {
        include(document, base, &mut sources, &mut problems);
    }
    let Some(document) = document.filter(|_| !problems.iter().any(Diagnostic::is_error)) else {
        return Err(Refused {
            diagnostics: problems,
            sources,
        });
    };
    problems.extend(validate::validate(&document));
    if problems.iter().any(Diagnostic::is_error) {
        return Err(Refused {
            diagnostics: problems,
            sources,
        });
    }
    let mut hasher = DefaultHasher::new();
    for source in sources.iter() {
        (&source.path, &source.text).hash(&mut hasher);
    }
    let fingerprint = hasher.finish();
    Ok(Loaded {
        document,
        warnings: problems,
        sources,
        fingerprint,
    })
}

fn decoded<'t, T>(text: &'t str, id: SourceId, problems: &mut Vec<Diagnostic>) -> Option<T>
where
    T: for<'de> serde::Deserialize<'de>,
{
    match yaml::read(text, id) {
        Ok(root) => decode::decode(&root, problems),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

/// Adds what the document includes, in the order of the globs and of the names they match.
fn include(
    document: &mut Document,
    base: Option<&Path>,
    sources: &mut Sources,
    problems: &mut Vec<Diagnostic>,
) {
    for pattern in std::mem::take(&mut document.include) {
        let Some(base) = base else {
            let message = "a document that is no file cannot include files";
            problems.push(Diagnostic::error(
                "E-include",
                Some(pattern.origin),
                message,
            ));
            continue;
        };
        match matching(base, &pattern) {
            Ok(paths) => {
                for path in paths {
                    add_fragment(document, &path, pattern.origin, sources, problems);
                }
            }
            Err(problem) => problems.push(*problem),
        }
        document.include.push(pattern);
    }
}

fn add_fragment(
    document: &mut Document,
    path: &Path,
    origin: Origin,
    sources: &mut Sources,
    problems: &mut Vec<Diagnostic>,
) {
    if sources.iter().any(|source| source.path == path) {
        let message = format!("{} is included twice", path.display());
        problems.push(Diagnostic::error("E-include", Some(origin), message));
        return;
    }
    let text = match read(path) {
        Ok(text) => text,
        Err(mut problem) => {
            problem.origin = Some(origin);
            problems.push(*problem);
            return;
        }
    };
    let id = sources.add(path.to_path_buf(), Arc::clone(&text));
    let Some(fragment) = decoded::<Fragment>(&text, id, problems) else {
        return;
    };
    document.certificates.extend(fragment.certificates);
    document.domains.extend(fragment.domains);
    for (name, upstream) in fragment.upstreams {
        if let Some(first) = document.upstreams.get(&name) {
            let message = format!("upstream `{name}` is defined twice");
            let place = sources.describe(first.origin);
            problems.push(
                Diagnostic::error("E-duplicate-name", Some(upstream.origin), message)
                    .remedy(format!("it is defined at {place} already")),
            );
            continue;
        }
        document.upstreams.insert(name, upstream);
    }
}

/// The files a pattern names, relative to `base`: `*` stands for any part of a file name.
fn matching(base: &Path, pattern: &Located<String>) -> Result<Vec<PathBuf>, Box<Diagnostic>> {
    let fail = |message: String, remedy: &str| {
        Box::new(Diagnostic::error("E-include", Some(pattern.origin), message).remedy(remedy))
    };
    let whole = base.join(&**pattern);
    let (directory, name) = match (
        whole.parent(),
        whole.file_name().and_then(|name| name.to_str()),
    ) {
        (Some(directory), Some(name)) => (directory, name),
        _ => {
            return Err(fail(
                format!("`{}` names no file", **pattern),
                "write a file or `dir/*.yaml`",
            ));
        }
    };
    if directory.to_string_lossy().contains('*') {
        let message = format!("`{}` has a `*` in a directory", **pattern);
        return Err(fail(message, "`*` may stand in the file's name only"));
    }
    let Some((prefix, suffix)) = name.split_once('*') else {
        return Ok(vec![whole]);
    };
    let entries = std::fs::read_dir(directory).map_err(|error| {
        let message = format!(
            "the directory {} cannot be read: {error}",
            directory.display()
        );
        fail(message, "create it, or take the include out")
    })?;
    let fits = |name: &str| {
        name.len() >= prefix.len() + suffix.len()
            && name.starts_with(prefix)
            && name.ends_with(suffix)
            // Editors' and ConfigMaps' own files.
            && !name.starts_with('.')
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(fits))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Arc<str>, Box<Diagnostic>> {
    let fail = |why: String| {
        let message = format!("{} cannot be read: {why}", path.display());
        Box::new(Diagnostic::error("E-file", None, message))
    };
    let metadata = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
    if metadata.is_dir() {
        return Err(fail("it is a directory".to_owned()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(fail(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(fail(format!("it is not UTF-8 text (byte {at})")))
        }
    }
}

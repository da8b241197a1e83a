//! Reading a document from files: the file itself, what it includes, and a fingerprint of all of
//! it, so that a notification about a file that did not change changes nothing.
//!
//! Must not: return a document with a mistake in it, or keep one mistake to itself.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::decode::{self, Problems, Reading};
use crate::diagnostic::{self, Diagnostic};
use crate::model::Document;
use crate::origin::{Origin, SourceId, Sources};
use crate::{validate, yaml};

mod file;
mod glob;
mod include;

#[cfg(test)]
mod tests;

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

/// Reads the document of a file, and what it includes.
pub fn load(path: &Path) -> Result<Loaded, Refused> {
    let mut sources = Sources::default();
    sources.watch(path.to_path_buf());
    match file::read(path) {
        Ok(text) => finish(path, &text, true, sources),
        Err(problem) => Err(Refused {
            diagnostics: vec![*problem],
            sources,
        }),
    }
}

/// Reads a document from text. It cannot include anything; its paths are relative to the working
/// directory.
pub fn parse(text: &str, name: &str) -> Result<Loaded, Refused> {
    finish(Path::new(name), &text.into(), false, Sources::default())
}

fn finish(
    path: &Path,
    text: &Arc<str>,
    is_file: bool,
    mut sources: Sources,
) -> Result<Loaded, Refused> {
    let reading = Reading::start();
    let mut problems = Problems::default();
    let base = is_file.then(|| path.parent().unwrap_or(Path::new("")));
    reading.enter(base.unwrap_or(Path::new("")));
    let id = sources.add(path.to_path_buf(), Arc::clone(text));
    let mut document: Option<Document> = decoded(text, id, &mut problems);
    if let Some(document) = &mut document {
        include::include(document, base, &reading, &mut sources, &mut problems);
    }
    document.as_ref().into_iter().for_each(note_tls_files);
    let fingerprint = fingerprint(&reading, &mut sources);
    let relations = document.as_ref().map(validate::validate);
    let relations = relations.unwrap_or_default();
    let refused = problems.has_errors() || relations.iter().any(Diagnostic::is_error);
    let is_certain = !problems.has_errors();
    let unsure = |found: &Diagnostic| !is_certain && follows(found, document.as_ref(), &problems);
    let relations: Vec<_> = relations.into_iter().filter(|it| !unsure(it)).collect();
    let mut diagnostics = problems.into_found();
    diagnostics.extend(relations);
    for found in diagnostics.iter_mut().filter(|found| found.is_error()) {
        // What is wrong with the document as a whole is shown at its beginning.
        found.origin.get_or_insert(Origin {
            source: id,
            line: 1,
            column: 1,
        });
    }
    // Errors first; then as they stand in the files.
    diagnostics.sort_by_key(|found| (!found.is_error(), found.origin));
    match document {
        Some(document) if !refused => Ok(Loaded {
            document,
            warnings: diagnostics,
            sources,
            fingerprint,
        }),
        _ => Err(Refused {
            diagnostics,
            sources,
        }),
    }
}

/// Says that the document depends on the files of TLS towards upstreams, which whoever compiles it
/// reads only then.
fn note_tls_files(document: &Document) {
    let all = document.upstreams.values();
    for tls in all.filter_map(|upstream| upstream.tls.as_deref()) {
        for path in [&tls.ca, &tls.certificate, &tls.key].into_iter().flatten() {
            decode::note_file(path, &file::beginning(path));
        }
    }
}

/// A digest of all that the document was read from, which is watched from now on.
fn fingerprint(reading: &Reading, sources: &mut Sources) -> u64 {
    let mut hasher = DefaultHasher::new();
    for source in sources.iter() {
        (&source.path, &source.text).hash(&mut hasher);
    }
    for (file, digest) in reading.files() {
        (&file, digest).hash(&mut hasher);
        sources.watch(file);
    }
    hasher.finish()
}

fn decoded<T>(text: &str, id: SourceId, problems: &mut Problems) -> Option<T>
where
    T: for<'de> Deserialize<'de>,
{
    match yaml::read(text, id) {
        Ok(tree) => decode::decode(tree.root(), problems),
        Err(problem) => {
            problems.add(*problem);
            None
        }
    }
}

/// Whether a finding about a document with mistakes may only follow from them: it concerns an
/// element with a mistake in it, the document as a whole, or something that is missing where a
/// whole section may be misspelt.
fn follows(found: &Diagnostic, document: Option<&Document>, problems: &Problems) -> bool {
    let lacks = |section: fn(&Document) -> bool| document.is_none_or(section);
    let concerns = |origin| problems.is_broken(origin);
    let is_about_a_mistake = match found.origin {
        Some(origin) => concerns(origin),
        None => true,
    };
    !found.is_error()
        || is_about_a_mistake
        || found.related.iter().any(|(origin, _)| concerns(*origin))
        || match found.code {
            "E-unknown-upstream" => lacks(|document| document.upstreams.is_empty()),
            "E-unknown-listener" => lacks(|document| document.listeners.is_empty()),
            "E-unknown-certificate" | "E-no-certificate" => {
                lacks(|document| document.certificates.is_empty())
            }
            _ => false,
        }
}

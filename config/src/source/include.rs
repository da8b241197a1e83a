//! The files that a document includes: fragments with certificates, domains, streams and upstreams,
//! added in the order of the patterns and of the names they match.
//!
//! Must not: follow an include of an include, or read what lies outside the document's directory:
//! who may write a fragment may not thereby show other files of the machine.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{decoded, file, glob};
use crate::decode::{Problems, Reading};
use crate::diagnostic::Diagnostic;
use crate::model::{Document, Fragment};
use crate::origin::{Located, Origin, SourceId, Sources};

/// Adds what the document includes; without a directory it cannot include anything.
pub(super) fn include(
    document: &mut Document,
    base: Option<&Path>,
    reading: &Reading,
    sources: &mut Sources,
    problems: &mut Problems,
) {
    let patterns = std::mem::take(&mut document.include);
    let mut includer = Includer {
        document,
        root: base.and_then(|base| real(base).ok()),
        // The document is no fragment of itself.
        seen: sources.iter().filter_map(|s| real(&s.path).ok()).collect(),
        reading,
        sources,
        problems,
    };
    for pattern in &patterns {
        match base {
            Some(base) => includer.pattern(base, pattern),
            None => {
                let message = "a document that is no file cannot include files";
                let problem = Diagnostic::error("E-include", Some(pattern.origin), message);
                includer.problems.add(problem.remedy("save it as a file"));
            }
        }
    }
    document.include = patterns;
}

struct Includer<'a> {
    document: &'a mut Document,
    /// The directory that files have to be in, without symbolic links.
    root: Option<PathBuf>,
    /// The files so far, without symbolic links.
    seen: HashSet<PathBuf>,
    reading: &'a Reading,
    sources: &'a mut Sources,
    problems: &'a mut Problems,
}

impl Includer<'_> {
    fn pattern(&mut self, base: &Path, pattern: &Located<String>) {
        let origin = pattern.origin;
        let found = match glob::expand(base, pattern) {
            Ok(found) => found,
            Err(glob::Wrong(message, remedy)) => {
                return self.refuse(origin, message, remedy);
            }
        };
        for directory in found.directories {
            self.sources.watch(directory);
        }
        if found.files.is_empty() {
            let message = format!("`{}` matches no file", **pattern);
            let problem = Diagnostic::warning("W-include-empty", Some(origin), message);
            self.problems
                .add(problem.remedy("what appears there later is taken up by itself"));
        }
        for path in found.files {
            self.sources.watch(path.clone());
            // A pattern may match the document itself; that is no include.
            let is_document = self.sources.iter().next().map(|s| &s.path) == Some(&path);
            if !(found.is_pattern && is_document) {
                self.file(&path, origin);
            }
        }
    }

    fn file(&mut self, path: &Path, origin: Origin) {
        let shown = path.display();
        // If it cannot be followed, reading it says why.
        if let Ok(real) = real(path) {
            let root = self.root.as_ref();
            if !root.is_some_and(|root| real.starts_with(root)) {
                let message = format!("{shown} is a link that leads out of this directory");
                return self.refuse(origin, message, "include files from below this directory");
            }
            if !self.seen.insert(real) {
                let message = format!("{shown} is included twice");
                return self.refuse(origin, message, "keep one of the includes");
            }
        }
        let text = match file::read(path) {
            Ok(text) => text,
            Err(mut problem) => {
                problem.origin = Some(origin);
                return self.problems.add(*problem);
            }
        };
        let id = self.sources.add(path.to_path_buf(), Arc::clone(&text));
        self.reading.enter(path.parent().unwrap_or(Path::new("")));
        let mut found = Problems::default();
        let fragment: Option<Fragment> = decoded(&text, id, &mut found);
        self.problems
            .take(found, |problem| explain(problem, id, &text));
        if let Some(fragment) = fragment {
            self.add(fragment);
        }
    }

    fn add(&mut self, fragment: Fragment) {
        self.document.certificates.extend(fragment.certificates);
        self.document.domains.extend(fragment.domains);
        self.document.streams.extend(fragment.streams);
        for (name, upstream) in fragment.upstreams {
            if let Some(first) = self.document.upstreams.get(&name) {
                let message = format!("upstream `{name}` is defined twice");
                let problem = Diagnostic::error("E-duplicate-name", Some(upstream.origin), message)
                    .label("the second one")
                    .related(first.origin, "the first one")
                    .remedy("give one of them another name");
                self.problems.add(problem);
                continue;
            }
            self.document.upstreams.insert(name, upstream);
        }
    }

    fn refuse(&mut self, origin: Origin, message: String, remedy: &str) {
        let problem = Diagnostic::error("E-include", Some(origin), message);
        self.problems.add(problem.remedy(remedy));
    }
}

/// Says about a field of the document that it has no place in an included file.
fn explain(problem: Diagnostic, id: SourceId, text: &str) -> Diagnostic {
    let is_top_level = |origin: &Origin| origin.source == id && origin.column == 1;
    let line = problem
        .origin
        .filter(is_top_level)
        .and_then(|origin| text.lines().nth((origin.line as usize).saturating_sub(1)));
    let Some(field) = line.and_then(|line| line.split(':').next()) else {
        return problem;
    };
    if problem.code != "E-unknown-field" || !Document::FIELDS.contains(&field) {
        return problem;
    }
    let remedy = match field {
        "include" => "list all includes in the main file",
        _ => {
            "move it to the main file; an included one may hold `certificates`, `domains`, `streams` and `upstreams`"
        }
    };
    Diagnostic {
        message: format!("an included file cannot hold `{field}`"),
        ..problem.remedy(remedy)
    }
}

/// A path without symbolic links; the empty one is the working directory.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    if path.as_os_str().is_empty() {
        Path::new(".").canonicalize()
    } else {
        path.canonicalize()
    }
}

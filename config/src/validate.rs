//! Relations between sections: names that exist, hosts claimed once, routes that answer. What one
//! value says by itself was checked when it was parsed.
//!
//! Must not: look at files or addresses; what needs them is checked when the document is compiled.

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::model::Document;
use crate::origin::Origin;

mod certificates;
mod domains;
mod listeners;
mod policies;
mod routes;
mod settings;
mod streams;
mod upstreams;

#[cfg(test)]
mod tests;

/// Everything that is wrong with a document, or questionable.
pub fn validate(document: &Document) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    settings::check(document, &mut found);
    listeners::check(document, &mut found);
    certificates::check(document, &mut found);
    domains::check(document, &mut found);
    let mut used = routes::check(document, &mut found);
    streams::check(document, &mut used, &mut found);
    upstreams::check(document, &used, &mut found);
    found
}

/// Names that may be given once.
struct Names<'d> {
    what: &'static str,
    seen: HashMap<&'d str, Origin>,
}

impl<'d> Names<'d> {
    fn of(what: &'static str) -> Self {
        Self {
            what,
            seen: HashMap::new(),
        }
    }

    /// Says if a name was given before.
    fn add(&mut self, name: &'d str, origin: Origin) -> Option<Diagnostic> {
        let first = self.seen.insert(name, origin)?;
        let message = format!("{} `{name}` is defined twice", self.what);
        let twice = Diagnostic::error("E-duplicate-name", Some(origin), message);
        Some(
            twice
                .label("the second one")
                .related(first, "the first one")
                .remedy("give each a name of its own"),
        )
    }
}

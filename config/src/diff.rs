//! What a reload changes, in words: by kind and name, one line each.
//!
//! Must not: be exhaustive about details; it says where to look.

use std::collections::BTreeMap;

use crate::model::Document;

/// The changes from one document to another.
pub fn diff(before: &Document, after: &Document) -> Vec<String> {
    let mut changes = Vec::new();
    section(
        &mut changes,
        "listener",
        &before.listeners,
        &after.listeners,
        |l| l.name.to_string(),
    );
    section(
        &mut changes,
        "certificate",
        &before.certificates,
        &after.certificates,
        |c| c.name.to_string(),
    );
    section(
        &mut changes,
        "domain",
        &before.domains,
        &after.domains,
        |d| d.label().to_owned(),
    );
    section(
        &mut changes,
        "stream",
        &before.streams,
        &after.streams,
        |s| s.name.to_string(),
    );
    let pairs = |document: &Document| -> Vec<(String, _)> {
        document
            .upstreams
            .iter()
            .map(|(name, upstream)| (name.to_string(), upstream.clone()))
            .collect()
    };
    section(
        &mut changes,
        "upstream",
        &pairs(before),
        &pairs(after),
        |(name, _)| name.clone(),
    );
    settings(&mut changes, before, after);
    changes
}

/// What concerns the document as a whole.
fn settings(changes: &mut Vec<String>, before: &Document, after: &Document) {
    let mut setting = |name: &str, same: bool| {
        if !same {
            changes.push(format!("~ {name}"));
        }
    };
    setting("tls_sessions", before.tls_sessions == after.tls_sessions);
    setting("ocsp", before.ocsp == after.ocsp);
    setting("acme", before.acme == after.acme);
    setting("policies", before.policies == after.policies);
    setting("responses", before.responses == after.responses);
    setting("forwarding", before.forwarding == after.forwarding);
    setting("access_log", before.access_log == after.access_log);
    let (log_before, log_after) = (&before.diagnostics, &after.diagnostics);
    setting("diagnostics", log_before.level == log_after.level);
    setting(
        "diagnostics (takes effect after a restart)",
        log_before.format == log_after.format
            && log_before.queue_lines_max == log_after.queue_lines_max,
    );
    setting("resolver", before.resolver == after.resolver);
    setting("shutdown", before.shutdown == after.shutdown);
    setting(
        "admin (takes effect after a restart)",
        before.admin == after.admin,
    );
    setting(
        "workers (takes effect after a restart)",
        before.workers == after.workers,
    );
}

fn section<T: PartialEq>(
    changes: &mut Vec<String>,
    kind: &str,
    before: &[T],
    after: &[T],
    name: impl Fn(&T) -> String,
) {
    let old: BTreeMap<String, &T> = before.iter().map(|value| (name(value), value)).collect();
    let new: BTreeMap<String, &T> = after.iter().map(|value| (name(value), value)).collect();
    for (name, value) in &new {
        match old.get(name) {
            None => changes.push(format!("+ {kind} {name}")),
            Some(before) if before != value => changes.push(format!("~ {kind} {name}")),
            Some(_) => {}
        }
    }
    changes.extend(
        old.keys()
            .filter(|name| !new.contains_key(*name))
            .map(|name| format!("- {kind} {name}")),
    );
}

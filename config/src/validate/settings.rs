//! What concerns the document as a whole.
//!
//! Must not: repeat what a section checks by itself.

use crate::diagnostic::Diagnostic;
use crate::model::{Document, Switch};

pub(super) fn check(document: &Document, found: &mut Vec<Diagnostic>) {
    if let Switch::On(admin) = &document.admin
        && !admin.bind.ip().is_loopback()
    {
        let message = format!(
            "the admin listener at {} can be reached from outside",
            admin.bind
        );
        found.push(
            Diagnostic::warning("W-admin-exposed", None, message)
                .remedy("it has no authentication: bind it to 127.0.0.1, or guard it"),
        );
    }
    let is_for_domains = document.listeners.iter().any(|it| it.protocol.is_http());
    if document.domains.is_empty() && (is_for_domains || document.listeners.is_empty()) {
        let message = "there is no domain: every request is answered 404";
        found.push(
            Diagnostic::warning("W-no-domain", None, message)
                .remedy("add one under `domains`; `cardea init` shows how"),
        );
    }
}

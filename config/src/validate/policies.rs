//! Policies of one level that do not go together.
//!
//! Must not: repeat what a policy checks by itself, or compare levels: every level stands alone.

use crate::diagnostic::Diagnostic;
use crate::origin::Origin;
use crate::policy::{Policies, is_secret};

/// Checks the policies of a level, whose name is only made when there is something to say.
pub(super) fn check(
    policies: &Policies,
    origin: Option<Origin>,
    level: &dyn Fn() -> String,
    found: &mut Vec<Diagnostic>,
) {
    if policies.redirect.is_some() && policies.respond.is_some() {
        let message = format!("{} both redirects and responds", level());
        found.push(
            Diagnostic::error("E-two-answers", origin, message)
                .remedy("keep `redirect` or `respond`"),
        );
    }
    let Some(edits) = &policies.header_edits else {
        return;
    };
    for direction in [&edits.request, &edits.response] {
        for (name, value) in direction.set.iter().chain(&direction.add) {
            if value.is_literal() && is_secret(name) && !value.value().is_empty() {
                let message = format!("{} has the value of `{name}` written out", level());
                found.push(
                    Diagnostic::warning("W-secret", origin, message)
                        .remedy("keep it apart: `${file:/path}` or `${env:NAME}`"),
                );
            }
        }
    }
}

//! Turning to another configuration: everything that can fail comes first, then one swap, then
//! what was left behind is let go. A configuration that fails changes nothing.
//!
//! Must not: hold up traffic, or run twice at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use cardea_config::diagnostic::{self, Diagnostic};
use cardea_config::origin::Sources;
use cardea_config::source::Loaded;

use super::compile::{self, Compiled};
use super::listen::{BindError, Bound};
use super::{Control, Source, State, service_manager, status};
use crate::traffic::worker::Command;

/// Why the configuration is looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asks for it: secrets and TLS files are read again even if no configuration file
    /// changed.
    Asked,
    /// These files may have changed.
    Changed(BTreeSet<PathBuf>),
}

/// A configuration took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The generation in force.
    pub generation: u64,
    /// What changed, in words; nothing if the files say what they said before.
    pub changes: Vec<String>,
}

/// A configuration was refused; the one before stays.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why, for people.
    pub rendered: String,
    /// Why, for programs.
    pub diagnostics: serde_json::Value,
}

impl Refusal {
    fn new(diagnostics: &[Diagnostic], sources: &Sources) -> Self {
        Self {
            rendered: diagnostic::render(diagnostics, sources, false),
            diagnostics: diagnostic::to_json(diagnostics, sources),
        }
    }
}

impl Control {
    /// Serves what is new in files of certificates, if nothing else changed: then the document
    /// need not be read again, which takes a while where there are thousands of certificates.
    fn renew(&self, changed: &BTreeSet<PathBuf>) -> Option<Result<Verdict, Refusal>> {
        let state = self.state();
        // A document that is refused may have been refused for want of these very files.
        if state.refused.is_some() {
            return None;
        }
        let compiled = &state.compiled;
        let (changes, failed) = compiled
            .certificates
            .refresh_files(changed, &compiled.document)?;
        let generation = compiled.snapshot.generation;
        let places = Arc::clone(&state.places);
        drop(state);
        self.note_certificates();
        if !failed.is_empty() {
            log_changes(&changes);
            return Some(Err(Refusal::new(&failed, &places)));
        }
        Some(Ok(Verdict {
            generation,
            changes,
        }))
    }

    /// Reads the configuration again and turns to it.
    pub fn reload(&self, cause: &Cause) -> Result<Verdict, Refusal> {
        if let Cause::Changed(files) = cause
            && let Some(verdict) = self.renew(files)
        {
            return verdict;
        }
        let mut state = self.state();
        let loaded = match &self.source {
            Source::File(path) => cardea_config::load(path),
            Source::Text(text) => cardea_config::parse(text, "(quick start)"),
        };
        state.watched = watched(match &loaded {
            Ok(loaded) => &loaded.sources,
            Err(refused) => &refused.sources,
        });
        let Loaded {
            document,
            warnings,
            sources,
            fingerprint,
        } = loaded.map_err(|refused| Refusal::new(&refused.diagnostics, &refused.sources))?;
        let generation = state.compiled.snapshot.generation;
        let is_same = fingerprint == state.fingerprint && !state.compiled.is_outdated();
        if is_same && *cause != Cause::Asked {
            let compiled = &state.compiled;
            let (changes, failed) = compiled.certificates.refresh(&compiled.document);
            drop(state);
            self.note_certificates();
            if !failed.is_empty() {
                log_changes(&changes);
                return Err(Refusal::new(&failed, &sources));
            }
            return Ok(Verdict {
                generation,
                changes,
            });
        }
        let generation = generation + 1;
        let document = Arc::new(document);
        let before = Some(&state.compiled);
        let compiled = compile::compile(document, generation, before, &self.metrics);
        let (compiled, more) = compiled.map_err(|found| Refusal::new(&found, &sources))?;
        let wanted = compiled.listeners.wanted().iter();
        let bound = Bound::bind(wanted, &state.in_use, self.crew.members.len());
        let bound = bound.map_err(|errors| {
            let found: Vec<_> = errors.iter().map(BindError::diagnostic).collect();
            Refusal::new(&found, &sources)
        })?;
        let outlets = self.open_outlets(&state, &compiled.document);
        let outlets = outlets.map_err(|found| Refusal::new(&[found], &sources))?;
        log_warnings(&[warnings, more].concat(), &sources);
        // From here on nothing fails.
        let changes = cardea_config::diff::diff(&state.compiled.document, &compiled.document);
        self.turn_outlets(&mut state, &compiled.document, outlets);
        self.turn(&mut state, compiled, bound);
        state.places = status::places(&sources);
        state.fingerprint = fingerprint;
        drop(state);
        self.applied(generation);
        Ok(Verdict {
            generation,
            changes,
        })
    }

    /// Puts a compiled configuration in force, and lets go of what it no longer has.
    fn turn(&self, state: &mut State, compiled: Compiled, bound: Bound) {
        if let Some(supervisor) = &mut state.supervisor {
            supervisor.apply(&compiled.upstreams);
        }
        compiled.certificates.take_effect();
        self.published.swap(Arc::clone(&compiled.snapshot));
        state.in_use.extend(bound.actual.clone());
        self.hand_over(bound);
        let wanted = compiled.listeners.wanted();
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut state.in_use)
            .into_iter()
            .partition(|(key, _)| wanted.contains(key));
        state.in_use = kept;
        // Told before the address is closed: whoever finds it closed can rely on it.
        let ids: BTreeSet<_> = gone.keys().map(|key| key.id).collect();
        for id in ids
            .into_iter()
            .filter(|id| compiled.snapshot.listener(*id).is_none())
        {
            self.tell_all(|| Command::Release(id));
        }
        for key in gone.keys() {
            self.tell_all(|| Command::Unlisten(key.id, key.address));
        }
        let level = &compiled.document.diagnostics.level;
        if state.compiled.document.diagnostics.level != *level {
            self.log.set(level);
        }
        state.compiled = compiled;
    }

    /// As `reload`, with the verdict in the log and the metrics, and told to the service manager.
    pub fn reload_and_log(&self, cause: &Cause) -> Result<Verdict, Refusal> {
        // Before it is ready and while it goes, the manager waits for other words. A look at the
        // files that nobody asked for is no reload to it.
        let (is_serving, before) = (self.is_serving(), self.status_line());
        let is_asked = *cause == Cause::Asked;
        let is_told = is_serving && is_asked;
        if is_told {
            service_manager::reloading();
        }
        let verdict = self.reload(cause);
        self.log_verdict(&verdict, is_asked);
        let status = self.status_line();
        if is_told {
            service_manager::ready(&status);
        } else if is_serving && status != before {
            service_manager::status(&status);
        }
        verdict
    }

    /// The same refusal is logged once, however often the files are looked at.
    fn log_verdict(&self, verdict: &Result<Verdict, Refusal>, is_asked: bool) {
        let refused = verdict.as_ref().err().map(|one| one.rendered.clone());
        let before = std::mem::replace(&mut self.state().refused, refused);
        match verdict {
            Ok(Verdict { changes, .. }) if changes.is_empty() && !is_asked => {
                self.metrics.reload_unchanged();
            }
            Ok(Verdict {
                generation,
                changes,
            }) => {
                tracing::info!(generation, changes = changes.len(), "configuration_applied");
                log_changes(changes);
            }
            Err(refusal) => {
                self.metrics.reload_refused();
                if is_asked || before.as_ref() != Some(&refusal.rendered) {
                    tracing::error!(
                        "configuration_refused: the last good one keeps serving\n{}",
                        refusal.rendered
                    );
                }
            }
        }
    }

    /// The files whose changes matter.
    pub(super) fn watched_files(&self) -> Vec<PathBuf> {
        let Source::File(_) = &self.source else {
            return Vec::new();
        };
        let state = self.state();
        let mut files = state.watched.clone();
        files.extend(state.compiled.files());
        files
    }
}

/// The files and directories that have a say in a configuration.
pub(super) fn watched(sources: &Sources) -> Vec<PathBuf> {
    sources.watched().map(PathBuf::from).collect()
}

fn log_changes(changes: &[String]) {
    for change in changes {
        tracing::info!(change = change.as_str(), "configuration_changed");
    }
}

/// Writes the warnings of a configuration that took effect to the log.
pub fn log_warnings(warnings: &[Diagnostic], sources: &Sources) {
    for warning in warnings {
        let place = warning.origin.map(|origin| sources.describe(origin));
        tracing::warn!(
            code = warning.code,
            place = place.as_deref(),
            remedy = warning.remedy.as_deref(),
            "{}",
            warning.message
        );
    }
}

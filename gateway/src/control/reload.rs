//! Turning to another configuration: everything that can fail comes first, then one swap, then
//! what was left behind is let go. A configuration that fails changes nothing.
//!
//! Must not: hold up traffic, or run twice at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cardea_config::diagnostic::{self, Diagnostic};
use cardea_config::origin::Sources;
use cardea_config::source::Loaded;

use super::compile::certificates::Renewed;
use super::compile::{self, Compiled};
use super::listen::{BindError, Bound};
use super::{Control, Source, State, service_manager, status};
use crate::traffic::worker::Command;

/// After how long files are looked at again that may not be whole yet: a second after they count
/// as whole, come what may.
const HELD_FOR: Duration = Duration::from_secs(cardea_certs::REST_SECS + 1);

/// Why the configuration is looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asks for it: secrets and TLS files are read again even if no configuration file
    /// changed.
    Asked,
    /// These files may have changed.
    Changed(BTreeSet<PathBuf>),
}

impl Cause {
    /// Whether a file may have changed that is more than a certificate for clients.
    fn concerns(&self, compiled: &Compiled) -> bool {
        match self {
            Self::Asked => true,
            Self::Changed(files) => compiled.other_files().any(|file| files.contains(&file)),
        }
    }
}

/// Which files of certificates are looked at.
enum Files<'f> {
    /// All of them.
    All,
    /// Those that may have changed.
    These(&'f BTreeSet<PathBuf>),
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
    /// Serves what is new in files of certificates, whatever state the document is in.
    fn renew(&self, files: Files<'_>) -> Renewed {
        let state = self.state();
        let Compiled {
            certificates,
            document,
            ..
        } = &state.compiled;
        let renewed = match files {
            Files::All => certificates.renew_all(document),
            Files::These(changed) => certificates.renew(changed, document),
        };
        drop(state);
        self.note_certificates();
        renewed
    }

    /// Has certificates served from new files, then reads the configuration again and turns to it.
    /// The order counts: a document that is refused would else keep renewed certificates out until
    /// the old ones have expired.
    pub fn reload(&self, cause: &Cause) -> Result<Verdict, Refusal> {
        let renewed = match cause {
            Cause::Changed(files) => self.renew(Files::These(files)),
            // Reading the document again will look at all of them.
            Cause::Asked => Renewed::default(),
        };
        let state = self.state();
        // A document that is refused may have been refused for want of these very files. Else it
        // need not be read again, which takes a while where there are thousands of certificates.
        let is_done = renewed.is_all && state.refused.is_none() && !cause.concerns(&state.compiled);
        let (generation, places) = (
            state.compiled.snapshot.generation,
            Arc::clone(&state.places),
        );
        drop(state);
        let turned = if is_done {
            if renewed.failed.is_empty() {
                self.metrics.reload_unchanged();
            }
            Ok(Verdict {
                generation,
                changes: Vec::new(),
            })
        } else {
            self.turn_to_document(cause)
        };
        match turned {
            // Of the files that are no good a document says as much, if they are still its own.
            Ok(verdict) if !is_done || renewed.failed.is_empty() => Ok(Verdict {
                changes: [renewed.changes, verdict.changes].concat(),
                ..verdict
            }),
            Ok(_) => {
                log_changes(&renewed.changes);
                Err(Refusal::new(&renewed.failed, &places))
            }
            Err(refusal) => {
                let renewed = match cause {
                    Cause::Asked => self.renew(Files::All),
                    Cause::Changed(_) => renewed,
                };
                log_changes(&renewed.changes);
                if !renewed.failed.is_empty() {
                    let told = Refusal::new(&renewed.failed, &places).rendered;
                    tracing::warn!("certificate_not_renewed: the old one is served\n{told}");
                }
                Err(refusal)
            }
        }
    }

    /// Reads the configuration again and turns to it.
    fn turn_to_document(&self, cause: &Cause) -> Result<Verdict, Refusal> {
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
            drop(state);
            let renewed = self.renew(Files::All);
            if !renewed.failed.is_empty() {
                log_changes(&renewed.changes);
                return Err(Refusal::new(&renewed.failed, &sources));
            }
            self.metrics.reload_unchanged();
            return Ok(Verdict {
                generation,
                changes: renewed.changes,
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
        self.look_again_later();
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
            Ok(Verdict { changes, .. }) if changes.is_empty() && !is_asked => {}
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

    /// Has files looked at again that may not be whole yet: whoever wrote them may be done.
    fn look_again_later(&self) {
        let held = self.state().compiled.certificates.live().held_files();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if held.is_empty() {
            return;
        }
        let changed = Arc::clone(&self.changed);
        runtime.spawn(async move {
            tokio::time::sleep(HELD_FOR).await;
            changed.add(held);
        });
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

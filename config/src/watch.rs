//! Watching the files of a configuration. Directories are watched, not files, so that an editor's
//! rename-on-save and the symlink swap of a ConfigMap are seen. A notification is a hint: contents
//! are compared before anybody is called. A slow poll catches what no notification tells, such as
//! changes on a network file system, or of a directory further up than the one that holds a file.
//!
//! Must not: read a configuration, or call back while another call is still running.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

mod contents;
mod ways;

#[cfg(test)]
mod tests;

use contents::Contents;
use ways::{Directory, Targets, Ways};

/// Notifications that follow each other within this time are one change.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// What keeps changing, such as a log in the same directory, is looked at this often.
const DEBOUNCE_MAX: Duration = Duration::from_secs(1);

/// How often contents are compared without a notification.
const POLL: Duration = Duration::from_secs(30);

/// Hints that wait. One is as good as many.
const HINTS_MAX: usize = 4;

/// A watch, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    hints: SyncSender<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The files to watch from now on, until the thread takes them.
    files: Mutex<Option<BTreeSet<PathBuf>>>,
    /// What the watched files are, all links followed, as a notification names them.
    targets: Mutex<Targets>,
    is_over: AtomicBool,
}

impl Watch {
    /// Calls `changed` on a thread of its own when contents of watched files have changed, and when
    /// other files are to be watched, with the files concerned.
    pub fn start(changed: impl FnMut(BTreeSet<PathBuf>) + Send + 'static) -> std::io::Result<Self> {
        Self::polling(POLL, changed)
    }

    fn polling(
        poll: Duration,
        changed: impl FnMut(BTreeSet<PathBuf>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (hints, receiver) = sync_channel(HINTS_MAX);
        let shared = Arc::new(Shared::default());
        let mut watcher = Thread {
            shared: Arc::clone(&shared),
            receiver,
            notifier: notifier(&shared, hints.clone()),
            poll,
            directories: BTreeSet::new(),
            contents: Contents::default(),
            changed,
        };
        std::thread::Builder::new()
            .name("config-watch".to_owned())
            .spawn(move || watcher.run())?;
        Ok(Self { shared, hints })
    }

    /// Sets what is watched: files, and directories in which files may appear. They need not
    /// exist.
    pub fn watch(&self, files: impl IntoIterator<Item = PathBuf>) {
        let files = files.into_iter().collect();
        *lock(&self.shared.files) = Some(files);
        // If there is no room, the thread is about to look anyway.
        let _ = self.hints.try_send(());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        let _ = self.hints.try_send(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn notifier(shared: &Arc<Shared>, hints: SyncSender<()>) -> Option<RecommendedWatcher> {
    let shared = Arc::clone(shared);
    let notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| is_noise(&event, &lock(&shared.targets))) {
            return;
        }
        let _ = hints.try_send(());
    });
    match notifier {
        Ok(notifier) => Some(notifier),
        Err(error) => {
            tracing::warn!(%error, "config_watch_unavailable: changes are found by polling");
            None
        }
    }
}

/// Whether an event cannot concern the watched files: somebody reads one, or writes into another
/// file beside them, such as a log. Any file may become a watched one by being made or renamed.
fn is_noise(event: &Event, targets: &Targets) -> bool {
    match event.kind {
        EventKind::Access(_) => true,
        EventKind::Modify(ModifyKind::Data(_)) => {
            !event.paths.is_empty() && event.paths.iter().all(|path| !targets.has(path))
        }
        _ => false,
    }
}

struct Thread<F> {
    shared: Arc<Shared>,
    receiver: Receiver<()>,
    notifier: Option<RecommendedWatcher>,
    poll: Duration,
    directories: BTreeSet<Directory>,
    /// The watched files, and what they held when they were last looked at.
    contents: Contents,
    changed: F,
}

impl<F: FnMut(BTreeSet<PathBuf>)> Thread<F> {
    fn run(&mut self) {
        loop {
            let is_hint = match self.receiver.recv_timeout(self.poll) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if is_hint {
                self.settle();
            }
            if self.shared.is_over.load(Ordering::Acquire) {
                return;
            }
            let files = lock(&self.shared.files).take();
            let mut changes = files.map_or_else(BTreeSet::new, |files| self.contents.set(files));
            self.subscribe();
            // Taken before the call: whoever is called reads what is there by then, or later. A
            // file that is watched from now on counts as changed: it may have, between being read
            // and being watched.
            changes.append(&mut self.contents.look());
            if !changes.is_empty() {
                (self.changed)(changes);
            }
        }
    }

    /// Waits until nothing happens for a moment.
    fn settle(&self) {
        let end = Instant::now() + DEBOUNCE_MAX;
        while Instant::now() < end && !self.shared.is_over.load(Ordering::Acquire) {
            if self.receiver.recv_timeout(DEBOUNCE).is_err() {
                return;
            }
        }
    }

    /// Watches the directories that matter now; links may lead elsewhere than before.
    fn subscribe(&mut self) {
        let ways = Ways::of(self.contents.files());
        *lock(&self.shared.targets) = ways.targets;
        let wanted = ways.directories;
        let Some(notifier) = &mut self.notifier else {
            return;
        };
        for gone in self.directories.difference(&wanted) {
            // The directory may be gone itself.
            let _ = notifier.unwatch(&gone.path);
        }
        for new in wanted.difference(&self.directories) {
            if let Err(error) = notifier.watch(&new.path, RecursiveMode::NonRecursive) {
                let directory = new.path.display();
                tracing::warn!(%directory, %error, "directory_not_watched");
            }
        }
        self.directories = wanted;
    }
}

//! Watching the files of a configuration. A notification is a hint: whoever is called compares
//! contents. Directories are watched, not files, so that an editor's rename-on-save and the
//! symlink swap of a ConfigMap are seen; a slow poll catches what no notification tells.
//!
//! Must not: read a configuration, or call back while another call is still running.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// Notifications that follow each other within this time are one change.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// How often the callback runs without a notification.
const POLL: Duration = Duration::from_secs(30);

/// A watch, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    paths: SyncSender<Message>,
}

#[derive(Debug)]
enum Message {
    /// Something happened in a directory.
    Hint,
    /// Watch these files from now on.
    Paths(BTreeSet<PathBuf>),
    /// The watch was dropped.
    Stop,
}

impl Watch {
    /// Calls `changed` on a thread of its own whenever something may have happened to a file.
    pub fn start(changed: impl FnMut() + Send + 'static) -> std::io::Result<Self> {
        // One hint in the queue is as good as many.
        let (sender, receiver) = sync_channel(16);
        let hints = sender.clone();
        std::thread::Builder::new()
            .name("config-watch".to_owned())
            .spawn(move || run(&receiver, hints, changed))?;
        Ok(Self { paths: sender })
    }

    /// Sets the files that are watched.
    pub fn watch(&self, files: impl IntoIterator<Item = PathBuf>) {
        // The thread ends with this handle only.
        let _ = self.paths.send(Message::Paths(files.into_iter().collect()));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.paths.send(Message::Stop);
    }
}

fn run(receiver: &Receiver<Message>, hints: SyncSender<Message>, mut changed: impl FnMut()) {
    let mut watcher =
        match notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change of it.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            if let Err(TrySendError::Disconnected(_)) = hints.try_send(Message::Hint) {
                tracing::debug!("config_watch_ended");
            }
        }) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "config_watch_unavailable: changes are found by polling");
                None
            }
        };
    let mut directories = BTreeSet::new();
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(Message::Paths(files)) => watch(&mut watcher, &mut directories, &files),
            Ok(Message::Hint) => {
                let mut ended = false;
                while let Ok(message) = receiver.recv_timeout(DEBOUNCE) {
                    match message {
                        Message::Hint => {}
                        Message::Paths(files) => watch(&mut watcher, &mut directories, &files),
                        Message::Stop => ended = true,
                    }
                    if ended {
                        return;
                    }
                }
                changed();
            }
            Err(RecvTimeoutError::Timeout) => changed(),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn watch(
    watcher: &mut Option<RecommendedWatcher>,
    watched: &mut BTreeSet<PathBuf>,
    files: &BTreeSet<PathBuf>,
) {
    let Some(watcher) = watcher else { return };
    let wanted: BTreeSet<PathBuf> = files.iter().flat_map(|file| directories(file)).collect();
    for gone in watched.difference(&wanted) {
        // The directory may be gone itself.
        let _ = watcher.unwatch(gone);
    }
    for new in wanted.difference(watched) {
        if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
            tracing::warn!(directory = %new.display(), %error, "directory_not_watched");
        }
    }
    *watched = wanted;
}

/// The directory of a file, and that of what it is a symbolic link to.
fn directories(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        Some(parent) => Some(parent.to_path_buf()),
        None => None,
    };
    let target = std::fs::canonicalize(file).ok();
    parent(file)
        .into_iter()
        .chain(target.as_deref().and_then(parent))
        .collect()
}

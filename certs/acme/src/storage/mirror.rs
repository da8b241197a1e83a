//! The side of a storage that other gateways see when they share a Redis instead of a directory.
//! The directory stays what is read from: what others put into Redis comes into it, what is written
//! goes there too. What Redis did not take is sent when it is back.
//!
//! Must not: let a name from Redis lead out of the directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardea_certs::vault::{Mark, Vault, VaultError, VaultLock};

use super::Storage;
use crate::error::Error;

/// The directories that are shared. Staples are not: each gateway asks for itself.
const SHARED: [&str; 6] = [
    "accounts",
    "certificates",
    "challenges",
    "orders",
    "pauses",
    "retries",
];

/// What is worth having at gateways that were not there when it was written.
const LASTING: [&str; 2] = ["accounts", "certificates"];

/// A Redis that a storage is shared by.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) vault: Arc<Vault>,
    state: Mutex<State>,
}

/// Held while a file is written here and there, so that nothing older comes in between.
#[derive(Debug, Default)]
pub(super) struct State {
    mark: Option<Mark>,
    unsent: BTreeSet<String>,
}

impl Mirror {
    pub(super) fn new(vault: Arc<Vault>) -> Self {
        Self {
            vault,
            state: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the others of a file that was written, or removed, in the meantime.
    pub(super) fn tell(&self, state: &mut State, storage: &Storage, path: &Path) {
        let Some(name) = shared_name(storage, path) else {
            return;
        };
        if self.send(storage, &name).is_err() {
            state.unsent.insert(name);
        }
    }

    fn send(&self, storage: &Storage, name: &str) -> Result<(), VaultError> {
        // What cannot be read here is nobody else's business.
        match storage.read(&storage.root.join(name)) {
            Ok(Some(bytes)) => self.vault.write(name, &bytes),
            Ok(None) => self.vault.remove(name),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn try_lock(&self, what: &str) -> Result<Option<VaultLock>, VaultError> {
        self.vault.try_lock(what)
    }

    /// Brings here what others wrote, and there what they have not got yet.
    pub(super) fn follow(&self, storage: &Storage) -> Result<(), Error> {
        let mut state = self.state();
        while let Some(name) = state.unsent.first().cloned() {
            self.send(storage, &name)?;
            state.unsent.remove(&name);
        }
        loop {
            let changes = self.vault.changes(state.mark)?;
            for (name, bytes) in changes.files {
                let Some(path) = local_path(storage, &name) else {
                    continue;
                };
                match bytes {
                    Some(bytes) if is_new(storage, &path, &bytes) => {
                        storage.write_here(&path, &bytes)?;
                    }
                    Some(_) => {}
                    None => storage.remove_here(&path)?,
                }
            }
            if changes.is_everything {
                self.publish(storage)?;
            }
            state.mark = Some(changes.mark);
            if let Some(foreign) = changes.foreign {
                return Err(foreign.into());
            }
            if !changes.is_more {
                return Ok(());
            }
        }
    }

    /// Puts what lasts into Redis where it is not there: it is new, or began anew.
    fn publish(&self, storage: &Storage) -> Result<(), Error> {
        for directory in LASTING {
            for path in storage.list(&storage.root.join(directory))? {
                let name = shared_name(storage, &path);
                let Some((name, bytes)) = name.zip(storage.read(&path)?) else {
                    continue;
                };
                self.vault.publish(&name, &bytes)?;
            }
        }
        Ok(())
    }
}

fn is_new(storage: &Storage, path: &Path, bytes: &[u8]) -> bool {
    let here = storage.read(path).ok().flatten();
    here.is_none_or(|here| **here != *bytes)
}

/// What a file is called in Redis, if it is shared.
fn shared_name(storage: &Storage, path: &Path) -> Option<String> {
    let name = path.strip_prefix(&storage.root).ok()?.to_str()?;
    local_path(storage, name).map(|_| name.to_owned())
}

/// The file of a name from Redis: one of ours, in a directory that is shared.
fn local_path(storage: &Storage, name: &str) -> Option<PathBuf> {
    let (directory, file) = name.split_once('/')?;
    let is_ours = |byte: u8| byte.is_ascii_alphanumeric() || b"%-_.".contains(&byte);
    let is_ours = !file.starts_with('.') && file.bytes().all(is_ours);
    (SHARED.contains(&directory) && is_ours && !file.is_empty()).then(|| storage.root.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_redis_stay_within_the_directory() {
        let storage = Storage::new(PathBuf::from("/storage"));
        let shop = storage.bundle("shop@*.x");
        let name = shared_name(&storage, &shop).unwrap();
        assert_eq!(name, "certificates/shop%40%2a.x.pem");
        assert_eq!(local_path(&storage, &name), Some(shop));
        for name in [
            "certificates/../x",
            "certificates/a/b",
            "certificates/.draft-1",
            "certificates/",
            "../x",
            "ocsp/x.der",
            "locks/x.lock",
            "/etc/passwd",
            "",
        ] {
            assert_eq!(local_path(&storage, name), None, "{name}");
        }
    }
}

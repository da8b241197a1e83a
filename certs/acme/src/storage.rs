//! Where accounts, keys and certificates are kept: a directory, of one gateway or of several, or of
//! each of several that share a Redis.
//!
//! Every file is whole or as it was before, whenever a process is killed. Locks are the kernel's:
//! they end with their process.
//!
//! Must not: hold anything that others may read.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use cardea_certs::vault::{Vault, VaultLock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::settings::on_demand_name;

mod mirror;

use mirror::Mirror;

/// The largest file that is read, bytes: far above any chain.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Drafts of processes that were killed are removed when they are this old.
const DRAFT_SECS_MAX: u64 = 3600;

/// A directory for what an agent keeps.
#[derive(Debug, Clone)]
pub struct Storage {
    root: PathBuf,
    mirror: Option<Arc<Mirror>>,
}

/// The right to work on something, until it is dropped or its process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    _shared: Option<VaultLock>,
}

impl Storage {
    /// A storage in a directory, which is made when it is first needed.
    pub fn new(root: PathBuf) -> Self {
        Self { root, mirror: None }
    }

    /// A storage whose files and locks are shared with all who have the same Redis.
    pub fn shared(root: PathBuf, vault: Arc<Vault>) -> Self {
        Self {
            root,
            mirror: Some(Arc::new(Mirror::new(vault))),
        }
    }

    /// Takes over what other gateways wrote. Blocks.
    pub(crate) fn follow(&self) -> Result<(), Error> {
        match &self.mirror {
            Some(mirror) => mirror.follow(self),
            None => Ok(()),
        }
    }

    /// The file that a certificate is in, with its key: where it is, or will be.
    pub fn bundle(&self, name: &str) -> PathBuf {
        self.root
            .join("certificates")
            .join(format!("{}.pem", segment(name)))
    }

    /// The hosts that certificates were ordered for by a rule, on demand.
    pub fn on_demand(&self, rule: &str) -> Vec<String> {
        // What cannot be listed is told by whoever writes.
        let files = self.list(&self.root.join("certificates"));
        let host = |path: &PathBuf| on_demand_host(path, rule).map(str::to_owned);
        files.iter().flatten().filter_map(host).collect()
    }

    /// Whether a file holds a certificate that a rule ordered, on demand.
    pub fn is_on_demand(&self, file: &Path, rule: &str) -> bool {
        file.parent() == Some(&self.root.join("certificates"))
            && on_demand_host(file, rule).is_some()
    }

    pub(crate) fn account(&self, issuer: &str) -> PathBuf {
        self.root
            .join("accounts")
            .join(format!("{}.json", segment(issuer)))
    }

    pub(crate) fn order(&self, name: &str, issuer: &str) -> PathBuf {
        self.root
            .join("orders")
            .join(format!("{}.json", segment(&format!("{name} {issuer}"))))
    }

    /// What failed lately for a certificate.
    pub(crate) fn retries(&self, name: &str) -> PathBuf {
        self.all_retries().join(format!("{}.json", segment(name)))
    }

    pub(crate) fn all_retries(&self) -> PathBuf {
        self.root.join("retries")
    }

    /// Until when an account leaves its authority alone.
    pub(crate) fn pause(&self, account: &str) -> PathBuf {
        self.root
            .join("pauses")
            .join(format!("{}.json", segment(account)))
    }

    pub(crate) fn staple(&self, fingerprint: &str) -> PathBuf {
        self.staples().join(format!("{}.der", segment(fingerprint)))
    }

    pub(crate) fn staples(&self) -> PathBuf {
        self.root.join("ocsp")
    }

    pub(crate) fn challenges(&self) -> PathBuf {
        self.root.join("challenges")
    }

    pub(crate) fn challenge(&self, token: &str) -> PathBuf {
        self.challenges().join(format!("{}.json", segment(token)))
    }

    /// What a file holds; none if it is not there.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        use io::Read;

        let failed = |source| failed(path, source);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        Ok(Some(bytes))
    }

    pub(crate) fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, Error> {
        let Some(bytes) = self.read(path)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::Damaged {
                path: path.to_owned(),
                source,
            })
    }

    /// Writes a file that only its user can read.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.change(path, || self.write_here(path, bytes))
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        self.change(path, || self.remove_here(path))
    }

    /// Moves a file away that is not what was put there: a key may be in it. Says where to. Others
    /// who share the storage are not told, for theirs may be whole.
    pub(crate) fn set_aside(&self, path: &Path) -> Result<PathBuf, Error> {
        let name = path.file_name().unwrap_or_default();
        let mut aside = self.root.join("damaged").join(name).into_os_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        aside.push(format!(".{}", now.unwrap_or_default().as_millis()));
        let aside = PathBuf::from(aside);
        self.directory_of(&aside)?;
        fs::rename(path, &aside).map_err(|source| failed(path, source))?;
        Ok(aside)
    }

    fn change(&self, path: &Path, here: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let Some(mirror) = &self.mirror else {
            return here();
        };
        let mut state = mirror.state();
        here()?;
        mirror.tell(&mut state, self, path);
        Ok(())
    }

    fn write_here(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        let directory = self.directory_of(path)?;
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = directory.join(format!(".draft-{}-{number}", std::process::id()));
        let write = || -> io::Result<()> {
            match fs::remove_file(&draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&draft, path)?;
            // The name is on the disk once the directory is.
            File::open(&directory)?.sync_all()
        };
        write().map_err(|source| failed(path, source))
    }

    pub(crate) fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|source| Error::Damaged {
            path: path.to_owned(),
            source,
        })?;
        self.write(path, &Zeroizing::new(bytes))
    }

    fn remove_here(&self, path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
            _ => Ok(()),
        }
    }

    /// The files of a directory, without drafts; old ones of those are removed on the way.
    pub(crate) fn list(&self, directory: &Path) -> Result<Vec<PathBuf>, Error> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(directory, error)),
        };
        let mut files = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().as_encoded_bytes().starts_with(b".draft-") {
                remove_if_old(&entry);
            } else {
                files.push(entry.path());
            }
        }
        Ok(files)
    }

    /// Removes the drafts of processes that were killed, with whatever key is in them.
    pub(crate) fn sweep(&self) {
        for directory in ["accounts", "certificates", "orders", "pauses"] {
            // What cannot be listed is looked at again the next time.
            let _ = self.list(&self.root.join(directory));
        }
    }

    /// The right to work on something, if nobody else has it.
    pub(crate) fn try_lock(&self, what: &str) -> Result<Option<Lock>, Error> {
        let path = self
            .root
            .join("locks")
            .join(format!("{}.lock", segment(what)));
        self.directory_of(&path)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| failed(&path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(failed(&path, source)),
        }
        let shared = match &self.mirror {
            Some(mirror) => {
                let Some(lock) = mirror.try_lock(what)? else {
                    return Ok(None);
                };
                // What the last one with the lock wrote counts.
                mirror.follow(self)?;
                Some(lock)
            }
            None => None,
        };
        Ok(Some(Lock {
            _file: file,
            _shared: shared,
        }))
    }

    /// The directory of a file, which is there after this, for its user alone.
    fn directory_of(&self, path: &Path) -> Result<PathBuf, Error> {
        let directory = path.parent().unwrap_or(&self.root);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| failed(directory, source))?;
        Ok(directory.to_owned())
    }
}

/// The host of a certificate in a file that a rule ordered, on demand.
fn on_demand_host<'f>(file: &'f Path, rule: &str) -> Option<&'f str> {
    let start = segment(&on_demand_name(rule, ""));
    let name = file.file_name()?.to_str()?;
    name.strip_prefix(&start)?.strip_suffix(".pem")
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Storage {
        path: path.to_owned(),
        source,
    }
}

fn remove_if_old(draft: &fs::DirEntry) {
    let modified = draft.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age.as_secs() > DRAFT_SECS_MAX) {
        // It may be gone by now, and does no harm if it is not.
        let _ = fs::remove_file(draft.path());
    }
}

/// A name as a part of a path. Letters, digits, `.`, `-` and `_` stand for themselves, unless the
/// name begins with a dot; anything else is written in hexadecimal behind a `%`.
fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(byte)),
            b'.' if at > 0 => text.push('.'),
            _ => text.push_str(&format!("%{byte:02x}")),
        }
    }
    text
}

#[cfg(test)]
mod tests;

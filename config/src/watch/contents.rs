//! What watched files hold, and which of them hold something else than before.
//!
//! Must not: fail, or read again what certainly did not change.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How long after its last change what the file system says of a file is not believed. Its clock
/// ticks in milliseconds to two seconds, so a file may change twice within a tick and look the
/// same.
const SETTLES_AFTER_SECS: i64 = 3;

/// What files and directories hold.
#[derive(Debug, Default)]
pub(super) struct Contents(BTreeMap<PathBuf, Held>);

/// A digest of what a file holds, or of the names in a directory.
#[derive(Debug, Clone, Copy)]
struct Held {
    digest: u64,
    /// What the file system said of it, if that can be believed.
    stamp: Option<Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// What the file system says, unless it may say the same of something else.
    fn of(metadata: &Metadata, now_secs: i64) -> Option<Self> {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let is_settled = now_secs.saturating_sub(changed.0) > SETTLES_AFTER_SECS;
        is_settled.then_some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed,
        })
    }
}

impl Contents {
    /// What files hold now. Those that are as they were are not read again.
    pub(super) fn of(files: &BTreeSet<PathBuf>, before: &Self) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_secs = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let held = files.iter().map(|file| {
            let held = Held::of(file, before.0.get(file), now_secs);
            (file.clone(), held)
        });
        Self(held.collect())
    }

    /// The files that hold something else than before, and those that only one of both has.
    pub(super) fn changes(&self, before: &Self) -> BTreeSet<PathBuf> {
        let differs = |(file, held): &(&PathBuf, &Held)| {
            let other = before.0.get(*file);
            other.is_none_or(|other| other.digest != held.digest)
        };
        let changed = self.0.iter().filter(differs).map(|(file, _)| file);
        let gone = before.0.keys().filter(|file| !self.0.contains_key(*file));
        changed.chain(gone).cloned().collect()
    }
}

impl Held {
    fn of(file: &Path, before: Option<&Self>, now_secs: i64) -> Self {
        let Ok(metadata) = fs::metadata(file) else {
            return Self::digest(&None::<()>);
        };
        if metadata.is_dir() {
            let entries = fs::read_dir(file).into_iter().flatten();
            let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
            return Self::digest(&names.collect::<BTreeSet<_>>());
        }
        // What is no file, such as a terminal, could be read for ever.
        if !metadata.is_file() {
            return Self::digest(&None::<()>);
        }
        // Taken before reading: a change meanwhile makes another stamp.
        let stamp = Stamp::of(&metadata, now_secs);
        if let Some(before) = before.filter(|before| stamp.is_some() && before.stamp == stamp) {
            return *before;
        }
        Self {
            stamp,
            ..Self::digest(&fs::read(file).ok())
        }
    }

    fn digest(content: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self {
            digest: hasher.finish(),
            stamp: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_file() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        let files = BTreeSet::from([one.clone(), other.clone(), directory.path().to_path_buf()]);
        let mut held = Contents::default();
        let mut changes = || {
            let now = Contents::of(&files, &held);
            let changes = now.changes(&held);
            held = now;
            changes
        };
        assert_eq!(changes(), files);
        assert_eq!(changes(), BTreeSet::new());
        fs::write(&one, "1").unwrap();
        let appeared = BTreeSet::from([one.clone(), directory.path().to_path_buf()]);
        assert_eq!(changes(), appeared);
        fs::write(&one, "1").unwrap();
        assert_eq!(changes(), BTreeSet::new(), "the same again");
        fs::write(&one, "2").unwrap();
        assert_eq!(changes(), BTreeSet::from([one.clone()]));
        let none = Contents::of(&BTreeSet::new(), &held);
        assert_eq!(none.changes(&held), files);
    }

    #[test]
    fn what_settled_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "1").unwrap();
        let metadata = fs::metadata(&file).unwrap();
        let now = metadata.ctime();
        let fresh = Held::of(&file, None, now);
        assert_eq!(fresh.stamp, None);
        let settled = Held::of(&file, Some(&fresh), now + 60);
        assert!(settled.stamp.is_some());
        // A digest that is wrong shows whether the file was read.
        let marked = Held {
            digest: settled.digest ^ 1,
            ..settled
        };
        let again = Held::of(&file, Some(&marked), now + 60);
        assert_eq!(again.digest, marked.digest);
        fs::write(&file, "other").unwrap();
        let changed = Held::of(&file, Some(&marked), now + 60);
        assert_ne!(changed.digest, marked.digest);
    }
}

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

/// What watched files and directories hold; nothing is known of those that were not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Contents(BTreeMap<PathBuf, Option<Held>>);

/// A digest of what a file holds, or of the names in a directory.
#[derive(Debug, Clone, Copy)]
struct Held {
    digest: u64,
    /// What the file system said of it, if that can be believed.
    stamp: Option<Stamp>,
}

/// Device, inode, length and times of a file, digested: there may be tens of thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64);

impl Stamp {
    /// What the file system says, unless it may say the same of something else.
    fn of(metadata: &Metadata, now_secs: i64) -> Option<Self> {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let is_settled = now_secs.saturating_sub(changed.0) > SETTLES_AFTER_SECS;
        is_settled.then(|| {
            let mut hasher = DefaultHasher::new();
            (metadata.dev(), metadata.ino(), metadata.len()).hash(&mut hasher);
            (metadata.mtime(), metadata.mtime_nsec(), changed).hash(&mut hasher);
            Self(hasher.finish())
        })
    }
}

impl Contents {
    /// Watches these files from now on; the answer is those that no longer are.
    pub(super) fn set(&mut self, files: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        let mut before = std::mem::take(&mut self.0);
        let files = files.into_iter().map(|file| {
            let held = before.remove(&file).flatten();
            (file, held)
        });
        self.0 = files.collect();
        before.into_keys().collect()
    }

    /// Looks at the files; the answer is those that hold something else than before. What is as it
    /// was is not read again.
    pub(super) fn look(&mut self) -> BTreeSet<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_secs = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let mut changed = BTreeSet::new();
        for (file, held) in &mut self.0 {
            let now = Held::of(file, held.as_ref(), now_secs);
            let before = held.replace(now);
            if before.is_none_or(|before| before.digest != now.digest) {
                changed.insert(file.clone());
            }
        }
        changed
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
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
        assert_eq!(held.set(files.clone()), BTreeSet::new());
        assert_eq!(held.look(), files);
        assert_eq!(held.look(), BTreeSet::new());
        fs::write(&one, "1").unwrap();
        let appeared = BTreeSet::from([one.clone(), directory.path().to_path_buf()]);
        assert_eq!(held.look(), appeared);
        fs::write(&one, "1").unwrap();
        assert_eq!(held.look(), BTreeSet::new(), "the same again");
        fs::write(&one, "2").unwrap();
        assert_eq!(held.look(), BTreeSet::from([one.clone()]));
        let gone = BTreeSet::from([other, directory.path().to_path_buf()]);
        assert_eq!(held.set(BTreeSet::from([one])), gone);
        assert_eq!(held.look(), BTreeSet::new(), "what stays is known");
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

//! The directories in which something happens when a file changes, and what the files are once all
//! links are followed.
//!
//! Must not: fail. What is not there now may be there later.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many links are followed from one file; the kernel gives up at forty, too.
const LINKS_MAX: usize = 40;

/// A directory, told from another of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
}

/// Where some files are to be looked for.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Where the files are, where links on the way to them are, and, for what does not exist, the
    /// nearest directory that does.
    pub(super) directories: BTreeSet<Directory>,
    /// The files, all links followed, as a notification names them.
    pub(super) targets: Targets,
}

/// Files by digests of their paths: there may be tens of thousands. That two have the same may only
/// make somebody look in vain.
#[derive(Debug, Default)]
pub(super) struct Targets(HashSet<u64>);

impl Targets {
    pub(super) fn add(&mut self, path: &Path) {
        self.0.insert(digest(path));
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.0.contains(&digest(path))
    }
}

fn digest(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

impl Ways {
    /// The ways to some files, of which there may be tens of thousands in one directory.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        let mut search = Search::default();
        for file in files {
            search.add(file);
        }
        Self {
            directories: search.parents.iter().filter_map(|it| nearest(it)).collect(),
            targets: search.targets,
        }
    }
}

#[derive(Default)]
struct Search {
    parents: BTreeSet<PathBuf>,
    followed: BTreeSet<PathBuf>,
    targets: Targets,
    /// Directories and what they are once all links are followed.
    canonical: HashMap<PathBuf, Option<PathBuf>>,
}

impl Search {
    fn add(&mut self, file: &Path) {
        // Most are plain files in directories that hold others: one look at each suffices.
        let is_plain = fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_file());
        if is_plain && let Some(name) = file.file_name() {
            let parent = parent(file);
            let canonical = self.canonical.entry(parent.clone());
            let canonical = canonical.or_insert_with(|| parent.canonicalize().ok());
            if let Some(canonical) = canonical {
                self.targets.add(&canonical.join(name));
            }
            if self.followed.insert(parent.clone()) {
                self.follow(&parent);
            }
            self.parents.insert(parent);
            return;
        }
        if let Ok(target) = file.canonicalize() {
            self.targets.add(&target);
        }
        if file.is_dir() {
            self.parents.insert(file.to_path_buf());
        }
        self.follow(file);
    }

    /// Collects the directories that decide what a path leads to.
    fn follow(&mut self, path: &Path) {
        let mut paths = vec![path.to_path_buf()];
        let mut links = 0;
        while let Some(path) = paths.pop() {
            let parent = parent(&path);
            if let Ok(target) = fs::read_link(&path)
                && links < LINKS_MAX
            {
                links += 1;
                paths.push(parent.join(target));
            }
            // The way to the directory is the same for all files in it.
            if parent != path && self.followed.insert(parent.clone()) {
                paths.push(parent.clone());
            }
            if path.is_symlink() || !path.is_dir() {
                self.parents.insert(parent);
            }
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        Some(_) if path != Path::new(".") => PathBuf::from("."),
        _ => path.to_path_buf(),
    }
}

fn nearest(path: &Path) -> Option<Directory> {
    path.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let path = fs::canonicalize(path).ok()?;
        let metadata = fs::metadata(&path).ok()?;
        metadata.is_dir().then_some(Directory {
            device: metadata.dev(),
            inode: metadata.ino(),
            path,
        })
    })
}

//! The directories in which something happens when a file changes, and what the files hold.
//!
//! Must not: fail. What is not there now may be there later.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
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

/// The directories of some files: where they are, where links on the way to them are, and, for
/// what does not exist, the nearest directory that does.
pub(super) fn directories(files: &BTreeSet<PathBuf>) -> BTreeSet<Directory> {
    let mut parents: BTreeSet<PathBuf> = BTreeSet::new();
    let mut followed: BTreeSet<PathBuf> = BTreeSet::new();
    for file in files {
        if file.is_dir() {
            parents.insert(file.clone());
        }
        follow(file, &mut parents, &mut followed);
    }
    parents.iter().filter_map(|path| nearest(path)).collect()
}

/// Collects the directories that decide what a path leads to.
fn follow(path: &Path, parents: &mut BTreeSet<PathBuf>, followed: &mut BTreeSet<PathBuf>) {
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
        if parent != path && followed.insert(parent.clone()) {
            paths.push(parent.clone());
        }
        if path.is_symlink() || !path.is_dir() {
            parents.insert(parent);
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

/// A digest of what files hold, and of which names directories have.
pub(super) fn digest(files: &BTreeSet<PathBuf>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        if let Ok(entries) = fs::read_dir(file) {
            let names: BTreeSet<_> = entries
                .filter_map(|entry| Some(entry.ok()?.file_name()))
                .collect();
            names.hash(&mut hasher);
        } else {
            // What is no file, such as a terminal, could be read for ever.
            let is_file = fs::metadata(file).is_ok_and(|metadata| metadata.is_file());
            let contents = is_file.then(|| fs::read(file).ok()).flatten();
            contents.hash(&mut hasher);
        }
    }
    hasher.finish()
}

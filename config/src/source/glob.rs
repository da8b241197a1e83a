//! The files that a pattern names: `*` stands for any part of a name, `?` for one character. Names
//! that begin with a dot, which editors and ConfigMaps keep for themselves, match only patterns
//! that do.
//!
//! Must not: look above the directory it begins in, or descend without a limit.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The files one pattern may name.
const FILES_MAX: usize = 65_536;

/// What a pattern names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The files, in the order of their names. Without a wildcard there is one, even if it does
    /// not exist.
    pub(super) files: Vec<PathBuf>,
    /// The directories in which a new name may match.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Whether there is a wildcard at all.
    pub(super) is_pattern: bool,
}

/// Why a pattern names nothing: what is wrong, and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) String, pub(super) &'static str);

/// Finds the files that a pattern names, relative to a directory.
pub(super) fn expand(base: &Path, pattern: &str) -> Result<Found, Wrong> {
    let mut names = Vec::new();
    for component in Path::new(pattern).components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().unwrap_or_default()),
            Component::CurDir => {}
            _ => {
                let what = format!("`{pattern}` leads out of the directory of this file");
                return Err(Wrong(what, "include files from this directory or below it"));
            }
        }
    }
    let Some((last, parents)) = names.split_last().filter(|_| !pattern.ends_with('/')) else {
        let what = format!("`{pattern}` names no file");
        return Err(Wrong(
            what,
            "write a file or a pattern such as `domains/*.yaml`",
        ));
    };
    if names.iter().any(|name| name.contains("**")) {
        let what = format!("`{pattern}` has a `**`");
        return Err(Wrong(what, "write one `*` for each directory on the way"));
    }
    let mut found = Found::default();
    let mut paths = vec![base.to_path_buf()];
    for name in parents {
        paths = found.step(paths, name, Path::is_dir)?;
    }
    found.files = found.step(paths, last, |_| true)?;
    Ok(found)
}

impl Found {
    fn step(
        &mut self,
        parents: Vec<PathBuf>,
        name: &str,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Result<Vec<PathBuf>, Wrong> {
        let after_pattern = self.is_pattern;
        let joined = parents.iter().map(|parent| parent.join(name));
        if !name.contains(['*', '?']) {
            // Below a wildcard, a name that is not everywhere is no mistake.
            return Ok(joined
                .filter(|path| !after_pattern || path.exists())
                .collect());
        }
        self.is_pattern = true;
        let mut matching = Vec::new();
        for parent in parents {
            let names = names(&parent).map_err(|error| {
                let what = format!("the directory {} cannot be read: {error}", parent.display());
                Wrong(what, "create it, or take the include out")
            })?;
            let fits = |other: &String| {
                other.starts_with('.') == name.starts_with('.') && matches(name, other)
            };
            let paths = names.into_iter().filter(fits).map(|name| parent.join(name));
            matching.extend(paths.filter(|path| is_wanted(path)));
            self.directories.insert(parent);
            if matching.len() > FILES_MAX {
                let what = format!("`{name}` names more than {FILES_MAX} files");
                return Err(Wrong(what, "put several domains into one file"));
            }
        }
        Ok(matching)
    }
}

fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    let here = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let names = std::fs::read_dir(here)?.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str().map(str::to_owned)
    });
    Ok(names.collect())
}

/// Whether a name fits a pattern, in time proportional to the product of their lengths.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut seen) = (0, 0);
    // Where to go on if what follows the last star does not fit: one character further.
    let mut star: Option<(usize, usize)> = None;
    while let Some(character) = name.get(seen) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, seen));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == character => {
                at += 1;
                seen += 1;
            }
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (at, seen) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        };
        check("*.yaml", "a.yaml", true);
        check("*.yaml", ".yaml", true);
        check("*.yaml", "a.yaml~", false);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-b-b-d", false);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("*", "", true);
        check("?", "ä", true);
        check("", "a", false);
        check("a", "", false);
        check("*a*a*a*a*a*b", &"a".repeat(200), false);
    }

    #[test]
    fn files_are_found_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        for name in [
            "b/2.yaml",
            "b/1.yaml",
            "a/9.yaml",
            "a/.x.yaml",
            "a/n.txt",
            "m.yaml",
        ] {
            let path = base.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let check = |pattern: &str, expected: &[&str], watched: &[&str]| {
            let found = expand(base, pattern).unwrap();
            let files: Vec<_> = expected.iter().map(|name| base.join(name)).collect();
            assert_eq!(found.files, files, "{pattern}");
            let directories: BTreeSet<_> = watched.iter().map(|name| base.join(name)).collect();
            assert_eq!(found.directories, directories, "{pattern}");
        };
        check("m.yaml", &["m.yaml"], &[]);
        check("./none.yaml", &["none.yaml"], &[]);
        check("a/*.yaml", &["a/9.yaml"], &["a"]);
        check("a/.*.yaml", &["a/.x.yaml"], &["a"]);
        check(
            "*/*.yaml",
            &["a/9.yaml", "b/1.yaml", "b/2.yaml"],
            &["", "a", "b"],
        );
        check("*/1.yaml", &["b/1.yaml"], &[""]);
        check("?.yaml", &["m.yaml"], &[""]);
        check("z*.yaml", &[], &[""]);
    }

    #[test]
    fn patterns_that_name_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for bad in [
            "",
            "/etc/passwd",
            "../x.yaml",
            "a/../../x",
            "**/*.yaml",
            "a/",
            "none/*.yaml",
        ] {
            assert!(expand(directory.path(), bad).is_err(), "{bad}");
        }
    }
}

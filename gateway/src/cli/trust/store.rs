//! The store of authorities that programs of this system share: a directory for certificates of the
//! administrator's own, and a command that makes the rest of it.
//!
//! Must not: leave a certificate in the directory that the command did not take.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use cardea_certs::local::LocalAuthority;

/// A kind of store.
struct Kind {
    /// Where the administrator's own certificates are.
    directory: &'static str,
    /// What their names end in; others are not looked at.
    extension: &'static str,
    /// What brings a change about.
    command: &'static [&'static str],
}

/// The stores of the distributions, in the order they are looked for.
const KINDS: [Kind; 4] = [
    // Debian, Ubuntu, Alpine
    Kind {
        directory: "/usr/local/share/ca-certificates",
        extension: "crt",
        command: &["update-ca-certificates"],
    },
    // Fedora, Red Hat
    Kind {
        directory: "/etc/pki/ca-trust/source/anchors",
        extension: "pem",
        command: &["update-ca-trust", "extract"],
    },
    // Arch
    Kind {
        directory: "/etc/ca-certificates/trust-source/anchors",
        extension: "crt",
        command: &["trust", "extract-compat"],
    },
    // openSUSE
    Kind {
        directory: "/etc/pki/trust/anchors",
        extension: "pem",
        command: &["update-ca-certificates"],
    },
];

/// Where programs are looked for beside the search path: a user's own seldom has them.
const SYSTEM_PATHS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The store of a system.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    extension: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
}

/// What became of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Installed,
    WasInstalled,
    Removed,
    WasAbsent,
}

impl Store {
    /// The store of this system.
    pub(super) fn of_system() -> anyhow::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = std::env::split_paths(&path);
        let paths: Vec<PathBuf> = own.chain(SYSTEM_PATHS.map(PathBuf::from)).collect();
        match Self::below(Path::new("/"), &paths) {
            Some(store) => Ok(store),
            None => bail!(
                "no store of authorities is known here: looked for {}; \
                 take the certificate from `cardea trust --pem` and install it by hand",
                KINDS.map(|kind| kind.directory).join(", ")
            ),
        }
    }

    /// The first kind of store of which directory and command are there.
    fn below(root: &Path, paths: &[PathBuf]) -> Option<Self> {
        KINDS.iter().find_map(|kind| {
            let directory = root.join(kind.directory.trim_start_matches('/'));
            let [program, arguments @ ..] = kind.command else {
                return None;
            };
            let mut candidates = paths.iter().map(|path| path.join(program));
            let program = candidates.find(|path| path.is_file())?;
            directory.is_dir().then_some(Self {
                directory,
                extension: kind.extension,
                program,
                arguments,
            })
        })
    }

    /// Where an authority is, or would be: two of them do not meet.
    pub(super) fn place(&self, authority: &LocalAuthority) -> PathBuf {
        let digits = authority
            .fingerprint
            .chars()
            .filter(char::is_ascii_hexdigit);
        let short: String = digits.take(12).collect();
        let name = format!("cardea-local-{}.{}", short.to_lowercase(), self.extension);
        self.directory.join(name)
    }

    /// Whether an authority is in it.
    pub(super) fn has(&self, authority: &LocalAuthority) -> bool {
        fs::read(self.place(authority)).is_ok_and(|found| found == authority.pem.as_bytes())
    }

    pub(super) fn install(&self, authority: &LocalAuthority) -> anyhow::Result<Change> {
        if self.has(authority) {
            return Ok(Change::WasInstalled);
        }
        let place = self.place(authority);
        write_whole(&place, authority.pem.as_bytes())
            .with_context(|| format!("cannot write {}", place.display()))?;
        if let Err(error) = self.bring_about() {
            fs::remove_file(&place)
                .with_context(|| format!("{error:#}, and cannot remove {}", place.display()))?;
            return Err(error);
        }
        Ok(Change::Installed)
    }

    pub(super) fn uninstall(&self, authority: &LocalAuthority) -> anyhow::Result<Change> {
        let place = self.place(authority);
        match fs::remove_file(&place) {
            Ok(()) => self.bring_about().map(|()| Change::Removed),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Change::WasAbsent),
            Err(error) => Err(error).with_context(|| format!("cannot remove {}", place.display())),
        }
    }

    /// Runs the command that makes the store of what is in the directory.
    fn bring_about(&self) -> anyhow::Result<()> {
        let program = self.program.display();
        let ended = Command::new(&self.program)
            .args(self.arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            bail!("{program} ended with {}: {}", ended.status, said.trim());
        }
        Ok(())
    }
}

/// Writes a file that everybody may read, so that it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Of no extension that the store looks at.
    let draft = path.with_extension(OsStr::new("new"));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().inspect_err(|_| {
        // What is left of a draft does no harm.
        let _ = fs::remove_file(&draft);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::pki_types::UnixTime;

    use super::*;

    /// A system with a store whose command copies the certificates, or fails.
    struct System {
        root: tempfile::TempDir,
        authority: LocalAuthority,
    }

    impl System {
        fn new(directory: &str, program: &str, script: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join(directory)).unwrap();
            fs::create_dir_all(root.path().join("bin")).unwrap();
            let program = root.path().join("bin").join(program);
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let home = root.path().join("home");
            let authority = cardea_certs::local::authority(&home, UnixTime::now()).unwrap();
            Self { root, authority }
        }

        fn store(&self) -> Option<Store> {
            Store::below(self.root.path(), &[self.root.path().join("bin")])
        }
    }

    #[test]
    fn each_distribution_has_its_store() {
        for (directory, program, extension) in [
            (
                "usr/local/share/ca-certificates",
                "update-ca-certificates",
                "crt",
            ),
            ("etc/pki/ca-trust/source/anchors", "update-ca-trust", "pem"),
            ("etc/ca-certificates/trust-source/anchors", "trust", "crt"),
            ("etc/pki/trust/anchors", "update-ca-certificates", "pem"),
        ] {
            let system = System::new(directory, program, "exit 0");
            let store = system.store().unwrap();
            let place = store.place(&system.authority);
            assert!(place.starts_with(system.root.path().join(directory)));
            assert_eq!(place.extension(), Some(OsStr::new(extension)));
        }
        // A directory without its command is nobody's store.
        assert!(
            System::new("etc/pki/trust/anchors", "trust", "")
                .store()
                .is_none()
        );
    }

    #[test]
    fn comes_and_goes_once() {
        let directory = "usr/local/share/ca-certificates";
        let system = System::new(directory, "update-ca-certificates", "exit 0");
        let (store, authority) = (system.store().unwrap(), &system.authority);
        assert_eq!(store.uninstall(authority).unwrap(), Change::WasAbsent);
        assert_eq!(store.install(authority).unwrap(), Change::Installed);
        assert!(store.has(authority));
        let mode = fs::metadata(store.place(authority))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(store.install(authority).unwrap(), Change::WasInstalled);
        assert_eq!(store.uninstall(authority).unwrap(), Change::Removed);
        assert!(!store.has(authority));
    }

    #[test]
    fn what_the_command_does_not_take_is_removed_again() {
        let directory = "usr/local/share/ca-certificates";
        let system = System::new(
            directory,
            "update-ca-certificates",
            "echo broken >&2; exit 3",
        );
        let store = system.store().unwrap();
        let refused = store.install(&system.authority).unwrap_err().to_string();
        assert!(refused.contains("exit status: 3: broken"), "{refused}");
        assert!(!store.place(&system.authority).exists());
    }
}

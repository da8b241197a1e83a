//! A certificate authority for one machine, so that a first run has HTTPS.
//!
//! Used when starting without a configuration, never on the data path. The authority is made once
//! and kept in a directory of its user; certificates it issues are short-lived and made again when
//! needed. It is constrained to names of this machine: who steals its key can pose as
//! `localhost`, not as a bank.
//!
//! Several gateways of one user may start at once: a lock file makes them take turns.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::UnixTime;

use crate::error::Error;
use crate::load::{Certificate, Source};

mod issue;
mod names;

pub use names::LocalNames;

/// What every certificate of a local authority is for. Not `*.localhost`: clients refuse a wildcard
/// below a single label, and some of them the whole certificate with it, so names below
/// `localhost` have to be given one by one.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const DAY_SECS: u64 = 24 * 60 * 60;

/// Trusting a new authority takes a user's hands, so it lives long.
const AUTHORITY_SECS: u64 = 10 * 365 * DAY_SECS;

/// A leaf costs nothing to make again.
const LEAF_SECS: u64 = 30 * DAY_SECS;

/// The part of a leaf's life at whose beginning it is replaced.
const LEAF_RENEW_SECS: u64 = LEAF_SECS / 3;

/// A certificate of the local authority, in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCertificate {
    /// The authority's certificate: what browsers are told to trust.
    pub authority: PathBuf,
    /// Whether the authority is new, and no browser trusts it yet.
    pub authority_is_new: bool,
    /// The certificate.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The hosts and addresses it is for.
    pub names: Vec<String>,
    /// When to call [`prepare`] again.
    pub renew_at: UnixTime,
}

/// Where the local authority of this user is kept, or of users without a home: where temporary
/// files are.
pub fn directory() -> PathBuf {
    default_directory().unwrap_or_else(|| std::env::temp_dir().join("cardea-ca"))
}

/// Where the local authority of this user is kept: below the XDG data directory. `None` if the
/// user has none.
fn default_directory() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let data =
        absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(data.join("cardea/ca"))
}

/// The local authority, as those are told of it who may trust it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAuthority {
    /// The file with its certificate.
    pub path: PathBuf,
    /// Its certificate, in PEM.
    pub pem: String,
    /// What it is called.
    pub name: String,
    /// SHA-256 of its certificate, in hexadecimal with colons.
    pub fingerprint: String,
    /// Until when it is good.
    pub not_after: UnixTime,
}

/// The authority in a directory; makes one if there is none.
pub fn authority(directory: &Path, now: UnixTime) -> Result<LocalAuthority, Error> {
    let opened = Opened::with(directory, &[], now)?;
    issue::describe(&opened.files, now)
}

/// Makes sure that the directory holds an authority and a certificate for `localhost`, for the
/// loopback addresses and for the given names. What is there and still good is used again.
pub fn prepare(
    directory: &Path,
    names: &[String],
    now: UnixTime,
) -> Result<LocalCertificate, Error> {
    let opened = Opened::with(directory, names, now)?;
    let (files, authority, names) = (&opened.files, &opened.authority, &opened.names);
    let current = match load_leaf(files, authority, names, now) {
        Some(leaf) => leaf,
        None => issue::create_leaf(files, authority, names, now)?,
    };
    let not_after = current.details.not_after.as_secs();
    Ok(LocalCertificate {
        authority: files.authority.clone(),
        authority_is_new: opened.is_new,
        chain: files.chain.clone(),
        key: files.key.clone(),
        names: opened.names,
        renew_at: at(not_after.saturating_sub(LEAF_RENEW_SECS)),
    })
}

/// An authority's directory, while nobody else works in it.
struct Opened {
    files: Files,
    authority: issue::Authority,
    is_new: bool,
    names: Vec<String>,
    _turn: File,
}

impl Opened {
    /// Opens a directory, or makes it, with an authority that may issue for the local names and
    /// the given ones.
    fn with(directory: &Path, names: &[String], now: UnixTime) -> Result<Self, Error> {
        create_directory(directory)?;
        let files = Files::of(directory);
        let turn = take_turn(&files.lock)?;
        let names = wanted_names(names)?;
        let (authority, is_new) = match issue::load_authority(&files, &names, now) {
            Some(authority) => (authority, false),
            None => (issue::create_authority(&files, &names, now)?, true),
        };
        Ok(Self {
            files,
            authority,
            is_new,
            names,
            _turn: turn,
        })
    }
}

/// The files in the authority's directory.
struct Files {
    lock: PathBuf,
    authority: PathBuf,
    authority_key: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(directory: &Path) -> Self {
        Self {
            lock: directory.join("lock"),
            authority: directory.join("ca.pem"),
            authority_key: directory.join("ca.key"),
            chain: directory.join("localhost.pem"),
            key: directory.join("localhost.key"),
        }
    }
}

/// The leaf in the files, if it will do for a while: anything wrong with it is cured by a new one.
fn load_leaf(
    files: &Files,
    authority: &issue::Authority,
    names: &[String],
    now: UnixTime,
) -> Option<Certificate> {
    let source = Source::read(&files.chain, &files.key, now).ok()?;
    let leaf = source.certificate(&files.chain, &files.key).ok()?;
    let details = &leaf.details;
    let is_fresh = details.not_before.as_secs() <= now.as_secs()
        && now.as_secs() + LEAF_RENEW_SECS < details.not_after.as_secs();
    let has_all = names.iter().all(|name| match name.parse::<IpAddr>() {
        Ok(address) => details.addresses.contains(&address),
        Err(_) => details.names.iter().any(|own| **own == **name),
    });
    let has_more = details.names.len() + details.addresses.len() > names.len();
    let is_ours = authority.has_issued(&leaf);
    (is_fresh && has_all && !has_more && is_ours).then_some(leaf)
}

/// The local names and the given ones, each once, in lower case.
fn wanted_names(given: &[String]) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = LOCAL_NAMES.map(str::to_owned).to_vec();
    for name in given {
        let name = match name.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name.to_ascii_lowercase(),
        };
        let fixed = name.strip_prefix("*.");
        if fixed.is_some_and(|fixed| !fixed.contains('.')) {
            return Err(Error::WideWildcard { name });
        }
        // What `server_name` takes is what a client can ask for.
        if crate::client::server_name(fixed.unwrap_or(&name)).is_err() {
            return Err(Error::InvalidName { name });
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Creates the directory for its user alone; one that exists is closed to others.
fn create_directory(directory: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: directory.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed)?;
    let mode = fs::metadata(directory)
        .map_err(failed)?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Waits until no other process works in the directory. The lock ends with the file returned.
fn take_turn(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// Writes a file that only its user can read, so that it is there whole or not at all.
fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let draft = path.with_extension("new");
    let write = || -> io::Result<()> {
        // A draft from a process that was killed is in the way.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

fn at(secs: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs))
}

#[cfg(test)]
mod tests;

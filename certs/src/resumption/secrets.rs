//! Secrets that gateways share, so that a session made at one of them is resumed at another.
//!
//! The keys of tickets are derived from a secret and the period that the clock is in: nothing has
//! to be agreed on, and nothing is ever written. Whoever has a secret can open every ticket that
//! was made under it, so its file has to be its user's alone, best in memory, and be replaced now
//! and then.

use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf;
use rustls::pki_types::UnixTime;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::files::{self, ContentHash};

/// The least a secret is, bytes: what the key of AES-256 is made of.
const SECRET_BYTES_MIN: usize = 32;

/// Secrets, the one that makes tickets first. The others read what was made under them.
#[derive(Default)]
pub struct TicketSecrets {
    secrets: Vec<Secret>,
    paths: Vec<PathBuf>,
    hash: ContentHash,
}

pub(super) struct Secret(hkdf::Prk);

impl TicketSecrets {
    /// Reads secrets from files; none make every gateway keep to its own.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Error> {
        Ok(Self::derive(&read(paths)?, paths))
    }

    /// Secrets that were agreed on elsewhere.
    pub fn of(contents: &[Zeroizing<Vec<u8>>]) -> Self {
        Self::derive(contents, &[])
    }

    fn derive(contents: &[Zeroizing<Vec<u8>>], paths: &[PathBuf]) -> Self {
        let secrets = contents.iter().map(|content| {
            let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"cardea ticket secret");
            Secret(salt.extract(content))
        });
        Self {
            secrets: secrets.collect(),
            paths: paths.to_vec(),
            hash: hash(contents),
        }
    }

    /// The files that they were read from.
    pub fn files(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Whether the files hold something else by now, or cannot be used any more.
    pub fn is_outdated(&self) -> bool {
        read(&self.paths).map_or(true, |contents| hash(&contents) != self.hash)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter()
    }
}

impl PartialEq for TicketSecrets {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl std::fmt::Debug for TicketSecrets {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("TicketSecrets").field(&self.paths).finish()
    }
}

impl Secret {
    /// What a period has of the secret: bytes that nobody can tell from random ones.
    pub(super) fn derive<const N: usize>(
        &self,
        what: &str,
        period: u64,
    ) -> Result<Zeroizing<[u8; N]>, Error> {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let info = [what.as_bytes(), &period.to_be_bytes()];
        let mut bytes = Zeroizing::new([0; N]);
        self.0
            .expand(&info, Length(N))
            .and_then(|derived| derived.fill(&mut *bytes))
            .map_err(|_| Error::NoRandomness)?;
        Ok(bytes)
    }
}

fn hash(contents: &[Zeroizing<Vec<u8>>]) -> ContentHash {
    let contents: Vec<&[u8]> = contents.iter().map(|it| it.as_slice()).collect();
    ContentHash::of(&contents)
}

fn read(paths: &[PathBuf]) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    paths.iter().map(|path| read_secret(path)).collect()
}

/// Reads a secret that gateways share: long enough, and not for everybody to read.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let content = files::read(path, UnixTime::now())?;
    if content.bytes.len() < SECRET_BYTES_MIN {
        return Err(Error::ShortSecret {
            path: path.to_owned(),
            bytes: content.bytes.len(),
            bytes_min: SECRET_BYTES_MIN,
        });
    }
    // What everybody can read is no secret, and unlike a key in use it can be replaced at once.
    if content.stamp.mode & 0o007 != 0 {
        return Err(Error::OpenSecret {
            path: path.to_owned(),
            mode: content.stamp.mode,
        });
    }
    Ok(content.bytes)
}

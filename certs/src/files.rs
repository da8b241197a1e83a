//! Reading certificate files, and knowing cheaply whether they changed.
//!
//! Life of a configuration only: this touches the disk. What counts is the content's hash; the
//! file's stamp merely spares reading 20,000 files again when one of them changed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aws_lc_rs::digest;
use rustls::pki_types::UnixTime;
use zeroize::Zeroizing;

use crate::error::Error;

/// Far above any chain: a bundle of all public roots is a quarter of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How long after its last change a file's stamp is not believed. Clocks of file systems tick in
/// milliseconds to two seconds, so a file may change twice within one tick and look the same.
const STAMP_SETTLES_AFTER_SECS: i64 = 3;

/// How long after its last change a file may still be in the making: programs write a chain in one
/// go or certificate by certificate, and a busy machine stops them in between.
pub const REST_SECS: u64 = 5;

/// Readings of a file that is written meanwhile, before it is left for later. Whoever writes it
/// will have it looked at again.
const READINGS_MAX: usize = 4;

/// A fingerprint of file contents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of several contents; where one ends and the next begins is part of it.
    pub(crate) fn of(contents: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for content in contents {
            // usize is at most 64 bits wide wherever this runs.
            context.update(&(content.len() as u64).to_be_bytes());
            context.update(content);
        }
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for ContentHash {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.iter().take(4) {
            write!(out, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// What the file system says about a file; another file or another content, another stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// The permission bits, for the warning about keys that anyone can read.
    pub(crate) mode: u32,
    settled: bool,
}

impl FileStamp {
    fn of(metadata: &fs::Metadata, now: UnixTime) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed,
            mode: metadata.mode() & 0o7777,
            settled: now.saturating_sub(changed.0) > STAMP_SETTLES_AFTER_SECS,
        }
    }

    /// Whether the file was written a moment ago, so that there may be more of it to come. Files
    /// from the future were written by another clock, which tells nothing.
    pub(crate) fn is_fresh(&self, now: UnixTime) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        now.as_secs().abs_diff(changed) < REST_SECS
    }

    /// Whether two stamps are of one content, as far as the file system can tell.
    fn is_of_same_content(&self, other: &Self) -> bool {
        let content = |it: &Self| (it.length, it.modified, it.changed);
        content(self) == content(other)
    }

    /// Whether the file is certainly the one this stamp was taken of.
    pub(crate) fn still_holds(&self, path: &Path, now: UnixTime) -> bool {
        self.settled && fs::metadata(path).is_ok_and(|metadata| Self::of(&metadata, now) == *self)
    }
}

/// The permission bits of a file, if it is there.
pub(crate) fn mode(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    Some(metadata.mode() & 0o7777)
}

/// A file's content and its stamp, taken before the reading began: a change after it shows as a
/// different stamp next time. The content is wiped when dropped, as it may be a key.
pub(crate) struct FileContent {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) stamp: FileStamp,
}

/// Reads a regular file of bounded size, and reads it again if it was written meanwhile: what is
/// half old and half new may look like something that it is not.
pub(crate) fn read(path: &Path, now: UnixTime) -> Result<FileContent, Error> {
    for _ in 0..READINGS_MAX {
        if let Some(content) = read_once(path, now)? {
            return Ok(content);
        }
    }
    Err(Error::Unsteady {
        path: path.to_owned(),
    })
}

/// The content of a file; none if it changed between the first and the last look at it.
fn read_once(path: &Path, now: UnixTime) -> Result<Option<FileContent>, Error> {
    let failed = |source: io::Error| Error::Read {
        path: path.to_owned(),
        source,
    };
    // Before opening: to open a pipe is to wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let too_large = || Error::TooLarge {
        path: path.to_owned(),
        bytes_max: FILE_BYTES_MAX,
    };
    if metadata.len() > FILE_BYTES_MAX {
        return Err(too_large());
    }
    // With room for the whole file the vector does not grow, so no copy of a key stays behind.
    let capacity = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    Read::by_ref(&mut file)
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large());
    }
    let stamp = FileStamp::of(&metadata, now);
    let after = FileStamp::of(&file.metadata().map_err(failed)?, now);
    let is_whole = stamp.is_of_same_content(&after) && bytes.len() as u64 == after.length;
    Ok(is_whole.then_some(FileContent { bytes, stamp }))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn in_secs(secs: u64) -> UnixTime {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        UnixTime::since_unix_epoch(now + Duration::from_secs(secs))
    }

    #[test]
    fn hash_tells_contents_and_their_borders_apart() {
        let one = ContentHash::of(&[b"ab", b"c"]);
        assert_eq!(one, ContentHash::of(&[b"ab", b"c"]));
        assert_ne!(one, ContentHash::of(&[b"a", b"bc"]));
        assert_ne!(one, ContentHash::of(&[b"abc"]));
    }

    #[test]
    fn believes_a_stamp_only_once_it_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();

        let fresh = read(&path, in_secs(0)).unwrap().stamp;
        assert!(!fresh.still_holds(&path, in_secs(0)));

        let settled = read(&path, in_secs(60)).unwrap().stamp;
        assert!(settled.still_holds(&path, in_secs(60)));

        fs::write(&path, "other").unwrap();
        assert!(!settled.still_holds(&path, in_secs(60)));
        fs::remove_file(&path).unwrap();
        assert!(!settled.still_holds(&path, in_secs(60)));
    }

    #[test]
    fn refuses_what_is_no_file_of_sensible_size() {
        let dir = tempfile::tempdir().unwrap();
        let directory = read(dir.path(), in_secs(0)).map(|_| ()).unwrap_err();
        assert!(matches!(directory, Error::NotAFile { .. }));

        let missing = read(&dir.path().join("missing"), in_secs(0))
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(missing, Error::Read { .. }));
        assert!(missing.remedy().contains("Check the path"));

        let large = dir.path().join("large");
        let file = File::create(&large).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        let large = read(&large, in_secs(0)).map(|_| ()).unwrap_err();
        assert!(matches!(large, Error::TooLarge { .. }));
    }
}

//! Reading one file as text.
//!
//! Must not: read without a limit, whatever the path names.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;

/// The largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// As much as is read of a file only to see whether it has changed, bytes.
const BEGINNING_BYTES_MAX: u64 = 1024 * 1024;

/// The beginning of a file; nothing if it cannot be read, or is no file.
pub(super) fn beginning(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
        && let Ok(file) = File::open(path)
        && file
            .take(BEGINNING_BYTES_MAX)
            .read_to_end(&mut bytes)
            .is_err()
    {
        bytes.clear();
    }
    bytes
}

/// Reads a file, or says why not; whoever asked says where the file was named.
pub(super) fn read(path: &Path) -> Result<Arc<str>, Box<Diagnostic>> {
    let fail = |why: &str, remedy: &str| {
        let message = format!("{} cannot be read: {why}", path.display());
        Box::new(Diagnostic::error("E-file", None, message).remedy(remedy))
    };
    let unreadable = |error: std::io::Error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound => "create it, or name another file",
            ErrorKind::PermissionDenied => "let the user that the gateway runs as read it",
            _ => "look at what the path names",
        };
        fail(&error.to_string(), remedy)
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(fail("it is a directory", "name a file in it"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).min(1 << 24));
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(fail(&why, "spread it over several files, see `include`"));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            let why = format!("line {line} is not UTF-8 text");
            Err(fail(&why, "save it as UTF-8"))
        }
    }
}

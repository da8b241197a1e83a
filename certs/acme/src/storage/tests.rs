//! What is written is there, whole, for its user alone.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

fn storage() -> (tempfile::TempDir, Storage) {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::new(directory.path().join("acme"));
    (directory, storage)
}

#[test]
fn what_is_written_is_read_and_removed() {
    let (_directory, storage) = storage();
    let path = storage.bundle("shop");
    assert!(storage.read(&path).unwrap().is_none());
    for text in ["1", "other"] {
        storage.write(&path, text.as_bytes()).unwrap();
        let read = storage.read(&path).unwrap().unwrap();
        assert_eq!(read.as_slice(), text.as_bytes());
    }
    storage.remove(&path).unwrap();
    storage.remove(&path).unwrap();
    assert!(storage.read(&path).unwrap().is_none());
}

#[test]
fn nobody_else_can_read_it() {
    let (_directory, storage) = storage();
    let path = storage.bundle("shop");
    storage.write(&path, b"secret").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[test]
fn names_cannot_leave_the_directory() {
    let (_directory, storage) = storage();
    let check = |name: &str, expected: &str| {
        let path = storage.bundle(name);
        assert_eq!(path.file_name().unwrap(), expected);
        assert_eq!(path.parent(), storage.bundle("a").parent());
    };
    check("../../etc/passwd", "%2e.%2f..%2fetc%2fpasswd.pem");
    check("*.example.com", "%2a.example.com.pem");
    check(".", "%2e.pem");
    check("", ".pem");
}

#[test]
fn a_damaged_file_is_told() {
    let (_directory, storage) = storage();
    let path = storage.account("a");
    storage.write(&path, b"{").unwrap();
    let error = storage.read_json::<serde_json::Value>(&path).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(error.remedy().contains("Move"), "{}", error.remedy());
}

#[test]
fn drafts_are_no_files() {
    let (_directory, storage) = storage();
    let path = storage.challenge("token");
    storage.write(&path, b"1").unwrap();
    fs::write(storage.challenges().join(".draft-1-1"), "half").unwrap();
    assert_eq!(storage.list(&storage.challenges()).unwrap(), [path]);
    assert!(storage.challenges().join(".draft-1-1").exists());
    let missing = Storage::new("/no/such".into());
    assert!(missing.list(&missing.challenges()).unwrap().is_empty());
}

#[test]
fn a_lock_is_for_one_and_ends_with_it() {
    let (_directory, storage) = storage();
    let lock = storage.try_lock("shop").unwrap();
    assert!(lock.is_some());
    assert!(storage.try_lock("shop").unwrap().is_none());
    assert!(storage.try_lock("other").unwrap().is_some());
    drop(lock);
    assert!(storage.try_lock("shop").unwrap().is_some());
}

/// Where a child of the next test writes; not set in the tests themselves.
const CHILD: &str = "CARDEA_ACME_TEST_WRITES";

/// Writes until it is killed. As a test it does nothing.
#[test]
fn writes_until_it_is_killed() {
    let Some(root) = std::env::var_os(CHILD) else {
        return;
    };
    let storage = Storage::new(root.into());
    let path = storage.bundle("shop");
    for number in 0u64.. {
        let text = format!("{number:08}").repeat(10_000);
        storage.write(&path, text.as_bytes()).unwrap();
    }
}

#[test]
fn a_file_is_whole_whenever_its_writer_is_killed() {
    let (_directory, storage) = storage();
    let path = storage.bundle("shop");
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..30 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::tests::writes_until_it_is_killed"])
            .env(CHILD, &storage.root)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // From the first write on, at a moment that is another each time.
        let before = storage.read(&path).unwrap();
        for _ in 0..2000 {
            if storage.read(&path).unwrap() != before {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_micros(700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let text = storage.read(&path).unwrap().unwrap();
        let text = std::str::from_utf8(&text).unwrap().to_owned();
        assert_eq!(text.len(), 80_000);
        assert_eq!(text, text[..8].repeat(10_000));
        seen.insert(text[..8].to_owned());
    }
    assert!(seen.len() > 1, "{seen:?}");
}

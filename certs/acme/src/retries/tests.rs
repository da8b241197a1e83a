//! Waits are kept apart where they have to be, and shared where they may be.

use std::sync::Arc;

use super::*;
use crate::settings::{Challenge, KeyKind};

const HOUR: Duration = Duration::from_secs(3600);

fn issuer(name: &str) -> Arc<Issuer> {
    Arc::new(Issuer {
        name: name.into(),
        directory: format!("https://{name}.test/dir"),
        contact: Vec::new(),
        external_account: None,
        profile: None,
        challenge: Challenge::Http01,
        key: KeyKind::P256,
        trust: None,
        renew_at_percent_left: 33,
    })
}

fn managed(name: &str, issuers: &[&Arc<Issuer>]) -> Managed {
    Managed {
        name: name.into(),
        hosts: vec![format!("{name}.test")],
        issuers: issuers.iter().map(|issuer| Arc::clone(issuer)).collect(),
        is_on_demand: false,
    }
}

fn storage() -> (tempfile::TempDir, Storage) {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::new(directory.path().join("acme"));
    (directory, storage)
}

fn refused(detail: &str, wait: Option<Duration>) -> Error {
    let problem = serde_json::json!({
        "type": "urn:ietf:params:acme:error:rateLimited",
        "detail": detail,
    });
    Error::Authority {
        step: "ordering",
        source: instant_acme::Error::Api(serde_json::from_value(problem).unwrap()),
        status: Some(429),
        retry_at: wait.map(|wait| SystemTime::now() + wait),
    }
}

fn unproven() -> Error {
    Error::Unproven {
        host: "a.test".to_owned(),
        detail: String::new(),
    }
}

fn wait(storage: &Storage, managed: &Managed, issuer: &Issuer) -> u64 {
    let at = allowed_at(storage, managed, issuer);
    let wait = at.duration_since(SystemTime::now()).unwrap_or_default();
    wait.as_secs()
}

fn fail(storage: &Storage, managed: &Managed, issuer: &Issuer, error: &Error) {
    let (_, written) = note_failure(storage, managed, issuer, error);
    written.unwrap();
}

#[test]
fn the_wait_of_one_issuer_is_not_that_of_another() {
    let (_directory, storage) = storage();
    let (first, second) = (issuer("first"), issuer("second"));
    let a = managed("a", &[&first, &second]);
    let told = refused("too many certificates for a.test", Some(HOUR));
    fail(&storage, &a, &first, &told);
    fail(&storage, &a, &second, &unproven());
    assert!((3590..=3601).contains(&wait(&storage, &a, &first)));
    assert!((40..=75).contains(&wait(&storage, &a, &second)));
    // It is tried again when the first of them may be asked.
    let next = first_allowed_at(&storage, &a);
    assert_eq!(next, allowed_at(&storage, &a, &second));
    fail(&storage, &a, &second, &unproven());
    assert!((90..=150).contains(&wait(&storage, &a, &second)));
    assert!((3590..=3601).contains(&wait(&storage, &a, &first)));
    note_success(&storage, &a, &second);
    assert_eq!(first_allowed_at(&storage, &a), UNIX_EPOCH);
    assert!(storage.list(&storage.all_retries()).unwrap().is_empty());
}

#[test]
fn an_account_pauses_and_a_host_does_not() {
    let (_directory, storage) = storage();
    let (one, other) = (issuer("one"), issuer("other"));
    let (a, b) = (managed("a", &[&one, &other]), managed("b", &[&one, &other]));
    fail(&storage, &a, &one, &unproven());
    let own = refused("too many failed authorizations for \"a.test\"", Some(HOUR));
    fail(&storage, &a, &one, &own);
    assert!(wait(&storage, &a, &one) > 3000);
    assert_eq!(wait(&storage, &b, &one), 0);
    let all = refused("too many new orders", Some(HOUR));
    fail(&storage, &a, &one, &all);
    assert!((3590..=3601).contains(&wait(&storage, &b, &one)));
    assert_eq!(wait(&storage, &b, &other), 0);
    // Without a word about when, it is as long as it would be for one.
    fail(&storage, &a, &other, &refused("too many new orders", None));
    assert!((40..=75).contains(&wait(&storage, &b, &other)));
    // A week may be what one certificate has to wait, never all of them.
    let long = refused("too many somethings", Some(HOUR * 100));
    fail(&storage, &a, &one, &long);
    assert!(wait(&storage, &a, &one) > 350_000);
    assert!((10_700..=10_801).contains(&wait(&storage, &b, &one)));
}

#[test]
fn other_settings_are_tried_at_once_unless_the_authority_said_when() {
    let (_directory, storage) = storage();
    let before = issuer("one");
    let mut after = Issuer {
        profile: Some("shortlived".to_owned()),
        contact: vec!["ops@a.test".to_owned()],
        ..Arc::into_inner(issuer("one")).unwrap()
    };
    let a = managed("a", &[&before]);
    fail(&storage, &a, &before, &unproven());
    assert!(wait(&storage, &a, &before) > 40);
    assert_eq!(wait(&storage, &a, &after), 0);
    after.profile = None;
    assert!(wait(&storage, &a, &after) > 40);
    after.key = KeyKind::P384;
    let told = refused("not for a.test", Some(HOUR));
    fail(&storage, &a, &before, &told);
    assert!(wait(&storage, &a, &after) > 3000);
}

#[test]
fn what_is_over_is_forgotten_and_what_makes_no_sense_holds_up_nobody() {
    let (_directory, storage) = storage();
    let one = issuer("one");
    let (a, b, c) = (
        managed("a", &[&one]),
        managed("b", &[&one]),
        managed("c", &[&one]),
    );
    fail(&storage, &a, &one, &unproven());
    let write = |managed: &Managed, until: SystemTime| {
        let failures = Failures {
            count: 3,
            until: secs(until),
            told: secs(until),
            of: String::new(),
        };
        let accounts = BTreeMap::from([(account::key(&one), failures)]);
        let path = storage.retries(&managed.name);
        storage.write_json(&path, &Retries { accounts }).unwrap();
    };
    write(&b, SystemTime::now() - KEPT * 2);
    write(&c, SystemTime::now() + HOUR * 24 * 365);
    assert_eq!(wait(&storage, &c, &one), 0);
    let draft = storage.order("a", "one").with_file_name(".draft-1-1");
    storage.write(&draft, b"a key").unwrap();
    let killed = std::fs::File::options().write(true).open(&draft).unwrap();
    killed.set_modified(SystemTime::now() - HOUR * 2).unwrap();
    tidy(&storage);
    assert!(!draft.exists());
    let mut left = storage.list(&storage.all_retries()).unwrap();
    left.sort();
    assert_eq!(left, [storage.retries("a"), storage.retries("c")]);
    storage.write(&storage.retries("a"), b"{").unwrap();
    assert_eq!(wait(&storage, &a, &one), 0);
}

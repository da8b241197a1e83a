//! A first start, the second one, and starts after something went wrong.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;

use super::*;
use crate::client::{ClientConfigs, ClientSettings, Verify};
use crate::load::load;
use crate::provider;
use crate::testing::{directory, handshake};

fn now() -> UnixTime {
    UnixTime::now()
}

fn in_days(days: u64) -> UnixTime {
    at(now().as_secs() + days * DAY_SECS)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Whether a client that trusts the authority trusts the certificate for a name.
fn is_trusted(local: &LocalCertificate, name: &str) -> bool {
    let settings = ClientSettings {
        verify: Verify::Authorities(local.authority.clone()),
        ..ClientSettings::default()
    };
    let client = ClientConfigs::default().config(&settings).unwrap();
    let certificate = load(&local.chain, &local.key).unwrap();
    let resolver = SingleCertAndKey::from(certificate.certified);
    let server = ServerConfig::builder_with_provider(provider::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    handshake(&client, &Arc::new(server), name).is_ok()
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn makes_a_certificate_that_clients_of_the_authority_trust() {
    let (_directory, path) = directory();
    let local = prepare(
        &path.join("new/ca"),
        &names(&["Shop.Test", "*.shop.test", "app.localhost", "192.0.2.9"]),
        now(),
    )
    .unwrap();
    assert!(local.authority_is_new);
    let expected = [
        "localhost",
        "127.0.0.1",
        "::1",
        "shop.test",
        "*.shop.test",
        "app.localhost",
        "192.0.2.9",
    ];
    assert_eq!(local.names, expected);
    for name in [&expected[..4], &expected[5..], &["a.shop.test"]].concat() {
        assert!(is_trusted(&local, name), "{name}");
    }
    for name in ["example.com", "192.0.2.10", "other.localhost"] {
        assert!(!is_trusted(&local, name), "{name}");
    }
    let certificate = load(&local.chain, &local.key).unwrap();
    assert_eq!(certificate.warnings.len(), 0, "{:?}", certificate.warnings);
}

#[test]
fn keeps_keys_from_everyone_else() {
    let (_directory, path) = directory();
    let path = path.join("ca");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    prepare(&path, &[], now()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let mut found = Vec::new();
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
        found.push(entry.file_name().into_string().unwrap());
    }
    found.sort();
    let expected = ["ca.key", "ca.pem", "localhost.key", "localhost.pem", "lock"];
    assert_eq!(found, expected);
}

#[test]
fn uses_what_is_there_again() {
    let (_directory, path) = directory();
    let first = prepare(&path, &[], now()).unwrap();
    let before = (content(&first.authority), content(&first.chain));
    let second = prepare(&path, &[], in_days(5)).unwrap();
    assert!(!second.authority_is_new);
    assert_eq!(before, (content(&second.authority), content(&second.chain)));
    assert_eq!(first.renew_at, second.renew_at);
}

#[test]
fn renews_the_certificate_but_not_the_authority() {
    let check = |given: &[&str], day: u64, is_new_leaf: bool, is_new_authority: bool| {
        let (_directory, path) = directory();
        let first = prepare(&path, &names(&["a.test"]), now()).unwrap();
        let before = content(&first.chain);
        let second = prepare(&path, &names(given), in_days(day)).unwrap();
        assert_eq!(content(&second.chain) != before, is_new_leaf);
        assert_eq!(second.authority_is_new, is_new_authority);
    };
    check(&["a.test"], 19, false, false);
    check(&["a.test"], 21, true, false);
    check(&["a.test"], 100, true, false);
    check(&[], 0, true, false);
    check(
        &["b.a.test", "*.a.test", "x.localhost", "127.1.2.3"],
        0,
        true,
        false,
    );
    // What the authority may not issue for takes a new authority, as does the end of its time.
    check(&["b.test"], 0, true, true);
    check(&["a.test", "192.0.2.1"], 0, true, true);
    check(&["a.test"], 3_640, true, true);
}

#[test]
fn renews_in_time_for_whoever_waits() {
    let (_directory, path) = directory();
    let local = prepare(&path, &[], now()).unwrap();
    let before = content(&local.chain);
    let renewed = prepare(&path, &[], local.renew_at).unwrap();
    assert_ne!(content(&renewed.chain), before);
    assert!(renewed.renew_at > local.renew_at);
}

#[test]
fn recovers_from_damage() {
    let check = |file: &str, damage: fn(&Path), is_new_authority: bool| {
        let (_directory, path) = directory();
        prepare(&path, &[], now()).unwrap();
        damage(&path.join(file));
        let local = prepare(&path, &[], now()).unwrap();
        assert_eq!(local.authority_is_new, is_new_authority, "{file}");
        assert!(is_trusted(&local, "localhost"), "{file}");
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let garble = |path: &Path| fs::write(path, "garbage").unwrap();
    let exchange = |path: &Path| {
        let (_directory, other) = directory();
        prepare(&other, &[], now()).unwrap();
        fs::copy(other.join(path.file_name().unwrap()), path).unwrap();
    };
    for damage in [remove, garble, exchange] {
        check("ca.pem", damage, true);
        check("ca.key", damage, true);
        check("localhost.pem", damage, false);
        check("localhost.key", damage, false);
    }
    // The draft of a process that was killed while writing.
    check("ca.new", garble, false);
}

/// A leaf of an authority that was replaced is of no use, even though it is whole.
#[test]
fn replaces_the_leaf_of_another_authority() {
    let (_directory, path) = directory();
    let (_other_directory, other) = directory();
    prepare(&path, &[], now()).unwrap();
    prepare(&other, &[], now()).unwrap();
    for file in ["localhost.pem", "localhost.key"] {
        fs::copy(other.join(file), path.join(file)).unwrap();
    }
    let local = prepare(&path, &[], now()).unwrap();
    assert!(is_trusted(&local, "localhost"));
}

#[test]
fn refuses_names_that_are_none() {
    let (_directory, path) = directory();
    for name in [
        "",
        "a b",
        "*",
        "https://a.test",
        "a.test:443",
        "*.*.test",
        "*.test",
    ] {
        let refused = prepare(&path, &names(&[name]), now()).unwrap_err();
        let is_expected = matches!(
            refused,
            Error::InvalidName { .. } | Error::WideWildcard { .. }
        );
        assert!(is_expected, "{name}: {refused}");
    }
}

#[test]
fn takes_turns_when_several_start_at_once() {
    let (_directory, path) = directory();
    let locals: Vec<LocalCertificate> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| prepare(&path, &[], now()).unwrap()))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    let new = locals.iter().filter(|local| local.authority_is_new).count();
    assert_eq!(new, 1);
    for local in &locals {
        assert!(is_trusted(local, "localhost"));
    }
}

#[test]
fn says_where_it_cannot_write() {
    let (_directory, path) = directory();
    let file = path.join("file");
    fs::write(&file, "").unwrap();
    let refused = prepare(&file.join("ca"), &[], now()).unwrap_err();
    assert!(matches!(refused, Error::Write { .. }), "{refused}");
}

#[test]
fn names_of_this_machine_are_issued_when_asked_for() {
    provider::install();
    let directory = tempfile::tempdir().unwrap();
    let now = UnixTime::now();
    let names = LocalNames::open(directory.path(), now).unwrap();
    let first = names.certified("Shop.localhost", now).unwrap();
    let again = names.certified("shop.localhost.", now).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let late = at(now.as_secs() + LEAF_SECS);
    let renewed = names.certified("shop.localhost", late).unwrap();
    assert!(!Arc::ptr_eq(&first, &renewed));
    for foreign in ["example.com", "notlocalhost", "localhost.example.com", ""] {
        assert!(names.certified(foreign, now).is_none(), "{foreign}");
    }
}

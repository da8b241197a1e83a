//! Certificates exchanged between two handshakes, for better ones and for worse.

use std::path::PathBuf;

use rcgen::PKCS_RSA_SHA256;
use rustls::{ClientConfig, ServerConfig};

use super::*;
use crate::provider;
use crate::resumption::{Resumption, ResumptionSettings};
use crate::server::{PolicySettings, ServerPolicy};
use crate::store::Plan;
use crate::testing::{Authority, DAY, Wish, directory, first, handshake, place, replace, write};

fn now() -> UnixTime {
    UnixTime::now()
}

struct Fixture {
    authority: Authority,
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let (_directory, path) = directory();
        Self {
            authority: Authority::new("authority"),
            _directory,
            path,
        }
    }

    fn place(&self, name: &str, names: &[&str]) -> CertificateSpec {
        place(&self.path, name, &self.authority, &wish(names))
    }

    fn client(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(
            builder
                .with_root_certificates(self.authority.roots())
                .with_no_client_auth(),
        )
    }
}

fn wish<'a>(names: &'a [&'a str]) -> Wish<'a> {
    Wish {
        names,
        ..Wish::default()
    }
}

fn store(certificates: Vec<CertificateSpec>) -> CertificateStore {
    let plan = Plan {
        certificates,
        assignments: Vec::new(),
    };
    CertificateStore::build(plan, &CertificateStore::empty(), now()).unwrap()
}

fn server(live: &Arc<LiveCertificates>, default: Option<&str>) -> Arc<ServerConfig> {
    let resumption = Resumption::new(ResumptionSettings::default()).unwrap();
    let resolver = live.resolver(default.map(Into::into), None);
    let settings = PolicySettings::default();
    let policy = ServerPolicy::compile(&settings, resolver, &resumption).unwrap();
    Arc::clone(&policy.config)
}

#[test]
fn serves_by_name_by_wildcard_and_by_default() {
    let files = Fixture::new();
    let mut fallback = files.place("fallback", &["fallback.test", "192.0.2.1", "unknown.test"]);
    fallback.default = true;
    let live = LiveCertificates::new(store(vec![
        files.place("exact", &["shop.test", "192.0.2.2", "unknown.test"]),
        files.place("wild", &["*.shop.test"]),
        fallback,
    ]));
    // Names that are only in the plan's default would be found; these are asked by address.
    let check = |default: Option<&str>, host: &str, expected: &str| {
        let server = server(&live, default);
        let pair = handshake(&files.client(), &server, host).unwrap();
        let store = live.load();
        let certificate = store.certificate(expected).unwrap();
        assert_eq!(
            Some(&pair.shown()),
            certificate.certified.cert.first(),
            "{host}"
        );
    };
    check(None, "shop.test", "exact");
    check(None, "SHOP.test", "exact");
    check(None, "api.shop.test", "wild");
    // No SNI is sent for an address.
    check(None, "192.0.2.1", "fallback");
    check(Some("exact"), "192.0.2.2", "exact");
}

/// A listener is compiled before the certificates of its configuration are in use.
#[test]
fn listeners_may_name_a_default_that_is_yet_to_come() {
    let files = Fixture::new();
    let old = files.place("old", &["192.0.2.1"]);
    let new = files.place("new", &["192.0.2.1"]);
    let live = LiveCertificates::new(store(vec![old.clone()]));
    let server = server(&live, Some("new"));
    let check = |expected: &str| {
        let pair = handshake(&files.client(), &server, "192.0.2.1").unwrap();
        let store = live.load();
        let certificate = store.certificate(expected).unwrap();
        assert_eq!(Some(&pair.shown()), certificate.certified.cert.first());
    };
    check("old");
    live.swap(store(vec![old, new]));
    check("new");
}

#[test]
fn fails_the_handshake_without_any_certificate() {
    let files = Fixture::new();
    let live = LiveCertificates::new(CertificateStore::empty());
    handshake(&files.client(), &server(&live, None), "a.test").unwrap_err();
}

#[test]
fn swaps_between_two_handshakes() {
    let files = Fixture::new();
    let spec = files.place("a", &["a.test"]);
    let live = LiveCertificates::new(store(vec![spec.clone()]));
    let server = server(&live, None);
    let shown = || {
        handshake(&files.client(), &server, "a.test")
            .unwrap()
            .shown()
    };
    let before = shown();

    let issued = files.authority.issue(&wish(&["a.test"]));
    replace(&spec, &issued);
    assert_eq!(shown(), before);
    let refreshed = live.refresh(now());
    assert_eq!(refreshed.replaced, [Arc::from("a")]);
    assert!(refreshed.failed.is_empty());
    assert_eq!(shown(), first(&issued.chain));

    live.swap(CertificateStore::empty());
    handshake(&files.client(), &server, "a.test").unwrap_err();
}

#[test]
fn looks_at_the_files_it_is_told_of_alone() {
    let files = Fixture::new();
    let specs = ["a", "b"].map(|name| files.place(name, &[&format!("{name}.test")]));
    let live = LiveCertificates::new(store(specs.to_vec()));
    for (spec, name) in specs.iter().zip(["a.test", "b.test"]) {
        replace(spec, &files.authority.issue(&wish(&[name])));
    }
    let told = BTreeSet::from([specs[1].key.clone()]);
    assert_eq!(live.refresh_files(&told, now()).replaced, [Arc::from("b")]);
    assert_eq!(live.refresh(now()).replaced, [Arc::from("a")]);
}

#[test]
fn a_shared_name_goes_to_the_certificate_that_lasts_longest_after_a_renewal() {
    let files = Fixture::new();
    let specs = ["a", "b"].map(|name| files.place(name, &["both.test"]));
    let live = LiveCertificates::new(store(specs.to_vec()));
    let found = || live.load().spec_for("both.test", &[]).unwrap().name.clone();
    assert_eq!(*found(), *"a");
    let longer = Wish {
        not_after: now().as_secs() + 200 * DAY,
        ..wish(&["both.test"])
    };
    replace(&specs[1], &files.authority.issue(&longer));
    live.refresh(now());
    assert_eq!(*found(), *"b");
}

#[test]
fn a_shared_name_goes_to_the_certificate_that_is_valid_as_time_goes_by() {
    let files = Fixture::new();
    let secs = now().as_secs();
    let at =
        |days: u64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs + days * DAY));
    let place = |name: &str, algorithm, from: u64, to: u64| {
        let wish = Wish {
            algorithm,
            not_before: secs + from * DAY,
            not_after: secs + to * DAY,
            ..wish(&["a.test"])
        };
        place(&files.path, name, &files.authority, &wish)
    };
    let ecdsa = &rcgen::PKCS_ECDSA_P256_SHA256;
    let live = LiveCertificates::new(store(vec![
        place("first", ecdsa, 0, 10),
        place("next", ecdsa, 20, 40),
        place("rsa", &PKCS_RSA_SHA256, 0, 90),
    ]));
    let check = |days: u64, expected: &str| {
        live.keep_in_order(at(days));
        let store = live.load();
        let spec = store.spec_for(
            "a.test",
            crate::provider::provider()
                .signature_verification_algorithms
                .supported_schemes()
                .as_slice(),
        );
        assert_eq!(&*spec.unwrap().name, expected, "after {days} days");
    };
    check(1, "first");
    let before = live.load();
    live.keep_in_order(at(9));
    assert!(Arc::ptr_eq(&before, &live.load()), "nothing changed");
    check(11, "rsa");
    check(21, "next");
    check(41, "rsa");
}

#[test]
fn names_of_a_new_file_are_served_and_old_ones_no_more() {
    let files = Fixture::new();
    let specs = vec![files.place("a", &["a.test"]), files.place("b", &["b.test"])];
    let live = LiveCertificates::new(store(specs.clone()));
    replace(&specs[1], &files.authority.issue(&wish(&["c.test"])));
    live.refresh(now());
    let store = live.load();
    assert!(store.lookup("b.test", &[]).is_none());
    assert!(store.lookup("c.test", &[]).is_some());
    assert!(store.lookup("a.test", &[]).is_some());
}

#[test]
fn bad_files_keep_the_old_certificate_and_are_told() {
    let files = Fixture::new();
    let spec = files.place("a", &["a.test"]);
    let live = LiveCertificates::new(store(vec![spec.clone()]));
    let before = live.load();
    let refresh = || {
        let refreshed = live.refresh(now());
        assert!(refreshed.replaced.is_empty());
        let current = live.load();
        let kept = current.certificate("a").unwrap();
        assert!(Arc::ptr_eq(kept, before.certificate("a").unwrap()));
        let told = refreshed
            .failed
            .iter()
            .map(|failure| failure.error.to_string());
        told.collect::<Vec<_>>().join(" ")
    };
    let check = |expected: &str| {
        let told = refresh();
        assert!(told.contains(expected), "`{expected}` is not in `{told}`");
        assert_eq!(refresh(), told, "for as long as they are bad");
    };
    let issued = files.authority.issue(&wish(&["a.test"]));
    let good = std::fs::read_to_string(&spec.chain).unwrap();
    write(&spec.chain, &issued.chain);
    check("does not belong to the certificate");
    write(&spec.chain, "not a certificate");
    check("holds no certificate, it is not PEM");
    std::fs::remove_file(&spec.chain).unwrap();
    check("cannot read");
    write(&spec.chain, "not a certificate");
    check("holds no certificate");

    write(&spec.chain, &good);
    assert_eq!(refresh(), "");
    write(&spec.chain, "not a certificate");
    check("holds no certificate");
}

#[test]
fn valid_certificates_are_not_replaced_by_invalid_ones() {
    let files = Fixture::new();
    let secs = now().as_secs();
    let valid = wish(&["a.test"]);
    let expired = Wish {
        not_before: secs - 3 * DAY,
        not_after: secs - DAY,
        ..wish(&["a.test"])
    };
    let future = Wish {
        not_before: secs + DAY,
        not_after: secs + 3 * DAY,
        ..wish(&["a.test"])
    };
    let check = |from: &Wish<'_>, to: &Wish<'_>, expected: Option<&str>| {
        let spec = place(&files.path, "a", &files.authority, from);
        let live = LiveCertificates::new(store(vec![spec.clone()]));
        replace(&spec, &files.authority.issue(to));
        let refreshed = live.refresh(now());
        assert_eq!(refreshed.replaced.len(), usize::from(expected.is_none()));
        let told = refreshed
            .failed
            .first()
            .map(|failure| failure.error.to_string());
        match (told, expected) {
            (Some(told), Some(expected)) => assert!(told.contains(expected), "{told}"),
            (told, expected) => assert_eq!(told.as_deref(), expected),
        }
    };
    check(&valid, &expired, Some("expired on"));
    check(&valid, &future, Some("is valid only from"));
    check(&valid, &valid, None);
    // Where neither is any good, the newer one is what the operator wants.
    check(&expired, &future, None);
    check(&expired, &valid, None);
}

#[test]
fn answers_old_clients_with_the_key_they_understand() {
    let files = Fixture::new();
    let rsa = Wish {
        algorithm: &PKCS_RSA_SHA256,
        ..wish(&["a.test"])
    };
    let live = LiveCertificates::new(store(vec![
        files.place("ecdsa", &["a.test"]),
        place(&files.path, "rsa", &files.authority, &rsa),
    ]));
    let server = server(&live, None);
    let mut old = provider::provider().as_ref().clone();
    old.cipher_suites.retain(|suite| {
        suite.suite() == rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    });
    let client = ClientConfig::builder_with_provider(Arc::new(old))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(files.authority.roots())
        .with_no_client_auth();
    let pair = handshake(&Arc::new(client), &server, "a.test").unwrap();
    let store = live.load();
    let rsa = store.certificate("rsa").unwrap();
    assert_eq!(Some(&pair.shown()), rsa.certified.cert.first());
    let modern = handshake(&files.client(), &server, "a.test").unwrap();
    assert_ne!(modern.shown(), pair.shown());
}

#[test]
fn a_chain_that_may_be_cut_short_waits_until_its_file_rests() {
    let files = Fixture::new();
    let between = Authority::new("between").certificate.pem();
    let whole = |issued: crate::testing::Issued| crate::testing::Issued {
        chain: issued.chain + &between,
        ..issued
    };
    let spec = files.place("a", &["a.test"]);
    let issue = || files.authority.issue(&wish(&["a.test"]));
    replace(&spec, &whole(issue()));
    let live = LiveCertificates::new(store(vec![spec.clone()]));
    let length = || live.load().certificate("a").unwrap().certified.cert.len();
    let later = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        now().as_secs() + crate::REST_SECS + 1,
    ));

    let renewed = issue();
    replace(&spec, &renewed);
    let refreshed = live.refresh(now());
    assert_eq!(refreshed.held, [Arc::from("a")]);
    assert!(refreshed.replaced.is_empty() && refreshed.failed.is_empty());
    assert_eq!(length(), 2);
    assert_eq!(live.held_files(), BTreeSet::from([spec.chain.clone()]));
    // So it is for a configuration that is read meanwhile.
    let plan = Plan::clone(live.load().plan());
    live.swap(CertificateStore::build(plan, &live.load(), now()).unwrap());
    assert_eq!((length(), live.held_files().len()), (2, 1));
    // The rest of it comes, or does not.
    replace(&spec, &whole(renewed));
    assert_eq!(live.refresh(now()).replaced, [Arc::from("a")]);
    assert_eq!((length(), live.held_files().len()), (2, 0));
    replace(&spec, &issue());
    assert_eq!(live.refresh(now()).held.len(), 1);
    assert_eq!(live.refresh(later).replaced, [Arc::from("a")]);
    assert_eq!((length(), live.held_files().len()), (1, 0));
    // A longer one is whole if a shorter one was served.
    replace(&spec, &whole(issue()));
    assert_eq!(live.refresh(now()).replaced, [Arc::from("a")]);
}

#[test]
fn certificates_come_and_go_each_by_itself() {
    let files = Fixture::new();
    let [a, b, c, d] =
        ["a", "b", "c", "d"].map(|name| files.place(name, &[&format!("{name}.test")]));
    let live = LiveCertificates::new(store(vec![a.clone(), b.clone(), c.clone()]));
    let before = live.load();
    for (spec, name) in [(&a, "a.test"), (&b, "b.test")] {
        replace(spec, &files.authority.issue(&wish(&[name])));
    }
    let broken = files.place("broken", &["broken.test"]);
    write(&broken.chain, "rubbish");
    write(&b.chain, "rubbish");
    let plan = Plan {
        certificates: vec![a.clone(), b.clone(), broken, d],
        assignments: Vec::new(),
    };
    let told = BTreeSet::from([a.chain.clone(), b.chain.clone()]);
    let refreshed = live.follow(&plan, &told, now());
    let names = |failed: &[Failure]| {
        failed
            .iter()
            .map(|one| Arc::clone(&one.certificate))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&refreshed.failed), ["b", "broken"].map(Arc::from));
    assert_eq!(refreshed.replaced, [Arc::from("a")]);
    assert_eq!(
        (refreshed.came, refreshed.went),
        (vec![Arc::from("d")], vec![Arc::from("c")])
    );
    let store = live.load();
    let kept = |name: &str| {
        Arc::ptr_eq(
            store.certificate(name).unwrap(),
            before.certificate(name).unwrap(),
        )
    };
    assert!(!kept("a") && kept("b"));
    assert!(store.lookup("c.test", &[]).is_none() && store.lookup("d.test", &[]).is_some());
    assert!(store.lookup("broken.test", &[]).is_none());
}

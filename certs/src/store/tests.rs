//! Which certificate answers to which name, and what a build reads, keeps and refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

use super::*;
use crate::testing::{Authority, DAY, Wish, directory, place, replace, write};

const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];

fn now() -> UnixTime {
    UnixTime::now()
}

/// A moment at which the stamps of files written now have settled.
fn later() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now().as_secs() + 60))
}

fn plan(certificates: Vec<CertificateSpec>) -> Plan {
    Plan {
        certificates,
        assignments: Vec::new(),
    }
}

fn build(plan: Plan) -> CertificateStore {
    CertificateStore::build(plan, &CertificateStore::empty(), now()).unwrap()
}

/// Which certificate of a store is served for a host, by its name in the configuration.
fn served(store: &CertificateStore, host: &str, schemes: &[SignatureScheme]) -> Option<String> {
    let spec = store.spec_for(host, schemes);
    let found = store.lookup(host, schemes);
    let named = spec.and_then(|spec| store.certificate(&spec.name));
    assert!(
        found
            .zip(named)
            .is_none_or(|(found, named)| Arc::ptr_eq(found, named))
    );
    assert_eq!(found.is_some(), spec.is_some());
    Some(spec?.name.to_string())
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
        self.place_as(name, &wish(names))
    }

    fn place_as(&self, name: &str, wish: &Wish<'_>) -> CertificateSpec {
        place(&self.path, name, &self.authority, wish)
    }
}

fn wish<'a>(names: &'a [&'a str]) -> Wish<'a> {
    Wish {
        names,
        ..Wish::default()
    }
}

#[test]
fn finds_exact_names_then_wildcards_of_one_label() {
    let files = Fixture::new();
    let store = build(plan(vec![
        files.place("shop", &["shop.test", "www.shop.test"]),
        files.place("wild", &["*.shop.test"]),
    ]));
    let check = |host: &str, expected: Option<&str>| {
        assert_eq!(served(&store, host, ECDSA).as_deref(), expected, "{host}");
    };
    check("shop.test", Some("shop"));
    check("www.shop.test", Some("shop"));
    check("api.shop.test", Some("wild"));
    check("API.Shop.Test", Some("wild"));
    check("SHOP.TEST", Some("shop"));
    check("shop.test.", Some("shop"));
    check("a.b.shop.test", None);
    check("other.test", None);
    check("test", None);
    check("", None);
    check(".", None);
    check("*.shop.test", Some("wild"));
    check(&"X".repeat(300), None);
    check(&format!("{}.shop.test", "X".repeat(300)), None);
}

#[test]
fn default_is_the_marked_certificate_else_the_first() {
    let files = Fixture::new();
    let first = files.place("first", &["a.test"]);
    let mut second = files.place("second", &["b.test"]);
    let default_of = |plan: Plan| {
        let store = build(plan);
        let names = &store.default_certificate()?.details.names;
        names.first().map(ToString::to_string)
    };
    let unmarked = plan(vec![first.clone(), second.clone()]);
    assert_eq!(default_of(unmarked).as_deref(), Some("a.test"));
    second.default = true;
    assert_eq!(
        default_of(plan(vec![first, second])).as_deref(),
        Some("b.test")
    );
    assert_eq!(default_of(Plan::default()), None);
}

#[test]
fn chooses_among_kinds_of_keys_by_what_the_client_understands() {
    let files = Fixture::new();
    let of = |name, algorithm| {
        let wish = Wish {
            algorithm,
            ..wish(&["a.test"])
        };
        files.place_as(name, &wish)
    };
    let store = build(plan(vec![
        of("rsa", &PKCS_RSA_SHA256),
        of("ecdsa", &PKCS_ECDSA_P256_SHA256),
    ]));
    let check = |schemes: &[SignatureScheme], expected: &str| {
        assert_eq!(served(&store, "a.test", schemes).as_deref(), Some(expected));
    };
    check(ECDSA, "ecdsa");
    check(RSA, "rsa");
    // The cheaper one, whatever the client likes better.
    check(&[RSA, ECDSA].concat(), "ecdsa");
    // None will do; one stands for all.
    check(&[SignatureScheme::ED25519], "ecdsa");
    check(&[], "ecdsa");
}

#[test]
fn prefers_what_is_valid_then_what_lasts_longest() {
    let files = Fixture::new();
    let secs = now().as_secs();
    let lasting = |name, days: u64, algorithm| {
        let wish = Wish {
            not_before: secs - 30 * DAY,
            not_after: secs - 10 * DAY + days * DAY,
            algorithm,
            ..wish(&["a.test"])
        };
        files.place_as(name, &wish)
    };
    let check = |certificates: Vec<CertificateSpec>, expected: &str| {
        let store = build(plan(certificates));
        let both = [RSA, ECDSA].concat();
        assert_eq!(served(&store, "a.test", &both).as_deref(), Some(expected));
    };
    let short = lasting("short", 20, &PKCS_ECDSA_P256_SHA256);
    let long = lasting("long", 90, &PKCS_ECDSA_P256_SHA256);
    let expired = lasting("expired", 5, &PKCS_ECDSA_P256_SHA256);
    let rsa = lasting("rsa", 30, &PKCS_RSA_SHA256);
    check(vec![short.clone(), long.clone()], "long");
    check(vec![long.clone(), short.clone()], "long");
    check(vec![rsa.clone(), short], "short");
    check(vec![expired.clone(), rsa], "rsa");
    check(vec![expired], "expired");
}

#[test]
fn choices_of_domains_come_before_names_in_certificates() {
    let files = Fixture::new();
    let assign = |host: &str, certificate: Option<&str>| HostAssignment {
        host: host.into(),
        certificate: certificate.map(Into::into),
    };
    let store = build(Plan {
        certificates: vec![
            files.place("main", &["main.test"]),
            files.place("named", &["shop.test", "a.shop.test", "*.own.shop.test"]),
        ],
        assignments: vec![
            assign("shop.test", Some("main")),
            assign("*.shop.test", Some("main")),
            assign("*.own.shop.test", None),
            assign("shop.test", Some("named")),
            assign("else.test", None),
        ],
    });
    let check = |host: &str, expected: Option<&str>| {
        assert_eq!(served(&store, host, ECDSA).as_deref(), expected, "{host}");
    };
    check("shop.test", Some("main"));
    check("a.shop.test", Some("main"));
    check("x.y.shop.test", Some("main"));
    check("x.own.shop.test", Some("named"));
    check("x.y.own.shop.test", None);
    check("own.shop.test", Some("main"));
    check("else.test", None);
    check("main.test", Some("main"));
}

#[test]
fn tells_every_problem_of_a_plan_at_once() {
    let files = Fixture::new();
    let good = files.place("good", &["a.test"]);
    let mut missing = files.place("missing", &["b.test"]);
    missing.chain = files.path.join("nowhere.pem");
    let mut mismatched = files.place("mismatched", &["c.test"]);
    mismatched.key.clone_from(&good.key);
    let mut twice = files.place("twice", &["d.test"]);
    twice.name = "good".into();
    let plan = Plan {
        certificates: vec![good, missing, mismatched, twice],
        assignments: vec![HostAssignment {
            host: "a.test".into(),
            certificate: Some("nobody".into()),
        }],
    };
    let failures = CertificateStore::build(plan, &CertificateStore::empty(), now()).unwrap_err();
    let told: Vec<String> = failures
        .iter()
        .map(|failure| format!("{failure}: {}", failure.error))
        .collect();
    let path = files.path.display();
    let expected = [
        "certificate `good`: two certificates have the name `good`".to_owned(),
        "certificate `nobody`: there is no certificate `nobody`, which the host `a.test` is given"
            .to_owned(),
        format!("certificate `missing`: cannot read {path}/nowhere.pem"),
        format!(
            "certificate `mismatched`: the private key in {path}/good.key does not belong to the \
             certificate in {path}/mismatched.pem"
        ),
    ];
    assert_eq!(told, expected);
}

#[test]
fn keeps_what_did_not_change() {
    let files = Fixture::new();
    let certificates = vec![files.place("a", &["a.test"]), files.place("b", &["b.test"])];
    let empty = CertificateStore::empty();
    let first = CertificateStore::build(plan(certificates.clone()), &empty, later()).unwrap();

    let issued = files.authority.issue(&wish(&["b.test"]));
    replace(&certificates[1], &issued);
    let second = CertificateStore::build(plan(certificates), &first, later()).unwrap();

    let kept = |name: &str| {
        let before = first.certificate(name).unwrap();
        Arc::ptr_eq(before, second.certificate(name).unwrap())
    };
    assert!(kept("a"));
    assert!(!kept("b"));
}

/// Content decides, not what the file system says: renamed entries and copied files are the same
/// certificates, a file touched is not a file changed.
#[test]
fn keeps_what_has_the_same_content_elsewhere() {
    let files = Fixture::new();
    let spec = files.place("a", &["a.test"]);
    let first = build(plan(vec![spec.clone()]));
    let moved = CertificateSpec {
        name: "renamed".into(),
        chain: files.path.join("copy.pem"),
        key: files.path.join("copy.key"),
        default: false,
        stands_in_for: None,
    };
    fs::copy(&spec.chain, &moved.chain).unwrap();
    fs::copy(&spec.key, &moved.key).unwrap();
    let second = CertificateStore::build(plan(vec![moved]), &first, now()).unwrap();
    let before = first.certificate("a").unwrap();
    assert!(Arc::ptr_eq(before, second.certificate("renamed").unwrap()));
}

/// Proves that unchanged files are not even opened: they cannot be, and nobody minds.
#[test]
fn does_not_read_what_certainly_did_not_change() {
    let files = Fixture::new();
    let spec = files.place("a", &["a.test"]);
    let read_while = |first: &CertificateStore| first.entries()[0].observe(&spec, later());
    let empty = CertificateStore::empty();
    let settled = CertificateStore::build(plan(vec![spec.clone()]), &empty, later()).unwrap();
    assert!(matches!(read_while(&settled), Observed::Same));
    // Written a moment ago: what the file system says is not believed, and the content is read.
    let fresh = CertificateStore::build(plan(vec![spec.clone()]), &empty, now()).unwrap();
    assert!(matches!(read_while(&fresh), Observed::Restamped(_)));
}

#[test]
fn many_are_loaded_in_their_order_and_every_fault_is_told() {
    let files = Fixture::new();
    let names: Vec<String> = (0..3 * PART_LEAST).map(|at| format!("c{at}")).collect();
    let specs: Vec<_> = names
        .iter()
        .map(|name| files.place(name, &[&format!("{name}.test")]))
        .collect();
    let store = build(plan(specs.clone()));
    for name in &names {
        let found = store.spec_for(&format!("{name}.test"), &[]).unwrap();
        assert_eq!(*found.name, **name);
    }
    let broken = [&specs[1], &specs[3 * PART_LEAST - 1]];
    for spec in broken {
        fs::remove_file(&spec.key).unwrap();
    }
    let failures = CertificateStore::build(plan(specs.clone()), &store, later()).unwrap_err();
    let told: Vec<_> = failures.iter().map(|it| &it.certificate).collect();
    assert_eq!(told, broken.map(|spec| &spec.name));
}

#[test]
fn says_which_files_changed() {
    let files = Fixture::new();
    let specs = ["same", "changed", "gone", "key_only", "touched"]
        .map(|name| files.place(name, &["a.test"]));
    let [_, changed, gone, key_only, touched] = &specs;
    let store = build(plan(specs.to_vec()));
    assert!(store.changed_files(now()).is_empty());

    replace(changed, &files.authority.issue(&wish(&["a.test"])));
    fs::remove_file(&gone.chain).unwrap();
    write(
        &key_only.key,
        &files.authority.issue(&wish(&["a.test"])).key,
    );
    let content = fs::read_to_string(&touched.chain).unwrap();
    write(&touched.chain, &content);

    let expected: Vec<Arc<str>> = ["changed", "gone", "key_only"].map(Into::into).to_vec();
    assert_eq!(store.changed_files(later()), expected);
}

#[test]
fn notices_time_and_permissions() {
    let files = Fixture::new();
    let secs = now().as_secs();
    let spec = files.place_as(
        "a",
        &Wish {
            not_before: secs - 60 * DAY,
            not_after: secs + 60 * DAY,
            ..wish(&["a.test"])
        },
    );
    let store = build(plan(vec![spec.clone()]));
    let at = |secs: u64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
    let check = |moment: u64, expected: &[&str]| {
        let told: Vec<String> = store
            .notices(at(moment))
            .iter()
            .map(|notice| notice.warning.to_string())
            .map(|text| text.split(" 2").next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(told, expected);
    };
    check(secs, &[]);
    check(secs - 61 * DAY, &["it is valid only from"]);
    check(secs + 45 * DAY, &[]);
    check(secs + 47 * DAY, &["it expires on"]);
    check(secs + 61 * DAY, &["it expired on"]);

    fs::set_permissions(&spec.key, fs::Permissions::from_mode(0o644)).unwrap();
    let store = build(plan(vec![spec.clone()]));
    let notices = store.notices(now());
    let told = notices.first().unwrap().to_string();
    assert!(
        told.starts_with("certificate `a`: everyone can read"),
        "{told}"
    );
    assert!(told.ends_with("(mode 0644)"), "{told}");
}

#[test]
fn says_what_expires_until_it_is_renewed() {
    let files = Fixture::new();
    let secs = now().as_secs();
    let soon = (secs - 87 * DAY, secs + 3 * DAY);
    let specs = [
        files.place("good", &["a.test"]),
        files.place_as(
            "soon",
            &Wish {
                not_before: soon.0,
                not_after: soon.1,
                ..wish(&["b.test"])
            },
        ),
        files.place_as(
            "over",
            &Wish {
                not_after: secs - 60,
                ..wish(&["c.test"])
            },
        ),
    ];
    let store = build(plan(specs.to_vec()));
    let told: Vec<_> = store
        .expiring(now())
        .into_iter()
        .map(|it| it.certificate)
        .collect();
    let names = told.iter().map(|it| &**it).collect::<Vec<_>>();
    assert_eq!(names, ["soon", "over"]);
}

/// A certificate that lives for days is not forever about to expire.
#[test]
fn short_lives_expire_soon_only_at_their_end() {
    let files = Fixture::new();
    let secs = now().as_secs();
    let spec = files.place_as(
        "short",
        &Wish {
            not_before: secs - DAY,
            not_after: secs + 5 * DAY,
            ..wish(&["a.test"])
        },
    );
    let store = build(plan(vec![spec]));
    assert_eq!(store.notices(now()), []);
}

#[test]
fn follows_links_that_are_swapped() {
    let files = Fixture::new();
    let versions = ["one", "two"].map(|version| {
        let directory = files.path.join(version);
        fs::create_dir(&directory).unwrap();
        place(&directory, "tls", &files.authority, &wish(&["a.test"]));
        directory
    });
    let [one, two] = &versions;
    let link = files.path.join("data");
    let point = |target: &Path| {
        let draft = files.path.join("draft");
        std::os::unix::fs::symlink(target, &draft).unwrap();
        fs::rename(&draft, &link).unwrap();
    };
    point(one);
    let spec = CertificateSpec {
        name: "mounted".into(),
        chain: link.join("tls.pem"),
        key: link.join("tls.key"),
        default: false,
        stands_in_for: None,
    };
    let empty = CertificateStore::empty();
    let store = CertificateStore::build(plan(vec![spec]), &empty, later()).unwrap();
    assert!(store.changed_files(later()).is_empty());
    point(two);
    assert_eq!(store.changed_files(later()), [Arc::from("mounted")]);
}

#[test]
fn something_stands_in_for_an_ordered_certificate_that_came_to_harm() {
    let files = Fixture::new();
    let spec = CertificateSpec {
        stands_in_for: Some(["a.test".to_owned()].into()),
        ..files.place("a", &["a.test"])
    };
    let good = build(plan(vec![spec.clone()]));
    fs::write(&spec.chain, "half of i").unwrap();
    let store = build(plan(vec![spec.clone()]));
    assert!(store.certificate("a").unwrap().is_stand_in);
    let notices = store.notices(now());
    let damaged = |notice: &&Notice| matches!(notice.warning, Warning::Damaged { .. });
    let notice = notices.iter().find(damaged).unwrap();
    let text = notice.warning.to_string();
    assert!(text.contains(&spec.chain.display().to_string()), "{text}");
    assert!(notice.warning.remedy().contains("orders another"));
    // One that is served already goes on being served.
    let reloaded = CertificateStore::build(plan(vec![spec.clone()]), &good, later()).unwrap();
    assert!(!reloaded.certificate("a").unwrap().is_stand_in);
    // Whoever brings their own files is told that they are no good.
    let own = CertificateSpec {
        stands_in_for: None,
        ..spec
    };
    let empty = CertificateStore::empty();
    assert!(CertificateStore::build(plan(vec![own]), &empty, now()).is_err());
}

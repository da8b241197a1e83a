//! `cardea check`: everything that is wrong, at once, with its place and a remedy.

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::process::Finished;

fn check(text: &str) -> Finished {
    let site = Site::new();
    site.write("cardea.yaml", text);
    site.cardea(&["check"])
}

#[track_caller]
fn assert_told(text: &str, told: &[&str]) {
    let finished = check(text);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for part in told {
        assert!(
            finished.stderr.contains(part),
            "{part:?} is missing:\n{}",
            finished.stderr
        );
    }
}

const SOUND: &str = r#"listeners:
  - name: web
    bind: ["127.0.0.1:8080"]
domains:
  - hosts: [a.test]
    routes:
      - to: app
upstreams:
  app: { endpoints: ["127.0.0.1:3000"] }
"#;

#[test]
fn a_sound_file_is_fine() {
    let finished = check(SOUND);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("fine"), "{finished:?}");
}

#[test]
fn all_problems_at_once_with_their_places() {
    let text = SOUND
        .replace("bind:", "bnd:")
        .replace("to: app", "to: ap")
        .replace("a.test", "\"a b\"");
    assert_told(&text, &["cardea.yaml:3:5", "bnd", "cardea.yaml:5:", "a b"]);
}

#[test]
fn did_you_mean() {
    assert_told(
        &SOUND.replace("to: app", "to: ap"),
        &["`ap`", "app", "cardea.yaml:7:"],
    );
    assert_told(
        &SOUND.replace("endpoints", "endpoint"),
        &["endpoint", "endpoints"],
    );
    assert_told(&SOUND.replace("listeners:", "listener:"), &["listeners"]);
}

#[test]
fn values_that_cannot_be() {
    let with = |policies: &str| {
        SOUND.replace(
            "- to: app",
            &format!("- {{ policies: {policies}, to: app }}"),
        )
    };
    for (policies, told) in [
        ("{ ip_access: { allow: [10.0.0.0/33] } }", "10.0.0.0/33"),
        ("{ timeouts: { request: 5 parsecs } }", "parsecs"),
        ("{ body_limit: lots }", "lots"),
        ("{ redirect: { status: 200 } }", "200"),
        (
            "{ rewrite: { path: { regex: { pattern: \"(\", replacement: x } } } }",
            "(",
        ),
        (
            "{ header_edits: { request: { set: { \"a b\": c } } } }",
            "a b",
        ),
        (
            "{ header_edits: { request: { set: { host: c } } } }",
            "host",
        ),
        (
            "{ header_edits: { response: { set: { content-length: \"1\" } } } }",
            "content-length",
        ),
        (
            "{ header_edits: { response: { set: { x: \"a\\r\\nb: c\" } } } }",
            "line",
        ),
        (
            "{ cors: { allow_origins: [\"*\"], allow_credentials: true } }",
            "allow_credentials",
        ),
        ("{ rate_limit: { rate: 0 } }", "rate"),
    ] {
        assert_told(&with(policies), &[told, "cardea.yaml:7:"]);
    }
}

#[test]
fn relations_that_do_not_hold() {
    let twice = SOUND.replace(
        "upstreams:",
        "  - hosts: [A.TEST]\n    routes: [{ to: app }]\nupstreams:",
    );
    assert_told(
        &twice,
        &["a.test", "cardea.yaml:8:13", "5 |", "the first claim"],
    );
    assert_told(
        &SOUND.replace("      - to: app\n", "      - name: empty\n"),
        &["empty"],
    );
    let tls = SOUND.replace(
        "bind: [\"127.0.0.1:8080\"]",
        "bind: [\"127.0.0.1:8080\"]\n    tls: {}",
    );
    assert_told(&tls, &["certificate"]);
    assert_told(
        &SOUND.replace("127.0.0.1:3000", "127.0.0.1"),
        &["127.0.0.1"],
    );
    let weightless = SOUND.replace(
        "\"127.0.0.1:3000\"",
        "{ address: \"127.0.0.1:3000\", weight: 0 }",
    );
    assert_told(&weightless, &["weight", "app"]);
    let second = SOUND.replace(
        "domains:",
        "  - { name: web, bind: [\"127.0.0.1:8081\"] }\ndomains:",
    );
    assert_told(&second, &["web"]);
}

#[test]
fn yaml_that_is_none() {
    assert_told("listeners: [", &["cardea.yaml:1"]);
    assert_told("a: b\n\tc: d\n", &["cardea.yaml:"]);
    assert_told("- just\n- a list\n", &["cardea.yaml"]);
    assert_told("\0", &["cardea.yaml"]);
    // A bomb of aliases costs nothing.
    let bomb: String = (1..30)
        .map(|at| format!("a{at}: &a{at} [*a{0}, *a{0}, *a{0}]\n", at - 1))
        .collect();
    let finished = check(&format!("a0: &a0 [x]\n{bomb}"));
    assert_eq!(finished.code, Some(1), "{finished:?}");
}

#[test]
fn warnings_do_not_fail_unless_asked_to() {
    let site = Site::new();
    let unused = format!("{SOUND}  unused: {{ endpoints: [\"127.0.0.1:1\"] }}\n");
    site.write("cardea.yaml", &unused);
    let finished = site.cardea(&["check"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stderr.contains("unused"), "{finished:?}");
    assert_eq!(site.cardea(&["check", "--strict"]).code, Some(1));
    let finished = site.cardea(&["check", "--output", "json"]);
    let found: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert!(found.to_string().contains("unused"), "{found}");
}

#[test]
fn certificates_are_looked_at() {
    let site = Site::new();
    let authority = Authority::new("someone");
    authority.issue(&["b.test"]).save(site.path(), "b");
    authority.issue(&["c.test"]).save(site.path(), "c");
    let text = SOUND.replace(
        "bind: [\"127.0.0.1:8080\"]",
        "bind: [\"127.0.0.1:8080\"]\n    tls: {}",
    );
    let with = |certificate: &str| format!("{text}certificates: [{certificate}]\n");
    let told = |certificate: &str, code: i32, part: &str| {
        site.write("cardea.yaml", &with(certificate));
        let finished = site.cardea(&["check"]);
        assert_eq!(finished.code, Some(code), "{certificate}: {finished:?}");
        assert!(
            finished.stderr.contains(part),
            "{certificate}: {finished:?}"
        );
    };
    told("{ name: b, chain: gone.pem, key: b.key }", 1, "gone.pem");
    told("{ name: b, chain: b.pem, key: c.key }", 1, "key");
    told("{ name: b, chain: b.key, key: b.key }", 1, "certificate");
    // A domain that its certificate does not cover is a warning.
    told("{ name: b, chain: b.pem, key: b.key }", 0, "a.test");
}

/// What `check` says of a certificate for `a.test` whose files a test has its way with.
fn told_of_certificate(edit: impl FnOnce(&Site, &Authority)) -> Finished {
    let site = Site::new();
    let authority = Authority::new("someone");
    authority.issue(&["a.test"]).save(site.path(), "a");
    edit(&site, &authority);
    let text = SOUND.replace(
        "bind: [\"127.0.0.1:8080\"]",
        "bind: [\"127.0.0.1:8080\"]\n    tls: {}",
    );
    let certificates = "certificates: [{ name: shop, chain: a.pem, key: a.key }]\n";
    site.write("cardea.yaml", &format!("{text}{certificates}"));
    site.cardea(&["check"])
}

#[test]
fn certificates_that_cannot_be_served_are_told_with_a_remedy() {
    let check = |edit: &dyn Fn(&Site, &Authority), told: &[&str]| {
        let finished = told_of_certificate(edit);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        for part in [
            &["error[E-certificate]", "certificate `shop`", "cardea.yaml:"],
            told,
        ]
        .concat()
        {
            assert!(
                finished.stderr.contains(part),
                "{part}: {}",
                finished.stderr
            );
        }
    };
    check(
        &|site, authority| {
            site.write("a.key", &authority.issue(&["a.test"]).key_pem);
        },
        &["does not belong to the certificate in", "requested with"],
    );
    check(
        &|site, _| std::fs::remove_file(site.path().join("a.key")).expect("a key"),
        &["cannot read", "a.key", "No such file"],
    );
    check(
        &|site, _| {
            std::fs::remove_file(site.path().join("a.pem")).expect("a chain");
            std::fs::create_dir(site.path().join("a.pem")).expect("a directory");
        },
        &["is not a regular file", "Name the PEM file itself"],
    );
}

#[test]
fn certificates_that_are_served_nevertheless_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;

    let check = |edit: &dyn Fn(&Site, &Authority), told: &[&str]| {
        let finished = told_of_certificate(edit);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        for part in [&["warning[W-certificate]", "cardea.yaml:"], told].concat() {
            assert!(
                finished.stderr.contains(part),
                "{part}: {}",
                finished.stderr
            );
        }
    };
    let with_mode = |site: &Site, mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(site.path().join("a.key"), mode).expect("a key");
    };
    check(
        &|site, _| with_mode(site, 0o644),
        &["everyone can read", "(mode 0644)", "chmod"],
    );
    check(
        &|site, _| with_mode(site, 0o662),
        &["others than its owner can write", "(mode 0662)"],
    );
    check(
        &|site, authority| {
            let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
            authority
                .issue_until(&["a.test"], past)
                .save(site.path(), "a");
        },
        &["it expired on"],
    );
    check(
        &|site, authority| {
            let must_staple = authority.issue_with(&["a.test"], |params| {
                let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
                let feature = vec![0x30, 3, 2, 1, 5];
                let feature = rcgen::CustomExtension::from_oid_content(&oid, feature);
                params.custom_extensions.push(feature);
            });
            must_staple.save(site.path(), "a");
        },
        &["it names no responder"],
    );
}

#[test]
fn what_is_wrong_with_tls_to_upstreams_is_told() {
    use std::os::unix::fs::PermissionsExt;

    let site = Site::new();
    let with = |tls: &str| SOUND.replace("3000\"] }", &format!("3000\"], tls: {tls} }}"));
    site.write(
        "cardea.yaml",
        &with("{ verify: off, allow: [{ dns: a.test }] }"),
    );
    let finished = site.cardea(&["check"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stderr.contains("nobody looks at `allow`"),
        "{finished:?}"
    );

    let authority = Authority::new("someone");
    authority.issue(&["own.test"]).save(site.path(), "own");
    authority.save(site.path(), "ca");
    site.write(
        "cardea.yaml",
        &with("{ ca: ca.pem, certificate: own.pem, key: own.key }"),
    );
    let finished = site.cardea(&["check", "--strict"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let mode = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(site.path().join("own.key"), mode).expect("a key");
    let finished = site.cardea(&["check"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for part in [
        "W-upstream-key",
        "upstream `app`",
        "others than its owner can write",
    ] {
        assert!(finished.stderr.contains(part), "{part}: {finished:?}");
    }
}

#[test]
fn includes_report_their_own_file() {
    let site = Site::new();
    site.write("domains/shop.yaml", "domains:\n  - hots: [a.test]\n");
    site.write(
        "cardea.yaml",
        &format!("include: [\"domains/*.yaml\"]\n{SOUND}"),
    );
    let finished = site.cardea(&["check"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("shop.yaml:2:5"), "{finished:?}");
}

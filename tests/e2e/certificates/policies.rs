//! How TLS is spoken for the name that a client asks for, before anything else is known of it.

use cardea_tests::tls::ClientTls;
use cardea_tests::{Client, tool, wait};
use rustls::version::{TLS12, TLS13};

use super::{CONFIG, Secure};
use crate::fixture::assert_refused;

/// `CONFIG` with a domain `strict.w.test` that speaks TLS as given.
fn with_domain(tls: &str) -> String {
    let domain = format!("{{ hosts: [strict.w.test], tls: {tls}, routes: [{{ to: origin }}] }}");
    CONFIG.replace("domains:", &format!("domains:\n  - {domain}"))
}

/// What openssl agrees on for a name, or what it was told instead.
fn agreed(secure: &Secure, name: &str, arguments: &[&str]) -> String {
    let all = [&["-servername", name][..], arguments].concat();
    let shown = tool::s_client(secure.address(), &all);
    let told = format!("{}\n{}", shown.stdout, shown.stderr);
    let is_news = |line: &&str| line.contains("alert") || line.starts_with("New, TLS");
    let lines: Vec<&str> = told.lines().filter(is_news).collect();
    lines.join("\n")
}

#[test]
fn a_domain_has_a_least_version_of_its_own() {
    let secure = Secure::with(&with_domain("{ profile: modern }"));
    let old = ["-tls1_2"];
    let refused = agreed(&secure, "strict.w.test", &old);
    assert!(refused.contains("protocol version"), "{refused}");
    let served = agreed(&secure, "a.test", &old);
    assert!(served.contains("New, TLSv1.2"), "{served}");
    let served = agreed(&secure, "strict.w.test", &[]);
    assert!(served.contains("New, TLSv1.3"), "{served}");
    let count = [("listener", "secure"), ("result", "version")];
    let metric = "cardea_tls_handshakes_total";
    secure.gateway.wait_for_metric(metric, &count, 1.0);
}

#[test]
fn a_domain_agrees_on_its_suites_and_groups_alone() {
    let secure = Secure::with(&with_domain(
        "{ cipher_suites: [TLS_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384], groups: [secp384r1] }",
    ));
    let check = |name: &str, arguments: &[&str], expected: &str| {
        let found = agreed(&secure, name, arguments);
        assert!(found.contains(expected), "{name} {arguments:?}: {found}");
    };
    let small = ["-ciphersuites", "TLS_AES_128_GCM_SHA256"];
    check("strict.w.test", &small, "handshake failure");
    check("a.test", &small, "TLS_AES_128_GCM_SHA256");
    check("strict.w.test", &["-groups", "X25519"], "handshake failure");
    check("a.test", &["-groups", "X25519"], "New, TLSv1.3");
    let large = ["-tls1_2", "-groups", "P-256:P-384"];
    check("strict.w.test", &large, "ECDHE-ECDSA-AES256-GCM-SHA384");
    let other = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    check("strict.w.test", &other, "handshake failure");
    check("a.test", &other, "ECDHE-ECDSA-AES128-GCM-SHA256");
}

#[test]
fn a_client_that_knows_only_tls_1_2_gets_what_the_policy_says() {
    let secure = Secure::with(&with_domain("{ min_version: \"1.3\" }"));
    let old = ClientTls {
        versions: &[&TLS12],
        ..ClientTls::trusting(&secure.authority)
    };
    let refused = secure.connect(&old.config(), "strict.w.test").unwrap_err();
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
    let mut served = secure.connect(&old.config(), "a.test").expect("TLS 1.2");
    assert_eq!(served.get("a.test", "/").status, 200);
}

#[test]
fn a_host_of_another_policy_is_misdirected() {
    let secure = Secure::with(&with_domain("{ profile: modern }"));
    // Made under the listener's policy, which lets more in.
    let mut client = secure.client("a.test");
    assert_eq!(client.get("a.test", "/").status, 200);
    let refused = client.get("strict.w.test", "/");
    assert_refused(&refused, 421, "misdirected", "the domain's own policy");
    // And the other way round: made under the domain's.
    let mut client = secure.client("strict.w.test");
    assert_eq!(client.get("strict.w.test", "/").status, 200);
    assert_refused(
        &client.get("a.test", "/"),
        421,
        "misdirected",
        "the listener's",
    );
    // Without a name it is the listener's policy, whatever the request says.
    let url = format!("https://{}/", secure.address());
    let answered = tool::curl(&["--insecure", "-H", "host: strict.w.test", "-i", &url]);
    assert!(answered.stdout.contains("421"), "{answered:?}");
}

#[test]
fn sessions_do_not_cross_policies() {
    let secure = Secure::with(&with_domain("{ groups: [x25519, secp256r1] }"));
    for version in [&TLS12, &TLS13] {
        let tls = ClientTls {
            versions: &[version],
            ..ClientTls::trusting(&secure.authority)
        };
        let config = tls.config();
        let kind = |name: &str| {
            let mut client = secure.connect(&config, name).expect("a handshake");
            assert_eq!(client.get(name, "/").status, 200);
            client.tls().handshake_kind()
        };
        let full = Some(rustls::HandshakeKind::Full);
        assert_eq!(kind("strict.w.test"), full);
        assert_ne!(kind("strict.w.test"), full, "{version:?}");
        assert_eq!(kind("a.test"), full, "{version:?}");
    }
    // With openssl, which offers a session for whatever name it is told to.
    let site = cardea_tests::gateway::Site::new();
    let session = site.path().join("session").display().to_string();
    let first = ["-servername", "a.test", "-tls1_2", "-sess_out", &session];
    tool::s_client(secure.address(), &first);
    let second = [
        "-servername",
        "strict.w.test",
        "-tls1_2",
        "-sess_in",
        &session,
    ];
    let shown = tool::s_client(secure.address(), &second);
    assert!(shown.stdout.contains("New, TLSv1.2"), "{}", shown.stdout);
}

#[test]
fn unknown_names_are_refused_where_that_is_wanted() {
    let secure = Secure::with(&CONFIG.replace("tls: {}", "tls: { unknown_names: refuse }"));
    for arguments in [&["-servername", "nobody.test"][..], &["-noservername"]] {
        let shown = tool::s_client(secure.address(), arguments);
        let told = shown.stderr;
        assert!(told.contains("unrecognized name"), "{arguments:?}: {told}");
        assert!(!shown.stdout.contains("BEGIN CERTIFICATE"));
    }
    assert_eq!(secure.client("a.test").get("a.test", "/").status, 200);
    assert_eq!(secure.client("x.w.test").get("x.w.test", "/").status, 200);
    let count = [("listener", "secure"), ("result", "unknown_name")];
    let metric = "cardea_tls_handshakes_total";
    secure.gateway.wait_for_metric(metric, &count, 2.0);
}

#[test]
fn a_stricter_policy_holds_for_connections_made_before() {
    let secure = Secure::with(&with_domain("{}"));
    let origin = secure.origin.address();
    let mut before = secure.client("strict.w.test");
    assert_eq!(before.get("strict.w.test", "/").status, 200);
    let strict = with_domain("{ profile: modern }");
    secure.gateway.configure(&strict, &[("origin", &origin)]);
    assert_refused(
        &before.get("strict.w.test", "/"),
        421,
        "misdirected",
        "an old connection",
    );
    let mut after: Client = secure.client("strict.w.test");
    assert_eq!(after.get("strict.w.test", "/").status, 200);
}

#[test]
fn what_makes_no_sense_is_told() {
    let secure = Secure::start();
    let site = secure.gateway.site();
    let check = |tls: &str, expected: &str| {
        site.configure(&with_domain(tls), &[("origin", &"127.0.0.1:1")]);
        let told = site.cardea(&["check", "--config", "cardea.yaml"]);
        assert_ne!(told.code, Some(0), "{tls}");
        assert!(told.stderr.contains(expected), "{tls}: {}", told.stderr);
    };
    check("{ profile: modern, min_version: \"1.2\" }", "TLS 1.3 alone");
    check("{ profile: old }", "intermediate");
    check(
        "{ cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256] }",
        "no cipher suite of TLS 1.3",
    );
    check("{ groups: [] }", "no key exchange");
    check("{ groups: [x25518] }", "x25519");
    check("{ client_certificates: {} }", "ca");
    check(
        "{ client_certificates: { ca: x, allow: [{}] } }",
        "means everybody",
    );
    check(
        "{ client_certificates: { ca: missing.pem } }",
        "missing.pem",
    );
}

#[test]
fn a_session_of_one_gateway_is_resumed_at_another_with_its_secret() {
    let shared = cardea_tests::gateway::Site::new();
    let secret = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = shared.write(name, &name.repeat(48));
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("set a mode");
        path.display().to_string()
    };
    let (first, second) = (secret("a"), secret("b"));
    let config = |secrets: &str| format!("tls_sessions: {{ secrets: [{secrets}] }}\n{CONFIG}");
    let one = Secure::with(&config(&first));
    let origin = one.origin.address();
    // The same authority and certificates, as a fleet has them.
    let site = cardea_tests::gateway::Site::new();
    for name in ["exact", "wild", "main"] {
        for end in ["pem", "key"] {
            let file = format!("{name}.{end}");
            let from = one.gateway.site().path().join(&file);
            std::fs::copy(from, site.path().join(&file)).expect("copy a file");
        }
    }
    let other = site.start(&config(&first), &[("origin", &origin)]);
    for version in [&TLS12, &TLS13] {
        let tls = ClientTls {
            versions: &[version],
            ..ClientTls::trusting(&one.authority)
        };
        let config = tls.config();
        let kind = |address| {
            let mut client = Client::try_connect_tls(address, &config, "a.test").expect("TLS");
            assert_eq!(client.get("a.test", "/").status, 200);
            client.tls().handshake_kind()
        };
        let full = Some(rustls::HandshakeKind::Full);
        assert_eq!(kind(one.address()), full);
        assert_ne!(kind(other.listener("secure")), full, "{version:?}");
        assert_ne!(kind(one.address()), full, "{version:?}");
    }
    // The secret is exchanged one gateway after the other.
    let config_of = ClientTls::trusting(&one.authority).config();
    let kind = |address| {
        let mut client = Client::try_connect_tls(address, &config_of, "a.test").expect("TLS");
        assert_eq!(client.get("a.test", "/").status, 200);
        client.tls().handshake_kind()
    };
    assert_eq!(kind(one.address()), Some(rustls::HandshakeKind::Full));
    other.configure(
        &config(&format!("{second}, {first}")),
        &[("origin", &origin)],
    );
    assert_eq!(
        kind(other.listener("secure")),
        Some(rustls::HandshakeKind::Resumed)
    );
    // What everybody can read is no secret.
    let open = shared.write("open", &"c".repeat(48));
    let site = one.gateway.site();
    site.configure(&config(&open.display().to_string()), &[("origin", &origin)]);
    let told = site.cardea(&["check", "--config", "cardea.yaml"]);
    assert!(told.stderr.contains("everybody can read"), "{told:?}");
    assert!(told.stderr.contains("chmod 0600"), "{told:?}");
}

/// What an outside judge of TLS servers finds wrong, by Mozilla's guideline.
fn judged(address: std::net::SocketAddr, profile: &str, ca: &std::path::Path) -> String {
    let target = address.to_string();
    let ca = ca.display().to_string();
    let arguments = ["--mozilla_config", profile, "--sni", "a.test"];
    let judged = tool::sslyze(&[&arguments[..], &["--certinfo_ca_file", &ca, &target]].concat());
    let (_, verdict) = judged
        .stdout
        .split_once("COMPLIANCE AGAINST TLS CONFIGURATION")
        .unwrap_or_else(|| panic!("no verdict: {judged:?}"));
    let is_sound = verdict.contains("OK - Compliant");
    assert_eq!(judged.code == Some(0), is_sound, "{verdict}");
    let vulnerable = judged.stdout.contains("VULNERABLE - ");
    assert!(!vulnerable, "{}", judged.stdout);
    if is_sound {
        String::new()
    } else {
        verdict.to_owned()
    }
}

#[test]
fn an_outside_judge_finds_both_profiles_as_mozilla_has_them() {
    let modern = "{ name: modern, bind: [\"127.0.0.1:0\"], tls: { profile: modern } }";
    let config = CONFIG.replace("listeners:", &format!("listeners:\n  - {modern}"));
    let secure = Secure::with(&config);
    let site = secure.gateway.site();
    let ca = secure.authority.save(site.path(), "authority");
    // As strict as authorities have to be.
    let identity = secure
        .authority
        .issue_with(&["a.test", "127.0.0.1"], |params| {
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        });
    identity.save(site.path(), "exact");
    wait::until_true("the certificate is served", || {
        let client = secure.client("a.test");
        let shown = client
            .tls()
            .peer_certificates()
            .map(|chain| chain[0].clone());
        shown == identity.chain().first().cloned()
    });
    let check = |address, profile: &str| judged(address, profile, &ca);
    let (by_default, modern) = (secure.address(), secure.gateway.listener("modern"));
    assert_eq!(check(by_default, "intermediate"), "");
    assert_eq!(check(modern, "modern"), "");
    // The judge does tell them apart.
    assert!(check(by_default, "modern").contains("TLSv1.2"));
}

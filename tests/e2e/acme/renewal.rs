//! Renewal against a real authority, and failures that pass.

use rustix::process::Signal;

use super::*;

/// Shakes hands until another certificate than `old` is served, which has to be there all the time
/// until then: the new one.
fn served_after(fixture: &Fixture, config: &Arc<ClientConfig>, old: &[u8]) -> Vec<u8> {
    wait::until("another certificate is served", || {
        let client = Client::try_connect_tls(fixture.tls, config, "a.test").expect("a handshake");
        let chain = client.tls().peer_certificates().expect("a chain");
        Some(chain[0].to_vec()).filter(|leaf| leaf != old)
    })
}

#[test]
fn a_certificate_near_its_end_is_renewed_and_served_until_then() {
    let fixture = Fixture::new();
    let site = Site::new();
    let before = cardea_tests::certificate::Authority::new("before");
    let end = std::time::SystemTime::now() + Duration::from_secs(3600);
    let identity = before.issue_until(&["a.test"], end);
    let old = format!("{}{}", identity.key_pem, identity.chain_pem);
    let path = site.write("storage/certificates/a.pem", &old);
    let storage = path.ancestors().nth(2).expect("a directory");
    let gateway = fixture.gateway_at(
        fixture.http,
        fixture.tls,
        &storage.display().to_string(),
        "",
        "[{ name: a, acme: { hosts: [a.test] } }]",
    );
    // Whoever trusts either gets one of them, and nobody anything else.
    let mut roots = rustls::RootCertStore::empty();
    let of_pebble = CertificateDer::from_pem_slice(fixture.pebble.roots().as_bytes());
    roots.add(of_pebble.expect("a root")).expect("a root");
    roots.add(before.certificate()).expect("a root");
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let old = identity.chain()[0].to_vec();
    let new = served_after(&fixture, &Arc::new(config), &old);
    assert_eq!(fixture.waits_for(fixture.tls, "a.test"), new);
    assert_eq!(gateway.generation(), 1);
    assert_eq!(count(&gateway, "certificate_ordering"), 1);
    wait::until_true("it is good", || {
        gateway.admin("GET", "/certs").json()[0]["source"]["order"]["state"] == "good"
    });
}

#[test]
fn a_certificate_that_lives_for_seconds_is_renewed_again_and_again() {
    let fixture = Fixture::with(|wishes| wishes.lifetime = Duration::from_secs(12));
    let gateway = fixture.gateway(
        ", renew_at_percent_left: 60",
        "[{ name: a, acme: { hosts: [a.test] } }]",
    );
    let config = fixture.client();
    let mut served = fixture.waits_for(fixture.tls, "a.test");
    for _ in 0..2 {
        served = served_after(&fixture, &config, &served);
    }
    assert_eq!(gateway.generation(), 1);
    assert_eq!(count(&gateway, "certificate_not_issued"), 0);
}

#[test]
fn what_was_proved_before_may_or_may_not_have_to_be_proved_again() {
    for percent in [0, 100] {
        let fixture = Fixture::with(|wishes| wishes.authorizations_reused = percent);
        let both = "[{ name: a, acme: { hosts: [a.test] } }, { name: b, acme: { hosts: [a.test, b.test] } }]";
        let gateway = fixture.gateway("", "[{ name: a, acme: { hosts: [a.test] } }]");
        fixture.waits_for(fixture.tls, "a.test");
        let config = std::fs::read_to_string(gateway.site().config_path());
        let config = config.expect("a configuration");
        let config = config.replace("[{ name: a, acme: { hosts: [a.test] } }]", both);
        gateway.configure(&config, &[]);
        fixture.waits_for(fixture.tls, "b.test");
        assert_eq!(count(&gateway, "certificate_not_issued"), 0, "{percent}");
    }
}

#[test]
fn what_could_not_be_proved_is_had_once_the_fault_is_gone() {
    let fixture = Fixture::new();
    // The authority looks elsewhere, where nobody answers.
    let (http, tls) = (free_address(), free_address());
    let certificates = "[{ name: a, acme: { hosts: [a.test] } }]";
    let gateway = fixture.gateway_at(http, tls, "acme", "", certificates);
    gateway.stderr.wait_for_line("certificate_not_issued");
    let config = std::fs::read_to_string(gateway.site().config_path()).expect("a configuration");
    let mended = config
        .replace(&http.to_string(), &fixture.http.to_string())
        .replace(&tls.to_string(), &fixture.tls.to_string());
    gateway.configure(&mended, &[]);
    gateway.signal(Signal::KILL);
    // What failed is remembered, and the log says how to have it tried at once.
    let gateway = gateway.restart();
    let line = gateway.stderr.wait_for_line("certificate_waiting");
    let told = gateway.admin("GET", "/certs").json();
    assert_eq!(told[0]["source"]["order"]["state"], "waiting");
    assert_eq!(count(&gateway, "certificate_ordering"), 0);
    let file = gateway.site().path().join("acme/retries/a.json");
    assert!(line.contains(&file.display().to_string()), "{line}");
    std::fs::remove_file(&file).expect("remove a file");
    let _gateway = gateway.restart();
    fixture.waits_for(fixture.tls, "a.test");
    assert!(!file.exists());
}

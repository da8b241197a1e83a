//! New files: when they are served, and what they have to be for it.

use std::fs::OpenOptions;
use std::sync::atomic::{AtomicBool, Ordering};

use cardea_tests::certificate::Identity;
use rustls::pki_types::CertificateDer;

use super::*;

/// The chain that a client was shown.
fn served(client: &Client) -> Vec<CertificateDer<'static>> {
    let chain = client.tls().peer_certificates();
    chain.expect("a chain").to_vec()
}

/// Writes chain and key as most programs do: the one, then the other.
fn save(gateway: &Gateway, name: &str, identity: &Identity) {
    let site = gateway.site();
    site.write(&format!("{name}.key"), &identity.key_pem);
    site.write(&format!("{name}.pem"), &identity.chain_pem);
}

fn is_refused(gateway: &Gateway) -> bool {
    gateway.metric("cardea_config_last_reload_successful", &[]) == Some(0.0)
}

#[test]
fn a_saved_certificate_is_served() {
    let secure = Secure::start();
    let mut before = secure.client("a.test");
    let old = served(&before);
    let renewed = secure.authority.issue(&["a.test"]);
    save(&secure.gateway, "exact", &renewed);
    let expected = renewed.chain();
    wait::until_true("the new certificate is served", || {
        served(&secure.client("a.test")) == expected
    });
    assert_ne!(old, expected);
    // A connection made before goes on.
    assert_eq!(before.get("a.test", "/").status, 200);
    // Rubbish in a file changes nothing.
    secure.gateway.site().write("exact.pem", "rubbish");
    let failed = || {
        secure
            .gateway
            .metric("cardea_config_last_reload_successful", &[])
    };
    wait::until_true("the rubbish is noticed", || failed() == Some(0.0));
    assert_eq!(served(&secure.client("a.test")), expected);
    save(&secure.gateway, "exact", &renewed);
    wait::until_true("all is well again", || failed() == Some(1.0));
}

#[test]
fn a_configuration_that_is_refused_keeps_no_renewed_certificate_out() {
    let secure = Secure::start();
    let (gateway, site) = (&secure.gateway, secure.gateway.site());
    let good = std::fs::read_to_string(site.config_path()).expect("a configuration");
    let origin = secure.origin.address();
    for (bad, what) in [
        (format!("{good}nonsense: true\n"), "what nobody can parse"),
        (
            good.replace(
                "certificates:",
                "certificates:\n  - { name: x, chain: x.pem, key: x.key }",
            ),
            "what cannot be compiled",
        ),
    ] {
        site.configure(&bad, &[("origin", &origin)]);
        wait::until_true("the configuration is refused", || is_refused(gateway));
        let renewed = secure.authority.issue(&["a.test"]);
        save(gateway, "exact", &renewed);
        wait::until_true(what, || served(&secure.client("a.test")) == renewed.chain());
        assert!(is_refused(gateway), "{what}");
        // One whose files are no good keeps no other one out either.
        site.write("wild.pem", "rubbish");
        gateway.stderr.wait_for_line("certificate_not_renewed");
        let renewed = secure.authority.issue(&["a.test"]);
        save(gateway, "exact", &renewed);
        wait::until_true(what, || served(&secure.client("a.test")) == renewed.chain());
        save(gateway, "wild", &secure.authority.issue(&["*.w.test"]));
        site.configure(&good, &[]);
        wait::until_true("all is well again", || !is_refused(gateway));
    }
}

#[test]
fn a_chain_is_served_whole_however_slowly_it_is_written() {
    let authority = Authority::new("clients trust this");
    let issuing = authority.intermediate("who issues");
    let site = Site::new();
    let mut identity = issuing.issue(&["a.test"]);
    for name in ["exact", "wild", "main"] {
        identity.save(site.path(), name);
    }
    let origin = Origin::echo();
    let gateway = site.start(CONFIG, &[("origin", &origin.address())]);
    let chain = gateway.site().path().join("exact.pem");
    let key = gateway.site().path().join("exact.key");
    let config = ClientTls::trusting(&authority).config();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let last = scope.spawn(|| {
            for _ in 0..6 {
                identity = issuing.issue(&["a.test"]);
                // In place, in pieces, and with a rest where the leaf ends.
                std::fs::write(&key, &identity.key_pem).expect("write the key");
                let mut options = OpenOptions::new();
                let file = options.write(true).truncate(true).open(&chain);
                let mut file = file.expect("open the chain");
                for line in identity.chain_pem.split_inclusive('\n') {
                    file.write_all(line.as_bytes()).expect("write the chain");
                    if line.starts_with("-----END") {
                        std::thread::sleep(Duration::from_millis(150));
                    }
                }
            }
            is_done.store(true, Ordering::Release);
            identity.chain()
        });
        // Every one of them verifies the chain that it is shown.
        let served_now = || {
            let client = Client::try_connect_tls(gateway.listener("secure"), &config, "a.test");
            served(&client.expect("a whole chain"))
        };
        while !is_done.load(Ordering::Acquire) {
            served_now();
        }
        let last = last.join().expect("a thread that only writes");
        wait::until_true("the last one is served", || served_now() == last);
    });
}

#[test]
fn a_chain_that_lost_its_issuers_for_good_is_served_after_a_while() {
    let authority = Authority::new("clients trust this");
    let site = Site::new();
    for name in ["exact", "wild", "main"] {
        let issuing = authority.intermediate("who issues");
        issuing.issue(&["a.test"]).save(site.path(), name);
    }
    let origin = Origin::echo();
    let gateway = site.start(CONFIG, &[("origin", &origin.address())]);
    let stranger = Authority::new("somebody else");
    let short = stranger.issue(&["a.test"]);
    save(&gateway, "exact", &short);
    gateway.stderr.wait_for_line("certificate_held");
    let config = ClientTls::trusting(&stranger).config();
    wait::until_true("the short chain is served", || {
        Client::try_connect_tls(gateway.listener("secure"), &config, "a.test").is_ok()
    });
}

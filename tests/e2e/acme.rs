//! Certificates from a real authority: ordered, proved, served, and what happens when it is not as
//! it should be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cardea_tests::gateway::{Site, free_address};
use cardea_tests::named::{self, Named};
use cardea_tests::origin::Connection;
use cardea_tests::pebble::{Pebble, Wishes};
use cardea_tests::{Client, Gateway, Origin, origin, tls, tool, wait};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

mod authority;
mod kills;
mod on_demand;
mod redis;
mod refusals;
mod renewal;

/// An authority, and gateways it looks for proof at.
struct Fixture {
    pebble: Pebble,
    http: SocketAddr,
    tls: SocketAddr,
    origin: Origin,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(wish: impl FnOnce(&mut Wishes)) -> Self {
        let mut wishes = Wishes {
            http: free_address(),
            tls: free_address(),
            nonces_refused: 0,
            authorizations_reused: 50,
            lifetime: Duration::from_secs(90 * 86_400),
            dns: None,
            external_accounts: false,
        };
        wish(&mut wishes);
        Self {
            pebble: Pebble::start(&wishes),
            http: wishes.http,
            tls: wishes.tls,
            origin: Origin::echo(),
        }
    }

    /// A gateway with the given certificate and issuer. The names of the authority and the way to
    /// trust it are filled in.
    fn gateway(&self, issuer: &str, certificates: &str) -> Gateway {
        self.gateway_at(self.http, self.tls, "acme", issuer, certificates)
    }

    fn gateway_at(
        &self,
        http: SocketAddr,
        tls: SocketAddr,
        storage: &str,
        issuer: &str,
        certificates: &str,
    ) -> Gateway {
        let site = Site::new();
        self.pebble.save_trust(site.path());
        let config = format!(
            r#"
listeners:
  - {{ name: web, bind: ["{http}"] }}
  - {{ name: secure, bind: ["{tls}"], tls: {{}} }}
acme:
  storage: {storage}
  issuers:
    - {{ name: pebble, directory: "<directory>", terms_agreed: true, trust: pebble-trust.pem {issuer} }}
certificates: {certificates}
domains:
  - {{ name: plain, hosts: [a.test, "*.w.test", b.test], policies: {{ redirect: {{ scheme: https }} }}, listeners: [web] }}
  - {{ hosts: [a.test, "*.w.test", b.test], routes: [{{ to: origin }}], listeners: [secure] }}
upstreams:
  origin: {{ endpoints: ["<origin>"] }}
"#
        );
        let values = [
            ("directory", &self.pebble as &dyn std::fmt::Display),
            ("origin", &self.origin.address()),
        ];
        site.start(&config, &values)
    }

    /// Clients that trust what the authority issues, and nothing else.
    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.pebble.roots().as_bytes());
        roots.add(root.expect("a root")).expect("a root");
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    /// Waits until a gateway serves a host with a certificate of the authority: that certificate.
    fn waits_for(&self, address: SocketAddr, host: &str) -> Vec<u8> {
        let config = self.client();
        wait::until("a certificate of the authority is served", || {
            let client = Client::try_connect_tls(address, &config, host).ok()?;
            let chain = client.tls().peer_certificates()?;
            Some(chain.first()?.to_vec())
        })
    }
}

fn count(gateway: &Gateway, what: &str) -> usize {
    gateway.stderr.text().matches(what).count()
}

#[test]
fn a_certificate_is_ordered_proved_by_a_file_and_served() {
    let fixture = Fixture::new();
    let gateway = fixture.gateway("", "[{ name: a, acme: { hosts: [a.test, b.test] } }]");
    fixture.waits_for(fixture.tls, "a.test");
    let config = fixture.client();
    let mut client = Client::try_connect_tls(fixture.tls, &config, "b.test").expect("b.test");
    assert_eq!(client.get("b.test", "/").status, 200);
    // Without a restart, without a reload, and told on the admin listener.
    assert_eq!(gateway.generation(), 1);
    let told = gateway.admin("GET", "/certs").json();
    assert_eq!(told[0]["name"], "a");
    assert_eq!(told[0]["is_stand_in"], false);
    wait::until_true("the order is done", || {
        gateway.admin("GET", "/certs").json()[0]["source"]["order"]["state"] == "good"
    });
    assert!(
        told[0]["issuer"]
            .as_str()
            .is_some_and(|it| it.contains("Pebble")),
        "{told}"
    );
    // What is left of it is for its user alone, and no challenge is.
    use std::os::unix::fs::PermissionsExt;
    let storage = gateway.site().path().join("acme");
    let bundle = storage.join("certificates/a.pem");
    let mode = std::fs::metadata(bundle)
        .expect("a bundle")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let left = |name: &str| std::fs::read_dir(storage.join(name)).expect(name).count();
    assert_eq!(
        (left("challenges"), left("orders"), left("accounts")),
        (0, 0, 1)
    );
    // The origin and the redirect had no part in it, and a path of nobody goes its way.
    assert!(
        fixture
            .origin
            .requests()
            .iter()
            .all(|seen| !seen.target.contains("acme"))
    );
    let other = gateway.get("a.test", "/.well-known/acme-challenge/none");
    assert_eq!(other.status, 308);
}

#[test]
fn a_certificate_is_proved_by_a_handshake() {
    let fixture = Fixture::new();
    let gateway = fixture.gateway(
        ", challenge: tls-alpn-01",
        "[{ name: a, acme: { hosts: [a.test] } }]",
    );
    fixture.waits_for(fixture.tls, "a.test");
    let proved = [("result", "proved")];
    let metric = gateway.metric("cardea_tls_handshakes_total", &proved);
    assert!(metric >= Some(1.0), "{metric:?}");
    // Nobody else gets anything by asking for that protocol.
    let shown = tool::s_client(
        fixture.tls,
        &["-servername", "a.test", "-alpn", "acme-tls/1"],
    );
    assert!(shown.stderr.contains("unrecognized name"), "{shown:?}");
}

#[test]
fn wildcards_are_proved_in_the_dns_by_a_program_and_by_a_service() {
    let fixture = Fixture::new();
    // What an operator would write: a program that tells the name server.
    let script = r#"#!/bin/sh
set -e
case "$1" in
    present) curl -sSf -d "{\"host\":\"$2\",\"value\":\"$3\"}" http://<records>/set-txt ;;
    cleanup) curl -sSf -d "{\"host\":\"$2\"}" http://<records>/clear-txt ;;
esac
echo "$1" >> calls
"#;
    let tools = Site::new();
    let script = script.replace("<records>", &fixture.pebble.records.to_string());
    let program = tools.write("hook.sh", &script);
    let program = program.display();
    let issuer = format!(
        ", challenge: {{ dns-01: {{ exec: {{ command: [sh, {program}], propagation: 0s }} }} }}"
    );
    let certificates = "[{ name: wild, acme: { hosts: [\"*.w.test\"] } }]";
    let gateway = fixture.gateway(&issuer, certificates);
    fixture.waits_for(fixture.tls, "x.w.test");
    wait::until_true("the record is taken away", || {
        let calls = std::fs::read_to_string(gateway.site().path().join("calls"));
        calls.is_ok_and(|calls| calls == "present\ncleanup\n")
    });
    drop(gateway);
    // The service that lego's users have; here it passes on to the same name server.
    let records = fixture.pebble.records;
    let service = Origin::serve(move |connection: &mut Connection| {
        let Some(request) = connection.request() else {
            return;
        };
        let sent: serde_json::Value = serde_json::from_str(&request.text()).expect("JSON");
        let (path, body) = match &*request.target {
            "/dns/present" => (
                "/set-txt",
                serde_json::json!({ "host": sent["fqdn"], "value": sent["value"] }),
            ),
            _ => ("/clear-txt", serde_json::json!({ "host": sent["fqdn"] })),
        };
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: dns\r\nContent-Length: {}",
            body.len()
        );
        let passed = Client::connect(records).ask(format!("{head}\r\n\r\n{body}"));
        assert_eq!(passed.status, 200);
        connection.answer(origin::ok(""));
    });
    let issuer = format!(
        ", challenge: {{ dns-01: {{ http: {{ url: \"http://{}/dns\", user: u, password: p, propagation: 0s }} }} }}",
        service.address()
    );
    let _gateway = fixture.gateway(&issuer, certificates);
    fixture.waits_for(fixture.tls, "x.w.test");
    let seen = service.requests();
    assert_eq!(seen[0].field("authorization"), Some("Basic dTpw"));
}

#[test]
fn wildcards_are_proved_by_telling_the_name_server() {
    let named = Named::start();
    let fixture = Fixture::with(|wishes| wishes.dns = Some(named.address));
    let issuer = |key: &str, secret: &str| {
        format!(
            ", challenge: {{ dns-01: {{ rfc2136: {{ server: \"{}\", key: {key}, secret: \"{secret}\", propagation: 0s }} }} }}",
            named.address
        )
    };
    let certificates = "[{ name: wild, acme: { hosts: [\"*.w.test\", w.test] } }]";
    let refused = |key: &str, secret: &str, why: &str| {
        let gateway = fixture.gateway(&issuer(key, secret), certificates);
        let line = gateway.stderr.wait_for("the refusal", |text| {
            let mut lines = text.lines().map(str::to_owned);
            lines.find(|line| line.contains("certificate_not_issued"))
        });
        assert!(line.contains(why), "{line}");
    };
    refused("may", "b3RoZXI=", "not that key with that secret");
    refused("may-not", named::SECRET, "the key may not change that name");
    let _gateway = fixture.gateway(&issuer("may", named::SECRET), certificates);
    fixture.waits_for(fixture.tls, "x.w.test");
    // Nothing is left of it. Two records of one name stood beside each other.
    wait::until_true("the records are taken away", || {
        named.records("_acme-challenge.w.test").is_empty()
    });
}

#[test]
fn nonces_that_are_refused_do_no_harm() {
    let fixture = Fixture::with(|wishes| wishes.nonces_refused = 50);
    let gateway = fixture.gateway("", "[{ name: a, acme: { hosts: [a.test] } }]");
    fixture.waits_for(fixture.tls, "a.test");
    assert_eq!(count(&gateway, "certificate_not_issued"), 0);
}

#[test]
fn an_account_may_have_to_belong_to_another() {
    let fixture = Fixture::with(|wishes| wishes.external_accounts = true);
    let certificates = "[{ name: a, acme: { hosts: [a.test] } }]";
    let refused = fixture.gateway("", certificates);
    let line = refused.stderr.wait_for("the refusal", |text| {
        let mut lines = text.lines().map(str::to_owned);
        lines.find(|line| line.contains("certificate_not_issued"))
    });
    assert!(line.contains("externalAccountRequired"), "{line}");
    assert!(line.contains("Set `external_account`"), "{line}");
    drop(refused);
    let account = ", external_account: { key_id: kid-1, hmac_key: \"${env:ACME_TEST_KEY}\" }";
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let account = account.replace("${env:ACME_TEST_KEY}", key);
    let _gateway = fixture.gateway(&account, certificates);
    fixture.waits_for(fixture.tls, "a.test");
}

#[test]
fn what_cannot_be_proved_is_told_and_something_is_served_meanwhile() {
    let fixture = Fixture::new();
    // The authority looks elsewhere, where nobody answers.
    let (http, tls) = (free_address(), free_address());
    let gateway = fixture.gateway_at(
        http,
        tls,
        "acme",
        "",
        "[{ name: a, acme: { hosts: [a.test] } }]",
    );
    let line = gateway.stderr.wait_for("the failure", |text| {
        let mut lines = text.lines().map(str::to_owned);
        lines.find(|line| line.contains("certificate_not_issued"))
    });
    assert!(
        line.contains("did not accept that `a.test` is ours"),
        "{line}"
    );
    assert!(line.contains("has to lead to this gateway"), "{line}");
    let shown = tool::s_client(tls, &["-servername", "a.test"]);
    assert!(shown.stdout.contains("Cardea stand-in"), "{}", shown.stdout);
    let told = gateway.admin("GET", "/certs").json();
    assert_eq!(told[0]["is_stand_in"], true);
    assert_eq!(told[0]["source"]["order"]["state"], "waiting");
    assert!(told[0]["source"]["order"]["next"].is_number(), "{told}");
    // It is not tried again at once.
    assert_eq!(count(&gateway, "certificate_ordering"), 1);
    let checked = gateway.site().cardea(&["check", "--config", "cardea.yaml"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains("not issued yet"), "{checked:?}");
}

#[test]
fn one_gateway_orders_and_all_of_them_answer_and_serve() {
    let fixture = Fixture::new();
    let shared = Site::new();
    let storage = shared.path().join("acme").display().to_string();
    let certificates = "[{ name: a, acme: { hosts: [a.test] } }]";
    // The authority comes to the first; the others order as well.
    let first = fixture.gateway_at(fixture.http, fixture.tls, &storage, "", certificates);
    let others: Vec<(SocketAddr, Gateway)> = (0..2)
        .map(|_| {
            let tls = free_address();
            let gateway = fixture.gateway_at(free_address(), tls, &storage, "", certificates);
            (tls, gateway)
        })
        .collect();
    let served = fixture.waits_for(fixture.tls, "a.test");
    for (address, _) in &others {
        assert_eq!(fixture.waits_for(*address, "a.test"), served);
    }
    let orders = |gateway: &Gateway| count(gateway, "certificate_ordering");
    let total = orders(&first) + others.iter().map(|(_, it)| orders(it)).sum::<usize>();
    assert_eq!(total, 1);
}

#[test]
fn a_gateway_that_does_not_order_answers_for_one_that_does() {
    let fixture = Fixture::new();
    let shared = Site::new();
    let storage = shared.path().join("acme").display().to_string();
    // It has another certificate, and shares the storage.
    let site_certificates = "[{ name: other, acme: { hosts: [b.test] } }]";
    let answering = fixture.gateway_at(fixture.http, fixture.tls, &storage, "", site_certificates);
    fixture.waits_for(fixture.tls, "b.test");
    let tls = free_address();
    let certificates = "[{ name: a, acme: { hosts: [a.test] } }]";
    let _ordering = fixture.gateway_at(free_address(), tls, &storage, "", certificates);
    fixture.waits_for(tls, "a.test");
    assert_eq!(count(&answering, "certificate=a"), 0);
}

#[test]
fn an_order_goes_on_where_it_was_killed() {
    let fixture = Fixture::new();
    let shared = Site::new();
    let storage = shared.path().join("acme");
    let path = storage.display().to_string();
    let certificates = "[{ name: a, acme: { hosts: [a.test] } }]";
    let order = storage.join("orders/a%20pebble.json");
    // Killed as soon as the order is written down, and later each time.
    for moment in 0..4 {
        let gateway = fixture.gateway_at(fixture.http, fixture.tls, &path, "", certificates);
        wait::until_true("an order is under way, or done", || {
            order.exists() || storage.join("certificates/a.pem").exists()
        });
        for _ in 0..moment * 20 {
            let _ = std::fs::read(&order);
            std::thread::yield_now();
        }
        gateway.signal(rustix::process::Signal::KILL);
    }
    let _gateway = fixture.gateway_at(fixture.http, fixture.tls, &path, "", certificates);
    fixture.waits_for(fixture.tls, "a.test");
    let accounts = std::fs::read_dir(storage.join("accounts")).expect("accounts");
    assert_eq!(accounts.count(), 1);
    assert!(!order.exists());
}

#[test]
fn a_certificate_may_be_ordered_and_given_up_by_a_reload() {
    let fixture = Fixture::new();
    let gateway = fixture.gateway("", "[{ name: a, acme: { hosts: [a.test] } }]");
    fixture.waits_for(fixture.tls, "a.test");
    let config = std::fs::read_to_string(gateway.site().config_path()).expect("a configuration");
    let more = config.replace(
        "certificates: [",
        "certificates: [{ name: b, acme: { hosts: [b.test] } }, ",
    );
    gateway.configure(&more, &[]);
    fixture.waits_for(fixture.tls, "b.test");
    let less = config.replace(
        "{ name: a, acme: { hosts: [a.test] } }",
        "{ name: b, acme: { hosts: [b.test] } }",
    );
    gateway.configure(&less, &[]);
    let told = gateway.admin("GET", "/certs").json();
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
    fixture.waits_for(fixture.tls, "b.test");
    assert_eq!(count(&gateway, "certificate_ordering"), 2);
}

#[test]
fn what_makes_no_sense_is_told() {
    let site = Site::new();
    let check = |acme: &str, certificate: &str, expected: &str| {
        let config = format!(
            "listeners: [{{ name: secure, bind: [\"127.0.0.1:0\"], tls: {{}} }}]\n\
             {acme}\n\
             certificates: [{{ name: a, {certificate} }}]\n\
             domains: [{{ hosts: [a.test], policies: {{ respond: {{}} }} }}]\n"
        );
        site.configure(&config, &[]);
        let told = site.cardea(&["check", "--config", "cardea.yaml"]);
        assert_ne!(told.code, Some(0), "{acme} {certificate}");
        assert!(
            told.stderr.contains(expected),
            "{certificate}: {}",
            told.stderr
        );
    };
    let acme =
        "acme: { storage: s, issuers: [{ name: le, directory: letsencrypt, terms_agreed: true }] }";
    check("", "acme: { hosts: [a.test] }", "no `acme` section");
    check(acme, "acme: {}", "for no host");
    check(
        acme,
        "acme: { hosts: [\"*.a.test\"] }",
        "wildcards need `challenge: dns-01`",
    );
    check(
        acme,
        "acme: { hosts: [a.test], issuers: [let] }",
        "there is no issuer `let`",
    );
    check(
        acme,
        "acme: { hosts: [a.test] }, chain: x, key: y",
        "ordered as well",
    );
    check(acme, "chain: x", "has no `key`");
    let without = acme.replace(", terms_agreed: true", "");
    check(&without, "acme: { hosts: [a.test] }", "terms");
    let update = "challenge: { dns-01: { rfc2136: { server: x, key: k, secret: \"?\" } } }";
    let keyless = acme.replace(
        "terms_agreed: true",
        &format!("terms_agreed: true, {update}"),
    );
    check(
        &keyless,
        "acme: { hosts: [a.test] }",
        "`secret` of issuer `le` is no base64",
    );
    let plain = acme.replace("directory: letsencrypt", "directory: \"http://x/\"");
    check(
        &plain,
        "acme: { hosts: [a.test] }",
        "no directory of an authority",
    );
}

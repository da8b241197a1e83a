//! What an authority says about a certificate, stapled to handshakes.

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::responder::Responder;
use cardea_tests::wait;
use cardea_tests::{Gateway, Origin, tool};
use rcgen::CustomExtension;

const SERIAL: u64 = 4711;

const CONFIG: &str = r#"
listeners:
  - { name: secure, bind: ["127.0.0.1:0"], tls: {} }
ocsp: <ocsp>
certificates:
  - { name: main, chain: main.pem, key: main.key }
domains:
  - { hosts: [a.test], routes: [{ to: origin }] }
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;

struct Fixture {
    authority: Authority,
    responder: Responder,
    origin: Origin,
}

impl Fixture {
    fn new() -> Self {
        let authority = Authority::new("it answers for what it issued");
        let responder = Responder::start(&authority);
        responder.say(SERIAL, true);
        Self {
            authority,
            responder,
            origin: Origin::echo(),
        }
    }

    /// A site whose certificate says where to ask, and comes with its issuer.
    fn site(&self) -> Site {
        let site = Site::new();
        let mut identity = self.authority.issue_with(&["a.test"], |params| {
            params.serial_number = Some(SERIAL.into());
            let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
            let access = CustomExtension::from_oid_content(oid, self.responder.access());
            params.custom_extensions.push(access);
        });
        identity.chain_pem += &self.authority.pem();
        identity.save(site.path(), "main");
        site
    }

    fn gateway(&self, site: Site, ocsp: &str) -> Gateway {
        let values = [
            ("ocsp", &ocsp as &dyn std::fmt::Display),
            ("origin", &self.origin.address()),
        ];
        site.start(CONFIG, &values)
    }
}

/// What OpenSSL sees of the staple in a handshake.
fn seen(gateway: &Gateway) -> String {
    let said = tool::s_client(
        gateway.listener("secure"),
        &["-servername", "a.test", "-status"],
    );
    said.stdout
}

const STAPLED: &str = "OCSP Response Status: successful";
const NOT_STAPLED: &str = "OCSP response: no response sent";

fn shown(gateway: &Gateway) -> serde_json::Value {
    gateway.admin("GET", "/certs").json()[0]["ocsp"].clone()
}

#[test]
fn the_authoritys_word_is_stapled_and_kept_over_a_restart() {
    let mut fixture = Fixture::new();
    let gateway = fixture.gateway(fixture.site(), "{ storage: answers }");
    gateway.stderr.wait_for_line("ocsp_stapled");
    let said = seen(&gateway);
    assert!(said.contains(STAPLED), "{said}");
    assert!(said.contains("Cert Status: good"), "{said}");
    let until = gateway.metric(
        "cardea_certificate_staple_expiry_seconds",
        &[("certificate", "main")],
    );
    assert!(until.is_some_and(|until| until > 1e9), "{until:?}");
    assert_eq!(shown(&gateway)["error"], serde_json::Value::Null);
    // It goes on after a restart, though nobody answers any more, from the first handshake.
    fixture.responder.origin.stop();
    let asked = fixture.responder.origin.requests().len();
    let gateway = gateway.restart();
    let said = seen(&gateway);
    assert!(said.contains(STAPLED), "{said}");
    assert_eq!(asked, 1);
}

#[test]
fn a_revoked_certificate_is_told_to_its_operator() {
    let fixture = Fixture::new();
    fixture.responder.say(SERIAL, false);
    let gateway = fixture.gateway(fixture.site(), "{}");
    let line = gateway.stderr.wait_for_line("ocsp_not_stapled");
    assert!(
        line.contains("the certificate was revoked at 2025-01-01"),
        "{line}"
    );
    assert!(line.contains("Replace the certificate"), "{line}");
    assert!(seen(&gateway).contains(NOT_STAPLED));
}

#[test]
fn an_answer_that_somebody_else_signed_is_not_believed() {
    let fixture = Fixture::new();
    fixture.responder.sign_by(&Authority::new("an impostor"));
    let gateway = fixture.gateway(fixture.site(), "{}");
    wait::until_true("the answer was examined", || {
        shown(&gateway)["error"].is_string()
    });
    let shown = shown(&gateway);
    let error = shown["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("neither the certificate's issuer nor a responder"),
        "{error}"
    );
    assert!(seen(&gateway).contains(NOT_STAPLED));
}

#[test]
fn nobody_answers() {
    let mut fixture = Fixture::new();
    fixture.responder.origin.stop();
    let gateway = fixture.gateway(fixture.site(), "{}");
    wait::until_true("the responder was asked", || {
        shown(&gateway)["error"].is_string()
    });
    let shown = shown(&gateway);
    let error = shown["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("gave no answer") && error.contains("refused"),
        "{error}"
    );
    assert!(seen(&gateway).contains(NOT_STAPLED));
}

#[test]
fn off_asks_nobody() {
    let fixture = Fixture::new();
    let gateway = fixture.gateway(fixture.site(), "off");
    assert!(seen(&gateway).contains(NOT_STAPLED));
    assert_eq!(shown(&gateway), serde_json::Value::Null);
    // Switched on, it asks at once; switched off again, it staples no more.
    let configure = |ocsp: &str| {
        let values = [
            ("ocsp", &ocsp as &dyn std::fmt::Display),
            ("origin", &fixture.origin.address()),
        ];
        gateway.configure(CONFIG, &values);
        assert_eq!(gateway.reload().code, Some(0));
    };
    assert_eq!(fixture.responder.origin.requests().len(), 0);
    configure("{}");
    wait::until_true("it is stapled", || seen(&gateway).contains(STAPLED));
    configure("off");
    assert!(seen(&gateway).contains(NOT_STAPLED));
}

/// New files bring a new question, and until it is answered no staple of the old ones.
#[test]
fn a_replaced_certificate_gets_a_staple_of_its_own() {
    let fixture = Fixture::new();
    let gateway = fixture.gateway(fixture.site(), "{}");
    wait::until_true("it is stapled", || seen(&gateway).contains(STAPLED));
    let before = std::fs::read(gateway.site().path().join("main.pem")).expect("a chain");
    let again = fixture.site();
    for file in ["main.pem", "main.key"] {
        let new = std::fs::read(again.path().join(file)).expect("a file");
        gateway.site().write(file, &String::from_utf8_lossy(&new));
    }
    assert_ne!(
        before,
        std::fs::read(gateway.site().path().join("main.pem")).expect("a chain")
    );
    wait::until_true("it was asked again", || {
        fixture.responder.origin.requests().len() == 2 && seen(&gateway).contains(STAPLED)
    });
}

//! TLS towards clients: which certificate, which versions, how handshakes end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::tls::ClientTls;
use cardea_tests::wait::{self, BOUND};
use cardea_tests::{Client, Gateway, Origin, tool};
use rustls::{ClientConfig, HandshakeKind};

mod clients;
mod early_data;
mod floods;
mod handshakes;
mod policies;
mod renewal;
mod stapling;

/// Three certificates: `a.test`, `*.w.test` and the default one for `default.test`.
pub(crate) const CONFIG: &str = r#"
listeners:
  - { name: secure, bind: ["127.0.0.1:0"], tls: {} }
certificates:
  - { name: exact, chain: exact.pem, key: exact.key }
  - { name: wild, chain: wild.pem, key: wild.key }
  - { name: main, chain: main.pem, key: main.key, default: true }
domains:
  - { hosts: [a.test, "*.w.test", default.test], routes: [{ to: origin }] }
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;

pub(crate) struct Secure {
    pub(crate) authority: Authority,
    pub(crate) gateway: Gateway,
    pub(crate) origin: Origin,
}

impl Secure {
    pub(crate) fn start() -> Self {
        Self::with(CONFIG)
    }

    pub(crate) fn with(config: &str) -> Self {
        Self::before(config, Origin::echo())
    }

    /// In front of an origin of the test's own.
    fn before(config: &str, origin: Origin) -> Self {
        let authority = Authority::new("clients trust this");
        let site = Site::new();
        for (name, hosts) in [
            ("exact", &["a.test"][..]),
            ("wild", &["*.w.test"]),
            ("main", &["default.test"]),
        ] {
            authority.issue(hosts).save(site.path(), name);
        }
        let gateway = site.start(config, &[("origin", &origin.address())]);
        Self {
            authority,
            gateway,
            origin,
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        self.gateway.listener("secure")
    }

    fn connect(&self, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Client> {
        Client::try_connect_tls(self.address(), config, name)
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        self.connect(&ClientTls::trusting(&self.authority).config(), name)
            .unwrap_or_else(|error| panic!("TLS as {name}: {error}"))
    }

    /// The certificate that a client gets that asks for `name` with openssl.
    fn subject_for(&self, name: &str) -> String {
        let asking: &[&str] = if name.is_empty() {
            &["-noservername"]
        } else {
            &["-servername", name]
        };
        let shown = tool::s_client(self.address(), asking).stdout;
        let line = shown
            .lines()
            .find_map(|line| line.trim().strip_prefix("0 s:"));
        line.unwrap_or_else(|| panic!("no certificate for {name}:\n{shown}"))
            .replace(' ', "")
    }
}

#[test]
fn https_end_to_end() {
    let secure = Secure::start();
    let mut client = secure.client("a.test");
    for _ in 0..3 {
        assert_eq!(client.get("a.test", "/x").status, 200);
    }
    let seen = secure.origin.last_request();
    assert_eq!(seen.field("x-forwarded-proto"), Some("https"));
    let line = secure
        .gateway
        .log_line("the exchange", |line| line["status"] == 200);
    assert_eq!(line["tls_version"], "TLSv1.3", "{line}");
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let secure = Secure::start();
    for (name, subject) in [
        ("a.test", "CN=a.test"),
        ("x.w.test", "CN=*.w.test"),
        ("default.test", "CN=default.test"),
        ("unknown.test", "CN=default.test"),
        ("x.y.w.test", "CN=default.test"),
        ("w.test", "CN=default.test"),
        ("", "CN=default.test"),
    ] {
        assert_eq!(secure.subject_for(name), subject, "{name}");
    }
}

#[test]
fn a_domain_chooses_its_certificate() {
    let chosen = |name: &str| {
        let domain = format!("name: b, certificate: {name}, hosts: [b.w.test, b.test]");
        CONFIG.replace(
            "domains:",
            &format!("domains:\n  - {{ {domain}, routes: [{{ to: origin }}] }}"),
        )
    };
    let secure = Secure::with(&chosen("wild"));
    for (name, subject) in [
        ("b.test", "CN=*.w.test"),
        ("b.w.test", "CN=*.w.test"),
        ("a.test", "CN=a.test"),
    ] {
        assert_eq!(secure.subject_for(name), subject, "{name}");
    }
    // What it chose is no good for one of its hosts, and whoever checks is told.
    let site = secure.gateway.site();
    let path = site.config_path();
    let told = site.cardea(&["check", "--config", &path.display().to_string()]);
    assert!(
        told.stderr.contains("no certificate covers `b.test`"),
        "{told:?}"
    );
    assert!(!told.stderr.contains("covers `b.w.test`"), "{told:?}");
    // Another choice takes effect like any other change.
    let origin = secure.origin.address();
    secure
        .gateway
        .configure(&chosen("exact"), &[("origin", &origin)]);
    assert_eq!(secure.gateway.reload().code, Some(0));
    assert_eq!(secure.subject_for("b.w.test"), "CN=a.test");
}

#[test]
fn versions_and_alpn() {
    use rustls::version::{TLS12, TLS13};
    let secure = Secure::start();
    for version in [&TLS12, &TLS13] {
        let tls = ClientTls {
            versions: &[version],
            alpn: &["http/1.1"],
            ..ClientTls::trusting(&secure.authority)
        };
        let mut client = secure
            .connect(&tls.config(), "a.test")
            .expect("a handshake");
        assert_eq!(client.tls().protocol_version(), Some(version.version));
        assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(client.get("a.test", "/").status, 200);
        // HTTP/2 is preferred, whatever the client's order.
        let both = ClientTls {
            alpn: &["http/1.1", "h2"],
            ..tls
        };
        let client = secure.connect(&both.config(), "a.test");
        let client = client.expect("a handshake");
        assert_eq!(client.tls().alpn_protocol(), Some(&b"h2"[..]));
    }
    // A client without ALPN speaks HTTP/1.1; one that wants something else is refused.
    assert_eq!(secure.client("a.test").get("a.test", "/").status, 200);
    let tls = ClientTls {
        alpn: &["smtp"],
        ..ClientTls::trusting(&secure.authority)
    };
    assert!(secure.connect(&tls.config(), "a.test").is_err());
}

#[test]
fn a_least_version() {
    let secure = Secure::with(&CONFIG.replace("tls: {}", "tls: { min_version: \"1.3\" }"));
    let old = ClientTls {
        versions: &[&rustls::version::TLS12],
        ..ClientTls::trusting(&secure.authority)
    };
    assert!(secure.connect(&old.config(), "a.test").is_err());
    assert_eq!(secure.client("a.test").get("a.test", "/").status, 200);
    // Nothing older than 1.2 exists here at all.
    let secure = Secure::start();
    let ended = tool::s_client(secure.address(), &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(!ended.stdout.contains("New, TLSv1.1"), "{}", ended.stdout);
    assert_ne!(ended.code, Some(0));
}

#[test]
fn sessions_are_resumed() {
    use rustls::version::{TLS12, TLS13};
    let secure = Secure::start();
    for version in [&TLS12, &TLS13] {
        let config = ClientTls {
            versions: &[version],
            ..ClientTls::trusting(&secure.authority)
        }
        .config();
        let kinds: Vec<_> = (0..6)
            .map(|_| {
                let mut client = secure.connect(&config, "a.test").expect("a handshake");
                // Tickets come with the first bytes after the handshake.
                assert_eq!(client.get("a.test", "/").status, 200);
                client.tls().handshake_kind()
            })
            .collect();
        // The listener's sockets belong to different workers; a session is resumed on any.
        assert_eq!(kinds[0], Some(HandshakeKind::Full), "{version:?}");
        assert!(
            kinds[1..]
                .iter()
                .all(|kind| *kind == Some(HandshakeKind::Resumed)),
            "{kinds:?}"
        );
    }
    let resumed = secure
        .gateway
        .metric("cardea_tls_handshakes_total", &[("result", "resumed")]);
    assert_eq!(resumed, Some(10.0));
}

#[test]
fn post_quantum_key_exchange_is_preferred() {
    let secure = Secure::start();
    let client = secure.client("a.test");
    let group = client
        .tls()
        .negotiated_key_exchange_group()
        .map(|group| group.name());
    assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768));
    // A client that knows no such thing is served all the same.
    let shown = tool::s_client(
        secure.address(),
        &["-servername", "a.test", "-groups", "X25519"],
    );
    assert!(shown.stdout.contains("X25519"), "{}", shown.stdout);
}

#[test]
fn expiry_is_a_metric_and_in_the_log() {
    let authority = Authority::new("clients trust this");
    let site = Site::new();
    let end = SystemTime::now() + Duration::from_secs(43_200);
    for name in ["exact", "wild", "main"] {
        authority
            .issue_until(&["a.test"], end)
            .save(site.path(), name);
    }
    let origin = Origin::echo();
    let gateway = site.start(CONFIG, &[("origin", &origin.address())]);
    let expected = end
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64();
    // Whoever reads the log is told at the start.
    let told = gateway.stderr.wait_for_line("certificate_expires");
    for part in ["it expires on", "certificate=", "remedy="] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let found = gateway.metric(
        "cardea_certificate_expiry_seconds",
        &[("certificate", "exact")],
    );
    assert!(
        found.is_some_and(|found| (found - expected).abs() < 2.0),
        "{found:?} {expected}"
    );
}

#[test]
fn plain_http_on_a_tls_listener() {
    let secure = Secure::start();
    let mut plain = Client::connect(secure.address());
    plain.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    // In the words of the protocol that the client speaks.
    crate::fixture::assert_refused(&plain.response(), 400, "plain_http", "plain HTTP");
    plain.assert_closed();
    let counted = [("listener", "secure"), ("result", "plain_http")];
    let metric = "cardea_tls_handshakes_total";
    secure.gateway.wait_for_metric(metric, &counted, 1.0);
}

#[test]
fn large_bodies_over_tls() {
    let secure = Secure::start();
    let mut client = secure.client("a.test");
    let body = "0123456789".repeat(200_000);
    client.send(crate::fixture::post("a.test", "/", &body));
    assert_eq!(client.response().json()["body"], body);
    client.half_close();
    client.assert_closed();
}

#[test]
fn a_host_of_another_certificate_on_the_same_connection() {
    // Same TLS policy, so no harm in it (RFC 9110 §15.5.20 asks for 421 only when it differs).
    let secure = Secure::start();
    let mut client = secure.client("a.test");
    assert_eq!(client.get("a.test", "/").status, 200);
    assert_eq!(client.get("default.test", "/").status, 200);
    let response = client.get("nobody.test", "/");
    assert_eq!(
        (response.status, response.reason()),
        (404, Some("domain_unknown"))
    );
}

/// A raw connection to the TLS listener.
fn raw(secure: &Secure) -> TcpStream {
    let tcp = TcpStream::connect(secure.address()).expect("a listener");
    tcp.set_nodelay(true).expect("set TCP_NODELAY");
    tcp.set_read_timeout(Some(BOUND))
        .expect("set the read timeout");
    tcp
}

/// Everything that comes until the end of a connection.
fn rest_of(tcp: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    tcp.read_to_end(&mut rest).map(|_| rest)
}

/// Sends bytes one at a time.
fn drip(tcp: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    bytes.iter().try_for_each(|byte| tcp.write_all(&[*byte]))
}

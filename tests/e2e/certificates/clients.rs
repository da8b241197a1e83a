//! Clients that say who they are: who comes in, who is told of it, and who cannot pretend.

use std::path::PathBuf;

use cardea_tests::certificate::{Authority, Identity};
use cardea_tests::gateway::Site;
use cardea_tests::tls::ClientTls;
use cardea_tests::{Client, Ending, Gateway, Origin, http2, tool, wait};
use data_encoding::BASE64;
use rcgen::{CertificateParams, SanType};

use crate::fixture::assert_refused;

/// One domain that demands a certificate, one that asks for it, one that does neither; a plain
/// listener beside.
const CONFIG: &str = r#"
listeners:
  - { name: secure, bind: ["127.0.0.1:0"], tls: {} }
  - { name: web, bind: ["127.0.0.1:0"] }
forwarding: { client_certificate: both, trusted_proxies: [<trusted>] }
certificates:
  - { name: main, chain: main.pem, key: main.key }
domains:
  - hosts: [staff.test]
    tls: { client_certificates: { ca: clients.pem, crl: [clients.crl] <rules> } }
    routes: [{ to: origin }]
  - hosts: [mixed.test]
    tls: { client_certificates: { mode: optional, ca: clients.pem } }
    routes:
      - match: [{ path: { prefix: / }, client: { uri: "spiffe://test/ns/*" } }]
        policies: { header_edits: { request: { set: { x-route: service } } } }
        to: origin
      - match: [{ path: { prefix: /admin } }]
        policies: { client_access: { allow: [{ dns: admin.clients.test }] } }
        to: origin
      - to: origin
  - hosts: [open.test]
    routes: [{ to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;

struct Mutual {
    servers: Authority,
    clients: Authority,
    gateway: Gateway,
    origin: Origin,
}

impl Mutual {
    fn start() -> Self {
        Self::with("", "192.0.2.1")
    }

    fn with(rules: &str, trusted: &str) -> Self {
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let site = Site::new();
        let hosts = ["staff.test", "mixed.test", "open.test"];
        servers.issue(&hosts).save(site.path(), "main");
        clients.save(site.path(), "clients");
        site.write("clients.crl", &clients.revoke(&[99]));
        let origin = Origin::echo();
        let values = [
            ("origin", &origin.address() as &dyn std::fmt::Display),
            ("rules", &rules),
            ("trusted", &trusted),
        ];
        let gateway = site.start(CONFIG, &values);
        Self {
            servers,
            clients,
            gateway,
            origin,
        }
    }

    fn connect(&self, name: &str, identity: Option<&Identity>) -> std::io::Result<Client> {
        let tls = ClientTls {
            identity,
            ..ClientTls::trusting(&self.servers)
        };
        Client::try_connect_tls(self.gateway.listener("secure"), &tls.config(), name)
    }

    fn client(&self, name: &str, identity: Option<&Identity>) -> Client {
        self.connect(name, identity)
            .unwrap_or_else(|error| panic!("TLS as {name}: {error}"))
    }

    /// Whether a client comes in. In TLS 1.3 it learns only with the first answer that it does not.
    fn lets_in(&self, name: &str, identity: Option<&Identity>) -> bool {
        let Ok(mut client) = self.connect(name, identity) else {
            return false;
        };
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
        ));
        let (answer, ending) = client.take_rest();
        assert_ne!(ending, Ending::Silence);
        answer.starts_with(b"HTTP/1.1 200")
    }

    fn waits_for(&self, result: &str, count: f64) {
        let labels = [("listener", "secure"), ("result", result)];
        let metric = "cardea_tls_handshakes_total";
        self.gateway.wait_for_metric(metric, &labels, count);
    }
}

fn with_uri(uri: &'static str, serial: u64) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        let uri = SanType::URI(uri.try_into().expect("ASCII"));
        params.subject_alt_names.push(uri);
        params.serial_number = Some(serial.into());
    }
}

#[test]
fn a_domain_lets_in_whom_its_authority_vouches_for() {
    let mutual = Mutual::start();
    let good = mutual.clients.issue(&["web.clients.test"]);
    assert!(mutual.lets_in("staff.test", Some(&good)));
    assert!(!mutual.lets_in("staff.test", None));
    mutual.waits_for("client_certificate_missing", 1.0);
    let stranger = Authority::new("clients").issue(&["web.clients.test"]);
    assert!(!mutual.lets_in("staff.test", Some(&stranger)));
    mutual.waits_for("client_certificate_invalid", 1.0);
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let expired = mutual.clients.issue_until(&["web.clients.test"], past);
    assert!(!mutual.lets_in("staff.test", Some(&expired)));
    mutual.waits_for("client_certificate_expired", 1.0);
    // Nobody is asked elsewhere, and nothing of this is in the log.
    assert!(mutual.lets_in("open.test", None));
    let said = mutual.gateway.stderr.text();
    assert!(!said.contains("handshake"), "{said}");
}

#[test]
fn curl_comes_in_with_a_certificate_and_not_without() {
    let mutual = Mutual::start();
    let site = mutual.gateway.site().path().to_owned();
    mutual
        .clients
        .issue(&["curl.clients.test"])
        .save(&site, "curl");
    mutual.servers.save(&site, "servers");
    let port = mutual.gateway.listener("secure").port();
    let file = |name: &str| -> String { site.join(name).display().to_string() };
    let resolve = format!("staff.test:{port}:127.0.0.1");
    let url = format!("https://staff.test:{port}/");
    let ca = file("servers.pem");
    let ask = |more: &[&str]| {
        let base = [
            "--cacert",
            &ca,
            "--resolve",
            &resolve,
            "--write-out",
            "%{http_code}",
        ];
        tool::curl(&[&base[..], more, &[&url]].concat())
    };
    let (certificate, key) = (file("curl.pem"), file("curl.key"));
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let version = version.replace('=', " ");
        let version: Vec<&str> = version.split(' ').collect();
        let with = ["--cert", &certificate, "--key", &key];
        let let_in = ask(&[&version[..], &with].concat());
        assert!(let_in.stdout.ends_with("200"), "{let_in:?}");
        let refused = ask(&version);
        assert!(
            refused.stderr.contains("certificate required")
                || refused.stderr.contains("handshake failure"),
            "{refused:?}"
        );
    }
}

#[test]
fn whoever_is_revoked_stays_out_from_the_moment_the_list_is_saved() {
    let mutual = Mutual::start();
    let revoked = mutual
        .clients
        .issue_with(&["a"], with_uri("spiffe://test/a", 99));
    let soon = mutual
        .clients
        .issue_with(&["b"], with_uri("spiffe://test/b", 100));
    assert!(!mutual.lets_in("staff.test", Some(&revoked)));
    mutual.waits_for("client_certificate_revoked", 1.0);
    // A session from before the list changed opens nothing after it.
    let tls = ClientTls {
        identity: Some(&soon),
        ..ClientTls::trusting(&mutual.servers)
    };
    let config = tls.config();
    let address = mutual.gateway.listener("secure");
    let connect = || Client::try_connect_tls(address, &config, "staff.test");
    let mut open = connect().expect("a handshake");
    assert_eq!(open.get("staff.test", "/").status, 200);
    let list = mutual.clients.revoke(&[99, 100]);
    mutual.gateway.site().write("clients.crl", &list);
    wait::until_true("the new list counts", || {
        !mutual.lets_in("staff.test", Some(&soon))
    });
    let comes_back = connect().is_ok_and(|mut client| {
        client.send("GET / HTTP/1.1\r\nHost: staff.test\r\nConnection: close\r\n\r\n");
        client.take_rest().0.starts_with(b"HTTP/1.1 200")
    });
    assert!(!comes_back, "a session outlived the certificate");
    // Nor does the connection that was open all the while.
    assert_refused(
        &open.get("staff.test", "/"),
        421,
        "misdirected",
        "an old connection",
    );
    // A list that cannot be read changes nothing and is told.
    mutual.gateway.site().write("clients.crl", "rubbish");
    let metric = "cardea_config_last_reload_successful";
    mutual.gateway.wait_for_metric(metric, &[], 0.0);
    let good = mutual
        .clients
        .issue_with(&["c"], with_uri("spiffe://test/c", 101));
    assert!(mutual.lets_in("staff.test", Some(&good)));
}

#[test]
fn rules_say_who_may_come() {
    let mutual = Mutual::with(
        ", allow: [{ uri: \"spiffe://test/ns/prod/*\" }, { subject: CN=ops.test }]",
        "192.0.2.1",
    );
    let issue = |name: &'static str, uri: &'static str| {
        mutual.clients.issue_with(&[name], with_uri(uri, 1))
    };
    let check = |identity: Identity, expected: bool| {
        assert_eq!(mutual.lets_in("staff.test", Some(&identity)), expected);
    };
    check(issue("web.test", "spiffe://test/ns/prod/web"), true);
    check(issue("ops.test", "spiffe://test/ns/dev/ops"), true);
    check(issue("web.test", "spiffe://test/ns/dev/web"), false);
    check(issue("ops.test.evil", "x:spiffe://test/ns/prod/web"), false);
    mutual.waits_for("client_certificate_denied", 2.0);
}

#[test]
fn origins_are_told_and_clients_cannot_pretend() {
    let mutual = Mutual::start();
    let identity = mutual
        .clients
        .issue_with(&["web.clients.test"], with_uri("spiffe://test/ns/web;x", 5));
    let forged = "X-Forwarded-Client-Cert: Hash=00;Subject=\"CN=admin\"\r\n\
        Client-Cert: :AAAA:\r\nClient-Cert-Chain: :AAAA:\r\n";
    let ask = |client: &mut Client, host: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{forged}\r\n");
        assert_eq!(client.ask(request).status, 200);
        mutual.origin.last_request()
    };
    let seen = ask(
        &mut mutual.client("staff.test", Some(&identity)),
        "staff.test",
    );
    let leaf = &identity.chain()[0];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
    let hash = data_encoding::HEXLOWER.encode(hash.as_ref());
    let expected = format!(
        "Hash={hash};Subject=\"CN=web.clients.test\";URI=\"spiffe://test/ns/web;x\";DNS=web.clients.test"
    );
    assert_eq!(seen.field("x-forwarded-client-cert"), Some(&*expected));
    let binary = format!(":{}:", BASE64.encode(leaf));
    assert_eq!(seen.field("client-cert"), Some(&*binary));
    assert_eq!(seen.field("client-cert-chain"), None);
    // Whoever shows no certificate has none, whatever it says, with TLS or without.
    let mut without = [
        (mutual.client("mixed.test", None), "mixed.test"),
        (mutual.client("open.test", None), "open.test"),
        (mutual.gateway.client(), "open.test"),
    ];
    for (client, host) in &mut without {
        let seen = ask(client, host);
        for name in [
            "x-forwarded-client-cert",
            "client-cert",
            "client-cert-chain",
        ] {
            assert_eq!(seen.field(name), None, "{host}");
        }
    }
}

#[test]
fn a_trusted_proxy_is_believed_and_continued() {
    let mutual = Mutual::with("", "127.0.0.0/8");
    let identity = mutual.clients.issue(&["proxy.clients.test"]);
    let told = "X-Forwarded-Client-Cert: Hash=11;Subject=\"CN=user\"\r\nClient-Cert: :AAAA:\r\n";
    let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n{told}\r\n");
    let mut proxy = mutual.client("staff.test", Some(&identity));
    assert_eq!(proxy.ask(request("staff.test")).status, 200);
    let seen = mutual.origin.last_request();
    let xfcc = seen.field("x-forwarded-client-cert").expect("a field");
    assert!(
        xfcc.starts_with("Hash=11;Subject=\"CN=user\",Hash="),
        "{xfcc}"
    );
    assert!(xfcc.ends_with("DNS=proxy.clients.test"), "{xfcc}");
    assert_ne!(seen.field("client-cert"), Some(":AAAA:"));
    let mut plain = mutual.gateway.client();
    assert_eq!(plain.ask(request("open.test")).status, 200);
    let seen = mutual.origin.last_request();
    assert_eq!(
        seen.field("x-forwarded-client-cert"),
        Some("Hash=11;Subject=\"CN=user\"")
    );
    assert_eq!(seen.field("client-cert"), Some(":AAAA:"));
}

#[test]
fn routes_policies_and_the_log_know_the_client() {
    let mutual = Mutual::start();
    let service = mutual
        .clients
        .issue_with(&["web.clients.test"], with_uri("spiffe://test/ns/web", 7));
    let admin = mutual.clients.issue(&["admin.clients.test"]);
    let other = mutual.clients.issue(&["other.clients.test"]);
    let mut client = mutual.client("mixed.test", Some(&service));
    assert_eq!(client.get("mixed.test", "/").status, 200);
    let seen = mutual.origin.last_request();
    assert_eq!(seen.field("x-route"), Some("service"));
    let line = mutual
        .gateway
        .log_line("the exchange", |line| line["status"] == 200);
    assert_eq!(line["client_subject"], "CN=web.clients.test");
    assert_eq!(line["client_name"], "spiffe://test/ns/web");
    assert_eq!(line["client_fingerprint"].as_str().map(str::len), Some(64));

    let mut client = mutual.client("mixed.test", Some(&admin));
    assert_eq!(client.get("mixed.test", "/admin").status, 200);
    assert_eq!(mutual.origin.last_request().field("x-route"), None);
    let refused = mutual
        .client("mixed.test", Some(&other))
        .get("mixed.test", "/admin");
    assert_refused(&refused, 403, "client_denied", "another client");
    let refused = mutual
        .client("mixed.test", None)
        .get("mixed.test", "/admin");
    assert_refused(
        &refused,
        403,
        "client_certificate_required",
        "no certificate",
    );
    assert_eq!(
        mutual
            .client("mixed.test", None)
            .get("mixed.test", "/")
            .status,
        200
    );
}

#[test]
fn a_certificate_shown_to_one_domain_is_none_to_another() {
    let mutual = Mutual::start();
    let identity = mutual.clients.issue(&["web.clients.test"]);
    let mut client = mutual.client("open.test", Some(&identity));
    let refused = client.get("staff.test", "/");
    assert_refused(
        &refused,
        421,
        "misdirected",
        "a name that asked for nothing",
    );
    // The plain listener cannot ask at all.
    let refused = mutual.gateway.get("staff.test", "/");
    assert_refused(&refused, 421, "misdirected", "plain HTTP");
    assert_eq!(mutual.gateway.get("mixed.test", "/").status, 200);
    // A session made where nothing was asked opens nothing here.
    let site = mutual.gateway.site().path().to_owned();
    let session: PathBuf = site.join("session");
    let session = session.display().to_string();
    let address = mutual.gateway.listener("secure");
    for version in ["-tls1_2", "-tls1_3"] {
        let first = ["-servername", "open.test", version, "-sess_out", &session];
        tool::s_client(address, &first);
        let second = ["-servername", "staff.test", version, "-sess_in", &session];
        let shown = tool::s_client(address, &second);
        assert!(!shown.stdout.contains("Reused"), "{}", shown.stdout);
    }
    let told = mutual.gateway.site();
    let told = told.cardea(&["check", "--config", "cardea.yaml"]);
    assert!(
        told.stderr.contains("W-client-certificates-plain"),
        "{}",
        told.stderr
    );
}

#[test]
fn over_http2_a_certificate_counts_for_every_stream_of_its_connection() {
    let mutual = Mutual::start();
    let connect = |name: &str, identity: Option<&Identity>| {
        let tls = ClientTls {
            identity,
            alpn: &["h2"],
            ..ClientTls::trusting(&mutual.servers)
        };
        http2::Client::connect_tls(mutual.gateway.listener("secure"), &tls.config(), name)
    };
    let good = mutual.clients.issue(&["web.clients.test"]);
    let mut client = connect("staff.test", Some(&good));
    for _ in 0..2 {
        let mut fields = http2::request("GET", "staff.test", "/");
        // What it says of itself does not count.
        fields.push(("client-cert", ":bm90IG1l:"));
        assert_eq!(client.ask(&fields).status, 200);
        let shown = format!(":{}:", BASE64.encode(&good.chain()[0]));
        let seen = mutual.origin.last_request();
        assert_eq!(seen.field("client-cert"), Some(shown.as_str()));
    }
    // A connection that showed none leads nowhere where one is demanded.
    let mut client = connect("open.test", None);
    assert_eq!(client.get("open.test", "/").status, 200);
    let about = "from where nobody is asked";
    assert_refused(&client.get("staff.test", "/"), 421, "misdirected", about);
    let mut client = connect("mixed.test", None);
    assert_eq!(client.get("mixed.test", "/").status, 200);
    assert_eq!(client.get("mixed.test", "/admin").status, 403);
    let admin = mutual.clients.issue(&["admin.clients.test"]);
    let mut client = connect("mixed.test", Some(&admin));
    assert_eq!(client.get("mixed.test", "/admin").status, 200);
}

//! Whom upstream connections trust, and when a configuration is used again.

use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ServerConfig};

use super::*;
use crate::testing::{Authority, Wish, directory, handshake, place, replace, write};

struct Fixture {
    authority: Authority,
    clients: Authority,
    _directory: tempfile::TempDir,
    path: PathBuf,
}

const ENDPOINT: &[&str] = &["api.internal", "127.0.0.1", "::1"];

impl Fixture {
    fn new() -> Self {
        let (_directory, path) = directory();
        let authority = Authority::new("authority");
        write(&path.join("ca.pem"), &authority.certificate.pem());
        Self {
            authority,
            clients: Authority::new("authority of clients"),
            _directory,
            path,
        }
    }

    fn verified(&self) -> ClientSettings {
        ClientSettings {
            verify: Verify::Authorities(self.path.join("ca.pem")),
            ..ClientSettings::default()
        }
    }

    /// An endpoint with a certificate of the authority.
    fn endpoint(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.endpoint_of(&self.authority, names)
    }

    fn endpoint_of(&self, authority: &Authority, names: &[&str]) -> Arc<ServerConfig> {
        let wish = Wish {
            names,
            ..Wish::default()
        };
        let spec = place(&self.path, "endpoint", authority, &wish);
        let certificate = load::load(&spec.chain, &spec.key).unwrap();
        let resolver = SingleCertAndKey::from(certificate.certified);
        let builder = ServerConfig::builder_with_provider(provider::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(
            builder
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(resolver)),
        )
    }

    /// An endpoint that asks for a certificate of the clients' authority.
    fn strict_endpoint(&self) -> Arc<ServerConfig> {
        let roots = Arc::new(self.clients.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider::provider());
        let plain = self.endpoint(ENDPOINT);
        let builder = ServerConfig::builder_with_provider(provider::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(
            builder
                .with_client_cert_verifier(verifier.build().unwrap())
                .with_cert_resolver(Arc::clone(&plain.cert_resolver)),
        )
    }

    fn identity(&self) -> ClientIdentity {
        let wish = Wish {
            names: &["gateway"],
            for_clients: true,
            ..Wish::default()
        };
        let spec = place(&self.path, "client", &self.clients, &wish);
        ClientIdentity {
            chain: spec.chain,
            key: spec.key,
        }
    }
}

#[test]
fn verifies_authority_and_name() {
    let fixture = Fixture::new();
    let config = ClientConfigs::default()
        .config(&fixture.verified())
        .unwrap();
    let check = |endpoint: &Arc<ServerConfig>, name: &str, is_trusted: bool| {
        let outcome = handshake(&config, endpoint, name);
        assert_eq!(outcome.is_ok(), is_trusted, "{name}");
    };
    let endpoint = fixture.endpoint(ENDPOINT);
    check(&endpoint, "api.internal", true);
    check(&endpoint, "127.0.0.1", true);
    check(&endpoint, "[::1]", true);
    check(&endpoint, "::1", true);
    check(&endpoint, "other.internal", false);
    check(&endpoint, "127.0.0.2", false);
    let stranger = fixture.endpoint_of(&Authority::new("stranger"), ENDPOINT);
    check(&stranger, "api.internal", false);
}

#[test]
fn trusts_anyone_only_when_told_to() {
    let fixture = Fixture::new();
    let configs = ClientConfigs::default();
    let off = ClientSettings {
        verify: Verify::Off,
        ..ClientSettings::default()
    };
    let stranger = fixture.endpoint_of(&Authority::new("stranger"), &["else.test"]);
    let off = configs.config(&off).unwrap();
    handshake(&off, &stranger, "api.internal").unwrap();
    let verified = configs.config(&fixture.verified()).unwrap();
    handshake(&verified, &stranger, "api.internal").unwrap_err();
}

#[test]
fn shows_its_certificate_to_endpoints_that_ask() {
    let fixture = Fixture::new();
    let configs = ClientConfigs::default();
    let endpoint = fixture.strict_endpoint();
    let anonymous = configs.config(&fixture.verified()).unwrap();
    handshake(&anonymous, &endpoint, "api.internal").unwrap_err();
    let known = ClientSettings {
        identity: Some(fixture.identity()),
        ..fixture.verified()
    };
    let known = configs.config(&known).unwrap();
    let pair = handshake(&known, &endpoint, "api.internal").unwrap();
    assert!(pair.server.peer_certificates().is_some());
}

#[test]
fn gives_the_same_configuration_while_nothing_changes() {
    let fixture = Fixture::new();
    let configs = ClientConfigs::default();
    let settings = ClientSettings {
        identity: Some(fixture.identity()),
        ..fixture.verified()
    };
    assert!(configs.is_outdated(&settings));
    let first = configs.config(&settings).unwrap();
    assert!(!configs.is_outdated(&settings));
    assert!(Arc::ptr_eq(&first, &configs.config(&settings).unwrap()));

    let other = ClientSettings {
        alpn: vec![b"h2".to_vec()],
        ..settings.clone()
    };
    let other = configs.config(&other).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
    assert_eq!(other.alpn_protocols, [b"h2".to_vec()]);

    let endpoint = fixture.endpoint(ENDPOINT);
    let kind = |config: &Arc<ClientConfig>| {
        let pair = handshake(config, &endpoint, "api.internal").unwrap();
        pair.client.handshake_kind()
    };
    assert_eq!(kind(&first), Some(HandshakeKind::Full));
    let again = configs.config(&settings).unwrap();
    assert_eq!(kind(&again), Some(HandshakeKind::Resumed));
}

#[test]
fn gives_a_new_configuration_when_a_file_changes() {
    let fixture = Fixture::new();
    let configs = ClientConfigs::default();
    let settings = fixture.verified();
    let first = configs.config(&settings).unwrap();

    let successor = Authority::new("successor");
    write(&fixture.path.join("ca.pem"), &successor.certificate.pem());
    assert!(configs.is_outdated(&settings));
    let second = configs.config(&settings).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    let endpoint = fixture.endpoint_of(&successor, ENDPOINT);
    handshake(&first, &endpoint, "api.internal").unwrap_err();
    handshake(&second, &endpoint, "api.internal").unwrap();

    std::fs::remove_file(fixture.path.join("ca.pem")).unwrap();
    assert!(configs.is_outdated(&settings));
    assert!(matches!(configs.config(&settings), Err(Error::Read { .. })));
}

#[test]
fn forgets_configurations_that_nobody_uses() {
    let fixture = Fixture::new();
    let configs = ClientConfigs::default();
    let settings = fixture.verified();
    drop(configs.config(&settings).unwrap());
    assert!(configs.is_outdated(&settings));
    let off = ClientSettings {
        verify: Verify::Off,
        ..ClientSettings::default()
    };
    let _kept = configs.config(&off).unwrap();
    assert_eq!(configs.cache.lock().unwrap().configs.len(), 1);
}

#[test]
fn says_which_file_cannot_be_trusted() {
    let fixture = Fixture::new();
    let check = |content: &str, expected: &str| {
        write(&fixture.path.join("ca.pem"), content);
        let told = ClientConfigs::default()
            .config(&fixture.verified())
            .unwrap_err()
            .to_string();
        assert!(told.contains(expected), "{told}");
    };
    check("", "ca.pem holds no certificate, it is empty");
    let good = fixture.authority.certificate.pem();
    let junk = crate::testing::pem("CERTIFICATE", &[0x30, 0]);
    check(&format!("{good}{junk}"), "certificate 2 of");

    write(&fixture.path.join("ca.pem"), &good);
    let identity = fixture.identity();
    let spec = crate::store::CertificateSpec {
        name: "client".into(),
        chain: identity.chain.clone(),
        key: fixture.path.join("elsewhere"),
        default: false,
        stands_in_for: None,
    };
    replace(&spec, &fixture.clients.issue(&Wish::default()));
    let settings = ClientSettings {
        identity: Some(identity),
        ..fixture.verified()
    };
    let refused = ClientConfigs::default().config(&settings).unwrap_err();
    assert!(matches!(refused, Error::KeyMismatch { .. }), "{refused}");
}

#[test]
fn knows_names_from_addresses() {
    let check = |name: &str, expected: Option<&str>| {
        let parsed = server_name(name).ok();
        let parsed = parsed.map(|name| name.to_str().into_owned());
        assert_eq!(parsed.as_deref(), expected, "{name}");
    };
    check("api.internal", Some("api.internal"));
    check("localhost", Some("localhost"));
    check("127.0.0.1", Some("127.0.0.1"));
    check("[2001:db8::1]", Some("2001:db8::1"));
    check("2001:db8::1", Some("2001:db8::1"));
    check("", None);
    check("api.internal:443", None);
    check("https://api", None);
    check("a b", None);
    check("*.internal", None);
}

//! What a listener agrees to, in real handshakes.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, NamedGroup, ProtocolVersion, RootCertStore};

use super::*;
use crate::live::LiveCertificates;
use crate::resumption::ResumptionSettings;
use crate::store::{CertificateStore, Plan};
use crate::testing::{Authority, Pair, Wish, directory, handshake, place};

struct Fixture {
    roots: RootCertStore,
    live: Arc<LiveCertificates>,
    resumption: Resumption,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let (_directory, path) = directory();
        let authority = Authority::new("authority");
        let wish = Wish {
            names: &["a.test"],
            ..Wish::default()
        };
        let plan = Plan {
            certificates: vec![place(&path, "a", &authority, &wish)],
            assignments: Vec::new(),
        };
        let now = rustls::pki_types::UnixTime::now();
        let store = CertificateStore::build(plan, &CertificateStore::empty(), now).unwrap();
        Self {
            roots: authority.roots(),
            live: LiveCertificates::new(store),
            resumption: Resumption::new(ResumptionSettings::default()).unwrap(),
            _directory,
        }
    }

    fn server(&self, min_version: MinVersion, alpn: &[&str]) -> Arc<ServerConfig> {
        let settings = PolicySettings {
            min_version,
            alpn: protocols(alpn),
            ..PolicySettings::default()
        };
        self.policy(&settings)
    }

    fn policy(&self, settings: &PolicySettings) -> Arc<ServerConfig> {
        let resolver = self.live.resolver(None, None);
        let policy = ServerPolicy::compile(settings, resolver, &self.resumption).unwrap();
        Arc::clone(&policy.config)
    }

    /// A client as others build it, with the defaults of the library.
    fn client(&self) -> ClientConfig {
        self.client_with(aws_lc_rs::default_provider(), rustls::ALL_VERSIONS)
    }

    fn client_with(
        &self,
        provider: CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth()
    }
}

fn protocols(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn group(pair: &Pair) -> NamedGroup {
    let group = pair.server.negotiated_key_exchange_group().unwrap();
    group.name()
}

#[test]
fn agrees_on_post_quantum_key_exchange_with_a_default_client() {
    let fixture = Fixture::new();
    let server = fixture.server(MinVersion::Tls12, &[]);
    let pair = handshake(&Arc::new(fixture.client()), &server, "a.test").unwrap();
    assert_eq!(group(&pair), NamedGroup::X25519MLKEM768);
    assert_eq!(
        pair.server.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
}

#[test]
fn serves_clients_with_one_classic_group() {
    let fixture = Fixture::new();
    let server = fixture.server(MinVersion::Tls12, &[]);
    let check = |name: NamedGroup, versions: &[&'static rustls::SupportedProtocolVersion]| {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups.retain(|group| group.name() == name);
        let client = Arc::new(fixture.client_with(provider, versions));
        let pair = handshake(&client, &server, "a.test").unwrap();
        assert_eq!(group(&pair), name);
    };
    for name in [
        NamedGroup::secp256r1,
        NamedGroup::secp384r1,
        NamedGroup::X25519,
    ] {
        check(name, &[&TLS13]);
        check(name, &[&TLS12]);
    }
}

#[test]
fn speaks_the_versions_of_its_policy() {
    let fixture = Fixture::new();
    let old = || {
        let provider = aws_lc_rs::default_provider();
        Arc::new(fixture.client_with(provider, &[&TLS12]))
    };
    let both = fixture.server(MinVersion::Tls12, &[]);
    let pair = handshake(&old(), &both, "a.test").unwrap();
    assert_eq!(
        pair.server.protocol_version(),
        Some(ProtocolVersion::TLSv1_2)
    );

    let strict = fixture.server(MinVersion::Tls13, &[]);
    let refused = handshake(&old(), &strict, "a.test").unwrap_err();
    assert!(
        matches!(refused, rustls::Error::PeerIncompatible(_)),
        "{refused}"
    );
    handshake(&Arc::new(fixture.client()), &strict, "a.test").unwrap();
}

#[test]
fn agrees_on_a_protocol_in_its_own_order() {
    let fixture = Fixture::new();
    let check = |server: &[&str], client: &[&str], expected: Option<&str>| {
        let server = fixture.server(MinVersion::Tls12, server);
        let mut config = fixture.client();
        config.alpn_protocols = protocols(client);
        let pair = handshake(&Arc::new(config), &server, "a.test").unwrap();
        assert_eq!(pair.server.alpn_protocol(), expected.map(str::as_bytes));
    };
    check(&["h2", "http/1.1"], &["http/1.1", "h2"], Some("h2"));
    check(&["http/1.1"], &["h2", "http/1.1"], Some("http/1.1"));
    check(&["http/1.1"], &[], None);
    check(&[], &["http/1.1"], None);

    let server = fixture.server(MinVersion::Tls12, &["http/1.1"]);
    let mut config = fixture.client();
    config.alpn_protocols = protocols(&["imap"]);
    let refused = handshake(&Arc::new(config), &server, "a.test").unwrap_err();
    assert_eq!(refused, rustls::Error::NoApplicationProtocol);
}

#[test]
fn accepts_no_early_data() {
    let fixture = Fixture::new();
    let server = fixture.server(MinVersion::Tls12, &[]);
    assert_eq!(server.max_early_data_size, 0);
    let mut config = fixture.client();
    config.enable_early_data = true;
    let client = Arc::new(config);
    handshake(&client, &server, "a.test").unwrap();
    let name = crate::client::server_name("a.test").unwrap();
    let mut resuming = rustls::ClientConnection::new(client, name).unwrap();
    assert!(resuming.early_data().is_none());
}

#[test]
fn agrees_on_the_suites_and_groups_of_its_policy_alone() {
    let fixture = Fixture::new();
    let server = fixture.policy(&PolicySettings {
        cipher_suites: vec![
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ],
        groups: vec![NamedGroup::secp384r1, NamedGroup::X25519],
        ..PolicySettings::default()
    });
    let check = |client: ClientConfig, suite: CipherSuite| {
        let pair = handshake(&Arc::new(client), &server, "a.test").unwrap();
        let agreed = pair.server.negotiated_cipher_suite().unwrap();
        assert_eq!(agreed.suite(), suite);
        // The client's preference among them, as both cost the server about the same.
        assert_eq!(group(&pair), NamedGroup::X25519);
    };
    let any = || aws_lc_rs::default_provider();
    check(
        fixture.client_with(any(), &[&TLS13]),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    );
    check(
        fixture.client_with(any(), &[&TLS12]),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    );
    let mut provider = any();
    let without = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    provider
        .cipher_suites
        .retain(|suite| suite.suite() != without);
    let client = Arc::new(fixture.client_with(provider, &[&TLS12]));
    let refused = handshake(&client, &server, "a.test").unwrap_err();
    let reason = rustls::PeerIncompatible::NoCipherSuitesInCommon;
    assert_eq!(refused, rustls::Error::PeerIncompatible(reason));
}

//! Which clients come in, in real handshakes.

use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tempfile::TempDir;

use super::*;
use crate::live::LiveCertificates;
use crate::peer::Pattern;
use crate::resumption::{Resumption, ResumptionSettings};
use crate::server::{PolicySettings, ServerPolicy};
use crate::store::{CertificateStore, Plan};
use crate::testing::{Authority, DAY, Issued, Pair, Wish, directory, handshake, place, write};

struct Fixture {
    server_authority: Authority,
    clients: Authority,
    live: Arc<LiveCertificates>,
    resumption: Resumption,
    path: PathBuf,
    _directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let (_directory, path) = directory();
        let server_authority = Authority::new("servers");
        let clients = Authority::new("clients");
        write(&path.join("clients.pem"), &clients.certificate.pem());
        let wish = Wish {
            names: &["a.test"],
            ..Wish::default()
        };
        let plan = Plan {
            certificates: vec![place(&path, "a", &server_authority, &wish)],
            assignments: Vec::new(),
        };
        let store = CertificateStore::build(plan, &CertificateStore::empty(), UnixTime::now());
        Self {
            server_authority,
            clients,
            live: LiveCertificates::new(store.unwrap()),
            resumption: Resumption::new(ResumptionSettings::default()).unwrap(),
            path,
            _directory,
        }
    }

    fn rules(&self) -> ClientRules {
        ClientRules {
            presence: Presence::Required,
            authorities: self.path.join("clients.pem"),
            crls: Vec::new(),
            crl_check: CrlCheck::Chain,
            issuers_max: 2,
            allow: Vec::new(),
        }
    }

    fn policy(&self, rules: ClientRules) -> Result<Arc<ServerPolicy>, Error> {
        let settings = PolicySettings {
            clients: Some(rules),
            ..PolicySettings::default()
        };
        ServerPolicy::compile(&settings, self.live.resolver(None, None), &self.resumption)
    }

    fn server(&self, rules: ClientRules) -> Arc<ServerConfig> {
        Arc::clone(&self.policy(rules).unwrap().config)
    }

    /// A client with this certificate, and issuers sent with it.
    fn client(&self, identity: &Issued, issuers: &[&Authority]) -> Arc<ClientConfig> {
        let mut chain = vec![crate::testing::first(&identity.chain)];
        chain.extend(issuers.iter().map(|one| one.certificate.der().clone()));
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config = ClientConfig::builder_with_provider(crate::provider::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.server_authority.roots())
            .with_client_auth_cert(chain, key);
        Arc::new(config.unwrap())
    }

    fn anonymous(&self) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(crate::provider::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.server_authority.roots())
            .with_no_client_auth();
        Arc::new(config)
    }
}

const WISH: fn() -> Wish<'static> = || Wish {
    names: &["web.clients.test"],
    uris: &["spiffe://test/web"],
    serial: 7,
    for_clients: true,
    ..Wish::default()
};

fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<Pair, rustls::Error> {
    handshake(client, server, "a.test")
}

#[track_caller]
fn refuses(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, expected: CertificateError) {
    let refused = shake(client, server).unwrap_err();
    assert_eq!(refused, rustls::Error::InvalidCertificate(expected));
}

#[test]
fn lets_in_whom_its_authority_vouches_for_and_says_who_it_is() {
    let fixture = Fixture::new();
    let policy = fixture.policy(fixture.rules()).unwrap();
    let client = fixture.client(&fixture.clients.issue(&WISH()), &[]);
    let pair = shake(&client, &policy.config).unwrap();
    let peer = policy.client(pair.server.peer_certificates(), false);
    let peer = peer.unwrap().unwrap();
    assert_eq!(&*peer.subject, "CN=leaf");
    assert_eq!(&*peer.issuer, "CN=clients");
    assert_eq!(peer.dns[..], [Box::from("web.clients.test")]);
    assert_eq!(peer.uris[..], [Box::from("spiffe://test/web")]);
    assert_eq!(&*peer.serial, "07");

    let stranger = Authority::new("clients").issue(&WISH());
    let client = fixture.client(&stranger, &[]);
    let refused = shake(&client, &policy.config).unwrap_err();
    assert!(
        matches!(refused, rustls::Error::InvalidCertificate(_)),
        "{refused}"
    );
    let refused = shake(&fixture.anonymous(), &policy.config).unwrap_err();
    assert_eq!(refused, rustls::Error::NoCertificatesPresented);
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_bad() {
    let fixture = Fixture::new();
    let rules = ClientRules {
        presence: Presence::Optional,
        ..fixture.rules()
    };
    let policy = fixture.policy(rules).unwrap();
    let pair = shake(&fixture.anonymous(), &policy.config).unwrap();
    let chain = pair.server.peer_certificates();
    assert_eq!(policy.client(chain, false), Ok(None));

    let old = fixture.clients.issue(&Wish {
        not_after: UnixTime::now().as_secs() - DAY / 2,
        ..WISH()
    });
    let refused = shake(&fixture.client(&old, &[]), &policy.config).unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
}

#[test]
fn a_certificate_for_servers_is_none_for_clients() {
    let fixture = Fixture::new();
    let wrong = fixture.clients.issue(&Wish {
        for_clients: false,
        ..WISH()
    });
    let server = fixture.server(fixture.rules());
    let refused = shake(&fixture.client(&wrong, &[]), &server).unwrap_err();
    assert!(
        matches!(refused, rustls::Error::InvalidCertificate(_)),
        "{refused}"
    );
}

#[test]
fn a_chain_is_as_long_as_allowed() {
    let fixture = Fixture::new();
    let upper = fixture.clients.subordinate("upper");
    let lower = upper.subordinate("lower");
    let client = fixture.client(&lower.issue(&WISH()), &[&lower, &upper]);
    shake(&client, &fixture.server(fixture.rules())).unwrap();
    let short = ClientRules {
        issuers_max: 1,
        ..fixture.rules()
    };
    let refused = CertificateError::ApplicationVerificationFailure;
    refuses(&client, &fixture.server(short), refused);
}

#[test]
fn whoever_is_revoked_stays_out() {
    let fixture = Fixture::new();
    let soon = UnixTime::now().as_secs() + DAY;
    let list = fixture.path.join("revoked.pem");
    write(&list, &fixture.clients.revoke(&[8], soon));
    let rules = || ClientRules {
        crls: vec![list.clone()],
        ..fixture.rules()
    };
    let client = |serial| {
        let identity = fixture.clients.issue(&Wish { serial, ..WISH() });
        fixture.client(&identity, &[])
    };
    shake(&client(7), &fixture.server(rules())).unwrap();
    refuses(
        &client(8),
        &fixture.server(rules()),
        CertificateError::Revoked,
    );

    // A list past its time says nothing, and nobody comes in without a word about it.
    write(&list, &fixture.clients.revoke(&[8], 1000));
    let refused = shake(&client(7), &fixture.server(rules())).unwrap_err();
    assert!(refused.to_string().contains("xpired"), "{refused}");

    // So does one of another authority.
    write(&list, &Authority::new("others").revoke(&[8], soon));
    let unknown = CertificateError::UnknownRevocationStatus;
    refuses(&client(7), &fixture.server(rules()), unknown);
}

#[test]
fn a_list_may_be_about_leaves_alone() {
    let fixture = Fixture::new();
    let lower = fixture.clients.subordinate("lower");
    let list = fixture.path.join("revoked.pem");
    let soon = UnixTime::now().as_secs() + DAY;
    write(&list, &lower.revoke(&[8], soon));
    let check = |crl_check| {
        let rules = ClientRules {
            crls: vec![list.clone()],
            crl_check,
            ..fixture.rules()
        };
        let client = fixture.client(&lower.issue(&WISH()), &[&lower]);
        shake(&client, &fixture.server(rules)).map(|_| ())
    };
    assert_eq!(check(CrlCheck::Leaf), Ok(()));
    let unknown = CertificateError::UnknownRevocationStatus.into();
    assert_eq!(check(CrlCheck::Chain), Err(unknown));
}

#[test]
fn only_those_named_come_in() {
    let fixture = Fixture::new();
    let client = fixture.client(&fixture.clients.issue(&WISH()), &[]);
    let allow = |uri: &str| ClientRules {
        allow: vec![
            PeerRule {
                subject: Some(Pattern::new("CN=nobody")),
                ..PeerRule::default()
            },
            PeerRule {
                uri: Some(Pattern::new(uri)),
                ..PeerRule::default()
            },
        ],
        ..fixture.rules()
    };
    shake(&client, &fixture.server(allow("spiffe://test/*"))).unwrap();
    let refused = CertificateError::ApplicationVerificationFailure;
    refuses(&client, &fixture.server(allow("spiffe://other/*")), refused);
}

#[test]
fn files_that_cannot_be_used_are_told() {
    let fixture = Fixture::new();
    let check = |rules: ClientRules, expected: &str| {
        let error = fixture.policy(rules).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.remedy().is_empty());
    };
    let with_list = |name: &str, content: &str| {
        let path = fixture.path.join(name);
        write(&path, content);
        ClientRules {
            crls: vec![path],
            ..fixture.rules()
        }
    };
    check(with_list("empty.pem", ""), "no certificate revocation list");
    let damaged = crate::testing::pem("X509 CRL", b"\x30\x03\x02\x01\x01");
    check(with_list("damaged.pem", &damaged), "cannot be parsed");
    let missing = ClientRules {
        authorities: fixture.path.join("missing.pem"),
        ..fixture.rules()
    };
    check(missing, "missing.pem");
}

#[test]
fn a_session_brings_its_client_along_and_is_checked_again() {
    let fixture = Fixture::new();
    let short = fixture.clients.issue(&Wish {
        not_after: UnixTime::now().as_secs() + 3,
        ..WISH()
    });
    let client = fixture.client(&short, &[]);
    let policy = fixture.policy(fixture.rules()).unwrap();
    shake(&client, &policy.config).unwrap();
    let pair = shake(&client, &policy.config).unwrap();
    assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Resumed));
    let chain = pair.server.peer_certificates();
    let peer = policy.client(chain, true).unwrap().unwrap();
    assert_eq!(&*peer.subject, "CN=leaf");
    let (leaf, issuers) = chain.unwrap().split_first().unwrap();
    let later = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        UnixTime::now().as_secs() + 10,
    ));
    let clients = policy.clients.as_ref().unwrap();
    let refused = clients.verify_client_cert(leaf, issuers, later);
    assert!(refused.unwrap_err().to_string().contains("expired"));
}

#[test]
fn sessions_end_when_the_rules_change() {
    let fixture = Fixture::new();
    let client = fixture.client(&fixture.clients.issue(&WISH()), &[]);
    let resumes = |rules: ClientRules| {
        let pair = shake(&client, &fixture.server(rules)).unwrap();
        pair.server.handshake_kind() == Some(HandshakeKind::Resumed)
    };
    assert!(!resumes(fixture.rules()));
    assert!(resumes(fixture.rules()));

    let list = fixture.path.join("revoked.pem");
    let soon = UnixTime::now().as_secs() + DAY;
    write(&list, &fixture.clients.revoke(&[8], soon));
    let with_list = || ClientRules {
        crls: vec![list.clone()],
        ..fixture.rules()
    };
    assert!(!resumes(with_list()));
    assert!(resumes(with_list()));
    // The same file with another word in it.
    write(&list, &fixture.clients.revoke(&[8, 9], soon));
    assert!(!resumes(with_list()));
    // A session without a certificate opens nothing where one is asked for.
    let anonymous = fixture.anonymous();
    let open = PolicySettings::default();
    let open = ServerPolicy::compile(
        &open,
        fixture.live.resolver(None, None),
        &fixture.resumption,
    );
    shake(&anonymous, &open.unwrap().config).unwrap();
    let refused = shake(&anonymous, &fixture.server(fixture.rules())).unwrap_err();
    assert_eq!(refused, rustls::Error::NoCertificatesPresented);
}

//! What an authority is shown, here and at gateways that share the storage.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

use super::*;

struct Fleet {
    _directory: tempfile::TempDir,
    storage: Storage,
    one: Challenges,
    other: Challenges,
}

impl Fleet {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            storage: Storage::new(directory.path().join("acme")),
            _directory: directory,
            one: Challenges::default(),
            other: Challenges::default(),
        }
    }

    fn follow(&self) {
        self.other.follow(&self.storage).unwrap();
    }
}

fn file(token: &str) -> Stored {
    Stored::new(Kind::File, "a.test", token, format!("{token}.thumb"))
}

#[test]
fn files_are_answered_everywhere_while_they_are_there() {
    let fleet = Fleet::new();
    fleet.one.present(file("token"), &fleet.storage).unwrap();
    assert_eq!(fleet.one.file(b"token").as_deref(), Some("token.thumb"));
    assert_eq!(fleet.other.file(b"token"), None);
    fleet.follow();
    assert_eq!(fleet.other.file(b"token").as_deref(), Some("token.thumb"));
    assert_eq!(fleet.other.file(b"Token"), None);
    assert_eq!(fleet.other.file(b"\xff"), None);
    fleet.one.withdraw("token", &fleet.storage).unwrap();
    assert_eq!(fleet.one.file(b"token"), None);
    fleet.follow();
    assert_eq!(fleet.other.file(b"token"), None);
}

#[test]
fn what_is_over_or_rubbish_is_not_answered() {
    let fleet = Fleet::new();
    let over = Stored {
        until: 1,
        ..file("over")
    };
    let path = fleet.storage.challenge("over");
    fleet.storage.write_json(&path, &over).unwrap();
    let rubbish = fleet.storage.challenge("rubbish");
    fleet.storage.write(&rubbish, b"{").unwrap();
    let slash = fleet.storage.challenge("slash");
    let odd = file("../slash");
    fleet.storage.write_json(&slash, &odd).unwrap();
    fleet.follow();
    for token in [&b"over"[..], b"rubbish", b"../slash"] {
        assert_eq!(fleet.other.file(token), None);
    }
    assert!(!path.exists());
}

#[test]
fn a_handshake_shows_the_proof_and_nothing_else() {
    let fleet = Fleet::new();
    let digest = "5e".repeat(32);
    let challenge = Stored::new(Kind::Handshake, "A.test", "token", digest.clone());
    fleet.one.present(challenge, &fleet.storage).unwrap();
    fleet.follow();
    assert!(fleet.other.handshake("b.test").is_none());
    let server = fleet.other.handshake("a.test").unwrap();
    let provider = provider::provider();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    client
        .dangerous()
        .set_certificate_verifier(Arc::new(Trusting));
    client.alpn_protocols = vec![ALPN.to_vec()];
    let name = ServerName::try_from("a.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    assert_eq!(server.alpn_protocol(), Some(ALPN));
    // The extension of RFC 8737 section 3, critical, with the digest in an octet string.
    let shown = client.peer_certificates().unwrap()[0].to_vec();
    let extension = [
        &[6, 8, 43, 6, 1, 5, 5, 7, 1, 31, 1, 1, 255, 4, 34, 4, 32][..],
        &[0x5e; 32],
    ];
    let extension = extension.concat();
    assert!(shown.windows(extension.len()).any(|part| part == extension));
    fleet.one.withdraw("token", &fleet.storage).unwrap();
    fleet.follow();
    assert!(fleet.other.handshake("a.test").is_none());
}

/// An authority that looks for proof trusts nobody.
#[derive(Debug)]
struct Trusting;

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let algorithms = provider::provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

//! What the tests of this package share: certificates made on the spot, a clock that is set by
//! hand, and handshakes in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, RevokedCertParams, SanType, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use crate::store::CertificateSpec;

pub(crate) const DAY: u64 = 24 * 60 * 60;

/// An authority for tests.
pub(crate) struct Authority {
    pub(crate) certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// What a test wants to stand in a certificate.
pub(crate) struct Wish<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) uris: &'a [&'a str],
    /// The serial number, for lists of revocations; random if zero.
    pub(crate) serial: u64,
    pub(crate) algorithm: &'static SignatureAlgorithm,
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    pub(crate) for_clients: bool,
    pub(crate) tells_issuer: bool,
    /// Whether it says where its authority answers for it: at `http://a`.
    pub(crate) tells_responder: bool,
    /// Whether it is good with a staple alone.
    pub(crate) must_staple: bool,
    /// Whether it may answer for its authority.
    pub(crate) for_responders: bool,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        let now = UnixTime::now().as_secs();
        Self {
            names: &[],
            uris: &[],
            serial: 0,
            algorithm: &PKCS_ECDSA_P256_SHA256,
            not_before: now - DAY,
            not_after: now + 90 * DAY,
            for_clients: false,
            tells_issuer: false,
            tells_responder: false,
            must_staple: false,
            for_responders: false,
        }
    }
}

/// A certificate and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn issue(&self, wish: &Wish<'_>) -> Issued {
        let names: Vec<String> = wish.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(wish.not_before);
        params.not_after = epoch + Duration::from_secs(wish.not_after);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.extended_key_usages = vec![if wish.for_clients {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        for uri in wish.uris {
            let uri = SanType::URI((*uri).try_into().unwrap());
            params.subject_alt_names.push(uri);
        }
        if wish.serial != 0 {
            params.serial_number = Some(wish.serial.into());
        }
        if wish.for_responders {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        }
        if wish.tells_issuer || wish.tells_responder {
            // authorityInfoAccess with one entry, `http://a`, of the kind caIssuers or ocsp.
            let mut content =
                *b"\x30\x16\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x02\x86\x08http://a";
            if wish.tells_responder {
                content[13] = 1;
            }
            let extension =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content.to_vec());
            params.custom_extensions.push(extension);
        }
        if wish.must_staple {
            let feature = CustomExtension::from_oid_content(
                &[1, 3, 6, 1, 5, 5, 7, 1, 24],
                vec![0x30, 3, 2, 1, 5],
            );
            params.custom_extensions.push(feature);
        }
        let key = KeyPair::generate_for(wish.algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// An authority below this one.
    pub(crate) fn subordinate(&self, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// A list of revocations, as PEM.
    pub(crate) fn revoke(&self, serials: &[u64], next_update: u64) -> String {
        let epoch = date_time_ymd(1970, 1, 1);
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: epoch,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: epoch,
            next_update: epoch + Duration::from_secs(next_update),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        rcgen::SigningKey::sign(self.issuer.key(), message).unwrap()
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }
}

/// Issues a certificate for some names into a directory and names it.
pub(crate) fn place(
    directory: &Path,
    name: &str,
    authority: &Authority,
    wish: &Wish<'_>,
) -> CertificateSpec {
    let spec = CertificateSpec {
        name: name.into(),
        chain: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
        default: false,
        stands_in_for: None,
    };
    replace(&spec, &authority.issue(wish));
    spec
}

/// Puts other contents into the files of a certificate, as editors and ACME clients do: by rename.
pub(crate) fn replace(spec: &CertificateSpec, issued: &Issued) {
    write(&spec.chain, &issued.chain);
    write(&spec.key, &issued.key);
}

pub(crate) fn write(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;

    let draft = path.with_extension("draft");
    fs::write(&draft, content).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&draft, path).unwrap();
}

pub(crate) fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (directory, path)
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn at(secs: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(secs)))
    }

    pub(crate) fn now() -> Arc<Self> {
        Self::at(UnixTime::now().as_secs())
    }

    pub(crate) fn advance(&self, secs: u64) {
        self.0.fetch_add(secs, Ordering::Relaxed);
    }

    pub(crate) fn go_back(&self, secs: u64) {
        self.0.fetch_sub(secs, Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = self.0.load(Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

/// Both ends of a connection after their handshake.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

impl Pair {
    /// The certificate that the client was shown.
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        let chain = self.client.peer_certificates().unwrap();
        chain.first().unwrap().clone().into_owned()
    }
}

/// A handshake through memory, and whatever the server sends after it.
pub(crate) fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<Pair, rustls::Error> {
    let name = crate::client::server_name(name).unwrap();
    let client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let server = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut pair = Pair { client, server };
    while pair.client.wants_write() || pair.server.wants_write() {
        let mut to_server = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut to_server).unwrap();
        }
        let mut received = &to_server[..];
        while !received.is_empty() {
            pair.server.read_tls(&mut received).unwrap();
            pair.server.process_new_packets()?;
        }
        let mut to_client = Vec::new();
        while pair.server.wants_write() {
            pair.server.write_tls(&mut to_client).unwrap();
        }
        let mut received = &to_client[..];
        while !received.is_empty() {
            pair.client.read_tls(&mut received).unwrap();
            pair.client.process_new_packets()?;
        }
    }
    assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
    Ok(pair)
}

/// The first certificate of a PEM text.
pub(crate) fn first(pem: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;

    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A PEM section.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, group) in der.chunks(3).enumerate() {
        if index > 0 && index % 16 == 0 {
            text.push('\n');
        }
        let bits = group
            .iter()
            .fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = char::from(DIGITS[bits >> (18 - 6 * place) & 63]);
            text.push(if place > group.len() { '=' } else { digit });
        }
    }
    format!("{text}\n-----END {label}-----\n")
}

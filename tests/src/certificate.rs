//! Certificate authorities and what they issue, made anew by each test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RevokedCertParams, RsaKeySize, SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What follows a certificate in its chain: the authorities between the root and it, in PEM.
    between: String,
}

/// A certificate with its key, in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The chain.
    pub chain_pem: String,
    /// The key.
    pub key_pem: String,
}

impl Authority {
    /// Makes an authority.
    ///
    /// # Panics
    /// If the certificate cannot be made.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(authority(name), key);
        Self {
            issuer: issuer.expect("a self-signed certificate"),
            between: String::new(),
        }
    }

    /// Makes an authority whose certificate this one issues, as public ones issue from.
    ///
    /// # Panics
    /// If the certificate cannot be made.
    #[track_caller]
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::signed_by(authority(name), key, &self.issuer);
        let issuer = issuer.expect("a certificate of an authority");
        let between = format!("{}{}", issuer.pem(), self.between);
        Self { issuer, between }
    }

    /// Issues a certificate for names or addresses, valid for thirty days.
    #[track_caller]
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_until(names, SystemTime::now() + Duration::from_secs(30 * 86_400))
    }

    /// Issues a certificate that ends at a given time.
    ///
    /// # Panics
    /// If the certificate cannot be made.
    #[track_caller]
    pub fn issue_until(&self, names: &[&str], end: SystemTime) -> Identity {
        self.sign(&params(names, end))
    }

    /// Issues a certificate with what else a test wants in it.
    ///
    /// # Panics
    /// If the certificate cannot be made.
    #[track_caller]
    pub fn issue_with(
        &self,
        names: &[&str],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = params(names, SystemTime::now() + Duration::from_secs(30 * 86_400));
        edit(&mut params);
        self.sign(&params)
    }

    /// Issues a certificate for what a request (PKCS #10, DER) asks for, valid for thirty days: its
    /// chain in PEM.
    ///
    /// # Panics
    /// If the request is none.
    #[track_caller]
    pub fn issue_for(&self, request: &[u8]) -> String {
        let request = CertificateSigningRequestParams::from_der(&request.into());
        let mut request = request.expect("a certificate request");
        let names = params(&[], SystemTime::now() + Duration::from_secs(30 * 86_400));
        request.params.not_before = names.not_before;
        request.params.not_after = names.not_after;
        request.params.use_authority_key_identifier_extension = true;
        let certificate = request.signed_by(&self.issuer).expect("a certificate");
        certificate.pem()
    }

    /// Issues a certificate for a key of a kind, such as [`rcgen::PKCS_RSA_SHA256`].
    ///
    /// # Panics
    /// If the certificate cannot be made.
    #[track_caller]
    pub fn issue_of(&self, kind: &'static SignatureAlgorithm, names: &[&str]) -> Identity {
        let key = KeyPair::generate_for(kind).expect("a key");
        let end = SystemTime::now() + Duration::from_secs(30 * 86_400);
        self.sign_for(&key, &params(names, end))
    }

    /// Issues a certificate for a key that takes its time to sign.
    ///
    /// # Panics
    /// If the certificate cannot be made.
    #[track_caller]
    pub fn issue_slow(&self, names: &[&str]) -> Identity {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096);
        let end = SystemTime::now() + Duration::from_secs(30 * 86_400);
        self.sign_for(&key.expect("a key"), &params(names, end))
    }

    /// A list of the serial numbers that are revoked, in PEM, good for a day.
    ///
    /// # Panics
    /// If it cannot be made.
    #[track_caller]
    pub fn revoke(&self, serials: &[u64]) -> String {
        let now = SystemTime::now();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: (now - Duration::from_secs(3600)).into(),
            next_update: (now + Duration::from_secs(86_400)).into(),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list of revocations");
        list.pem().expect("a list in PEM")
    }

    #[track_caller]
    fn sign(&self, params: &CertificateParams) -> Identity {
        self.sign_for(&KeyPair::generate().expect("a key"), params)
    }

    #[track_caller]
    fn sign_for(&self, key: &KeyPair, params: &CertificateParams) -> Identity {
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        Identity {
            chain_pem: certificate.pem() + &self.between,
            key_pem: key.serialize_pem(),
        }
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// The authority's certificate in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's key in PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Writes the certificate to `NAME.pem` in a directory.
    #[track_caller]
    pub fn save(&self, directory: &Path, name: &str) -> PathBuf {
        save(directory, &format!("{name}.pem"), &self.pem())
    }
}

impl Identity {
    /// Writes chain and key to `NAME.pem` and `NAME.key` in a directory.
    #[track_caller]
    pub fn save(&self, directory: &Path, name: &str) {
        save(directory, &format!("{name}.pem"), &self.chain_pem);
        let key = save(directory, &format!("{name}.key"), &self.key_pem);
        // A key that everybody can read is worth a warning.
        fs::set_permissions(key, Permissions::from_mode(0o600)).expect("set a mode");
    }

    /// The chain as rustls takes it.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .expect("a chain in PEM")
    }

    /// The key as rustls takes it.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("a key in PEM")
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(names: &[&str], end: SystemTime) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).expect("names or addresses");
    params.distinguished_name = named(names.first().map_or("client", String::as_str));
    params.not_before = (SystemTime::now() - Duration::from_secs(2 * 86_400)).into();
    params.not_after = end.into();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[track_caller]
fn save(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    path
}

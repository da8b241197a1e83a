//! The certificates that every proxy serves and the client configurations that accept only them.
//!
//! Made once per run, before any proxy starts. Everybody gets the same key, and the client offers
//! one key share and one cipher suite, so that a handshake is the same work for all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::crypto::{
    CryptoProvider, SupportedKxGroup, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};

pub(crate) mod hosts;

/// The domain that everything is measured under.
pub(crate) const DOMAIN: &str = "bench.test";

/// What every handshake exchanges keys with; all rivals know it.
pub(crate) const KEY_EXCHANGE: &dyn SupportedKxGroup = aws_lc_rs::kx_group::X25519;

/// The kind of a certificate's key, which is most of what a full handshake costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// On the curve P-256.
    Ecdsa,
    /// Of 2048 bits.
    Rsa,
}

/// The certificate's files, and the client's side of it.
pub(crate) struct Certificate {
    /// PEM chain.
    pub chain: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// Chain and key in one file, as HAProxy wants them.
    pub combined: PathBuf,
    /// TLS 1.3 without resumption, pinned to this certificate.
    pub client: Arc<ClientConfig>,
    certificate: CertificateDer<'static>,
}

impl Certificate {
    /// Makes a certificate for [`DOMAIN`] and its subdomains, with its files in `directory`.
    pub(crate) fn create(directory: &Path, key: Key) -> Result<Self> {
        let (stem, algorithm) = match key {
            Key::Ecdsa => ("ecdsa", &PKCS_ECDSA_P256_SHA256),
            Key::Rsa => ("rsa", &PKCS_RSA_SHA256),
        };
        let key_pair = KeyPair::generate_for(algorithm)?;
        let names = vec![DOMAIN.to_owned(), format!("*.{DOMAIN}")];
        let certificate = CertificateParams::new(names)?.self_signed(&key_pair)?;
        let [chain, key, combined] =
            [".pem", ".key", "-combined.pem"].map(|end| directory.join(format!("{stem}{end}")));
        write(&chain, &certificate.pem())?;
        write(&key, &key_pair.serialize_pem())?;
        write(&combined, &(certificate.pem() + &key_pair.serialize_pem()))?;
        let certificate = certificate.der().clone();
        Ok(Self {
            chain,
            key,
            combined,
            client: client(certificate.clone(), &TLS13, Resumption::disabled())?,
            certificate,
        })
    }

    /// A client of this certificate that speaks one version and resumes as told.
    pub(crate) fn client_of(
        &self,
        version: &'static SupportedProtocolVersion,
        resumption: Resumption,
    ) -> Result<Arc<ClientConfig>> {
        client(self.certificate.clone(), version, resumption)
    }

    /// The usual client, but of HTTP/2 alone.
    pub(crate) fn client_of_http2(&self) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.client);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn client(
    certificate: CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    resumption: Resumption,
) -> Result<Arc<ClientConfig>> {
    let mut kx_groups = vec![KEY_EXCHANGE];
    if version == &TLS12 {
        // There a P-256 certificate needs its curve among the groups (RFC 8422, section 5.1). That
        // it is not taken for the key exchange is checked by the client.
        kx_groups.push(aws_lc_rs::kx_group::SECP256R1);
    }
    let provider = Arc::new(CryptoProvider {
        kx_groups,
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    });
    let verifier = Arc::new(Pinned {
        certificate,
        provider: Arc::clone(&provider),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = resumption;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts one certificate, byte for byte. Walking a chain would only cost the client time; the
/// handshake signature is still checked, so a proxy that signs wrongly is found.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General(
                "not the certificate of this run".into(),
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

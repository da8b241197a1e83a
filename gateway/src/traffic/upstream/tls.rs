//! TLS towards endpoints, compiled: whom to trust, who we are. One client configuration serves all
//! the upstreams that ask for the same, before and after a reload, so that sessions resume.
//!
//! Must not: run on the data path; it reads files. What it makes is only shared from there.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cardea_config::model::{UpstreamTls, Verify};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::settings::TlsClient;

/// The largest PEM file that is read; a bundle with all public authorities has a quarter of a
/// megabyte.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why TLS towards an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any that makes sense.
    #[error("`{0}` has more than {PEM_BYTES_MAX} bytes")]
    TooLarge(PathBuf),
    /// A file holds no PEM, or not what it should.
    #[error("`{path}` is not the PEM file it should be")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("`{0}` holds no certificate")]
    NoCertificate(PathBuf),
    /// A certificate, or a key with its certificate, cannot be used.
    #[error("`{path}` cannot be used")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities that were trusted leave nothing to verify with.
    #[error("the trusted authorities cannot be used")]
    Roots(#[source] rustls::Error),
    /// The server name is no name.
    #[error("`{name}` is no name that a certificate could carry")]
    Name {
        /// The name.
        name: String,
        /// Why.
        source: InvalidDnsNameError,
    },
}

/// Makes client configurations, one for all that ask for the same.
#[derive(Debug)]
pub struct TlsClients {
    provider: Arc<CryptoProvider>,
    made: HashMap<u64, Arc<ClientConfig>>,
    /// The system's authorities take milliseconds to read; once is enough.
    system: Option<Arc<dyn ServerCertVerifier>>,
}

/// What the files of one setting hold.
#[derive(Hash)]
struct Material {
    ca: Option<Vec<u8>>,
    /// Our certificate chain and its key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
    verifies: bool,
}

impl TlsClients {
    /// Begins with the configurations that are in use.
    pub fn new<'a>(in_use: impl Iterator<Item = &'a TlsClient>) -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            made: in_use
                .map(|tls| (tls.fingerprint, Arc::clone(&tls.config)))
                .collect(),
            system: None,
        }
    }

    /// The client configuration for these settings.
    pub fn compile(&mut self, settings: &UpstreamTls) -> Result<TlsClient, TlsError> {
        let server_name = match &settings.server_name {
            None => None,
            Some(name) => {
                Some(
                    ServerName::try_from(name.clone()).map_err(|source| TlsError::Name {
                        name: name.clone(),
                        source,
                    })?,
                )
            }
        };
        let material = Material {
            ca: settings.ca.as_deref().map(read).transpose()?,
            identity: match (&settings.certificate, &settings.key) {
                (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
                // Half an identity is refused when the document is validated.
                _ => None,
            },
            verifies: settings.verify == Verify::Full,
        };
        // A hasher with fixed keys: the fingerprints of one process agree with each other.
        let mut hasher = DefaultHasher::new();
        material.hash(&mut hasher);
        let fingerprint = hasher.finish();
        let config = match self.made.get(&fingerprint) {
            Some(config) => Arc::clone(config),
            None => Arc::new(self.build(settings, &material)?),
        };
        self.made.insert(fingerprint, Arc::clone(&config));
        Ok(TlsClient {
            config,
            server_name,
            fingerprint,
        })
    }

    fn build(
        &mut self,
        settings: &UpstreamTls,
        material: &Material,
    ) -> Result<ClientConfig, TlsError> {
        let verifier = self.verifier(settings, material)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Roots)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &material.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let certificate = settings.certificate.as_deref().unwrap_or(Path::new(""));
                let key_path = settings.key.as_deref().unwrap_or(Path::new(""));
                let chain = certificates(certificate, chain)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem {
                    path: key_path.into(),
                    source,
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| TlsError::Unusable {
                        path: key_path.into(),
                        source,
                    })?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn verifier(
        &mut self,
        settings: &UpstreamTls,
        material: &Material,
    ) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if !material.verifies {
            let algorithms = self.provider.signature_verification_algorithms;
            return Ok(Arc::new(Unverified(algorithms)));
        }
        let Some(ca) = &material.ca else {
            return self.system_verifier();
        };
        let path = settings.ca.as_deref().unwrap_or(Path::new(""));
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path, ca)? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::Unusable {
                    path: path.into(),
                    source,
                })?;
        }
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| TlsError::Roots(rustls::Error::General(error.to_string())))?;
        Ok(verifier)
    }

    fn system_verifier(&mut self) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if let Some(verifier) = &self.system {
            return Ok(Arc::clone(verifier));
        }
        let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(&self.provider))
            .map_err(TlsError::Roots)?;
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(verifier);
        self.system = Some(Arc::clone(&verifier));
        Ok(verifier)
    }
}

fn read(path: impl Into<PathBuf>) -> Result<Vec<u8>, TlsError> {
    let path = path.into();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path)
        .and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > PEM_BYTES_MAX => Err(TlsError::TooLarge(path)),
        Ok(_) => Ok(bytes),
        Err(source) => Err(TlsError::Read { path, source }),
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem {
            path: path.into(),
            source,
        })?;
    match certificates.is_empty() {
        true => Err(TlsError::NoCertificate(path.into())),
        false => Ok(certificates),
    }
}

/// Takes whatever certificate an endpoint shows, as `verify: off` asks for. Signatures are checked
/// all the same: the endpoint has the key of the certificate it shows.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests;

//! Endpoints that are known by rules instead of by the name they are asked for under: a SPIFFE
//! identity, say, which has no host in it.
//!
//! The chain and its dates are the other verifier's to check, and it checks the name last; what
//! stands here in place of the name is checked for every certificate that comes so far.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::peer::{PeerCertificate, PeerRule};

/// Takes certificates of a verifier's liking whose owners a rule means, whatever they are asked
/// for as.
#[derive(Debug)]
pub(super) struct AcceptsByRule {
    pub(super) chains: Arc<dyn ServerCertVerifier>,
    pub(super) allow: Vec<PeerRule>,
}

impl ServerCertVerifier for AcceptsByRule {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .chains
            .verify_server_cert(leaf, issuers, name, ocsp_response, now);
        match verified {
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(error) => return Err(error),
        }
        let peer = PeerCertificate::parse(leaf, issuers)?;
        if self.allow.iter().any(|rule| rule.matches(&peer)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

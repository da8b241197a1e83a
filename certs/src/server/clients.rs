//! Client certificates: whether they are asked for, whose they may be, and what is checked.
//!
//! Chains, dates and revocation are rustls' own verifier's; added here are the bound on what a
//! client may send and the rules about who it is. Part of the life of a request, but for loading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};

use crate::client::roots;
use crate::error::Error;
use crate::files::{self, ContentHash, FileContent};
use crate::peer::{PeerCertificate, PeerRule};

/// Whether clients have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Without one there is no connection.
    Required,
    /// They may go without; one that is shown has to be good.
    Optional,
}

/// Which certificates of a chain must not be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrlCheck {
    /// The client's own.
    Leaf,
    /// The client's own and its issuers'.
    Chain,
}

/// Which clients may come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientRules {
    /// Whether they have to show a certificate.
    pub presence: Presence,
    /// The PEM file of the authorities whose certificates count.
    pub authorities: PathBuf,
    /// PEM files of revocation lists. With any, a certificate that none of them speaks for is
    /// refused, and so is every certificate under a list past its time.
    pub crls: Vec<PathBuf>,
    /// Which certificates of a chain must not be revoked.
    pub crl_check: CrlCheck,
    /// Issuers that a client may send beside its own certificate.
    pub issuers_max: usize,
    /// Who may come; everybody with a certificate that counts if empty.
    pub allow: Vec<PeerRule>,
}

impl ClientRules {
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.authorities).chain(&self.crls)
    }
}

/// The rules with what their files hold.
#[derive(Debug)]
pub(super) struct Clients {
    rules: ClientRules,
    chains: Arc<dyn ClientCertVerifier>,
    identity: ContentHash,
}

/// What the files of some rules hold.
struct Contents {
    authorities: FileContent,
    crls: Vec<FileContent>,
}

impl Contents {
    fn read(rules: &ClientRules, now: UnixTime) -> Result<Self, Error> {
        let crls = rules.crls.iter().map(|path| files::read(path, now));
        Ok(Self {
            authorities: files::read(&rules.authorities, now)?,
            crls: crls.collect::<Result<_, _>>()?,
        })
    }

    /// Names of files do not matter, what they hold does.
    fn identity(&self, rules: &ClientRules) -> ContentHash {
        let words = format!(
            "{:?} {:?} {} {:?}",
            rules.presence, rules.crl_check, rules.issuers_max, rules.allow
        );
        let mut parts = vec![words.as_bytes(), self.authorities.bytes.as_slice()];
        parts.extend(self.crls.iter().map(|content| content.bytes.as_slice()));
        ContentHash::of(&parts)
    }
}

impl Clients {
    pub(super) fn load(
        rules: &ClientRules,
        provider: &Arc<CryptoProvider>,
        now: UnixTime,
    ) -> Result<Arc<Self>, Error> {
        let contents = Contents::read(rules, now)?;
        let trusted = Arc::new(roots(&contents.authorities.bytes, &rules.authorities)?);
        let mut lists = Vec::new();
        for (path, content) in rules.crls.iter().zip(&contents.crls) {
            lists.extend(revocations(&content.bytes, path)?);
        }
        let has_lists = !lists.is_empty();
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(trusted, Arc::clone(provider))
                .with_crls(lists);
        if has_lists {
            builder = builder.enforce_revocation_expiration();
        }
        if rules.crl_check == CrlCheck::Leaf {
            builder = builder.only_check_end_entity_revocation();
        }
        if rules.presence == Presence::Optional {
            builder = builder.allow_unauthenticated();
        }
        let chains = builder.build().map_err(|error| Error::Tls {
            what: "the check of client certificates",
            source: rustls::Error::Other(OtherError(Arc::new(error))),
        })?;
        Ok(Arc::new(Self {
            rules: rules.clone(),
            chains,
            identity: contents.identity(rules),
        }))
    }

    /// Whether the files hold something else by now, or cannot be read any more.
    pub(super) fn is_outdated(&self, now: UnixTime) -> bool {
        let contents = Contents::read(&self.rules, now);
        contents.map_or(true, |now| now.identity(&self.rules) != self.identity)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.rules.files()
    }

    pub(super) fn identity(&self) -> &ContentHash {
        &self.identity
    }
}

/// The revocation lists of a PEM file, at least one, each of which can be read.
fn revocations(
    bytes: &[u8],
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let lists = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Pem {
            path: path.to_owned(),
            source,
        })?;
    if lists.is_empty() {
        return Err(Error::NoRevocationList {
            path: path.to_owned(),
        });
    }
    for list in &lists {
        use x509_parser::prelude::FromDer;

        if x509_parser::revocation_list::CertificateRevocationList::from_der(list).is_err() {
            return Err(Error::UnusableRevocationList {
                path: path.to_owned(),
            });
        }
    }
    Ok(lists)
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.chains.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Before anything is verified: each issuer costs a signature.
        if issuers.len() > self.rules.issuers_max {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let verified = self.chains.verify_client_cert(leaf, issuers, now)?;
        if !self.rules.allow.is_empty() {
            let peer = PeerCertificate::parse(leaf, issuers)?;
            if !self.rules.allow.iter().any(|rule| rule.matches(&peer)) {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;

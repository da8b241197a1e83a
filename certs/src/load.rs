//! From two PEM files to a key that can sign and a chain that can be sent.
//!
//! Life of a configuration only. Everything is parsed and checked here, at once: a certificate
//! that loads can be served. Facts that an operator wants to see (names, dates, serial number)
//! are taken out on the way.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::SignatureScheme;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_OCSP;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;
use zeroize::Zeroizing;

use crate::error::{Error, Found, Warning};
use crate::files::{self, ContentHash, FileStamp};
use crate::provider;

mod resting;

use resting::RestingKey;

/// Every signature scheme that a key of ours may be able to make. A key is asked once, while
/// loading, which of them it can, so that a handshake need not ask (asking allocates).
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::ML_DSA_44,
    SignatureScheme::ML_DSA_65,
    SignatureScheme::ML_DSA_87,
];

/// A certificate with its key, ready to be served.
#[derive(Debug)]
pub struct Certificate {
    /// What rustls signs and sends.
    pub certified: Arc<CertifiedKey>,
    /// What stands in the certificate.
    pub details: Details,
    /// Whether it stands in for one that is not issued yet.
    pub is_stand_in: bool,
    pub(crate) schemes: Box<[SignatureScheme]>,
    pub(crate) warnings: Box<[Warning]>,
    pub(crate) hash: ContentHash,
    /// The issuer that the chain ends at, in the last certificate's words.
    pub(crate) ends_at: ContentHash,
}

/// What stands in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// Whom it names, as `CN=…, O=…`; often empty today.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// The hosts it is for, in lower case; wildcards as `*.example.com`.
    pub names: Vec<Box<str>>,
    /// The addresses it is for.
    pub addresses: Vec<IpAddr>,
    /// Valid from.
    pub not_before: UnixTime,
    /// Valid until.
    pub not_after: UnixTime,
    /// The kind of key.
    pub key: SignatureAlgorithm,
    /// Whether it names somebody who can be asked about it (OCSP).
    pub has_responder: bool,
    /// Whether clients refuse it without a staple (RFC 7633).
    pub must_staple: bool,
}

impl Details {
    /// Whether the certificate may be used for a host, given in lower case.
    pub fn covers(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names
            .iter()
            .any(|name| match (name.strip_prefix("*."), parent) {
                (Some(suffix), Some(parent)) => suffix == parent,
                (Some(_), None) => false,
                (None, _) => **name == *host,
            })
    }

    fn is_timely(&self, now: UnixTime) -> bool {
        self.not_before.as_secs() <= now.as_secs() && now.as_secs() <= self.not_after.as_secs()
    }
}

impl Certificate {
    /// Whether its key can make one of these signatures.
    pub(crate) fn can_sign(&self, schemes: &[SignatureScheme]) -> bool {
        self.schemes.iter().any(|own| schemes.contains(own))
    }

    /// Whether the moment lies between its two dates.
    pub(crate) fn is_timely(&self, now: UnixTime) -> bool {
        self.details.is_timely(now)
    }

    /// What its authority says about it, as clients are sent it.
    pub fn staple(&self) -> Option<&[u8]> {
        self.certified.ocsp.as_deref()
    }

    /// The same certificate with another staple.
    pub(crate) fn stapled(&self, staple: Option<Vec<u8>>) -> Self {
        let mut certified = CertifiedKey::clone(&self.certified);
        certified.ocsp = staple;
        Self {
            certified: Arc::new(certified),
            details: self.details.clone(),
            is_stand_in: self.is_stand_in,
            schemes: self.schemes.clone(),
            warnings: self.warnings.clone(),
            hash: self.hash,
            ends_at: self.ends_at,
        }
    }

    /// Whether the chain of another certificate may be the beginning of one to take this one's
    /// place: it leads somewhere else, and is not longer. What leads where this one led is whole.
    pub(crate) fn may_be_cut_short_in(&self, other: &Self) -> bool {
        let count = |it: &Self| it.certified.cert.len();
        self.ends_at != other.ends_at && count(other) <= count(self)
    }
}

/// The two files of a certificate, read and hashed but not yet understood.
pub(crate) struct Source {
    chain: files::FileContent,
    key: files::FileContent,
    pub(crate) hash: ContentHash,
}

impl Source {
    pub(crate) fn read(chain: &Path, key: &Path, now: UnixTime) -> Result<Self, Error> {
        let chain = files::read(chain, now)?;
        let key = files::read(key, now)?;
        let hash = ContentHash::of(&[&chain.bytes, &key.bytes]);
        Ok(Self { chain, key, hash })
    }

    pub(crate) fn stamps(&self) -> Stamps {
        Stamps {
            chain: self.chain.stamp,
            key: self.key.stamp,
        }
    }

    /// Whether its chain was written a moment ago, so that there may be more of it to come.
    pub(crate) fn is_fresh(&self, now: UnixTime) -> bool {
        self.chain.stamp.is_fresh(now)
    }

    /// As the function `certificate`.
    pub(crate) fn certificate(&self, chain: &Path, key: &Path) -> Result<Certificate, Error> {
        certificate(
            (&self.chain.bytes, chain),
            (&self.key.bytes, key),
            self.hash,
        )
    }
}

/// Parses and checks everything. The paths are for messages.
fn certificate(
    (chain, chain_path): (&[u8], &Path),
    (key, key_path): (&[u8], &Path),
    hash: ContentHash,
) -> Result<Certificate, Error> {
    let certificates = certificates(chain, chain_path)?;
    let key_der = private_key(key, key_path)?;
    let signer = signing_key(&key_der, key_path)?;
    let schemes: Box<[SignatureScheme]> = SCHEMES
        .iter()
        .copied()
        .filter(|scheme| signer.choose_scheme(&[*scheme]).is_some())
        .collect();
    let mut parsed = Vec::with_capacity(certificates.len());
    for (index, der) in certificates.iter().enumerate() {
        parsed.push(parsed_at(der, chain_path, index + 1)?);
    }
    check_key(&parsed, &*signer, chain_path, key_path)?;
    let (details, warnings) = inspect(&parsed, signer.algorithm(), chain_path)?;
    let last_issuer = parsed.last().map_or(&[][..], |last| last.issuer().as_raw());
    let ends_at = ContentHash::of(&[last_issuer]);
    let resting = Arc::new(RestingKey::new(key_der, &*signer));
    Ok(Certificate {
        certified: Arc::new(CertifiedKey::new(certificates, resting)),
        details,
        is_stand_in: false,
        schemes,
        warnings,
        hash,
        ends_at,
    })
}

/// The stamps of a certificate's two files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamps {
    chain: FileStamp,
    key: FileStamp,
}

impl Stamps {
    pub(crate) fn still_hold(&self, chain: &Path, key: &Path, now: UnixTime) -> bool {
        self.chain.still_holds(chain, now) && self.key.still_holds(key, now)
    }

    pub(crate) fn warning(&self, key: &Path) -> Option<Warning> {
        key_warning(key, self.key.mode)
    }
}

/// The warning about a key that more people may read or replace than have to. Keys readable by a
/// group are common, and meant: that is how services share them. Nobody means a group to write one.
pub(crate) fn key_warning(key: &Path, mode: u32) -> Option<Warning> {
    let path = || key.to_owned();
    if mode & 0o022 != 0 {
        Some(Warning::KeyWritableByOthers { path: path(), mode })
    } else if mode & 0o004 != 0 {
        Some(Warning::KeyReadableByAll { path: path(), mode })
    } else {
        None
    }
}

/// Loads one certificate from its chain and key files.
pub fn load(chain: &Path, key: &Path) -> Result<Certificate, Error> {
    Source::read(chain, key, UnixTime::now())?.certificate(chain, key)
}

/// Takes a certificate out of one PEM text with its key and its chain. The path is for messages.
pub fn parse(bundle: &[u8], path: &Path) -> Result<Certificate, Error> {
    certificate(
        (bundle, path),
        (bundle, path),
        ContentHash::of(&[bundle, bundle]),
    )
}

/// All certificates of a PEM file, at least one.
pub(crate) fn certificates(
    bytes: &[u8],
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| damaged(path, source))?;
    if certificates.is_empty() {
        return Err(Error::NoCertificate {
            path: path.to_owned(),
            found: found_in(bytes),
        });
    }
    Ok(certificates)
}

/// The first private key of a PEM file.
fn private_key(bytes: &[u8], path: &Path) -> Result<Zeroizing<PrivateKeyDer<'static>>, Error> {
    let path_buf = || path.to_owned();
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key.into()),
        Err(_) if is_encrypted(bytes) => Err(Error::EncryptedKey { path: path_buf() }),
        Err(pem::Error::NoItemsFound) => Err(Error::NoKey {
            path: path_buf(),
            found: found_in(bytes),
        }),
        Err(source) => Err(damaged(path, source)),
    }
}

fn signing_key(key: &PrivateKeyDer<'_>, path: &Path) -> Result<Arc<dyn SigningKey>, Error> {
    let loader = provider::provider().key_provider;
    let loaded = loader.load_private_key(key.clone_key());
    loaded.map_err(|source| Error::UnusableKey {
        path: path.to_owned(),
        source,
    })
}

/// PKCS #8 says it in the section's name, the older formats in a header inside the section.
fn is_encrypted(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.lines().any(|line| {
            line.strip_prefix("Proc-Type:")
                .is_some_and(|rest| rest.contains("ENCRYPTED"))
        })
}

fn damaged(path: &Path, source: pem::Error) -> Error {
    Error::Pem {
        path: path.to_owned(),
        source,
    }
}

fn found_in(bytes: &[u8]) -> Found {
    let mut found = Found::NoPem;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes).flatten() {
        match section.0 {
            SectionKind::Certificate => return Found::Certificate,
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Found::PrivateKey;
            }
            SectionKind::Csr => return Found::Request,
            _ => found = Found::OtherSections,
        }
    }
    // DER and PKCS #12 both open with an ASN.1 SEQUENCE.
    match bytes.first() {
        None => Found::Nothing,
        Some(0x30) if std::str::from_utf8(bytes).is_err() => Found::Binary,
        Some(_) if bytes.iter().all(u8::is_ascii_whitespace) => Found::Nothing,
        Some(_) if found == Found::NoPem && contains_section(bytes) => Found::OtherSections,
        Some(_) => found,
    }
}

fn contains_section(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains("-----BEGIN ")
}

/// Whether the key signs for the chain's first certificate.
fn check_key(
    parsed: &[X509Certificate<'_>],
    signer: &dyn SigningKey,
    chain: &Path,
    key: &Path,
) -> Result<(), Error> {
    let Some(public_key) = signer.public_key() else {
        return Ok(());
    };
    let mut certificates = parsed.iter();
    let belongs_to = certificates.position(|one| one.public_key().raw == public_key.as_ref());
    match belongs_to {
        Some(0) => Ok(()),
        other => Err(Error::KeyMismatch {
            chain: chain.to_owned(),
            key: key.to_owned(),
            belongs_to: other.map(|index| index + 1),
        }),
    }
}

fn parsed_at<'a>(
    der: &'a CertificateDer<'_>,
    path: &Path,
    position: usize,
) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(Error::Malformed {
            path: path.to_owned(),
            position,
            source: match error {
                x509_parser::nom::Err::Error(cause) | x509_parser::nom::Err::Failure(cause) => {
                    cause
                }
                x509_parser::nom::Err::Incomplete(_) => X509Error::InvalidCertificate,
            },
        }),
    }
}

/// Takes out of a chain what operators want to see, and what they should hear.
fn inspect(
    parsed: &[X509Certificate<'_>],
    key: SignatureAlgorithm,
    path: &Path,
) -> Result<(Details, Box<[Warning]>), Error> {
    let Some(leaf) = parsed.first() else {
        return Err(Error::NoCertificate {
            path: path.to_owned(),
            found: Found::Nothing,
        });
    };
    let mut warnings = Vec::new();
    let (names, addresses) = names_of(leaf, &mut warnings);
    if names.is_empty() && addresses.is_empty() {
        warnings.push(Warning::NoNames);
    }
    if !is_for_servers(leaf) {
        warnings.push(Warning::NotForServers);
    }
    if must_staple(leaf) && !has_responder(leaf) {
        warnings.push(Warning::CannotBeStapled);
    }
    chain_warnings(parsed, &mut warnings);
    let details = Details {
        subject: leaf.subject().to_string(),
        issuer: leaf.issuer().to_string(),
        serial: hexadecimal(leaf.raw_serial()),
        names,
        addresses,
        not_before: moment(leaf.validity().not_before.timestamp()),
        not_after: moment(leaf.validity().not_after.timestamp()),
        key,
        has_responder: has_responder(leaf),
        must_staple: must_staple(leaf),
    };
    Ok((details, warnings.into_boxed_slice()))
}

/// Whether a certificate names a responder. Looked for once, while it is parsed anyway: most have
/// none today.
fn has_responder(leaf: &X509Certificate<'_>) -> bool {
    let mut extensions = leaf.extensions().iter();
    extensions.any(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            let mut described = access.accessdescs.iter();
            described.any(|one| one.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP)
        }
        _ => false,
    })
}

/// Whether a certificate says that it is only good with a staple: the extension for TLS features
/// names `status_request` (RFC 7633 section 4).
fn must_staple(leaf: &X509Certificate<'_>) -> bool {
    // A sequence of one number, 5, in DER.
    const STATUS_REQUEST: &[u8] = &[0x02, 0x01, 0x05];
    let mut extensions = leaf.extensions().iter();
    extensions.any(|extension| {
        let mut content = extension.value.windows(STATUS_REQUEST.len());
        extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.24"
            && content.any(|number| number == STATUS_REQUEST)
    })
}

/// Dates before 1970 count as 1970: long ago is all that matters.
fn moment(timestamp: i64) -> UnixTime {
    let secs = u64::try_from(timestamp).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs))
}

fn hexadecimal(bytes: &[u8]) -> String {
    // A leading zero octet only says that the number is positive.
    let digits = bytes.strip_prefix(&[0]).filter(|rest| !rest.is_empty());
    let digits = digits.unwrap_or(bytes);
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names_of(
    leaf: &X509Certificate<'_>,
    warnings: &mut Vec<Warning>,
) -> (Vec<Box<str>>, Vec<IpAddr>) {
    let mut names = Vec::new();
    let mut addresses = Vec::new();
    let general_names = leaf
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|extension| &extension.value.general_names);
    for general_name in general_names.into_iter().flatten() {
        match general_name {
            GeneralName::DNSName(name) => {
                let lower = name.to_ascii_lowercase();
                if is_matchable(&lower) {
                    names.push(lower.into_boxed_str());
                } else {
                    warnings.push(Warning::UnusableName {
                        name: name.escape_default().to_string(),
                    });
                }
            }
            GeneralName::IPAddress(octets) => match <[u8; 4]>::try_from(*octets) {
                Ok(v4) => addresses.push(IpAddr::from(v4)),
                Err(_) => addresses.extend(<[u8; 16]>::try_from(*octets).ok().map(IpAddr::from)),
            },
            _ => {}
        }
    }
    (names, addresses)
}

/// Whether clients match the name: a whole first label may be a wildcard (RFC 6125 section
/// 6.4.3), nothing else.
fn is_matchable(name: &str) -> bool {
    let fixed = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && fixed.split('.').all(is_label)
}

fn is_for_servers(leaf: &X509Certificate<'_>) -> bool {
    match leaf.extended_key_usage() {
        Ok(Some(usage)) => usage.value.server_auth || usage.value.any,
        // Without the extension a certificate is for everything (RFC 5280 section 4.2.1.12).
        Ok(None) | Err(_) => true,
    }
}

fn chain_warnings(chain: &[X509Certificate<'_>], warnings: &mut Vec<Warning>) {
    for (index, pair) in chain.windows(2).enumerate() {
        if let [issued, issuer] = pair
            && !is_same_name(issued.issuer(), issuer.subject())
        {
            warnings.push(Warning::ChainOrder {
                position: index + 1,
            });
        }
    }
    // Public authorities issue from intermediates and say where to fetch them; private ones that
    // issue from their root say nothing, and need nothing.
    if let [leaf] = chain
        && !is_same_name(leaf.issuer(), leaf.subject())
        && tells_where_its_issuer_is(leaf)
    {
        warnings.push(Warning::IssuerMissing {
            issuer: leaf.issuer().to_string(),
        });
    }
}

fn is_same_name(one: &X509Name<'_>, other: &X509Name<'_>) -> bool {
    one.as_raw() == other.as_raw()
}

fn tells_where_its_issuer_is(certificate: &X509Certificate<'_>) -> bool {
    use x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS;

    certificate
        .extensions()
        .iter()
        .any(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => access
                .iter()
                .any(|entry| entry.access_method == OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS),
            _ => false,
        })
}

#[cfg(test)]
mod tests;

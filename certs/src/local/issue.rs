//! Making the local authority and what it issues.
//!
//! All of it through rcgen; here is decided only what stands in the certificates.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::{AUTHORITY_SECS, Files, LEAF_SECS, LocalAuthority, write_private};
use crate::error::{Calendar, Error};
use crate::files;
use crate::load::{Certificate, Source};
use crate::provider;

/// Clocks of containers and virtual machines may differ from the browser's by this much.
const CLOCK_SKEW_SECS: u64 = 60 * 60;

/// The authority, able to sign.
pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Whether a certificate was signed with this authority's key.
    pub(super) fn has_issued(&self, leaf: &Certificate) -> bool {
        let Some(der) = leaf.certified.cert.first() else {
            return false;
        };
        let parsed = X509Certificate::from_der(der);
        let own = X509Certificate::from_der(&self.certificate);
        let (Ok((_, leaf)), Ok((_, own))) = (parsed, own) else {
            return false;
        };
        // The subject alone would not do: a replaced authority may have been made the same day.
        key_identifier_of_issuer(&leaf).is_some_and(|id| Some(id) == own_key_identifier(&own))
    }
}

fn key_identifier_of_issuer<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    use x509_parser::extensions::ParsedExtension;

    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0)
            }
            _ => None,
        })
}

fn own_key_identifier<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    use x509_parser::extensions::ParsedExtension;

    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
}

/// The authority in the files, if it can issue for these names. `None` if there is none, if it is
/// damaged, if it ends before a new leaf would, or if it may not issue for one of the names: in
/// each case there has to be a new one.
pub(super) fn load_authority(files: &Files, names: &[String], now: UnixTime) -> Option<Authority> {
    let source = Source::read(&files.authority, &files.authority_key, now).ok()?;
    let checked = source
        .certificate(&files.authority, &files.authority_key)
        .ok()?;
    let is_lasting = now.as_secs() + LEAF_SECS < checked.details.not_after.as_secs()
        && checked.details.not_before.as_secs() <= now.as_secs();
    let certificate = checked.certified.cert.first()?.clone();
    let permits_all = {
        let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
        parsed.is_ca() && names.iter().all(|name| permits(&parsed, name))
    };
    if !is_lasting || !permits_all {
        return None;
    }
    let pem = files::read(&files.authority_key, now).ok()?;
    let key = KeyPair::from_pem(std::str::from_utf8(&pem.bytes).ok()?).ok()?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key).ok()?;
    Some(Authority {
        certificate,
        issuer,
    })
}

/// What there is to be said of the authority in the files.
pub(super) fn describe(files: &Files, now: UnixTime) -> Result<LocalAuthority, Error> {
    let source = Source::read(&files.authority, &files.authority_key, now)?;
    let authority = source.certificate(&files.authority, &files.authority_key)?;
    let certificate = authority.certified.cert.first();
    let hash = digest::digest(
        &digest::SHA256,
        certificate.map_or(&[][..], |it| it.as_ref()),
    );
    let pairs: Vec<String> = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let pem = files::read(&files.authority, now)?.bytes;
    Ok(LocalAuthority {
        path: files.authority.clone(),
        pem: String::from_utf8_lossy(&pem).into_owned(),
        name: common_name(&authority.details.subject),
        fingerprint: pairs.join(":"),
        not_after: authority.details.not_after,
    })
}

fn common_name(subject: &str) -> String {
    let mut parts = subject.split(", ");
    let name = parts.find_map(|part| part.strip_prefix("CN="));
    name.unwrap_or(subject).to_owned()
}

/// Makes an authority for these names and everything below them, in place of any other.
pub(super) fn create_authority(
    files: &Files,
    names: &[String],
    now: UnixTime,
) -> Result<Authority, Error> {
    let failed = |source| Error::Issue {
        what: "the local authority",
        source,
    };
    let mut params = params_for(now, AUTHORITY_SECS);
    let today = Calendar(now).to_string();
    let day = today.split(' ').next().unwrap_or_default();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Cardea");
    params.distinguished_name.push(
        DnType::CommonName,
        format!("Cardea local authority of {day}"),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted_subtrees(names),
        excluded_subtrees: Vec::new(),
    });
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    // If this ends between the two, they do not match, and the next start makes new ones.
    write_private(&files.authority_key, &private_pem(&key))?;
    write_private(&files.authority, certificate.pem().as_bytes())?;
    Ok(Authority {
        certificate: certificate.into(),
        issuer: Issuer::new(params, key),
    })
}

/// A certificate that was issued, and is nowhere yet.
pub(super) struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Leaf {
    /// What rustls serves.
    pub(super) fn certified(self) -> Result<CertifiedKey, rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let key = provider::provider().key_provider.load_private_key(key)?;
        Ok(CertifiedKey::new(vec![self.certificate.into()], key))
    }
}

/// Issues a certificate for these names, into its files.
pub(super) fn create_leaf(
    files: &Files,
    authority: &Authority,
    names: &[String],
    now: UnixTime,
) -> Result<Certificate, Error> {
    let Leaf { certificate, key } = issue(authority, names, now)?;
    write_private(&files.key, &private_pem(&key))?;
    write_private(&files.chain, certificate.pem().as_bytes())?;
    Source::read(&files.chain, &files.key, now)?.certificate(&files.chain, &files.key)
}

/// Issues a certificate for these names.
pub(super) fn issue(authority: &Authority, names: &[String], now: UnixTime) -> Result<Leaf, Error> {
    let failed = |source| Error::Issue {
        what: "a certificate of the local authority",
        source,
    };
    let mut params = params_for(now, LEAF_SECS);
    params.subject_alt_names = CertificateParams::new(names)
        .map_err(failed)?
        .subject_alt_names;
    params
        .distinguished_name
        .push(DnType::CommonName, "Cardea local certificate");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.signed_by(&key, &authority.issuer).map_err(failed)?;
    Ok(Leaf { certificate, key })
}

fn params_for(now: UnixTime, lifetime_secs: u64) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let not_before = now.as_secs().saturating_sub(CLOCK_SKEW_SECS);
    let mut params = CertificateParams::default();
    params.not_before = epoch + Duration::from_secs(not_before);
    params.not_after = epoch + Duration::from_secs(now.as_secs() + lifetime_secs);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

fn private_pem(key: &KeyPair) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(key.serialize_pem().into_bytes())
}

/// What the authority may issue for: loopback, the names, and all below them. A DNS subtree
/// contains the names under it (RFC 5280 section 4.2.1.10), so wildcards need none of their own.
fn permitted_subtrees(names: &[String]) -> Vec<GeneralSubtree> {
    let mut subtrees = vec![GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(
        [127, 0, 0, 0],
        8,
    ))];
    for name in names {
        let subtree = match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) if address.is_loopback() => continue,
            Ok(address) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
            }
            Err(_) => {
                let fixed = name.strip_prefix("*.").unwrap_or(name);
                GeneralSubtree::DnsName(fixed.to_owned())
            }
        };
        if !subtrees.contains(&subtree) {
            subtrees.push(subtree);
        }
    }
    subtrees
}

/// Whether an authority's constraints let it issue for a name. One without constraints is not
/// ours, and would be a danger to keep.
fn permits(authority: &X509Certificate<'_>, name: &str) -> bool {
    let Ok(Some(constraints)) = authority.name_constraints() else {
        return false;
    };
    let subtrees = constraints.value.permitted_subtrees.iter().flatten();
    let mut bases = subtrees.map(|subtree| &subtree.base);
    match name.parse::<IpAddr>() {
        Ok(address) => bases.any(|base| match base {
            GeneralName::IPAddress(octets) => subnet_contains(octets, address),
            _ => false,
        }),
        Err(_) => bases.any(|base| match base {
            GeneralName::DNSName(base) => name
                .strip_suffix(base)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            _ => false,
        }),
    }
}

/// Whether an address and mask, as a constraint holds them, contain an address.
fn subnet_contains(octets: &[u8], address: IpAddr) -> bool {
    let own = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    if octets.len() != 2 * own.len() {
        return false;
    }
    let (base, mask) = octets.split_at(own.len());
    let mut bits = own.iter().zip(base).zip(mask);
    bits.all(|((own, base), mask)| own & mask == base & mask)
}

//! What an authority says about a certificate it issued: still good, or revoked (RFC 6960). Its
//! word is stapled to handshakes (RFC 6066 section 8), so that clients need not ask, and the
//! authority does not learn who visits whom.
//!
//! Here are the question, and the answer's examination; fetching is left to others. Answers come
//! over plain HTTP and are believed only for their signature.
//!
//! Must not: take for good what the issuer, or somebody it authorised, did not sign.

use std::time::Duration;

use aws_lc_rs::digest;
use der::asn1::{AnyRef, Null, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use rustls::pki_types::UnixTime;
use x509_cert::Certificate as X509;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityInfoAccessSyntax, ExtendedKeyUsage};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse,
    OcspResponseStatus, Request, SingleResponse, TbsRequest,
};

use crate::load::Certificate;
use crate::provider;

/// The method by which a certificate says where to ask (RFC 5280 section 4.2.2.1).
const ID_AD_OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");

/// Answers of the only kind there is (RFC 6960 section 4.2.1).
const ID_PKIX_OCSP_BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");

/// What certificates of responders are for that an issuer authorised.
const ID_KP_OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");

/// SHA-1 names the issuer in questions: every responder knows it, and nothing rests on it.
const ID_SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");

/// How far clocks may be apart, seconds.
const SKEW_SECS: u64 = 300;

/// How long an answer counts that does not say when there will be a newer one, seconds.
const UNTOLD_LIFE_SECS: u64 = 24 * 60 * 60;

/// What there is to be asked about a certificate.
#[derive(Debug, Clone)]
pub struct Question {
    /// Where to send it: an `http` URL, as the certificate has it.
    pub url: String,
    /// What to send.
    pub request: Vec<u8>,
    id: CertId,
    issuer: X509,
}

/// An answer that can be stapled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    /// What clients are sent.
    pub response: Vec<u8>,
    /// From when it is.
    pub this_update: UnixTime,
    /// Until when it counts.
    pub next_update: UnixTime,
}

/// Why an answer is not stapled.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is not what RFC 6960 describes.
    #[error("the answer is malformed")]
    Malformed(#[source] der::Error),
    /// The responder did not answer the question.
    #[error("the responder says `{0}` instead of an answer")]
    Declined(&'static str),
    /// It is about something else.
    #[error("the answer is about another certificate")]
    Other,
    /// Nobody entitled signed it.
    #[error("neither the certificate's issuer nor a responder it authorised signed the answer")]
    Signature,
    /// It is too old, or from the future.
    #[error("the answer counts from {this_update} to {next_update}, which is not now", this_update = crate::Calendar(*.this_update), next_update = crate::Calendar(*.next_update))]
    Untimely {
        /// From when it counts.
        this_update: UnixTime,
        /// Until when.
        next_update: UnixTime,
    },
    /// The authority took the certificate back.
    #[error("the certificate was revoked at {at}", at = crate::Calendar(*.at))]
    Revoked {
        /// When.
        at: UnixTime,
    },
    /// The authority does not know the certificate.
    #[error("the authority does not know the certificate")]
    Unknown,
}

impl From<der::Error> for Unusable {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error)
    }
}

impl Question {
    /// What to ask about a certificate; none if it names nobody to ask, or comes without its
    /// issuer.
    pub fn about(certificate: &Certificate) -> Option<Self> {
        let [leaf, issuer, ..] = certificate.certified.cert.as_slice() else {
            return None;
        };
        let leaf = X509::from_der(leaf).ok()?;
        let url = responder(&leaf)?;
        let issuer = X509::from_der(issuer).ok()?;
        let id = id(&leaf, &issuer).ok()?;
        let question = TbsRequest {
            request_list: vec![Request {
                req_cert: id.clone(),
                single_request_extensions: None,
            }],
            ..TbsRequest::default()
        };
        let request = OcspRequest {
            tbs_request: question,
            optional_signature: None,
        };
        Some(Self {
            url,
            request: request.to_der().ok()?,
            id,
            issuer,
        })
    }

    /// Examines an answer.
    pub fn answered(&self, response: &[u8], now: UnixTime) -> Result<Staple, Unusable> {
        let answer = basic(response)?;
        let data = &answer.tbs_response_data;
        let mut about = data.responses.iter();
        let about = about.find(|one| self.is_about(one));
        let about = about.ok_or(Unusable::Other)?;
        if !self.is_signed(&answer, now)? {
            return Err(Unusable::Signature);
        }
        let this_update = moment(about.this_update);
        let next_update = match about.next_update {
            Some(next_update) => moment(next_update),
            None => later(this_update, UNTOLD_LIFE_SECS),
        };
        match about.cert_status {
            CertStatus::Good(_) => {}
            CertStatus::Revoked(info) => {
                let at = moment(info.revocation_time);
                return Err(Unusable::Revoked { at });
            }
            CertStatus::Unknown(_) => return Err(Unusable::Unknown),
        }
        let staple = Staple {
            response: response.to_vec(),
            this_update,
            next_update,
        };
        if this_update.as_secs() > now.as_secs() + SKEW_SECS || !staple.counts(now) {
            return Err(Unusable::Untimely {
                this_update,
                next_update,
            });
        }
        Ok(staple)
    }

    fn is_about(&self, one: &SingleResponse) -> bool {
        let (id, own) = (&one.cert_id, &self.id);
        id.serial_number == own.serial_number
            && id.hash_algorithm.oid == own.hash_algorithm.oid
            && id.issuer_name_hash == own.issuer_name_hash
            && id.issuer_key_hash == own.issuer_key_hash
    }

    /// Whether the issuer signed an answer, or one whom it authorised to (RFC 6960 section
    /// 4.2.2.2).
    fn is_signed(&self, answer: &BasicOcspResponse, now: UnixTime) -> Result<bool, der::Error> {
        let signed = answer.tbs_response_data.to_der()?;
        let signature = answer.signature.raw_bytes();
        let by = |key| verifies(key, &answer.signature_algorithm, &signed, signature);
        let issuer = &self.issuer.tbs_certificate.subject_public_key_info;
        if by(issuer)? {
            return Ok(true);
        }
        for responder in answer.certs.iter().flatten() {
            let key = &responder.tbs_certificate.subject_public_key_info;
            if self.has_authorised(responder, now)? && by(key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_authorised(&self, responder: &X509, now: UnixTime) -> Result<bool, der::Error> {
        let details = &responder.tbs_certificate;
        let usage = details.get::<ExtendedKeyUsage>()?;
        let is_meant = usage.is_some_and(|(_, usage)| usage.0.contains(&ID_KP_OCSP_SIGNING));
        let validity = &details.validity;
        let now = now.as_secs();
        let is_timely = validity.not_before.to_unix_duration().as_secs() <= now + SKEW_SECS
            && now <= validity.not_after.to_unix_duration().as_secs();
        if !is_meant || !is_timely || details.issuer != self.issuer.tbs_certificate.subject {
            return Ok(false);
        }
        verifies(
            &self.issuer.tbs_certificate.subject_public_key_info,
            &responder.signature_algorithm,
            &details.to_der()?,
            responder.signature.raw_bytes(),
        )
    }
}

impl Staple {
    /// Whether it still counts.
    pub fn counts(&self, now: UnixTime) -> bool {
        now.as_secs() < self.next_update.as_secs()
    }

    /// When to ask again: halfway through its time, as newer answers are there long before it
    /// ends.
    pub fn ask_again_at(&self) -> UnixTime {
        let (from, until) = (self.this_update.as_secs(), self.next_update.as_secs());
        later(self.this_update, until.saturating_sub(from) / 2)
    }
}

/// Who can be asked about a certificate, as it says itself.
fn responder(leaf: &X509) -> Option<String> {
    let access = leaf.tbs_certificate.get::<AuthorityInfoAccessSyntax>();
    let (_, access) = access.ok()??;
    access.0.into_iter().find_map(|one| {
        let GeneralName::UniformResourceIdentifier(url) = &one.access_location else {
            return None;
        };
        let url = url.as_str();
        let is_usable = one.access_method == ID_AD_OCSP && url.starts_with("http://");
        is_usable.then(|| url.to_owned())
    })
}

/// How questions name a certificate.
fn id(leaf: &X509, issuer: &X509) -> Result<CertId, der::Error> {
    let issuer = &issuer.tbs_certificate;
    let key = issuer
        .subject_public_key_info
        .subject_public_key
        .raw_bytes();
    let hash = |bytes: &[u8]| {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
        OctetString::new(hash.as_ref())
    };
    Ok(CertId {
        hash_algorithm: AlgorithmIdentifierOwned {
            oid: ID_SHA_1,
            parameters: Some(Null.into()),
        },
        issuer_name_hash: hash(&issuer.subject.to_der()?)?,
        issuer_key_hash: hash(key)?,
        serial_number: leaf.tbs_certificate.serial_number.clone(),
    })
}

/// Takes the answer out of a response.
fn basic(response: &[u8]) -> Result<BasicOcspResponse, Unusable> {
    let response = OcspResponse::from_der(response)?;
    let declined = match response.response_status {
        OcspResponseStatus::Successful => None,
        OcspResponseStatus::MalformedRequest => Some("malformedRequest"),
        OcspResponseStatus::InternalError => Some("internalError"),
        OcspResponseStatus::TryLater => Some("tryLater"),
        OcspResponseStatus::SigRequired => Some("sigRequired"),
        OcspResponseStatus::Unauthorized => Some("unauthorized"),
    };
    match (declined, response.response_bytes) {
        (None, Some(bytes)) if bytes.response_type == ID_PKIX_OCSP_BASIC => {
            Ok(BasicOcspResponse::from_der(bytes.response.as_bytes())?)
        }
        (None, _) => Err(Unusable::Declined("an answer of an unknown kind")),
        (Some(declined), _) => Err(Unusable::Declined(declined)),
    }
}

/// Whether a key made a signature.
fn verifies(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, der::Error> {
    let (of_key, of_signature) = (key.algorithm.to_der()?, algorithm.to_der()?);
    let of_key = AnyRef::from_der(&of_key)?.value();
    let of_signature = AnyRef::from_der(&of_signature)?.value();
    let key = key.subject_public_key.raw_bytes();
    let algorithms = provider::provider().signature_verification_algorithms;
    let mut suitable = algorithms.all.iter().filter(|one| {
        one.public_key_alg_id().as_ref() == of_key
            && one.signature_alg_id().as_ref() == of_signature
    });
    Ok(suitable.any(|one| one.verify_signature(key, message, signature).is_ok()))
}

fn moment(time: OcspGeneralizedTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.0.to_unix_duration())
}

fn later(time: UnixTime, secs: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.as_secs().saturating_add(secs)))
}

#[cfg(test)]
mod tests;

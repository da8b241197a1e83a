//! Who a client is, by the certificate it showed: the names in it, and rules about them.
//!
//! Part of the life of a request, once for each connection with a certificate. What stands in a
//! certificate was written by an authority, but much of it at the client's wish: text from it is
//! escaped here so that it stays within whatever it is put into.

use std::fmt::Write;

use aws_lc_rs::digest;
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

mod pattern;

pub use pattern::Pattern;

/// Names of one kind that are taken from a certificate, each; authorities put in a handful.
const NAMES_MAX: usize = 100;

/// A client's certificate, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whom it names, as RFC 4514 writes it: `CN=service,O=Example`. ASCII, without controls.
    pub subject: Box<str>,
    /// The common name in it, as it stands there; the first if there are several.
    pub common_name: Option<Box<str>>,
    /// Who issued it, likewise.
    pub issuer: Box<str>,
    /// Its serial number in hexadecimal.
    pub serial: Box<str>,
    /// The hosts it is for.
    pub dns: Box<[Box<str>]>,
    /// The URIs it is for; a SPIFFE identity is one.
    pub uris: Box<[Box<str>]>,
    /// The mail addresses it is for.
    pub emails: Box<[Box<str>]>,
    /// The SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: Box<str>,
    /// The certificate itself.
    pub leaf: CertificateDer<'static>,
    /// The issuers that were sent with it.
    pub issuers: Box<[CertificateDer<'static>]>,
}

impl PeerCertificate {
    /// Takes the names out of a certificate that was verified.
    pub fn parse(
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
    ) -> Result<Self, rustls::Error> {
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let mut names = Names::default();
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|it| &it.value.general_names) {
            names.add(name);
        }
        Ok(Self {
            subject: distinguished(parsed.subject()),
            common_name: common_name(parsed.subject()),
            issuer: distinguished(parsed.issuer()),
            serial: hexadecimal(parsed.raw_serial()),
            dns: names.dns.into(),
            uris: names.uris.into(),
            emails: names.emails.into(),
            fingerprint: hexadecimal(digest::digest(&digest::SHA256, leaf).as_ref()),
            leaf: leaf.clone().into_owned(),
            issuers: issuers.iter().map(|one| one.clone().into_owned()).collect(),
        })
    }
}

impl PeerCertificate {
    /// The name that says most in a line: the first URI, else host, else mail address.
    pub fn first_name(&self) -> Option<&str> {
        let mut names = self.uris.iter().chain(&self.dns).chain(&self.emails);
        names.next().map(|name| &**name)
    }
}

/// The alternative names of a certificate, by kind.
#[derive(Default)]
struct Names {
    dns: Vec<Box<str>>,
    uris: Vec<Box<str>>,
    emails: Vec<Box<str>>,
}

impl Names {
    fn add(&mut self, name: &GeneralName<'_>) {
        let (list, text) = match name {
            GeneralName::DNSName(text) => (&mut self.dns, text),
            GeneralName::URI(text) => (&mut self.uris, text),
            GeneralName::RFC822Name(text) => (&mut self.emails, text),
            _ => return,
        };
        // Names are IA5String (RFC 5280 section 4.2.1.6); one with anything else is no name.
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_plain && list.len() < NAMES_MAX {
            list.push((*text).into());
        }
    }
}

/// A rule about who may come: every part that it has must match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PeerRule {
    /// The subject.
    pub subject: Option<Pattern>,
    /// One of the hosts.
    pub dns: Option<Pattern>,
    /// One of the URIs.
    pub uri: Option<Pattern>,
    /// One of the mail addresses.
    pub email: Option<Pattern>,
    /// The SHA-256 of the certificate, in lower-case hexadecimal without separators.
    pub fingerprint: Option<Box<str>>,
}

impl PeerRule {
    /// Whether a client is one of those meant.
    pub fn matches(&self, peer: &PeerCertificate) -> bool {
        let any = |pattern: &Option<Pattern>, names: &[Box<str>]| match pattern {
            Some(pattern) => names.iter().any(|name| pattern.matches(name)),
            None => true,
        };
        let is =
            |own: &Option<Box<str>>, other: &str| own.as_deref().is_none_or(|own| own == other);
        self.subject
            .as_ref()
            .is_none_or(|pattern| pattern.matches(&peer.subject))
            && any(&self.dns, &peer.dns)
            && any(&self.uri, &peer.uris)
            && any(&self.email, &peer.emails)
            && is(&self.fingerprint, &peer.fingerprint)
    }
}

fn common_name(name: &X509Name<'_>) -> Option<Box<str>> {
    let first = name.iter_common_name().next()?;
    first.as_str().ok().map(Into::into)
}

/// A name as RFC 4514 writes it: the most specific part first.
fn distinguished(name: &X509Name<'_>) -> Box<str> {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (position, part) in parts.into_iter().rev().enumerate() {
        if position > 0 {
            text.push(',');
        }
        for (position, attribute) in part.iter().enumerate() {
            if position > 0 {
                text.push('+');
            }
            let registry = x509_parser::objects::oid_registry();
            match x509_parser::objects::oid2abbrev(attribute.attr_type(), registry) {
                Ok(short) => text.push_str(short),
                Err(_) => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push('=');
            match attribute.as_str() {
                Ok(value) => push_escaped(&mut text, value),
                // Kinds of text that are hardly used are given as they are (RFC 4514 section 2.4).
                Err(_) => {
                    text.push('#');
                    text.push_str(&hexadecimal(attribute.attr_value().data));
                }
            }
        }
    }
    text.into_boxed_str()
}

/// Escapes a value as RFC 4514 section 2.4 has it, and every byte that is not plain ASCII besides.
fn push_escaped(out: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        let is_edge = (at == 0 || at == last) && byte == b' ' || at == 0 && byte == b'#';
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' if !is_edge => out.push(char::from(byte)),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> Box<str> {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text.into_boxed_str()
}

#[cfg(test)]
mod tests;

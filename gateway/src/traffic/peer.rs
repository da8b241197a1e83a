//! The client's certificate beyond the handshake: what rules say about it, and how origins are told.
//!
//! Must not: tell an origin anything that was not verified, or leave a character in what is told
//! that could end it.

use cardea_certs::peer::{Pattern, PeerCertificate, PeerRule};
use cardea_config::model::{CertificateRule, Fingerprint};
use cardea_http1::Known;
use data_encoding::BASE64;

use super::exchange::Exchange;
use crate::snapshot::ClientCertificateFields;

/// A rule about client certificates, compiled.
pub fn rule(settings: &CertificateRule) -> PeerRule {
    let pattern = |text: &Option<String>| text.as_deref().map(Pattern::new);
    PeerRule {
        subject: pattern(&settings.subject),
        dns: pattern(&settings.dns),
        uri: pattern(&settings.uri),
        email: pattern(&settings.email),
        fingerprint: settings
            .fingerprint
            .as_ref()
            .map(Fingerprint::as_str)
            .map(Into::into),
    }
}

/// What a rule asks for, in words.
pub fn describe(rule: &PeerRule) -> String {
    let parts = [
        ("subject", rule.subject.as_ref().map(Pattern::to_string)),
        ("dns", rule.dns.as_ref().map(Pattern::to_string)),
        ("uri", rule.uri.as_ref().map(Pattern::to_string)),
        ("email", rule.email.as_ref().map(Pattern::to_string)),
        (
            "fingerprint",
            rule.fingerprint.as_deref().map(str::to_owned),
        ),
    ];
    let set = parts.into_iter().filter_map(|(name, value)| {
        let value = value?;
        Some(format!("{name} {value}"))
    });
    set.collect::<Vec<_>>().join(" and ")
}

/// Whether a field received is one that tells who the client is by its certificate, and is told
/// anew instead.
pub fn is_told_anew(known: Known, exchange: &Exchange<'_>) -> bool {
    let forwarding = &exchange.snapshot.forwarding;
    match known {
        Known::XForwardedClientCert => forwarding.client_certificate.xfcc,
        // What a trusted proxy says about its client stands only where we know of none ourselves.
        Known::ClientCert | Known::ClientCertChain => {
            forwarding.client_certificate.rfc9440 && exchange.peer_certificate().is_some()
        }
        _ => false,
    }
}

/// Writes the fields that tell an origin who the client is by its certificate.
pub fn write_fields(out: &mut Vec<u8>, exchange: &Exchange<'_>) {
    let ClientCertificateFields { xfcc, rfc9440 } = exchange.snapshot.forwarding.client_certificate;
    let peer = exchange.peer_certificate();
    let headers = &exchange.request.headers;
    if xfcc && !headers.is_added(Known::XForwardedClientCert) {
        write_xfcc(out, exchange, peer);
    }
    let Some(peer) = peer.filter(|_| rfc9440) else {
        return;
    };
    if !headers.is_added(Known::ClientCert) {
        out.extend_from_slice(b"client-cert: ");
        write_binary(out, &peer.leaf);
        out.extend_from_slice(b"\r\n");
    }
    if !peer.issuers.is_empty() && !headers.is_added(Known::ClientCertChain) {
        out.extend_from_slice(b"client-cert-chain: ");
        for (position, issuer) in peer.issuers.iter().enumerate() {
            if position > 0 {
                out.extend_from_slice(b", ");
            }
            write_binary(out, issuer);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The elements of a trusted peer, and one for this hop, as Envoy writes them.
fn write_xfcc(out: &mut Vec<u8>, exchange: &Exchange<'_>, peer: Option<&PeerCertificate>) {
    let told = exchange.request.headers.iter();
    let told = told.filter(|(known, _, _)| *known == Known::XForwardedClientCert);
    let mut told = told.map(|(_, _, value)| value).peekable();
    if told.peek().is_none() && peer.is_none() {
        return;
    }
    out.extend_from_slice(b"x-forwarded-client-cert: ");
    while let Some(value) = told.next() {
        out.extend_from_slice(value);
        if told.peek().is_some() || peer.is_some() {
            out.push(b',');
        }
    }
    if let Some(peer) = peer {
        write_element(out, peer);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_element(out: &mut Vec<u8>, peer: &PeerCertificate) {
    out.extend_from_slice(b"Hash=");
    out.extend_from_slice(peer.fingerprint.as_bytes());
    out.extend_from_slice(b";Subject=");
    write_quoted(out, &peer.subject);
    for (name, values) in [(&b";URI="[..], &peer.uris), (b";DNS=", &peer.dns)] {
        for value in values {
            out.extend_from_slice(name);
            if value.contains([',', ';', '=', '"', '\\']) {
                write_quoted(out, value);
            } else {
                out.extend_from_slice(value.as_bytes());
            }
        }
    }
}

fn write_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// A byte sequence of RFC 8941 section 3.3.5, as RFC 9440 has certificates.
fn write_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len() + 1;
    out.resize(start + BASE64.encode_len(bytes.len()), b':');
    if let Some(encoded) = out.get_mut(start..) {
        BASE64.encode_mut(bytes, encoded);
    }
    out.push(b':');
}

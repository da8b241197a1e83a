//! What is read out of certificates, and whom rules mean.

use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

use super::*;
use crate::testing::{Authority, Wish, first};

fn peer(names: &[&str], uris: &[&str]) -> PeerCertificate {
    let issued = Authority::new("clients").issue(&Wish {
        names,
        uris,
        for_clients: true,
        ..Wish::default()
    });
    PeerCertificate::parse(&first(&issued.chain), &[]).unwrap()
}

/// The subject of a certificate with these values, in this order.
fn subject(parts: &[(DnType, &str)]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in parts {
        let value = DnValue::Utf8String((*value).to_owned());
        params.distinguished_name.push(kind.clone(), value);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let peer = PeerCertificate::parse(certificate.der(), &[]).unwrap();
    peer.subject.into_string()
}

#[test]
fn subjects_are_written_so_that_nobody_can_add_to_them() {
    let check = |value: &str, expected: &str| {
        assert_eq!(subject(&[(DnType::CommonName, value)]), expected);
    };
    check("web", "CN=web");
    check("a,CN=admin", "CN=a\\,CN\\=admin");
    check("a\"b;c<d>e+f\\g", "CN=a\\\"b\\;c\\<d\\>e\\+f\\\\g");
    check(" a ", "CN=\\20a\\20");
    check("#a#", "CN=\\23a#");
    check("a\r\nb\0", "CN=a\\0D\\0Ab\\00");
    check("né", "CN=n\\C3\\A9");
    let parts = [
        (DnType::CountryName, "CH"),
        (DnType::OrganizationName, "Example"),
        (DnType::CommonName, "web"),
    ];
    assert_eq!(subject(&parts), "CN=web,O=Example,C=CH");
}

#[test]
fn a_common_name_is_as_it_stands() {
    let named = |names: &[&str]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            let name = DnValue::Utf8String((*name).to_owned());
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        PeerCertificate::parse(certificate.der(), &[])
            .unwrap()
            .common_name
    };
    assert_eq!(named(&["Jo, of né"]).as_deref(), Some("Jo, of né"));
    assert_eq!(named(&[]), None);
}

#[test]
fn every_part_of_a_rule_has_to_match() {
    let peer = peer(&["a.test", "b.test"], &["spiffe://test/web"]);
    let pattern = |text: &str| Some(Pattern::new(text));
    let check = |rule: PeerRule, expected: bool| assert_eq!(rule.matches(&peer), expected);
    let rule = PeerRule::default;
    check(rule(), true);
    check(
        PeerRule {
            dns: pattern("b.*"),
            ..rule()
        },
        true,
    );
    check(
        PeerRule {
            dns: pattern("c.*"),
            ..rule()
        },
        false,
    );
    check(
        PeerRule {
            uri: pattern("spiffe://test/*"),
            ..rule()
        },
        true,
    );
    check(
        PeerRule {
            email: pattern("*"),
            ..rule()
        },
        false,
    );
    check(
        PeerRule {
            subject: pattern("CN=leaf"),
            ..rule()
        },
        true,
    );
    let both = PeerRule {
        dns: pattern("a.test"),
        uri: pattern("spiffe://other/*"),
        ..rule()
    };
    check(both, false);
    let fingerprint = |text: &str| PeerRule {
        fingerprint: Some(text.into()),
        ..rule()
    };
    check(fingerprint(&peer.fingerprint), true);
    check(fingerprint(&"0".repeat(64)), false);
}

//! What endpoints read in the header of a connection.

use cardea_certs::peer::PeerCertificate;
use cardea_certs::server::PolicyIdentity;

use super::*;
use crate::traffic::exchange::Introduction;
use crate::traffic::proxy_protocol::{Header, Parsed, parse};

fn plain(peer: &str) -> Client {
    Client::new(peer.parse().unwrap())
}

fn over_tls(certificate: Option<&str>, resumed: bool) -> Client {
    let peer = certificate.map(|name| {
        Box::new(PeerCertificate {
            subject: "CN=escaped".into(),
            common_name: Some(name.into()),
            issuer: "CN=authority".into(),
            serial: "01".into(),
            dns: [].into(),
            uris: [].into(),
            emails: [].into(),
            fingerprint: "5e1f".into(),
            leaf: Vec::new().into(),
            issuers: [].into(),
        })
    });
    Client {
        tls: Some(Box::new(TlsIdentity {
            server_name: Some("a.test".into()),
            policy: PolicyIdentity::default(),
            peer,
            version: "TLSv1.3",
            cipher: "TLS13_AES_128_GCM_SHA256",
            is_http2: false,
            resumed,
        })),
        ..plain("192.0.2.1:4000")
    }
}

fn local() -> Option<SocketAddr> {
    "10.0.0.1:443".parse().ok()
}

fn read(bytes: &[u8]) -> Header<'_> {
    match parse(bytes, 4096) {
        Parsed::Header(header, length) if length == bytes.len() => header,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

#[test]
fn a_line_has_the_addresses() {
    let line =
        |client: &Client| String::from_utf8(for_client(Version::V1, client, local, b"id")).unwrap();
    let mut client = plain("192.0.2.1:4000");
    assert_eq!(line(&client), "PROXY TCP4 192.0.2.1 10.0.0.1 4000 443\r\n");
    client.introduction = Some(Box::new(Introduction {
        proxy: "10.0.0.9:5".parse().unwrap(),
        destination: "198.51.100.1:80".parse().ok(),
        values: [].into(),
    }));
    assert_eq!(
        line(&client),
        "PROXY TCP4 192.0.2.1 198.51.100.1 4000 80\r\n"
    );
    let gone = for_client(Version::V1, &plain("[2001:db8::1]:4000"), || None, b"");
    assert_eq!(gone, b"PROXY TCP6 2001:db8::1 :: 4000 0\r\n");
}

#[test]
fn a_block_tells_what_was_verified() {
    let check = |client: &Client, bits: u8, name: Option<&[u8]>| {
        let bytes = for_client(Version::V2, client, local, b"id");
        let header = read(&bytes);
        let addresses = header.addresses.unwrap();
        assert_eq!(addresses.source, client.peer);
        assert_eq!(Some(addresses.destination), local());
        assert_eq!(header.tlvs.find(kind::UNIQUE_ID), Some(&b"id"[..]));
        assert_eq!(header.tlvs.find(kind::AUTHORITY), Some(&b"a.test"[..]));
        let tls = header.tlvs.tls().unwrap();
        assert_eq!((tls.client, tls.is_verified), (bits, name.is_some()));
        assert_eq!(tls.tlvs.find(kind::TLS_VERSION), Some(&b"TLSv1.3"[..]));
        assert_eq!(tls.tlvs.find(kind::TLS_COMMON_NAME), name);
    };
    check(&over_tls(None, false), 1, None);
    check(&over_tls(Some("né"), false), 7, Some("né".as_bytes()));
    check(&over_tls(Some("web"), true), 5, Some(b"web"));
    let bytes = for_client(Version::V2, &plain("192.0.2.1:4000"), local, b"");
    assert_eq!(read(&bytes).tlvs.0, b"");
}

#[test]
fn a_name_without_end_is_not_told() {
    let bytes = for_client(
        Version::V2,
        &over_tls(Some(&"n".repeat(256)), false),
        local,
        b"",
    );
    let tls = read(&bytes).tlvs.tls().unwrap();
    assert!(tls.is_verified);
    assert_eq!(tls.tlvs.find(kind::TLS_COMMON_NAME), None);
}

#[test]
fn a_check_is_our_own() {
    assert_eq!(for_ourselves(Version::V1), b"PROXY UNKNOWN\r\n");
    let bytes = for_ourselves(Version::V2);
    assert_eq!(bytes.len(), 16);
    assert_eq!(read(&bytes).addresses, None);
}

//! Who is believed, and what of a header.

use super::*;
use crate::traffic::proxy_protocol::{Addresses, Tlvs, kind, push};

fn client() -> Client {
    Client::new("10.0.0.9:5".parse().unwrap())
}

fn header<'b>(source: &str, transport: Transport, tlvs: &'b [u8]) -> Header<'b> {
    Header {
        version: Version::V2,
        addresses: Some(Addresses {
            source: source.parse().unwrap(),
            destination: "10.0.0.1:443".parse().unwrap(),
            transport,
        }),
        tlvs: Tlvs(tlvs),
    }
}

#[test]
fn proxies_are_known_by_their_networks() {
    let rules = ProxyRules {
        from: ["10.0.0.0/8", "2001:db8::/32"]
            .map(|it| it.parse().unwrap())
            .into(),
        is_required: true,
        timeout: Duration::from_secs(1),
        bytes_max: 512,
        fields: [].into(),
    };
    let check = |peer: &str, expected: bool| {
        assert_eq!(rules.trusts(peer.parse().unwrap()), expected, "{peer}");
    };
    check("10.1.2.3:1", true);
    check("[::ffff:10.1.2.3]:1", true);
    check("[2001:db8::1]:1", true);
    check("11.0.0.1:1", false);
    check("[::1]:1", false);
}

#[test]
fn a_client_is_whom_the_header_says() {
    let mut values = Vec::new();
    push(&mut values, kind::AUTHORITY, b"a.test");
    let mut client = client();
    let end = believe(
        &mut client,
        &header("192.0.2.1:4000", Transport::Stream, &values),
    );
    assert_eq!(end.as_str(), "v2");
    assert_eq!(client.peer.to_string(), "192.0.2.1:4000");
    let said = client.introduction.unwrap();
    assert_eq!(said.proxy.to_string(), "10.0.0.9:5");
    assert_eq!(said.destination.unwrap().to_string(), "10.0.0.1:443");
    assert_eq!(said.values().find(kind::AUTHORITY), Some(&b"a.test"[..]));
}

#[test]
fn one_address_is_not_two() {
    let mut client = client();
    believe(
        &mut client,
        &header("[::ffff:192.0.2.1]:4000", Transport::Stream, b""),
    );
    assert_eq!(client.peer.to_string(), "192.0.2.1:4000");
}

#[test]
fn without_addresses_of_tcp_those_of_the_socket_stand() {
    let mut values = Vec::new();
    push(&mut values, kind::UNIQUE_ID, b"1");
    let check = |header: Header<'_>, is_introduced: bool| {
        let mut client = client();
        assert_eq!(believe(&mut client, &header).as_str(), "local");
        assert_eq!(client.peer.to_string(), "10.0.0.9:5");
        let said = client.introduction;
        assert_eq!(said.is_some(), is_introduced);
        assert_eq!(said.and_then(|it| it.destination), None);
    };
    let unnamed = |tlvs| Header {
        addresses: None,
        ..header("192.0.2.1:1", Transport::Stream, tlvs)
    };
    check(unnamed(b""), false);
    check(unnamed(&values), true);
    check(header("192.0.2.1:1", Transport::Datagram, b""), false);
    check(header("192.0.2.1:1", Transport::Datagram, &values), true);
}

#[test]
fn refusals_are_counted_by_what_they_were() {
    let check = |failure: Failure, expected: &str| {
        assert_eq!(failure.end().as_str(), expected);
    };
    let io = |kind: ErrorKind| Failure::from(io::Error::from(kind));
    check(io(ErrorKind::TimedOut), "timed_out");
    check(io(ErrorKind::UnexpectedEof), "closed");
    check(io(ErrorKind::ConnectionReset), "closed");
    check(Failure::Fault(Fault::Missing), "missing");
    check(Failure::Fault(Fault::Malformed("")), "malformed");
    check(Failure::Fault(Fault::TooLong), "too_long");
    check(Failure::Fault(Fault::Checksum), "checksum");
}

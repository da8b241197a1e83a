//! Headers of both versions, those of others and what is none.

use proptest::prelude::*;

use super::*;

/// The limit of version 2 in these tests.
const BYTES_MAX: usize = 512;

fn v1(text: &str) -> Parsed<'_> {
    parse(text.as_bytes(), BYTES_MAX)
}

/// A block of version 2 with this version and command, family and content.
fn block(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&(content.len() as u16).to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// A block about a connection over IPv4 with these values.
fn with_values(values: &[(u8, &[u8])]) -> Vec<u8> {
    let mut tlvs = Vec::new();
    for (kind, value) in values {
        push(&mut tlvs, *kind, value);
    }
    let mut bytes = Vec::new();
    write_v2(
        &mut bytes,
        Some(&sample("192.0.2.1:4000", "10.0.0.1:443")),
        &tlvs,
    );
    bytes
}

fn sample(source: &str, destination: &str) -> Addresses {
    Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        transport: Transport::Stream,
    }
}

fn fault(bytes: &[u8]) -> Fault {
    match parse(bytes, BYTES_MAX) {
        Parsed::Invalid(fault) => fault,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

fn header(bytes: &[u8]) -> Header<'_> {
    match parse(bytes, BYTES_MAX) {
        Parsed::Header(header, length) if length == bytes.len() => header,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

#[test]
fn lines_of_version_1() {
    let check = |line: &str, expected: Option<Addresses>| {
        let text = format!("{line}\r\nGET / HTTP/1.1\r\n");
        let expected = Header {
            version: Version::V1,
            addresses: expected,
            tlvs: Tlvs::default(),
        };
        assert_eq!(
            v1(&text),
            Parsed::Header(expected, line.len() + 2),
            "{line}"
        );
    };
    check(
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443",
        Some(sample("192.168.0.1:56324", "192.168.0.11:443")),
    );
    check(
        "PROXY TCP6 2001:db8::1 ::ffff:10.0.0.1 0 65535",
        Some(sample("[2001:db8::1]:0", "[::ffff:10.0.0.1]:65535")),
    );
    check("PROXY UNKNOWN", None);
    check("PROXY UNKNOWN ffff::1 whatever", None);
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY UNKNOWN {longest} {longest} 65535 65535");
    assert_eq!(line.len() + 2, V1_BYTES_MAX);
    check(&line, None);
}

#[test]
fn lines_that_are_none() {
    let check = |line: &str| {
        let found = fault(format!("{line}\r\n").as_bytes());
        assert!(matches!(found, Fault::Malformed(_)), "{line}: {found:?}");
    };
    for line in [
        "PROXY",
        "PROXY ",
        "PROXYTCP4 192.0.2.1 192.0.2.2 1 2",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2",
        "PROXY TCP4",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 ",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2",
        "PROXY TCP4 192.0.2.1 192.0.2 1 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 ",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2",
        "PROXY UNKNOWNS",
        "PROXY TCP6 fe80::1%eth0 fe80::2 1 2",
        "PROXY TCP4 192.0.2.1\t192.0.2.2 1 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 \u{662}",
    ] {
        check(line);
    }
    let bare = fault(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n");
    assert!(matches!(bare, Fault::Malformed(_)));
    assert_eq!(
        fault(&[b"PROXY UNKNOWN ", &[b'a'; 93][..]].concat()),
        Fault::TooLong
    );
    let late = [b"PROXY UNKNOWN ", &[b'a'; 92][..], b"\r\n"].concat();
    assert_eq!(fault(&late), Fault::TooLong);
}

#[test]
fn what_is_no_header_is_known_at_the_first_byte_that_differs() {
    for text in [
        "G",
        "GET / HTTP/1.1\r\n",
        "\x16\x03\x01",
        "POST",
        "PROPFIND",
        "PROXx",
        "\r\n\r\n\r",
    ] {
        assert_eq!(fault(text.as_bytes()), Fault::Missing, "{text:?}");
    }
    let check = |text: &str, missing: usize| {
        assert_eq!(v1(text), Parsed::Incomplete(missing), "{text:?}");
    };
    check("", 15);
    check("P", 14);
    check("PROXY", 10);
    check("PROXY UNKNOWN", 2);
    check("PROXY UNKNOWN\r", 1);
    check("PROXY TCP4 192.0.2.1", 2);
    check("\r", 15);
    check("\r\n\r\n\0\r\nQUIT\n", 4);
    check("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 12);
}

#[test]
fn blocks_of_version_2() {
    let v4 = b"\xc0\0\x02\x01\x0a\0\0\x01\x0f\xa0\x01\xbb";
    let mut v6 = [0; 36];
    v6[..4].copy_from_slice(b"\x20\x01\x0d\xb8");
    v6[15] = 1;
    v6[31] = 1;
    v6[32..].copy_from_slice(b"\x0f\xa0\x01\xbb");
    let check = |command, family, content: &[u8], expected: Option<Addresses>| {
        let bytes = block(command, family, content);
        let header = header(&bytes);
        assert_eq!(header.addresses, expected, "{command:#x} {family:#x}");
        assert_eq!(header.tlvs.0, b"", "{command:#x} {family:#x}");
    };
    let datagram = |addresses| Addresses {
        transport: Transport::Datagram,
        ..addresses
    };
    let ipv4 = sample("192.0.2.1:4000", "10.0.0.1:443");
    let ipv6 = sample("[2001:db8::1]:4000", "[::1]:443");
    check(0x21, 0x11, v4, Some(ipv4));
    check(0x21, 0x12, v4, Some(datagram(ipv4)));
    check(0x21, 0x21, &v6, Some(ipv6));
    check(0x21, 0x22, &v6, Some(datagram(ipv6)));
    check(0x21, 0x31, &[b'/'; 216], None);
    check(0x21, 0x32, &[b'/'; 216], None);
    // What is of no known kind is ignored, whatever it holds.
    check(0x21, 0x00, b"", None);
    check(0x21, 0x00, b"anything", None);
    check(0x21, 0x10, b"anything", None);
    check(0x21, 0x01, b"anything", None);
    // And so is what a proxy says of its own connections.
    check(0x20, 0x00, b"", None);
    check(0x20, 0x11, v4, None);
    check(0x20, 0xff, b"anything", None);
}

#[test]
fn blocks_that_are_none() {
    let check = |command, family, content: &[u8]| {
        let found = fault(&block(command, family, content));
        assert!(
            matches!(found, Fault::Malformed(_)),
            "{command:#x} {family:#x}: {found:?}"
        );
    };
    check(0x11, 0x11, &[0; 12]);
    check(0x31, 0x11, &[0; 12]);
    check(0x22, 0x11, &[0; 12]);
    check(0x2f, 0x11, &[0; 12]);
    check(0x21, 0x13, &[0; 12]);
    check(0x21, 0x41, &[0; 12]);
    check(0x21, 0x03, &[0; 12]);
    check(0x21, 0x40, &[0; 12]);
    check(0x21, 0x11, &[0; 11]);
    check(0x21, 0x21, &[0; 35]);
    check(0x21, 0x31, &[0; 215]);
    check(0x21, 0x11, b"");
    // Values that do not fit.
    check(0x21, 0x11, &[0; 13]);
    check(0x21, 0x11, &[0; 14]);
    check(0x21, 0x11, b"\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\x01");
    check(0x21, 0x31, &[&[0; 216][..], b"\x02\0\x02a"].concat());
    let most = BYTES_MAX - V2_PREFIX_BYTES;
    assert_eq!(fault(&block(0x20, 0, &vec![0; most + 1])), Fault::TooLong);
    header(&block(0x20, 0, &vec![0; most]));
}

#[test]
fn values_are_found_by_their_type() {
    let mut tls = Vec::new();
    push(&mut tls, kind::TLS_VERSION, b"TLSv1.3");
    push(&mut tls, kind::TLS_COMMON_NAME, b"someone");
    let mut value = vec![client::TLS | client::CERTIFICATE_NOW, 0, 0, 0, 0];
    value.extend_from_slice(&tls);
    let bytes = with_values(&[
        (kind::ALPN, b"h2"),
        (kind::NOOP, b"\0\0\0"),
        (kind::AUTHORITY, b"a.test"),
        (kind::AUTHORITY, b"b.test"),
        (kind::UNIQUE_ID, &[7; 128]),
        (kind::TLS, &value),
        (0xea, b"\x01vpce-1"),
    ]);
    let tlvs = header(&bytes).tlvs;
    assert_eq!(tlvs.find(kind::ALPN), Some(&b"h2"[..]));
    assert_eq!(tlvs.find(kind::AUTHORITY), Some(&b"a.test"[..]));
    assert_eq!(tlvs.find(0xea), Some(&b"\x01vpce-1"[..]));
    assert_eq!(tlvs.find(0xeb), None);
    assert_eq!(tlvs.iter().count(), 7);
    let tls = tlvs.tls().unwrap();
    assert!(tls.is_verified);
    assert_eq!(tls.tlvs.find(kind::TLS_VERSION), Some(&b"TLSv1.3"[..]));
    assert_eq!(tls.tlvs.find(kind::TLS_COMMON_NAME), Some(&b"someone"[..]));
    let mut written = Vec::new();
    push_tls(&mut written, &tls);
    assert_eq!(Tlvs(&written).tls(), Some(tls));
}

#[test]
fn values_that_are_none() {
    let check = |kind, value: &[u8]| {
        let found = fault(&with_values(&[(kind, value)]));
        assert!(matches!(found, Fault::Malformed(_)), "{kind:#x}: {found:?}");
    };
    check(kind::UNIQUE_ID, &[0; 129]);
    check(kind::CRC32C, &[0; 3]);
    check(kind::CRC32C, &[0; 5]);
    check(kind::TLS, b"");
    check(kind::TLS, &[0; 4]);
    check(kind::TLS, &[0; 6]);
    check(kind::TLS, b"\x01\0\0\0\0\x21\0\x02a");
}

#[test]
fn checksums_are_checked() {
    // The check value of CRC-32/ISCSI, the same polynomial.
    assert_eq!(
        checksum_without(b"1234\0\0\0\0", 4),
        checksum_without(b"1234abcd", 4)
    );
    let sum = |bytes: &[u8]| {
        !bytes.iter().fold(!0, |sum: u32, byte| {
            CRC32C[usize::from(*byte ^ sum as u8)] ^ (sum >> 8)
        })
    };
    assert_eq!(sum(b"123456789"), 0xe306_9283);
    let mut bytes = with_values(&[
        (kind::AUTHORITY, b"a"),
        (kind::CRC32C, &[0; 4]),
        (kind::NOOP, b""),
    ]);
    let at = 16 + 12 + 4 + 3;
    let right = sum(&bytes);
    bytes[at..at + 4].copy_from_slice(&right.to_be_bytes());
    assert_eq!(header(&bytes).tlvs.find(kind::AUTHORITY), Some(&b"a"[..]));
    for byte in (16..28).chain(31..32).chain(at..at + 4) {
        let mut wrong = bytes.clone();
        wrong[byte] ^= 1;
        assert_eq!(fault(&wrong), Fault::Checksum, "{byte}");
    }
    let twice = with_values(&[(kind::CRC32C, &[0; 4]), (kind::CRC32C, &[0; 4])]);
    assert!(matches!(fault(&twice), Fault::Malformed(_)));
}

#[test]
fn ends_of_two_families_are_written_as_ipv6() {
    let mixed = sample("192.0.2.1:4000", "[2001:db8::1]:443");
    let mut bytes = Vec::new();
    write_v1(&mut bytes, Some(&mixed));
    let line = "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 4000 443\r\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), line);
    let mut bytes = Vec::new();
    write_v2(&mut bytes, Some(&mixed), b"");
    let wide = sample("[::ffff:192.0.2.1]:4000", "[2001:db8::1]:443");
    assert_eq!(header(&bytes).addresses, Some(wide));
}

#[test]
fn values_that_cannot_be_counted_are_left_out() {
    let mut tlvs = Vec::new();
    push(&mut tlvs, kind::NOOP, &vec![0; 65_536]);
    assert!(tlvs.is_empty());
    push(&mut tlvs, kind::NOOP, &vec![0; 65_535]);
    let mut bytes = Vec::new();
    write_v2(
        &mut bytes,
        Some(&sample("192.0.2.1:1", "192.0.2.2:2")),
        &tlvs,
    );
    assert_eq!(bytes.len(), V2_PREFIX_BYTES + 12);
    header(&bytes);
}

fn ends() -> impl Strategy<Value = Addresses> {
    let both = (any::<SocketAddr>(), any::<SocketAddr>());
    let of_one = both.prop_filter("one family", |(a, b)| a.is_ipv4() == b.is_ipv4());
    of_one.prop_map(|(source, destination)| Addresses {
        source: SocketAddr::new(source.ip(), source.port()),
        destination: SocketAddr::new(destination.ip(), destination.port()),
        transport: Transport::Stream,
    })
}

/// The verdict on bytes that arrive one by one.
fn arriving(bytes: &[u8]) -> Parsed<'_> {
    let mut promised = 0;
    for length in 0..=bytes.len() {
        match parse(&bytes[..length], BYTES_MAX) {
            Parsed::Incomplete(missing) => {
                assert!(
                    missing > 0 && length + missing >= promised,
                    "{length} {missing}"
                );
                promised = length + missing;
            }
            verdict => {
                let is_early = length < promised && matches!(verdict, Parsed::Header(..));
                assert!(!is_early, "came before it could");
                return verdict;
            }
        }
    }
    parse(bytes, BYTES_MAX)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn anything_has_one_verdict_however_it_arrives(
        start in prop::sample::select(vec![
            &b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", b"PROXY TCP6 ::1 ::2 ", V2_SIGNATURE,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x40",
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [start, &rest].concat();
        prop_assert_eq!(parse(&bytes, BYTES_MAX), arriving(&bytes));
    }

    #[test]
    fn what_is_written_is_read(
        addresses in ends(),
        values in prop::collection::vec((0xe0..0xf8u8, prop::collection::vec(any::<u8>(), 0..20)), 0..5),
        after in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut line = Vec::new();
        write_v1(&mut line, Some(&addresses));
        prop_assert!(line.len() <= V1_BYTES_MAX);
        let length = line.len();
        line.extend_from_slice(&after);
        let expected = Header { version: Version::V1, addresses: Some(addresses), tlvs: Tlvs::default() };
        prop_assert_eq!(parse(&line, BYTES_MAX), Parsed::Header(expected, length));
        prop_assert_eq!(arriving(&line), Parsed::Header(expected, length));

        let mut tlvs = Vec::new();
        for (kind, value) in &values {
            push(&mut tlvs, *kind, value);
        }
        let mut bytes = Vec::new();
        write_v2(&mut bytes, Some(&addresses), &tlvs);
        let length = bytes.len();
        bytes.extend_from_slice(&after);
        let expected = Header { version: Version::V2, addresses: Some(addresses), tlvs: Tlvs(&tlvs) };
        prop_assert_eq!(parse(&bytes, BYTES_MAX), Parsed::Header(expected, length));
        prop_assert_eq!(arriving(&bytes), Parsed::Header(expected, length));
        let read: Vec<_> = expected.tlvs.iter().map(|(kind, value)| (kind, value.to_vec())).collect();
        prop_assert_eq!(read, values);
    }
}

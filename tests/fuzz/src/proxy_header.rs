//! Headers of the PROXY protocol: the verdict does not depend on how they arrive, and what was read is
//! the same when it is written and read again.

use crate::proxy_protocol::{Header, Parsed, Tlvs, Version, parse, write_v1, write_v2};

/// Any bytes as the first of a connection from a proxy.
pub fn proxy_header(bytes: &[u8]) {
    for bytes_max in [232, 4096] {
        let whole = parse(bytes, bytes_max);
        assert_eq!(
            arriving(bytes, bytes_max),
            whole,
            "a split changes the verdict"
        );
        if let Parsed::Header(header, length) = whole {
            let own = bytes.get(..length).expect("a header is among its bytes");
            assert_eq!(
                parse(own, bytes_max),
                whole,
                "what follows changes the header"
            );
            check_values(header.tlvs);
            check_again(&header);
        }
    }
}

/// The verdict on bytes that arrive one by one.
fn arriving(bytes: &[u8], bytes_max: usize) -> Parsed<'_> {
    let mut least = 0;
    for length in 0..=bytes.len() {
        match parse(&bytes[..length], bytes_max) {
            Parsed::Incomplete(missing) => {
                assert!(missing > 0, "nothing is missing and it is not whole");
                least = least.max(length + missing);
            }
            verdict => {
                let is_header = matches!(verdict, Parsed::Header(..));
                assert!(
                    !is_header || length >= least,
                    "whole with fewer than were missing"
                );
                return verdict;
            }
        }
    }
    parse(bytes, bytes_max)
}

/// Every byte of the values belongs to one.
fn check_values(tlvs: Tlvs<'_>) {
    let bytes: usize = tlvs.iter().map(|(_, value)| 3 + value.len()).sum();
    assert_eq!(bytes, tlvs.0.len());
    for (kind, _) in tlvs.iter() {
        assert!(tlvs.find(kind).is_some());
    }
    if let Some(tls) = tlvs.tls() {
        let bytes: usize = tls.tlvs.iter().map(|(_, value)| 3 + value.len()).sum();
        assert_eq!(bytes, tls.tlvs.0.len());
    }
}

/// A header with addresses is the same once it was written and read.
fn check_again(header: &Header<'_>) {
    let Some(addresses) = &header.addresses else {
        return;
    };
    // The checksum is of the bytes as they were; addresses and values make the same ones.
    let mut bytes = Vec::new();
    match header.version {
        Version::V1 => write_v1(&mut bytes, Some(addresses)),
        Version::V2 => write_v2(&mut bytes, Some(addresses), header.tlvs.0),
    }
    let length = bytes.len();
    assert_eq!(parse(&bytes, usize::MAX), Parsed::Header(*header, length));
}

//! What is sealed here, rustls' own cipher opens, and the other way round.

use std::io::{IoSlice, Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, ServerConfig};

use super::*;
use crate::provider::provider;
use crate::testing::{Authority, Pair, Wish, handshake};

/// The provider of rustls, with one suite.
fn stock(suite: SupportedCipherSuite) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        ..aws_lc_rs::default_provider()
    })
}

/// A connection between a server of ours and a client of rustls'.
fn pair(suite: SupportedCipherSuite) -> Pair {
    let authority = Authority::new("authority");
    let issued = authority.issue(&Wish {
        names: &["a.test"],
        ..Wish::default()
    });
    let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(stock(suite))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    handshake(&Arc::new(client), &Arc::new(server), "a.test").unwrap()
}

/// Sends the pieces in one write, and returns what arrived.
fn sent(pair: &mut Pair, pieces: &[&[u8]]) -> Vec<u8> {
    let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let taken = match pieces {
        [piece] => pair.server.writer().write(piece).unwrap(),
        _ => pair.server.writer().write_vectored(&slices).unwrap(),
    };
    assert_eq!(taken, pieces.concat().len());
    let mut arrived = Vec::new();
    let mut records = Vec::new();
    while pair.server.wants_write() {
        pair.server.write_tls(&mut records).unwrap();
    }
    let mut records = records.as_slice();
    while !records.is_empty() {
        pair.client.read_tls(&mut records).unwrap();
        let state = pair.client.process_new_packets().unwrap();
        let mut bytes = vec![0; state.plaintext_bytes_to_read()];
        pair.client.reader().read_exact(&mut bytes).unwrap();
        arrived.extend(bytes);
    }
    arrived
}

const SUITES: [SupportedCipherSuite; 3] = [
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_sealed_is_opened(
        suite in prop::sample::select(&SUITES[..]),
        // Together they fit what rustls buffers, 64 KiB.
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..32_000), 1..3),
    ) {
        let mut pair = pair(suite);
        prop_assert_eq!(pair.server.negotiated_cipher_suite().unwrap().suite(), suite.suite());
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        // Twice, so that a sequence number that is off by one is found.
        for _ in 0..2 {
            prop_assert_eq!(sent(&mut pair, &pieces), pieces.concat());
        }
    }
}

#[test]
fn records_are_as_long_as_rustls_makes_them() {
    let mut pair = pair(SUITES[0]);
    pair.server.writer().write_all(&[7; 20_000]).unwrap();
    let mut records = Vec::new();
    pair.server.write_tls(&mut records).unwrap();
    let overhead = 5 + 1 + 16;
    assert_eq!(records.len(), 20_000 + 2 * overhead);
    assert_eq!(&records[..5], [23, 3, 3, 0x40, 0x11]);
}

/// The order is the server's offer, and what is not sealed here stays as it was.
#[test]
fn suites_stay_the_same() {
    let ours: Vec<_> = provider()
        .cipher_suites
        .iter()
        .map(|it| it.suite())
        .collect();
    let theirs = aws_lc_rs::default_provider().cipher_suites;
    let theirs: Vec<_> = theirs.iter().map(|it| it.suite()).collect();
    assert_eq!(ours, theirs);
}

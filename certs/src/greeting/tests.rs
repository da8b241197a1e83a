//! First words in any pieces, and what is none of them.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// The first words of a client that asks for a name under some protocols.
fn words(name: &str, protocols: usize) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(crate::provider::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = (0..protocols)
        .map(|number| format!("{number:0>200}").into_bytes())
        .collect();
    let name = crate::client::server_name(name).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Feeds bytes in pieces of these lengths, over and over: the name asked for, or why not.
fn heard(bytes: &[u8], lengths: &[usize]) -> Result<Option<String>, Refused> {
    let mut greeting = Greeting::default();
    let mut rest = bytes;
    for length in lengths.iter().cycle() {
        let (piece, behind) = rest.split_at((*length).clamp(1, rest.len().max(1)).min(rest.len()));
        if piece.is_empty() {
            return Ok(None);
        }
        rest = behind;
        if let Some(accepted) = greeting.feed(piece)? {
            let hello = accepted.client_hello();
            return Ok(hello.server_name().map(str::to_owned));
        }
    }
    Ok(None)
}

proptest! {
    #[test]
    fn pieces_do_not_matter(lengths in prop::collection::vec(1usize..3000, 1..9), many in 0usize..70) {
        let bytes = words("a.test", many);
        let name = heard(&bytes, &lengths).unwrap();
        prop_assert_eq!(name.as_deref(), Some("a.test"));
    }

    #[test]
    fn what_is_altered_is_understood_or_refused_alike_in_any_pieces(
        at in 0usize..400,
        to in any::<u8>(),
        length in 1usize..50,
    ) {
        let mut bytes = words("a.test", 1);
        let at = at % bytes.len();
        bytes[at] = to;
        let told = |lengths: &[usize]| match heard(&bytes, lengths) {
            Ok(name) => (name, Vec::new()),
            Err(refused) => (None, refused.alert),
        };
        let (whole, pieces) = (told(&[usize::MAX]), told(&[length]));
        prop_assert_eq!(&whole, &pieces);
        prop_assert!(whole.1.is_empty() || whole.1[0] == 21, "{:?}", whole.1);
    }
}

#[test]
fn words_have_a_largest_size() {
    // Records that say there is more to come, for ever.
    let record = [
        &[22, 3, 1, 64, 0][..],
        &[1, 0, 255, 255],
        &[0; 16 * 1024 - 4],
    ]
    .concat();
    let mut greeting = Greeting::default();
    let mut fed = 0;
    let refused = loop {
        fed += record.len();
        match greeting.feed(&record) {
            Ok(None) => assert!(fed <= HELLO_BYTES_MAX, "{fed}"),
            Ok(Some(_)) => panic!("no words"),
            Err(refused) => break refused,
        }
    };
    assert!(fed > 16 * 1024, "{fed}: {refused:?}");
}

#[test]
fn a_name_that_is_nobodys_has_an_alert_of_its_own() {
    let refused = Refused::unknown_name();
    // fatal, unrecognized_name (RFC 6066 section 9)
    assert_eq!(refused.alert, [21, 3, 3, 0, 2, 2, 112]);
}

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
        // Both readers of a name find the same.
        prop_assert_eq!(name::server_name(&bytes), name);
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

/// The same words in records that hold this many bytes of them each.
fn in_records_of(bytes: usize, words: &[u8]) -> Vec<u8> {
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [&[22, 3, 1][..], &length, piece].concat()
    };
    words[5..].chunks(bytes).flat_map(record).collect()
}

#[test]
fn records_of_any_size_make_the_same_words() {
    // Sixteen kilobytes, which is more than a record has room for together with their header.
    let words = words("a.test", 73);
    assert!((15_900..16_384).contains(&words.len()), "{}", words.len());
    for bytes in [1, 2, 3, 1000, 16_384] {
        let spread = in_records_of(bytes, &words);
        for lengths in [&[usize::MAX][..], &[1], &[4096]] {
            let name = heard(&spread, lengths).unwrap();
            assert_eq!(name.as_deref(), Some("a.test"), "{bytes} {lengths:?}");
        }
    }
}

/// First words that say they are this long, in one-byte records.
fn of_length(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes - 4).unwrap().to_be_bytes();
    let words = [&[0; 5][..], &[1], &length[1..], &vec![0; bytes - 4]].concat();
    in_records_of(1, &words)
}

#[test]
fn words_are_kept_as_they_were_sent() {
    let mut bytes = words("a.test", 70);
    assert!(bytes.len() > 14_000, "{}", bytes.len());
    // What comes with them is kept, too.
    bytes.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
    for length in [1, 7, 4096, bytes.len()] {
        let mut greeting = Greeting::keeping();
        let mut fed = 0;
        for piece in bytes.chunks(length) {
            fed += piece.len();
            if greeting.feed(piece).unwrap().is_some() {
                break;
            }
        }
        assert!(greeting.into_words() == bytes[..fed], "pieces of {length}");
    }
    let mut forgetful = Greeting::default();
    assert!(forgetful.feed(&bytes).unwrap().is_some());
    assert!(forgetful.into_words().is_empty());
}

/// The words of a client that knows TLS 1.1 at most: without signature algorithms (RFC 4346).
fn old_words(extensions: &[u8]) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let suites = vector(&[0, 0x2f]);
    let hello = [
        &[3, 2][..],
        &[7; 32],
        &[0],
        &suites,
        &[1, 0],
        &vector(extensions),
    ]
    .concat();
    let length = (hello.len() as u32).to_be_bytes();
    let message = [&[1][..], &length[1..], &hello].concat();
    [&[22, 3, 1][..], &vector(&message)].concat()
}

#[test]
fn refused_words_still_have_a_name() {
    let name = |host: &[u8]| {
        let entry = [&[0][..], &(host.len() as u16).to_be_bytes(), host].concat();
        let list = [&(entry.len() as u16).to_be_bytes()[..], &entry].concat();
        [&[0, 0][..], &(list.len() as u16).to_be_bytes(), &list].concat()
    };
    let check = |words: &[u8], expected: Option<&str>| {
        for length in [1, 3, words.len().max(1)] {
            let mut greeting = Greeting::keeping();
            let fed = words
                .chunks(length)
                .try_for_each(|it| match greeting.feed(it) {
                    Ok(None) => Ok(()),
                    Ok(Some(_)) => panic!("words that are served"),
                    Err(refused) => Err(refused),
                });
            let found = fed.err().and_then(|_| greeting.name_of_refused());
            assert_eq!(found.as_deref(), expected, "{words:?}");
        }
    };
    check(&old_words(&name(b"Old.test")), Some("old.test"));
    let groups = [&[0, 10, 0, 4, 0, 2, 0, 23][..], &name(b"old.test")].concat();
    check(&old_words(&groups), Some("old.test"));
    check(&old_words(&groups[..8]), None);
    check(&old_words(&name(b"no host")), None);
    check(&old_words(&name(b"")), None);
    let whole = old_words(&name(b"old.test"));
    check(&whole[..whole.len() - 1], None);
    check(b"GET / HTTP/1.1\r\n\r\n", None);
    // What was not kept is not there.
    let mut greeting = Greeting::default();
    assert!(greeting.feed(&whole).is_err());
    assert_eq!(greeting.name_of_refused(), None);
}

#[test]
fn words_have_a_largest_size() {
    // They make no sense, which shows once they are whole and not before.
    let largest = of_length(HELLO_BYTES_MAX);
    assert!(matches!(
        heard(&largest[..largest.len() - 6], &[4096]),
        Ok(None)
    ));
    let refused = heard(&largest, &[4096]).unwrap_err();
    assert_ne!(refused.alert, RECORD_OVERFLOW);
    // One byte more is too long, and is told as soon as that shows.
    let longer = of_length(HELLO_BYTES_MAX + 1);
    let refused = heard(&longer[..4 * 6], &[4096]).unwrap_err();
    assert_eq!(refused.alert, RECORD_OVERFLOW);
}

#[test]
fn what_is_no_record_of_first_words_is_refused_at_once() {
    let check = |bytes: &[u8], alert: u8| {
        for lengths in [&[usize::MAX][..], &[1]] {
            let refused = heard(bytes, lengths).unwrap_err();
            assert_eq!(refused.alert.first(), Some(&21), "{bytes:?}: {refused:?}");
            assert_eq!(refused.alert.last(), Some(&alert), "{bytes:?}: {refused:?}");
        }
    };
    let (unexpected, overflow, decode) = (10, 22, 50);
    // Data, a change of ciphers, another handshake message, or more behind the words.
    check(&[23, 3, 3, 0, 1], unexpected);
    check(&[20, 3, 3, 0, 1], unexpected);
    check(&[22, 3, 1, 0, 1, 2], unexpected);
    let mut words = words("a.test", 0);
    let length = u16::from_be_bytes([words[3], words[4]]) + 1;
    words.splice(3..5, length.to_be_bytes());
    words.push(0);
    check(&words, unexpected);
    check(&[22, 3, 1, 64, 1], overflow);
    // A record without a byte costs its client nothing.
    check(&[22, 3, 1, 0, 0], decode);
}

#[test]
fn early_data_waits_with_the_words() {
    for protocols in [0, 20, 73] {
        let words = words("a.test", protocols);
        let behind = [&[23, 3, 3, 0x0f, 0xf0][..], &[7; 4080]].concat();
        let whole = [words.as_slice(), &behind].concat();
        let mut greeting = Greeting::default();
        let heard: Vec<_> = whole
            .chunks(4096)
            .map_while(|piece| match greeting.feed(piece) {
                Ok(None) => Some(piece.len()),
                Ok(Some(_)) => None,
                Err(refused) => panic!("{refused:?}"),
            })
            .collect();
        assert!(heard.iter().sum::<usize>() < words.len());
    }
}

#[test]
fn a_name_that_is_nobodys_has_an_alert_of_its_own() {
    let refused = Refused::unknown_name();
    // fatal, unrecognized_name (RFC 6066 section 9)
    assert_eq!(refused.alert, [21, 3, 3, 0, 2, 2, 112]);
}

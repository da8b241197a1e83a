//! How bytes are cut on the way is nobody's business: what comes of them is the same. And no bytes
//! make the codec panic, or write without bound.

use proptest::collection::vec;
use proptest::prelude::*;

use super::wire::*;
use super::*;

/// What bytes come to that arrive in pieces: events, the last fault, and what was written.
fn arriving(role: Role, bytes: &[u8], cuts: &[usize]) -> (Vec<Saw>, Option<Fault>, Vec<u8>) {
    let limits = Limits {
        streams_max: 3,
        head_bytes_max: 200,
        control_frames_max: 20,
        resets_max: 4,
        ..Limits::default()
    };
    let mut connection = Connection::new(role, limits);
    if role == Role::Client {
        ask(&mut connection, false);
        ask(&mut connection, true);
    }
    let written = connection.out.len();
    let mut saws = Vec::new();
    let (mut start, mut fault) = (0, None);
    let cuts = cuts.iter().map(|cut| cut % (bytes.len() + 1));
    let mut cuts: Vec<_> = cuts.chain([bytes.len()]).collect();
    cuts.sort_unstable();
    for end in cuts {
        match feed_some(&mut connection, &bytes[start..end], 0, &mut saws) {
            Ok(taken) => start += taken,
            Err(ended) => {
                fault = Some(ended);
                break;
            }
        }
    }
    let out = connection.out.split_off(written);
    // Each frame of the peer's makes us write at most two small ones.
    assert!(out.len() <= 3 * bytes.len() + 64, "{}", out.len());
    let limit = role == Role::Client || connection.stream_count() <= 3;
    assert!(limit, "{}", connection.stream_count());
    (merged(saws), fault, out)
}

/// Pieces of a body are one.
fn merged(saws: Vec<Saw>) -> Vec<Saw> {
    let mut merged: Vec<Saw> = Vec::new();
    for saw in saws {
        match (merged.last_mut(), saw) {
            (Some(Saw::Data(last, bytes, is_end)), Saw::Data(stream, more, ends))
                if *last == stream && !*is_end =>
            {
                bytes.extend(more);
                *is_end = ends;
            }
            (_, saw) => merged.push(saw),
        }
    }
    merged
}

/// A frame that could be, of a kind and for a stream that are likely to matter.
fn likely_frame() -> impl Strategy<Value = Vec<u8>> {
    let block = prop_oneof![
        Just(GET.to_vec()),
        Just(POST.to_vec()),
        Just(STATUS_200.to_vec()),
        Just(STATUS_103.to_vec()),
        Just(TRAILERS.to_vec()),
        Just([GET, &[0x40, 1, b'x', 1, b'y']].concat()),
        Just([GET, &[0x80 | 62]].concat()),
    ];
    let payload = prop_oneof![
        4 => block,
        1 => Just(vec![]),
        1 => Just(vec![0, 0, 0, 1]),
        1 => Just(vec![0; 5]),
        1 => Just(vec![0; 8]),
        1 => Just(settings_payload(&[(4, 10), (3, 1)])),
        2 => vec(any::<u8>(), 0..40),
    ];
    let flags = prop_oneof![
        3 => Just(WHOLE),
        3 => Just(END_HEADERS),
        2 => Just(0),
        2 => Just(END),
        1 => any::<u8>(),
    ];
    let kind = prop_oneof![3 => Just(HEADERS), 3 => Just(DATA), 5 => 0..11_u8];
    let stream = prop_oneof![4 => Just(1), 4 => Just(3), 4 => Just(5), 1 => 0..12_u32];
    (kind, flags, stream, payload).prop_map(|(kind, flags, stream, payload)| {
        let stream = match kind {
            SETTINGS | PING | GOAWAY => 0,
            _ => stream,
        };
        frame(kind, flags, stream, &payload)
    })
}

fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(likely_frame(), 0..24).prop_map(|frames| frames.concat())
}

fn greeted(role: Role, bytes: &[u8]) -> Vec<u8> {
    match role {
        Role::Server => [frame::PREFACE, &settings(&[]), bytes].concat(),
        Role::Client => [&settings(&[]), bytes].concat(),
    }
}

fn check(bytes: &[u8], cuts: &[usize]) {
    for role in [Role::Server, Role::Client] {
        let bytes = greeted(role, bytes);
        let whole = arriving(role, &bytes, &[]);
        assert_eq!(arriving(role, &bytes, cuts), whole, "{role:?}");
        let every: Vec<_> = (0..bytes.len()).collect();
        assert_eq!(arriving(role, &bytes, &every), whole, "{role:?}, bytewise");
    }
}

proptest! {
    #[test]
    fn what_is_likely_is_the_same_in_any_pieces(
        bytes in likely_bytes(),
        cuts in vec(any::<usize>(), 0..8),
    ) {
        check(&bytes, &cuts);
    }

    #[test]
    fn what_is_not_is_as_well(
        bytes in vec(any::<u8>(), 0..400),
        cuts in vec(any::<usize>(), 0..8),
    ) {
        check(&bytes, &cuts);
    }

    #[test]
    fn a_message_never_has_two_ends(bytes in likely_bytes()) {
        let bytes = greeted(Role::Server, &bytes);
        for saw in arriving(Role::Server, &bytes, &[]).0 {
            if let Saw::Head(_, _, text, None) = saw {
                prop_assert_eq!(text.matches("\r\n\r\n").count(), 1);
                prop_assert_eq!(text.matches("HTTP/1.1").count(), 1);
            }
        }
    }
}

//! Bodies of gRPC-Web: how a text is cut does not matter, what was encoded is decoded, and the last
//! frame holds the fields after a body and nothing else.

use cardea_http1::{Limits, parse_trailers};
use data_encoding::BASE64;

use crate::translation::{TRAILER_BYTES_MAX, Translation, Untranslatable, Way};

/// Any bytes as a text, in pieces of a size that the first byte says, and as a body.
pub fn grpc_web(bytes: &[u8]) {
    let Some((size, body)) = bytes.split_first() else {
        return;
    };
    let size = usize::from(*size).max(1);
    let whole = translated(Way::Decode, body, body.len().max(1));
    assert_eq!(translated(Way::Decode, body, size), whole, "a cut matters");
    if let Ok(decoded) = &whole {
        assert!(decoded.len() <= body.len() / 4 * 3, "it grew");
    }
    // What the whole of a text is, its parts with padding are as well.
    if let Ok(strict) = BASE64.decode(body) {
        assert_eq!(whole, Ok(strict));
    }
    let encoded = translated(Way::Encode, body, size).expect("anything can be encoded");
    let decoded = translated(Way::Decode, &encoded, 7).expect("it was encoded");
    assert_eq!(decoded, body);
    assert_eq!(translated(Way::Frame, body, size).as_deref(), Ok(body));
    last_frame(body);
}

/// Any bytes as the lines after a body. What makes a frame of them has the same fields when its lines are
/// read again, and a status.
fn last_frame(lines: &[u8]) {
    let limits = Limits::default();
    let mut fields = Vec::new();
    if parse_trailers(lines, &limits, &mut fields).is_err() {
        return;
    }
    let mut translation = Translation::owing_status(Way::Frame);
    let Ok(made) = translation.finish((lines, &fields)) else {
        return;
    };
    let made = made.expect("a status is owed");
    let frame = translation.piece(made).expect("it is no piece that came");
    let (head, block) = frame.split_at(5);
    assert_eq!(head[0], 0x80);
    assert_eq!(head[1..], (block.len() as u32).to_be_bytes());
    assert!(block.len() <= TRAILER_BYTES_MAX);
    let again = [block, b"\r\n"].concat();
    let mut read = Vec::new();
    let many = Limits {
        trailer_count_max: limits.trailer_count_max + 2,
        ..limits
    };
    parse_trailers(&again, &many, &mut read).expect("lines of fields");
    for (field, before) in read.iter().zip(&fields) {
        let name = before.name.of(lines).to_ascii_lowercase();
        assert_eq!(field.name.of(&again), name);
        assert_eq!(field.value.of(&again), before.value.of(lines));
    }
    let added = read.len() - fields.len();
    assert!(added == 0 || added == 2, "{added} fields were added");
    let has_status = |field: &cardea_http1::Field| field.name.of(&again) == b"grpc-status";
    assert!(read.iter().any(has_status));
}

fn translated(way: Way, bytes: &[u8], size: usize) -> Result<Vec<u8>, Untranslatable> {
    let mut translation = Translation::new(way);
    let mut whole = Vec::new();
    for piece in bytes.chunks(size) {
        if let Some(made) = translation.take(0..piece.len(), piece)? {
            whole.extend_from_slice(translation.piece(made).unwrap_or(piece));
        }
    }
    if let Some(made) = translation.finish((&[], &[]))? {
        whole.extend_from_slice(translation.piece(made).unwrap_or_default());
    }
    Ok(whole)
}

//! Bodies of gRPC-Web: how a text is cut does not matter, and what was encoded is decoded.

use data_encoding::BASE64;

use crate::translation::{NoBase64, Translation, Way};

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
}

fn translated(way: Way, bytes: &[u8], size: usize) -> Result<Vec<u8>, NoBase64> {
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

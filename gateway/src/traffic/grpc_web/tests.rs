use super::*;
use cardea_http1::{Limits, parse_trailers};
use data_encoding::BASE64;
use proptest::prelude::*;

fn request(fields: &[(&str, &str)]) -> Request {
    let mut request = Request::default();
    for (name, value) in fields {
        let name = HeaderName::new(name);
        request.headers.append(&name, value.as_bytes());
    }
    request
}

#[test]
fn what_the_client_wants() {
    let check = |fields: &[(&str, &str)], expected: Option<bool>| {
        let found = call(&request(fields)).map(|web| web.is_text);
        assert_eq!(found, expected, "{fields:?}");
    };
    check(&[], None);
    check(&[("content-type", "application/grpc")], None);
    check(&[("content-type", "application/grpc-webby")], None);
    check(&[("content-type", "application/grpc-web")], Some(false));
    check(
        &[("content-type", "application/grpc-web+json")],
        Some(false),
    );
    let text = ("content-type", "application/grpc-web-text");
    check(&[text], Some(true));
    check(&[text, ("accept", "application/grpc-web-text")], Some(true));
    check(&[text, ("accept", "*/*")], Some(true));
    let listed = "application/json, application/grpc-web , */*";
    check(&[text, ("accept", listed)], Some(false));
    check(
        &[text, ("accept", "application/grpc-web+proto")],
        Some(false),
    );
}

#[test]
fn an_answer_is_in_the_form_of_the_call() {
    let check = |asked: &str, answered: &[(&str, &str)], expected: Option<&str>| {
        let request = request(&[("content-type", asked)]);
        let mut response = Response::default();
        for (name, value) in answered {
            let name = HeaderName::new(name);
            response.headers.append(&name, value.as_bytes());
        }
        let web = Web { is_text: true };
        let translation = answer(web, &request, &mut response);
        assert_eq!(translation.is_some(), expected.is_some(), "{answered:?}");
        let told = response.headers.known(Known::ContentType);
        if let Some(expected) = expected {
            assert_eq!(told, Some(expected.as_bytes()), "{asked} {answered:?}");
        }
    };
    let plain = ("content-type", "application/grpc");
    let text = "application/grpc-web-text";
    check("application/grpc", &[plain], Some(text));
    let proto = "application/grpc-web-text+proto";
    check("application/grpc+proto", &[plain], Some(proto));
    let other = ("content-type", "application/grpc+thrift");
    let thrift = "application/grpc-web-text+thrift";
    check("application/grpc+proto", &[other], Some(thrift));
    let identity = ("content-encoding", "identity");
    check("application/grpc", &[plain, identity], Some(text));
    // Nothing can follow what is compressed as a whole.
    let gzip = ("content-encoding", "gzip");
    check("application/grpc", &[plain, gzip], None);
    check("application/grpc", &[("content-type", "text/html")], None);
    check("application/grpc", &[], None);
}

/// What becomes of pieces that come one after another, and of these fields after them.
fn translated(way: Way, pieces: &[&[u8]], trailers: &str) -> Result<Vec<u8>, Untranslatable> {
    translated_by(Translation::new(way), pieces, trailers)
}

fn translated_by(
    mut translation: Translation,
    pieces: &[&[u8]],
    trailers: &str,
) -> Result<Vec<u8>, Untranslatable> {
    let mut whole = Vec::new();
    for piece in pieces {
        if let Some(made) = translation.take(0..piece.len(), piece)? {
            whole.extend_from_slice(translation.piece(made).unwrap_or(piece));
        }
    }
    let mut fields = Vec::new();
    if !trailers.is_empty() {
        let text = format!("{trailers}\r\n");
        let limits = Limits {
            head_bytes_max: 64 * 1024,
            ..Limits::default()
        };
        parse_trailers(text.as_bytes(), &limits, &mut fields).unwrap();
    }
    assert!(!translation.is_over());
    if let Some(made) = translation.finish((trailers.as_bytes(), &fields))? {
        whole.extend_from_slice(translation.piece(made).unwrap());
    }
    assert!(translation.is_over());
    Ok(whole)
}

#[test]
fn the_fields_after_a_body_are_its_last_frame() {
    let body = b"\0\0\0\0\x02hi";
    let trailers = "Grpc-Status: 0\r\ngrpc-message: fine\r\n";
    let frame = b"\x80\0\0\0\x24grpc-status: 0\r\ngrpc-message: fine\r\n";
    let framed = translated(Way::Frame, &[body], trailers).unwrap();
    assert_eq!(framed, [&body[..], frame].concat());
    let encoded = translated(Way::Encode, &[body], trailers).unwrap();
    let parts = [BASE64.encode(body), BASE64.encode(frame)].concat();
    assert_eq!(encoded, parts.as_bytes());
    // Where there are none, they were in the head.
    assert_eq!(translated(Way::Frame, &[], "").unwrap(), b"");
    assert_eq!(translated(Way::Encode, &[], "").unwrap(), b"");
}

#[test]
fn who_is_owed_a_status_gets_one() {
    let unknown =
        "grpc-status: 2\r\ngrpc-message: The upstream ended the call without a status.\r\n";
    let check = |trailers: &str, expected: &str| {
        for way in [Way::Frame, Way::Encode] {
            let owing = Translation::owing_status(way);
            let made = translated_by(owing, &[], trailers).unwrap();
            let made = match way {
                Way::Encode => BASE64.decode(&made).unwrap(),
                _ => made,
            };
            let length = u32::try_from(expected.len()).unwrap().to_be_bytes();
            let frame = [&[0x80], &length[..], expected.as_bytes()].concat();
            assert_eq!(made, frame, "{trailers}");
        }
    };
    check("", unknown);
    check("X-A: b\r\n", &format!("x-a: b\r\n{unknown}"));
    check("Grpc-Status: 0\r\n", "grpc-status: 0\r\n");
}

#[test]
fn the_last_frame_is_bounded() {
    let fits = format!("x: {}\r\n", "v".repeat(TRAILER_BYTES_MAX - 5));
    let framed = translated(Way::Frame, &[], &fits).unwrap();
    assert_eq!(framed.len(), 5 + TRAILER_BYTES_MAX);
    let exceeds = format!("x: {}\r\n", "v".repeat(TRAILER_BYTES_MAX - 4));
    for way in [Way::Frame, Way::Encode] {
        let result = translated(way, &[], &exceeds);
        assert_eq!(result, Err(Untranslatable::Trailers));
    }
    // Fields that could not be taken in were there all the same.
    let mut translation = Translation::new(Way::Frame);
    let result = translation.finish((b"grpc-status: 9\r\n\r\n", &[]));
    assert_eq!(result, Err(Untranslatable::Trailers));
    assert!(!translation.is_over());
    assert_eq!(translation.finish((b"\r\n", &[])), Ok(None));
}

#[test]
fn parts_with_padding_follow_each_other() {
    let parts = ["aGk=", "aGVsbG8=", "IQ==", "YWJj"].concat();
    let decoded = translated(Way::Decode, &[parts.as_bytes()], "").unwrap();
    assert_eq!(decoded, b"hihello!abc");
}

#[test]
fn what_is_no_base64_is_refused() {
    for wrong in [
        "a", "aG", "aGk", "aGk=a", "=aGk", "a===", "aG=k", "aGk=====", "aGk \n", "aG-_", "aGl=",
        "\0\0\0\0",
    ] {
        let result = translated(Way::Decode, &[wrong.as_bytes()], "");
        assert_eq!(result, Err(Untranslatable::Base64), "{wrong}");
    }
}

proptest! {
    /// However a text is cut, and into whatever parts it was written, it is the same.
    #[test]
    fn cuts_do_not_matter(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
        cuts in proptest::collection::vec(1_usize..9, 1..60),
    ) {
        let text: String = parts.iter().map(|part| BASE64.encode(part)).collect();
        let mut rest = text.as_bytes();
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let decoded = translated(Way::Decode, &pieces, "").unwrap();
        prop_assert_eq!(decoded, parts.concat());
    }

    /// What is encoded piece by piece can be decoded.
    #[test]
    fn what_is_encoded_is_decoded(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
    ) {
        let pieces: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let text = translated(Way::Encode, &pieces, "").unwrap();
        prop_assert_eq!(translated(Way::Decode, &[&text], "").unwrap(), parts.concat());
    }
}

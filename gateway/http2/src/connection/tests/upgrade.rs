//! A connection that began as one of HTTP/1.1.

use super::wire::*;
use super::*;
use crate::frame::PREFACE;

fn upgraded(with: &[(u16, u32)]) -> Result<Connection, Fault> {
    let mut server = Connection::new(Role::Server, Limits::default());
    server.begin_upgraded(&settings_payload(with))?;
    server.out.clear();
    Ok(server)
}

fn begun() -> Vec<u8> {
    [PREFACE, &settings(&[])].concat()
}

#[test]
fn the_request_is_stream_one_and_others_follow() {
    let mut server = upgraded(&[(4, 10), (3, 100)]).unwrap();
    assert_eq!((server.stream_count(), server.has_begun()), (1, false));
    assert_eq!(server.sendable(1), Some(10));
    // Its client has to begin like any other.
    let get = frame(HEADERS, WHOLE, 3, GET);
    let mut hasty = upgraded(&[]).unwrap();
    assert_eq!(feed(&mut hasty, &get), Err(Fault::Preface));
    let saw = feed(&mut server, &[begun(), get].concat()).unwrap();
    assert!(
        saw.iter().any(|saw| matches!(saw, Saw::Head(3, true, ..))),
        "{saw:?}"
    );
    for stream in [1, 3] {
        answer(&mut server, stream);
    }
    assert_eq!(server.stream_count(), 0);
}

#[test]
fn its_client_has_said_all_of_it() {
    for frame in [
        frame(HEADERS, WHOLE, 1, GET),
        frame(HEADERS, WHOLE, 1, TRAILERS),
        frame(DATA, END, 1, b"x"),
    ] {
        let mut server = upgraded(&[]).unwrap();
        let saw = feed(&mut server, &[begun(), frame].concat());
        let is_refused = match &saw {
            Err(fault) => *fault == Fault::StreamClosed,
            Ok(saw) => saw.contains(&Saw::Broken(1, Fault::StreamClosed)),
        };
        assert!(is_refused, "{saw:?}");
    }
    // It may give it up.
    let mut server = upgraded(&[]).unwrap();
    let saw = feed(&mut server, &[begun(), rst_stream(1)].concat()).unwrap();
    assert!(saw.contains(&Saw::Reset(1, ErrorCode::CANCEL)), "{saw:?}");
}

#[test]
fn settings_keep_their_rules() {
    let check = |with: &[(u16, u32)], expected: Fault| {
        assert_eq!(upgraded(with).err(), Some(expected), "{with:?}");
    };
    check(&[(2, 2)], Fault::Settings);
    check(&[(4, 0x8000_0000)], Fault::Window);
    check(&[(5, 1)], Fault::Settings);
    let mut server = Connection::new(Role::Server, Limits::default());
    assert_eq!(server.begin_upgraded(&[0; 5]), Err(Fault::FrameSize));
}

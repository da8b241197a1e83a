//! What a server may do to a client: responses, resets, the end, settings that change (RFC 9113
//! sections 5.1.2, 6.8, 8.1 and 8.4).

use super::wire::*;
use super::*;
use Outcome::*;

fn response(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, block)
}

#[test]
fn pushes_are_refused() {
    let mut client = client();
    let sent = frames(&Connection::new(Role::Client, Limits::default()).out[24..]);
    let no_push = [0, 2, 0, 0, 0, 0];
    assert!(sent[0].3.chunks(6).any(|setting| setting == no_push));
    ask(&mut client, true);
    let promise = frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], GET].concat());
    assert_eq!(outcome(&mut client, &promise), Ends(Fault::Push));
    // A server cannot ask for them either (RFC 9113 section 6.5.2).
    let check = |value, expected| {
        let settings = settings(&[(2, value)]);
        assert_eq!(outcome(&mut super::wire::client(), &settings), expected);
    };
    check(0, Passes);
    check(1, Ends(Fault::Settings));
    check(2, Ends(Fault::Settings));
}

#[test]
fn streams_of_servers_do_not_exist() {
    for stream in [1, 2, 3, 0x7fff_fffe] {
        let head = response(stream, 0, STATUS_200);
        assert_eq!(outcome(&mut client(), &head), Ends(Fault::StreamId));
        let others = [
            frame(DATA, 0, stream, b"x"),
            rst_stream(stream),
            window_update(stream, 1),
        ];
        for bytes in others {
            assert_eq!(outcome(&mut client(), &bytes), Ends(Fault::StreamIdle));
        }
    }
}

#[test]
fn a_response_has_interim_heads_one_head_a_body_and_trailers() {
    let check = |frames: &[Vec<u8>], expected| {
        let mut client = client();
        ask(&mut client, true);
        let mut last = Ignored;
        for frame in frames {
            last = outcome(&mut client, frame);
        }
        assert_eq!(last, expected, "{frames:?}");
        let is_whole = expected == Passes;
        assert_eq!(client.stream_count() == 0, is_whole || expected != Ignored);
    };
    let interim = response(1, 0, STATUS_103);
    let (head, whole) = (response(1, 0, STATUS_200), response(1, END, STATUS_200));
    let (data, end) = (frame(DATA, 0, 1, b"x"), frame(DATA, END, 1, b"x"));
    let trailers = response(1, END, TRAILERS);
    let malformed = Breaks(Fault::Message);
    check(std::slice::from_ref(&whole), Passes);
    check(&[interim.clone(), interim.clone(), whole.clone()], Passes);
    check(&[interim.clone(), head.clone(), end.clone()], Passes);
    check(&[head.clone(), data.clone(), trailers.clone()], Passes);
    check(&[head.clone(), trailers.clone()], Passes);
    // A body without a head, an end before there was one, and a second head.
    check(std::slice::from_ref(&data), malformed);
    check(&[interim.clone(), data.clone()], malformed);
    check(&[response(1, END, STATUS_103)], malformed);
    check(&[head.clone(), head.clone()], malformed);
    check(&[head.clone(), interim], malformed);
    check(&[head, data, response(1, END, STATUS_200)], malformed);
}

#[test]
fn a_body_that_cannot_be_is_one_of_no_bytes() {
    // As after HEAD, or with 304.
    let mut client = client();
    ask(&mut client, true);
    feed(&mut client, &response(1, 0, STATUS_200)).unwrap();
    client.expect_body(1, 0);
    assert_eq!(outcome(&mut client, &frame(DATA, END, 1, b"")), Passes);
    ask(&mut client, true);
    feed(&mut client, &response(3, 0, STATUS_200)).unwrap();
    client.expect_body(3, 0);
    let data = frame(DATA, END, 3, b"x");
    assert_eq!(outcome(&mut client, &data), Breaks(Fault::BodyLength));
}

#[test]
fn a_request_may_be_answered_before_it_ends() {
    let mut client = client();
    let stream = ask(&mut client, false);
    let bytes = response(stream, END, STATUS_200);
    assert_eq!(outcome(&mut client, &bytes), Passes);
    // RFC 9113 section 8.1: the server wants no more of it.
    let no_error = frame(RST_STREAM, 0, stream, &[0; 4]);
    let saws = feed(&mut client, &no_error);
    assert_eq!(saws, Ok(vec![Saw::Reset(stream, ErrorCode::NO_ERROR)]));
    assert_eq!(client.send_data(stream, b"x", true), 0);
    assert_eq!(client.sendable(stream), None);
    assert!(!client.send_head(stream, true, |_| panic!("it is gone")));
}

#[test]
fn no_more_streams_than_the_server_allows() {
    let mut client = client();
    feed(&mut client, &settings(&[(3, 2)])).unwrap();
    let streams = [ask(&mut client, true), ask(&mut client, true)];
    assert_eq!(client.open(), None);
    // Fewer than there are: those go on.
    feed(&mut client, &settings(&[(3, 0)])).unwrap();
    for stream in streams {
        assert!(client.is_open(stream) && !client.can_open());
        let bytes = response(stream, END, STATUS_200);
        assert_eq!(outcome(&mut client, &bytes), Passes);
    }
    assert_eq!((client.stream_count(), client.open()), (0, None));
    feed(&mut client, &settings(&[(3, 1)])).unwrap();
    assert_eq!(client.open(), Some(5));
}

#[test]
fn after_the_servers_end_there_are_no_new_streams_but_the_old() {
    let mut client = client();
    let streams = [ask(&mut client, true), ask(&mut client, true)];
    let saws = feed(&mut client, &goaway(streams[0]));
    let gone = Saw::Goaway(streams[0], ErrorCode::NO_ERROR);
    assert_eq!(saws, Ok(vec![gone]));
    assert_eq!(client.open(), None);
    let bytes = response(streams[0], END, STATUS_200);
    assert_eq!(outcome(&mut client, &bytes), Passes);
    assert_eq!(outcome(&mut client, &goaway(0)), Passes);
}

#[test]
fn ids_are_used_up_at_last() {
    let mut client = client();
    client.next_stream = 0x7fff_fffd;
    assert_eq!(client.open(), Some(0x7fff_fffd));
    assert_eq!((client.open(), client.can_open()), (None, false));
}

/// Clients of ours share this connection: whoever of them gives up however many requests must not
/// end it for the others.
#[test]
fn responses_to_what_was_given_up_are_decoded_and_passed_over() {
    let mut client = client();
    let kept = ask(&mut client, true);
    let mut late = Vec::new();
    for round in 0..2000_u32 {
        let stream = ask(&mut client, true);
        client.reset(stream, ErrorCode::CANCEL);
        // Each response puts a field into the table.
        let value = (round % 10) as u8 + b'0';
        let block = [STATUS_200, &[0x40, 1, b'x', 1, value]].concat();
        late.extend(response(stream, 0, &block));
        late.extend(frame(DATA, 0, stream, &[0; 100]));
        late.extend(response(stream, END, TRAILERS));
        late.extend(rst_stream(stream));
    }
    client.out.clear();
    assert_eq!(feed(&mut client, &late), Ok(vec![]));
    assert!(frames(&client.out).iter().all(|it| it.0 == WINDOW_UPDATE));
    let block = [STATUS_200, &[0x80 | 62]].concat();
    let saws = feed(&mut client, &response(kept, END, &block)).unwrap();
    let text = "HTTP/1.1 200 \r\nx: 9\r\n\r\n".to_owned();
    assert_eq!(saws, [Saw::Head(kept, true, text, None)]);
}

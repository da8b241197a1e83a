//! Use that looks like a flood and is none: it never ends the connection, all at one moment, so that
//! no budget is filled by time.

use super::wire::*;
use super::*;

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, GET)
}

fn is_fine(result: Result<Vec<Saw>, Fault>) {
    let saws = result.unwrap();
    let broken = saws.iter().find(|saw| matches!(saw, Saw::Broken(..)));
    assert_eq!(broken, None);
}

#[test]
fn ten_thousand_requests_one_after_another() {
    let mut server = server();
    for round in 0..10_000 {
        let id = 2 * round + 1;
        // With a window for each stream as it opens, as Firefox has it, and answers without a body.
        is_fine(feed(
            &mut server,
            &[get(id), window_update(id, 12_517_377)].concat(),
        ));
        answer(&mut server, id);
        assert_eq!(server.stream_count(), 0);
        server.out.clear();
    }
}

#[test]
fn a_client_that_updates_both_windows_for_each_frame_and_measures_the_path() {
    let mut server = server();
    is_fine(feed(&mut server, &get(1)));
    for _ in 0..20_000 {
        assert_eq!(server.send_data(1, &[0; 1000], false), 1000);
        server.out.clear();
        let bytes = [
            window_update(0, 1000),
            window_update(1, 1000),
            frame(PING, 0, 0, &[0; 8]),
        ];
        is_fine(feed(&mut server, &bytes.concat()));
    }
}

/// As programs in Go that read little at a time.
#[test]
fn a_client_that_updates_windows_for_every_512_bytes() {
    let mut server = server();
    is_fine(feed(&mut server, &get(1)));
    for _ in 0..1000 {
        assert_eq!(server.send_data(1, &[0; 16_384], false), 16_384);
        server.out.clear();
        let both = [window_update(0, 512), window_update(1, 512)].concat();
        is_fine(feed(&mut server, &both.repeat(32)));
    }
}

#[test]
fn a_browser_that_cancels_fifty_streams_at_once() {
    let mut server = server();
    let mut next = 1;
    for _ in 0..3 {
        let streams: Vec<_> = (0..50).map(|at| next + 2 * at).collect();
        next += 100;
        let heads: Vec<_> = streams.iter().map(|&id| get(id)).collect();
        is_fine(feed(&mut server, &heads.concat()));
        let resets: Vec<_> = streams.iter().map(|&id| rst_stream(id)).collect();
        is_fine(feed(&mut server, &resets.concat()));
        // And then shows a page.
        for at in 0..50 {
            is_fine(feed(&mut server, &get(next + 2 * at)));
            answer(&mut server, next + 2 * at);
        }
        next += 100;
    }
}

/// As gRPC has it: neither message is ever large or the last.
#[test]
fn two_that_talk_in_tiny_messages_for_long() {
    let mut client = Connection::new(Role::Client, Limits::default());
    let mut server = Connection::new(Role::Server, Limits::default());
    is_fine(feed(&mut server, &std::mem::take(&mut client.out)));
    is_fine(feed(&mut client, &std::mem::take(&mut server.out)));
    let stream = ask(&mut client, false);
    is_fine(feed(&mut server, &std::mem::take(&mut client.out)));
    assert!(server.send_head(stream, false, |head| head.status(200)));
    for _ in 0..30_000 {
        for is_answer in [false, true] {
            let (from, to) = match is_answer {
                false => (&mut client, &mut server),
                true => (&mut server, &mut client),
            };
            assert_eq!(from.send_data(stream, b"tiny", false), 4);
            let saws = feed(to, &std::mem::take(&mut from.out)).unwrap();
            for saw in saws {
                match saw {
                    Saw::Data(stream, bytes, false) => to.consume(stream, bytes.len()),
                    Saw::Head(..) | Saw::Window(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert!(server.send_head(stream, true, |head| head.field(b"grpc-status", b"0")));
    is_fine(feed(&mut client, &std::mem::take(&mut server.out)));
}

/// Whoever reads slowly has bodies waiting, which are not answers.
#[test]
fn a_ping_behind_a_large_body() {
    let mut server = server();
    is_fine(feed(&mut server, &get(1)));
    let more = 4 << 20;
    is_fine(feed(
        &mut server,
        &[window_update(0, more), window_update(1, more)].concat(),
    ));
    server.send_data(1, &vec![0; 1 << 20], false);
    assert!(server.out.len() >= 1 << 20);
    is_fine(feed(&mut server, &frame(PING, 0, 0, &[0; 8])));
}

#[test]
fn heads_in_two_frames_for_ever() {
    let mut server = server();
    let block = [GET, &[0x00, 1, b'x', 0x7f, 0x81, 0x1e], &vec![b'v'; 3968]].concat();
    for round in 0..2000 {
        let id = 2 * round + 1;
        let (first, rest) = block.split_at(3000);
        let bytes = [
            frame(HEADERS, END, id, first),
            frame(CONTINUATION, END_HEADERS, id, rest),
        ];
        is_fine(feed(&mut server, &bytes.concat()));
        answer(&mut server, id);
        server.out.clear();
    }
}

/// A server that is about to stop resets all at once; what was on its way is no fault.
#[test]
fn all_streams_are_reset_with_their_bodies_on_the_way() {
    let mut server = server();
    let streams: Vec<_> = (0..100).map(|at| 2 * at + 1).collect();
    for &id in &streams {
        is_fine(feed(&mut server, &frame(HEADERS, END_HEADERS, id, POST)));
    }
    for &id in &streams {
        server.reset(id, ErrorCode::CANCEL);
    }
    for &id in &streams {
        let bytes = [
            frame(DATA, 0, id, &[0; 8192]),
            frame(HEADERS, WHOLE, id, TRAILERS),
        ];
        assert_eq!(feed(&mut server, &bytes.concat()), Ok(vec![]));
    }
}

/// Requests of a gateway before us that gives up one in three.
#[test]
fn many_give_up_and_more_do_not() {
    let mut server = server();
    for round in 0..10_000 {
        let id = 2 * round + 1;
        is_fine(feed(&mut server, &get(id)));
        match round % 3 {
            0 => is_fine(feed(&mut server, &rst_stream(id))),
            _ => answer(&mut server, id),
        }
        server.out.clear();
    }
}

#[test]
fn budgets_are_whole_again_after_their_time() {
    let mut server = server();
    let mut next = 1;
    for round in 0..5 {
        let now_ms = round * Limits::BUDGET_PERIOD_MS;
        for _ in 0..200 {
            let bytes = [get(next), rst_stream(next)].concat();
            is_fine(feed_at(&mut server, &bytes, now_ms));
            next += 2;
        }
    }
}

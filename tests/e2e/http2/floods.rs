//! The rows of the threat table on work that costs its sender nothing: each has a budget, whoever is
//! beyond it is closed with the right code and counted, and the honest do not notice.

use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cardea_tests::http2::{Client, Frame, Loss, code, flag, hpack, kind, request, setting};
use cardea_tests::origin::{self, Connection};
use cardea_tests::wait::{self, BOUND};
use cardea_tests::{Ending, Gateway, Origin};

use super::client;
use crate::fixture::{assert_refused, plain, plain_with};

/// Attacks a gateway while somebody honest uses it; the attacker has to be closed with this code, and
/// counted under this fault.
#[track_caller]
fn check(fault: &str, attack: impl FnOnce(&mut Client)) -> (Gateway, Origin) {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let honest = client(&gateway);
    let asking = thread::spawn(move || ask(honest));
    let mut attacker = client(&gateway);
    attack(&mut attacker);
    let ending = attacker.pump_to_end();
    let told = attacker.goaways.last().map(|goaway| goaway.1);
    assert_eq!(
        (told, ending),
        (Some(code::ENHANCE_YOUR_CALM), Ending::Eof),
        "{fault}"
    );
    let labels = [("listener", "web"), ("fault", fault)];
    gateway.wait_for_metric("cardea_http2_faults_total", &labels, 1.0);
    asking.join().expect("every honest request is answered");
    (gateway, origin)
}

/// Two hundred honest requests.
fn ask(mut client: Client) {
    for number in 0..200 {
        assert_eq!(client.get("a.test", "/honest").status, 200, "{number}");
    }
}

/// Sends frames until the gateway takes no more.
fn send_all(attacker: &mut Client, frames: impl IntoIterator<Item = Frame>) {
    let frames: Vec<u8> = frames.into_iter().flat_map(|frame| frame.bytes()).collect();
    for piece in frames.chunks(4096) {
        if attacker.wire().try_send(piece).is_err() {
            return;
        }
    }
}

#[test]
fn rapid_reset() {
    let (_gateway, origin) = check("reset_flood", |attacker| {
        let fields = request("GET", "a.test", "/attack");
        let frames = (0..1000).flat_map(|_| {
            let stream = attacker.new_stream();
            let head = Frame::headers(stream, flag::END_STREAM, &fields);
            [head, Frame::reset(stream, code::CANCEL)]
        });
        let frames: Vec<_> = frames.collect();
        send_all(attacker, frames);
    });
    // What was begun upstream is given up as well.
    let attacks = origin.take_requests();
    let attacks = attacks.iter().filter(|it| it.target == "/attack").count();
    assert!(attacks <= 201, "{attacks} of them reached the origin");
}

#[test]
fn made_you_reset() {
    // Every way to have the gateway reset a stream by itself.
    let provoke: [fn(u32) -> Frame; 4] = [
        |stream| Frame::window_update(stream, 0),
        |stream| Frame::window_update(stream, 0x7fff_ffff),
        |stream| Frame::new(kind::DATA, 0, stream, *b"more"),
        |stream| Frame::new(kind::PRIORITY, 0, stream, vec![0; 4]),
    ];
    for provoke in provoke {
        check("reset_flood", |attacker| {
            let fields = request("GET", "a.test", "/attack");
            let frames = (0..1000).flat_map(|_| {
                let stream = attacker.new_stream();
                let head = Frame::headers(stream, flag::END_STREAM, &fields);
                [head, provoke(stream)]
            });
            let frames: Vec<_> = frames.collect();
            send_all(attacker, frames);
        });
    }
}

#[test]
fn streams_beyond_the_limit() {
    check("reset_flood", |attacker| {
        let fields = request("POST", "a.test", "/attack");
        let frames: Vec<_> = (0..1000)
            .map(|_| Frame::headers(attacker.new_stream(), 0, &fields))
            .collect();
        send_all(attacker, frames);
    });
}

#[test]
fn continuation_flood() {
    let begin = |stream| Frame::new(kind::HEADERS, 0, stream, vec![]);
    check("block_too_long", |attacker| {
        let stream = attacker.new_stream();
        let more = Frame::new(kind::CONTINUATION, 0, stream, vec![0x82; 8000]);
        send_all(attacker, [vec![begin(stream)], vec![more; 20]].concat());
    });
    // Small ones, and empty ones.
    for payload in [vec![0x82], vec![]] {
        check("control_flood", |attacker| {
            let stream = attacker.new_stream();
            let more = Frame::new(kind::CONTINUATION, 0, stream, payload);
            send_all(attacker, [vec![begin(stream)], vec![more; 2000]].concat());
        });
    }
}

#[test]
fn ping_settings_priority_and_window_floods() {
    let frames = [
        Frame::new(kind::PING, 0, 0, vec![0; 8]),
        Frame::new(kind::PING, flag::ACK, 0, vec![0; 8]),
        Frame::settings(&[]),
        Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 70_000)]),
        Frame::new(kind::SETTINGS, flag::ACK, 0, vec![]),
        Frame::new(kind::PRIORITY, 0, 99, vec![0; 5]),
        Frame::window_update(0, 1),
        // A kind that nobody knows.
        Frame::new(0xbe, 0, 0, vec![0; 8]),
    ];
    for frame in frames {
        check("control_flood", |attacker| {
            attacker.answers = false;
            send_all(attacker, vec![frame; 2000]);
        });
    }
}

#[test]
fn who_has_used_up_half_of_a_budget_is_read_slowly() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let labels = [("listener", "web")];
    let pauses = || gateway.metric("cardea_http2_pauses_total", &labels);
    let ping = Frame::new(kind::PING, 0, 0, vec![0; 8]);
    send_all(&mut client, vec![ping.clone(); 200]);
    assert_eq!(client.get("a.test", "/").status, 200);
    assert_eq!(pauses(), Some(0.0));
    send_all(&mut client, vec![ping; 100]);
    client.ping();
    assert_eq!(client.get("a.test", "/").status, 200, "slowly, but served");
    wait::until_true("a pause is counted", || pauses() > Some(0.0));
}

#[test]
fn empty_frames_flood() {
    for payload in [vec![], vec![0]] {
        check("control_flood", |attacker| {
            let stream = attacker.open(&request("POST", "a.test", "/attack"), false);
            // Padding alone is as empty.
            let flags = if payload.is_empty() { 0 } else { flag::PADDED };
            send_all(
                attacker,
                vec![Frame::new(kind::DATA, flags, stream, payload); 2000],
            );
        });
    }
}

#[test]
fn hpack_bomb() {
    // One large field, named again and again by a byte each.
    let bomb = |count: usize| {
        let mut block = hpack::encode(&request("GET", "a.test", "/attack"));
        block.extend(hpack::encode_indexed("x-bomb", &"x".repeat(4000)));
        block.extend(vec![0x80 | 62; count]);
        block
    };
    let ends = flag::END_STREAM | flag::END_HEADERS;
    check("field_bomb", |attacker| {
        let stream = attacker.new_stream();
        attacker.try_send(&Frame::new(kind::HEADERS, ends, stream, bomb(10_000)));
    });
    // Above the limit, but no bomb.
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let stream = client.new_stream();
    client.send(&Frame::new(kind::HEADERS, ends, stream, bomb(10)));
    assert_refused(&client.response(stream), 431, "head_too_large", "44 KB");
    assert_eq!(client.get("a.test", "/").status, 200);
}

#[test]
fn cookie_crumbs_bomb() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = client(&gateway);
    let crumbs = |count: usize, crumb: &'static str| {
        let mut fields = request("GET", "a.test", "/");
        fields.extend(vec![("cookie", crumb); count]);
        fields
    };
    for (count, crumb) in [(200, "a"), (200, ""), (1200, "a"), (101, "a=b")] {
        let response = client.ask(&crumbs(count, crumb));
        assert_refused(
            &response,
            431,
            "head_too_large",
            &format!("{count} of {crumb:?}"),
        );
    }
    // Few, but large together: one field in the peer's table, named by a byte each.
    let mut block = hpack::encode(&request("GET", "a.test", "/"));
    block.extend(hpack::encode_indexed("cookie", &"c".repeat(4000)));
    block.extend([0x80 | 62; 12]);
    let stream = client.new_stream();
    let ends = flag::END_STREAM | flag::END_HEADERS;
    client.send(&Frame::new(kind::HEADERS, ends, stream, block));
    assert_refused(
        &client.response(stream),
        431,
        "head_too_large",
        "cookies of 52 KB",
    );
    assert_eq!(client.ask(&crumbs(90, "a=b")).status, 200);
    let cookie = origin.only_request().field("cookie").map(str::len);
    assert_eq!(cookie, Some(90 * 5 - 2));
}

#[test]
fn a_stalled_header_block_closes_in_time() {
    let origin = Origin::echo();
    let listener = "listeners: [{ name: web, bind: [\"127.0.0.1:0\"], timeouts: { head: 300ms, idle: 20s } }]\n";
    let gateway = plain_with(&origin, listener);
    let mut honest = client(&gateway);
    for is_dripping in [false, true] {
        let mut slow = client(&gateway);
        let stream = slow.new_stream();
        slow.send(&Frame::new(kind::HEADERS, 0, stream, vec![0x82]));
        slow.wire().wait_at_most(Some(Duration::from_millis(20)));
        let started = Instant::now();
        let ending = loop {
            match slow.pump() {
                Err(Ending::Silence) if is_dripping => {
                    // The deadline is for the block, not for its pieces.
                    slow.try_send(&Frame::new(kind::CONTINUATION, 0, stream, vec![0x86]));
                }
                Err(Ending::Silence) | Ok(_) => {}
                Err(ending) => break ending,
            }
            assert!(started.elapsed() < BOUND / 4, "a stalled block is kept");
        };
        assert_ne!(ending, Ending::Silence);
        assert_eq!(honest.get("a.test", "/").status, 200);
    }
    // The first words, and a frame that does not come whole.
    for start in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n"[..],
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04"[..],
    ] {
        let mut slow = gateway.client();
        slow.send(start);
        let (_, ending) = slow.take_rest();
        assert_ne!(ending, Ending::Silence, "{start:?}");
    }
    assert_eq!(honest.get("a.test", "/").status, 200);
}

/// A gateway in front of large responses, which have to be taken within a second.
fn large() -> (Gateway, Origin) {
    let body = "x".repeat(1 << 20);
    let answer = origin::ok(&body);
    let origin = Origin::serve(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            match request.target.as_str() {
                "/large" => connection.answer(&answer),
                _ => connection.answer(origin::ok("fine")),
            }
        }
    });
    let gateway = plain_with(&origin, "policies: { timeouts: { write_progress: 2s } }\n");
    (gateway, origin)
}

#[test]
fn http2_bomb_of_windows_that_stay_shut() {
    let (gateway, origin) = large();
    ask(client(&gateway));
    let before = gateway.resident_bytes();
    let settings = [(setting::INITIAL_WINDOW_SIZE, 0)];
    let mut slow = Client::over(gateway.client(), &settings);
    let streams: Vec<u32> = (0..100)
        .map(|_| slow.open(&request("GET", "a.test", "/large"), true))
        .collect();
    let asked = Instant::now();
    let heads = |slow: &Client| streams.iter().all(|&it| !slow.of(it).lists.is_empty());
    slow.pump_until("every head", heads);
    ask(client(&gateway));
    let held = gateway.resident_bytes().saturating_sub(before);
    // A hundred megabytes were asked for.
    assert!(
        held < 16 << 20,
        "{held} bytes for responses that nobody takes"
    );
    let over = |slow: &Client| streams.iter().all(|&it| slow.of(it).is_over());
    slow.pump_until("the end of every stream", over);
    assert!(
        asked.elapsed() > Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    for &stream in &streams {
        let received = slow.of(stream);
        assert_eq!(
            (received.reset, received.body.len()),
            (Some(code::CANCEL), 0)
        );
    }
    origin.wait_until("the origin is let go", |origin| {
        origin.open_connections() <= 2
    });
    // The connection lives, and has no budget left to hang on to.
    slow.ping();
    let line = gateway.log_line("a stream", |line| line["reason"] == "client_too_slow");
    assert_eq!(line["protocol"], "HTTP/2.0");
}

#[test]
fn a_window_that_opens_byte_by_byte_costs_no_frame_a_byte() {
    let (gateway, _origin) = large();
    let mut slow = client(&gateway);
    slow.opens_windows = false;
    let stream = slow.open(&request("GET", "a.test", "/large"), true);
    // The last bytes of a window are not worth a frame.
    slow.pump_until("a full window", |slow| slow.of(stream).body.len() > 64_000);
    slow.ping();
    let frames = slow.of(stream).frames;
    slow.send(&Frame::window_update(0, 1 << 20));
    for _ in 0..500 {
        slow.send(&Frame::window_update(stream, 1));
    }
    slow.ping();
    let received = slow.of(stream);
    assert!(
        received.frames <= frames + 1,
        "{} frames more",
        received.frames - frames
    );
    // Slower than the pace, so it ends.
    slow.pump_until("the end of the stream", |slow| slow.of(stream).is_over());
    assert_eq!(slow.of(stream).reset, Some(code::CANCEL));
}

#[test]
fn the_last_bytes_of_a_body_fill_the_window_at_once() {
    let (taken, is_taken) = mpsc::channel();
    let is_taken = Mutex::new(is_taken);
    let origin = Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            connection.answer("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n");
            connection.answer(vec![b'a'; 1500]);
            let is_taken = is_taken.lock().expect("nobody panics");
            is_taken.recv_timeout(BOUND).expect("the client reads");
            connection.answer(vec![b'z'; 500]);
        }
    });
    let gateway = plain(&origin);
    let settings = [(setting::INITIAL_WINDOW_SIZE, 2000)];
    let mut client = Client::over(gateway.client(), &settings);
    client.opens_windows = false;
    let began = Instant::now();
    for _ in 0..20 {
        let stream = client.open(&request("GET", "a.test", "/"), true);
        client.pump_until("most of it", |it| it.of(stream).body.len() == 1500);
        taken.send(()).expect("the origin listens");
        client.pump_until("the rest", |it| it.of(stream).body.len() == 2000);
    }
    // Not one wait for a larger window, which would never come.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn bodies_that_an_origin_does_not_take_are_bounded() {
    let origin = Origin::serve(|connection: &mut Connection| {
        // It reads the head and no more.
        connection.head();
        connection.wait_at_most(Some(BOUND));
        wait::until_true("the gateway gives up", || {
            let peeked = connection.tcp().peer_addr();
            let mut end = [0];
            peeked.is_err() || connection.tcp().peek(&mut end).is_err()
        });
    });
    let gateway = plain_with(&origin, "policies: { timeouts: { upstream_body: 20s } }\n");
    let before = gateway.resident_bytes();
    let mut sender = client(&gateway);
    let streams: Vec<u32> = (0..50)
        .map(|_| sender.open(&request("POST", "a.test", "/"), false))
        .collect();
    // As much as the windows let in.
    let piece = vec![0; 16_384];
    let mut sent = 0_usize;
    while sent < 256 << 20 {
        let has_room = |sender: &Client| {
            let mut streams = streams.iter().copied();
            streams.find(|&stream| sender.sendable(stream) >= piece.len())
        };
        if has_room(&sender).is_none() {
            // Whatever more there is room for has been said by then.
            sender.ping();
        }
        let Some(stream) = has_room(&sender) else {
            break;
        };
        sender.send_body(stream, &piece, false);
        sent += piece.len();
    }
    let held = gateway.resident_bytes().saturating_sub(before);
    assert!(held < 24 << 20, "{held} bytes held, {sent} sent");
    for stream in streams {
        sender.send(&Frame::reset(stream, code::CANCEL));
    }
    assert!(matches!(sender.ping(), ()));
}

#[test]
fn more_than_the_windows_allow_is_refused() {
    let origin = Origin::serve(origin::silent);
    let gateway = plain(&origin);
    let mut sender = client(&gateway);
    sender.ping();
    let stream = sender.open(&request("POST", "a.test", "/"), false);
    let frame = Frame::new(kind::DATA, 0, stream, vec![0; 16_384]);
    send_all(&mut sender, vec![frame; 2000]);
    match sender.try_response(stream) {
        Err(Loss::Reset(code::FLOW_CONTROL_ERROR, _) | Loss::Ended(_)) => {}
        other => panic!("{other:?}"),
    }
}

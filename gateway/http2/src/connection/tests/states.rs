//! Every kind of frame in every state that a stream can be in (RFC 9113 section 5.1).

use super::wire::*;
use super::*;
use Outcome::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Open,
    HalfClosedRemote,
    HalfClosedLocal,
    Closed,
    WeReset,
    PeerReset,
}

const STATES: [State; 7] = [
    State::Idle,
    State::Open,
    State::HalfClosedRemote,
    State::HalfClosedLocal,
    State::Closed,
    State::WeReset,
    State::PeerReset,
];

fn server_in(state: State) -> Connection {
    let mut server = server();
    let flags = match state {
        State::Idle => return server,
        State::HalfClosedRemote | State::Closed => WHOLE,
        _ => END_HEADERS,
    };
    feed(&mut server, &frame(HEADERS, flags, 1, POST)).unwrap();
    match state {
        State::HalfClosedLocal | State::Closed => answer(&mut server, 1),
        State::WeReset => server.reset(1, ErrorCode::CANCEL),
        State::PeerReset => drop(feed(&mut server, &rst_stream(1)).unwrap()),
        _ => {}
    }
    let is_there = !matches!(state, State::Closed | State::WeReset | State::PeerReset);
    assert_eq!(server.is_open(1), is_there, "{state:?}");
    server
}

/// The head of the response is there already if the state is not one before it.
fn client_in(state: State) -> Connection {
    let mut client = client();
    if state == State::Idle {
        return client;
    }
    let is_end = matches!(state, State::HalfClosedLocal | State::Closed);
    assert_eq!(ask(&mut client, is_end), 1);
    let flags = match state {
        State::HalfClosedRemote | State::Closed => WHOLE,
        _ => END_HEADERS,
    };
    feed(&mut client, &frame(HEADERS, flags, 1, STATUS_200)).unwrap();
    match state {
        State::WeReset => client.reset(1, ErrorCode::CANCEL),
        State::PeerReset => drop(feed(&mut client, &rst_stream(1)).unwrap()),
        _ => {}
    }
    client
}

/// The outcomes are in the order of the states.
fn check(role: Role, what: &str, bytes: &[u8], expected: [Outcome; 7]) {
    for (state, expected) in STATES.into_iter().zip(expected) {
        let mut connection = match role {
            Role::Server => server_in(state),
            Role::Client => client_in(state),
        };
        let outcome = outcome(&mut connection, bytes);
        assert_eq!(outcome, expected, "{what} at a {role:?}, {state:?}");
        if !matches!(outcome, Ends(_)) {
            // The connection lives: it answers.
            let ping = frame(PING, 0, 0, b"12345678");
            assert_eq!(super::wire::outcome(&mut connection, &ping), Answered);
        }
    }
}

const CLOSED: Outcome = Breaks(Fault::StreamClosed);
const ALREADY_CLOSED: Outcome = Resets(ErrorCode::STREAM_CLOSED);
const IDLE: Outcome = Ends(Fault::StreamIdle);

#[test]
fn frames_to_a_server() {
    let check = |what, bytes: Vec<u8>, expected| check(Role::Server, what, &bytes, expected);
    for flags in [0, END] {
        check(
            "DATA",
            frame(DATA, flags, 1, b"x"),
            [
                IDLE,
                Passes,
                CLOSED,
                Passes,
                ALREADY_CLOSED,
                Ignored,
                ALREADY_CLOSED,
            ],
        );
    }
    let gone = Ends(Fault::StreamClosed);
    check(
        "HEADERS that end the stream",
        frame(HEADERS, WHOLE, 1, TRAILERS),
        [Passes, Passes, CLOSED, Passes, gone, Ignored, gone],
    );
    let second = Breaks(Fault::Message);
    check(
        "HEADERS that do not",
        frame(HEADERS, END_HEADERS, 1, GET),
        [Passes, second, CLOSED, second, gone, Ignored, gone],
    );
    check("PRIORITY", frame(PRIORITY, 0, 1, &[0; 5]), [Ignored; 7]);
    check(
        "RST_STREAM",
        rst_stream(1),
        [IDLE, Passes, Passes, Passes, Ignored, Ignored, Ignored],
    );
    check(
        "WINDOW_UPDATE",
        window_update(1, 1),
        [IDLE, Passes, Passes, Passes, Ignored, Ignored, Ignored],
    );
    let broken = Breaks(Fault::WindowIncrement);
    check(
        "WINDOW_UPDATE of nothing",
        window_update(1, 0),
        [IDLE, broken, broken, broken, Ignored, Ignored, Ignored],
    );
}

#[test]
fn frames_to_a_client() {
    let check = |what, bytes: Vec<u8>, expected| check(Role::Client, what, &bytes, expected);
    for flags in [0, END] {
        check(
            "DATA",
            frame(DATA, flags, 1, b"x"),
            [IDLE, Passes, CLOSED, Passes, Ignored, Ignored, Ignored],
        );
    }
    let unasked = Ends(Fault::StreamId);
    check(
        "HEADERS that end the stream",
        frame(HEADERS, WHOLE, 1, TRAILERS),
        [unasked, Passes, CLOSED, Passes, Ignored, Ignored, Ignored],
    );
    let second = Breaks(Fault::Message);
    check(
        "HEADERS that do not",
        frame(HEADERS, END_HEADERS, 1, STATUS_200),
        [unasked, second, CLOSED, second, Ignored, Ignored, Ignored],
    );
    check("PRIORITY", frame(PRIORITY, 0, 1, &[0; 5]), [Ignored; 7]);
    for bytes in [rst_stream(1), window_update(1, 1)] {
        check(
            "RST_STREAM or WINDOW_UPDATE",
            bytes,
            [IDLE, Passes, Passes, Passes, Ignored, Ignored, Ignored],
        );
    }
}

#[test]
fn frames_that_fit_no_state() {
    for role in [Role::Server, Role::Client] {
        let check = |what, bytes: Vec<u8>, expected| check(role, what, &bytes, [expected; 7]);
        check("an unknown kind", frame(0xbe, 0xff, 1, b"x"), Ignored);
        let block = frame(CONTINUATION, END_HEADERS, 1, TRAILERS);
        check("CONTINUATION", block, Ends(Fault::Continuation));
        let promise = frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], GET].concat());
        check("PUSH_PROMISE", promise, Ends(Fault::Push));
        for (kind, length) in [(SETTINGS, 0), (PING, 8), (GOAWAY, 8)] {
            let bytes = frame(kind, 0, 1, &vec![0; length]);
            check("for a stream", bytes, Ends(Fault::StreamId));
        }
    }
}

/// Faults of form count in every state, since they may say something about the next frame.
#[test]
fn sizes_are_wrong_in_every_state() {
    for role in [Role::Server, Role::Client] {
        let check = |what, bytes: Vec<u8>| {
            check(role, what, &bytes, [Ends(Fault::FrameSize); 7]);
        };
        for length in [0, 3, 5, 8] {
            check("RST_STREAM", frame(RST_STREAM, 0, 1, &vec![0; length]));
            check(
                "WINDOW_UPDATE",
                frame(WINDOW_UPDATE, 0, 1, &vec![0; length]),
            );
        }
        check("padded DATA", frame(DATA, PADDED, 1, &[]));
        check("padded HEADERS", frame(HEADERS, PADDED, 1, &[]));
        let short = frame(HEADERS, WITH_PRIORITY | END_HEADERS, 1, &[0; 4]);
        check("HEADERS with less than a priority", short);
    }
}

#[test]
fn a_priority_has_a_form() {
    let idle = |fault| Ends(fault);
    let own = frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]);
    for (bytes, fault) in [
        (frame(PRIORITY, 0, 1, &[0; 4]), Fault::FrameSize),
        (frame(PRIORITY, 0, 1, &[0; 6]), Fault::FrameSize),
        (own, Fault::Dependency),
    ] {
        let (open, gone) = (Breaks(fault), Resets(fault.code()));
        let at_server = [idle(fault), open, open, open, gone, Ignored, gone];
        check(Role::Server, "PRIORITY", &bytes, at_server);
        let at_client = [idle(fault), open, open, open, Ignored, Ignored, Ignored];
        check(Role::Client, "PRIORITY", &bytes, at_client);
    }
}

//! Going: readiness turns first, nobody who is being served is cut off, and the exit code is 0.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea_tests::origin::{self, Connection};
use cardea_tests::wait::{self, Gate};
use cardea_tests::{Client, Gateway, Origin};
use rustix::process::Signal;

use crate::fixture::{PLAIN, get, plain, plain_with};
use crate::tunnels;

/// An origin that answers when the gate opens.
fn gated(gate: &Arc<Gate>) -> Origin {
    let waiting = Arc::clone(gate);
    Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            waiting.wait();
            connection.answer(origin::ok("done"));
        }
    })
}

#[test]
fn an_idle_gateway_goes_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let origin = Origin::echo();
        let mut gateway = plain(&origin);
        let mut idle = gateway.client();
        assert_eq!(idle.get("a.test", "/").status, 200);
        let started = Instant::now();
        gateway.signal(signal);
        idle.assert_closed();
        assert_eq!(gateway.wait().code(), Some(0));
        // Well within the grace period of five seconds: there was nothing to wait for.
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "{:?}",
            started.elapsed()
        );
        gateway.stderr.wait_for_line("drain_finished");
    }
}

#[test]
fn what_is_under_way_is_finished() {
    let gate = Arc::new(Gate::default());
    let origin = gated(&gate);
    let mut gateway = plain(&origin);
    let address = gateway.listener("web");
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    gateway.signal(Signal::TERM);
    wait::until_true("new connections are refused", || {
        std::net::TcpStream::connect(address).is_err()
    });
    gate.open();
    let response = client.response();
    assert_eq!(response.text(), "done");
    assert!(
        !response.keeps_open(),
        "the client is told to go elsewhere: {response:?}"
    );
    client.assert_closed();
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn readiness_turns_first() {
    let origin = Origin::echo();
    let mut gateway = plain_with(&origin, "shutdown: { readiness_delay: 1s, grace: 5s }\n");
    let mut client = gateway.client();
    assert_eq!(gateway.admin("GET", "/readyz").status, 200);
    gateway.signal(Signal::TERM);
    wait::until_true("readiness turns", || {
        gateway.admin("GET", "/readyz").status == 503
    });
    // Alive, and still taking new connections: balancers have not noticed yet.
    assert_eq!(gateway.admin("GET", "/healthz").status, 200);
    assert_eq!(gateway.get("a.test", "/").status, 200);
    assert_eq!(client.get("a.test", "/").status, 200);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn the_grace_period_ends() {
    let gate = Arc::new(Gate::default());
    let origin = gated(&gate);
    let mut gateway = plain_with(&origin, "shutdown: { grace: 300ms }\n");
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    client.try_response().expect_err("nothing whole");
    gate.open();
}

#[test]
fn a_second_signal_cuts_it_short() {
    let gate = Arc::new(Gate::default());
    let origin = gated(&gate);
    let mut gateway = plain_with(&origin, "shutdown: { grace: 10m }\n");
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    gateway.signal(Signal::TERM);
    gateway.stderr.wait_for_line("drain_started");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    gate.open();
}

#[test]
fn tunnels_have_the_grace_period() {
    let origin = Origin::serve(origin::websocket);
    let mut gateway = plain_with(&origin, "shutdown: { grace: 1500ms }\n");
    let mut client = tunnels::open(&gateway, "a.test");
    let address = gateway.listener("web");
    gateway.signal(Signal::TERM);
    wait::until_true("listeners close", || {
        std::net::TcpStream::connect(address).is_err()
    });
    tunnels::assert_echoes(&mut client, "still open");
    let (_, ending) = client.take_rest();
    assert_ne!(ending, cardea_tests::Ending::Silence);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn no_request_fails_while_connections_are_told_to_go() {
    let origin = Origin::serve(origin::saying("fine"));
    let mut gateway = Gateway::start(PLAIN, &[("origin", &origin.address())]);
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("a.test", "/").status, 200);
    }
    // Busy ones: a request is in the socket when the signal comes.
    for client in &mut clients {
        client.send(get("a.test", "/", ""));
    }
    gateway.signal(Signal::TERM);
    for client in &mut clients {
        // Served and told to go, or closed before anything of it was read: never cut.
        match client.try_response() {
            Ok(response) => assert_eq!(response.text(), "fine"),
            Err(partial) => assert!(partial.response.is_none(), "{partial:?}"),
        }
    }
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn the_access_log_is_complete_at_the_end() {
    let origin = Origin::echo();
    let mut gateway = plain(&origin);
    let mut client = gateway.client();
    for _ in 0..50 {
        client.get("a.test", "/");
    }
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    gateway.stdout.wait_for("all lines", |text| {
        (text.lines().count() == 50).then_some(())
    });
}

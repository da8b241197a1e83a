//! Connections of HTTP/2 that have to go: told first, served to the end of what they asked.

use std::sync::Arc;
use std::thread;

use cardea_tests::http2::{code, request};
use cardea_tests::origin::{self, Connection};
use cardea_tests::process::{command, run};
use cardea_tests::wait::{self, Gate};
use cardea_tests::{Ending, Gateway, Origin};
use rustix::process::Signal;

use super::client;
use crate::fixture::{PLAIN, plain, plain_with};

/// An origin that answers `/slow` when the gate opens, everything else at once.
fn gated(gate: &Arc<Gate>) -> Origin {
    let waiting = Arc::clone(gate);
    Origin::serve(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            if request.target == "/slow" {
                waiting.wait();
            }
            connection.answer(origin::ok("done"));
        }
    })
}

#[test]
fn a_shutdown_says_goaway_and_finishes_what_was_asked() {
    let gate = Arc::new(Gate::default());
    let origin = gated(&gate);
    let mut gateway = plain(&origin);
    let mut idle = client(&gateway);
    let mut busy = client(&gateway);
    let slow = busy.open(&request("GET", "a.test", "/slow"), true);
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    gateway.signal(Signal::TERM);
    // Told first of no limit: what is on its way is served (RFC 9113 section 6.8).
    busy.answers = false;
    busy.pump_until("the first GOAWAY", |busy| !busy.goaways.is_empty());
    assert_eq!(busy.goaways, [(0x7fff_ffff, code::NO_ERROR)]);
    let late = busy.open(&request("GET", "a.test", "/late"), true);
    assert_eq!(busy.response(late).text(), "done");
    busy.answers = true;
    busy.pump_until("the second GOAWAY", |busy| busy.goaways.len() == 2);
    assert_eq!(busy.goaways[1], (late, code::NO_ERROR));
    gate.open();
    assert_eq!(busy.response(slow).text(), "done");
    assert_eq!(busy.pump_to_end(), Ending::Eof);
    assert_eq!(idle.pump_to_end(), Ending::Eof);
    assert_eq!(
        idle.goaways.last().map(|goaway| goaway.1),
        Some(code::NO_ERROR)
    );
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_removed_listener_says_goaway_and_finishes_what_was_asked() {
    let gate = Arc::new(Gate::default());
    let origin = gated(&gate);
    let both = "listeners: [{ name: web, bind: [\"127.0.0.1:0\"] }, { name: other, bind: [\"127.0.0.1:0\"] }]\n";
    let gateway = plain_with(&origin, both);
    let address = gateway.listener("other");
    let mut going = cardea_tests::http2::Client::connect(address);
    let mut staying = client(&gateway);
    let slow = going.open(&request("GET", "a.test", "/slow"), true);
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    gateway.configure(PLAIN, &[("origin", &origin.address())]);
    going.pump_until("GOAWAY", |going| going.goaways.len() == 2);
    gate.open();
    assert_eq!(going.response(slow).text(), "done");
    assert_eq!(going.pump_to_end(), Ending::Eof);
    assert_eq!(staying.get("a.test", "/").status, 200);
    assert!(staying.goaways.is_empty());
    wait::until_true("it is closed", || {
        std::net::TcpStream::connect(address).is_err()
    });
}

#[test]
fn a_connection_that_served_enough_is_told_to_go() {
    let origin = Origin::echo();
    let listener = "listeners: [{ name: web, bind: [\"127.0.0.1:0\"], http: { requests_per_connection_max: 5 } }]\n";
    let gateway = plain_with(&origin, listener);
    let mut client = client(&gateway);
    let streams: Vec<u32> = (0..5)
        .map(|_| client.open(&request("GET", "a.test", "/"), true))
        .collect();
    for stream in streams {
        assert_eq!(client.response(stream).status, 200);
    }
    assert_eq!(client.pump_to_end(), Ending::Eof);
    assert_eq!(client.goaways.last(), Some(&(9, code::NO_ERROR)));
}

#[test]
fn an_idle_connection_is_told_to_go() {
    let origin = Origin::echo();
    let listener =
        "listeners: [{ name: web, bind: [\"127.0.0.1:0\"], timeouts: { idle: 300ms } }]\n";
    let gateway = plain_with(&origin, listener);
    let mut client = client(&gateway);
    assert_eq!(client.get("a.test", "/").status, 200);
    client.assert_closed_with(code::NO_ERROR);
}

#[test]
fn no_request_of_h2load_fails_across_reloads() {
    let origin = Origin::serve(origin::saying("fine"));
    let values = [("origin", &origin.address() as &dyn std::fmt::Display)];
    let number_of = |number: usize| {
        format!(
            "{PLAIN}policies: {{ header_edits: {{ response: {{ set: {{ x-generation: \"{number}\" }} }} }} }}\n"
        )
    };
    let gateway = Gateway::start(&number_of(0), &values);
    let url = format!("http://{}/", gateway.listener("web"));
    let running = thread::spawn(move || {
        let arguments = [
            "-D",
            "4",
            "-c",
            "8",
            "-m",
            "10",
            "-t",
            "1",
            "-H",
            ":authority: a.test",
        ];
        run(&mut command("h2load", &[&arguments[..], &[&url]].concat()))
    });
    let mut number = 0;
    while number < 10 {
        number += 1;
        gateway.configure(&number_of(number), &values);
    }
    let report = running.join().expect("h2load runs").stdout;
    let line = |part: &str| {
        report
            .lines()
            .find(|line| line.starts_with(part))
            .unwrap_or_default()
    };
    assert!(
        line("requests:").contains(" 0 failed, 0 errored, 0 timeout"),
        "{report}"
    );
    assert!(!line("requests:").contains(" 0 succeeded"), "{report}");
    assert!(
        line("status codes:").contains(" 0 3xx, 0 4xx, 0 5xx"),
        "{report}"
    );
}

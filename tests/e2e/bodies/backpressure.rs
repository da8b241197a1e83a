//! Neither side's bytes pile up in the gateway: it reads no more than the other side takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cardea_tests::origin::Connection;
use cardea_tests::wait::{self, Gate};
use cardea_tests::{Client, Gateway, Origin, Wire};

use crate::fixture::{get, plain_with};

/// What the kernel may hold for one connection, both sides, with buffers as large as they get.
const KERNEL_BYTES: u64 = 24 << 20;

/// What is left to send when nobody takes it: far more than the kernel holds.
const ENDLESS: u64 = 1 << 40;

/// How much more memory the gateway may hold with a few stalled exchanges.
const GROWTH_MAX: u64 = 8 << 20;

/// A gateway whose deadlines are no part of the test.
fn patient(origin: &Origin) -> Gateway {
    plain_with(
        origin,
        "policies: { timeouts: { write_progress: 60s, body_progress: 60s, upstream_body: 60s } }\n",
    )
}

/// Sends until the other side has taken nothing for a while; returns how much it took.
fn send_until_stalled(wire: &mut Wire, count: &AtomicU64) {
    let piece = [b'x'; 64 * 1024];
    wire.tcp()
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("set the write timeout");
    while wire.try_send(piece).is_ok() {
        count.fetch_add(piece.len() as u64, Ordering::SeqCst);
    }
}

#[test]
fn a_slow_reader_stops_the_origin() {
    let sent = Arc::new(AtomicU64::new(0));
    let stalled = Arc::new(Gate::default());
    let (count, gate) = (Arc::clone(&sent), Arc::clone(&stalled));
    let origin = Origin::serve(move |connection: &mut Connection| {
        connection.request();
        connection.answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS}\r\n\r\n"
        ));
        send_until_stalled(connection, &count);
        gate.open();
        // Keeps the connection until the test is over.
        connection.take_rest();
    });
    let gateway = patient(&origin);
    gateway.get("nobody.test", "/");
    let before = gateway.resident_bytes();
    let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(get("a.test", "/", ""));
    }
    stalled.wait();
    let sent = sent.load(Ordering::SeqCst);
    assert!(
        sent < 4 * KERNEL_BYTES,
        "the origin could send {sent} bytes"
    );
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the gateway grew by {grown} bytes");
}

#[test]
fn a_slow_origin_stops_the_client() {
    let done = Arc::new(Gate::default());
    let waiting = Arc::clone(&done);
    let origin = Origin::serve(move |connection: &mut Connection| {
        // Reads the head and nothing of the body.
        connection.head();
        waiting.wait();
    });
    let gateway = patient(&origin);
    gateway.get("nobody.test", "/");
    let before = gateway.resident_bytes();
    let sent = AtomicU64::new(0);
    let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {ENDLESS}\r\n\r\n"
        ));
        send_until_stalled(client, &sent);
    }
    let sent = sent.load(Ordering::SeqCst);
    assert!(
        sent < 4 * KERNEL_BYTES,
        "the clients could send {sent} bytes"
    );
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the gateway grew by {grown} bytes");
    done.open();
}

#[test]
fn a_reader_that_resumes_gets_everything() {
    const LENGTH: usize = 32 << 20;
    let body: Vec<u8> = (0..LENGTH).map(|at| (at / 3 % 251) as u8).collect();
    let expected = body.clone();
    let origin = Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            connection.answer(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"
            ));
            connection.answer(&body);
        }
    });
    let gateway = patient(&origin);
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    let mut seen = 0;
    wait::until_true("the origin's bytes back up", || {
        let queued = queued_bytes(&client);
        let is_stalled = queued > 0 && queued == seen;
        seen = queued;
        is_stalled
    });
    let response = client.response();
    assert!(response.body == expected, "the body changed on its way");
}

/// Bytes waiting in the client's receive buffer.
fn queued_bytes(client: &Client) -> usize {
    let mut peeked = vec![0; 1 << 20];
    client
        .tcp()
        .peek(&mut peeked)
        .expect("a connection with bytes to read")
}

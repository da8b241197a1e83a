//! Streams of UDP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cardea_tests::named::Named;
use cardea_tests::wait::{self, BOUND};
use cardea_tests::{Gateway, gateway, process};
use rustix::process::Signal;

use super::ended;

const CONFIG: &str = r#"
listeners: [{ name: dns, bind: ["127.0.0.1:0"], protocol: udp }]
streams: [{ name: names, listeners: [dns], to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;

/// Somebody who sends datagrams back, with a word before them, and remembers from where each came.
struct Echo {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<SocketAddr>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(word: &'static str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("an address");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("set the read timeout");
        let address = socket.local_addr().expect("a bound socket");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (noted, over) = (Arc::clone(&seen), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let mut datagram = vec![0; 70_000];
            while !over.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut datagram) else {
                    continue;
                };
                noted.lock().expect("no panic").push(from);
                let reply = [word.as_bytes(), &datagram[..length]].concat();
                // Too large to go back is for the test to notice.
                let _ = socket.send_to(&reply, from);
            }
        });
        Self {
            address,
            seen,
            is_over,
            thread: Some(thread),
        }
    }

    /// Where its datagrams came from, each once.
    fn senders(&self) -> Vec<SocketAddr> {
        let mut senders = self.seen.lock().expect("no panic").clone();
        senders.sort();
        senders.dedup();
        senders
    }

    fn last_sender(&self) -> SocketAddr {
        let seen = self.seen.lock().expect("no panic");
        *seen.last().expect("a datagram")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn client(gateway: &Gateway) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("an address");
    socket.connect(gateway.listener("dns")).expect("an address");
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("set the read timeout");
    socket
}

/// What comes back for a datagram, if anything does.
fn asked(client: &UdpSocket, datagram: &[u8]) -> Option<Vec<u8>> {
    client.send(datagram).expect("a socket that sends");
    let mut reply = vec![0; 70_000];
    let length = client.recv(&mut reply).ok()?;
    reply.truncate(length);
    Some(reply)
}

/// As `asked`, by somebody who asks again until there is an answer: datagrams may be lost.
#[track_caller]
fn answered(client: &UdpSocket, datagram: &str) -> String {
    let reply = wait::until("an answer", || asked(client, datagram.as_bytes()));
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn a_name_server_is_asked() {
    let named = Named::start();
    let gateway = Gateway::start(CONFIG, &[("origin", &named.address)]);
    let address = gateway.listener("dns");
    let port = address.port().to_string();
    let at = format!("@{}", address.ip());
    for _ in 0..3 {
        let question = ["+short", "+notcp", "-p", &port, &at, "ns.w.test", "A"];
        let dig = process::run(&mut process::command("dig", &question));
        assert_eq!(dig.stdout.trim(), "127.0.0.1", "{dig:?}");
    }
    let total = gateway.metric("cardea_stream_connections_total", &[("stream", "names")]);
    assert_eq!(total, Some(3.0));
}

#[test]
fn each_client_has_a_session_of_its_own() {
    let echo = Echo::start("<");
    let gateway = Gateway::start(
        &CONFIG.replace("to: origin", "to: origin, timeouts: { idle: 1s }"),
        &[("origin", &echo.address)],
    );
    let clients: Vec<UdpSocket> = (0..8).map(|_| client(&gateway)).collect();
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            let word = format!("{round} of {number}");
            assert_eq!(answered(client, &word), format!("<{word}"));
        }
    }
    assert_eq!(echo.senders().len(), clients.len());
    let open = || gateway.metric("cardea_stream_connections_open", &[("stream", "names")]);
    assert_eq!(
        gateway.metric("cardea_connections_open", &[("listener", "dns")]),
        open()
    );
    // Silence ends them; the next datagram begins another.
    wait::until_true("the sessions are over", || open() == Some(0.0));
    assert_eq!(ended(&gateway, "idle"), 8.0);
    let line = gateway.log_line("a session", |line| line["protocol"] == "UDP");
    assert_eq!(line["stream"], "names", "{line}");
    assert_eq!(line["reason"], "idle", "{line}");
    assert!(line["bytes_received"].as_u64() >= Some(18), "{line}");
    assert_eq!(answered(&clients[0], "again"), "<again");
    assert_eq!(echo.senders().len(), clients.len() + 1);
}

#[test]
fn only_the_endpoint_answers_and_only_whoever_asked() {
    let echo = Echo::start("<");
    let gateway = Gateway::start(CONFIG, &[("origin", &echo.address)]);
    let client = client(&gateway);
    assert_eq!(answered(&client, "hello"), "<hello");
    // A stranger who has found out the session's port.
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("an address");
    let session = echo.last_sender();
    stranger
        .send_to(b"forged", session)
        .expect("a socket that sends");
    assert_eq!(answered(&client, "again"), "<again");
    let sent = gateway.metric("cardea_stream_sent_bytes_total", &[("stream", "names")]);
    assert_eq!(sent, Some(12.0));
}

/// Somebody without a fixed partner, who sees where an answer comes from.
fn from_where(client: &UdpSocket, to: SocketAddr, word: &str) -> (SocketAddr, String) {
    let mut reply = [0; 100];
    let (length, from) = wait::until("an answer", || {
        client
            .send_to(word.as_bytes(), to)
            .expect("a socket that sends");
        client.recv_from(&mut reply).ok()
    });
    (from, String::from_utf8_lossy(&reply[..length]).into_owned())
}

#[test]
fn replies_come_from_the_address_that_was_asked() {
    let echo = Echo::start("<");
    let config = CONFIG.replace("127.0.0.1:0", "<any>");
    let any = gateway::free_address().port();
    for bind in [format!("0.0.0.0:{any}"), format!(":{any}")] {
        let gateway = Gateway::start(&config, &[("origin", &echo.address), ("any", &bind)]);
        let client = UdpSocket::bind("0.0.0.0:0").expect("an address");
        client
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("set the read timeout");
        // One port of the client, several addresses of the gateway: a session with each.
        for round in 0..2 {
            for last in [1, 2, 77, 254] {
                let to = SocketAddr::from(([127, 0, 0, last], any));
                let word = format!("{round} to {last}");
                assert_eq!(
                    from_where(&client, to, &word),
                    (to, format!("<{word}")),
                    "{bind}"
                );
            }
        }
        gateway.wait_for_metric(
            "cardea_stream_connections_open",
            &[("stream", "names")],
            4.0,
        );
        if bind.starts_with(':') {
            let client = UdpSocket::bind("[::]:0").expect("an address of IPv6");
            client
                .set_read_timeout(Some(Duration::from_millis(300)))
                .expect("set the read timeout");
            let to: SocketAddr = format!("[::1]:{any}").parse().expect("an address");
            assert_eq!(from_where(&client, to, "six"), (to, "<six".to_owned()));
        }
    }
}

#[test]
fn sessions_have_a_cap() {
    let echo = Echo::start("<");
    let config = CONFIG.replace("protocol: udp", "protocol: udp, udp: { sessions_max: 2 }");
    let gateway = Gateway::start(&config, &[("origin", &echo.address)]);
    let clients: Vec<UdpSocket> = (0..3).map(|_| client(&gateway)).collect();
    assert_eq!(answered(&clients[0], "a"), "<a");
    assert_eq!(answered(&clients[1], "b"), "<b");
    assert_eq!(asked(&clients[2], b"c"), None);
    let labels = [("stream", "names"), ("reason", "sessions_max")];
    gateway.wait_for_metric("cardea_stream_datagrams_dropped_total", &labels, 1.0);
    gateway.wait_for_metric(
        "cardea_connections_refused_total",
        &[("listener", "dns")],
        1.0,
    );
    // Those who have one are served.
    assert_eq!(answered(&clients[0], "d"), "<d");
}

#[test]
fn datagrams_have_a_largest_size() {
    let echo = Echo::start("");
    let gateway = Gateway::start(CONFIG, &[("origin", &echo.address)]);
    let one = client(&gateway);
    // The most that IPv4 has room for.
    let largest = vec![7; 65_507];
    let reply = wait::until("the largest datagram", || asked(&one, &largest));
    assert!(reply == largest, "{} bytes", reply.len());
    let empty = wait::until("an empty datagram", || asked(&one, b""));
    assert_eq!(empty, b"");
    let echo = Echo::start("too long to go back, ");
    let limits = "protocol: udp, udp: { datagram_bytes_max: 100 }";
    let config = CONFIG.replace("protocol: udp", limits);
    let gateway = Gateway::start(&config, &[("origin", &echo.address)]);
    let one = client(&gateway);
    assert_eq!(asked(&one, &[7; 101]), None);
    assert_eq!(asked(&one, &[7; 100]), None);
    let labels = [("stream", "names"), ("reason", "too_large")];
    gateway.wait_for_metric("cardea_stream_datagrams_dropped_total", &labels, 2.0);
    assert_eq!(answered(&one, "hi"), "too long to go back, hi");
}

#[test]
fn another_endpoint_takes_what_one_refuses() {
    let echo = Echo::start("<");
    let config = CONFIG.replace("[\"<origin>\"]", "[\"<dead>\", \"<origin>\"]");
    let dead = gateway::free_address();
    let gateway = Gateway::start(&config, &[("origin", &echo.address), ("dead", &dead)]);
    // Both workers, and both endpoints first.
    for number in 0..8 {
        let client = client(&gateway);
        let word = format!("client {number}");
        assert_eq!(answered(&client, &word), format!("<{word}"));
    }
    assert!(ended(&gateway, "endpoint_reset") >= 1.0);
}

#[test]
fn a_reload_keeps_sessions() {
    let (one, two) = (Echo::start("one "), Echo::start("two "));
    let gateway = Gateway::start(CONFIG, &[("origin", &one.address)]);
    let old = client(&gateway);
    assert_eq!(answered(&old, "a"), "one a");
    gateway.configure(CONFIG, &[("origin", &two.address)]);
    let new = client(&gateway);
    assert_eq!(answered(&new, "b"), "two b");
    assert_eq!(answered(&old, "c"), "one c");
    assert_eq!(one.senders().len(), 1);
    // The listener goes.
    let without = r#"
listeners: [{ name: web, bind: ["127.0.0.1:0"] }]
domains: [{ hosts: [a.test], policies: { respond: {} } }]
"#;
    gateway.configure(without, &[]);
    wait::until_true("the sessions are over", || {
        ended(&gateway, "released") == 2.0 || {
            gateway
                .metric("cardea_stream_connections_open", &[])
                .is_none()
        }
    });
}

#[test]
fn a_reply_under_way_is_waited_for_at_the_end() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("an address");
    socket
        .set_read_timeout(Some(BOUND))
        .expect("set the read timeout");
    let address = socket.local_addr().expect("a bound socket");
    let mut gateway = Gateway::start(CONFIG, &[("origin", &address)]);
    let client = client(&gateway);
    client
        .set_read_timeout(Some(BOUND))
        .expect("set the read timeout");
    client.send(b"late").expect("a socket that sends");
    let mut datagram = [0; 16];
    let (_, from) = socket.recv_from(&mut datagram).expect("the datagram");
    gateway.signal(Signal::TERM);
    gateway.stderr.wait_for_line("drain_started");
    socket.send_to(b"reply", from).expect("a socket that sends");
    let length = client.recv(&mut datagram).expect("the reply");
    assert_eq!(&datagram[..length], b"reply");
    assert_eq!(gateway.wait().code(), Some(0));
    let said = gateway.stderr.wait_for_line("drain_finished");
    assert!(said.contains("connections_cut=0"), "{said}");
}

#[test]
fn tcp_and_udp_share_a_port() {
    let named = Named::start();
    let address = gateway::free_address();
    let config = r#"
listeners:
  - { name: dns, bind: ["<address>"], protocol: udp }
  - { name: dns-tcp, bind: ["<address>"], protocol: tcp }
streams: [{ name: names, listeners: [dns, dns-tcp], to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;
    let values: gateway::Values<'_> = &[("origin", &named.address), ("address", &address)];
    let gateway = Gateway::start(config, values);
    let port = address.port().to_string();
    for way in ["+tcp", "+notcp"] {
        let at = format!("@{}", address.ip());
        let question = ["+short", way, "-p", &port, &at, "ns.w.test", "A"];
        let dig = process::run(&mut process::command("dig", &question));
        assert_eq!(dig.stdout.trim(), "127.0.0.1", "{way}: {dig:?}");
    }
    // Where somebody else is already, the configuration is refused.
    let taken = UdpSocket::bind("127.0.0.1:0").expect("an address");
    let there = taken.local_addr().expect("a bound socket");
    gateway
        .site()
        .configure(config, &[("origin", &named.address), ("address", &there)]);
    let reload = gateway.reload();
    assert_eq!(reload.code, Some(1), "{reload:?}");
    let said = format!("{}{}", reload.stdout, reload.stderr);
    assert!(said.contains("E-bind"), "{said}");
}

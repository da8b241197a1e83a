//! Streams of TCP in the clear.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cardea_tests::origin::Connection;
use cardea_tests::redis::Redis;
use cardea_tests::wait::{self, BOUND};
use cardea_tests::wire::Stream;
use cardea_tests::{Client, Ending, Gateway, Origin, Wire, gateway};
use rustix::process::Signal;

use super::{assert_echoes, echo, ended, name_of, named};

/// One stream to one upstream.
const CONFIG: &str = r#"
listeners: [{ name: db, bind: ["127.0.0.1:0"], protocol: tcp }]
streams: [{ name: rows, listeners: [db], to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;

fn to(origin: &Origin) -> Gateway {
    Gateway::start(CONFIG, &[("origin", &origin.address())])
}

fn connect(gateway: &Gateway) -> Client {
    Client::connect(gateway.listener("db"))
}

/// A new connection is reset, which may be before it is known to be there.
#[track_caller]
fn assert_reset(gateway: &Gateway) {
    match TcpStream::connect(gateway.listener("db")) {
        Ok(tcp) => {
            let ended = Wire::new(Stream::Plain(tcp)).take_rest();
            assert_eq!(ended, (Vec::new(), Ending::Reset));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn redis_is_served() {
    let redis = Redis::start();
    let gateway = Gateway::start(CONFIG, &[("origin", &redis.address())]);
    let through = gateway.listener("db");
    assert_eq!(
        redis.ask_by_way_of(through, &["SET", "a", "b"]).trim(),
        "OK"
    );
    assert_eq!(redis.ask(&["GET", "a"]).trim(), "b");
    let long = "x".repeat(100_000);
    redis.ask(&["SET", "long", &long]);
    let got = redis.ask_by_way_of(through, &["GET", "long"]);
    assert!(got.trim() == long, "{} bytes", got.len());
    let line = gateway.log_line("the connection", |line| {
        line["bytes_sent"].as_u64() > Some(9999)
    });
    assert_eq!(line["stream"], "rows", "{line}");
    assert_eq!(line["listener"], "db", "{line}");
    assert_eq!(line["protocol"], "TCP", "{line}");
    assert_eq!(line["upstream"], "origin", "{line}");
    assert_eq!(line["endpoint"], redis.address().to_string(), "{line}");
    for request in ["status", "method", "path", "reason"] {
        assert!(line[request].is_null(), "{request}: {line}");
    }
    gateway.wait_for_metric("cardea_stream_connections_open", &[("stream", "rows")], 0.0);
    let total = |name: &str| {
        gateway
            .metric(name, &[("stream", "rows")])
            .unwrap_or_default()
    };
    assert_eq!(total("cardea_stream_connections_total"), 2.0);
    assert!(total("cardea_stream_sent_bytes_total") > 100_000.0);
    assert!(total("cardea_stream_received_bytes_total") > 40.0);
}

/// Bytes that do not repeat for long.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 33)).to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Sends bytes and ends that direction, while everything that comes is read.
fn exchange(mut tcp: &TcpStream, bytes: &[u8]) -> Vec<u8> {
    tcp.set_read_timeout(Some(BOUND))
        .expect("set the read timeout");
    let mut received = Vec::new();
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            tcp.write_all(bytes)?;
            tcp.shutdown(Shutdown::Write)
        });
        tcp.read_to_end(&mut received)
            .expect("everything to the end");
        sending
            .join()
            .expect("no panic")
            .expect("a peer that reads");
    });
    received
}

#[test]
fn much_goes_both_ways_at_once_and_arrives_whole() {
    const BYTES: usize = 24 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
    let address = listener.local_addr().expect("a bound socket");
    let gateway = Gateway::start(CONFIG, &[("origin", &address)]);
    let (up, down) = (noise(1, BYTES), noise(2, BYTES + 12_345));
    thread::scope(|scope| {
        let origin = scope.spawn(|| {
            let (tcp, _) = listener.accept().expect("the gateway");
            exchange(&tcp, &down)
        });
        let tcp = TcpStream::connect(gateway.listener("db")).expect("a listener");
        let received = exchange(&tcp, &up);
        assert!(
            received == down,
            "{} of {} bytes",
            received.len(),
            down.len()
        );
        let received = origin.join().expect("no panic");
        assert!(received == up, "{} of {} bytes", received.len(), up.len());
    });
    let line = gateway.log_line("the connection", |line| line["stream"] == "rows");
    assert_eq!(line["bytes_received"], up.len(), "{line}");
    assert_eq!(line["bytes_sent"], down.len(), "{line}");
}

#[test]
fn the_end_of_one_direction_leaves_the_other_open() {
    let origin = Origin::serve(|connection: &mut Connection| {
        let (bytes, ending) = connection.take_rest();
        connection.answer(format!("{} bytes, then {ending:?}", bytes.len()));
    });
    let gateway = to(&origin);
    let mut client = connect(&gateway);
    client.send("hello").half_close();
    let (rest, ending) = client.take_rest();
    assert_eq!(String::from_utf8_lossy(&rest), "5 bytes, then Eof");
    assert_eq!(ending, Ending::Eof);
    wait::until_true("its end is counted", || ended(&gateway, "closed") == 1.0);
    // The other way round.
    let origin = Origin::serve(|connection: &mut Connection| {
        connection.answer("that is all");
        connection.half_close();
        let (bytes, _) = connection.take_rest();
        assert_eq!(bytes, b"and more");
    });
    let gateway = to(&origin);
    let mut client = connect(&gateway);
    let (rest, ending) = client.take_rest();
    assert_eq!(
        (rest.as_slice(), ending),
        (&b"that is all"[..], Ending::Eof)
    );
    client.send("and more").half_close();
    origin.wait_until("the rest arrives", |origin| origin.open_connections() == 0);
    assert_eq!(origin.received(0), b"and more");
}

#[test]
fn a_reset_is_passed_on() {
    let origin = Origin::serve(|connection: &mut Connection| {
        if connection.take_through(b"reset").is_ok() {
            connection.abort();
        }
    });
    let gateway = to(&origin);
    let mut client = connect(&gateway);
    client.send("reset");
    assert_eq!(client.take_rest(), (Vec::new(), Ending::Reset));
    wait::until_true("it is counted", || ended(&gateway, "endpoint_reset") == 1.0);
    let seen = Arc::new(std::sync::Mutex::new(None));
    let told = Arc::clone(&seen);
    let origin = Origin::serve(move |connection: &mut Connection| {
        connection.answer("hello");
        let (_, ending) = connection.take_rest();
        *told.lock().expect("no panic") = Some(ending);
    });
    let gateway = to(&origin);
    let mut client = connect(&gateway);
    assert_eq!(client.take(5).as_deref(), Ok(&b"hello"[..]));
    client.into_wire().reset();
    wait::until_true("the origin is told", || {
        *seen.lock().expect("no panic") == Some(Ending::Reset)
    });
    wait::until_true("it is counted", || ended(&gateway, "client_reset") == 1.0);
}

#[test]
fn whoever_reads_slowly_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
    let address = listener.local_addr().expect("a bound socket");
    let gateway = Gateway::start(CONFIG, &[("origin", &address)]);
    let before = gateway.resident_bytes();
    let mut client = TcpStream::connect(gateway.listener("db")).expect("a listener");
    let (mut origin, _) = listener.accept().expect("the gateway");
    origin
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("set the write timeout");
    let piece = vec![7; 64 * 1024];
    let mut sent = 0u64;
    // Until nobody takes any more: the client does not read, so the gateway does not either.
    while let Ok(count) = origin.write(&piece) {
        sent += count as u64;
        assert!(sent < 256 << 20, "the gateway takes it all");
    }
    let held = gateway.resident_bytes().saturating_sub(before);
    assert!(held < 8 << 20, "{held} bytes more than before");
    drop(origin);
    client
        .set_read_timeout(Some(BOUND))
        .expect("set the read timeout");
    let mut received = Vec::new();
    client
        .read_to_end(&mut received)
        .expect("all that was sent");
    assert_eq!(received.len() as u64, sent);
}

#[test]
fn silence_ends_it() {
    let origin = Origin::serve(echo);
    let config = CONFIG.replace("to: origin", "to: origin, timeouts: { idle: 300ms }");
    let gateway = Gateway::start(&config, &[("origin", &origin.address())]);
    let mut client = connect(&gateway);
    // Whatever moves keeps it alive, for longer than the silence allowed.
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_millis(900) {
        assert_echoes(&mut client, "still here");
    }
    let (rest, ending) = client.take_rest();
    assert_eq!((rest.as_slice(), ending), (&b""[..], Ending::Eof));
    origin.wait_until("the origin is let go", |origin| {
        origin.open_connections() == 0
    });
    let line = gateway.log_line("the connection", |line| line["stream"] == "rows");
    assert_eq!(line["reason"], "idle", "{line}");
}

#[test]
fn another_endpoint_takes_what_one_cannot() {
    let origin = Origin::serve(echo);
    let config = CONFIG.replace("[\"<origin>\"]", "[\"<dead>\", \"<origin>\"]");
    let dead = gateway::free_address();
    let values: gateway::Values<'_> = &[("origin", &origin.address()), ("dead", &dead)];
    let gateway = Gateway::start(&config, values);
    for _ in 0..6 {
        assert_echoes(&mut connect(&gateway), "hello");
    }
    let line = gateway.log_line("a second attempt", |line| line["retries"] == 1);
    assert_eq!(line["endpoint"], origin.address().to_string(), "{line}");
    // Where there is nobody at all, the client is told by a reset.
    let config = CONFIG.replace("<origin>", "<dead>");
    gateway.configure(&config, values);
    assert_reset(&gateway);
    wait::until_true("it is counted", || {
        ended(&gateway, "upstream_connect_failed") >= 1.0
    });
    let line = gateway.log_line("the failure", |line| !line["reason"].is_null());
    assert_eq!(line["reason"], "upstream_connect_failed", "{line}");
}

#[test]
fn weights_share_connections_out() {
    let (one, two) = (named("one"), named("two"));
    let config = r#"
listeners: [{ name: db, bind: ["127.0.0.1:0"], protocol: tcp }]
streams:
  - name: rows
    listeners: [db]
    to: [{ upstream: one, weight: 1 }, { upstream: two, weight: 1 }, { upstream: one, weight: 0 }]
upstreams:
  one: { endpoints: ["<one>"] }
  two: { endpoints: ["<two>"] }
"#;
    let gateway = Gateway::start(config, &[("one", &one.address()), ("two", &two.address())]);
    let names: Vec<String> = (0..40).map(|_| name_of(&mut connect(&gateway))).collect();
    for name in ["one", "two"] {
        let count = names.iter().filter(|it| *it == name).count();
        assert!((5..36).contains(&count), "{name} took {count}");
    }
}

#[test]
fn limits_refuse_connections() {
    let origin = Origin::serve(echo);
    let config = CONFIG.replace("protocol: tcp", "protocol: tcp, connections_max: 1");
    let gateway = Gateway::start(&config, &[("origin", &origin.address())]);
    let mut first = connect(&gateway);
    assert_echoes(&mut first, "hello");
    let (rest, ending) = connect(&gateway).take_rest();
    assert_eq!(rest, b"");
    assert_ne!(ending, Ending::Silence);
    gateway.wait_for_metric(
        "cardea_connections_refused_total",
        &[("listener", "db")],
        1.0,
    );
    // A cap of the upstream.
    let capped = "[\"<origin>\"], limits: { connections_max: 1 }";
    let config = CONFIG.replace("[\"<origin>\"]", capped);
    let gateway = Gateway::start(&config, &[("origin", &origin.address())]);
    let mut first = connect(&gateway);
    assert_echoes(&mut first, "hello");
    assert_reset(&gateway);
    wait::until_true("it is counted", || {
        ended(&gateway, "upstream_saturated") == 1.0
    });
    assert_echoes(&mut first, "still here");
}

#[test]
fn a_reload_cuts_no_connection() {
    let (one, two) = (named("one"), named("two"));
    let address = gateway::free_address();
    let config = CONFIG.replace("127.0.0.1:0", &address.to_string());
    let gateway = Gateway::start(&config, &[("origin", &one.address())]);
    let mut open = connect(&gateway);
    assert_eq!(name_of(&mut open), "one");
    gateway.configure(&config, &[("origin", &two.address())]);
    assert_eq!(name_of(&mut connect(&gateway)), "two");
    assert_echoes(&mut open, "still here");
    // The listener goes; who is served is served to the end.
    let without = r#"
listeners: [{ name: web, bind: ["127.0.0.1:0"] }]
domains: [{ hosts: [a.test], policies: { respond: {} } }]
"#;
    gateway.configure(without, &[]);
    wait::until_true("new connections are refused", || {
        TcpStream::connect(address).is_err()
    });
    assert_echoes(&mut open, "still here");
    // A listener that changes its protocol is another one, at the same address.
    let web = without
        .replace("127.0.0.1:0", &address.to_string())
        .replace("web", "db");
    gateway.configure(&web, &[]);
    let mut client = Client::connect(address);
    assert_eq!(client.get("a.test", "/").status, 200);
    gateway.configure(&config, &[("origin", &one.address())]);
    wait::until_true("the stream has it", || {
        let mut client = Client::connect(address);
        client
            .take_through(b"\n")
            .is_ok_and(|name| name == b"one\n")
    });
    assert_echoes(&mut open, "still here");
}

#[test]
fn at_the_end_connections_have_the_grace_period() {
    let origin = Origin::serve(echo);
    let mut gateway = to(&origin);
    let address = gateway.listener("db");
    let mut open = connect(&gateway);
    assert_echoes(&mut open, "hello");
    gateway.signal(Signal::TERM);
    wait::until_true("new connections are refused", || {
        TcpStream::connect(address).is_err()
    });
    assert_echoes(&mut open, "still here");
    open.half_close();
    assert_eq!(open.take_rest(), (Vec::new(), Ending::Eof));
    assert_eq!(gateway.wait().code(), Some(0));
    let said = gateway.stderr.wait_for_line("drain_finished");
    assert!(said.contains("connections_cut=0"), "{said}");
}

#[test]
fn tls_may_begin_at_the_gateway() {
    let authority = cardea_tests::certificate::Authority::new("those who trust the origin");
    let config = cardea_tests::tls::server_config(&authority.issue(&["127.0.0.1"]), None);
    let origin = Origin::serve_tls(config, echo);
    let site = gateway::Site::new();
    authority.save(site.path(), "ca");
    let config = CONFIG.replace("[\"<origin>\"]", "[\"<origin>\"], tls: { ca: ca.pem }");
    let gateway = site.start(&config, &[("origin", &origin.address())]);
    let mut client = connect(&gateway);
    let long = "0123456789".repeat(50_000);
    assert_echoes(&mut client, &long);
    client.half_close();
    assert_eq!(client.take_rest(), (Vec::new(), Ending::Eof));
}

#[test]
fn a_listener_without_a_stream_serves_nobody() {
    let config = r#"
listeners: [{ name: db, bind: ["127.0.0.1:0"], protocol: tcp }]
"#;
    let gateway = Gateway::start(config, &[]);
    gateway.stderr.wait_for_line("W-no-stream");
    let (rest, ending) = connect(&gateway).take_rest();
    assert_eq!(rest, b"");
    assert_ne!(ending, Ending::Silence);
}

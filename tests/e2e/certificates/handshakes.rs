//! Handshakes that are odd, slow or broken.

use std::io::Write;
use std::sync::Arc;

use cardea_tests::gateway::Site;
use cardea_tests::tls::ClientTls;
use cardea_tests::{Ending, tool};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::{CONFIG, Secure, drip, raw, rest_of};

/// The first bytes of a client: its ClientHello.
fn hello(secure: &Secure) -> (ClientConnection, Vec<u8>) {
    let config = ClientTls::trusting(&secure.authority).config();
    let name = ServerName::try_from("a.test").expect("a name");
    let mut connection = ClientConnection::new(Arc::clone(&config), name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a ClientHello");
    (connection, bytes)
}

/// Finishes a handshake whose ClientHello was sent, and asks for a page.
fn finish(connection: ClientConnection, tcp: std::net::TcpStream) {
    let mut stream = rustls::StreamOwned::new(connection, tcp);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .expect("a handshake");
    let mut page = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut page).expect("a page and a close_notify");
    assert!(
        page.starts_with(b"HTTP/1.1 200 OK\r\n"),
        "{}",
        String::from_utf8_lossy(&page)
    );
}

#[test]
fn a_client_hello_in_one_byte_segments() {
    let secure = Secure::start();
    let (connection, bytes) = hello(&secure);
    let mut tcp = raw(&secure);
    drip(&mut tcp, &bytes).expect("a connection that takes it");
    finish(connection, tcp);
}

#[test]
fn a_client_hello_in_many_records() {
    let secure = Secure::start();
    let (connection, bytes) = hello(&secure);
    // One record of the handshake type becomes many of one byte each.
    let body = &bytes[5..];
    let records: Vec<u8> = body
        .iter()
        .flat_map(|&byte| [22, 3, 1, 0, 1, byte])
        .collect();
    let mut tcp = raw(&secure);
    tcp.write_all(&records).expect("a connection that takes it");
    finish(connection, tcp);
}

#[test]
fn a_client_hello_of_sixteen_kilobytes() {
    let secure = Secure::start();
    // Many protocols make a long hello.
    let names: Vec<String> = (0..70).map(|number| format!("{number:0>220}")).collect();
    let mut alpn: Vec<&str> = names.iter().map(String::as_str).collect();
    alpn.push("http/1.1");
    let tls = ClientTls {
        alpn: &alpn,
        ..ClientTls::trusting(&secure.authority)
    };
    let mut client = secure
        .connect(&tls.config(), "a.test")
        .expect("a handshake");
    assert_eq!(client.get("a.test", "/").status, 200);
}

#[test]
fn rubbish_gets_an_alert_before_the_close() {
    let secure = Secure::start();
    for rubbish in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x80\x2e\x01\x00\x02",
    ] {
        let mut tcp = raw(&secure);
        tcp.write_all(rubbish).expect("a connection that takes it");
        tcp.shutdown(std::net::Shutdown::Write)
            .expect("an open socket");
        let rest = rest_of(&mut tcp).expect("an orderly end");
        assert!(rest.is_empty() || rest[0] == 21, "{rubbish:?}: {rest:?}");
    }
    let failed = || {
        secure
            .gateway
            .metric("cardea_tls_handshakes_total", &[("result", "malformed")])
    };
    cardea_tests::wait::until_true("failures are counted", || failed() >= Some(3.0));
    assert_eq!(secure.client("a.test").get("a.test", "/").status, 200);
}

#[test]
fn a_handshake_has_a_deadline() {
    let config = CONFIG.replace("tls: {}", "tls: {}, timeouts: { handshake: 200ms }");
    let secure = Secure::with(&config);
    let (_, bytes) = hello(&secure);
    for start in [&bytes[..0], &bytes[..20]] {
        let mut tcp = raw(&secure);
        tcp.write_all(start).expect("a connection that takes it");
        let rest = rest_of(&mut tcp);
        assert!(rest.is_ok_and(|rest| rest.is_empty() || rest[0] == 21));
    }
    let late = || {
        secure
            .gateway
            .metric("cardea_tls_handshakes_total", &[("result", "timed_out")])
    };
    cardea_tests::wait::until_true("they are counted", || late() >= Some(2.0));
}

#[test]
fn early_data_is_not_taken() {
    let secure = Secure::start();
    let site = Site::new();
    let (session, data) = (
        site.path().join("session"),
        site.write("data", "GET / HTTP/1.1\r\n"),
    );
    let (session, data) = (session.display().to_string(), data.display().to_string());
    // openssl keeps the ticket it gets after the handshake.
    tool::s_client(
        secure.address(),
        &["-servername", "a.test", "-sess_out", &session],
    );
    let shown = tool::s_client(
        secure.address(),
        &[
            "-servername",
            "a.test",
            "-sess_in",
            &session,
            "-early_data",
            &data,
        ],
    );
    assert!(
        !shown.stdout.contains("Early data was accepted"),
        "{}",
        shown.stdout
    );
}

#[test]
fn renegotiation_is_not_offered() {
    let secure = Secure::start();
    let shown = tool::s_client(secure.address(), &["-servername", "a.test", "-tls1_2"]);
    assert!(
        shown.stdout.contains("Secure Renegotiation IS supported"),
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("TLSv1.2"), "{}", shown.stdout);
}

#[test]
fn a_body_cut_over_tls_is_visible() {
    let secure = Secure::start();
    let mut client = secure.client("a.test");
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\npart");
    // No close_notify: the gateway must not take this for the end of anything.
    client
        .tcp()
        .shutdown(std::net::Shutdown::Write)
        .expect("an open socket");
    let (_, ending) = client.take_rest();
    assert_ne!(ending, Ending::Silence);
    let whole = secure
        .origin
        .requests()
        .into_iter()
        .filter(|seen| seen.is_whole)
        .count();
    assert_eq!(whole, 0);
}

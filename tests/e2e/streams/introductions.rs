//! Streams of clients whom a proxy introduces, and to endpoints that are told of them; and what is
//! offered to endpoints in TLS.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::origin::Connection;
use cardea_tests::proxy_header::v2;
use cardea_tests::tls::{self, ClientTls, server_config};
use cardea_tests::wire::Stream;
use cardea_tests::{Client, Ending, Gateway, Origin};

use super::{assert_echoes, echo, name_of, named};

const V1: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 4000 443\r\n";

/// A gateway that takes headers from here, and whose upstream has these settings.
fn introducing(listener: &str, upstream: &str, origin: &Origin) -> Gateway {
    let config = format!(
        r#"
listeners:
  - name: db
    bind: ["127.0.0.1:0"]
    protocol: tcp
    proxy_protocol: {{ from: [127.0.0.0/8] }}
    {listener}
streams: [{{ name: rows, listeners: [db], to: origin }}]
upstreams: {{ origin: {{ endpoints: ["<origin>"], {upstream} }} }}
"#
    );
    Gateway::start(&config, &[("origin", &origin.address())])
}

#[test]
fn the_client_of_a_stream_is_whom_the_header_says() {
    let origin = named("rows");
    let gateway = introducing("", "", &origin);
    let block = v2("192.0.2.1:4000", "198.51.100.1:443", b"");
    for header in [V1.as_bytes(), &block] {
        let mut client = Client::connect(gateway.listener("db"));
        // With words behind it, which are the endpoint's.
        client.send([header, b"select"].concat());
        assert_eq!(name_of(&mut client), "rows");
        assert_eq!(client.take(6).as_deref(), Ok(&b"select"[..]));
        assert_echoes(&mut client, "more");
        client.half_close();
        assert_eq!(client.take_rest(), (Vec::new(), Ending::Eof));
        let proxy = client.local().to_string();
        let line = gateway.log_line("the connection", |line| line["proxy"] == proxy.as_str());
        assert_eq!(line["client"], "192.0.2.1", "{line}");
        assert_eq!(line["peer"], "192.0.2.1:4000", "{line}");
        assert_eq!(line["proxy_destination"], "198.51.100.1:443", "{line}");
        assert_eq!(line["stream"], "rows", "{line}");
    }
    // Nobody is led on without one.
    let before = origin.connections();
    let mut client = Client::connect(gateway.listener("db"));
    client.send("select 1 from somewhere\r\n");
    assert!(client.take_through(b"\n").is_err());
    assert_eq!(origin.connections(), before);
}

#[test]
fn endpoints_of_a_stream_are_told_of_the_client() {
    for protocol in ["auto", "http1", "http2"] {
        let origin = Origin::serve(echo);
        let settings = format!("proxy_protocol: v1, protocol: {protocol}");
        let gateway = introducing("", &settings, &origin);
        let mut client = Client::connect(gateway.listener("db"));
        client.send(V1);
        // The origin sends the header back, too.
        let told = client.take(V1.len());
        assert_eq!(told.as_deref(), Ok(V1.as_bytes()), "{protocol}");
        assert_echoes(&mut client, "hello");
        assert_eq!(origin.connections(), 1);
    }
}

#[test]
fn a_header_comes_before_tls_that_is_passed_on() {
    let theirs = Authority::new("theirs");
    let config = server_config(&theirs.issue(&["sealed.test"]), None);
    let origin = Origin::serve(move |connection: &mut Connection| {
        // The header is told on, and then TLS begins.
        let header = connection.take_through(b"\r\n").unwrap_or_default();
        assert_eq!(header, V1.as_bytes());
        let mut session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a session");
        while session.is_handshaking() {
            while session.wants_write() {
                let mut bytes = Vec::new();
                session.write_tls(&mut bytes).expect("a vector takes all");
                connection.answer(bytes);
            }
            // The first words may have come with the header.
            let is_heard = !connection.unread().is_empty();
            if !session.is_handshaking() || !is_heard && connection.fill().is_err() {
                break;
            }
            let count = connection.unread().len();
            let bytes = connection.take(count).unwrap_or_default();
            session.read_tls(&mut &bytes[..]).expect("records");
            session.process_new_packets().expect("a handshake");
        }
        session.writer().write_all(b"sealed\n").expect("room");
        let mut bytes = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut bytes).expect("a vector takes all");
        }
        connection.answer(bytes);
        // Until the client has heard it.
        let _ = connection.fill();
    });
    let config = r#"
listeners:
  - { name: secure, bind: ["127.0.0.1:0"], protocol: tcp, tls: {}, proxy_protocol: { from: [127.0.0.1] } }
streams: [{ name: rows, listeners: [secure], hosts: [sealed.test], tls: passthrough, to: origin }]
upstreams: { origin: { endpoints: ["<origin>"], proxy_protocol: v1 } }
"#;
    let gateway = Gateway::start(config, &[("origin", &origin.address())]);
    let mut tcp = TcpStream::connect(gateway.listener("secure")).expect("a listener");
    tcp.write_all(V1.as_bytes()).expect("an open connection");
    let trust = ClientTls::trusting(&theirs).config();
    let stream = tls::handshake(tcp, &trust, "sealed.test").expect("a handshake");
    let mut client = Client::over(Stream::Client(Box::new(stream)));
    assert_eq!(name_of(&mut client), "sealed");
}

#[test]
fn endpoints_of_a_stream_are_offered_no_protocol() {
    let theirs = Authority::new("theirs");
    let mut config = server_config(&theirs.issue(&["origin.test"]), None);
    // Whoever offers anything else is refused.
    Arc::make_mut(&mut config).alpn_protocols = vec![b"postgresql".to_vec()];
    let origin = Origin::serve_tls(config, echo);
    for protocol in ["auto", "http1", "http2"] {
        let site = Site::new();
        theirs.save(site.path(), "theirs");
        let config = format!(
            r#"
listeners: [{{ name: db, bind: ["127.0.0.1:0"], protocol: tcp }}]
streams: [{{ name: rows, listeners: [db], to: origin }}]
upstreams:
  origin:
    endpoints: ["<origin>"]
    protocol: {protocol}
    tls: {{ ca: theirs.pem, server_name: origin.test }}
"#
        );
        let gateway = site.start(&config, &[("origin", &origin.address())]);
        let mut client = Client::connect(gateway.listener("db"));
        assert_echoes(&mut client, "hello");
    }
}

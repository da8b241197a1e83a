//! Requests that come with a client's first words (0-RTT, RFC 8446 section 2.3 and RFC 8470).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use cardea_tests::tls::ClientTls;
use cardea_tests::wait::BOUND;
use cardea_tests::{Origin, origin, tool};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{CONFIG, Secure};

const ON: &str = "tls: { early_data: true }";

fn secure() -> Secure {
    Secure::with(&CONFIG.replace("tls: {}", ON))
}

fn config(secure: &Secure) -> Arc<ClientConfig> {
    let mut config = ClientTls::trusting(&secure.authority)
        .config()
        .as_ref()
        .clone();
    config.enable_early_data = true;
    Arc::new(config)
}

/// A client that comes back, and has said something with its first words, as far as it may.
struct Early {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Early {
    /// Sends a request early; the rest of the handshake is not made yet.
    fn send(secure: &Secure, config: &Arc<ClientConfig>, request: &[u8]) -> Self {
        let name = ServerName::try_from("a.test").expect("a name");
        let mut connection = ClientConnection::new(Arc::clone(config), name).expect("a client");
        let mut early = connection.early_data().expect("a session to come back to");
        early.write_all(request).expect("room for a request");
        let mut socket = TcpStream::connect(secure.address()).expect("a connection");
        socket.set_read_timeout(Some(BOUND)).expect("a timeout");
        while connection.wants_write() {
            connection.write_tls(&mut socket).expect("it is sent");
        }
        Self {
            stream: StreamOwned::new(connection, socket),
        }
    }

    /// Reads an answer, of which the end is known; says nothing itself meanwhile.
    fn answer_before_the_handshake_is_done(&mut self, end: &str) -> String {
        let mut answer = Vec::new();
        let StreamOwned { conn, sock } = &mut self.stream;
        while !String::from_utf8_lossy(&answer).ends_with(end) {
            let read = conn.read_tls(sock).expect("records");
            assert!(
                read > 0,
                "closed after {}",
                String::from_utf8_lossy(&answer)
            );
            let state = conn.process_new_packets().expect("good records");
            let mut bytes = vec![0; state.plaintext_bytes_to_read()];
            conn.reader().read_exact(&mut bytes).expect("plaintext");
            answer.extend_from_slice(&bytes);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Makes the rest of the handshake, and reads to the end.
    fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.stream.flush().expect("a handshake");
        self.stream
            .read_to_string(&mut answer)
            .expect("an answer and a close_notify");
        answer
    }
}

/// A session to come back to.
fn come(secure: &Secure, config: &Arc<ClientConfig>) {
    let mut client = secure.connect(config, "a.test").expect("a handshake");
    assert_eq!(client.get("a.test", "/first").status, 200);
    secure.origin.take_requests();
}

const GET: &[u8] = b"GET /early HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn a_safe_request_is_answered_before_the_handshake_is_done() {
    let secure = secure();
    let config = config(&secure);
    come(&secure, &config);
    let mut early = Early::send(&secure, &config, GET);
    // The client has sent nothing but its first words.
    let answer = early.answer_before_the_handshake_is_done("}");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let request = secure.origin.only_request();
    assert_eq!(request.field("early-data"), Some("1"));
    // What comes after the handshake is as ever, on the same connection.
    let late = b"GET /late HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    early.stream.write_all(late).expect("a handshake");
    let answer = early.answer();
    assert!(early.stream.conn.is_early_data_accepted());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let request = secure.origin.last_request();
    assert_eq!(
        (&*request.target, request.field("early-data")),
        ("/late", None)
    );
    let count = [("listener", "secure"), ("result", "early")];
    secure
        .gateway
        .wait_for_metric("cardea_tls_handshakes_total", &count, 1.0);
}

#[test]
fn an_unsafe_request_waits_for_the_handshake() {
    let secure = secure();
    let config = config(&secure);
    for request in [
        &b"POST /order HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbook"[..],
        b"DELETE /order HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        b"GET /body HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbook",
    ] {
        come(&secure, &config);
        let mut early = Early::send(&secure, &config, request);
        // It is with the gateway: another client, served after it, has its answer.
        assert_eq!(secure.client("a.test").get("a.test", "/other").status, 200);
        assert_eq!(secure.origin.only_request().target, "/other");
        secure.origin.take_requests();
        let answer = early.answer();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let request = secure.origin.only_request();
        assert_eq!(request.field("early-data"), None);
        if request.field("content-length").is_some() {
            assert_eq!(request.text(), "book");
        }
    }
}

/// Whoever recorded a client's first words and sends them again gets nothing done.
#[test]
fn what_was_sent_early_counts_once() {
    let secure = secure();
    let config = config(&secure);
    come(&secure, &config);
    let name = ServerName::try_from("a.test").expect("a name");
    let mut connection = ClientConnection::new(Arc::clone(&config), name).expect("a client");
    connection
        .early_data()
        .expect("a session")
        .write_all(GET)
        .expect("room");
    let mut words = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut words).expect("bytes");
    }
    let mut first = TcpStream::connect(secure.address()).expect("a connection");
    first.write_all(&words).expect("it is sent");
    secure
        .origin
        .wait_until("it was handled", |origin| origin.requests().len() == 1);
    let mut again = TcpStream::connect(secure.address()).expect("a connection");
    again.set_read_timeout(Some(BOUND)).expect("a timeout");
    again.write_all(&words).expect("it is sent");
    again.shutdown(std::net::Shutdown::Write).expect("an end");
    let mut rest = Vec::new();
    // The handshake it would need is one that only the client could make.
    let _ = again.read_to_end(&mut rest);
    assert_eq!(secure.origin.requests().len(), 1);
}

#[test]
fn an_origin_may_say_that_it_is_too_early() {
    let origin = Origin::serve(|connection: &mut origin::Connection| {
        while let Some(request) = connection.request() {
            let status = match request.field("early-data") {
                Some(_) => "425 Too Early",
                None => "200 OK",
            };
            connection.answer(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let secure = Secure::before(&CONFIG.replace("tls: {}", ON), origin);
    let config = config(&secure);
    come(&secure, &config);
    let mut early = Early::send(&secure, &config, GET);
    let answer = early.answer_before_the_handshake_is_done("\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 425 Too Early\r\n"), "{answer}");
    // Told once; the client asks again when it is done.
    assert_eq!(secure.origin.requests().len(), 1);
    early.stream.write_all(GET).expect("a handshake");
    let answer = early.answer_before_the_handshake_is_done("\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// Another implementation's view.
#[test]
fn openssl_sends_a_request_early() {
    let secure = secure();
    let site = cardea_tests::gateway::Site::new();
    let session = site.path().join("session").display().to_string();
    let request = "GET /early HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let request = site.write("request", request);
    let first = ["-servername", "a.test", "-sess_out", &session];
    tool::s_client_saying(secure.address(), &first, &request);
    let early = request.display().to_string();
    let name = ["-servername", "a.test", "-ign_eof"];
    let back = ["-sess_in", &session, "-early_data", &early];
    let again = [&name[..], &back].concat();
    let shown = tool::s_client(secure.address(), &again);
    assert!(
        shown.stdout.contains("Early data was accepted"),
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("HTTP/1.1 200 OK"), "{}", shown.stdout);
    let request = secure.origin.last_request();
    assert_eq!(
        (&*request.target, request.field("early-data")),
        ("/early", Some("1"))
    );
}

#[test]
fn it_is_refused_where_clients_have_to_show_a_certificate() {
    let config = CONFIG.replace(
        "tls: {}",
        "tls: { early_data: true, client_certificates: { ca: main.pem } }",
    );
    let site = cardea_tests::gateway::Site::new();
    site.configure(&config, &[("origin", &"127.0.0.1:1")]);
    let checked = site.cardea(&["check", "--config", "cardea.yaml"]);
    assert_eq!(checked.code, Some(1));
    let said = "`early_data` is not for clients that have to show a certificate";
    assert!(checked.stderr.contains(said), "{}", checked.stderr);
    assert!(
        checked.stderr.contains("take one of the two out"),
        "{}",
        checked.stderr
    );
}

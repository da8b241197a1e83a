//! Handshakes that are odd, slow or broken.

use std::io::Write;
use std::sync::Arc;

use cardea_tests::gateway::Site;
use cardea_tests::tls::ClientTls;
use cardea_tests::{Ending, tool};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::{Authority, CONFIG, Origin, Secure, drip, raw, rest_of};

/// The first bytes of a client: its ClientHello.
pub(super) fn hello(secure: &Secure) -> (ClientConnection, Vec<u8>) {
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

/// First words with protocols of this many bytes in them.
fn long_hello(secure: &Secure, bytes: usize) -> (ClientConnection, Vec<u8>) {
    let names: Vec<String> = (0..bytes / 221)
        .map(|number| format!("{number:0>220}"))
        .collect();
    let mut alpn: Vec<&str> = names.iter().map(String::as_str).collect();
    alpn.push("http/1.1");
    let tls = ClientTls {
        alpn: &alpn,
        ..ClientTls::trusting(&secure.authority)
    };
    let name = ServerName::try_from("a.test").expect("a name");
    let mut connection = ClientConnection::new(tls.config(), name).expect("a connection");
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).expect("a ClientHello");
    }
    (connection, bytes)
}

/// The handshake bytes of first words, without the rims of their records.
fn without_rims(mut records: &[u8]) -> Vec<u8> {
    let mut words = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = records {
        let (piece, behind) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        words.extend_from_slice(piece);
        records = behind;
    }
    words
}

fn in_one_byte_records(words: &[u8]) -> Vec<u8> {
    let record = |&byte: &u8| [22, 3, 1, 0, 1, byte];
    words.iter().flat_map(record).collect()
}

#[test]
fn a_client_hello_of_sixteen_kilobytes_however_it_comes() {
    let secure = Secure::start();
    let (connection, bytes) = long_hello(&secure, 15_000);
    assert!((16_000..17_000).contains(&bytes.len()), "{}", bytes.len());
    let mut tcp = raw(&secure);
    tcp.write_all(&bytes).expect("a connection that takes it");
    finish(connection, tcp);

    let (connection, bytes) = long_hello(&secure, 15_000);
    let mut tcp = raw(&secure);
    drip(&mut tcp, &bytes).expect("a connection that takes it");
    finish(connection, tcp);

    // A hundred kilobytes on the wire.
    let (connection, bytes) = long_hello(&secure, 15_000);
    let mut tcp = raw(&secure);
    let records = in_one_byte_records(&without_rims(&bytes));
    tcp.write_all(&records).expect("a connection that takes it");
    finish(connection, tcp);
}

#[test]
fn a_client_hello_beyond_the_limit_gets_an_alert() {
    let secure = Secure::start();
    let (_, bytes) = long_hello(&secure, 33_000);
    let words = without_rims(&bytes);
    assert!((32_769..36_000).contains(&words.len()), "{}", words.len());
    for records in [bytes, in_one_byte_records(&words)] {
        let mut tcp = raw(&secure);
        // All of it leaves before anything is read, so the alert has to wait for its reader.
        tcp.write_all(&records).expect("a connection that takes it");
        tcp.write_all(&[0; 50_000])
            .expect("a connection that takes it");
        let told = rest_of(&mut tcp).expect("an orderly end");
        // fatal, record_overflow (RFC 8446 section 6.2)
        assert_eq!(told, [21, 3, 3, 0, 2, 2, 22]);
    }
    let malformed = [("result", "malformed")];
    let counted = "cardea_tls_handshakes_total";
    secure.gateway.wait_for_metric(counted, &malformed, 2.0);
}

#[test]
fn an_alert_is_not_lost_on_a_client_that_goes_on_talking() {
    let secure = Secure::with(&CONFIG.replace("tls: {}", "tls: { min_version: \"1.3\" }"));
    let tls = ClientTls {
        versions: &[&rustls::version::TLS12],
        ..ClientTls::trusting(&secure.authority)
    };
    let name = ServerName::try_from("a.test").expect("a name");
    let mut connection = ClientConnection::new(tls.config(), name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a ClientHello");
    bytes.resize(bytes.len() + 100_000, 0);
    let mut tcp = raw(&secure);
    tcp.write_all(&bytes).expect("a connection that takes it");
    let told = rest_of(&mut tcp).expect("an orderly end");
    // fatal, protocol_version
    assert_eq!(told, [21, 3, 3, 0, 2, 2, 70]);
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
fn renegotiation_is_refused() {
    let secure = Secure::start();
    let old = ["-servername", "a.test", "-tls1_2"];
    let shown = tool::s_client(secure.address(), &old);
    assert!(
        shown.stdout.contains("Secure Renegotiation IS supported"),
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("TLSv1.2"), "{}", shown.stdout);
    // Whoever asks for it gets none (CVE-2009-3555).
    let asking = secure.gateway.site().write("asking", "R\n");
    let shown = tool::s_client_told(secure.address(), &old, &asking);
    assert!(
        shown.stderr.contains("RENEGOTIATING") || shown.stdout.contains("RENEGOTIATING"),
        "{shown:?}"
    );
    assert!(shown.stderr.contains("no renegotiation"), "{shown:?}");
    let full = [("result", "full")];
    let counted = secure.gateway.metric("cardea_tls_handshakes_total", &full);
    assert_eq!(counted, Some(2.0));
}

#[test]
fn a_client_chooses_the_kind_of_key() {
    let config = CONFIG.replace(
        "certificates:",
        "certificates:\n  - { name: rsa, chain: rsa.pem, key: rsa.key }",
    );
    let authority = Authority::new("clients trust this");
    let site = Site::new();
    for name in ["exact", "wild", "main"] {
        authority.issue(&["a.test"]).save(site.path(), name);
    }
    let rsa = authority.issue_of(&rcgen::PKCS_RSA_SHA256, &["a.test"]);
    rsa.save(site.path(), "rsa");
    let gateway = site.start(&config, &[("origin", &Origin::echo().address())]);
    for (offered, chosen) in [
        ("ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256", "ECDSA"),
        ("rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256", "ECDSA"),
        ("rsa_pss_rsae_sha256", "RSA-PSS"),
        ("ecdsa_secp256r1_sha256", "ECDSA"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let asking = ["-servername", "a.test", version, "-sigalgs", offered];
            let shown = tool::s_client(gateway.listener("secure"), &asking);
            let line = shown
                .stdout
                .lines()
                .find(|line| line.starts_with("Peer signature type"));
            let line = line.unwrap_or_default().to_ascii_uppercase();
            assert!(line.ends_with(chosen), "{offered} {version}: {shown:?}");
        }
    }
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

//! What endpoints are told of the client, in the first bytes of a connection of its own.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::origin::{self, Connection};
use cardea_tests::proxy_header::{SIGNATURE, block, tlv, v2};
use cardea_tests::tls::{self, ClientTls, server_config};
use cardea_tests::{Client, Gateway, Origin};

use crate::fixture::get;

/// What origins saw before the first request of each connection.
type Headers = Arc<Mutex<Vec<Vec<u8>>>>;

/// Takes a header off a connection.
fn take_header(connection: &mut Connection) -> Option<Vec<u8>> {
    let start = connection.take(SIGNATURE.len()).ok()?;
    if start != SIGNATURE {
        let rest = connection.take_through(b"\r\n").ok()?;
        return Some([start, rest].concat());
    }
    let fixed = connection.take(4).ok()?;
    let length = u16::from_be_bytes([fixed[2], fixed[3]]);
    let rest = connection.take(length.into()).ok()?;
    Some([start, fixed, rest].concat())
}

/// An origin that expects a header and then answers with what it saw.
fn origin() -> (Origin, Headers) {
    let headers = Headers::default();
    let seen = Arc::clone(&headers);
    let origin = Origin::serve(move |connection: &mut Connection| {
        if let Some(header) = take_header(connection) {
            seen.lock().expect("a record").push(header);
            origin::echo(connection);
        }
    });
    (origin, headers)
}

/// A gateway whose upstream has this and more settings.
fn towards(origin: &Origin, settings: &str) -> Gateway {
    let config = format!(
        r#"
domains:
  - hosts: [a.test]
    routes: [{{ to: pool }}]
upstreams:
  pool: {{ endpoints: ["<origin>"], {settings} }}
"#
    );
    Gateway::start(&config, &[("origin", &origin.address())])
}

fn line(client: SocketAddr, listener: SocketAddr) -> Vec<u8> {
    let (from, to) = (client.port(), listener.port());
    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n").into_bytes()
}

fn taken(headers: &Headers) -> Vec<Vec<u8>> {
    std::mem::take(&mut *headers.lock().expect("a record"))
}

#[test]
fn a_line_says_where_the_client_is_and_wanted_to() {
    let (origin, headers) = origin();
    let gateway = towards(&origin, "proxy_protocol: v1");
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").status, 200);
    let expected = line(client.local(), gateway.listener("web"));
    assert_eq!(taken(&headers), [expected]);
}

#[test]
fn no_connection_serves_two_clients() {
    let (origin, headers) = origin();
    let gateway = towards(&origin, "proxy_protocol: v1");
    let (mut first, mut second) = (gateway.client(), gateway.client());
    let expected = [&first, &second].map(|it| line(it.local(), gateway.listener("web")));
    for _ in 0..3 {
        for client in [&mut first, &mut second] {
            assert_eq!(client.get("a.test", "/").status, 200);
        }
    }
    // Each client's next requests come on the connection that was made for it.
    assert_eq!(taken(&headers), expected);
    assert_eq!(origin.connections(), 2);
    let reused = gateway.metric("cardea_upstream_connections_reused_total", &[]);
    assert_eq!(reused, Some(4.0));
    // And it goes with the client.
    drop(first);
    origin.wait_until("one is closed", |origin| origin.open_connections() == 1);
    assert_eq!(second.get("a.test", "/").status, 200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn who_is_introduced_by_another_keeps_a_connection_as_well() {
    let (origin, headers) = origin();
    let config = r#"
workers: 1
listeners:
  - { name: web, bind: ["127.0.0.1:0"], proxy_protocol: { from: [127.0.0.1] } }
domains: [{ hosts: [a.test], routes: [{ to: pool }] }]
upstreams: { pool: { endpoints: ["<origin>"], proxy_protocol: v2 } }
"#;
    let gateway = Gateway::start(config, &[("origin", &origin.address())]);
    // Two connections that say the same of themselves are two nevertheless.
    let mut clients: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = gateway.client();
            client.send(v2("192.0.2.1:4000", "198.51.100.1:443", b""));
            client
        })
        .collect();
    let mut ids = Vec::new();
    for round in 0..2 {
        for client in &mut clients {
            assert_eq!(client.get("a.test", "/").status, 200);
            let told = origin.last_request();
            let id = told.field("x-request-id").expect("an id").to_owned();
            if round == 0 {
                ids.push(id);
            }
        }
    }
    // The id is that of the connection: of the first request on it.
    let expected: Vec<_> = ids
        .iter()
        .map(|id| {
            let values = tlv(0x05, id.as_bytes());
            v2("192.0.2.1:4000", "198.51.100.1:443", &values)
        })
        .collect();
    assert_eq!(taken(&headers), expected);
}

#[test]
fn what_is_kept_for_a_client_is_kept_for_a_while() {
    let (origin, _) = origin();
    let gateway = towards(&origin, "proxy_protocol: v1, pool: { idle_timeout: 1s }");
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").status, 200);
    assert_eq!(origin.open_connections(), 1);
    origin.wait_until("it is closed", |origin| origin.open_connections() == 0);
    assert_eq!(client.get("a.test", "/").status, 200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn under_a_cap_nothing_is_kept_for_one_client() {
    let (origin, _) = origin();
    let settings = "proxy_protocol: v1, limits: { connections_max: 1 }";
    let gateway = towards(&origin, settings);
    let (mut first, mut second) = (gateway.client(), gateway.client());
    for _ in 0..2 {
        for client in [&mut first, &mut second] {
            assert_eq!(client.get("a.test", "/").status, 200);
        }
    }
    assert_eq!(origin.connections(), 4);
}

#[test]
fn connections_made_without_a_header_are_not_used_with_one() {
    // Whether it comes with a header is this origin's to find out.
    let origin = Origin::serve(|connection: &mut Connection| {
        while connection.fill().is_ok() {
            if connection.unread().ends_with(b"\r\n\r\n") {
                let all = connection.unread().len();
                let said = connection.take(all).expect("what was read");
                let is_introduced = said.starts_with(b"PROXY ");
                connection.answer(origin::ok(if is_introduced { "with" } else { "without" }));
            }
        }
    });
    let config = |settings: &str| {
        format!(
            "domains: [{{ hosts: [a.test], routes: [{{ to: pool }}] }}]\n\
             upstreams: {{ pool: {{ endpoints: [\"<origin>\"]{settings} }} }}\n"
        )
    };
    let values: cardea_tests::gateway::Values<'_> = &[("origin", &origin.address())];
    let gateway = Gateway::start(&format!("workers: 1\n{}", config("")), values);
    assert_eq!(gateway.get("a.test", "/").text(), "without");
    let with = format!("workers: 1\n{}", config(", proxy_protocol: v1"));
    gateway.configure(&with, values);
    assert_eq!(gateway.get("a.test", "/").text(), "with");
    gateway.configure(&format!("workers: 1\n{}", config("")), values);
    assert_eq!(gateway.get("a.test", "/").text(), "without");
    assert_eq!(gateway.get("a.test", "/").text(), "without");
    assert_eq!(
        origin.connections(),
        3,
        "what was kept without a header is used on"
    );
}

#[test]
fn a_block_says_what_was_verified_of_the_client() {
    let (origin, headers) = origin();
    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    let site = Site::new();
    authority.issue(&["a.test"]).save(site.path(), "site");
    clients.save(site.path(), "clients");
    let config = r#"
listeners:
  - { name: web, bind: ["127.0.0.1:0"] }
  - name: secure
    bind: ["127.0.0.1:0"]
    tls: { client_certificates: { mode: optional, ca: clients.pem } }
certificates: [{ name: site, chain: site.pem, key: site.key }]
domains:
  - hosts: [a.test]
    routes: [{ to: pool }]
upstreams:
  pool: { endpoints: ["<origin>"], proxy_protocol: v2 }
"#;
    let gateway = site.start(config, &[("origin", &origin.address())]);
    let check = |client: &mut Client, listener: &str, values: &[u8]| {
        assert_eq!(client.get("a.test", "/").status, 200);
        let told = origin.last_request();
        let id = told.field("x-request-id").expect("an id").to_owned();
        let values = [&tlv(0x05, id.as_bytes())[..], values].concat();
        let (from, to) = (client.local(), gateway.listener(listener));
        let expected = v2(&from.to_string(), &to.to_string(), &values);
        let found = taken(&headers);
        let found = found.first().expect("a header").escape_ascii().to_string();
        assert_eq!(found, expected.escape_ascii().to_string());
    };
    check(&mut gateway.client(), "web", b"");
    let identity = clients.issue_with(&["c.test"], |params| {
        params.distinguished_name = Default::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Jo, of c");
    });
    let version = tlv(0x21, b"TLSv1.3");
    let secure = |identity| {
        let tls = ClientTls {
            identity,
            ..ClientTls::trusting(&authority)
        };
        Client::connect_tls(gateway.listener("secure"), &tls.config(), "a.test")
    };
    let anonymous = tlv(0x20, &[&[1, 0, 0, 0, 1], &version[..]].concat());
    let authority_value = tlv(0x02, b"a.test");
    let values = [&authority_value[..], &anonymous].concat();
    check(&mut secure(None), "secure", &values);
    let name = tlv(0x22, b"Jo, of c");
    let known = tlv(0x20, &[&[7, 0, 0, 0, 0], &version[..], &name].concat());
    let values = [&authority_value[..], &known].concat();
    check(&mut secure(Some(&identity)), "secure", &values);
}

#[test]
fn what_a_proxy_said_is_told_on_and_what_a_request_says_is_not() {
    let (origin, headers) = origin();
    let config = r#"
listeners:
  - { name: web, bind: ["127.0.0.1:0"], proxy_protocol: { from: [127.0.0.1] } }
forwarding: { trusted_proxies: [192.0.2.0/24] }
domains:
  - hosts: [a.test]
    routes: [{ to: pool }]
upstreams:
  pool: { endpoints: ["<origin>"], proxy_protocol: v1 }
"#;
    let gateway = Gateway::start(config, &[("origin", &origin.address())]);
    let mut client = gateway.client();
    client.send(super::V1);
    let response = client.ask(get("a.test", "/", "X-Forwarded-For: 203.0.113.1\r\n"));
    assert_eq!(response.status, 200);
    assert_eq!(taken(&headers), [super::V1.as_bytes()]);
}

#[test]
fn a_header_comes_before_tls_towards_origins() {
    let authority = Authority::new("origins");
    let config = server_config(&authority.issue(&["origin.test"]), None);
    let origin = Origin::serve(move |connection: &mut Connection| {
        let mut tcp = connection.tcp().try_clone().expect("a socket");
        let mut fixed = [0; 16];
        if tcp.read_exact(&mut fixed).is_err() {
            return;
        }
        assert!(fixed.starts_with(SIGNATURE));
        let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
        tcp.read_exact(&mut rest).expect("a whole header");
        let mut stream = tls::accept(tcp, &config).expect("a handshake");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request");
            request.extend_from_slice(&byte);
        }
        stream
            .write_all(origin::ok("sealed").as_bytes())
            .expect("an open connection");
        stream.flush().expect("an open connection");
        connection.fill().expect_err("nothing but the end");
    });
    let site = Site::new();
    authority.save(site.path(), "ca");
    let config = r#"
domains:
  - hosts: [a.test]
    routes: [{ to: pool }]
upstreams:
  pool:
    endpoints: ["<origin>"]
    proxy_protocol: v2
    tls: { ca: ca.pem, server_name: origin.test }
"#;
    let gateway = site.start(config, &[("origin", &origin.address())]);
    assert_eq!(gateway.get("a.test", "/").text(), "sealed");
}

#[test]
fn checks_are_the_gateways_own() {
    for (version, expected) in [
        ("v1", b"PROXY UNKNOWN\r\n".to_vec()),
        ("v2", block(0x20, 0, b"")),
    ] {
        let (origin, headers) = origin();
        let health = "health: { http: { path: /healthz }, interval: 50ms, timeout: 2s }";
        let gateway = towards(&origin, &format!("proxy_protocol: {version}, {health}"));
        origin.wait_until("a check", |origin| !origin.requests().is_empty());
        assert_eq!(origin.requests()[0].target, "/healthz");
        assert_eq!(taken(&headers)[0], expected);
        let labels = [("upstream", "pool"), ("state", "usable")];
        gateway.wait_for_metric("cardea_upstream_endpoints", &labels, 1.0);
    }
}

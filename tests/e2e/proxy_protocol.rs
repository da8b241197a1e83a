//! The PROXY protocol: what proxies in front say of a connection is believed, and counts wherever the
//! client's address does.

use std::io::Write;
use std::net::TcpStream;

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::Site;
use cardea_tests::proxy_header::{block, tlv, v2, with_checksum};
use cardea_tests::tls::{self, ClientTls};
use cardea_tests::wire::Stream;
use cardea_tests::{Client, Gateway, Origin};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use crate::fixture::{PLAIN, assert_refused, get};

mod origins;
mod peers;
mod refusals;
mod values;

const V1: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 4000 443\r\n";

/// A plain listener and one with TLS that have these settings of `proxy_protocol`, with more
/// sections.
fn gateway(settings: &str, sections: &str) -> (Gateway, Origin, Authority) {
    let origin = Origin::echo();
    let authority = Authority::new("clients trust this");
    let site = Site::new();
    authority.issue(&["a.test"]).save(site.path(), "site");
    let config = format!(
        r#"
listeners:
  - {{ name: web, bind: ["127.0.0.1:0"], proxy_protocol: {settings} }}
  - {{ name: secure, bind: ["127.0.0.1:0"], proxy_protocol: {settings}, tls: {{}} }}
certificates: [{{ name: site, chain: site.pem, key: site.key }}]
{PLAIN}{sections}
"#
    );
    let gateway = site.start(&config, &[("origin", &origin.address())]);
    (gateway, origin, authority)
}

const REQUIRED: &str = "{ from: [127.0.0.0/8] }";

/// How often something came of a header.
fn counted(gateway: &Gateway, listener: &str, result: &str) -> f64 {
    let labels = [("listener", listener), ("result", result)];
    let count = gateway.metric("cardea_proxy_headers_total", &labels);
    count.unwrap_or_default()
}

/// A connection that begins with these bytes.
fn introduced(gateway: &Gateway, header: impl AsRef<[u8]>) -> Client {
    let mut client = gateway.client();
    client.send(header);
    client
}

/// The log line of a request for this path.
fn logged(gateway: &Gateway, path: &str) -> Value {
    gateway.log_line(path, |line| line["path"] == path)
}

#[test]
fn the_client_is_whom_the_header_says() {
    let (gateway, origin, _) = gateway(REQUIRED, "");
    let v6 = v2("[2001:db8::1]:4000", "[2001:db8::2]:443", b"");
    for (path, header, peer, destination) in [
        ("/1", V1.into(), "192.0.2.1:4000", "198.51.100.1:443"),
        (
            "/2",
            v2("192.0.2.2:4001", "198.51.100.1:443", b""),
            "192.0.2.2:4001",
            "198.51.100.1:443",
        ),
        ("/3", v6, "[2001:db8::1]:4000", "[2001:db8::2]:443"),
    ] {
        let mut client = introduced(&gateway, header);
        let proxy = client.local().to_string();
        assert_eq!(client.get("a.test", path).status, 200);
        let line = logged(&gateway, path);
        assert_eq!(line["peer"], peer);
        assert_eq!(line["proxy"], proxy.as_str());
        assert_eq!(line["proxy_destination"], destination);
        let address = peer.rsplit_once(':').expect("a port").0;
        let bare = address.trim_matches(['[', ']']);
        assert_eq!(line["client"], bare);
        let told = origin.last_request();
        assert_eq!(told.field("x-forwarded-for"), Some(bare));
    }
    assert_eq!(counted(&gateway, "web", "v1"), 1.0);
    assert_eq!(counted(&gateway, "web", "v2"), 2.0);
}

#[test]
fn a_header_may_come_in_any_pieces_and_nothing_after_it_is_lost() {
    let (gateway, origin, _) = gateway(REQUIRED, "");
    let values = [tlv(0x02, b"a.test"), tlv(0x04, &[0; 300])].concat();
    for header in [V1.into(), v2("192.0.2.1:4000", "198.51.100.1:443", &values)] {
        let ask = get("a.test", "/", "");
        // Two requests come with the header.
        let together = [&header[..], ask.as_bytes(), ask.as_bytes()].concat();
        let mut client = introduced(&gateway, together);
        assert_eq!(
            (client.response().status, client.response().status),
            (200, 200)
        );
        assert_eq!(client.get("a.test", "/").status, 200);

        // One byte in a segment, to the end of the request.
        let mut client = gateway.client();
        let bytes = [&header[..], ask.as_bytes()].concat();
        client
            .try_send_pieces(bytes, 1)
            .expect("an open connection");
        assert_eq!(client.response().status, 200);

        // The header alone, and the request when it has been read.
        let before = counted(&gateway, "web", "v1") + counted(&gateway, "web", "v2");
        let mut client = introduced(&gateway, &header);
        cardea_tests::wait::until_true("the header is read", || {
            counted(&gateway, "web", "v1") + counted(&gateway, "web", "v2") > before
        });
        assert_eq!(client.get("a.test", "/").status, 200);
    }
    let told = origin.take_requests();
    assert_eq!(told.len(), 10);
    for request in told {
        assert_eq!(request.field("x-forwarded-for"), Some("192.0.2.1"));
    }
}

/// A client whose first words of TLS go where the caller sends them.
fn first_words(authority: &Authority) -> (ClientConnection, Vec<u8>) {
    let config = ClientTls::trusting(authority).config();
    let name = ServerName::try_from("a.test").expect("a name");
    let mut connection = ClientConnection::new(config, name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a ClientHello");
    (connection, bytes)
}

#[test]
fn a_header_comes_before_tls() {
    let (gateway, origin, authority) = gateway(REQUIRED, "");
    for header in [V1.into(), v2("192.0.2.1:4000", "198.51.100.1:443", b"")] {
        let connect = || {
            let tcp = TcpStream::connect(gateway.listener("secure")).expect("a listener");
            tcp.set_nodelay(true).expect("set TCP_NODELAY");
            tcp
        };
        // By itself.
        let mut tcp = connect();
        tcp.write_all(&header).expect("an open connection");
        let config = ClientTls::trusting(&authority).config();
        let stream = tls::handshake(tcp, &config, "a.test").expect("a handshake");
        let mut client = Client::over(Stream::Client(Box::new(stream)));
        assert_eq!(client.get("a.test", "/").status, 200);
        // In one segment with the first words of TLS.
        let mut tcp = connect();
        let (connection, hello) = first_words(&authority);
        tcp.write_all(&[&header[..], &hello].concat())
            .expect("an open connection");
        let stream = rustls::StreamOwned::new(connection, tcp);
        let mut client = Client::over(Stream::Client(Box::new(stream)));
        assert_eq!(client.get("a.test", "/").status, 200);
        // One byte in a segment.
        let mut tcp = connect();
        let (connection, hello) = first_words(&authority);
        for byte in header.iter().chain(&hello) {
            tcp.write_all(&[*byte]).expect("an open connection");
        }
        let stream = rustls::StreamOwned::new(connection, tcp);
        let mut client = Client::over(Stream::Client(Box::new(stream)));
        assert_eq!(client.get("a.test", "/").status, 200);
    }
    for request in origin.requests() {
        assert_eq!(request.field("x-forwarded-for"), Some("192.0.2.1"));
        assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    }
    assert_eq!(counted(&gateway, "secure", "v1"), 3.0);
    assert_eq!(counted(&gateway, "secure", "v2"), 3.0);
}

#[test]
fn a_proxy_of_its_own_accord_has_its_own_address() {
    let (gateway, _origin, _) = gateway(REQUIRED, "");
    let paths = [&[b'/'; 216][..], &tlv(0x02, b"a.test")].concat();
    let udp = [192, 0, 2, 1, 198, 51, 100, 1, 0x0f, 0xa0, 0x01, 0xbb];
    for (number, header) in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        block(0x20, 0x00, b""),
        block(0x20, 0x11, &udp),
        block(0x21, 0x00, b"anything"),
        block(0x21, 0x12, &udp),
        block(0x21, 0x31, &paths),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        let mut client = introduced(&gateway, header);
        let own = client.local().to_string();
        assert_eq!(client.get("a.test", &path).status, 200, "{number}");
        let line = logged(&gateway, &path);
        assert_eq!(line["peer"], own.as_str(), "{number}");
        assert_eq!(line["proxy_destination"], Value::Null, "{number}");
        let authority = (number == 6).then_some("a.test");
        assert_eq!(line["proxy_authority"], json!(authority), "{number}");
    }
    assert_eq!(counted(&gateway, "web", "local"), 7.0);
}

#[test]
fn what_a_proxy_says_besides_is_in_the_log() {
    let template =
        r#"access_log: { format: { template: "<{proxy_tlv:0xEA}> {proxy_authority}" } }"#;
    let inside = [tlv(0x21, b"TLSv1.3"), tlv(0x22, b"someone")].concat();
    let verified = [&[7, 0, 0, 0, 0][..], &inside].concat();
    let values = [
        tlv(0x01, b"h2"),
        tlv(0x02, b"shop.test"),
        tlv(0x03, &[0; 4]),
        tlv(0x05, b"id-\"1\""),
        tlv(0x20, &verified),
        tlv(0xea, b"\x01vpce-1\n"),
    ]
    .concat();
    let header = with_checksum(v2("192.0.2.1:4000", "198.51.100.1:443", &values));
    let (json, _origin, _) = gateway(REQUIRED, "");
    introduced(&json, &header).get("a.test", "/");
    let line = logged(&json, "/");
    for (field, expected) in [
        ("proxy_alpn", json!("h2")),
        ("proxy_authority", json!("shop.test")),
        ("proxy_unique_id", json!("id-\"1\"")),
        ("proxy_tls_version", json!("TLSv1.3")),
        ("proxy_tls_name", json!("someone")),
        ("proxy_tlvs", json!({ "0xea": "\u{1}vpce-1\n" })),
    ] {
        assert_eq!(line[field], expected, "{field}");
    }
    // A name that was not verified is nobody's.
    let unverified = tlv(0x20, &[&[7, 0, 0, 0, 1][..], &inside].concat());
    let header = v2("192.0.2.1:4000", "198.51.100.1:443", &unverified);
    introduced(&json, header).get("a.test", "/unverified");
    assert_eq!(logged(&json, "/unverified")["proxy_tls_name"], Value::Null);

    let (text, _origin, _) = gateway(REQUIRED, template);
    let header = v2(
        "192.0.2.1:4000",
        "198.51.100.1:443",
        &tlv(0xea, b"\x01vpce-1\n"),
    );
    introduced(&text, header).get("a.test", "/");
    text.stdout.wait_for_line(r"<\x01vpce-1\x0a> -");
}

#[test]
fn rules_about_clients_go_by_the_address_in_the_header() {
    let policies = "policies: { ip_access: { deny: [192.0.2.66/32] }, \
                    rate_limit: { rate: 2, per: 1h, by: client_ip } }\n";
    let (gateway, _origin, _) = gateway(REQUIRED, policies);
    let ask = |source: &str| {
        let header = format!("PROXY TCP4 {source} 198.51.100.1 4000 443\r\n");
        introduced(&gateway, header).get("a.test", "/")
    };
    assert_refused(
        &ask("192.0.2.66"),
        403,
        "address_denied",
        "a denied address",
    );
    for _ in 0..2 {
        assert_eq!(ask("192.0.2.1").status, 200);
    }
    assert_refused(
        &ask("192.0.2.1"),
        429,
        "rate_limited",
        "the third of a client",
    );
    assert_eq!(ask("192.0.2.2").status, 200, "another client");
    // However its address is written.
    let mapped = v2("[::ffff:192.0.2.66]:1", "[::ffff:198.51.100.1]:2", b"");
    let response = introduced(&gateway, mapped).get("a.test", "/");
    assert_refused(&response, 403, "address_denied", "a denied address, mapped");
}

#[test]
fn trusted_proxies_are_those_of_the_header() {
    let claim = "X-Forwarded-For: 203.0.113.1\r\n";
    let told = |trusted: &str| {
        let forwarding = format!("forwarding: {{ trusted_proxies: [{trusted}] }}\n");
        let (gateway, origin, _) = gateway(REQUIRED, &forwarding);
        introduced(&gateway, V1).ask(get("a.test", "/", claim));
        let line = logged(&gateway, "/");
        let told = origin.only_request();
        let told = told.field("x-forwarded-for").map(str::to_owned);
        (told, line["client"].as_str().map(str::to_owned))
    };
    let of = |told: &str, client: &str| (Some(told.to_owned()), Some(client.to_owned()));
    // Whoever carries the connection does not vouch for what is said in it.
    assert_eq!(told("127.0.0.0/8"), of("192.0.2.1", "192.0.2.1"));
    assert_eq!(
        told("192.0.2.0/24"),
        of("203.0.113.1, 192.0.2.1", "203.0.113.1")
    );
}

#[test]
fn curl_introduces_itself() {
    let (gateway, origin, _) = gateway(REQUIRED, "");
    let address = gateway.listener("web");
    let url = format!("http://{address}/");
    let arguments = ["--haproxy-protocol", "--header", "Host: a.test", &url];
    let curl = cardea_tests::tool::curl(&arguments);
    assert_eq!((curl.code, curl.stderr.as_str()), (Some(0), ""));
    let line = logged(&gateway, "/");
    assert_eq!(line["proxy_destination"], address.to_string());
    assert_eq!(line["peer"], line["proxy"], "curl says its own address");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_reload_turns_it_on_for_connections_to_come() {
    let origin = Origin::echo();
    let config = |settings: &str| {
        format!("listeners: [{{ name: web, bind: ['127.0.0.1:0']{settings} }}]\n{PLAIN}")
    };
    let values: cardea_tests::gateway::Values<'_> = &[("origin", &origin.address())];
    let gateway = Gateway::start(&config(""), values);
    let mut before = gateway.client();
    assert_eq!(before.get("a.test", "/").status, 200);
    gateway.configure(&config(", proxy_protocol: { from: [127.0.0.1] }"), values);
    assert_eq!(
        before.get("a.test", "/").status,
        200,
        "it had begun without"
    );
    assert_eq!(introduced(&gateway, V1).get("a.test", "/after").status, 200);
    assert_eq!(logged(&gateway, "/after")["peer"], "192.0.2.1:4000");
    let mut without = gateway.client();
    without.send(get("a.test", "/", ""));
    assert_eq!(without.take_rest().0, b"");
}

//! Streams of TLS: passed on as it is, or ended here, by the name in the first words.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use cardea_tests::certificate::{Authority, Identity};
use cardea_tests::gateway::Site;
use cardea_tests::tls::{ClientTls, server_config};
use cardea_tests::wait::BOUND;
use cardea_tests::{Client, Ending, Gateway, Origin, origin, tool};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{assert_echoes, echo, name_of, named};

/// A domain and a stream on one port.
const BESIDE: &str = r#"
listeners:
  - { name: secure, bind: ["127.0.0.1:0"], tls: {} }
certificates:
  - { name: main, chain: main.pem, key: main.key }
domains:
  - { hosts: [a.test, "*.b.test"], policies: { respond: { body: from the domain } } }
streams:
  - { name: sealed, listeners: [secure], hosts: [p.test, "*.test", x.b.test], tls: passthrough, to: sealed }
upstreams:
  sealed: { endpoints: ["<sealed>"] }
"#;

/// What passes TLS on, and those who have the certificate.
struct Beside {
    /// Those who trust the gateway's certificate.
    ours: Authority,
    /// Those who trust the endpoint's.
    theirs: Authority,
    gateway: Gateway,
    _endpoint: Origin,
}

impl Beside {
    fn start() -> Self {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let site = Site::new();
        ours.issue(&["a.test", "*.b.test"])
            .save(site.path(), "main");
        ours.save(site.path(), "ours");
        theirs.save(site.path(), "theirs");
        let identity = theirs.issue(&["p.test", "q.test", "x.b.test", "a.test"]);
        let endpoint = Origin::serve_tls(server_config(&identity, None), origin::saying("sealed"));
        let gateway = site.start(BESIDE, &[("sealed", &endpoint.address())]);
        Self {
            ours,
            theirs,
            gateway,
            _endpoint: endpoint,
        }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.listener("secure")
    }

    /// What curl gets from a host, trusting one authority.
    #[track_caller]
    fn curl(&self, host: &str, trust: &str) -> String {
        let address = self.address();
        let port = address.port();
        let resolve = format!("{host}:{port}:{}", address.ip());
        let trust = self.gateway.site().path().join(trust);
        let trust = trust.display().to_string();
        let url = format!("https://{host}:{port}/");
        let asked = tool::curl(&["--resolve", &resolve, "--cacert", &trust, &url]);
        assert_eq!(asked.code, Some(0), "{host}: {asked:?}");
        asked.stdout
    }
}

#[test]
fn it_is_passed_on_beside_a_domain_on_one_port() {
    let beside = Beside::start();
    for host in ["a.test", "y.b.test"] {
        assert_eq!(beside.curl(host, "ours.pem"), "from the domain", "{host}");
    }
    // A stream's host, its wildcard, and its host within a domain's wildcard.
    for host in ["p.test", "q.test", "x.b.test"] {
        assert_eq!(beside.curl(host, "theirs.pem"), "sealed", "{host}");
    }
    let shown = tool::s_client(beside.address(), &["-servername", "p.test"]).stdout;
    assert!(shown.replace(' ', "").contains("0s:CN=p.test"), "{shown}");
    let shown = tool::s_client(beside.address(), &["-servername", "a.test"]).stdout;
    assert!(shown.replace(' ', "").contains("0s:CN=a.test"), "{shown}");
    let gateway = &beside.gateway;
    let line = gateway.log_line("the stream", |line| line["tls_server_name"] == "x.b.test");
    assert_eq!(line["stream"], "sealed", "{line}");
    assert_eq!(line["protocol"], "TLS", "{line}");
    assert!(line["bytes_sent"].as_u64() > Some(500), "{line}");
    let labels = [("listener", "secure"), ("result", "passed")];
    gateway.wait_for_metric("cardea_tls_handshakes_total", &labels, 4.0);
}

/// The first words of a client, as long as many protocols make them.
fn hello(trust: &Authority, name: &str, protocols: usize) -> (ClientConnection, Vec<u8>) {
    let names: Vec<String> = (0..protocols).map(|it| format!("{it:0>220}")).collect();
    let mut alpn: Vec<&str> = names.iter().map(String::as_str).collect();
    alpn.push("http/1.1");
    let tls = ClientTls {
        alpn: &alpn,
        ..ClientTls::trusting(trust)
    };
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(tls.config(), name).expect("a connection");
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).expect("a ClientHello");
    }
    (connection, bytes)
}

/// Sends first words in pieces, finishes the handshake and reads an answer.
#[track_caller]
fn answer_to(address: SocketAddr, hello: (ClientConnection, Vec<u8>), pieces: usize) -> String {
    let (connection, bytes) = hello;
    let mut tcp = TcpStream::connect(address).expect("a listener");
    tcp.set_nodelay(true).expect("set TCP_NODELAY");
    tcp.set_read_timeout(Some(BOUND))
        .expect("set the read timeout");
    for piece in bytes.chunks(pieces) {
        tcp.write_all(piece).expect("a connection that takes it");
    }
    let mut stream = StreamOwned::new(connection, tcp);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: p.test\r\n\r\n")
        .expect("a handshake");
    let mut page = Vec::new();
    let mut piece = [0; 1024];
    while !page.ends_with(b"sealed") {
        let count = stream.read(&mut piece).expect("the rest of the page");
        assert!(count > 0, "{}", String::from_utf8_lossy(&page));
        page.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&page).into_owned()
}

#[test]
fn first_words_are_passed_on_whatever_their_size_and_pieces() {
    let beside = Beside::start();
    for (protocols, pieces) in [
        (0, 1),
        (0, usize::MAX),
        (70, 1),
        (70, 1000),
        (70, usize::MAX),
    ] {
        let hello = hello(&beside.theirs, "p.test", protocols);
        let length = hello.1.len();
        assert!(protocols == 0 || length > 15_000, "{length}");
        let page = answer_to(beside.address(), hello, pieces);
        assert!(
            page.ends_with("sealed"),
            "{length} bytes by {pieces}: {page}"
        );
    }
    // One byte a record.
    let (connection, bytes) = hello(&beside.theirs, "p.test", 0);
    let records = bytes[5..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]);
    let page = answer_to(beside.address(), (connection, records.collect()), 4096);
    assert!(page.ends_with("sealed"), "{page}");
    // Beyond the limit nothing is passed on.
    let labels = [("stream", "sealed")];
    let taken = beside
        .gateway
        .metric("cardea_stream_connections_total", &labels);
    let mut endless = TcpStream::connect(beside.address()).expect("a listener");
    let record = [&[22, 3, 1, 64, 0, 1, 0, 255, 255][..], &[0; 16 * 1024 - 4]].concat();
    while endless.write_all(&record).is_ok() {}
    assert_eq!(
        beside
            .gateway
            .metric("cardea_stream_connections_total", &labels),
        taken
    );
}

/// The endpoint may serve clients that nobody serves here.
#[test]
fn versions_that_are_not_served_here_are_passed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
    let address = listener.local_addr().expect("a bound socket");
    let authority = Authority::new("ours");
    let site = Site::new();
    authority.issue(&["a.test"]).save(site.path(), "main");
    let gateway = site.start(BESIDE, &[("sealed", &address)]);
    // TLS 1.1, for p.test, without signature algorithms.
    let name = b"\0\0\0\x0b\0\x09\0\0\x06p.test";
    let hello = [
        &b"\x03\x02"[..],
        &[7; 32],
        b"\0\0\x02\0\x2f\x01\0\0\x0f",
        name,
    ]
    .concat();
    let length = hello.len() as u8;
    let header = [22, 3, 1, 0, length + 4, 1, 0, 0, length];
    let words = [&header[..], &hello].concat();
    let mut client = TcpStream::connect(gateway.listener("secure")).expect("a listener");
    client
        .write_all(&words)
        .expect("a connection that takes it");
    let (mut endpoint, _) = listener.accept().expect("the gateway");
    endpoint
        .set_read_timeout(Some(BOUND))
        .expect("set the read timeout");
    let mut heard = vec![0; words.len()];
    endpoint.read_exact(&mut heard).expect("the first words");
    assert_eq!(heard, words);
    // Where TLS ends here, they are told.
    let other = [&words[..words.len() - 6], b"a.test"].concat();
    let mut client = TcpStream::connect(gateway.listener("secure")).expect("a listener");
    client
        .write_all(&other)
        .expect("a connection that takes it");
    client
        .set_read_timeout(Some(BOUND))
        .expect("set the read timeout");
    let mut alert = [0; 1];
    client.read_exact(&mut alert).expect("an alert");
    assert_eq!(alert, [21]);
}

#[test]
fn a_client_that_breaks_off_is_a_reset_to_the_endpoint() {
    let beside = Beside::start();
    let config = ClientTls::trusting(&beside.theirs).config();
    let client = Client::connect_tls(beside.address(), &config, "p.test");
    client.into_wire().reset();
    beside.gateway.wait_for_metric(
        "cardea_stream_ends_total",
        &[("reason", "client_reset")],
        1.0,
    );
    // The domain beside it is none the worse.
    let config = ClientTls::trusting(&beside.ours).config();
    let mut client = Client::connect_tls(beside.address(), &config, "a.test");
    assert_eq!(client.get("a.test", "/").text(), "from the domain");
}

/// Streams by name on a listener for nothing else.
const ENDED: &str = r#"
listeners:
  - name: vault
    bind: ["127.0.0.1:0"]
    protocol: tcp
    tls: { unknown_names: refuse }
certificates:
  - { name: main, chain: main.pem, key: main.key }
streams:
  - { name: one, listeners: [vault], hosts: [one.test], to: one }
  - { name: two, listeners: [vault], hosts: [two.test, "*.two.test"], tls: terminate, to: two }
  - { name: sealed, listeners: [vault], hosts: [sealed.test], tls: passthrough, to: sealed }
upstreams:
  one: { endpoints: ["<one>"] }
  two: { endpoints: ["<two>"] }
  sealed: { endpoints: ["<sealed>"] }
"#;

struct Ended {
    ours: Authority,
    theirs: Authority,
    /// Those who issue what clients show.
    clients: Authority,
    gateway: Gateway,
    _endpoints: [Origin; 3],
}

impl Ended {
    fn start(config: &str) -> Self {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let clients = Authority::new("clients");
        let site = Site::new();
        let names = ["one.test", "two.test", "*.two.test", "other.test"];
        ours.issue(&names).save(site.path(), "main");
        clients.save(site.path(), "clients");
        let sealed = server_config(&theirs.issue(&["sealed.test"]), None);
        let endpoints = [named("one"), named("two"), Origin::serve_tls(sealed, echo)];
        let [one, two, sealed] = &endpoints;
        let gateway = site.start(
            config,
            &[
                ("one", &one.address()),
                ("two", &two.address()),
                ("sealed", &sealed.address()),
            ],
        );
        Self {
            ours,
            theirs,
            clients,
            gateway,
            _endpoints: endpoints,
        }
    }

    fn connect(&self, name: &str, identity: Option<&Identity>) -> std::io::Result<Client> {
        let trust = if name == "sealed.test" {
            &self.theirs
        } else {
            &self.ours
        };
        let tls = ClientTls {
            identity,
            // What the client would like to speak is between it and the endpoint.
            alpn: &["postgresql"],
            ..ClientTls::trusting(trust)
        };
        Client::try_connect_tls(self.gateway.listener("vault"), &tls.config(), name)
    }
}

#[test]
fn it_ends_here_and_streams_are_told_apart_by_name() {
    let ended = Ended::start(ENDED);
    for (host, name) in [
        ("one.test", "one"),
        ("two.test", "two"),
        ("x.two.test", "two"),
    ] {
        let mut client = ended.connect(host, None).expect("a handshake");
        assert_eq!(name_of(&mut client), name, "{host}");
        assert_echoes(&mut client, &"0123456789".repeat(40_000));
        client.half_close();
        assert_eq!(client.take_rest(), (Vec::new(), Ending::Eof), "{host}");
    }
    let line = ended
        .gateway
        .log_line("the stream", |line| line["stream"] == "one");
    assert_eq!(line["tls_version"], "TLSv1.3", "{line}");
    assert_eq!(line["tls_server_name"], "one.test", "{line}");
    assert_eq!(line["bytes_received"], 400_000, "{line}");
    let mut client = ended
        .connect("sealed.test", None)
        .expect("a handshake with the endpoint");
    assert_echoes(&mut client, "hello");
    // What no stream claims is refused with an alert, whether there is a certificate or not.
    for host in ["other.test", "unknown.test"] {
        let refused = ended.connect(host, None).expect_err("nobody of that name");
        assert!(
            refused.to_string().contains("UnrecognisedName"),
            "{host}: {refused}"
        );
    }
    let shown = tool::s_client(
        ended.gateway.listener("vault"),
        &["-servername", "one.test"],
    );
    assert!(
        shown.stdout.replace(' ', "").contains("0s:CN=one.test"),
        "{shown:?}"
    );
}

#[test]
fn clients_show_certificates_where_the_listener_says_so() {
    let demand = "{ client_certificates: { ca: clients.pem, allow: [{ dns: good.test }] } }";
    let ended = Ended::start(&ENDED.replace("{ unknown_names: refuse }", demand));
    let good = ended.clients.issue(&["good.test"]);
    let mut client = ended.connect("one.test", Some(&good)).expect("a handshake");
    assert_eq!(name_of(&mut client), "one");
    client.half_close();
    let line = ended
        .gateway
        .log_line("the stream", |line| line["stream"] == "one");
    assert_eq!(line["client_name"], "good.test", "{line}");
    let stranger = Authority::new("strangers").issue(&["good.test"]);
    let bad = ended.clients.issue(&["bad.test"]);
    for identity in [None, Some(&stranger), Some(&bad)] {
        // Over TLS 1.3 a client learns of it when it reads.
        let refused = match ended.connect("one.test", identity) {
            Err(_) => true,
            Ok(mut client) => client.take_through(b"\n").is_err(),
        };
        assert!(refused, "{identity:?}");
    }
    // Whose TLS does not end here shows nothing here.
    let mut client = ended
        .connect("sealed.test", None)
        .expect("a handshake with the endpoint");
    assert_echoes(&mut client, "hello");
}

#[test]
fn a_stream_without_hosts_takes_what_is_left() {
    let rest = "  - { name: rest, listeners: [vault], tls: passthrough, to: sealed }\nupstreams:";
    let config = ENDED.replace("upstreams:", rest);
    let ended = Ended::start(&config.replace("hosts: [sealed.test]", "hosts: [nobody.test]"));
    let mut client = ended
        .connect("sealed.test", None)
        .expect("a handshake with the endpoint");
    assert_echoes(&mut client, "hello");
    let mut client = ended.connect("one.test", None).expect("a handshake");
    assert_eq!(name_of(&mut client), "one");
    // Without a name, too.
    let address = ended.gateway.listener("vault");
    let shown = tool::s_client(address, &["-noservername"]).stdout;
    assert!(
        shown.replace(' ', "").contains("0s:CN=sealed.test"),
        "{shown}"
    );
}

#[test]
fn only_hosts_whose_tls_ends_here_need_a_certificate() {
    let bare = ENDED.replace("hosts: [one.test]", "hosts: [one.test, bare.test]");
    let ended = Ended::start(&bare);
    let path = ended.gateway.site().config_path();
    let path = path.display().to_string();
    let told = ended.gateway.site().cardea(&["check", "--config", &path]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let said = format!("{}{}", told.stdout, told.stderr);
    assert!(said.contains("no certificate covers `bare.test`"), "{said}");
    assert!(!said.contains("sealed.test"), "{said}");
    // Without any that does, no certificate at all.
    let theirs = Authority::new("theirs");
    let identity = theirs.issue(&["sealed.test"]);
    let endpoint = Origin::serve_tls(server_config(&identity, None), echo);
    let config = r#"
listeners: [{ name: vault, bind: ["127.0.0.1:0"], protocol: tcp, tls: {} }]
streams: [{ name: sealed, listeners: [vault], tls: passthrough, to: sealed }]
upstreams: { sealed: { endpoints: ["<sealed>"] } }
"#;
    let gateway = Gateway::start(config, &[("sealed", &endpoint.address())]);
    let config = ClientTls::trusting(&theirs).config();
    let mut client = Client::connect_tls(gateway.listener("vault"), &config, "sealed.test");
    assert_echoes(&mut client, "hello");
}

#[test]
fn a_truncated_conversation_is_no_orderly_end() {
    let told = Arc::new(std::sync::Mutex::new(None));
    let seen = Arc::clone(&told);
    let origin = Origin::serve(move |connection: &mut origin::Connection| {
        connection.answer("one\n");
        let (_, ending) = connection.take_rest();
        *seen.lock().expect("no panic") = Some(ending);
    });
    let authority = Authority::new("ours");
    let site = Site::new();
    authority.issue(&["one.test"]).save(site.path(), "main");
    let config = r#"
listeners: [{ name: vault, bind: ["127.0.0.1:0"], protocol: tcp, tls: {} }]
certificates: [{ name: main, chain: main.pem, key: main.key }]
streams: [{ name: one, listeners: [vault], to: one }]
upstreams: { one: { endpoints: ["<one>"] } }
"#;
    let gateway = site.start(config, &[("one", &origin.address())]);
    let config = ClientTls::trusting(&authority).config();
    let mut client = Client::connect_tls(gateway.listener("vault"), &config, "one.test");
    assert_eq!(name_of(&mut client), "one");
    // FIN without a close_notify, as whoever cuts the connection would send it.
    let shut = client.tcp().shutdown(std::net::Shutdown::Write);
    shut.expect("an open socket");
    cardea_tests::wait::until_true("the origin is told", || {
        *told.lock().expect("no panic") == Some(Ending::Reset)
    });
}

//! The harness against itself: clients and origins understand each other, and what is wrong is
//! noticed. A gateway between them is then the only unknown.

use cardea_tests::certificate::Authority;
use cardea_tests::message::Framing;
use cardea_tests::name_server::NameServer;
use cardea_tests::origin::{self, Connection};
use cardea_tests::tls::{ClientTls, server_config};
use cardea_tests::wire::Broken;
use cardea_tests::{Client, Ending, Origin, gateway, websocket};

#[test]
fn an_echo_says_what_it_saw() {
    let origin = Origin::echo();
    let mut client = Client::connect(origin.address());
    for number in 0..3 {
        let response = client.get("a.test", &format!("/{number}?q=1"));
        assert_eq!(response.status, 200);
        assert_eq!(response.json()["target"], format!("/{number}?q=1"));
    }
    assert_eq!(origin.connections(), 1);
    let seen = origin.last_request();
    assert_eq!(
        (seen.method.as_str(), seen.field("host")),
        ("GET", Some("a.test"))
    );
    assert_eq!(
        origin.received(0).len(),
        3 * "GET /0?q=1 HTTP/1.1\r\nHost: a.test\r\n\r\n".len()
    );
}

#[test]
fn bodies_are_read_by_their_framing() {
    let check = |answer: &str, body: &str| {
        let origin = Origin::serve(origin::answering_once(answer));
        let response = Client::connect(origin.address()).get("a.test", "/");
        assert_eq!(response.text(), body, "{answer:?}");
    };
    check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi");
    check("HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end");
    check("HTTP/1.1 204 No Content\r\n\r\n", "");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(
        &format!("{chunked}2\r\nhi\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        "hi0123456789",
    );
    let origin = Origin::serve(origin::answering(format!(
        "{chunked}0\r\nA: b\r\nA: c\r\n\r\n"
    )));
    let response = Client::connect(origin.address()).get("a.test", "/");
    assert_eq!(response.trailers.all("a"), ["b", "c"]);
}

#[test]
fn interim_responses_come_before_the_final_one() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::serve(origin::answering(answer));
    let response = Client::connect(origin.address()).get("a.test", "/");
    assert_eq!((response.status, response.interim.len()), (200, 1));
    assert_eq!(response.interim[0].field("link"), Some("</a>"));
}

#[test]
fn what_is_cut_or_malformed_is_noticed() {
    let check = |answer: &str, expected: Broken| {
        let origin = Origin::serve(origin::answering_once(answer));
        let mut client = Client::connect(origin.address());
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let partial = client.try_response().expect_err("a broken response");
        assert_eq!(partial.broken, expected, "{answer:?}");
    };
    let ended = Broken::Ended(Ending::Eof);
    check("", ended.clone());
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
        ended.clone(),
    );
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        ended,
    );
    let malformed = |text: &str| Broken::Malformed(text.to_owned());
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n",
        malformed("chunk header \"2;x\""),
    );
    check(
        "HTTP/1.1 200\r\n\r\n",
        malformed("not a status line: \"HTTP/1.1 200\""),
    );
}

#[test]
fn a_reset_is_told_from_an_end() {
    let origin = Origin::serve(|connection: &mut Connection| {
        let Some(request) = connection.request() else {
            return;
        };
        connection.answer("HTTP/1.1 200 OK\r\n\r\npart");
        if request.target == "/reset" {
            connection.abort();
        }
    });
    let check = |path: &str, ending| {
        let mut client = Client::connect(origin.address());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let head = client
            .take_through(b"\r\n\r\npart")
            .expect("what came before the end");
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(client.take_rest(), (Vec::new(), ending), "{path}");
    };
    check("/end", Ending::Eof);
    check("/reset", Ending::Reset);
}

#[test]
fn an_origin_refuses_what_is_not_canonical() {
    let check = |request: &str, fault: &str| {
        let origin = Origin::echo();
        let mut client = Client::connect(origin.address());
        client.send(request).half_close();
        client.assert_closed();
        let faults = origin.take_faults();
        assert!(
            faults.len() == 1 && faults[0].contains(fault),
            "{request:?}: {faults:?}"
        );
    };
    check("GET / HTTP/1.1\nHost: a\r\n\r\n", "not a request line");
    check("GET  / HTTP/1.1\r\n\r\n", "not a request line");
    check("GET / HTTP/1.1\r\nA : b\r\n\r\n", "a malformed field");
    check(
        "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "a field without a colon",
    );
    let both = "Content-Length: 1\r\nTransfer-Encoding: chunked";
    check(
        &format!("POST / HTTP/1.1\r\n{both}\r\n\r\n"),
        "framing in doubt",
    );
    check(
        "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        "framing in doubt",
    );
    check("GET / HTTP/1.1\r\nA:", "Eof within a head");
}

#[test]
fn a_handler_may_read_a_body_its_own_way() {
    let origin = Origin::serve(|connection: &mut Connection| {
        let Some((request, framing)) = connection.head() else {
            return;
        };
        assert_eq!(framing, Framing::Length(5));
        connection.answer("HTTP/1.1 100 Continue\r\n\r\n");
        let body = connection.take_body(framing).expect("a body").bytes;
        connection.record(cardea_tests::Request { body, ..request });
        connection.answer(origin::ok("done"));
    });
    let mut client = Client::connect(origin.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    client.try_send_pieces("12345", 1).expect("five writes");
    let response = client.response_to("POST");
    assert_eq!(
        (response.interim[0].status, response.text()),
        (100, "done".to_owned())
    );
    assert_eq!(origin.only_request().text(), "12345");
}

#[test]
fn an_origin_can_go_down_and_come_back() {
    let mut origin = Origin::echo();
    let address = origin.address();
    let mut client = Client::connect(address);
    client.get("a.test", "/");
    origin.stop();
    client.assert_closed();
    assert!(std::net::TcpStream::connect(address).is_err());
    let origin = Origin::serve_at(address, origin::saying("again"));
    assert_eq!(
        Client::connect(origin.address()).get("a.test", "/").text(),
        "again"
    );
}

#[test]
fn tls_with_certificates_of_both_sides() {
    let authority = Authority::new("origins");
    let clients = Authority::new("clients");
    let config = server_config(&authority.issue(&["origin.test"]), Some(&clients));
    let origin = Origin::serve_tls(config, origin::saying("secret"));
    let identity = clients.issue(&["gateway.test"]);
    let trusted = ClientTls {
        identity: Some(&identity),
        ..ClientTls::trusting(&authority)
    };
    let connect =
        |name, tls: &ClientTls<'_>| Client::try_connect_tls(origin.address(), &tls.config(), name);
    let mut client = connect("origin.test", &trusted).expect("a handshake");
    assert_eq!(client.get("a.test", "/").text(), "secret");
    client.half_close();
    client.assert_closed();
    assert!(connect("other.test", &trusted).is_err());
    let stranger = Authority::new("strangers");
    assert!(connect("origin.test", &ClientTls::trusting(&stranger)).is_err());
}

#[test]
fn websockets_send_messages_back() {
    // The example of RFC 6455 section 1.3.
    assert_eq!(
        websocket::accept(websocket::KEY),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let origin = Origin::serve(origin::websocket);
    let mut client = Client::connect(origin.address());
    let response = client.ask(websocket::handshake("a.test", "/"));
    assert_eq!(response.status, 101);
    for length in [0, 5, 125, 126, 70_000] {
        let message = websocket::text(&"x".repeat(length));
        client.send(websocket::encode(&message, Some([1, 2, 3, 4])));
        assert_eq!(websocket::read(&mut client), Ok(message));
    }
    client.send(websocket::encode(&websocket::close(), Some([0; 4])));
    assert_eq!(websocket::read(&mut client), Ok(websocket::close()));
    client.assert_closed();
}

#[test]
fn a_name_server_answers_a_resolver_of_another_making() {
    let server = NameServer::start();
    server.set("a.test", &["127.0.0.2", "::2"], 7);
    let script = format!(
        "const {{Resolver}} = require('dns').promises; const r = new Resolver(); \
         r.setServers(['{}']); \
         Promise.all([r.resolve4('a.test', {{ttl: true}}), r.resolve6('A.test'), \
         r.resolve4('b.test').catch(e => e.code)]).then(v => console.log(JSON.stringify(v)))",
        server.address()
    );
    let node = cardea_tests::process::run(&mut cardea_tests::process::command(
        "node",
        &["-e", &script],
    ));
    assert_eq!(
        node.stdout.trim(),
        r#"[[{"address":"127.0.0.2","ttl":7}],["::2"],"ENOTFOUND"]"#
    );
    assert_eq!(server.questions(), 3);
}

#[test]
fn metrics_are_summed_by_labels() {
    let text = "# HELP a_total x\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\nb 5\na_total_more 9\n";
    assert_eq!(gateway::sum(text, "a_total", &[]), Some(7.0));
    assert_eq!(gateway::sum(text, "a_total", &[("y", "3")]), Some(4.0));
    assert_eq!(gateway::sum(text, "a_total", &[("y", "4")]), None);
    assert_eq!(gateway::sum(text, "b", &[]), Some(5.0));
    assert_eq!(gateway::label_values(text, "a_total", "y").len(), 2);
}

//! What can be added, changed and removed while traffic flows, and what survives it.

use cardea_tests::certificate::Authority;
use cardea_tests::gateway::{Site, free_address};
use cardea_tests::tls::ClientTls;
use cardea_tests::{Client, Gateway, Origin, origin, wait};

use super::saying;
use crate::fixture::{PLAIN, assert_refused, get};

#[test]
fn listeners_are_added_changed_and_removed() {
    let added = free_address();
    let listeners = |more: &str| {
        format!(
            "listeners: [{{ name: web, bind: [\"127.0.0.1:0\"] }}{more}]\n{}",
            saying("served")
        )
    };
    let second = format!(", {{ name: second, bind: [\"{added}\"] }}");
    let gateway = Gateway::start(&listeners(""), &[]);
    let first = gateway.listener("web");
    assert!(std::net::TcpStream::connect(added).is_err());

    gateway.configure(&listeners(&second), &[]);
    assert_eq!(Client::connect(added).get("a.test", "/").text(), "served");
    // The other one still has the port it was given.
    assert_eq!(Client::connect(first).get("a.test", "/").text(), "served");

    // Changed without being bound anew: an open connection stays, the new limit holds.
    let mut open = Client::connect(added);
    assert_eq!(open.get("a.test", "/").status, 200);
    let narrow = second.replace(" }", ", http: { uri_bytes_max: 64 } }");
    gateway.configure(&listeners(&narrow), &[]);
    let long = format!("/{}", "x".repeat(100));
    assert_refused(
        &open.get("a.test", &long),
        414,
        "target_too_long",
        "the new limit",
    );

    // Removed: new connections are refused, idle ones are closed.
    let mut idle = Client::connect(added);
    assert_eq!(idle.get("a.test", "/").status, 200);
    gateway.configure(&listeners(""), &[]);
    wait::until_true("the listener is gone", || {
        std::net::TcpStream::connect(added).is_err()
    });
    idle.assert_closed();
    assert_eq!(Client::connect(first).get("a.test", "/").text(), "served");
}

#[test]
fn a_removed_listener_drains() {
    let gate = std::sync::Arc::new(wait::Gate::default());
    let waiting = std::sync::Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut origin::Connection| {
        while connection.request().is_some() {
            waiting.wait();
            connection.answer(origin::ok("done"));
        }
    });
    let added = free_address();
    let config = |more: &str| {
        format!("{PLAIN}listeners: [{{ name: web, bind: [\"127.0.0.1:0\"] }}{more}]\n")
    };
    let second = format!(", {{ name: second, bind: [\"{added}\"] }}");
    let gateway = Gateway::start(&config(&second), &[("origin", &origin.address())]);
    let mut client = Client::connect(added);
    client.send(get("a.test", "/", ""));
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    gateway.configure(&config(""), &[("origin", &origin.address())]);
    wait::until_true("the listener is gone", || {
        std::net::TcpStream::connect(added).is_err()
    });
    gate.open();
    let response = client.response();
    assert_eq!(response.text(), "done");
    assert!(!response.keeps_open(), "{response:?}");
    client.assert_closed();
}

#[test]
fn an_address_can_go_to_another_listener() {
    let address = free_address();
    let config = |name: &str| {
        format!(
            "listeners: [{{ name: {name}, bind: [\"{address}\"] }}]\n{}",
            saying(name)
        )
    };
    let gateway = Gateway::start(&config("one"), &[]);
    assert_eq!(Client::connect(address).get("a.test", "/").text(), "one");
    gateway.configure(&config("two"), &[]);
    wait::until_true("the other listener", || {
        Client::connect(address).get("a.test", "/").text() == "two"
    });
}

#[test]
fn domains_routes_and_upstreams_are_added_changed_and_removed() {
    let first = Origin::serve(origin::saying("first"));
    let second = Origin::serve(origin::saying("second"));
    let config = |routes: &str, upstreams: &str, domains: &str| {
        format!(
            "domains:\n  - hosts: [a.test]\n    routes: [{routes}]\n{domains}upstreams: {{ {upstreams} }}\n"
        )
    };
    let values = [
        ("first", &first.address() as &dyn std::fmt::Display),
        ("second", &second.address()),
    ];
    let one = "one: { endpoints: [\"<first>\"], pool: { idle_timeout: 500ms } }";
    let gateway = Gateway::start(&config("{ to: one }", one, ""), &values);
    assert_eq!(gateway.get("a.test", "/").text(), "first");
    assert_eq!(gateway.get("b.test", "/").status, 404);

    let two = format!("{one}, two: {{ endpoints: [\"<second>\"] }}");
    let routes = "{ to: one }, { match: [{ path: { prefix: /two } }], to: two }";
    let domain = "  - { hosts: [b.test], routes: [{ to: two }] }\n";
    gateway.configure(&config(routes, &two, domain), &values);
    assert_eq!(gateway.get("a.test", "/").text(), "first");
    assert_eq!(gateway.get("a.test", "/two").text(), "second");
    assert_eq!(gateway.get("b.test", "/").text(), "second");

    // An upstream moves to another endpoint.
    let moved = two.replace("<first>", "<second>");
    gateway.configure(&config(routes, &moved, domain), &values);
    assert_eq!(gateway.get("a.test", "/").text(), "second");
    first.wait_until("connections nobody needs are closed", |origin| {
        origin.open_connections() == 0
    });

    gateway.configure(&config("{ to: one }", one, ""), &values);
    assert_eq!(gateway.get("a.test", "/two").text(), "first");
    assert_eq!(gateway.get("b.test", "/").status, 404);
}

#[test]
fn certificates_are_added_and_removed() {
    let authority = Authority::new("clients trust this");
    let site = Site::new();
    for (name, host) in [("a", "a.test"), ("b", "b.test")] {
        authority.issue(&[host]).save(site.path(), name);
    }
    let config = |names: &[&str]| {
        let certificate =
            |name: &&str| format!("{{ name: {name}, chain: {name}.pem, key: {name}.key }}");
        let list: Vec<String> = names.iter().map(certificate).collect();
        format!(
            "listeners: [{{ name: secure, bind: [\"127.0.0.1:0\"], tls: {{}} }}]\ncertificates: [{}]\n\
             domains: [{{ hosts: [a.test, b.test], routes: [{{ policies: {{ respond: {{ body: ok }} }} }}] }}]\n",
            list.join(", ")
        )
    };
    let gateway = site.start(&config(&["a"]), &[]);
    let tls = ClientTls::trusting(&authority).config();
    let connect = |name: &str| Client::try_connect_tls(gateway.listener("secure"), &tls, name);
    assert!(connect("a.test").is_ok());
    assert!(connect("b.test").is_err());
    let mut before = connect("a.test").expect("a handshake");
    gateway.configure(&config(&["a", "b"]), &[]);
    assert!(connect("b.test").is_ok());
    gateway.configure(&config(&["b"]), &[]);
    // A fresh configuration of the client: no session to resume.
    let fresh = ClientTls::trusting(&authority).config();
    assert!(Client::try_connect_tls(gateway.listener("secure"), &fresh, "a.test").is_err());
    assert_eq!(before.get("a.test", "/").text(), "ok");
}

#[test]
fn pools_of_untouched_upstreams_survive() {
    let origin = Origin::echo();
    let config = |text: &str| {
        format!("workers: 1\n{PLAIN}  - {{ hosts: [b.test], routes: [{{ policies: {{ respond: {{ body: {text} }} }} }}] }}\n")
            .replace("upstreams:\n  origin: { endpoints: [\"<origin>\"] }\n", "")
            + "upstreams:\n  origin: { endpoints: [\"<origin>\"] }\n"
    };
    let values = [("origin", &origin.address() as &dyn std::fmt::Display)];
    let gateway = Gateway::start(&config("one"), &values);
    let mut client = gateway.client();
    for round in ["two", "three", "four"] {
        assert_eq!(client.get("a.test", "/").status, 200);
        gateway.configure(&config(round), &values);
        assert_eq!(client.get("b.test", "/").text(), round);
    }
    assert_eq!(client.get("a.test", "/").status, 200);
    assert_eq!(
        origin.connections(),
        1,
        "the upstream connection was not kept"
    );
}

#[test]
fn counters_of_untouched_rate_limits_survive() {
    let config = |text: &str| {
        format!(
            r#"
domains:
  - hosts: [a.test]
    policies: {{ rate_limit: {{ rate: 3, per: 1h }} }}
    routes: [{{ policies: {{ respond: {{ body: {text} }} }} }}]
"#
        )
    };
    let gateway = Gateway::start(&config("one"), &[]);
    for text in ["two", "three", "four"] {
        assert_eq!(gateway.get("a.test", "/").status, 200);
        gateway.configure(&config(text), &[]);
    }
    assert_eq!(gateway.get("a.test", "/").status, 429);
}

#[test]
fn health_of_untouched_upstreams_survives() {
    let ill = Origin::serve(origin::answering(
        "HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n",
    ));
    let well = Origin::serve(origin::saying("well"));
    let config = |text: &str| {
        format!(
            r#"
domains:
  - hosts: [a.test]
    routes: [{{ to: pool }}]
  - hosts: [b.test]
    routes: [{{ policies: {{ respond: {{ body: {text} }} }} }}]
upstreams:
  pool: {{ endpoints: ["<ill>", "<well>"], outlier: {{ consecutive_failures: 2, eject_for: 60s }} }}
"#
        )
    };
    let values = [
        ("ill", &ill.address() as &dyn std::fmt::Display),
        ("well", &well.address()),
    ];
    let gateway = Gateway::start(&config("one"), &values);
    let ejected = [("upstream", "pool"), ("state", "ejected")];
    wait::until_true("the endpoint is ejected", || {
        gateway.get("a.test", "/");
        gateway.metric("cardea_upstream_endpoints", &ejected) == Some(1.0)
    });
    gateway.configure(&config("two"), &values);
    assert_eq!(
        gateway.metric("cardea_upstream_endpoints", &ejected),
        Some(1.0)
    );
    let asked = ill.requests().len();
    for _ in 0..6 {
        assert_eq!(gateway.get("a.test", "/").text(), "well");
    }
    assert_eq!(ill.requests().len(), asked);
}

#[test]
fn what_changed_is_told() {
    let gateway = Gateway::start(&saying("one"), &[]);
    // The gateway also looks at saved files by itself, a moment later; it may be faster than us.
    let told = |host: &str| {
        let config = saying("two").replace("a.test", host);
        gateway.site().configure(&config, &[]);
        gateway.reload().stdout.contains(host)
    };
    assert!((0..20).any(|attempt| told(&format!("b{attempt}.test"))));
    // Reloading what is in force says so and costs nothing.
    let finished = gateway.reload();
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

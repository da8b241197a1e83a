//! Certificates that are ordered when a client first asks for a host: what is, and what is not.

use super::*;

/// A certificate that is ordered on demand, by a rule with more in it than `allow`.
fn rule(more: &str) -> String {
    format!("[{{ name: w, acme: {{ on_demand: {{ allow: [\"*.w.test\"]{more} }} }} }}]")
}

fn ask(fixture: &Fixture, address: SocketAddr, host: &str) -> std::io::Result<Client> {
    Client::try_connect_tls(address, &fixture.client(), host)
}

fn is_denied(gateway: &Gateway, host: &str) -> String {
    gateway.stderr.wait_for("the denial", |text| {
        let mut lines = text.lines().map(str::to_owned);
        lines.find(|line| line.contains("certificate_denied") && line.contains(host))
    })
}

#[test]
fn the_handshake_that_asks_is_served() {
    let fixture = Fixture::new();
    let gateway = fixture.gateway("", &rule(""));
    let mut client = ask(&fixture, fixture.tls, "One.w.test").expect("a certificate at once");
    assert_eq!(client.get("one.w.test", "/").status, 200);
    let told = gateway.admin("GET", "/certs").json();
    assert_eq!(told[0]["name"], "w@one.w.test");
    assert_eq!(told[0]["source"]["order"]["state"], "good", "{told}");
    // All who ask at once get one between them.
    let config = fixture.client();
    let served: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let client = Client::try_connect_tls(fixture.tls, &config, "two.w.test");
                    let client = client.expect("a certificate at once");
                    let chain = client.tls().peer_certificates().expect("a chain");
                    chain[0].to_vec()
                })
            })
            .collect();
        asked.into_iter().map(|it| it.join().expect("it")).collect()
    });
    assert!(served.iter().all(|it| *it == served[0]));
    assert_eq!(count(&gateway, "certificate_ordering"), 2);
    // Nobody's configuration was read for it.
    assert_eq!(gateway.generation(), 1);
    let stored = [("result", "stored")];
    let stored = gateway.metric("cardea_certificate_orders_total", &stored);
    assert_eq!(stored, Some(2.0));
    // What was ordered is there after a restart, and no less when it is read anew.
    let gateway = gateway.restart();
    ask(&fixture, fixture.tls, "one.w.test").expect("from the storage");
    assert_eq!(count(&gateway, "certificate_ordering"), 0);
    let config = std::fs::read_to_string(gateway.site().config_path()).expect("a configuration");
    let less = config.replace("*.w.test\"] } } }]", "two.w.test\"] } } }]");
    assert_ne!(config, less);
    gateway.configure(&less, &[]);
    assert!(ask(&fixture, fixture.tls, "one.w.test").is_err());
    ask(&fixture, fixture.tls, "two.w.test").expect("it stays");
}

#[test]
fn a_configuration_that_is_refused_keeps_no_order_out() {
    let fixture = Fixture::new();
    let gateway = fixture.gateway("", &rule(""));
    let config = std::fs::read_to_string(gateway.site().config_path()).expect("a configuration");
    gateway
        .site()
        .configure(&format!("{config}nonsense: true\n"), &[]);
    gateway.stderr.wait_for_line("configuration_refused");
    ask(&fixture, fixture.tls, "one.w.test").expect("a certificate at once");
}

#[test]
fn nothing_is_ordered_for_other_names() {
    let fixture = Fixture::new();
    let gateway = fixture.gateway("", &rule(""));
    for host in ["a.test", "w.test", "x.w.test.evil.test", "localhost"] {
        assert!(ask(&fixture, fixture.tls, host).is_err(), "{host}");
    }
    let served = fixture.waits_for(fixture.tls, "x.w.test");
    assert!(!served.is_empty());
    assert_eq!(count(&gateway, "certificate_ordering"), 1);
}

#[test]
fn gateways_that_share_a_storage_order_once() {
    let fixture = Fixture::new();
    let shared = Site::new();
    let storage = shared.path().join("acme").display().to_string();
    let tls = free_address();
    let asked = fixture.gateway_at(free_address(), tls, &storage, "", &rule(""));
    // The authority looks for proof at the other one.
    let proving = fixture.gateway_at(fixture.http, fixture.tls, &storage, "", &rule(""));
    ask(&fixture, tls, "x.w.test").expect("a certificate at once");
    ask(&fixture, fixture.tls, "x.w.test").expect("the same one");
    assert_eq!(count(&asked, "certificate_ordering"), 1);
    assert_eq!(count(&proving, "certificate_ordering"), 0);
}

#[test]
fn a_service_may_say_no() {
    let fixture = Fixture::new();
    let service = Origin::serve(|connection: &mut Connection| {
        while let Some(request) = connection.request() {
            let answer = match &*request.target {
                "/may?key=1&domain=good.w.test" => origin::ok("yes"),
                _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
            };
            connection.answer(answer);
        }
    });
    let url = format!("http://{}/may?key=1", service.address());
    let rule = format!("[{{ name: w, acme: {{ on_demand: {{ ask: \"{url}\" }} }} }}]");
    let gateway = fixture.gateway("", &rule);
    ask(&fixture, fixture.tls, "good.w.test").expect("it said yes");
    assert!(ask(&fixture, fixture.tls, "bad.w.test").is_err());
    let line = is_denied(&gateway, "bad.w.test");
    assert!(line.contains("says no: 404"), "{line}");
    // It is not asked about the same host time and again.
    assert!(ask(&fixture, fixture.tls, "bad.w.test").is_err());
    assert_eq!(service.requests().len(), 2);
    let denied = [("result", "denied")];
    let denied = gateway.metric("cardea_certificate_orders_total", &denied);
    assert_eq!(denied, Some(1.0));
}

#[test]
fn orders_and_certificates_are_limited() {
    let fixture = Fixture::new();
    let gateway = fixture.gateway("", &rule(", orders_max: 1, orders_period: 1h"));
    ask(&fixture, fixture.tls, "one.w.test").expect("the first");
    assert!(ask(&fixture, fixture.tls, "two.w.test").is_err());
    let line = is_denied(&gateway, "two.w.test");
    assert!(line.contains("`orders_max` of `w`"), "{line}");
    let config = std::fs::read_to_string(gateway.site().config_path()).expect("a configuration");
    let full = config.replace("orders_max: 1, orders_period: 1h", "certificates_max: 1");
    gateway.configure(&full, &[]);
    assert!(ask(&fixture, fixture.tls, "three.w.test").is_err());
    let line = is_denied(&gateway, "three.w.test");
    assert!(line.contains("`w` has `certificates_max`"), "{line}");
    // What is there is served on.
    ask(&fixture, fixture.tls, "one.w.test").expect("the first");
}

#[test]
fn what_cannot_be_proved_is_let_go_of() {
    let fixture = Fixture::new();
    // The authority looks elsewhere, where nobody answers.
    let (http, tls) = (free_address(), free_address());
    let gateway = fixture.gateway_at(http, tls, "acme", "", &rule(""));
    let asked = std::time::Instant::now();
    assert!(ask(&fixture, tls, "x.w.test").is_err());
    gateway.stderr.wait_for("it is let go of", |text| {
        text.contains("certificate_dropped").then_some(())
    });
    // Those who ask again do not wait for it.
    assert!(ask(&fixture, tls, "x.w.test").is_err());
    assert!(asked.elapsed() < wait::BOUND);
    assert_eq!(count(&gateway, "certificate_ordering"), 1);
    assert_eq!(gateway.admin("GET", "/certs").json(), serde_json::json!([]));
}

#[test]
fn rules_that_make_no_sense_are_told() {
    let site = Site::new();
    let check = |certificate: &str, expected: &str| {
        let config = format!(
            "listeners: [{{ name: secure, bind: [\"127.0.0.1:0\"], tls: {{}} }}]\n\
             acme: {{ storage: s, issuers: [{{ name: le, directory: letsencrypt, terms_agreed: true }}] }}\n\
             certificates: [{{ name: a, acme: {{ {certificate} }} }}]\n\
             domains: [{{ hosts: [a.test], policies: {{ respond: {{}} }} }}]\n"
        );
        site.configure(&config, &[]);
        let told = site.cardea(&["check", "--config", "cardea.yaml"]);
        assert_ne!(told.code, Some(0), "{certificate}");
        assert!(told.stderr.contains(expected), "{}", told.stderr);
    };
    check("on_demand: {}", "nothing says which hosts may have");
    check(
        "hosts: [a.test], on_demand: { allow: [b.test] }",
        "ordered on demand, and for hosts as well",
    );
    check(
        "on_demand: { allow: [b.test], ask: \"ftp://x/\" }",
        "`ftp://x/` is not a URL that can be asked",
    );
    check("on_demand: { allow: [\"*\"] }", "`*`");
    check("on_demand: { orders: 1 }", "`orders`");
}

//! What an operator can see: metrics, health, the configuration in force, logs.

use cardea_tests::gateway::Site;
use cardea_tests::{Gateway, Origin, gateway, origin, wait};

use crate::fixture::{assert_refused, get, plain, plain_with, post};

mod access_log;
mod diagnostics;

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one run of traffic, counted line by line"
)]
fn requests_are_counted_by_domain_route_and_upstream() {
    let origin = Origin::serve(origin::saying("hello"));
    let config = r#"
domains:
  - name: shop
    hosts: [a.test]
    routes:
      - { name: api, match: [{ path: { prefix: /api } }], to: origin }
      - { name: down, match: [{ path: { prefix: /down } }], to: nowhere }
upstreams:
  origin: { endpoints: ["<origin>"] }
  nowhere: { endpoints: ["127.0.0.1:9"], retry: { attempts: 0 } }
"#;
    let gateway = Gateway::start(config, &[("origin", &origin.address())]);
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("a.test", "/api");
    }
    client.ask(post("a.test", "/api", "0123456789"));
    client.get("a.test", "/down");
    client.get("a.test", "/unknown");
    client.get("nobody.test", "/");
    let route = |route| [("domain", "shop"), ("route", route)];
    gateway.wait_for_metric(
        "cardea_requests_total",
        &[("domain", "shop"), ("route", "api"), ("code", "2xx")],
        4.0,
    );
    let metrics = gateway.admin("GET", "/metrics").text();
    let value = |name: &str, labels: &[(&str, &str)]| gateway::sum(&metrics, name, labels);
    assert_eq!(
        value("cardea_request_body_bytes_total", &route("api")),
        Some(10.0)
    );
    assert_eq!(
        value("cardea_response_body_bytes_total", &route("api")),
        Some(20.0)
    );
    assert_eq!(
        value("cardea_request_duration_seconds_count", &route("api")),
        Some(4.0)
    );
    let infinite = [route("api").as_slice(), &[("le", "+Inf")]].concat();
    assert_eq!(
        value("cardea_request_duration_seconds_bucket", &infinite),
        Some(4.0)
    );
    assert_eq!(
        value(
            "cardea_requests_total",
            &[("route", "down"), ("code", "5xx")]
        ),
        Some(1.0)
    );
    let by_gateway = |reason| value("cardea_responses_by_gateway_total", &[("reason", reason)]);
    assert_eq!(by_gateway("upstream_connect_failed"), Some(1.0));
    assert_eq!(by_gateway("route_unknown"), Some(1.0));
    assert_eq!(by_gateway("domain_unknown"), Some(1.0));
    assert_eq!(
        value(
            "cardea_upstream_requests_total",
            &[("upstream", "origin"), ("code", "2xx")]
        ),
        Some(4.0)
    );
    assert_eq!(
        value(
            "cardea_upstream_connections_failed_total",
            &[("upstream", "nowhere")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(
            "cardea_upstream_connections_reused_total",
            &[("upstream", "origin")]
        ),
        Some(3.0)
    );
    assert_eq!(
        value("cardea_connections_total", &[("listener", "web")]),
        Some(1.0)
    );
    assert_eq!(
        value("cardea_connections_open", &[("listener", "web")]),
        Some(1.0)
    );
    assert_eq!(value("cardea_build_info", &[]), Some(1.0));
    // What a client sends is no label.
    assert!(
        !metrics.contains("nobody.test") && !metrics.contains("/unknown"),
        "{metrics}"
    );
    drop(client);
    gateway.wait_for_metric("cardea_connections_open", &[("listener", "web")], 0.0);
}

#[test]
fn metrics_are_well_formed() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    gateway.get("a.test", "/");
    let response = gateway.admin("GET", "/metrics");
    assert!(
        response
            .field("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4"))
    );
    let text = response.text();
    let mut kinds = std::collections::BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert!(
                kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{name} twice"
            );
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = series.split('{').next().unwrap_or_default();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let is_declared = kinds.contains_key(name)
                || base.is_some_and(|base| kinds.get(base).is_some_and(|kind| kind == "histogram"));
            assert!(is_declared, "{line}");
        }
    }
    assert!(kinds.len() > 30, "{kinds:?}");
}

#[test]
fn tunnels_are_counted() {
    let origin = Origin::serve(origin::websocket);
    let gateway = plain(&origin);
    let client = crate::tunnels::open(&gateway, "a.test");
    gateway.wait_for_metric("cardea_tunnels_open", &[], 1.0);
    drop(client);
    gateway.wait_for_metric("cardea_tunnels_open", &[], 0.0);
    assert_eq!(gateway.metric("cardea_tunnels_total", &[]), Some(1.0));
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    let origin = Origin::echo();
    let listeners =
        "workers: 1\nlisteners: [{ name: web, bind: [\"127.0.0.1:0\"], connections_max: 2 }]\n";
    let gateway = plain_with(&origin, listeners);
    let mut open: Vec<_> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut open {
        assert_eq!(client.get("a.test", "/").status, 200);
    }
    let (rest, ending) = gateway.client().take_rest();
    assert!(rest.is_empty() && ending != cardea_tests::Ending::Silence);
    assert_eq!(
        gateway.metric("cardea_connections_refused_total", &[("listener", "web")]),
        Some(1.0)
    );
    open.pop();
    gateway.wait_for_metric("cardea_connections_open", &[("listener", "web")], 1.0);
    assert_eq!(gateway.get("a.test", "/").status, 200);
}

#[test]
fn health_and_readiness() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(gateway.admin("GET", path).status, 200, "{path}");
    }
    let response = gateway.admin("GET", "/nothing");
    assert_eq!(response.status, 404);
    assert!(response.json()["error"].is_string());
    assert_eq!(gateway.admin("POST", "/healthz").status, 405);
}

#[test]
fn the_admin_listener_is_no_target_for_web_pages() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let address = gateway.admin_address();
    let ask = |lines: &str| {
        let request = format!("POST /reload HTTP/1.1\r\n{lines}Content-Length: 0\r\n\r\n");
        cardea_tests::Client::connect(address).ask(request).status
    };
    assert_eq!(ask(&format!("Host: {address}\r\n")), 200);
    // DNS rebinding, and a form of another origin.
    assert!((400..500).contains(&ask("Host: evil.test\r\n")));
    assert!((400..500).contains(&ask(&format!(
        "Host: {address}\r\nOrigin: https://evil.test\r\n"
    ))));
}

#[test]
fn the_configuration_in_force_without_its_secrets() {
    let origin = Origin::echo();
    let site = Site::new();
    site.write("token", "very-secret");
    let config = r#"
domains:
  - name: shop
    hosts: [a.test]
    policies: { header_edits: { request: { set: { authorization: "${file:token}" } } } }
    routes: [{ name: everything, to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;
    let gateway = site.start(config, &[("origin", &origin.address())]);
    gateway.get("a.test", "/");
    assert_eq!(
        origin.only_request().field("authorization"),
        Some("very-secret")
    );
    let shown = gateway.admin("GET", "/config");
    assert_eq!(shown.json()["generation"], 1);
    assert!(shown.text().contains("a.test"));
    for path in ["/config", "/routes", "/upstreams", "/metrics"] {
        let text = gateway.admin("GET", path).text();
        assert!(!text.contains("very-secret"), "{path}: {text}");
    }
    let routes = gateway.admin("GET", "/routes").text();
    assert!(
        routes.contains("shop") && routes.contains("everything"),
        "{routes}"
    );
}

#[test]
fn upstreams_and_their_endpoints() {
    let origin = Origin::echo();
    let mut down = Origin::echo();
    let config = r#"
workers: 1
domains: [{ hosts: [a.test], routes: [{ to: pool }] }]
upstreams:
  pool: { endpoints: ["<origin>", "<down>"], outlier: { consecutive_failures: 1, eject_for: 60s } }
"#;
    let gateway = Gateway::start(
        config,
        &[("origin", &origin.address()), ("down", &down.address())],
    );
    down.stop();
    for _ in 0..3 {
        assert_eq!(gateway.get("a.test", "/").status, 200);
    }
    let shown = gateway.admin("GET", "/upstreams").json();
    let endpoints = shown[0]["endpoints"].as_array().expect("endpoints").clone();
    let ejected = |address: std::net::SocketAddr| {
        let endpoint = endpoints
            .iter()
            .find(|one| one["address"] == address.to_string());
        endpoint.and_then(|endpoint| endpoint["ejected"].as_bool())
    };
    assert_eq!(
        (ejected(origin.address()), ejected(down.address())),
        (Some(false), Some(true)),
        "{shown}"
    );
}

#[test]
fn the_admin_listener_can_be_switched_off() {
    let origin = Origin::echo();
    let gateway = plain_with(&origin, "admin: off\n");
    assert_eq!(gateway.get("a.test", "/").status, 200);
    assert!(gateway.ready()["admin"].is_null());
}

#[test]
fn the_admin_listener_answers_while_traffic_is_stuck() {
    let gate = std::sync::Arc::new(wait::Gate::default());
    let waiting = std::sync::Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut origin::Connection| {
        while connection.request().is_some() {
            waiting.wait();
            connection.answer(origin::ok("done"));
        }
    });
    let gateway = plain(&origin);
    let mut clients: Vec<_> = (0..50).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(get("a.test", "/", ""));
    }
    origin.wait_until("they all arrive", |origin| origin.requests().len() == 50);
    assert_eq!(
        gateway.metric("cardea_upstream_requests_active", &[("upstream", "origin")]),
        Some(50.0)
    );
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "done");
    }
    let response = gateway.get("nobody.test", "/");
    assert_refused(&response, 404, "domain_unknown", "all is well");
}

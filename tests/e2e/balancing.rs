//! How requests spread over endpoints, and what happens when endpoints fail.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cardea_tests::origin::{self, Connection};
use cardea_tests::wait::{self, Gate};
use cardea_tests::{Gateway, Origin};

use crate::fixture::{assert_refused, get, post};

mod names;

/// Three origins that answer with their names.
fn trio() -> [Origin; 3] {
    ["a", "b", "c"].map(|name| Origin::serve(origin::saying(name)))
}

/// A gateway with one worker in front of `<a>`, `<b>` and `<c>`, with these upstream settings.
fn balanced(origins: &[Origin; 3], endpoints: &str, settings: &str) -> Gateway {
    let config = format!(
        r#"
workers: 1
domains:
  - hosts: [a.test]
    routes: [{{ to: pool }}]
upstreams:
  pool:
    endpoints: {endpoints}
{settings}
"#
    );
    let [a, b, c] = [0, 1, 2].map(|at| origins[at].address());
    Gateway::start(&config, &[("a", &a), ("b", &b), ("c", &c)])
}

/// Who answered how many of so many requests.
fn shares(gateway: &Gateway, count: usize) -> BTreeMap<String, usize> {
    let mut client = gateway.client();
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(client.get("a.test", "/").text()).or_default() += 1;
    }
    shares
}

fn as_shares(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs
        .iter()
        .map(|&(name, count)| (name.to_owned(), count))
        .collect()
}

const ALL: &str = r#"["<a>", "<b>", "<c>"]"#;

#[test]
fn round_robin() {
    let origins = trio();
    let gateway = balanced(&origins, ALL, "");
    assert_eq!(
        shares(&gateway, 30),
        as_shares(&[("a", 10), ("b", 10), ("c", 10)])
    );
}

#[test]
fn round_robin_by_weight() {
    let origins = trio();
    let endpoints = r#"[{ address: "<a>", weight: 3 }, "<b>", { address: "<c>", weight: 0 }]"#;
    let gateway = balanced(&origins, endpoints, "");
    assert_eq!(shares(&gateway, 40), as_shares(&[("a", 30), ("b", 10)]));
}

#[test]
fn random() {
    let origins = trio();
    let endpoints = r#"[{ address: "<a>", weight: 2 }, "<b>", "<c>"]"#;
    let gateway = balanced(&origins, endpoints, "    balance: random");
    let found = shares(&gateway, 400);
    // Half of 400, give or take five standard deviations.
    let half = found.get("a").copied().unwrap_or_default();
    assert!((150..=250).contains(&half), "{found:?}");
}

#[test]
fn least_request() {
    // One endpoint is stuck; new requests avoid it once it has more under way.
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let stuck = Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            waiting.wait();
            connection.answer(origin::ok("stuck"));
        }
    });
    let quick = Origin::serve(origin::saying("quick"));
    let config = r#"
workers: 1
domains:
  - hosts: [a.test]
    routes: [{ to: pool }]
upstreams:
  pool: { endpoints: ["<stuck>", "<quick>"], balance: least_request }
"#;
    let (stuck_at, quick_at) = (stuck.address(), quick.address());
    let gateway = Gateway::start(config, &[("stuck", &stuck_at), ("quick", &quick_at)]);
    let mut clients = Vec::new();
    while stuck.requests().is_empty() {
        let mut client = gateway.client();
        client.send(get("a.test", "/", ""));
        clients.push(client);
        let sent = clients.len();
        wait::until_true("the request arrives somewhere", || {
            stuck.requests().len() + quick.requests().len() >= sent
        });
    }
    assert_eq!(shares(&gateway, 50), as_shares(&[("quick", 50)]));
    gate.open();
}

#[test]
fn hashing_keeps_a_key_with_an_endpoint() {
    let origins = trio();
    for (balance, line) in [
        ("{ ring_hash: { by: { header: x-key } } }", "X-Key"),
        ("{ maglev: { by: { header: x-key } } }", "X-Key"),
        (
            "{ maglev: { by: { cookie: session } } }",
            "Cookie: other=1; session",
        ),
        ("{ ring_hash: { by: path } }", ""),
    ] {
        let gateway = balanced(&origins, ALL, &format!("    balance: {balance}"));
        let mut client = gateway.client();
        let mut endpoints = BTreeMap::new();
        for round in 0..3 {
            for key in 0..30 {
                let request = match line {
                    "" => get("a.test", &format!("/{key}?{round}"), ""),
                    "X-Key" => get("a.test", "/", &format!("X-Key: {key}\r\n")),
                    cookie => get("a.test", "/", &format!("{cookie}={key}\r\n")),
                };
                let name = client.ask(request).text();
                let before = endpoints.insert(key, name.clone());
                assert!(
                    before.is_none_or(|before| before == name),
                    "{balance}: {key} moved"
                );
            }
        }
        let used: std::collections::BTreeSet<_> = endpoints.values().collect();
        assert_eq!(used.len(), 3, "{balance}: {endpoints:?}");
    }
}

#[test]
fn hashing_by_client_and_without_the_key() {
    let origins = trio();
    for balance in [
        "{ maglev: { by: client_ip } }",
        "{ ring_hash: { by: { cookie: session } } }",
    ] {
        let gateway = balanced(&origins, ALL, &format!("    balance: {balance}"));
        assert_eq!(shares(&gateway, 10).len(), 1, "{balance}");
    }
}

#[test]
fn a_failing_endpoint_costs_no_request() {
    let mut origins = trio();
    origins[1].stop();
    let gateway = balanced(&origins, ALL, "");
    // Connections that cannot be opened are retried elsewhere, whatever the method.
    let mut client = gateway.client();
    for _ in 0..20 {
        let response = client.ask(post("a.test", "/", "body"));
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let retries = gateway.metric("cardea_upstream_retries_total", &[("upstream", "pool")]);
    assert!(retries >= Some(1.0), "{retries:?}");
}

#[test]
fn an_endpoint_that_keeps_failing_is_ejected() {
    let is_failing = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(AtomicUsize::new(0));
    let (failing, count) = (Arc::clone(&is_failing), Arc::clone(&asked));
    let flaky = Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            if failing.load(Ordering::SeqCst) {
                connection.answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            } else {
                connection.answer(origin::ok("back"));
            }
        }
    });
    let sound = Origin::serve(origin::saying("sound"));
    let config = r#"
workers: 2
domains:
  - hosts: [a.test]
    routes: [{ to: pool }]
upstreams:
  pool: { endpoints: ["<flaky>", "<sound>"], outlier: { consecutive_failures: 3, eject_for: 500ms } }
"#;
    let (flaky_at, sound_at) = (flaky.address(), sound.address());
    let gateway = Gateway::start(config, &[("flaky", &flaky_at), ("sound", &sound_at)]);
    let ejections = || gateway.metric("cardea_upstream_ejections_total", &[("upstream", "pool")]);
    wait::until_true("the endpoint is ejected", || {
        gateway.get("a.test", "/");
        ejections() >= Some(1.0)
    });
    let failures = asked.load(Ordering::SeqCst);
    assert!(
        (3..=8).contains(&failures),
        "{failures} failures until it was ejected"
    );
    // The state is shared: whatever worker has the connection, nobody asks it now.
    let lost = (0..10)
        .filter(|_| gateway.get("a.test", "/").status != 200)
        .count();
    assert_eq!(lost, 0);
    is_failing.store(false, Ordering::SeqCst);
    wait::until_true("the endpoint comes back", || {
        gateway.get("a.test", "/").text() == "back"
    });
}

#[test]
fn an_only_endpoint_is_never_ejected() {
    let origin = Origin::serve(origin::answering(
        "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
    ));
    let gateway = crate::fixture::plain(&origin);
    for _ in 0..20 {
        let response = gateway.get("a.test", "/");
        assert_eq!(
            (response.status, response.reason()),
            (503, None),
            "the origin's own answer"
        );
    }
}

/// An origin whose health a test decides.
fn checked(name: &'static str, is_well: &Arc<AtomicBool>) -> Origin {
    let is_well = Arc::clone(is_well);
    Origin::serve(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            match (request.target.as_str(), is_well.load(Ordering::SeqCst)) {
                ("/healthz", false) => {
                    connection.answer("HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n");
                }
                _ => connection.answer(origin::ok(name)),
            }
        }
    })
}

#[test]
fn active_http_checks() {
    let (a_is_well, b_is_well) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicBool::new(false)),
    );
    let (a, b) = (checked("a", &a_is_well), checked("b", &b_is_well));
    let config = r#"
domains:
  - hosts: [a.test]
    routes: [{ to: pool }]
upstreams:
  pool:
    endpoints: ["<a>", "<b>"]
    health: { http: { path: /healthz, host: check.test }, interval: 50ms, timeout: 1s, healthy_after: 2, unhealthy_after: 2 }
"#;
    let gateway = Gateway::start(config, &[("a", &a.address()), ("b", &b.address())]);
    let usable = |count: f64| {
        let labels = [("upstream", "pool"), ("state", "usable")];
        gateway.wait_for_metric("cardea_upstream_endpoints", &labels, count);
    };
    usable(1.0);
    assert_eq!(shares(&gateway, 10), as_shares(&[("a", 10)]));
    let check = b
        .requests()
        .into_iter()
        .find(|seen| seen.target == "/healthz")
        .expect("a check");
    assert_eq!(
        (check.method.as_str(), check.field("host")),
        ("GET", Some("check.test"))
    );
    b_is_well.store(true, Ordering::SeqCst);
    usable(2.0);
    assert_eq!(shares(&gateway, 10).len(), 2);
    a_is_well.store(false, Ordering::SeqCst);
    usable(1.0);
    assert_eq!(shares(&gateway, 10), as_shares(&[("b", 10)]));
    // If all checks fail, the checks may be wrong.
    b_is_well.store(false, Ordering::SeqCst);
    usable(0.0);
    assert_eq!(shares(&gateway, 10).values().sum::<usize>(), 10);
}

#[test]
fn active_tcp_checks() {
    let sound = Origin::serve(origin::saying("sound"));
    let mut gone = Origin::serve(origin::saying("gone"));
    let address = gone.address();
    gone.stop();
    let config = r#"
domains:
  - hosts: [a.test]
    routes: [{ to: pool }]
upstreams:
  pool:
    endpoints: ["<sound>", "<gone>"]
    retry: { attempts: 0 }
    outlier: off
    health: { tcp: true, interval: 50ms, timeout: 1s, healthy_after: 1, unhealthy_after: 1 }
"#;
    let gateway = Gateway::start(config, &[("sound", &sound.address()), ("gone", &address)]);
    let labels = [("upstream", "pool"), ("state", "usable")];
    gateway.wait_for_metric("cardea_upstream_endpoints", &labels, 1.0);
    assert_eq!(shares(&gateway, 10), as_shares(&[("sound", 10)]));
    let _back = Origin::serve_at(address, origin::saying("gone"));
    gateway.wait_for_metric("cardea_upstream_endpoints", &labels, 2.0);
    assert_eq!(shares(&gateway, 10).len(), 2);
}

/// A gateway in front of an origin that answers when the gate opens, with these limits.
fn capped(limits: &str, gate: &Arc<Gate>) -> (Gateway, Origin) {
    let waiting = Arc::clone(gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            waiting.wait();
            connection.answer(origin::ok("done"));
        }
    });
    let config = format!(
        r#"
domains:
  - hosts: [a.test]
    routes: [{{ to: pool }}]
upstreams:
  pool: {{ endpoints: ["<origin>"], limits: {limits} }}
"#
    );
    (
        Gateway::start(&config, &[("origin", &origin.address() as &dyn Display)]),
        origin,
    )
}

#[test]
fn caps_of_requests_and_connections() {
    for limits in ["{ requests_max: 2 }", "{ connections_max: 2 }"] {
        let gate = Arc::new(Gate::default());
        let (gateway, origin) = capped(limits, &gate);
        let mut clients: Vec<_> = (0..2).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send(get("a.test", "/", ""));
        }
        origin.wait_until("both requests arrive", |origin| {
            origin.requests().len() == 2
        });
        for _ in 0..4 {
            assert_refused(
                &gateway.get("a.test", "/"),
                503,
                "upstream_saturated",
                limits,
            );
        }
        gate.open();
        for client in &mut clients {
            assert_eq!(client.response().text(), "done", "{limits}");
        }
        let idle = || gateway.metric("cardea_upstream_requests_active", &[("upstream", "pool")]);
        wait::until_true("nothing is under way", || idle() == Some(0.0));
        let mut client = clients.pop().expect("two clients");
        assert_eq!(client.get("a.test", "/").text(), "done", "{limits}");
    }
}

#[test]
fn connections_are_kept_within_limits() {
    let origin = Origin::echo();
    let check = |pool: &str, expected: usize| {
        let before = origin.connections();
        let config = format!(
            r#"
workers: 1
domains:
  - hosts: [a.test]
    routes: [{{ to: pool }}]
upstreams:
  pool: {{ endpoints: ["<origin>"], pool: {pool} }}
"#
        );
        let gateway = Gateway::start(&config, &[("origin", &origin.address())]);
        let mut client = gateway.client();
        for _ in 0..6 {
            assert_eq!(client.get("a.test", "/").status, 200, "{pool}");
        }
        assert_eq!(origin.connections() - before, expected, "{pool}");
    };
    check("{}", 1);
    check("{ requests_per_connection_max: 2 }", 3);
    check("{ idle_per_worker_max: 0 }", 6);
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let origin = Origin::echo();
    let config = r#"
domains:
  - hosts: [a.test]
    routes: [{ to: pool }]
upstreams:
  pool: { endpoints: ["<origin>"], pool: { idle_timeout: 200ms } }
"#;
    let gateway = Gateway::start(config, &[("origin", &origin.address())]);
    assert_eq!(gateway.get("a.test", "/").status, 200);
    origin.wait_until("the idle connection closes", |origin| {
        origin.open_connections() == 0
    });
    assert_eq!(gateway.get("a.test", "/").status, 200);
}

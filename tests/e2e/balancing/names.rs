//! Endpoints that are names: resolved, followed, and never a reason not to start.

use cardea_tests::name_server::NameServer;
use cardea_tests::origin::{self};
use cardea_tests::{Gateway, Origin, wait};

use crate::fixture::assert_refused;

const CONFIG: &str = r#"
workers: 1
resolver: { servers: ["<dns>"], ttl_min: 100ms, timeout: 1s }
domains:
  - hosts: [a.test]
    routes: [{ to: pool }]
upstreams:
  pool: { endpoints: ["origin.internal.test:<port>"] }
"#;

fn start(dns: &NameServer, port: u16) -> Gateway {
    Gateway::start(CONFIG, &[("dns", &dns.address()), ("port", &port)])
}

/// Waits until a request is answered with this text.
#[track_caller]
fn wait_for(gateway: &Gateway, text: &str) {
    wait::until_true(text, || gateway.get("a.test", "/").text() == text);
}

#[test]
fn a_name_is_resolved() {
    let dns = NameServer::start();
    dns.set("origin.internal.test", &["127.0.0.1"], 60);
    let origin = Origin::serve(origin::saying("found"));
    let gateway = start(&dns, origin.address().port());
    wait_for(&gateway, "found");
    assert_eq!(origin.last_request().field("host"), Some("a.test"));
}

#[test]
fn a_name_that_does_not_resolve_is_a_warning() {
    let dns = NameServer::start();
    let origin = Origin::serve(origin::saying("found"));
    // It starts, it says so, it answers.
    let gateway = start(&dns, origin.address().port());
    let response = gateway.get("a.test", "/");
    assert_refused(&response, 503, "upstream_unresolved", "an unknown name");
    gateway.stderr.wait_for_line("origin.internal.test");
    assert_eq!(gateway.admin("GET", "/readyz").status, 200);
    // And it heals by itself.
    dns.set("origin.internal.test", &["127.0.0.1"], 60);
    wait_for(&gateway, "found");
}

#[test]
fn a_name_is_followed_when_its_time_is_up() {
    let dns = NameServer::start();
    dns.set("origin.internal.test", &["127.0.0.1"], 0);
    let first = Origin::serve(origin::saying("first"));
    let port = first.address().port();
    let second = Origin::serve_at(([127, 0, 0, 2], port).into(), origin::saying("second"));
    let gateway = start(&dns, port);
    wait_for(&gateway, "first");
    dns.set("origin.internal.test", &["127.0.0.2"], 0);
    wait_for(&gateway, "second");
    // Several addresses are several endpoints.
    dns.set("origin.internal.test", &["127.0.0.1", "127.0.0.2"], 0);
    wait_for(&gateway, "first");
    wait_for(&gateway, "second");
    drop((first, second));
}

#[test]
fn a_name_that_vanishes_keeps_its_last_addresses() {
    let dns = NameServer::start();
    dns.set("origin.internal.test", &["127.0.0.1"], 0);
    let origin = Origin::serve(origin::saying("found"));
    let gateway = start(&dns, origin.address().port());
    wait_for(&gateway, "found");
    dns.set("origin.internal.test", &[], 0);
    let asked = dns.questions();
    wait::until_true("the name is looked up again", || {
        dns.questions() > asked + 2
    });
    assert_eq!(gateway.get("a.test", "/").text(), "found");
}

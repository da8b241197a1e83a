//! Turning to a new configuration: by saving, by signal, by command; all or nothing; nothing that
//! did not change notices.

use std::fs;
use std::sync::Arc;

use cardea_tests::gateway::Site;
use cardea_tests::origin::{self, Connection};
use cardea_tests::wait::{self, Gate};
use cardea_tests::{Gateway, Origin};
use rustix::process::Signal;

use crate::fixture::{PLAIN, assert_refused, get, plain};

mod changes;
mod load;

/// A configuration whose only route answers with a text.
pub(crate) fn saying(text: &str) -> String {
    format!(
        "domains: [{{ hosts: [a.test], routes: [{{ policies: {{ respond: {{ body: {text} }} }} }}] }}]\n"
    )
}

/// Waits until the gateway answers with a text.
#[track_caller]
fn wait_for(gateway: &Gateway, text: &str) {
    wait::until_true(text, || gateway.get("a.test", "/").text() == text);
}

#[test]
fn by_saving_the_file() {
    let gateway = Gateway::start(&saying("one"), &[]);
    assert_eq!(gateway.generation(), 1);
    // In place, as many editors do.
    let text = fs::read_to_string(gateway.site().config_path()).expect("the configuration");
    fs::write(gateway.site().config_path(), text.replace("one", "two")).expect("write");
    wait_for(&gateway, "two");
    // By renaming a new file over it, as the others do.
    gateway.site().configure(&saying("three"), &[]);
    wait_for(&gateway, "three");
    // Removed and written anew.
    fs::remove_file(gateway.site().config_path()).expect("remove");
    gateway.site().configure(&saying("four"), &[]);
    wait_for(&gateway, "four");
    assert!(gateway.generation() >= 4);
    let said = gateway.stderr.wait_for_line("configuration_applied");
    assert!(said.contains("generation"), "{said}");
}

#[test]
fn by_swapping_a_symlink_as_a_config_map_does() {
    // A mounted ConfigMap: cardea.yaml -> ..data/cardea.yaml, ..data -> ..2026_1; an update makes
    // ..2026_2 and renames a new ..data over the old one.
    let site = Site::new();
    let publish = |site: &Site, version: &str| {
        site.write(&format!("..{version}/cardea.yaml"), &{
            let text = saying(version);
            format!("admin: {{ bind: \"127.0.0.1:0\" }}\nlisteners: [{{ name: web, bind: [\"127.0.0.1:0\"] }}]\n{text}")
        });
        let fresh = site.path().join("..data_tmp");
        std::os::unix::fs::symlink(format!("..{version}"), &fresh).expect("a symlink");
        fs::rename(fresh, site.path().join("..data")).expect("rename");
    };
    publish(&site, "one");
    std::os::unix::fs::symlink("..data/cardea.yaml", site.config_path()).expect("a symlink");
    let gateway = site.start_as_it_is();
    assert_eq!(gateway.get("a.test", "/").text(), "one");
    for version in ["two", "three"] {
        publish(gateway.site(), version);
        wait_for(&gateway, version);
    }
}

#[test]
fn by_signal() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    // Nothing changed, and the gateway goes on.
    gateway.signal(Signal::HUP);
    gateway.signal(Signal::HUP);
    assert_eq!(gateway.get("a.test", "/").status, 200);
    gateway.site().configure(&saying("new"), &[]);
    gateway.signal(Signal::HUP);
    wait_for(&gateway, "new");
}

#[test]
fn by_command() {
    let gateway = Gateway::start(&saying("one"), &[]);
    gateway.site().configure(&saying("two"), &[]);
    let finished = gateway.reload();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("generation"), "{finished:?}");
    // The verdict came after the fact.
    assert_eq!(gateway.get("a.test", "/").text(), "two");
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let gateway = Gateway::start(&saying("good"), &[]);
    let successful = || gateway.metric("cardea_config_last_reload_successful", &[]);
    let refused = || gateway.metric("cardea_config_reloads_total", &[("result", "refused")]);
    assert_eq!(successful(), Some(1.0));
    let mut count = refused().unwrap_or_default();
    for (bad, told) in [
        (saying("good").replace("respond", "resond"), "respond"),
        (saying("good").replace("a.test", "\"a test\""), "a test"),
        ("domains: [\n".to_owned(), "cardea.yaml"),
        (
            saying("good") + "listeners: [{ name: web, bind: [\"203.0.113.1:80\"] }]\n",
            "203.0.113.1",
        ),
        (
            saying("good") + "certificates: [{ name: x, chain: gone.pem, key: gone.key }]\n",
            "gone",
        ),
    ] {
        gateway.site().configure(&bad, &[]);
        let finished = gateway.reload();
        assert_eq!(finished.code, Some(1), "{bad}: {finished:?}");
        assert!(finished.stderr.contains(told), "{told}: {finished:?}");
        assert_eq!(gateway.get("a.test", "/").text(), "good", "{bad}");
        assert_eq!(successful(), Some(0.0), "{bad}");
        let now = refused().unwrap_or_default();
        assert!(now > count, "{bad}: {now}");
        count = now;
        gateway.stderr.wait_for_line("configuration_refused");
    }
    assert_eq!(gateway.generation(), 1);
    gateway.site().configure(&saying("better"), &[]);
    assert_eq!(gateway.reload().code, Some(0));
    assert_eq!(
        (successful(), gateway.get("a.test", "/").text()),
        (Some(1.0), "better".to_owned())
    );
}

#[test]
fn a_bad_file_that_is_saved_is_refused_without_being_asked() {
    let gateway = Gateway::start(&saying("good"), &[]);
    gateway.site().configure("nonsense: true\n", &[]);
    let said = gateway.stderr.wait_for("the refusal", |text| {
        text.contains("configuration_refused")
            .then(|| text.to_owned())
    });
    gateway.stderr.wait_for_line("nonsense");
    assert!(said.contains("keeps serving"), "{said}");
    assert_eq!(gateway.get("a.test", "/").text(), "good");
    assert_eq!(gateway.admin("GET", "/readyz").status, 200);
}

#[test]
fn nobody_to_ask() {
    let site = Site::new();
    let address = cardea_tests::gateway::free_address().to_string();
    let finished = site.cardea(&["reload", "--admin", &address]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(&address), "{finished:?}");
}

#[test]
fn included_files_count() {
    let site = Site::new();
    let domain = |host: &str, text: &str| {
        format!(
            "domains: [{{ hosts: [{host}], routes: [{{ policies: {{ respond: {{ body: {text} }} }} }}] }}]\n"
        )
    };
    site.write("domains/a.yaml", &domain("a.test", "one"));
    let gateway = site.start("include: [\"domains/*.yaml\"]\n", &[]);
    assert_eq!(gateway.get("a.test", "/").text(), "one");
    gateway
        .site()
        .write("domains/a.yaml", &domain("a.test", "two"));
    wait_for(&gateway, "two");
    gateway
        .site()
        .write("domains/b.yaml", &domain("b.test", "new"));
    wait::until_true("a new file", || gateway.get("b.test", "/").text() == "new");
    fs::remove_file(gateway.site().path().join("domains/a.yaml")).expect("remove");
    wait::until_true("a removed file", || {
        gateway.get("a.test", "/").status == 404
    });
    assert_eq!(gateway.get("b.test", "/").text(), "new");
}

#[test]
fn what_is_under_way_ends_as_it_began() {
    let gate = Arc::new(Gate::default());
    let waiting = Arc::clone(&gate);
    let origin = Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            waiting.wait();
            connection.answer(origin::ok("from the old upstream"));
        }
    });
    let old = format!(
        "{PLAIN}policies: {{ header_edits: {{ response: {{ set: {{ x-generation: old }} }} }} }}\n"
    );
    let gateway = Gateway::start(&old, &[("origin", &origin.address())]);
    let mut client = gateway.client();
    client.send(get("a.test", "/", ""));
    origin.wait_until("the request arrives", |origin| origin.requests().len() == 1);
    // Domain, route and upstream are gone while the request is under way.
    gateway.configure(&saying("new"), &[]);
    gate.open();
    let response = client.response();
    assert_eq!(response.text(), "from the old upstream");
    assert_eq!(response.field("x-generation"), Some("old"));
    // The next request of the same connection is served by the new configuration.
    let response = client.get("a.test", "/");
    assert_eq!(
        (response.text().as_str(), response.field("x-generation")),
        ("new", None)
    );
}

#[test]
fn a_websocket_survives() {
    let origin = Origin::serve(origin::websocket);
    let gateway = plain(&origin);
    let mut client = crate::tunnels::open(&gateway, "a.test");
    crate::tunnels::assert_echoes(&mut client, "before");
    gateway.configure(&saying("new"), &[]);
    for text in ["after", "and", "after"] {
        crate::tunnels::assert_echoes(&mut client, text);
    }
    assert_eq!(gateway.get("a.test", "/").text(), "new");
}

#[test]
fn an_idle_connection_is_served_by_the_new_configuration() {
    let gateway = Gateway::start(&saying("one"), &[]);
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").text(), "one");
    gateway.configure(&saying("two"), &[]);
    assert_eq!(client.get("a.test", "/").text(), "two");
}

#[test]
fn a_host_that_is_gone_is_unknown() {
    let gateway = Gateway::start(&saying("one"), &[]);
    gateway.configure(&saying("one").replace("a.test", "b.test"), &[]);
    assert_refused(
        &gateway.get("a.test", "/"),
        404,
        "domain_unknown",
        "the old host",
    );
    assert_eq!(gateway.get("b.test", "/").text(), "one");
}

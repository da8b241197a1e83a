//! A gateway that is killed at any step of an order goes on with it: no order is made twice, no
//! certificate lost, nothing is left lying about.

use std::path::{Path, PathBuf};

use cardea_tests::gateway::Gateway;
use rustix::process::Signal;

use super::authority::Ca;
use super::refusals::gateway_of;
use super::*;

const CERTIFICATES: &str = "[{ name: a, acme: { hosts: [a.test] } }]";

fn bundle(gateway: &Gateway) -> PathBuf {
    gateway.site().path().join("acme/certificates/a.pem")
}

fn order_file(gateway: &Gateway) -> PathBuf {
    gateway.site().path().join("acme/orders/a%20strict.json")
}

fn waits_until_served(gateway: &Gateway, ca: &Ca) {
    wait::until_true("the certificate is served", || {
        let address = gateway.listener("secure");
        let Ok(mut client) = Client::try_connect_tls(address, &ca.client(), "a.test") else {
            return false;
        };
        client.get("a.test", "/").status > 0
    });
}

fn killed(gateway: Gateway) -> Gateway {
    gateway.signal(Signal::KILL);
    gateway.restart()
}

/// Killed while the authority has done what was asked of it and not said so yet.
fn goes_on_after(step: &'static str) {
    let ca = Ca::new();
    ca.hold(step);
    let gateway = gateway_of(&ca, CERTIFICATES);
    ca.waits();
    assert!(order_file(&gateway).exists(), "{step}");
    gateway.signal(Signal::KILL);
    ca.go_on();
    let gateway = gateway.restart();
    waits_until_served(&gateway, &ca);
    assert_eq!(ca.orders().len(), 1, "{step}");
    assert_eq!(ca.asked("/account"), 1, "{step}");
    wait::until_true("no order is left", || !order_file(&gateway).exists());
}

#[test]
fn a_request_that_was_not_answered_is_not_made_for_another_order() {
    goes_on_after("/finalize/");
}

#[test]
fn a_state_that_was_not_told_is_asked_for_again() {
    goes_on_after("/order/");
}

#[test]
fn a_certificate_that_was_not_fetched_is_fetched() {
    goes_on_after("/cert/");
}

#[test]
fn a_certificate_that_could_not_be_written_is_not_lost() {
    let ca = Ca::new();
    ca.hold("/finalize/");
    let gateway = gateway_of(&ca, CERTIFICATES);
    ca.waits();
    // The disk is full, say: nothing can come to be here.
    let bundle = bundle(&gateway);
    std::fs::create_dir_all(bundle.join("in the way")).expect("make a directory");
    ca.go_on();
    let line = gateway.stderr.wait_for_line("certificate_not_issued");
    assert!(line.contains("cannot use"), "{line}");
    assert!(order_file(&gateway).exists());
    gateway.signal(Signal::KILL);
    std::fs::remove_dir_all(&bundle).expect("remove a directory");
    let gateway = gateway.restart();
    waits_until_served(&gateway, &ca);
    assert_eq!(ca.orders().len(), 1);
}

#[test]
fn nothing_is_ordered_that_could_not_be_written_down() {
    let ca = Ca::new();
    ca.hold("/account");
    let gateway = gateway_of(&ca, CERTIFICATES);
    ca.waits();
    let order = order_file(&gateway);
    std::fs::create_dir_all(order.join("in the way")).expect("make a directory");
    ca.go_on();
    gateway.stderr.wait_for_line("certificate_not_issued");
    assert_eq!(ca.orders().len(), 0);
    std::fs::remove_dir_all(&order).expect("remove a directory");
    waits_until_served(&killed(gateway), &ca);
    assert_eq!(ca.orders().len(), 1);
}

#[test]
fn an_order_that_is_left_beside_its_certificate_is_over() {
    let ca = Ca::new();
    ca.hold("/cert/");
    let gateway = gateway_of(&ca, CERTIFICATES);
    ca.waits();
    let order = std::fs::read(order_file(&gateway)).expect("an order");
    ca.go_on();
    waits_until_served(&gateway, &ca);
    // Killed between the two.
    std::fs::write(order_file(&gateway), order).expect("write an order");
    let gateway = killed(gateway);
    waits_until_served(&gateway, &ca);
    assert_eq!(ca.orders().len(), 1);
    // When it is renewed, that is another order, and not the old certificate once more.
    let before = std::fs::read(bundle(&gateway)).expect("a bundle");
    ca.wants_renewed_until(2);
    let gateway = gateway.restart();
    gateway.stderr.wait_for_line("certificate_stored");
    assert_eq!((ca.orders().len(), ca.asked("/cert/1")), (2, 1));
    let after = std::fs::read(bundle(&gateway)).expect("a bundle");
    assert_ne!(before, after);
}

#[test]
fn a_certificate_that_came_to_harm_is_set_aside_and_ordered_anew() {
    let ca = Ca::new();
    ca.hold("/new-order");
    let gateway = gateway_of(&ca, CERTIFICATES);
    ca.waits();
    gateway.signal(Signal::KILL);
    let harmed = bundle(&gateway);
    std::fs::create_dir_all(harmed.parent().expect("a directory")).expect("make a directory");
    std::fs::write(&harmed, "half of a key").expect("write a bundle");
    let checked = gateway.site().cardea(&["check", "--config", "cardea.yaml"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains("a.pem is damaged"), "{checked:?}");
    let gateway = gateway.restart();
    let line = gateway.stderr.wait_for_line("certificate_damaged");
    assert!(line.contains("acme/damaged/a.pem."), "{line}");
    assert!(line.contains("another one is ordered"), "{line}");
    let shown = tool::s_client(gateway.listener("secure"), &["-servername", "a.test"]);
    assert!(shown.stdout.contains("Cardea stand-in"), "{}", shown.stdout);
    ca.go_on();
    waits_until_served(&gateway, &ca);
    let aside = gateway.site().path().join("acme/damaged");
    let aside: Vec<_> = std::fs::read_dir(aside).expect("damaged files").collect();
    let aside = aside[0].as_ref().expect("a file").path();
    assert_eq!(
        std::fs::read_to_string(aside).ok().as_deref(),
        Some("half of a key")
    );
}

/// A certificate that is proved in the DNS, and the calls of the program that does it.
struct InTheDns {
    fixture: Fixture,
    gateway: Gateway,
}

impl InTheDns {
    /// Waits until its record is there; it takes longer to be seen than any test.
    fn new() -> Self {
        let fixture = Fixture::new();
        let issuer = ", challenge: { dns-01: { exec: { command: [sh, -c, 'echo $1 >> calls', sh], propagation: 10m } } }";
        let gateway = fixture.gateway(issuer, "[{ name: a, acme: { hosts: [a.test] } }]");
        let this = Self { fixture, gateway };
        this.has_called("present\n");
        this
    }

    fn has_called(&self, expected: &str) {
        has_called(self.gateway.site().path(), expected);
    }
}

fn has_called(directory: &Path, expected: &str) {
    wait::until_true("the program was called", || {
        let calls = std::fs::read_to_string(directory.join("calls"));
        calls.is_ok_and(|calls| calls == expected)
    });
}

#[test]
fn records_of_an_order_that_is_given_up_are_taken_away() {
    let given_up = InTheDns::new();
    let config = std::fs::read_to_string(given_up.gateway.site().config_path());
    let other = config.expect("a configuration");
    let other = other.replace("hosts: [a.test] } }]", "hosts: [b.test] } }]");
    given_up.gateway.configure(&other, &[]);
    // One for the order that was given up, one for that in its place.
    given_up.has_called("present\ncleanup\npresent\n");
}

#[test]
fn records_are_taken_away_at_the_end_of_the_process() {
    let InTheDns { gateway, fixture } = InTheDns::new();
    let mut gateway = gateway;
    gateway.signal(Signal::TERM);
    gateway.wait();
    has_called(gateway.site().path(), "present\ncleanup\n");
    drop(fixture);
}

#[test]
fn records_of_a_process_that_was_killed_are_taken_away_by_the_next() {
    let InTheDns { gateway, fixture } = InTheDns::new();
    let gateway = killed(gateway);
    // The order goes on, with its proof laid out once more.
    has_called(gateway.site().path(), "present\ncleanup\npresent\n");
    drop(fixture);
}

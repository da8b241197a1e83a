//! Clients that come in great numbers: silent ones, and ones that want to shake hands. They take
//! nothing from those who are served, nor from those who mean it.

use super::*;

/// As many as one worker lets wait for their turn.
const SHAKING_MAX: usize = 256;

fn with_listener(tls: &str, workers: usize) -> String {
    format!("workers: {workers}\n{}", CONFIG.replace("tls: {}", tls))
}

/// Whether something has come on a connection, or its end. Takes nothing.
fn has_heard(tcp: &TcpStream) -> bool {
    tcp.set_nonblocking(true).expect("a socket");
    let peeked = tcp.peek(&mut [0]);
    tcp.set_nonblocking(false).expect("a socket");
    peeked.is_ok()
}

#[test]
fn silent_clients_shut_nobody_out() {
    let secure = Secure::with(&with_listener("tls: {}", 1));
    let silent: Vec<_> = (0..2 * SHAKING_MAX + 100).map(|_| raw(&secure)).collect();
    // Some begin to speak, and stop.
    for mut tcp in silent.iter().step_by(3) {
        tcp.write_all(&[22, 3, 1, 1, 0, 1, 0])
            .expect("a connection that takes it");
    }
    for _ in 0..3 {
        assert_eq!(secure.client("a.test").get("a.test", "/").status, 200);
    }
    assert!(
        silent.iter().all(|tcp| !has_heard(tcp)),
        "none of them is shut out either"
    );
    let refused = [("result", "refused")];
    let refused = secure
        .gateway
        .metric("cardea_tls_handshakes_total", &refused);
    assert!(refused.is_none_or(|count| count == 0.0));
}

#[test]
fn clients_that_do_not_answer_shut_nobody_out() {
    let secure = Secure::with(&with_listener("tls: {}", 1));
    let mut waiting = Vec::new();
    for _ in 0..SHAKING_MAX + 50 {
        let (_, bytes) = handshakes::hello(&secure);
        let mut tcp = raw(&secure);
        tcp.write_all(&bytes).expect("a connection that takes it");
        waiting.push(tcp);
        // No more of them at once than may wait for their turn.
        if waiting.len() % 100 == 0 {
            wait::until_true("they are answered", || waiting.iter().all(has_heard));
        }
    }
    wait::until_true("they are answered", || waiting.iter().all(has_heard));
    assert_eq!(secure.client("a.test").get("a.test", "/").status, 200);
}

#[test]
fn the_client_that_was_silent_longest_makes_room() {
    let secure = Secure::with(&with_listener("tls: { silent_max: 8 }", 1));
    let silent: Vec<_> = (0..8).map(|_| raw(&secure)).collect();
    let open = [("listener", "secure")];
    secure
        .gateway
        .wait_for_metric("cardea_connections_open", &open, 8.0);
    assert!(!silent.iter().any(has_heard));
    let late = raw(&secure);
    wait::until_true("the first one is let go", || has_heard(&silent[0]));
    let counted = "cardea_tls_handshakes_total";
    secure
        .gateway
        .wait_for_metric(counted, &[("result", "silent")], 1.0);
    assert!(!silent[1..].iter().chain([&late]).any(has_heard));
    assert_eq!(secure.client("a.test").get("a.test", "/").status, 200);
}

#[test]
fn a_flood_of_handshakes_does_not_starve_established_connections() {
    // A signature of such a key takes as long as a hundred requests.
    const SHAKING: usize = 200;
    let authority = Authority::new("clients trust this");
    let site = Site::new();
    for name in ["exact", "wild", "main"] {
        authority.issue_slow(&["a.test"]).save(site.path(), name);
    }
    let origin = Origin::echo();
    let config = with_listener("tls: {}", 1);
    let gateway = site.start(&config, &[("origin", &origin.address())]);
    let secure = Secure {
        authority,
        gateway,
        origin,
    };
    let mut established = secure.client("a.test");
    assert_eq!(established.get("a.test", "/").status, 200);
    let (_, bytes) = handshakes::hello(&secure);
    let mut shaking: Vec<_> = (0..SHAKING).map(|_| raw(&secure)).collect();
    for tcp in &mut shaking {
        tcp.write_all(&bytes).expect("a connection that takes it");
    }
    let answered = |shaking: &[TcpStream]| shaking.iter().filter(|tcp| has_heard(tcp)).count();
    let before = answered(&shaking);
    for _ in 0..10 {
        assert_eq!(established.get("a.test", "/").status, 200);
    }
    // Each of the requests waited for a signature or two, and not for all that were due.
    let meanwhile = answered(&shaking) - before;
    assert!(
        meanwhile <= SHAKING / 2,
        "{before} and then {meanwhile} were answered"
    );
    wait::until_true("all are answered", || answered(&shaking) == SHAKING);
}

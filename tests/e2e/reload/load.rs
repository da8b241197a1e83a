//! Reloads under load: not one request may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cardea_tests::{Client, Gateway, Origin, origin, tool};

use crate::fixture::PLAIN;

/// How often the configuration changes in a run.
const RELOADS: usize = 30;

/// A configuration that differs from generation to generation in everything but the answer.
fn generation(number: usize) -> String {
    let more: String = (0..number % 7)
        .map(|at| format!("  - {{ hosts: [x{at}-{number}.test], routes: [{{ to: origin }}] }}\n"))
        .collect();
    let (domains, upstreams) = PLAIN
        .split_once("upstreams:")
        .expect("a fixture with upstreams");
    format!(
        "{domains}{more}upstreams:{upstreams}  extra-{number}: {{ endpoints: [\"127.0.0.1:9\"] }}\n\
         policies: {{ header_edits: {{ response: {{ set: {{ x-generation: \"{number}\" }} }} }} }}\n"
    )
}

#[test]
fn no_request_fails() {
    let origin = Origin::serve(origin::saying("fine"));
    let values = [("origin", &origin.address() as &dyn std::fmt::Display)];
    let gateway = Gateway::start(&generation(0), &values);
    let address = gateway.listener("web");
    let is_over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            thread::spawn(move || {
                let mut client = Client::connect(address);
                while !is_over.load(Ordering::SeqCst) {
                    if number % 2 == 0 {
                        // Half of them connect anew each time.
                        client = Client::connect(address);
                    }
                    let response = client.get("a.test", "/");
                    assert_eq!((response.status, response.text().as_str()), (200, "fine"));
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for number in 1..=RELOADS {
        let before = served.load(Ordering::SeqCst);
        gateway.configure(&generation(number), &values);
        cardea_tests::wait::until_true("requests go on", || served.load(Ordering::SeqCst) > before);
    }
    is_over.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("a client without a failed request");
    }
    assert_eq!(gateway.get("a.test", "/").field("x-generation"), Some("30"));
}

#[test]
fn no_request_of_wrk_fails() {
    let origin = Origin::serve(origin::saying("fine"));
    let values = [("origin", &origin.address() as &dyn std::fmt::Display)];
    // Keepalive that ends now and then is part of the load, and so is the log.
    let gateway = Gateway::start(&generation(0), &values);
    let url = format!("http://{}/", gateway.listener("web"));
    let running = thread::spawn(move || {
        tool::wrk(&[
            "--threads",
            "1",
            "--connections",
            "16",
            "--duration",
            "3s",
            "--header",
            "Host: a.test",
            &url,
        ])
    });
    let mut number = 0;
    while !running.is_finished() {
        number += 1;
        gateway.configure(&generation(number), &values);
    }
    let report = running.join().expect("wrk runs").stdout;
    assert!(report.contains("Requests/sec"), "{report}");
    assert!(
        !report.contains("Socket errors") && !report.contains("Non-2xx"),
        "{report}"
    );
    assert!(number > 3, "{number} reloads");
}

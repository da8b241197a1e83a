//! The diagnostics log: what it says, and that it never holds up the gateway.

use std::io;
use std::time::{Duration, Instant};

use cardea_tests::gateway::Site;
use cardea_tests::process::Process;
use cardea_tests::{Origin, wait};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{PLAIN, plain, plain_with};

#[test]
fn nobody_reads_standard_error() {
    let origin = Origin::echo();
    let (unread, writing) = io::pipe().expect("a pipe");
    fcntl_setpipe_size(&writing, 4096).expect("a small pipe");
    let site = Site::new();
    let config = format!("{PLAIN}diagnostics: {{ queue_lines_max: 8 }}\n");
    site.configure(&config, &[("origin", &origin.address())]);
    let mut gateway = site.start_by(|command| Process::start_complaining_to(command, writing));
    let dropped = || gateway.metric("cardea_diagnostics_lines_dropped_total", &[]);
    assert_eq!(dropped(), Some(0.0));
    // Every reload is told, until there is no room in the pipe nor in the queue.
    wait::until_true("lines are dropped", || {
        assert_eq!(gateway.admin("POST", "/reload").status, 200);
        dropped() > Some(8.0)
    });
    assert_eq!(gateway.get("a.test", "/").status, 200);
    gateway.configure(
        &config.replace("a.test", "b.test"),
        &[("origin", &origin.address())],
    );
    assert_eq!(gateway.get("b.test", "/").status, 200);
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(4));
    for line in gateway.stdout.lines() {
        let parsed = serde_json::from_str::<Value>(&line);
        assert!(parsed.is_ok(), "not of the access log: {line}");
    }
    drop(unread);
}

#[test]
fn the_last_words_of_a_start_that_fails_are_written() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let site = Site::new();
    // An upstream that nobody uses is a warning, which is logged before the start fails.
    let config = "domains: [{ hosts: [a.test], routes: [{ to: origin }] }]\n\
                  upstreams: { origin: { endpoints: [\"127.0.0.1:9\"] }, idle: { endpoints: [\"127.0.0.1:9\"] } }\n\
                  listeners: [{ name: web, bind: [\"<taken>\"] }]\n";
    site.configure(config, &[("taken", &address)]);
    let path = site.config_path();
    let finished = site.cardea(&["run", "--config", &path.display().to_string()]);
    assert_eq!(finished.code, Some(1));
    let warned = finished.stderr.find("idle").expect("a warning");
    let refused = finished.stderr.find("cardea: ").expect("a reason");
    assert!(warned < refused, "{}", finished.stderr);
}

#[test]
fn what_is_no_level_is_refused() {
    let site = Site::new();
    let config = format!("{PLAIN}diagnostics: {{ level: inof }}\n");
    site.configure(&config, &[("origin", &"127.0.0.1:9")]);
    let path = site.config_path();
    let finished = site.cardea(&["check", "--config", &path.display().to_string()]);
    assert_eq!(finished.code, Some(1));
    for part in ["`inof` is no log level", "did you mean `info`?"] {
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
    }
}

#[test]
fn the_log_level_changes_at_run_time() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let address = gateway.admin_address();
    let put = |level: &str| {
        let length = level.len();
        cardea_tests::Client::connect(address).ask(format!(
            "PUT /log-level HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{level}"
        ))
    };
    assert!(gateway.admin("GET", "/log-level").text().contains("info"));
    assert_eq!(put("debug").status, 200);
    assert!(gateway.admin("GET", "/log-level").text().contains("debug"));
    for bad in ["shouting,=", "inof", "cardea_gateway"] {
        let response = put(bad);
        assert_eq!(response.status, 400, "{bad}: {response:?}");
    }
    assert!(gateway.admin("GET", "/log-level").text().contains("debug"));
    assert_eq!(put("error").status, 200);
}

#[test]
fn the_diagnostics_log_as_json() {
    let origin = Origin::echo();
    let gateway = plain_with(&origin, "diagnostics: { format: json }\n");
    let line = gateway.stderr.wait_for_line("gateway_started");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["level"], "INFO", "{line}");
}

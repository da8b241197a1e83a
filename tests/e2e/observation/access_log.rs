//! The access log: one line per exchange, whatever a client sends, and never in the way.

use std::fs;

use cardea_tests::gateway::Site;
use cardea_tests::{Gateway, Origin, wait};

use crate::fixture::{PLAIN, get, plain, plain_with, post};

#[test]
fn json_lines_tell_the_exchange() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    let mut client = gateway.client();
    client.ask(get(
        "a.test",
        "/x//y?q=1",
        "User-Agent: me\r\nReferer: http://r.test/\r\n",
    ));
    client.ask(post("a.test", "/", "12345"));
    let line = gateway.log_line("the GET", |line| line["method"] == "GET");
    let expected = [
        ("client", "127.0.0.1"),
        ("host", "a.test"),
        ("path", "/x/y"),
        ("query", "q=1"),
        ("protocol", "HTTP/1.1"),
        ("listener", "web"),
        ("domain", "a.test"),
        ("route", "route-1"),
        ("upstream", "origin"),
        ("user_agent", "me"),
        ("referer", "http://r.test/"),
    ];
    for (field, value) in expected {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    assert_eq!(line["endpoint"], origin.address().to_string());
    assert_eq!(
        (&line["status"], &line["generation"]),
        (&200.into(), &1.into())
    );
    assert!(line["duration_ms"].is_number(), "{line}");
    let line = gateway.log_line("the POST", |line| line["method"] == "POST");
    assert_eq!(line["bytes_received"], 5);
    assert!(line["bytes_sent"].as_u64() > Some(0), "{line}");
}

#[test]
fn refusals_are_logged_too() {
    let origin = Origin::echo();
    let gateway = plain(&origin);
    gateway.ask("GET / HTTP/1.1\nHost: a.test\r\n\r\n");
    let line = gateway.log_line("the refusal", |line| {
        line["reason"] == "line_ending_invalid"
    });
    assert_eq!(line["status"], 400);
    gateway.get("nobody.test", "/\"quoted\"");
}

#[test]
fn common_and_combined() {
    let origin = Origin::echo();
    let check = |format: &str, end: &str| {
        let gateway = plain_with(
            &origin,
            &format!("access_log: {{ format: {format}, to: stdout }}\n"),
        );
        gateway.ask(get(
            "a.test",
            "/x?y",
            "User-Agent: a \"quoted\" \\agent\r\nReferer: http://r.test/\r\n",
        ));
        let line = gateway.stdout.wait_for_line("GET");
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert!(line.contains("] \"GET /x?y HTTP/1.1\" 200 "), "{line}");
        assert!(line.ends_with(end), "{line}");
    };
    let length = |line: &str| {
        line.rsplit(' ')
            .next()
            .is_some_and(|last| last.parse::<u32>().is_ok())
    };
    check(
        "combined",
        r#""http://r.test/" "a \x22quoted\x22 \x5cagent""#,
    );
    let gateway = plain_with(&origin, "access_log: { format: common, to: stdout }\n");
    gateway.get("a.test", "/");
    let line = gateway.stdout.wait_for_line("GET");
    assert!(length(&line), "{line}");
}

#[test]
fn a_template_of_the_operators_own() {
    let origin = Origin::echo();
    let gateway = plain_with(
        &origin,
        "access_log: { format: { template: \"<{status}> {method} {host}{path} {upstream} {reason} {user_agent}\" }, to: stdout }\n",
    );
    gateway.ask(get("a.test", "/x", "User-Agent: a\"b\r\n"));
    let line = gateway.stdout.wait_for_line("<200>");
    assert!(line.starts_with("<200> GET a.test/x origin - a"), "{line}");
    gateway.get("nobody.test", "/");
    gateway
        .stdout
        .wait_for_line("<404> GET nobody.test/ - domain_unknown -");
}

#[test]
fn a_line_is_a_line_whatever_a_client_sends() {
    let origin = Origin::echo();
    for format in [
        "json",
        "common",
        "combined",
        "{ template: \"{client} {path} {query} {user_agent}\" }",
    ] {
        let gateway = plain_with(
            &origin,
            &format!("access_log: {{ format: {format}, to: stdout }}\n"),
        );
        let mut client = gateway.client();
        let odd = [
            "\x1b[31mred",
            "\t\t",
            "\u{ff}\u{fe}",
            "a\"b\"c",
            "\\n\\r",
            "{\"x\":1}",
            "%0a%0d",
            "' OR 1",
        ];
        for text in odd {
            // Sent as single bytes, so that they are not even UTF-8.
            let bytes: Vec<u8> = format!("User-Agent: {text}\r\n")
                .chars()
                .map(|char| char as u8)
                .collect();
            let head = b"GET /?q=%0A HTTP/1.1\r\nHost: a.test\r\n";
            client = if text.contains('\x1b') {
                gateway.client()
            } else {
                client
            };
            client.send([head.as_slice(), &bytes, b"\r\n"].concat());
            let response = client.response();
            if response.status != 200 {
                client = gateway.client();
            }
        }
        gateway.stdout.wait_for("a line each", |text| {
            (text.lines().count() >= odd.len()).then_some(())
        });
        let text = gateway.stdout.text();
        assert_eq!(text.lines().count(), odd.len(), "{format}: {text}");
        assert!(
            text.bytes()
                .all(|byte| byte == b'\n' || !byte.is_ascii_control()),
            "{format}: {text:?}"
        );
        if format == "json" {
            for line in text.lines() {
                serde_json::from_str::<serde_json::Value>(line).expect("JSON");
            }
        }
    }
}

#[test]
fn a_file_that_is_rotated() {
    let origin = Origin::echo();
    let site = Site::new();
    let log = site.path().join("access.log");
    let config = format!("{PLAIN}access_log: {{ format: json, to: {{ file: access.log }} }}\n");
    let gateway = site.start(&config, &[("origin", &origin.address())]);
    let lines =
        |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    gateway.get("a.test", "/");
    wait::until_true("a line", || lines(&log) == 1);
    let old = log.with_extension("1");
    fs::rename(&log, &old).expect("rotate");
    wait::until_true("lines go to the new file", || {
        gateway.get("a.test", "/");
        lines(&log) > 0
    });
    wait::until_true("every line is somewhere", || {
        lines(&log) + lines(&old) == origin.requests().len()
    });
}

#[test]
fn a_reader_that_stops_costs_lines_and_no_request() {
    let origin = Origin::echo();
    // A pipe that nobody reads: it is full after 64 KiB.
    let site = Site::new();
    let fifo = site.path().join("access.log");
    let made = cardea_tests::process::run(&mut cardea_tests::process::command("mkfifo", &[&fifo]));
    assert_eq!(made.code, Some(0), "{made:?}");
    // Both ends, so that opening does not wait for a reader.
    let _reader = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)
        .expect("a pipe");
    let config = format!(
        "{PLAIN}access_log: {{ format: json, to: {{ file: access.log }}, queue_lines_max: 64 }}\n"
    );
    let gateway: Gateway = site.start(&config, &[("origin", &origin.address())]);
    let mut client = gateway.client();
    let agent = format!("User-Agent: {}\r\n", "x".repeat(4000));
    wait::until_true("lines are dropped, and counted", || {
        assert_eq!(client.ask(get("a.test", "/", &agent)).status, 200);
        gateway.metric("cardea_access_log_lines_dropped_total", &[]) > Some(0.0)
    });
}

#[test]
fn it_can_be_switched_off() {
    let origin = Origin::echo();
    let gateway = plain_with(&origin, "access_log: off\n");
    gateway.get("a.test", "/");
    gateway.wait_for_metric("cardea_requests_total", &[("code", "2xx")], 1.0);
    assert_eq!(gateway.stdout.text(), "");
}

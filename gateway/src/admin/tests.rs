//! The admin listener over real connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;

/// The longest a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

struct Fake {
    readiness: Mutex<Readiness>,
    level: Mutex<String>,
    reloads: AtomicUsize,
    /// Holds up metrics until the other end is dropped.
    holdup: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Backend for Fake {
    fn readiness(&self) -> Readiness {
        *self.readiness.lock().unwrap()
    }

    fn metrics(&self) -> String {
        let holdup = self.holdup.lock().unwrap().take();
        if let Some(holdup) = holdup {
            assert!(holdup.recv().is_err(), "the other end is dropped");
        }
        "cardea_build_info 1\n".to_owned()
    }

    fn config(&self) -> Value {
        panic!("a backend that fails")
    }

    fn routes(&self) -> Value {
        json!([{ "name": "shop" }])
    }

    fn upstreams(&self) -> Value {
        json!([])
    }

    fn certificates(&self) -> Value {
        json!([])
    }

    fn log_level(&self) -> String {
        self.level.lock().unwrap().clone()
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        if level.starts_with("no") {
            return Err(format!("`{level}` is no level"));
        }
        *self.level.lock().unwrap() = level.to_owned();
        Ok(())
    }

    fn reload(&self) -> Result<Value, Value> {
        match self.reloads.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(json!({ "generation": 2, "changes": ["+ domain shop"] })),
            _ => Err(json!({ "diagnostics": "error: no such upstream" })),
        }
    }
}

struct Running {
    admin: Admin,
    fake: Arc<Fake>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.admin.stop();
    }
}

fn start(limits: Limits) -> Running {
    let fake = Arc::new(Fake {
        readiness: Mutex::new(Readiness::Starting),
        level: Mutex::new("info".to_owned()),
        reloads: AtomicUsize::new(0),
        holdup: Mutex::new(None),
    });
    let bind = (Ipv4Addr::LOCALHOST, 0).into();
    let backend: Arc<dyn Backend> = Arc::clone(&fake) as Arc<dyn Backend>;
    let admin = Admin::start_limited(bind, backend, limits).unwrap();
    Running { admin, fake }
}

fn connect(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.admin.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What the server sends until it closes.
fn rest(mut stream: TcpStream) -> String {
    let mut received = Vec::new();
    // A reset after the answer is as good as a close.
    let _ = stream.read_to_end(&mut received);
    String::from_utf8(received).unwrap()
}

fn send(running: &Running, request: &str) -> (u16, String) {
    let mut stream = connect(running);
    stream.write_all(request.as_bytes()).unwrap();
    let answer = rest(stream);
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
    (status.unwrap_or_default(), answer)
}

fn ask(running: &Running, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let (status, answer) = send(running, &request);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    (status, body.unwrap_or_default().to_owned())
}

#[test]
fn every_endpoint_of_the_list_is_there() {
    let running = start(Limits::default());
    let (status, body) = ask(&running, "GET", "/", "");
    assert_eq!(status, 200);
    let index: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        index["endpoints"].as_array().unwrap().len(),
        ENDPOINTS.len()
    );
    for (method, path, _) in ENDPOINTS {
        let (status, _) = ask(&running, method, path, "info");
        assert!(
            !matches!(status, 0 | 404 | 405),
            "{method} {path}: {status}"
        );
    }
}

#[test]
fn answers_are_documents() {
    let running = start(Limits::default());
    let check = |method: &str, path: &str, body: &str, expected: (u16, &str)| {
        let (status, answer) = ask(&running, method, path, body);
        assert_eq!((status, answer.as_str()), expected, "{method} {path}");
    };
    check("GET", "/healthz", "", (200, r#"{"status":"healthy"}"#));
    check("GET", "/metrics", "", (200, "cardea_build_info 1\n"));
    check("GET", "/routes", "", (200, r#"[{"name":"shop"}]"#));
    check(
        "GET",
        "/nothing",
        "",
        (
            404,
            r#"{"error":"there is nothing here; `/` lists what there is"}"#,
        ),
    );
    check(
        "POST",
        "/healthz",
        "",
        (
            405,
            r#"{"error":"not with this method; `/` lists what there is"}"#,
        ),
    );
    check(
        "GET",
        "/config",
        "",
        (500, r#"{"error":"this failed; the log says why"}"#),
    );
    check("GET", "/healthz", "", (200, r#"{"status":"healthy"}"#));
}

#[test]
fn readiness_follows_the_life_of_the_process() {
    let running = start(Limits::default());
    let check = |readiness: Readiness, expected: (u16, &str)| {
        *running.fake.readiness.lock().unwrap() = readiness;
        let (status, body) = ask(&running, "GET", "/readyz", "");
        assert_eq!((status, body.as_str()), expected);
    };
    check(Readiness::Starting, (503, r#"{"status":"starting"}"#));
    check(Readiness::Ready, (200, r#"{"status":"ready"}"#));
    check(Readiness::Draining, (503, r#"{"status":"draining"}"#));
}

#[test]
fn the_log_level_is_changed_by_text_or_json() {
    let running = start(Limits::default());
    let check = |body: &str, expected: (u16, &str)| {
        let (status, answer) = ask(&running, "PUT", "/log-level", body);
        assert_eq!((status, answer.as_str()), expected, "{body}");
    };
    check("debug\n", (200, r#"{"level":"debug"}"#));
    check(r#"{"level":"warn"}"#, (200, r#"{"level":"warn"}"#));
    check("no", (400, r#"{"error":"`no` is no level"}"#));
    let no_level = r#"{"error":"the body is not a level; send `info`, or {\"level\": \"info\"}"}"#;
    check("", (400, no_level));
    check("{}", (400, no_level));
    check("{\"level\":1}", (400, no_level));
    let (status, body) = ask(
        &running,
        "PUT",
        "/log-level",
        &"x".repeat(BODY_BYTES_MAX + 1),
    );
    assert_eq!(status, 413);
    assert!(body.starts_with(r#"{"error":"#), "{body}");
    let (_, body) = ask(&running, "GET", "/log-level", "");
    assert_eq!(body, r#"{"level":"warn"}"#);
}

#[test]
fn a_reload_answers_with_its_verdict() {
    let running = start(Limits::default());
    let applied = r#"{"changes":["+ domain shop"],"generation":2}"#;
    let refused = r#"{"diagnostics":"error: no such upstream"}"#;
    for expected in [(200, applied), (422, refused)] {
        let (status, body) = ask(&running, "POST", "/reload", "");
        assert_eq!((status, body.as_str()), expected);
    }
    assert_eq!(ask(&running, "GET", "/reload", "").0, 405);
    assert_eq!(running.fake.reloads.load(Ordering::Relaxed), 2);
}

#[test]
fn a_page_reaches_nothing() {
    let running = start(Limits::default());
    let check = |fields: &str, expected: u16| {
        let request = format!("POST /reload HTTP/1.1\r\n{fields}connection: close\r\n\r\n");
        let (status, answer) = send(&running, &request);
        assert_eq!(status, expected, "{fields}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
        assert!(
            answer.contains("x-content-type-options: nosniff"),
            "{answer}"
        );
    };
    check("host: evil.example\r\n", 421);
    check("host: 127.0.0.1\r\norigin: http://evil.example\r\n", 403);
    check("host: 127.0.0.1\r\nsec-fetch-site: cross-site\r\n", 403);
    assert_eq!(running.fake.reloads.load(Ordering::Relaxed), 0);
}

#[test]
fn a_slow_answer_holds_up_neither_health_nor_readiness() {
    let running = start(Limits {
        request_timeout: Duration::from_millis(100),
        ..Limits::default()
    });
    let (release, holdup) = mpsc::channel::<()>();
    *running.fake.holdup.lock().unwrap() = Some(holdup);
    let (status, _) = ask(&running, "GET", "/metrics", "");
    assert_eq!(status, 503, "the answer takes too long");
    assert_eq!(ask(&running, "GET", "/healthz", "").0, 200);
    assert_eq!(ask(&running, "GET", "/readyz", "").0, 503);
    drop(release);
    assert_eq!(ask(&running, "GET", "/metrics", "").0, 200);
}

#[test]
fn slow_and_idle_clients_are_let_go() {
    let running = start(Limits {
        connections_max: 2,
        head_timeout: Duration::from_millis(100),
        ..Limits::default()
    });
    let silent = connect(&running);
    let mut slow = connect(&running);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost").unwrap();
    // Both places are taken; a third client is served once they are free again.
    assert_eq!(ask(&running, "GET", "/healthz", "").0, 200);
    assert_eq!(rest(silent), "");
    rest(slow);
}

#[test]
fn a_connection_does_not_live_for_ever() {
    let running = start(Limits {
        connection_age_max: Duration::from_millis(50),
        ..Limits::default()
    });
    let started = Instant::now();
    let mut stream = connect(&running);
    let request = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    stream.write_all(request).unwrap();
    let answer = rest(stream);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn a_stopped_listener_closes_its_address() {
    let running = start(Limits::default());
    let idle = connect(&running);
    assert_eq!(ask(&running, "GET", "/healthz", "").0, 200);
    running.admin.stop();
    assert_eq!(rest(idle), "");
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(running.admin.address()).is_ok() {
        assert!(Instant::now() < end, "the address is still open");
        std::thread::yield_now();
    }
}

#[test]
fn an_address_in_use_is_an_error() {
    let running = start(Limits::default());
    let backend: Arc<dyn Backend> = Arc::clone(&running.fake) as Arc<dyn Backend>;
    let again = Admin::start(running.admin.address(), backend);
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

//! Lines as they are read, and the way they take.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cardea_certs::peer::PeerCertificate;
use cardea_certs::server::PolicyIdentity;

use super::*;
use crate::telemetry::metrics::LogCounts;
use crate::traffic::exchange::{Introduction, Protocol, TlsIdentity};
use crate::traffic::headers::{HeaderName, Headers};
use crate::traffic::proxy_protocol::{Tls, Tlvs, kind, push, push_tls};

/// The longest a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn headers(fields: &[(&str, &[u8])]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.append(&HeaderName::new(name), value);
    }
    headers
}

fn record(headers: &Headers) -> Record<'_> {
    Record {
        started: Instant::now(),
        client: "192.0.2.1".parse().unwrap(),
        peer: "[2001:db8::1]:4000".parse().unwrap(),
        introduction: None,
        method: b"GET",
        authority: b"example.com",
        path: b"/a",
        query: Some(b"b=1"),
        headers,
        protocol: Protocol::Http11,
        tls: None,
        status: 200,
        reason: None,
        bytes_received: 0,
        bytes_sent: 12,
        duration: Duration::from_micros(1234),
        request_id: b"abc",
        listener: "web",
        domain: Some("shop"),
        route: Some("api"),
        upstream: Some("app"),
        endpoint: Some("127.0.0.1:3000".parse().unwrap()),
        upstream_connect: None,
        upstream_first_byte: Some(Duration::from_millis(1)),
        retries: 0,
        generation: 1,
        stream: None,
    }
}

/// The line that a log would have.
fn line(format: &Format, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    format.write(record, &mut time::Clock::default(), &mut out);
    String::from_utf8(out).unwrap()
}

/// A line without what depends on when it was written.
fn without_time(line: &str, from: &str, to: &str) -> String {
    let (before, rest) = line.split_once(from).unwrap();
    let (_, after) = rest.split_once(to).unwrap();
    format!("{before}{from}…{to}{after}")
}

/// What a proxy may say.
fn introduction() -> Introduction {
    let mut inside = Vec::new();
    push(&mut inside, kind::TLS_VERSION, b"TLSv1.3");
    push(&mut inside, kind::TLS_COMMON_NAME, b"someone");
    let mut values = Vec::new();
    push(&mut values, kind::AUTHORITY, b"a.test");
    push(&mut values, 0xea, b"\x01vpce\"");
    push(&mut values, kind::NOOP, b"\0");
    push(&mut values, 0x30, b"");
    push(&mut values, 0xea, b"again");
    push(&mut values, kind::UNIQUE_ID, b"x\0y");
    push(&mut values, kind::ALPN, b"h2");
    let tls = Tls {
        client: 3,
        is_verified: true,
        tlvs: Tlvs(&inside),
    };
    push_tls(&mut values, &tls);
    Introduction {
        proxy: "10.0.0.9:5".parse().unwrap(),
        destination: Some("10.0.0.1:443".parse().unwrap()),
        values: values.into(),
    }
}

#[test]
fn what_a_proxy_said_can_be_written_by_number() {
    let headers = Headers::default();
    let introduction = introduction();
    let record = Record {
        introduction: Some(&introduction),
        ..record(&headers)
    };
    let template = "{peer} {proxy} {proxy_tlv:0xEA} {proxy_tlv:2} {proxy_tlv:0xeb} {proxy_tlvs}";
    let format = Format::template(template).unwrap();
    assert_eq!(
        line(&format, &record),
        concat!(
            r"[2001:db8::1]:4000 10.0.0.9:5 \x01vpce\x22 a.test - 0xea=\x01vpce\x22,0x30=",
            "\n"
        )
    );
}

#[test]
fn a_json_line_has_every_field_in_order() {
    let headers = headers(&[("user-agent", b"curl/8"), ("referer", b"http://a/")]);
    let tls = TlsIdentity {
        server_name: Some("example.com".into()),
        policy: PolicyIdentity::default(),
        peer: Some(Box::new(PeerCertificate {
            subject: "CN=web,O=Example".into(),
            issuer: "CN=authority".into(),
            serial: "01".into(),
            dns: ["web.example".into()].into(),
            uris: [].into(),
            common_name: None,
            emails: [].into(),
            fingerprint: "5e1f".into(),
            leaf: Vec::new().into(),
            issuers: [].into(),
        })),
        version: "TLSv1.3",
        cipher: "TLS13_AES_128_GCM_SHA256",
        is_http2: false,
        resumed: true,
    };
    let introduction = introduction();
    let record = Record {
        introduction: Some(&introduction),
        tls: Some(&tls),
        reason: Some("upstream_reset"),
        retries: 2,
        upstream_connect: Some(Duration::from_micros(7)),
        ..record(&headers)
    };
    let line = line(&Format::Json, &record);
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(parsed["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        without_time(&line, "\"time\":\"", "\""),
        concat!(
            r#"{"time":"…","client":"192.0.2.1","peer":"[2001:db8::1]:4000","#,
            r#""proxy":"10.0.0.9:5","proxy_destination":"10.0.0.1:443","#,
            r#""proxy_authority":"a.test","proxy_alpn":"h2","proxy_unique_id":"x\u0000y","#,
            r#""proxy_tls_version":"TLSv1.3","proxy_tls_name":"someone","#,
            r#""proxy_tlvs":{"0xea":"\u0001vpce\"","0x30":""},"method":"GET","#,
            r#""host":"example.com","path":"/a","query":"b=1","protocol":"HTTP/1.1","#,
            r#""status":200,"reason":"upstream_reset","bytes_received":0,"bytes_sent":12,"#,
            r#""duration_ms":1.234,"request_id":"abc","listener":"web","domain":"shop","#,
            r#""route":"api","upstream":"app","endpoint":"127.0.0.1:3000","#,
            r#""upstream_connect_ms":0.007,"upstream_first_byte_ms":1.000,"retries":2,"#,
            r#""user_agent":"curl/8","referer":"http://a/","tls_version":"TLSv1.3","#,
            r#""tls_cipher":"TLS13_AES_128_GCM_SHA256","tls_server_name":"example.com","#,
            r#""tls_resumed":true,"client_subject":"CN=web,O=Example","#,
            r#""client_name":"web.example","client_fingerprint":"5e1f","generation":1}"#,
            "\n"
        )
    );
    let object = parsed.as_object().unwrap();
    // Of a request there is all but a stream.
    assert_eq!(object.len(), Field::ALL.len());
}

#[test]
fn a_line_of_a_stream_has_no_request() {
    let headers = Headers::default();
    let record = Record {
        stream: Some(StreamFacts {
            name: "db",
            protocol: "TLS",
            server_name: Some("db.test"),
        }),
        method: b"",
        authority: b"",
        path: b"",
        query: None,
        request_id: b"",
        domain: None,
        route: None,
        upstream_first_byte: None,
        ..record(&headers)
    };
    assert_eq!(
        without_time(&line(&Format::Json, &record), "\"time\":\"", "\""),
        concat!(
            r#"{"time":"…","client":"192.0.2.1","peer":"[2001:db8::1]:4000","protocol":"TLS","#,
            r#""bytes_received":0,"bytes_sent":12,"duration_ms":1.234,"listener":"web","#,
            r#""stream":"db","upstream":"app","endpoint":"127.0.0.1:3000","#,
            r#""tls_server_name":"db.test","generation":1}"#,
            "\n"
        )
    );
    let common = without_time(&line(&Format::Common, &record), "[", "]");
    assert_eq!(common, "192.0.2.1 - - […] \"- db TLS\" - 12\n");
}

#[test]
fn a_json_line_leaves_out_what_there_is_not() {
    let headers = Headers::default();
    let record = Record {
        query: None,
        request_id: b"",
        domain: None,
        route: None,
        upstream: None,
        endpoint: None,
        upstream_first_byte: None,
        client: "::ffff:10.0.0.1".parse().unwrap(),
        peer: "[::ffff:10.0.0.1]:5".parse().unwrap(),
        ..record(&headers)
    };
    let line = line(&Format::Json, &record);
    assert_eq!(
        without_time(&line, "\"time\":\"", "\""),
        concat!(
            r#"{"time":"…","client":"10.0.0.1","peer":"10.0.0.1:5","method":"GET","#,
            r#""host":"example.com","path":"/a","protocol":"HTTP/1.1","status":200,"#,
            r#""bytes_received":0,"bytes_sent":12,"duration_ms":1.234,"listener":"web","#,
            r#""generation":1}"#,
            "\n"
        )
    );
}

#[test]
fn no_client_breaks_out_of_its_line() {
    let hostile: [&[u8]; 6] = [
        b"/\"}\n{\"status\":500",
        b"/\\",
        b"/\x00\x1b[2J",
        b"/\xff\xfe\xe2\x80\xa8",
        b"/\r\n1.2.3.4 - - [",
        b"\" 200 1 \"-\" \"",
    ];
    let template = Format::template("\"{method}\" \"{target}\" \"{user_agent}\" {status}").unwrap();
    for bytes in hostile {
        let headers = headers(&[("user-agent", bytes), ("referer", bytes)]);
        let record = Record {
            path: bytes,
            query: Some(bytes),
            method: bytes,
            authority: bytes,
            request_id: bytes,
            ..record(&headers)
        };
        let json = line(&Format::Json, &record);
        assert_eq!(json.matches('\n').count(), 1, "{json}");
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["status"], 200);
        for (format, quotes) in [(&Format::Common, 2), (&Format::Combined, 6), (&template, 6)] {
            let text = line(format, &record);
            assert!(text.ends_with('\n'), "{text}");
            let inside = text.trim_end_matches('\n');
            let printable = inside.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
            assert!(printable, "{text:?}");
            assert_eq!(inside.matches('"').count(), quotes, "{text}");
        }
    }
}

#[test]
fn text_lines_look_as_they_always_did() {
    let agent = headers(&[("user-agent", b"curl/8")]);
    let check = |format: &Format, expected: &str| {
        let line = line(format, &record(&agent));
        assert_eq!(without_time(&line, "[", "]"), expected);
    };
    let common = "192.0.2.1 - - […] \"GET /a?b=1 HTTP/1.1\" 200 12";
    check(&Format::Common, &format!("{common}\n"));
    check(&Format::Combined, &format!("{common} \"-\" \"curl/8\"\n"));
}

#[test]
fn templates_write_their_fields() {
    let fields = headers(&[("x-env", b"canary")]);
    let check = |template: &str, expected: &str| {
        let format = Format::template(template).unwrap();
        let line = line(&format, &record(&fields));
        assert_eq!(line, format!("{expected}\n"), "{template}");
    };
    check("", "");
    check("{{{peer}}} {status}", "{[2001:db8::1]:4000} 200");
    check("{endpoint} {reason} {retries}", "127.0.0.1:3000 - -");
    check("{header:X-Env} {header:x-other}", "canary -");
    check("{duration_ms} {tls_resumed}", "1.234 -");
    check("{target} {path} {query}", "/a?b=1 /a b=1");
}

/// Waits for what the writer's thread does in its own time.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::yield_now();
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

struct Place {
    directory: tempfile::TempDir,
    counts: Arc<LogCounts>,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            counts: Arc::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self, path: &Path, lines_max: usize) -> AccessLog {
        let target = Target::File(path.to_owned());
        AccessLog::start(target, lines_max, Arc::clone(&self.counts)).unwrap()
    }

    fn counts(&self) -> [u64; 2] {
        [&self.counts.lines, &self.counts.dropped].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Writes a line whose only content is a status.
fn write_status(worker: &WorkerLog, status: u16) {
    let format = Format::template("{status}").unwrap();
    let headers = Headers::default();
    worker.write(
        &format,
        &Record {
            status,
            ..record(&headers)
        },
    );
}

#[test]
fn lines_of_all_workers_arrive_whole() {
    const WORKERS: u16 = 3;
    const LINES: usize = 5_000;
    let place = Place::new();
    let path = place.path("access.log");
    let log = place.log(&path, 1_000_000);
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let worker = log.worker();
            scope.spawn(move || {
                for _ in 0..LINES {
                    write_status(&worker, 200 + number);
                }
                worker.flush();
            });
        }
    });
    assert!(log.flush(PATIENCE));
    let text = read(&path);
    for number in 0..WORKERS {
        let status = (200 + number).to_string();
        assert_eq!(text.lines().filter(|line| *line == status).count(), LINES);
    }
    assert_eq!(place.counts(), [u64::from(WORKERS) * LINES as u64, 0]);
    drop(log);
}

#[test]
fn a_buffer_is_handed_over_when_it_is_full() {
    let place = Place::new();
    let path = place.path("access.log");
    let log = place.log(&path, 1_000_000);
    let worker = log.worker();
    for _ in 0..40_000 {
        write_status(&worker, 200);
    }
    assert!(log.flush(PATIENCE));
    let [before, _] = place.counts();
    assert_eq!(before, 32_768, "128 KiB of four bytes each");
    worker.flush();
    assert!(log.flush(PATIENCE));
    assert_eq!(place.counts(), [40_000, 0]);
}

#[test]
fn rotation_is_followed_when_told_and_when_not() {
    let place = Place::new();
    let (path, first, second) = (place.path("log"), place.path("log.1"), place.path("log.2"));
    let log = place.log(&path, 100);
    let worker = log.worker();
    write_status(&worker, 201);
    worker.flush();
    assert!(log.flush(PATIENCE));
    std::fs::rename(&path, &first).unwrap();
    log.reopen();
    write_status(&worker, 202);
    worker.flush();
    assert!(log.flush(PATIENCE));
    assert_eq!([read(&first), read(&path)], ["201\n", "202\n"]);
    std::fs::rename(&path, &second).unwrap();
    wait_until("the writer finds that its file is gone", || path.exists());
    write_status(&worker, 203);
    worker.flush();
    assert!(log.flush(PATIENCE));
    assert_eq!([read(&second), read(&path)], ["202\n", "203\n"]);
}

#[test]
fn another_target_takes_over_in_order() {
    let place = Place::new();
    let (old, new) = (place.path("old"), place.path("new"));
    let log = place.log(&old, 100);
    let worker = log.worker();
    write_status(&worker, 201);
    worker.flush();
    log.configure(Target::File(new.clone()), 100);
    write_status(&worker, 202);
    worker.flush();
    assert!(log.flush(PATIENCE));
    assert_eq!([read(&old), read(&new)], ["201\n", "202\n"]);
}

/// A pipe whose reader does not read: writing to it stalls, as on a dead disk.
fn stalled(path: &Path) -> std::fs::File {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(path).unwrap()
}

#[test]
fn a_stalled_target_costs_lines_and_no_time() {
    let place = Place::new();
    let path = place.path("pipe");
    let reader = stalled(&path);
    let log = place.log(&path, 20_000);
    let worker = log.worker();
    for _ in 0..1_000_000 {
        write_status(&worker, 200);
    }
    worker.flush();
    let [_, dropped] = place.counts();
    assert!(dropped > 900_000, "{dropped}");
    // Neither does whoever changes the configuration or wants to end wait for ever.
    log.configure(Target::File(place.path("other")), 10);
    assert!(!log.flush(Duration::from_millis(1)));
    drop(reader);
    wait_until("every line is accounted for", || {
        let [lines, dropped] = place.counts();
        lines + dropped == 1_000_000
    });
}

#[test]
fn long_lines_fill_the_queue_by_their_bytes() {
    let place = Place::new();
    let path = place.path("pipe");
    let _reader = stalled(&path);
    let log = place.log(&path, 2_000);
    let worker = log.worker();
    let long = vec![0x01; 8 * 1024];
    let headers = headers(&[("user-agent", &long)]);
    for _ in 0..2_000 {
        worker.write(&Format::Combined, &record(&headers));
    }
    let [_, dropped] = place.counts();
    assert!(
        dropped > 1_800,
        "{dropped}: 2,000 lines of 32 KiB are not 2 MiB"
    );
}

#[test]
fn an_empty_queue_takes_a_batch_that_is_over_its_limit() {
    let place = Place::new();
    let path = place.path("access.log");
    let log = place.log(&path, 1);
    let worker = log.worker();
    for _ in 0..5 {
        write_status(&worker, 200);
    }
    worker.flush();
    assert!(log.flush(PATIENCE));
    assert_eq!(place.counts(), [5, 0]);
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let check = |path: &str| {
        let place = Place::new();
        let log = place.log(Path::new(path), 100);
        let worker = log.worker();
        write_status(&worker, 200);
        write_status(&worker, 200);
        worker.flush();
        assert!(log.flush(PATIENCE));
        assert_eq!(place.counts(), [0, 2], "{path}");
        assert!(place.counts.errors.load(Ordering::Relaxed) >= 1, "{path}");
    };
    check("/no/such/directory/access.log");
    check("/dev/full");
}

#[test]
fn a_missing_directory_is_looked_for_again() {
    let place = Place::new();
    let directory = place.path("later");
    let path = directory.join("access.log");
    let log = place.log(&path, 100);
    assert!(log.flush(PATIENCE));
    std::fs::create_dir(&directory).unwrap();
    wait_until("the file is opened", || path.exists());
    let worker = log.worker();
    write_status(&worker, 200);
    worker.flush();
    assert!(log.flush(PATIENCE));
    assert_eq!(read(&path), "200\n");
}

#[test]
fn addresses_are_written_as_they_are_read() {
    let headers = Headers::default();
    let check = |peer: &str, expected: &str| {
        let peer: SocketAddr = peer.parse().unwrap();
        let record = Record {
            peer,
            client: peer.ip(),
            ..record(&headers)
        };
        let format = Format::template("{client} {peer}").unwrap();
        assert_eq!(line(&format, &record), format!("{expected}\n"));
    };
    check("255.0.10.1:65535", "255.0.10.1 255.0.10.1:65535");
    check("[2001:db8::ff]:1", "2001:db8::ff [2001:db8::ff]:1");
    check("[::ffff:1.2.3.4]:1", "1.2.3.4 1.2.3.4:1");
}

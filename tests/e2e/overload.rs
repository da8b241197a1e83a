//! More than an upstream, or the gateway itself, can do: what is admitted is answered in time, the rest
//! is refused soon and told why, and when it is over everything is as it was.

use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use cardea_tests::http2;
use cardea_tests::origin::{self, Connection};
use cardea_tests::process::{command, run};
use cardea_tests::wait::until_true;
use cardea_tests::{Gateway, Origin};

use crate::fixture::plain_with;

/// How many requests the origin works on at once.
const SERVERS: usize = 4;

/// How long each takes.
const WORK: Duration = Duration::from_millis(20);

/// The labels of what is measured of the upstream.
const ORIGIN: [(&str, &str); 1] = [("upstream", "origin")];

/// What the origin can do in a second.
const CAPACITY: u64 = 200;

/// An origin with some servers and one queue.
fn busy_origin() -> Origin {
    let free = Mutex::new([Instant::now(); SERVERS]);
    Origin::serve(move |connection: &mut Connection| {
        while connection.request().is_some() {
            let done = {
                let mut free = free.lock().expect("no server panics");
                let next = free.iter_mut().min().expect("there are servers");
                *next = (*next).max(Instant::now()) + WORK;
                *next
            };
            thread::sleep(done.saturating_duration_since(Instant::now()));
            connection.answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
        }
    })
}

/// One request of h2load's.
struct Sent {
    /// Since the first.
    at: Duration,
    status: u16,
    took: Duration,
}

/// Has h2load send over HTTP/2 with these arguments, and tells what became of each request.
fn load(gateway: &Gateway, arguments: &[&str]) -> Vec<Sent> {
    let log = gateway.site().path().join("h2load.log");
    let _ = std::fs::remove_file(&log);
    let url = format!("http://{}/", gateway.listener("web"));
    let file = format!("--log-file={}", log.display());
    let common = ["-t", "1", "-H", ":authority: a.test", &file, &url];
    run(&mut command("h2load", &[arguments, &common].concat()));
    read(&log)
}

fn read(log: &Path) -> Vec<Sent> {
    let text = std::fs::read_to_string(log).expect("h2load wrote its log");
    let rows = text.lines().map(|line| {
        let mut columns = line.split('\t').map(|column| column.parse::<i64>());
        let mut next = || columns.next().expect("three columns").expect("numbers");
        (next(), next(), next())
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    let first = rows.first().expect("something was sent").0;
    let micros = |number: i64| Duration::from_micros(number.try_into().expect("not negative"));
    rows.iter()
        .map(|(at, status, took)| Sent {
            at: micros(at - first),
            status: u16::try_from(*status).expect("no stream failed"),
            took: micros(*took),
        })
        .collect()
}

/// The time within which this share (in percent) of what was answered so came.
fn within(sent: &[&Sent], status: u16, percent: usize) -> Duration {
    let mut times: Vec<_> = sent
        .iter()
        .filter(|sent| sent.status == status)
        .map(|sent| sent.took)
        .collect();
    times.sort_unstable();
    *times
        .get(times.len() * percent / 100)
        .unwrap_or_else(|| panic!("nothing was answered {status}"))
}

fn count(sent: &[&Sent], status: u16) -> u64 {
    sent.iter().filter(|sent| sent.status == status).count() as u64
}

/// Twice what the origin can do, for some seconds: 8 clients, 50 requests a second each.
const TWICE: [&str; 6] = ["-c", "8", "--rps=50", "-m", "100", "-D"];

#[test]
fn an_overloaded_upstream_answers_in_time_what_it_can() {
    let origin = busy_origin();
    let gateway = plain_with(&origin, "workers: 1\n");
    let sent = load(&gateway, &[&TWICE[..], &["8"]].concat());
    // It takes a moment to find the limit.
    let settled: Vec<_> = sent
        .iter()
        .filter(|sent| (4.0..8.0).contains(&sent.at.as_secs_f64()))
        .collect();
    let (served, refused) = (count(&settled, 200), count(&settled, 503));
    assert_eq!(served + refused, settled.len() as u64);
    assert!(served >= 4 * CAPACITY * 9 / 10, "{served} served in 4 s");
    assert!(refused >= 4 * CAPACITY / 2, "{refused} refused in 4 s");
    let p99 = within(&settled, 200, 99);
    assert!(p99 < Duration::from_millis(400), "{p99:?}");
    let dismissed = within(&settled, 503, 50);
    assert!(dismissed < Duration::from_millis(300), "{dismissed:?}");
    let labels = [("reason", "upstream_overloaded")];
    let counted = gateway.metric("cardea_responses_by_gateway_total", &labels);
    let all: Vec<_> = sent.iter().collect();
    // Those that h2load did not wait for at its end are counted, too.
    assert!(counted >= Some(count(&all, 503) as f64), "{counted:?}");
    let told = gateway.stderr.wait_for_line("upstream_limited");
    assert!(told.contains("origin"), "{told}");

    // When the load is gone nobody is refused, and after a few requests there is no limit.
    thread::sleep(Duration::from_millis(200));
    let after = load(&gateway, &["-c", "4", "-m", "1", "-n", "200"]);
    let after: Vec<_> = after.iter().collect();
    assert_eq!(count(&after, 200), 200);
    gateway.wait_for_metric("cardea_upstream_adaptive_limit", &ORIGIN, 0.0);
}

const WITHOUT_LIMIT: &str = r#"
workers: 1
domains:
  - hosts: [a.test]
    routes: [{ to: origin }]
upstreams:
  origin: { endpoints: ["<origin>"], adaptive_concurrency: off }
"#;

#[test]
fn without_the_limit_everybody_waits() {
    let origin = busy_origin();
    let gateway = Gateway::start(WITHOUT_LIMIT, &[("origin", &origin.address())]);
    let sent = load(&gateway, &[&TWICE[..], &["4"]].concat());
    let late: Vec<_> = sent
        .iter()
        .filter(|sent| sent.at > Duration::from_secs(1))
        .collect();
    assert_eq!(count(&late, 503), 0);
    assert!(within(&late, 200, 50) > Duration::from_millis(600));
}

#[test]
fn what_is_beyond_the_limit_waits_and_opens_no_connection() {
    let origin = busy_origin();
    let gateway = plain_with(&origin, MANY_REQUESTS);
    let queued = || gateway.metric("cardea_upstream_requests_queued", &ORIGIN) > Some(200.0);
    thread::scope(|scope| {
        let running = scope.spawn(|| load(&gateway, &["-c", "8", "-m", "50", "-D", "6"]));
        gateway.stderr.wait_for_line("upstream_limited");
        until_true("hundreds wait for their turn", queued);
        let before = origin.connections();
        let sent = running.join().expect("h2load runs");
        let all: Vec<_> = sent.iter().collect();
        assert!(count(&all, 200) > 0, "nothing was served");
        assert_eq!(count(&all, 200) + count(&all, 503), all.len() as u64);
        let opened = origin.connections() - before;
        assert!(opened < 100, "{opened} connections for those that waited");
    });
    // Nobody waits when the load is gone.
    gateway.wait_for_metric("cardea_upstream_requests_queued", &ORIGIN, 0.0);
    assert_eq!(gateway.get("a.test", "/").status, 200);
}

#[test]
fn however_many_wait_for_an_upstream_more_can_begin() {
    const CLIENTS: usize = 7;
    let origin = Origin::serve(origin::silent);
    let gateway = Gateway::start(WITHOUT_LIMIT, &[("origin", &origin.address())]);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| http2::Client::connect(gateway.listener("web")))
        .collect();
    for client in &mut clients {
        for _ in 0..100 {
            client.open(&http2::request("GET", "a.test", "/"), true);
        }
    }
    origin.wait_until("every request arrives", |origin| {
        origin.requests().len() == 100 * CLIENTS
    });
    gateway.wait_for_metric("cardea_worker_requests_waiting", &[("worker", "0")], 0.0);
    // The clients go; so do those requests, and others are served.
    drop(clients);
    origin.wait_until("the requests are given up", |origin| {
        origin.open_connections() == 0
    });
    let mut client = http2::Client::connect(gateway.listener("web"));
    assert_eq!(client.get("b.test", "/").status, 404);
}

/// Clients of load tests do not open another connection when one has served enough.
const MANY_REQUESTS: &str = r#"
workers: 1
listeners:
  - { name: web, bind: ["127.0.0.1:0"], http: { requests_per_connection_max: 100000000 } }
"#;

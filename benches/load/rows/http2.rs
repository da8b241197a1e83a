//! HTTP/2 from clients: CPU time per request with many streams on a connection and with one, and for
//! large bodies. The load is h2load's, nghttp2's own, pinned like every client.
//!
//! It checks statuses and counts bytes; that bodies arrive unharmed is for the tests.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Bench, row};
use crate::certificate::DOMAIN;
use crate::origin::{LARGE_PATH, SMALL_PATH};
use crate::report::{Report, Row, Sample};
use crate::running::{Running, Setting};

/// A kind of load.
struct Load {
    row: Row,
    connections: usize,
    streams: usize,
    path: &'static str,
    /// Requests with which a turn begins, to see how many fit into the rest of it.
    first: u64,
}

const LOADS: [Load; 3] = [
    Load {
        row: row("http2", "HTTP/2 over TLS, small GET, 32 streams", 0.8),
        connections: 16,
        streams: 32,
        path: SMALL_PATH,
        first: 4000,
    },
    Load {
        row: row("http2-one", "HTTP/2 over TLS, small GET, one stream", 0.95),
        connections: 64,
        streams: 1,
        path: SMALL_PATH,
        first: 4000,
    },
    Load {
        row: row("http2-1m", "HTTP/2 over TLS, 1 MiB body", 0.9),
        connections: 4,
        streams: 4,
        path: LARGE_PATH,
        first: 100,
    },
];

/// The rows.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    LOADS.iter().map(|load| &load.row)
}

/// Measures them: everything is started once and takes turns.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    let wanted = || LOADS.iter().filter(|load| bench.wants(&load.row));
    let Some(first) = wanted().next() else {
        return;
    };
    let started = bench.start_all(Setting::ONE, &bench.certificate, &[&first.row], report);
    for load in wanted() {
        for round in 0..bench.effort.rounds {
            let rounds = bench.effort.rounds;
            eprintln!("{}: round {} of {rounds}", load.row.id, round + 1);
            for running in &started {
                match turn(bench, running, load) {
                    Ok(sample) => report.add(&load.row, running.name(), sample),
                    Err(error) => report.failed(&load.row, running.name(), &error),
                }
            }
        }
    }
}

fn turn(bench: &Bench, running: &Running<'_>, load: &Load) -> Result<Sample> {
    let warm_up = ask(running, load, load.first)?;
    let window = bench.effort.window.as_secs_f64();
    let count = (warm_up.per_second * window).max(load.first as f64) as u64;
    let before = running.process.cpu()?;
    let answered = ask(running, load, count)?;
    let cpu = running.process.cpu()?.since(before);
    let per_request = cpu.total.as_secs_f64() * 1e6 / count as f64;
    Ok(Sample {
        value: per_request,
        notes: vec![
            ("user_us", per_request * cpu.user_share()),
            ("requests_per_s", answered.per_second),
        ],
    })
}

struct Answered {
    per_second: f64,
}

/// Sends so many requests, all of which have to succeed.
fn ask(running: &Running<'_>, load: &Load, count: u64) -> Result<Answered> {
    let port = running.https.port();
    let output = Command::new("h2load")
        .arg(format!("--requests={count}"))
        .arg(format!("--clients={}", load.connections))
        .arg(format!("--max-concurrent-streams={}", load.streams))
        .arg(format!("--connect-to=127.0.0.1:{port}"))
        .arg("--npn-list=h2")
        // As much as a browser allows: windows must not be what is measured.
        .arg("--window-bits=20")
        .arg("--connection-window-bits=24")
        // Not every proxy takes the name without the port for the same host.
        .arg(format!("--header=:authority: {DOMAIN}"))
        .arg(format!("https://{DOMAIN}:{port}{}", load.path))
        .output()
        .context("h2load (Debian: nghttp2-client)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let succeeded = format!("{count} succeeded, 0 failed, 0 errored, 0 timeout");
    ensure!(
        text.contains(&succeeded) && text.contains(&format!("status codes: {count} 2xx")),
        "not every request succeeded: {text}"
    );
    let words: Vec<_> = text.split_whitespace().collect();
    let rate = words
        .iter()
        .position(|word| *word == "req/s,")
        .and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok());
    Ok(Answered {
        per_second: rate.context("h2load tells no rate")?,
    })
}

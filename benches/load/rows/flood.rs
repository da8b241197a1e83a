//! A flood of handshakes beside clients that are already connected: how much of the proxy's one
//! worker the newcomers take from them.
//!
//! The certificate is RSA, so that it is the proxy that the flood keeps busy and not the client:
//! a signature costs the one many times what verifying it costs the other.

use std::sync::Arc;
use std::thread;

use anyhow::{Result, ensure};

use super::Bench;
use super::background::Background;
use crate::client::Plan;
use crate::client::tally::Tally;
use crate::report::{Bar, Report, Row, Sample};
use crate::running::{Running, Setting};

/// The row.
pub(crate) const ROW: Row = Row {
    id: "handshake-flood",
    title: "established clients under 64 that shake hands (RSA-2048): p99",
    unit: "ms",
    bar: Bar::OfBestRival(1.0),
};

/// Clients that shake hands without pause.
const FLOOD: usize = 64;
/// Clients that were there before, each sending the next request when the last is answered.
const ESTABLISHED: usize = 8;

/// Measures the row.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    if !bench.wants(&ROW) {
        return;
    }
    let started = bench.start_all(Setting::ONE, &bench.rsa, &[&ROW], report);
    for round in 0..bench.effort.rounds {
        eprintln!("{}: round {} of {}", ROW.id, round + 1, bench.effort.rounds);
        for running in &started {
            match turn(bench, running, report) {
                Ok(sample) => report.add(&ROW, running.name(), sample),
                Err(error) => report.failed(&ROW, running.name(), &error),
            }
        }
    }
}

fn turn(bench: &Bench, running: &Running<'_>, report: &mut Report) -> Result<Sample> {
    const BEFORE: usize = 1;
    const BEGINNING: usize = 2;
    const DURING: usize = 3;
    let effort = bench.effort;
    let requests = Plan {
        target: running.https,
        tls: Some(Arc::clone(&bench.rsa.client)),
        keepalive: ESTABLISHED,
        ..bench.plan(running, &Setting::ONE.host_names())
    };
    let handshakes = Plan {
        keepalive: 0,
        handshakes: FLOOD,
        ..requests.clone()
    };
    let established = Background::start(requests, 4)?;
    thread::sleep(effort.warm_up);
    established.enter(BEFORE);
    thread::sleep(effort.window);
    established.enter(BEGINNING);
    let flood = Background::start(handshakes, 2)?;
    thread::sleep(effort.warm_up);
    established.enter(DURING);
    flood.enter(1);
    let busy = running.process.cpu()?;
    thread::sleep(effort.window);
    let busy = running.process.cpu()?.since(busy);
    let (flood, established) = (flood.finish()?, established.finish()?);
    for (who, tallies) in [("flood", &flood), ("established", &established)] {
        for tally in tallies.iter().filter(|tally| tally.failed() > 0) {
            report.remark(format!("{} failed, {who}: {tally}", running.name()));
        }
    }
    let (before, during) = (&established[BEFORE], &established[DURING]);
    ensure!(during.completed > 0, "nothing was answered under the flood");
    Ok(Sample {
        value: during.latency.quantile_ms(0.99),
        notes: vec![
            ("p99_before_ms", before.latency.quantile_ms(0.99)),
            ("p99_during_ms", during.latency.quantile_ms(0.99)),
            ("p50_before_ms", before.latency.quantile_ms(0.5)),
            ("p50_during_ms", during.latency.quantile_ms(0.5)),
            ("max_during_ms", during.latency.quantile_ms(1.0)),
            ("rate_before_per_s", before.throughput()),
            ("rate_during_per_s", during.throughput()),
            ("handshakes_per_s", flood[1].throughput()),
            (
                "busy_percent",
                busy.total.as_secs_f64() / during.elapsed.as_secs_f64() * 100.0,
            ),
            (
                "failed",
                established.iter().map(Tally::failed).sum::<u64>() as f64,
            ),
        ],
    })
}

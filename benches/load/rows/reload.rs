//! Changing the configuration under load: how soon a saved route is live and what running traffic
//! notices of it, and how many requests a hundred reloads fail.
//!
//! The load runs on a thread of its own while this one saves files and asks for the new state. A
//! request counts as failed in every case in which a client would notice, also when a retry would
//! have helped.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Bench;
use super::background::{Background, wait_until};
use crate::certificate::DOMAIN;
use crate::client::Plan;
use crate::client::tally::Tally;
use crate::report::{Bar, Report, Row, Sample};
use crate::rivals::Proxy;
use crate::running::{Running, Setting};

/// Saved file to new route, among many hosts.
pub(crate) const LIVE: Row = Row {
    id: "hosts-live",
    title: "10,000 hosts: saved file to new route live",
    unit: "ms",
    bar: Bar::Absolute(300.0),
};
/// Failed requests over all reloads.
pub(crate) const FAILED: Row = Row {
    id: "reloads",
    title: "100 reloads under load: failed requests",
    unit: "requests",
    bar: Bar::Absolute(0.0),
};

/// A moderate load: the proxy has idle time that a reload can use, as a production one should.
const LIVE_RATE: f64 = 4000.0;
/// Hosts that the running traffic asks for; enough to be spread, few enough to be warm.
const LIVE_TRAFFIC_HOSTS: usize = 64;
/// Running traffic is watched this long before the first save and after a route is live.
const QUIET: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_millis(500);
/// Keepalive and new connections in the reload row, for each of HTTP and HTTPS.
const RELOAD_KEEPALIVE: usize = 32;
const RELOAD_FRESH: usize = 4;

/// Measures how soon a saved route is live, and p99 of running traffic before and meanwhile.
pub(crate) fn live(bench: &Bench, report: &mut Report) {
    for proxy in bench.proxies.iter().filter(|_| bench.wants(&LIVE)) {
        eprintln!("{}: {}", LIVE.id, proxy.name);
        if let Err(error) = live_on(bench, proxy, report) {
            report.failed(&LIVE, &proxy.name, &error);
        }
    }
}

fn live_on(bench: &Bench, proxy: &Proxy, report: &mut Report) -> Result<()> {
    let hosts = bench.effort.hosts;
    let setting = Setting {
        hosts,
        upstreams: hosts,
        ..Setting::ONE
    };
    let mut running = bench.start(proxy, setting)?;
    let mut names = setting.host_names();
    names.truncate(LIVE_TRAFFIC_HOSTS);
    let plan = Plan {
        rate: Some(LIVE_RATE),
        ..bench.plan(&running, &names)
    };
    for round in 0..bench.effort.rounds {
        report.add(
            &LIVE,
            &proxy.name,
            add_host(&mut running, plan.clone(), round)?,
        );
    }
    Ok(())
}

fn add_host(running: &mut Running<'_>, plan: Plan, round: usize) -> Result<Sample> {
    const WARM_UP: usize = 0;
    const BEFORE: usize = 1;
    const DURING: usize = 2;
    let load = Background::start(plan, 3)?;
    thread::sleep(SETTLE);
    load.enter(BEFORE);
    thread::sleep(QUIET);
    let host = format!("new-{round}.{DOMAIN}");
    load.enter(DURING);
    let saved = Instant::now();
    running.add_host(&host)?;
    let live = wait_until(|| running.serves(&host))?.duration_since(saved);
    thread::sleep(SETTLE);
    let tallies = load.finish()?;
    let failed = tallies[WARM_UP..].iter().map(Tally::failed).sum::<u64>();
    let notes = vec![
        ("p99_before_ms", tallies[BEFORE].latency.quantile_ms(0.99)),
        ("p99_during_ms", tallies[DURING].latency.quantile_ms(0.99)),
        ("max_during_ms", tallies[DURING].latency.quantile_ms(1.0)),
        ("failed", failed as f64),
    ];
    Ok(Sample {
        value: live.as_secs_f64() * 1e3,
        notes,
    })
}

/// Measures how many requests fail while the configuration is saved again and again.
pub(crate) fn failed(bench: &Bench, report: &mut Report) {
    for proxy in bench.proxies.iter().filter(|_| bench.wants(&FAILED)) {
        eprintln!("{}: {}", FAILED.id, proxy.name);
        if let Err(error) = failed_on(bench, proxy, report) {
            report.failed(&FAILED, &proxy.name, &error);
        }
    }
}

fn failed_on(bench: &Bench, proxy: &Proxy, report: &mut Report) -> Result<()> {
    let setting = Setting {
        generation: true,
        ..Setting::ONE
    };
    let mut running = bench.start(proxy, setting)?;
    let http = Plan {
        keepalive: RELOAD_KEEPALIVE,
        fresh: RELOAD_FRESH,
        ..bench.plan(&running, &setting.host_names())
    };
    let https = Plan {
        target: running.https,
        tls: Some(Arc::clone(&bench.certificate.client)),
        ..http.clone()
    };
    let loads = [Background::start(http, 1)?, Background::start(https, 1)?];
    let reloads = (1..=bench.effort.reloads).map(|generation| {
        reload(&mut running, generation).with_context(|| format!("reload {generation}"))
    });
    let reloads = reloads.collect::<Result<Vec<_>>>();
    let mut sum = Tally::default();
    for load in loads {
        load.finish()?.iter().for_each(|tally| sum.merge(tally));
    }
    if sum.failed() > 0 {
        report.remark(format!(
            "{} under {} reloads: {sum}",
            proxy.name, bench.effort.reloads
        ));
    }
    report.add(&FAILED, &proxy.name, failures(&sum, &reloads?));
    Ok(())
}

/// One saved change, until a new connection is served from it.
fn reload(running: &mut Running<'_>, generation: usize) -> Result<Duration> {
    let saved = Instant::now();
    running.set_generation(generation)?;
    let live = wait_until(|| running.generation() == Some(generation))?;
    Ok(live.duration_since(saved))
}

fn failures(sum: &Tally, reloads: &[Duration]) -> Sample {
    let mut sorted = reloads.to_vec();
    sorted.sort();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    Sample {
        value: sum.failed() as f64,
        notes: vec![
            ("requests", (sum.completed + sum.failed()) as f64),
            ("connections", sum.connections as f64),
            ("reload_ms", middle.as_secs_f64() * 1e3),
            ("p99_ms", sum.latency.quantile_ms(0.99)),
        ],
    }
}

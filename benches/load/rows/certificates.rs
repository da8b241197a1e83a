//! Ten thousand certificates, each with a host of its own: how long a proxy takes to start with
//! them, what they cost in memory, and how soon a renewed one is served.
//!
//! Time counts to a handshake in which the client accepts only the certificate of the host it asks
//! for: one for all hosts would cover the name as well.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::Bench;
use super::background::{Background, wait_until};
use super::idle::settled;
use crate::certificate::hosts::HostCertificates;
use crate::client::Plan;
use crate::client::tally::Tally;
use crate::report::{Bar, Report, Row, Sample};
use crate::rivals::Proxy;
use crate::running::{Running, Setting};

/// From the start of the process to the last host's certificate.
pub(crate) const START: Row = Row {
    id: "certificates-start",
    title: "10,000 certificates: start to handshake with the last",
    unit: "ms",
    bar: Bar::OfBestRival(1.0),
};
/// What they and their hosts add to the memory of one.
pub(crate) const MEMORY: Row = Row {
    id: "certificates-memory",
    title: "10,000 certificates and hosts: resident memory above one",
    unit: "MiB",
    bar: Bar::OfBestRival(1.0),
};
/// From a renewed file to the first handshake with it.
pub(crate) const SWAP: Row = Row {
    id: "certificates-swap",
    title: "10,000 certificates: renewed file to certificate served, with handshakes beside",
    unit: "ms",
    bar: Bar::OfBestRival(1.0),
};

/// A start or a reload of some rivals takes many seconds, and differs little from the next.
const ROUNDS_MAX: usize = 3;
/// Handshakes a second beside a renewal: few enough to leave the proxy idle time for it.
const HANDSHAKES_RATE: f64 = 200.0;
/// Connections that they may occupy; with that rate the proxy must stall to run out of them.
const HANDSHAKES_AT_ONCE: usize = 64;
/// Handshakes are watched this long before a renewal, and this long after it is served.
const QUIET: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_millis(500);
/// A handshake that takes longer counts as none.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Measures the rows, one proxy after the other: four with so many certificates want too much
/// memory at a time.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    let rows = [START, MEMORY, SWAP];
    let Some(first) = rows.iter().find(|row| bench.wants(row)) else {
        return;
    };
    for proxy in &bench.proxies {
        eprintln!("{}: {}", first.id, proxy.name);
        if let Err(error) = measure(bench, proxy, report) {
            report.failed(first, &proxy.name, &error);
        }
    }
}

fn measure(bench: &Bench, proxy: &Proxy, report: &mut Report) -> Result<()> {
    let setting = Setting {
        hosts: bench.effort.hosts,
        certificates: true,
        ..Setting::ONE
    };
    let hosts = setting.host_names();
    let certificates = HostCertificates::create(&bench.directory, &hosts)?;
    let last = hosts.last().context("no hosts")?;
    let rounds = bench.effort.rounds.min(ROUNDS_MAX);
    let starts = if bench.wants(&START) { rounds } else { 1 };
    let mut running = None;
    for _ in 0..starts {
        // The one before must end first.
        drop(running.take());
        let started = bench.start(proxy, setting)?;
        let client = certificates.client(last)?;
        let served = wait_until(|| shakes_hands(started.https, last, &client).is_ok())?;
        if bench.wants(&START) {
            let value = served.duration_since(started.begun).as_secs_f64() * 1e3;
            let notes = vec![("cpu_ms", started.process.cpu()?.total.as_secs_f64() * 1e3)];
            report.add(&START, &proxy.name, Sample { value, notes });
        }
        running = Some(started);
    }
    let running = running.context("not started")?;
    if bench.wants(&MEMORY) {
        report.add(&MEMORY, &proxy.name, memory(bench, &running)?);
    }
    if bench.wants(&SWAP) {
        if let Some(reason) = proxy.no_renewal() {
            report.remark(format!("{}: {} is left out: {reason}", SWAP.id, proxy.name));
            return Ok(());
        }
        for (host, serial) in hosts.iter().rev().take(rounds).zip(2..) {
            let sample = swap(bench, &running, (&certificates, host, serial))?;
            report.add(&SWAP, &proxy.name, sample);
        }
    }
    Ok(())
}

/// Memory above that of the same proxy with one host and certificate; as a note, what it has with
/// as many hosts under one certificate.
fn memory(bench: &Bench, many: &Running<'_>) -> Result<Sample> {
    let one = bench.start(many.proxy(), Setting::ONE)?;
    let (all, one) = (settled(&many.process)?, settled(&one.process)?);
    let hosts = bench.start(
        many.proxy(),
        Setting {
            hosts: bench.effort.hosts,
            ..Setting::ONE
        },
    )?;
    let hosts = settled(&hosts.process)?;
    let mebibytes = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
    Ok(Sample {
        value: mebibytes(all) - mebibytes(one),
        notes: vec![
            ("all_mib", mebibytes(all)),
            ("one_mib", mebibytes(one)),
            ("hosts_with_one_certificate_mib", mebibytes(hosts)),
        ],
    })
}

/// Renews one host's certificate while others shake hands.
fn swap(
    bench: &Bench,
    running: &Running<'_>,
    (certificates, host, serial): (&HostCertificates, &str, u64),
) -> Result<Sample> {
    const WARM_UP: usize = 0;
    const BEFORE: usize = 1;
    const DURING: usize = 2;
    let plan = Plan {
        target: running.https,
        tls: Some(Arc::clone(&bench.certificate.client)),
        keepalive: 0,
        handshakes: HANDSHAKES_AT_ONCE,
        rate: Some(HANDSHAKES_RATE),
        ..bench.plan(running, &Setting::ONE.host_names())
    };
    let load = Background::start(plan, 3)?;
    thread::sleep(SETTLE);
    load.enter(BEFORE);
    thread::sleep(QUIET);
    load.enter(DURING);
    let spent = running.process.cpu()?;
    let renewed = Instant::now();
    certificates.renew(host, serial)?;
    running.reload()?;
    let client = certificates.client(host)?;
    let served = wait_until(|| shakes_hands(running.https, host, &client).is_ok())?;
    thread::sleep(SETTLE);
    let spent = running.process.cpu()?.since(spent);
    let tallies = load.finish()?;
    let failed = tallies[WARM_UP..].iter().map(Tally::failed).sum::<u64>();
    Ok(Sample {
        value: served.duration_since(renewed).as_secs_f64() * 1e3,
        notes: vec![
            (
                "slowest_before_ms",
                tallies[BEFORE].latency.quantile_ms(1.0),
            ),
            (
                "slowest_during_ms",
                tallies[DURING].latency.quantile_ms(1.0),
            ),
            (
                "p99_handshake_ms",
                tallies[DURING].latency.quantile_ms(0.99),
            ),
            ("handshakes", tallies[DURING].completed as f64),
            ("cpu_ms", spent.total.as_secs_f64() * 1e3),
            ("failed", failed as f64),
        ],
    })
}

/// One handshake for `host`, over a connection that is then dropped.
fn shakes_hands(address: SocketAddr, host: &str, client: &Arc<ClientConfig>) -> Result<()> {
    let mut socket = TcpStream::connect_timeout(&address, HANDSHAKE_TIMEOUT)?;
    socket.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    let name = ServerName::try_from(host.to_owned())?;
    let mut tls = ClientConnection::new(Arc::clone(client), name)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    Ok(())
}

//! Ten thousand hosts: what they cost in memory, and what each request pays for there being many.
//!
//! Every host has an upstream of its own, as on a hosting platform, so there are as many upstream
//! pools as hosts. A second configuration lets all hosts share a few upstreams: the difference is
//! the price of ten thousand cold sockets, which is the kernel's, not of finding the host.

use anyhow::Result;

use super::Bench;
use crate::client::{Client, Plan};
use crate::report::{Bar, Report, Row, Sample};
use crate::rivals::Proxy;
use crate::running::{Running, Setting};

/// Memory after the start, before any host but one was asked for.
pub(crate) const MEMORY: Row = Row {
    id: "hosts-memory",
    title: "10,000 hosts: resident memory",
    unit: "MiB",
    bar: Bar::OfBestRival(0.5),
};
/// Memory after every host has been asked for.
pub(crate) const MEMORY_USED: Row = Row {
    id: "hosts-memory-used",
    title: "10,000 hosts: resident memory after requests to all",
    unit: "MiB",
    bar: Bar::None,
};
/// CPU per request, an upstream for each host.
pub(crate) const RATIO: Row = Row {
    id: "hosts-cpu",
    title: "10,000 hosts: CPU per request over one host",
    unit: "ratio",
    bar: Bar::Absolute(1.1),
};
/// CPU per request, few upstreams for all hosts.
pub(crate) const RATIO_SHARED: Row = Row {
    id: "hosts-cpu-shared",
    title: "10,000 hosts on 16 upstreams: CPU per request over one host",
    unit: "ratio",
    bar: Bar::Absolute(1.1),
};

const SHARED_UPSTREAMS: usize = 16;

/// Measures the rows, one proxy after the other: the ratio is within one proxy.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    for proxy in &bench.proxies {
        for (rows, measure) in [
            (&[MEMORY, MEMORY_USED, RATIO][..], own_upstreams as Measure),
            (&[RATIO_SHARED][..], shared_upstreams),
        ] {
            let Some(first) = rows.iter().find(|row| bench.wants(row)) else {
                continue;
            };
            eprintln!("{}: {}", first.id, proxy.name);
            if let Err(error) = measure(bench, proxy, report) {
                report.failed(first, &proxy.name, &error);
            }
        }
    }
}

type Measure = fn(&Bench, &Proxy, &mut Report) -> Result<()>;

fn own_upstreams(bench: &Bench, proxy: &Proxy, report: &mut Report) -> Result<()> {
    let hosts = bench.effort.hosts;
    let setting = Setting {
        hosts,
        upstreams: hosts,
        ..Setting::ONE
    };
    let (running, names) = (bench.start(proxy, setting)?, setting.host_names());
    if bench.wants(&MEMORY) {
        report.add(&MEMORY, &proxy.name, mebibytes(&running)?);
    }
    if bench.wants(&RATIO) || bench.wants(&MEMORY_USED) {
        visit_all(bench, &running, &names)?;
    }
    if bench.wants(&MEMORY_USED) {
        report.add(&MEMORY_USED, &proxy.name, mebibytes(&running)?);
    }
    if bench.wants(&RATIO) {
        ratios(bench, &RATIO, (&running, &names), report)?;
    }
    Ok(())
}

fn shared_upstreams(bench: &Bench, proxy: &Proxy, report: &mut Report) -> Result<()> {
    let hosts = bench.effort.hosts;
    let setting = Setting {
        hosts,
        upstreams: SHARED_UPSTREAMS,
        ..Setting::ONE
    };
    let running = bench.start(proxy, setting)?;
    ratios(
        bench,
        &RATIO_SHARED,
        (&running, &setting.host_names()),
        report,
    )
}

/// Takes turns between many hosts and one host of the same proxy.
fn ratios(
    bench: &Bench,
    row: &Row,
    (many, hosts): (&Running<'_>, &[String]),
    report: &mut Report,
) -> Result<()> {
    let one = bench.start(many.proxy(), Setting::ONE)?;
    let one_host = Setting::ONE.host_names();
    for _ in 0..bench.effort.rounds {
        let base = bench.cpu(&one, bench.plan(&one, &one_host), report)?;
        let mut sample = bench.cpu(many, bench.plan(many, hosts), report)?;
        sample.notes.push(("cpu_us", sample.value));
        sample.notes.push(("one_host_cpu_us", base.value));
        sample.value /= base.value;
        report.add(row, many.name(), sample);
    }
    Ok(())
}

/// Asks for every host several times over, so that its upstream has a connection.
fn visit_all(bench: &Bench, running: &Running<'_>, hosts: &[String]) -> Result<()> {
    let mut client = Client::start(Plan {
        ..bench.plan(running, hosts)
    })?;
    let mut visits = 0;
    while visits < 5 * hosts.len() as u64 {
        client.run(bench.effort.warm_up)?;
        let tally = client.take();
        anyhow::ensure!(
            tally.completed > 0,
            "{} answers no host: {tally}",
            running.name()
        );
        visits += tally.completed;
    }
    Ok(())
}

fn mebibytes(running: &Running<'_>) -> Result<Sample> {
    let value = running.process.resident_bytes()? as f64 / (1024.0 * 1024.0);
    Ok(Sample {
        value,
        notes: Vec::new(),
    })
}

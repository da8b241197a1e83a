//! Ten thousand certificates, each with a host of its own: how long a proxy takes to start with
//! them, and what they cost in memory.
//!
//! Time counts to a handshake in which the client accepts only the certificate of the host it asks
//! for: one for all hosts would cover the name as well.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::Bench;
use super::background::wait_until;
use super::idle::settled;
use crate::certificate::hosts::HostCertificates;
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
/// A start or a reload of some rivals takes many seconds, and differs little from the next.
const ROUNDS_MAX: usize = 3;
/// A handshake that takes longer counts as none.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Measures the rows, one proxy after the other: four with so many certificates want too much
/// memory at a time.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    let rows = [START, MEMORY];
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

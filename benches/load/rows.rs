//! The rows of the table, by stage. A stage is a configuration under which rows are measured; its
//! proxies take turns round by round, so that a change of the machine's mood hits all of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::certificate::Certificate;
use crate::client::tally::Tally;
use crate::client::{Client, Plan};
use crate::origin::{LARGE_PATH, Origin, SMALL_PATH};
use crate::process::CpuTime;
use crate::report::{Bar, Report, Row, Sample};
use crate::rivals::Proxy;
use crate::running::{Running, Setting};

pub(crate) mod attack;
pub(crate) mod background;
pub(crate) mod certificates;
pub(crate) mod flood;
pub(crate) mod handshake;
pub(crate) mod hosts;
pub(crate) mod http2;
pub(crate) mod idle;
pub(crate) mod protocols;
pub(crate) mod reload;

/// What all stages share.
pub(crate) struct Bench {
    /// The proxies, in column order.
    pub proxies: Vec<Proxy>,
    /// The origin behind all of them.
    pub origin: Origin,
    /// The certificate that all of them serve, if a row does not say otherwise.
    pub certificate: Certificate,
    /// The same with an RSA key.
    pub rsa: Certificate,
    /// Where configurations and logs go.
    pub directory: PathBuf,
    /// The rows that were asked for.
    pub rows: Vec<&'static str>,
    /// How long and how often to measure.
    pub effort: Effort,
}

/// How long and how often to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Times that each proxy gets its turn.
    pub rounds: usize,
    /// Load before the measurement, per turn.
    pub warm_up: Duration,
    /// The measurement, per turn.
    pub window: Duration,
    /// How long an attack goes on, per turn.
    pub attack: Duration,
    /// Reloads in the reload row.
    pub reloads: usize,
    /// Hosts where there are many.
    pub hosts: usize,
}

/// A row that is CPU time per request under one kind of load.
struct Work {
    row: Row,
    tls: bool,
    keepalive: usize,
    fresh: usize,
    path: &'static str,
}

/// The connection counts: 64 as an edge with some concurrency, 32 new ones at a time so that a
/// handshake waits for others, 16 large downloads so that socket buffers fill.
const WORKS: [Work; 6] = [
    Work {
        row: row("http", "keepalive small GET, HTTP", 0.9),
        tls: false,
        keepalive: 64,
        fresh: 0,
        path: SMALL_PATH,
    },
    Work {
        row: row("https", "keepalive small GET, HTTPS", 0.9),
        tls: true,
        keepalive: 64,
        fresh: 0,
        path: SMALL_PATH,
    },
    Work {
        row: row("http-new", "new connection + request, HTTP", 1.0),
        tls: false,
        keepalive: 0,
        fresh: 32,
        path: SMALL_PATH,
    },
    Work {
        row: row("https-new", "new connection + request, HTTPS", 0.85),
        tls: true,
        keepalive: 0,
        fresh: 32,
        path: SMALL_PATH,
    },
    Work {
        row: row("http-1m", "1 MiB body, HTTP", 0.8),
        tls: false,
        keepalive: 16,
        fresh: 0,
        path: LARGE_PATH,
    },
    Work {
        row: row("https-1m", "1 MiB body, HTTPS", 0.9),
        tls: true,
        keepalive: 16,
        fresh: 0,
        path: LARGE_PATH,
    },
];

const fn row(id: &'static str, title: &'static str, of_best: f64) -> Row {
    Row {
        id,
        title,
        unit: "µs CPU",
        bar: Bar::OfBestRival(of_best),
    }
}

/// Every row in table order.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    let works = WORKS.iter().map(|work| &work.row);
    let works = works.chain(http2::rows()).chain(protocols::rows());
    let works = works.chain(handshake::rows()).chain([&flood::ROW]);
    works.chain(attack::rows()).chain([
        &idle::ROW,
        &idle::ROW_HTTP2,
        &certificates::START,
        &certificates::MEMORY,
        &certificates::SWAP,
        &hosts::MEMORY,
        &hosts::MEMORY_USED,
        &hosts::RATIO,
        &hosts::RATIO_SHARED,
        &reload::LIVE,
        &reload::FAILED,
    ])
}

impl Bench {
    /// Runs every stage that a wanted row needs. What fails is reported; the rest goes on.
    pub(crate) fn run(&self, report: &mut Report) {
        self.one_host(report);
        http2::run(self, report);
        protocols::run(self, report);
        handshake::run(self, report);
        flood::run(self, report);
        attack::run(self, report);
        idle::run(self, report);
        certificates::run(self, report);
        hosts::run(self, report);
        reload::live(self, report);
        reload::failed(self, report);
    }

    /// Whether a row was asked for.
    pub(crate) fn wants(&self, row: &Row) -> bool {
        self.rows.contains(&row.id)
    }

    /// Starts one proxy for a stage.
    pub(crate) fn start<'p>(&self, proxy: &'p Proxy, setting: Setting) -> Result<Running<'p>> {
        self.start_with(proxy, setting, &self.certificate)
    }

    /// Starts every proxy for a stage; one that does not start is told of under these rows.
    pub(crate) fn start_all(
        &self,
        setting: Setting,
        certificate: &Certificate,
        rows: &[&Row],
        report: &mut Report,
    ) -> Vec<Running<'_>> {
        let mut started = Vec::new();
        for proxy in &self.proxies {
            match self.start_with(proxy, setting, certificate) {
                Ok(running) => started.push(running),
                Err(error) => rows
                    .iter()
                    .for_each(|row| report.failed(row, &proxy.name, &error)),
            }
        }
        started
    }

    /// Starts one proxy for a stage under another certificate.
    pub(crate) fn start_with<'p>(
        &self,
        proxy: &'p Proxy,
        setting: Setting,
        certificate: &Certificate,
    ) -> Result<Running<'p>> {
        Running::start(proxy, setting, &self.origin, certificate, &self.directory)
    }

    /// A plan for small requests to `hosts`; callers change what they need differently.
    pub(crate) fn plan(&self, running: &Running<'_>, hosts: &[String]) -> Plan {
        Plan {
            target: running.http,
            tls: None,
            keepalive: 64,
            fresh: 0,
            handshakes: 0,
            hosts: hosts.into(),
            path: SMALL_PATH,
            body: Arc::clone(&self.origin.bodies.small),
            rate: None,
        }
    }

    /// The rows with one host: everything is started once and takes turns.
    fn one_host(&self, report: &mut Report) {
        let works = || WORKS.iter().filter(|work| self.wants(&work.row));
        let Some(first) = works().next() else {
            return;
        };
        let started = self.start_all(Setting::ONE, &self.certificate, &[&first.row], report);
        for work in works() {
            for round in 0..self.effort.rounds {
                eprintln!(
                    "{}: round {} of {}",
                    work.row.id,
                    round + 1,
                    self.effort.rounds
                );
                for running in &started {
                    match self.cpu(running, self.work_plan(work, running), report) {
                        Ok(sample) => report.add(&work.row, running.name(), sample),
                        Err(error) => report.failed(&work.row, running.name(), &error),
                    }
                }
            }
        }
    }

    fn work_plan(&self, work: &Work, running: &Running<'_>) -> Plan {
        let large = work.path == LARGE_PATH;
        let bodies = &self.origin.bodies;
        Plan {
            target: if work.tls {
                running.https
            } else {
                running.http
            },
            tls: work.tls.then(|| Arc::clone(&self.certificate.client)),
            keepalive: work.keepalive,
            fresh: work.fresh,
            path: work.path,
            body: Arc::clone(if large { &bodies.large } else { &bodies.small }),
            ..self.plan(running, &Setting::ONE.host_names())
        }
    }

    /// CPU microseconds per response under a plan.
    pub(crate) fn cpu(
        &self,
        running: &Running<'_>,
        plan: Plan,
        report: &mut Report,
    ) -> Result<Sample> {
        let spent = self.spend(running, plan, report)?;
        Ok(Sample {
            value: spent.per_completed_us(),
            notes: spent.notes(),
        })
    }

    /// What a plan's load costs a proxy in one turn.
    pub(crate) fn spend(
        &self,
        running: &Running<'_>,
        plan: Plan,
        report: &mut Report,
    ) -> Result<Spent> {
        let mut client = Client::start(plan)?;
        client.run(self.effort.warm_up)?;
        let warm_up = client.take();
        let upstream = self.origin.accepted();
        let before = running.process.cpu()?;
        client.run(self.effort.window)?;
        let cpu = running.process.cpu()?.since(before);
        let tally = client.take();
        let upstream = self.origin.accepted() - upstream;
        for (phase, tally) in [("warm-up", &warm_up), ("measurement", &tally)] {
            if tally.failed() > 0 {
                report.remark(format!("{} failed in {phase}: {tally}", running.name()));
            }
        }
        anyhow::ensure!(tally.completed > 0, "{} answered nothing", running.name());
        Ok(Spent {
            cpu,
            tally,
            upstream,
        })
    }
}

/// One turn of one proxy.
pub(crate) struct Spent {
    /// CPU time of the proxy.
    pub cpu: CpuTime,
    /// What the client counted; it completed something.
    pub tally: Tally,
    /// Connections that the proxy opened to the origin.
    pub upstream: u64,
}

impl Spent {
    /// CPU microseconds for each response, or whatever else the client counts as completed.
    pub(crate) fn per_completed_us(&self) -> f64 {
        self.cpu.total.as_secs_f64() * 1e6 / self.tally.completed as f64
    }

    fn notes(&self) -> Vec<(&'static str, f64)> {
        let (cpu, tally) = (self.cpu, &self.tally);
        vec![
            ("user_us", self.per_completed_us() * cpu.user_share()),
            ("requests_per_s", tally.throughput()),
            ("p50_ms", tally.latency.quantile_ms(0.5)),
            ("p99_ms", tally.latency.quantile_ms(0.99)),
            ("client_connections", tally.connections as f64),
            ("upstream_connections", self.upstream as f64),
            ("failed", tally.failed() as f64),
        ]
    }
}

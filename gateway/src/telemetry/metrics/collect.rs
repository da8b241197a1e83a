//! A scrape: adds up what the workers counted, looks up what nobody counts, and hands it to the
//! Prometheus library.
//!
//! Must not: disturb the workers. It reads their cells, and takes locks that only the control path
//! takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType,
};
use tracing_appender::non_blocking::ErrorCounter;

use cardea_http2::Fault;

use super::buckets::{BOUNDS_S, BUCKETS, UNITS_PER_SECOND};
use super::cells::{CLASSES, Count, Times, WorkerCells};
use super::cells::{DatagramDrop, HandshakeEnd, ProxyHeaderEnd, StreamEnd};
use super::names::{Kind, Metric};
use super::process::{self, Start};
use super::{Reloads, Shared, clear, lock, shared_value};
use crate::traffic::respond::Reason;
use crate::traffic::upstream::endpoint::Health;

/// The collector that the registry asks.
pub(super) struct Collected {
    shared: Arc<Shared>,
    descriptions: Vec<Desc>,
    start: Start,
}

impl Collected {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, prometheus::Error> {
        let describe = |metric: &Metric| {
            let labels = metric.labels().iter().map(|label| (*label).to_owned());
            Desc::new(
                metric.name().to_owned(),
                metric.help().to_owned(),
                labels.collect(),
                HashMap::new(),
            )
        };
        let descriptions = Metric::ALL.iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self {
            shared,
            descriptions,
            start: Start::default(),
        })
    }
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Families::default();
        let shared = &*self.shared;
        routes(shared, &mut families);
        domains(shared, &mut families);
        upstreams(shared, &mut families);
        listeners(shared, &mut families);
        streams(shared, &mut families);
        workers(shared, &mut families);
        upstreams_in_force(shared, &mut families);
        certificates(shared, &mut families);
        reloads(*lock(&shared.reloads), &mut families);
        log(shared, &mut families);
        families.process(&self.start);
        families.finish()
    }
}

/// Samples by metric.
#[derive(Default)]
struct Families(HashMap<Metric, Vec<Sample>>);

impl Families {
    fn add(&mut self, metric: Metric, labels: &[&str], value: f64) {
        let mut sample = Sample::from_label(pairs(metric, labels));
        match metric.kind() {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
        }
        self.0.entry(metric).or_default().push(sample);
    }

    fn add_count(&mut self, metric: Metric, labels: &[&str], value: u64) {
        self.add(metric, labels, value as f64);
    }

    fn add_times(&mut self, metric: Metric, labels: &[&str], times: &SummedTimes) {
        let mut histogram = Histogram::default();
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BOUNDS_S.len());
        for (bound, in_bucket) in BOUNDS_S.iter().zip(times.buckets) {
            count += in_bucket;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            buckets.push(bucket);
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(times.buckets.iter().sum());
        histogram.set_sample_sum(times.units as f64 / UNITS_PER_SECOND);
        let mut sample = Sample::from_label(pairs(metric, labels));
        sample.set_histogram(histogram);
        self.0.entry(metric).or_default().push(sample);
    }

    fn process(&mut self, start: &Start) {
        let version = env!("CARGO_PKG_VERSION");
        self.add(Metric::BuildInfo, &[version], 1.0);
        self.add(Metric::ProcessCpu, &[], process::cpu_seconds());
        self.add(Metric::ProcessFilesMax, &[], process::open_files_max());
        self.add(Metric::ProcessStart, &[], start.seconds());
        if let Some(bytes) = process::resident_bytes() {
            self.add(Metric::ProcessMemory, &[], bytes);
        }
        if let Some(files) = process::open_files() {
            self.add(Metric::ProcessFiles, &[], files);
        }
    }

    fn finish(self) -> Vec<MetricFamily> {
        let family = |(metric, samples): (Metric, Vec<Sample>)| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name().to_owned());
            family.set_help(metric.help().to_owned());
            family.set_field_type(match metric.kind() {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family.set_metric(samples);
            family
        };
        self.0.into_iter().map(family).collect()
    }
}

fn pairs(metric: Metric, values: &[&str]) -> Vec<LabelPair> {
    debug_assert_eq!(metric.labels().len(), values.len(), "{}", metric.name());
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    metric.labels().iter().zip(values).map(pair).collect()
}

/// A histogram over all workers.
#[derive(Default)]
struct SummedTimes {
    units: u64,
    buckets: [u64; BUCKETS],
}

impl SummedTimes {
    fn add(&mut self, sum: &Count, times: &Times) {
        self.units = self.units.wrapping_add(sum.value());
        add_all(&mut self.buckets, &times.buckets);
    }
}

fn add_all<const N: usize>(sums: &mut [u64; N], counts: &[Count; N]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum = sum.wrapping_add(count.value());
    }
}

/// The sum over workers of one cell of each.
fn sum(shared: &Shared, count: impl Fn(&WorkerCells) -> u64) -> u64 {
    shared
        .workers
        .iter()
        .fold(0, |sum, worker| sum.wrapping_add(count(worker)))
}

/// Routes that were never asked for have no series: most of ten thousand domains are quiet.
fn routes(shared: &Shared, families: &mut Families) {
    let held = shared.routes.held(|slot| {
        clear(&shared.workers, slot, |cells| &cells.routes);
    });
    for (key, slot) in held {
        let mut classes = [0; CLASSES.len()];
        let mut times = SummedTimes::default();
        let (mut received, mut sent) = (0u64, 0u64);
        for cells in shared.workers.iter().filter_map(|it| it.routes.seen(slot)) {
            add_all(&mut classes, &cells.classes);
            times.add(&cells.duration, &cells.times);
            received = received.wrapping_add(cells.bytes_received.value());
            sent = sent.wrapping_add(cells.bytes_sent.value());
        }
        if classes == [0; CLASSES.len()] {
            continue;
        }
        let [domain, route] = &*key;
        for (class, count) in CLASSES.iter().zip(classes) {
            families.add_count(Metric::Requests, &[domain, route, class], count);
        }
        let labels: [&str; 2] = [domain, route];
        families.add_times(Metric::RequestDuration, &labels, &times);
        families.add_count(Metric::RequestBytes, &labels, received);
        families.add_count(Metric::ResponseBytes, &labels, sent);
    }
}

fn domains(shared: &Shared, families: &mut Families) {
    let held = shared.domains.held(|slot| {
        clear(&shared.workers, slot, |cells| &cells.domains);
    });
    for (key, slot) in held {
        let mut reasons = [0; Reason::ALL.len()];
        for cells in shared.workers.iter().filter_map(|it| it.domains.seen(slot)) {
            add_all(&mut reasons, &cells.reasons);
        }
        let [domain] = &*key;
        for (reason, count) in Reason::ALL.iter().zip(reasons) {
            if count > 0 {
                families.add_count(Metric::ResponsesByGateway, &[domain, reason.code()], count);
            }
        }
    }
}

fn upstreams(shared: &Shared, families: &mut Families) {
    let held = shared.upstreams.held(|slot| {
        clear(&shared.workers, slot, |cells| &cells.upstreams);
    });
    for (key, slot) in held {
        let mut classes = [0; CLASSES.len()];
        let mut times = SummedTimes::default();
        let (mut unanswered, mut retries) = (0u64, 0u64);
        let (mut opened, mut reused, mut failed) = (0u64, 0u64, 0u64);
        for cells in shared
            .workers
            .iter()
            .filter_map(|it| it.upstreams.seen(slot))
        {
            add_all(&mut classes, &cells.classes);
            times.add(&cells.duration, &cells.times);
            unanswered = unanswered.wrapping_add(cells.unanswered.value());
            retries = retries.wrapping_add(cells.retries.value());
            opened = opened.wrapping_add(cells.opened.value());
            reused = reused.wrapping_add(cells.reused.value());
            failed = failed.wrapping_add(cells.failed.value());
        }
        let [name] = &*key;
        if is_idle_overflow(name, classes.iter().sum::<u64>() + unanswered) {
            continue;
        }
        for (class, count) in CLASSES.iter().zip(classes) {
            families.add_count(Metric::UpstreamRequests, &[name, class], count);
        }
        families.add_count(Metric::UpstreamRequests, &[name, "none"], unanswered);
        families.add_times(Metric::UpstreamDuration, &[name], &times);
        families.add_count(Metric::UpstreamRetries, &[name], retries);
        families.add_count(Metric::UpstreamConnectionsOpened, &[name], opened);
        families.add_count(Metric::UpstreamConnectionsReused, &[name], reused);
        families.add_count(Metric::UpstreamConnectionsFailed, &[name], failed);
    }
}

/// The slot for what has no other is shown only when it was needed.
fn is_idle_overflow(name: &str, count: u64) -> bool {
    name == super::OVERFLOW && count == 0
}

fn listeners(shared: &Shared, families: &mut Families) {
    let held = shared.listeners.held(|slot| {
        clear(&shared.workers, slot, |cells| &cells.listeners);
    });
    for (key, slot) in held {
        let (mut opened, mut closed, mut refused) = (0u64, 0u64, 0u64);
        let mut pauses = 0u64;
        let mut handshakes = [0; HandshakeEnd::ALL.len()];
        let mut faults = [0; Fault::ALL.len()];
        let mut proxy_headers = [0; ProxyHeaderEnd::ALL.len()];
        for cells in shared
            .workers
            .iter()
            .filter_map(|it| it.listeners.seen(slot))
        {
            // The end is read before the beginning, so that no more have ended than begun.
            closed = closed.wrapping_add(cells.closed.value());
            opened = opened.wrapping_add(cells.opened.value());
            refused = refused.wrapping_add(cells.refused.value());
            pauses = pauses.wrapping_add(cells.http2_pauses.value());
            add_all(&mut handshakes, &cells.handshakes);
            add_all(&mut faults, &cells.http2_faults.0);
            add_all(&mut proxy_headers, &cells.proxy_headers);
        }
        let [name] = &*key;
        if is_idle_overflow(name, opened + refused) {
            continue;
        }
        families.add_count(Metric::Connections, &[name], opened);
        families.add_count(
            Metric::ConnectionsOpen,
            &[name],
            opened.saturating_sub(closed),
        );
        families.add_count(Metric::ConnectionsRefused, &[name], refused);
        for (end, count) in HandshakeEnd::ALL.iter().zip(handshakes) {
            families.add_count(Metric::Handshakes, &[name, end.as_str()], count);
        }
        for (fault, count) in Fault::ALL.iter().zip(faults) {
            families.add_count(Metric::Http2Faults, &[name, fault.as_str()], count);
        }
        families.add_count(Metric::Http2Pauses, &[name], pauses);
        // Most listeners have no proxy in front.
        if proxy_headers == [0; ProxyHeaderEnd::ALL.len()] {
            continue;
        }
        for (end, count) in ProxyHeaderEnd::ALL.iter().zip(proxy_headers) {
            families.add_count(Metric::ProxyHeaders, &[name, end.as_str()], count);
        }
    }
}

/// Ends and drops that never were have no series.
fn streams(shared: &Shared, families: &mut Families) {
    let held = shared.streams.held(|slot| {
        clear(&shared.workers, slot, |cells| &cells.streams);
    });
    for (key, slot) in held {
        let (mut opened, mut closed) = (0u64, 0u64);
        let (mut received, mut sent) = (0u64, 0u64);
        let mut ends = [0; StreamEnd::ALL.len()];
        let mut dropped = [0; DatagramDrop::ALL.len()];
        for cells in shared.workers.iter().filter_map(|it| it.streams.seen(slot)) {
            // The end is read before the beginning, so that no more have ended than begun.
            closed = closed.wrapping_add(cells.closed.value());
            opened = opened.wrapping_add(cells.opened.value());
            received = received.wrapping_add(cells.received.value());
            sent = sent.wrapping_add(cells.sent.value());
            add_all(&mut ends, &cells.ends);
            add_all(&mut dropped, &cells.dropped);
        }
        let [name] = &*key;
        if is_idle_overflow(name, opened) {
            continue;
        }
        let open = opened.saturating_sub(closed);
        families.add_count(Metric::StreamConnections, &[name], opened);
        families.add_count(Metric::StreamConnectionsOpen, &[name], open);
        families.add_count(Metric::StreamReceivedBytes, &[name], received);
        families.add_count(Metric::StreamSentBytes, &[name], sent);
        for (end, count) in StreamEnd::ALL.iter().zip(ends) {
            if count > 0 {
                families.add_count(Metric::StreamEnds, &[name, end.as_str()], count);
            }
        }
        for (why, count) in DatagramDrop::ALL.iter().zip(dropped) {
            if count > 0 {
                let labels: [&str; 2] = [name, why.as_str()];
                families.add_count(Metric::StreamDatagramsDropped, &labels, count);
            }
        }
    }
}

fn workers(shared: &Shared, families: &mut Families) {
    for (index, worker) in shared.workers.iter().enumerate() {
        let index = index.to_string();
        let own = &worker.own;
        families.add_count(Metric::WorkerRequests, &[&index], own.requests.value());
        let delay = own.delay.value() as f64 / 1e6;
        families.add(Metric::WorkerDelay, &[&index], delay);
        families.add_count(Metric::WorkerBuffers, &[&index], own.buffers_in_use.value());
        families.add_count(
            Metric::WorkerWaiting,
            &[&index],
            own.requests_waiting.value(),
        );
        families.add_count(
            Metric::WorkerIdleConnections,
            &[&index],
            own.pool_idle.value(),
        );
    }
    let closed = sum(shared, |worker| worker.own.tunnels_closed.value());
    let opened = sum(shared, |worker| worker.own.tunnels_opened.value());
    families.add_count(Metric::Tunnels, &[], opened);
    families.add_count(Metric::TunnelsOpen, &[], opened.saturating_sub(closed));
    let failed = sum(shared, |worker| worker.own.accept_failures.value());
    families.add_count(Metric::AcceptFailures, &[], failed);
}

fn upstreams_in_force(shared: &Shared, families: &mut Families) {
    let Some(upstreams) = lock(&shared.upstreams_in_force).clone() else {
        return;
    };
    for upstream in upstreams.iter() {
        let name = &*upstream.name;
        let (mut usable, mut unhealthy, mut ejected, mut joining) = (0, 0, 0, 0);
        for endpoint in upstream.endpoints().endpoints() {
            let state = &endpoint.state;
            match state.health() {
                Health::Unhealthy => unhealthy += 1,
                Health::Joining => joining += 1,
                _ if state.is_ejected() => ejected += 1,
                Health::Unchecked | Health::Healthy => usable += 1,
            }
        }
        let sources = upstream.source_reports();
        let unresolved = sources.iter().filter(|it| it.addresses.is_empty());
        let states = [
            ("usable", usable),
            ("unhealthy", unhealthy),
            ("ejected", ejected),
            ("joining", joining),
            ("unresolved", unresolved.count() as u64),
        ];
        for (state, count) in states {
            families.add_count(Metric::UpstreamEndpoints, &[name, state], count);
        }
        let load = &upstream.load;
        let active = u64::from(load.requests.value());
        families.add_count(Metric::UpstreamRequestsActive, &[name], active);
        let open = u64::from(load.connections.value());
        families.add_count(Metric::UpstreamConnectionsOpen, &[name], open);
        let limit = load.adaptive_limit.load(Ordering::Relaxed);
        families.add_count(Metric::UpstreamAdaptiveLimit, &[name], u64::from(limit));
        let queued = load.queued.load(Ordering::Relaxed);
        families.add_count(Metric::UpstreamQueued, &[name], u64::from(queued));
        let ejections = shared_value(&load.ejections_total);
        families.add_count(Metric::UpstreamEjections, &[name], ejections);
    }
}

fn certificates(shared: &Shared, families: &mut Families) {
    for (name, expiry) in lock(&shared.certificates).iter() {
        families.add(Metric::CertificateExpiry, &[name], *expiry as f64);
    }
    for (name, expiry) in lock(&shared.staples).iter() {
        families.add(Metric::StapleExpiry, &[name], *expiry as f64);
    }
    let orders = &shared.orders;
    for (result, count) in [
        ("stored", &orders.stored),
        ("failed", &orders.failed),
        ("denied", &orders.denied),
    ] {
        families.add_count(Metric::CertificateOrders, &[result], shared_value(count));
    }
}

fn reloads(reloads: Reloads, families: &mut Families) {
    families.add_count(Metric::Generation, &[], reloads.generation);
    families.add_count(Metric::Reloads, &["applied"], reloads.applied);
    families.add_count(Metric::Reloads, &["unchanged"], reloads.unchanged);
    families.add_count(Metric::Reloads, &["refused"], reloads.refused);
    if let Some(last) = reloads.last {
        families.add(Metric::LastReload, &[], last);
        let successful = u64::from(!reloads.last_refused);
        families.add_count(Metric::LastReloadSuccessful, &[], successful);
    }
}

fn log(shared: &Shared, families: &mut Families) {
    let log = &shared.log;
    families.add_count(Metric::LogLines, &[], shared_value(&log.lines));
    families.add_count(Metric::LogLinesDropped, &[], shared_value(&log.dropped));
    families.add_count(Metric::LogErrors, &[], shared_value(&log.errors));
    let dropped = shared.diagnostics_dropped.get();
    let dropped = dropped.map_or(0, ErrorCounter::dropped_lines);
    families.add_count(Metric::DiagnosticsDropped, &[], dropped as u64);
}

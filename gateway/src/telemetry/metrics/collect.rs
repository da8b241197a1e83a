//! The scrape: sums over the workers as Prometheus metric families. Every metric's name and help
//! stand here and nowhere else.
//!
//! Must not: run on a worker.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, Registry, TextEncoder};

use super::Metrics;
use super::histogram::{BUCKETS, Sums};
use super::worker::{CLASSES, HandshakeEnd, Shard, read};
use crate::traffic::respond::Reason;

/// Collects the metrics of a process.
#[derive(Debug)]
struct Scrape(std::sync::Arc<Metrics>);

impl Metrics {
    /// The metrics in Prometheus' text format.
    pub fn text(self: &std::sync::Arc<Self>) -> String {
        let registry = Registry::new();
        let mut text = Vec::new();
        let encoded = registry
            .register(Box::new(Scrape(std::sync::Arc::clone(self))))
            .and_then(|()| TextEncoder::new().encode(&registry.gather(), &mut text));
        if let Err(error) = encoded {
            tracing::error!(%error, "metrics_not_encoded");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    fn sum(&self, number: impl Fn(&Shard) -> Option<u64>) -> u64 {
        self.shards.iter().filter_map(|shard| number(shard)).sum()
    }
}

impl Collector for Scrape {
    fn desc(&self) -> Vec<&Desc> {
        // The families depend on the configuration; the registry checks names when it gathers.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = &self.0;
        let mut families = Vec::new();
        families.extend(routes(metrics));
        families.extend(upstreams(metrics));
        families.extend(listeners(metrics));
        families.extend(process(metrics));
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}

fn routes(metrics: &Metrics) -> [MetricFamily; 5] {
    let mut requests = family(
        "cardea_requests_total",
        "Exchanges finished, by status class.",
        MetricType::COUNTER,
    );
    let mut duration = family(
        "cardea_request_duration_seconds",
        "Exchanges, from the head of the request to the end of the response.",
        MetricType::HISTOGRAM,
    );
    let mut received = family(
        "cardea_request_body_bytes_total",
        "Body bytes received from clients.",
        MetricType::COUNTER,
    );
    let mut sent = family(
        "cardea_response_body_bytes_total",
        "Body bytes sent to clients.",
        MetricType::COUNTER,
    );
    let mut reasons = family(
        "cardea_responses_by_gateway_total",
        "Exchanges that the gateway answered by itself or cut short, by reason.",
        MetricType::COUNTER,
    );
    for ((domain, route), slot) in metrics.labels().routes.iter() {
        let labels = [("domain", &**domain), ("route", &**route)];
        for class in 0..CLASSES {
            let count = metrics.sum(|shard| Some(read(&shard.routes.get(slot)?.classes[class])));
            let code = format!("{}xx", class + 1);
            push(
                &mut requests,
                counter(count, &[labels[0], labels[1], ("code", &code)]),
                count,
            );
        }
        let mut sums = Sums::default();
        metrics
            .shards
            .iter()
            .filter_map(|s| s.routes.get(slot))
            .for_each(|c| c.duration.add_to(&mut sums));
        duration.mut_metric().push(histogram(&sums, &labels));
        let bytes = metrics.sum(|shard| Some(read(&shard.routes.get(slot)?.bytes_received)));
        received.mut_metric().push(counter(bytes, &labels));
        let bytes = metrics.sum(|shard| Some(read(&shard.routes.get(slot)?.bytes_sent)));
        sent.mut_metric().push(counter(bytes, &labels));
    }
    for reason in Reason::ALL {
        let count = metrics.sum(|shard| shard.reasons.0.get(*reason as usize).map(read));
        push(
            &mut reasons,
            counter(count, &[("reason", reason.code())]),
            count,
        );
    }
    [requests, duration, received, sent, reasons]
}

fn upstreams(metrics: &Metrics) -> [MetricFamily; 3] {
    let mut requests = family(
        "cardea_upstream_requests_total",
        "Exchanges with an upstream, by status class; no answer counts as 5xx.",
        MetricType::COUNTER,
    );
    let mut duration = family(
        "cardea_upstream_response_seconds",
        "From the head of the request to the head of the upstream's response.",
        MetricType::HISTOGRAM,
    );
    let mut retries = family(
        "cardea_upstream_retries_total",
        "Attempts after the first.",
        MetricType::COUNTER,
    );
    for (name, slot) in metrics.labels().upstreams.iter() {
        let label = ("upstream", &**name);
        for class in 0..CLASSES {
            let count = metrics.sum(|shard| Some(read(&shard.upstreams.get(slot)?.classes[class])));
            let code = format!("{}xx", class + 1);
            push(
                &mut requests,
                counter(count, &[label, ("code", &code)]),
                count,
            );
        }
        let mut sums = Sums::default();
        metrics
            .shards
            .iter()
            .filter_map(|s| s.upstreams.get(slot))
            .for_each(|c| c.duration.add_to(&mut sums));
        duration.mut_metric().push(histogram(&sums, &[label]));
        let count = metrics.sum(|shard| Some(read(&shard.upstreams.get(slot)?.retries)));
        retries.mut_metric().push(counter(count, &[label]));
    }
    [requests, duration, retries]
}

fn listeners(metrics: &Metrics) -> [MetricFamily; 4] {
    let mut open = family(
        "cardea_connections_open",
        "Connections open now.",
        MetricType::GAUGE,
    );
    let mut total = family(
        "cardea_connections_total",
        "Connections accepted.",
        MetricType::COUNTER,
    );
    let mut refused = family(
        "cardea_connections_refused_total",
        "Connections closed at once because the listener was at its limit.",
        MetricType::COUNTER,
    );
    let mut handshakes = family(
        "cardea_tls_handshakes_total",
        "TLS handshakes, by how they ended.",
        MetricType::COUNTER,
    );
    for (name, slot) in metrics.labels().listeners.iter() {
        let label = ("listener", &**name);
        let opened = metrics.sum(|shard| Some(read(&shard.listeners.get(slot)?.opened)));
        let closed = metrics.sum(|shard| Some(read(&shard.listeners.get(slot)?.closed)));
        open.mut_metric()
            .push(gauge(opened.saturating_sub(closed) as f64, &[label]));
        total.mut_metric().push(counter(opened, &[label]));
        let count = metrics.sum(|shard| Some(read(&shard.listeners.get(slot)?.refused)));
        refused.mut_metric().push(counter(count, &[label]));
        for end in HandshakeEnd::ALL {
            let count = metrics
                .sum(|shard| Some(read(&shard.listeners.get(slot)?.handshakes[end as usize])));
            push(
                &mut handshakes,
                counter(count, &[label, ("result", end.label())]),
                count,
            );
        }
    }
    [open, total, refused, handshakes]
}

fn process(metrics: &Metrics) -> Vec<MetricFamily> {
    let total = |name, help, value| single(name, help, MetricType::COUNTER, value as f64);
    let now = |name, help, value: f64| single(name, help, MetricType::GAUGE, value);
    let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let sum = |number: fn(&Shard) -> &AtomicU64| metrics.sum(|shard| Some(read(number(shard))));
    let mut reloads = family(
        "cardea_config_reloads_total",
        "Configurations read again, by result.",
        MetricType::COUNTER,
    );
    reloads.mut_metric().push(counter(
        load(&metrics.reloads_applied),
        &[("result", "applied")],
    ));
    reloads.mut_metric().push(counter(
        load(&metrics.reloads_refused),
        &[("result", "refused")],
    ));
    let mut build = family(
        "cardea_build_info",
        "The build; always 1.",
        MetricType::GAUGE,
    );
    build
        .mut_metric()
        .push(gauge(1.0, &[("version", env!("CARGO_PKG_VERSION"))]));
    let mut expiry = family(
        "cardea_certificate_expiry_seconds",
        "When a certificate expires, seconds since 1970.",
        MetricType::GAUGE,
    );
    for (name, at) in metrics
        .certificates
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        expiry
            .mut_metric()
            .push(gauge(*at as f64, &[("certificate", name)]));
    }
    vec![
        total(
            "cardea_accept_failures_total",
            "Accepts that failed for want of resources.",
            sum(|s| &s.accept_failures),
        ),
        now(
            "cardea_pool_idle_connections",
            "Idle connections to endpoints.",
            sum(|s| &s.pool_idle) as f64,
        ),
        now(
            "cardea_buffers_in_use",
            "Buffers in use by workers.",
            sum(|s| &s.buffers_in_use) as f64,
        ),
        now(
            "cardea_config_generation",
            "The configuration in force, counted from one.",
            load(&metrics.generation) as f64,
        ),
        now(
            "cardea_config_last_reload_successful",
            "Whether the last configuration read took effect.",
            metrics.last_reload_successful.load(Ordering::Relaxed) as f64,
        ),
        now(
            "cardea_config_last_reload_timestamp_seconds",
            "When a configuration was last read, seconds since 1970.",
            load(&metrics.last_reload_seconds) as f64,
        ),
        total(
            "cardea_access_log_lines_dropped_total",
            "Access-log lines dropped because the queue was full or could not be written.",
            load(&metrics.log_lines_dropped),
        ),
        now(
            "cardea_workers",
            "Worker threads.",
            metrics.shards.len() as f64,
        ),
        reloads,
        build,
        expiry,
    ]
}

fn family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

fn single(name: &str, help: &str, kind: MetricType, value: f64) -> MetricFamily {
    let mut family = family(name, help, kind);
    family.mut_metric().push(match kind {
        MetricType::GAUGE => gauge(value, &[]),
        _ => counter(value as u64, &[]),
    });
    family
}

/// Adds a metric, unless it has never counted: ten thousand routes have few classes each.
fn push(family: &mut MetricFamily, metric: Metric, count: u64) {
    if count > 0 {
        family.mut_metric().push(metric);
    }
}

fn metric(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    metric
}

fn counter(value: u64, labels: &[(&str, &str)]) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = metric(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(value: f64, labels: &[(&str, &str)]) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = metric(labels);
    metric.set_gauge(gauge);
    metric
}

fn histogram(sums: &Sums, labels: &[(&str, &str)]) -> Metric {
    let mut total = 0;
    let mut buckets = Vec::with_capacity(BUCKETS - 1);
    for (at, count) in sums.buckets.iter().enumerate() {
        total += count;
        if at + 1 < BUCKETS {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(Sums::bound_seconds(at));
            bucket.set_cumulative_count(total);
            buckets.push(bucket);
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(total);
    histogram.set_sample_sum(sums.sum_us as f64 / 1e6);
    let mut metric = metric(labels);
    metric.set_histogram(histogram);
    metric
}

//! Metrics from the outside: what workers count is what Prometheus sees.

use std::sync::Arc;
use std::time::Duration;

use super::cells::RouteCells;
use super::*;
use crate::traffic::respond::Reason;
use crate::traffic::upstream::dns::ResolverSettings;
use crate::traffic::upstream::local::LocalUpstreams;
use crate::traffic::upstream::outlier::{Outcome, OutlierSettings};
use crate::traffic::upstream::set::Tried;
use crate::traffic::upstream::settings::Settings;

fn metrics(workers: usize) -> (Arc<Metrics>, Vec<WorkerMetrics>) {
    let metrics = Metrics::new(workers);
    let workers = (0..workers).map(|index| metrics.worker(index).unwrap());
    let workers = workers.collect();
    (metrics, workers)
}

fn sample(route: &RouteSlot) -> RequestSample {
    RequestSample {
        route: route.id(),
        upstream: None,
        status: 200,
        reason: None,
        duration: Duration::from_millis(3),
        upstream_duration: None,
        bytes_received: 10,
        bytes_sent: 100,
        retries: 0,
    }
}

/// The value of a series, as it is written.
fn value(metrics: &Metrics, series: &str) -> Option<String> {
    let page = metrics.text();
    let line = page.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next().map(str::to_owned)
}

/// Every line of `expected` is a series with its value.
fn check(metrics: &Metrics, expected: &str) {
    let page = metrics.text();
    for line in expected.lines().map(str::trim) {
        assert!(
            page.lines().any(|it| it == line),
            "{line}
{page}"
        );
    }
}

#[test]
fn a_worker_has_one_handle() {
    let metrics = Metrics::new(1);
    assert!(metrics.worker(0).is_some());
    assert!(metrics.worker(0).is_none());
    assert!(metrics.worker(1).is_none());
}

#[test]
fn the_counts_of_all_workers_add_up() {
    const WORKERS: usize = 4;
    const REQUESTS: usize = 20_000;
    let (metrics, workers) = metrics(WORKERS);
    let route = metrics.route_slot("shop", "api");
    let upstream = metrics.upstream_slot("api");
    let listener = metrics.listener_slot("web");
    std::thread::scope(|scope| {
        for worker in workers {
            let sample = RequestSample {
                upstream: Some(upstream.id()),
                upstream_duration: Some(Duration::from_millis(2)),
                retries: 1,
                ..sample(&route)
            };
            let listener = listener.id();
            scope.spawn(move || {
                for number in 0..REQUESTS {
                    worker.connection_opened(listener);
                    worker.request_finished(&sample);
                    if number % 2 == 0 {
                        worker.connection_closed(listener);
                    }
                }
            });
        }
        // Reading while others count must never see a number that was not there.
        for _ in 0..20 {
            let seen = value(&metrics, "cardea_connections_open{listener=\"web\"}").unwrap();
            assert!(seen.parse::<u64>().unwrap() <= (WORKERS * REQUESTS) as u64);
        }
    });
    check(
        &metrics,
        r#"cardea_requests_total{domain="shop",route="api",code="2xx"} 80000
        cardea_requests_total{domain="shop",route="api",code="5xx"} 0
        cardea_request_body_bytes_total{domain="shop",route="api"} 800000
        cardea_response_body_bytes_total{domain="shop",route="api"} 8000000
        cardea_request_duration_seconds_sum{domain="shop",route="api"} 240
        cardea_request_duration_seconds_count{domain="shop",route="api"} 80000
        cardea_request_duration_seconds_bucket{domain="shop",route="api",le="0.0025"} 0
        cardea_request_duration_seconds_bucket{domain="shop",route="api",le="0.005"} 80000
        cardea_request_duration_seconds_bucket{domain="shop",route="api",le="+Inf"} 80000
        cardea_upstream_requests_total{upstream="api",code="2xx"} 80000
        cardea_upstream_retries_total{upstream="api"} 80000
        cardea_upstream_request_duration_seconds_sum{upstream="api"} 160
        cardea_connections_total{listener="web"} 80000
        cardea_connections_open{listener="web"} 40000
        cardea_worker_requests_total{worker="3"} 20000"#,
    );
}

#[test]
fn responses_of_the_gateway_count_by_domain_and_reason() {
    let (metrics, workers) = metrics(1);
    let nowhere = metrics.route_slot("", "");
    let shop = metrics.route_slot("shop", "");
    let unknown = (&shop, Reason::RouteUnknown);
    for (route, reason) in [(&nowhere, Reason::HostInvalid), unknown, unknown] {
        workers[0].request_finished(&RequestSample {
            status: reason.status(),
            reason: Some(reason),
            ..sample(route)
        });
    }
    check(
        &metrics,
        r#"cardea_responses_by_gateway_total{domain="",reason="host_invalid"} 1
        cardea_responses_by_gateway_total{domain="shop",reason="route_unknown"} 2"#,
    );
    let absent = r#"cardea_responses_by_gateway_total{domain="shop",reason="host_invalid"}"#;
    assert_eq!(value(&metrics, absent), None);
}

#[test]
fn what_the_upstream_did_not_answer_is_told_apart() {
    let (metrics, workers) = metrics(1);
    let route = metrics.route_slot("shop", "api");
    let upstream = metrics.upstream_slot("api");
    workers[0].request_finished(&RequestSample {
        upstream: Some(upstream.id()),
        status: 502,
        ..sample(&route)
    });
    workers[0].upstream_connect_failed(upstream.id());
    workers[0].upstream_connected(upstream.id());
    workers[0].upstream_reused(upstream.id());
    check(
        &metrics,
        r#"cardea_upstream_requests_total{upstream="api",code="5xx"} 0
        cardea_upstream_requests_total{upstream="api",code="none"} 1
        cardea_upstream_request_duration_seconds_count{upstream="api"} 0
        cardea_upstream_connections_failed_total{upstream="api"} 1
        cardea_upstream_connections_opened_total{upstream="api"} 1
        cardea_upstream_connections_reused_total{upstream="api"} 1"#,
    );
}

#[test]
fn tunnels_count_but_are_not_timed() {
    let (metrics, workers) = metrics(1);
    let route = metrics.route_slot("shop", "chat");
    workers[0].tunnel_opened();
    workers[0].tunnel_opened();
    workers[0].tunnel_closed();
    workers[0].request_finished(&RequestSample {
        status: 101,
        duration: Duration::from_secs(3600),
        ..sample(&route)
    });
    check(
        &metrics,
        r#"cardea_tunnels_total 2
        cardea_tunnels_open 1
        cardea_requests_total{domain="shop",route="chat",code="1xx"} 1
        cardea_request_duration_seconds_count{domain="shop",route="chat"} 0"#,
    );
}

#[test]
fn counting_goes_on_across_a_reload_and_ends_with_the_name() {
    let (metrics, workers) = metrics(1);
    let series = r#"cardea_requests_total{domain="shop",route="api",code="2xx"}"#;
    let count = || value(&metrics, series);
    let before = metrics.route_slot("shop", "api");
    workers[0].request_finished(&sample(&before));
    let after = metrics.route_slot("shop", "api");
    assert_eq!(before.id(), after.id());
    drop(before);
    workers[0].request_finished(&sample(&after));
    assert_eq!(count().as_deref(), Some("2"));
    drop(after);
    assert_eq!(count(), None);
    let again = metrics.route_slot("shop", "api");
    assert_eq!(count(), None, "it begins anew");
    workers[0].request_finished(&sample(&again));
    assert_eq!(count().as_deref(), Some("1"));
}

#[test]
fn handshakes_and_refusals_count_by_listener() {
    let (metrics, workers) = metrics(2);
    let listener = metrics.listener_slot("secure");
    let all = HandshakeEnd::ALL.len() + 1;
    for end in HandshakeEnd::ALL.iter().copied() {
        workers[1].handshake_finished(listener.id(), end);
        workers[0].handshake_finished(listener.id(), HandshakeEnd::Resumed);
    }
    workers[0].connection_refused(listener.id());
    workers[0].accept_failed();
    check(
        &metrics,
        &r#"cardea_tls_handshakes_total{listener="secure",result="resumed"} ALL
        cardea_tls_handshakes_total{listener="secure",result="timed_out"} 1
        cardea_connections_refused_total{listener="secure"} 1
        cardea_accept_failures_total 1"#
            .replace("ALL", &all.to_string()),
    );
}

#[test]
fn headers_of_proxies_count_by_listener() {
    let (metrics, workers) = metrics(2);
    let listener = metrics.listener_slot("web");
    let malformed = r#"cardea_proxy_headers_total{listener="web",result="malformed"}"#;
    assert_eq!(value(&metrics, malformed), None, "there is no proxy");
    for end in ProxyHeaderEnd::ALL.iter().copied() {
        workers[1].proxy_header_received(listener.id(), end);
        workers[0].proxy_header_received(listener.id(), ProxyHeaderEnd::V2);
    }
    let all = ProxyHeaderEnd::ALL.len() + 1;
    check(
        &metrics,
        &r#"cardea_proxy_headers_total{listener="web",result="v2"} ALL
        cardea_proxy_headers_total{listener="web",result="malformed"} 1"#
            .replace("ALL", &all.to_string()),
    );
}

#[test]
fn reloads_tell_what_is_in_force() {
    let (metrics, _workers) = metrics(1);
    let successful = "cardea_config_last_reload_successful";
    assert_eq!(value(&metrics, successful), None);
    metrics.reload_applied(7);
    check(&metrics, "cardea_config_last_reload_successful 1");
    metrics.reload_refused();
    metrics.reload_refused();
    check(
        &metrics,
        r#"cardea_config_generation 7
        cardea_config_last_reload_successful 0
        cardea_config_reloads_total{result="refused"} 2"#,
    );
    metrics.reload_unchanged();
    check(&metrics, "cardea_config_last_reload_successful 1");
    let last = value(&metrics, "cardea_config_last_reload_timestamp_seconds").unwrap();
    assert!(last.parse::<f64>().unwrap() > 1.7e9);
}

/// A configuration with an upstream, one of whose endpoints failed, and a certificate.
fn in_force(metrics: &Metrics) {
    let outlier = Some(OutlierSettings {
        consecutive_failures: 1,
        eject_for: Duration::from_secs(30),
        eject_percent_max: 100,
    });
    let settings = Settings {
        outlier,
        ..Settings::sample(&["127.0.0.1:1", "127.0.0.1:2", "nowhere.test:3"])
    };
    let resolver = ResolverSettings {
        servers: Box::default(),
        ttl_min: Duration::ZERO,
        ttl_max: Duration::ZERO,
        timeout: Duration::ZERO,
    };
    let upstreams = Upstreams::from_settings(None, [("api".into(), settings)], resolver);
    let upstream = upstreams.find("api").unwrap();
    upstream.load.ejections_total.store(3, Ordering::Relaxed);
    let local = LocalUpstreams::new(0).of(upstream);
    let chosen = local.choose(1, None, &Tried::default()).unwrap();
    chosen.record(Outcome::ConnectFailure);
    metrics.set_upstreams(&upstreams);
    metrics.set_certificates(vec![("main \"a\"\n".to_owned(), 2_000_000_000)]);
    metrics.set_staples(vec![("main".to_owned(), 1_900_000_000)]);
    metrics.order_counts().denied.store(2, Ordering::Relaxed);
}

#[test]
fn what_is_not_counted_is_looked_up() {
    let (metrics, _workers) = metrics(1);
    in_force(&metrics);
    check(
        &metrics,
        r#"cardea_upstream_endpoints{upstream="api",state="usable"} 1
        cardea_upstream_endpoints{upstream="api",state="ejected"} 1
        cardea_upstream_endpoints{upstream="api",state="unresolved"} 1
        cardea_upstream_requests_active{upstream="api"} 0
        cardea_upstream_connections_open{upstream="api"} 0
        cardea_upstream_ejections_total{upstream="api"} 3
        cardea_certificate_expiry_seconds{certificate="main \"a\"\n"} 2000000000
        cardea_certificate_staple_expiry_seconds{certificate="main"} 1900000000
        cardea_certificate_orders_total{result="denied"} 2"#,
    );
}

#[test]
fn every_metric_of_the_table_can_be_seen() {
    let (metrics, workers) = metrics(1);
    let route = metrics.route_slot("shop", "api");
    let upstream = metrics.upstream_slot("api");
    let listener = metrics.listener_slot("web");
    workers[0].proxy_header_received(listener.id(), ProxyHeaderEnd::V1);
    in_force(&metrics);
    metrics.reload_applied(1);
    workers[0].request_finished(&RequestSample {
        upstream: Some(upstream.id()),
        reason: Some(Reason::Answered),
        ..sample(&route)
    });
    let stream = metrics.stream_slot("db");
    workers[0].stream_opened(stream.id());
    workers[0].stream_ended(stream.id(), StreamEnd::Closed);
    workers[0].datagram_dropped(stream.id(), DatagramDrop::TooLarge);
    let page = metrics.text();
    for metric in names::Metric::ALL {
        let head = format!("# TYPE {} {}\n", metric.name(), metric.kind().as_str());
        assert!(page.contains(&head), "{head}");
    }
}

#[test]
fn ten_thousand_routes_take_a_few_megabytes() {
    let (metrics, workers) = metrics(2);
    let names: Vec<String> = (0..10_000).map(|number| format!("host-{number}")).collect();
    let slots: Vec<_> = names
        .iter()
        .map(|name| metrics.route_slot(name, "all"))
        .collect();
    let before = allocated(&metrics);
    assert_eq!(
        before, 0,
        "nothing is allocated for routes that nobody asks for"
    );
    for slot in &slots {
        workers[0].request_finished(&sample(slot));
    }
    assert!(allocated(&metrics) < 2_100_000, "{}", allocated(&metrics));
}

/// Bytes of cells that the workers have allocated for routes.
fn allocated(metrics: &Metrics) -> usize {
    let slots = 0..u32::try_from(ROUTES_MAX).unwrap();
    let seen = |worker: &Arc<WorkerCells>| {
        slots
            .clone()
            .filter(|slot| worker.routes.seen(*slot).is_some())
            .count()
    };
    let seen: usize = metrics.shared.workers.iter().map(seen).sum();
    seen * size_of::<RouteCells>()
}

#[test]
fn streams_are_counted() {
    let (metrics, workers) = metrics(2);
    let stream = metrics.stream_slot("db");
    for worker in &workers {
        worker.stream_opened(stream.id());
        worker.stream_moved(stream.id(), 3, 40);
        worker.datagram_dropped(stream.id(), DatagramDrop::SessionsMax);
    }
    workers[0].stream_ended(stream.id(), StreamEnd::Idle);
    check(
        &metrics,
        "cardea_stream_connections_total{stream=\"db\"} 2
         cardea_stream_connections_open{stream=\"db\"} 1
         cardea_stream_received_bytes_total{stream=\"db\"} 6
         cardea_stream_sent_bytes_total{stream=\"db\"} 80
         cardea_stream_ends_total{stream=\"db\",reason=\"idle\"} 1
         cardea_stream_datagrams_dropped_total{stream=\"db\",reason=\"sessions_max\"} 2",
    );
}

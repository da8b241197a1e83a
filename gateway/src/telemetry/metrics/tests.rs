use super::*;
use crate::traffic::respond::Reason;

fn sample(route: RouteSlot, status: u16, reason: Option<Reason>) -> RequestSample {
    RequestSample {
        route,
        upstream: None,
        status,
        reason,
        duration: Duration::from_millis(3),
        upstream_duration: None,
        bytes_received: 1,
        bytes_sent: 10,
        retries: 0,
    }
}

#[test]
fn workers_counts_are_summed() {
    let metrics = Metrics::new(3);
    let slot = metrics.route_slot(&"shop".into(), &"api".into());
    std::thread::scope(|scope| {
        for index in 0..3 {
            let metrics = &metrics;
            scope.spawn(move || {
                let worker = metrics.worker(index).unwrap();
                for _ in 0..1000 {
                    worker.request_finished(&sample(slot, 200, None));
                }
                worker.request_finished(&sample(slot, 429, Some(Reason::RateLimited)));
            });
        }
    });
    let text = metrics.text();
    let check = |line: &str| assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    check(r#"cardea_requests_total{domain="shop",route="api",code="2xx"} 3000"#);
    check(r#"cardea_requests_total{domain="shop",route="api",code="4xx"} 3"#);
    check(r#"cardea_responses_by_gateway_total{reason="rate_limited"} 3"#);
    check(r#"cardea_response_body_bytes_total{domain="shop",route="api"} 30030"#);
    check(r#"cardea_request_duration_seconds_count{domain="shop",route="api"} 3003"#);
}

#[test]
fn counters_survive_a_reload_and_forgotten_slots_are_used_again() {
    let metrics = Metrics::new(1);
    let worker = metrics.worker(0).unwrap();
    let (shop, blog) = (Arc::from("shop"), Arc::from("blog"));
    let route = Arc::from("r");
    let kept = metrics.route_slot(&shop, &route);
    let gone = metrics.route_slot(&blog, &route);
    worker.request_finished(&sample(kept, 200, None));
    worker.request_finished(&sample(gone, 200, None));
    let keep_shop = || metrics.retain(|domain, _| domain == "shop", |_| true, |_| true);
    keep_shop();
    assert_eq!(metrics.route_slot(&shop, &route), kept);
    assert!(!metrics.text().contains("blog"));
    assert_ne!(
        metrics.route_slot(&Arc::from("new"), &route),
        gone,
        "an exchange may hold it"
    );
    keep_shop();
    keep_shop();
    let again = metrics.route_slot(&Arc::from("newer"), &route);
    assert!(
        !metrics
            .text()
            .contains(r#"domain="newer",route="r",code="2xx""#),
        "{again:?} was cleared"
    );
    assert!(
        metrics
            .text()
            .contains(r#"domain="shop",route="r",code="2xx"} 1"#)
    );
}

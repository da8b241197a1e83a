//! What survives a reload, what a swapped set does to those who use it, and the caps.

use std::rc::Rc;

use rustls::{ClientConfig, RootCertStore};

use super::breaker::{Caps, Saturated};
use super::health::{HealthSettings, Probe};
use super::local::{Chosen, LocalUpstream, LocalUpstreams, NoEndpoint};
use super::retry::{Attempt, BUDGET_MIN, Failed, NoRetry, RetrySettings, Sent};
use super::set::Tried;
use super::settings::TlsClient;
use super::*;
use crate::traffic::balance::{Balance, HashBy};

fn upstream(settings: Settings) -> Arc<Upstream> {
    Upstream::new("api".into(), settings, &Arc::default(), None)
}

fn reloaded(previous: &Upstream, settings: Settings) -> Arc<Upstream> {
    Upstream::new("api".into(), settings, &Arc::default(), Some(previous))
}

fn local(upstream: &Arc<Upstream>) -> Rc<LocalUpstream> {
    LocalUpstreams::new(0).of(upstream)
}

fn choose(local: &Rc<LocalUpstream>) -> Chosen {
    local
        .choose(1, None, &Tried::default())
        .expect("an endpoint")
}

fn places(upstream: &Upstream) -> Vec<String> {
    let set = upstream.endpoints();
    set.endpoints()
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect()
}

fn ids(upstream: &Upstream) -> Vec<EndpointId> {
    upstream
        .endpoints()
        .endpoints()
        .iter()
        .map(|endpoint| endpoint.id)
        .collect()
}

fn checked() -> Option<HealthSettings> {
    Some(HealthSettings {
        is_http2: false,
        probe: Probe::Tcp,
        interval: std::time::Duration::from_secs(5),
        timeout: std::time::Duration::from_secs(1),
        healthy_after: 2,
        unhealthy_after: 2,
    })
}

fn tls() -> Option<TlsClient> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let config = Arc::new(config);
    Some(TlsClient {
        config: Arc::clone(&config),
        http1: Arc::clone(&config),
        raw: config,
        server_name: None,
    })
}

#[test]
fn a_worker_sees_a_swapped_set_at_its_next_choice() {
    let upstream = upstream(Settings::sample(&["api.internal:80"]));
    let local = local(&upstream);
    let chosen = local.choose(1, None, &Tried::default());
    assert_eq!(chosen.err(), Some(NoEndpoint::Unresolved));

    assert!(upstream.set_addresses(0, vec![[10, 0, 0, 1].into()]));
    let first = choose(&local);
    assert_eq!(first.address.to_string(), "10.0.0.1:80");
    assert!(upstream.set_addresses(0, vec![[10, 0, 0, 2].into()]));
    assert_eq!(choose(&local).address.to_string(), "10.0.0.2:80");
    assert_eq!(
        first.address.to_string(),
        "10.0.0.1:80",
        "what was chosen stays"
    );
}

#[test]
fn an_answer_in_another_order_changes_nothing() {
    let upstream = upstream(Settings::sample(&["api.internal:80"]));
    assert!(upstream.set_addresses(0, vec![[10, 0, 0, 2].into(), [10, 0, 0, 1].into()]));
    let version = upstream.version();
    assert!(!upstream.set_addresses(0, vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]));
    assert_eq!(upstream.version(), version);
}

#[test]
fn endpoints_that_stay_in_an_answer_keep_their_state() {
    let upstream = upstream(Settings::sample(&["api.internal:80"]));
    upstream.set_addresses(0, vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
    let before = upstream.endpoints();
    upstream.set_addresses(0, vec![[10, 0, 0, 2].into(), [10, 0, 0, 3].into()]);
    let after = upstream.endpoints();
    assert_eq!(before.endpoints()[1].id, after.endpoints()[0].id);
    assert!(Arc::ptr_eq(
        &before.endpoints()[1].state,
        &after.endpoints()[0].state
    ));
    assert!(!before.contains(after.endpoints()[1].id));
}

#[test]
fn a_name_that_fails_keeps_its_addresses() {
    let upstream = upstream(Settings::sample(&["api.internal:80"]));
    assert!(upstream.is_unresolved());
    upstream.set_addresses(0, vec![[10, 0, 0, 1].into()]);
    upstream.set_unresolved(0, "no answer");
    assert_eq!(places(&upstream), ["10.0.0.1:80"]);
    assert!(!upstream.is_unresolved());
    let reports = upstream.source_reports();
    assert_eq!(reports[0].error.as_deref(), Some("no answer"));
    assert_eq!(reports[0].target.to_string(), "api.internal:80");
}

#[test]
fn a_place_configured_twice_is_one_endpoint() {
    let mut settings = Settings::sample(&["127.0.0.1:80", "127.0.0.1:80", "127.0.0.1:81"]);
    settings.sources[1].weight = 4;
    let set = upstream(settings).endpoints();
    let weights: Vec<u32> = set
        .endpoints()
        .iter()
        .map(|endpoint| endpoint.weight)
        .collect();
    assert_eq!(weights, [5, 1]);
}

#[test]
fn a_reload_takes_over_what_stays() {
    let before = upstream(Settings::sample(&["127.0.0.1:80", "api.internal:80"]));
    before.set_addresses(1, vec![[10, 0, 0, 1].into()]);
    before.endpoints().endpoints()[0].state.eject();

    let mut settings = Settings::sample(&["api.internal:80", "127.0.0.1:80", "127.0.0.1:82"]);
    settings.sources[1].weight = 7;
    let after = reloaded(&before, settings);
    assert_eq!(
        places(&after),
        ["10.0.0.1:80", "127.0.0.1:80", "127.0.0.1:82"]
    );
    let (before_ids, after_ids) = (ids(&before), ids(&after));
    assert_eq!(after_ids[..2], [before_ids[1], before_ids[0]]);
    assert!(!before_ids.contains(&after_ids[2]));
    assert!(after.endpoints().endpoints()[1].state.is_ejected());
    assert_ne!(before.id, after.id);
}

#[test]
fn connections_do_not_cross_a_change_of_tls() {
    let check = |before: Option<TlsClient>, after: Option<TlsClient>, keeps: bool| {
        let mut settings = Settings::sample(&["127.0.0.1:443"]);
        settings.tls = before;
        let before = upstream(settings.clone());
        settings.tls = after;
        let after = reloaded(&before, settings);
        assert_eq!(ids(&before) == ids(&after), keeps);
        let (before, after) = (before.endpoints(), after.endpoints());
        assert!(Arc::ptr_eq(
            &before.endpoints()[0].state,
            &after.endpoints()[0].state
        ));
    };
    let first = tls();
    check(first.clone(), first.clone(), true);
    check(first.clone(), tls(), false);
    check(None, first.clone(), false);
    check(first, None, false);
}

#[test]
fn newcomers_wait_for_a_check_only_where_others_serve() {
    let check = |health: Option<HealthSettings>, is_first_well: bool, expected: Health| {
        let mut settings = Settings::sample(&["api.internal:80"]);
        settings.health = health;
        let upstream = upstream(settings);
        upstream.set_addresses(0, vec![[10, 0, 0, 1].into()]);
        let first = &upstream.endpoints().endpoints()[0].state.clone();
        assert_eq!(
            first.health(),
            Health::Unchecked,
            "the first of a set serves at once"
        );
        if !is_first_well {
            first.set_health(Health::Unhealthy);
        }
        upstream.set_addresses(0, vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
        assert_eq!(upstream.endpoints().endpoints()[1].state.health(), expected);
    };
    check(checked(), true, Health::Joining);
    check(checked(), false, Health::Unchecked);
    check(None, true, Health::Unchecked);
}

#[test]
fn health_is_forgotten_once_checks_are_gone_from_the_configuration() {
    let mut settings = Settings::sample(&["127.0.0.1:80", "127.0.0.1:81"]);
    settings.health = checked();
    let before = upstream(settings.clone());
    before.endpoints().endpoints()[0]
        .state
        .set_health(Health::Unhealthy);
    before.refresh();

    settings.health = None;
    let after = reloaded(&before, settings);
    let state = Arc::clone(&after.endpoints().endpoints()[0].state);
    assert_eq!(state.health(), Health::Unhealthy, "it may yet be refused");
    after.adopt();
    assert_eq!(state.health(), Health::Unchecked);
    let local = local(&after);
    let addresses: std::collections::BTreeSet<_> = (0..2).map(|_| choose(&local).address).collect();
    assert_eq!(addresses.len(), 2);
}

#[test]
fn unhealthy_endpoints_are_left_out_until_none_is_left() {
    for balance in [
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::Maglev(HashBy::Path),
    ] {
        let mut settings = Settings::sample(&["127.0.0.1:80", "127.0.0.1:81", "127.0.0.1:82"]);
        settings.balance = balance.clone();
        settings.sources[2].weight = 0;
        let upstream = upstream(settings);
        let local = local(&upstream);
        let set = upstream.endpoints();
        let ports = || {
            let mut ports: Vec<u16> = (0..40)
                .map(|key| {
                    let key = crate::traffic::balance::hash::hash_with(key, 0);
                    let chosen = local.choose(key, Some(key), &Tried::default());
                    chosen.expect("an endpoint").address.port()
                })
                .collect();
            ports.sort_unstable();
            ports.dedup();
            ports
        };
        assert_eq!(ports(), [80, 81], "{balance:?}");

        set.endpoints()[0].state.set_health(Health::Unhealthy);
        assert_eq!(ports(), [81], "before the set is renewed: {balance:?}");
        upstream.refresh();
        assert_eq!(ports(), [81], "after the set is renewed: {balance:?}");

        set.endpoints()[1].state.eject();
        assert!(!upstream.endpoints().is_panicking());
        assert!(
            ports().contains(&81),
            "a panic before the renewal: {balance:?}"
        );
        upstream.refresh();
        assert!(upstream.endpoints().is_panicking());
        assert_eq!(ports(), [80, 81], "never one without weight: {balance:?}");

        set.endpoints()[0].state.set_health(Health::Healthy);
        upstream.refresh();
        assert!(!upstream.endpoints().is_panicking());
        assert_eq!(ports(), [80], "{balance:?}");
    }
}

#[test]
fn a_request_goes_on_to_endpoints_it_has_not_tried() {
    let upstream = upstream(Settings::sample(&[
        "127.0.0.1:80",
        "127.0.0.1:81",
        "127.0.0.1:82",
    ]));
    upstream.endpoints().endpoints()[2]
        .state
        .set_health(Health::Unhealthy);
    upstream.refresh();
    let local = local(&upstream);
    let mut tried = Tried::default();
    let mut ports = Vec::new();
    let end = loop {
        match local.choose(1, None, &tried) {
            Ok(chosen) => {
                ports.push(chosen.address.port());
                tried.insert(chosen.id);
            }
            Err(end) => break end,
        }
    };
    ports.sort_unstable();
    assert_eq!(ports, [80, 81], "not the one that is known to be ill");
    assert_eq!(end, NoEndpoint::Exhausted);
}

#[test]
fn requests_and_connections_are_capped_and_given_back() {
    let mut settings = Settings::sample(&["127.0.0.1:80"]);
    settings.caps = Caps {
        requests_max: 2,
        connections_max: 1,
    };
    let upstream = upstream(settings.clone());
    let workers = [LocalUpstreams::new(0), LocalUpstreams::new(1)];
    let [one, other] = workers.each_ref().map(|worker| worker.of(&upstream));

    let first = one.admit().expect("below the cap");
    let second = other.admit().expect("below the cap");
    assert_eq!(one.admit().err(), Some(Saturated));
    drop(first);
    let third = one.admit().expect("a place was given back");
    assert_eq!(upstream.load.requests.value(), 2);

    let connection = one.admit_connection().expect("below the cap");
    assert_eq!(other.admit_connection().err(), Some(Saturated));

    // The caps stay closed over a reload, for what is under way is under way.
    settings.caps.connections_max = 2;
    let after = reloaded(&upstream, settings);
    let after = workers[0].of(&after);
    assert_eq!(after.admit().err(), Some(Saturated));
    let wider = after.admit_connection().expect("the cap was raised");
    assert_eq!(after.admit_connection().err(), Some(Saturated));

    drop((second, third, connection, wider));
    assert_eq!(
        (
            upstream.load.requests.value(),
            upstream.load.connections.value()
        ),
        (0, 0)
    );
}

#[test]
fn without_caps_everything_is_admitted_and_counted() {
    let upstream = upstream(Settings::sample(&["127.0.0.1:80"]));
    let local = local(&upstream);
    let permits: Vec<_> = (0..1000).map(|_| local.admit().expect("no cap")).collect();
    assert_eq!(upstream.load.requests.value(), 1000);
    drop(permits);
    assert_eq!(upstream.load.requests.value(), 0);
}

#[test]
fn active_requests_are_counted_where_they_are() {
    let upstream = upstream(Settings::sample(&["127.0.0.1:80"]));
    let chosen = choose(&local(&upstream));
    let (first, second) = (chosen.begin(), chosen.begin());
    assert_eq!(chosen.report().active, 2);
    drop(first);
    assert_eq!(chosen.report().active, 1);
    drop(second);
    assert_eq!(chosen.report().active, 0);
}

#[test]
fn retries_have_a_budget() {
    const FAILED: Attempt = Attempt {
        failed: Failed::Connecting,
        sent: Sent::Nothing,
        is_idempotent: true,
        retries: 0,
    };
    let check = |requests: usize, budget: usize| {
        let upstream = upstream(Settings::sample(&["127.0.0.1:80"]));
        let local = local(&upstream);
        let _requests: Vec<_> = (0..requests)
            .map(|_| local.admit().expect("no cap"))
            .collect();
        let mut permits = Vec::new();
        let refusal = loop {
            match local.retry(&FAILED) {
                Ok(permit) => permits.push(permit),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(
            (permits.len(), refusal),
            (budget, NoRetry::OverBudget),
            "of {requests}"
        );
        permits.pop();
        assert!(local.retry(&FAILED).is_ok(), "a place was given back");
    };
    check(1, BUDGET_MIN as usize);
    check(15, 3);
    check(100, 20);

    let mut settings = Settings::sample(&["127.0.0.1:80"]);
    settings.retry = RetrySettings {
        attempts: 0,
        ..RetrySettings::default()
    };
    let refused = local(&upstream(settings)).retry(&FAILED);
    assert_eq!(refused.err(), Some(NoRetry::Spent));
}

#[test]
fn a_worker_forgets_upstreams_and_knows_current_endpoints() {
    let (kept, gone) = (
        upstream(Settings::sample(&["127.0.0.1:80"])),
        upstream(Settings::sample(&["127.0.0.1:81"])),
    );
    let worker = LocalUpstreams::new(0);
    let first = worker.of(&kept);
    assert!(Rc::ptr_eq(&first, &worker.of(&kept)));
    let _ = worker.of(&gone);
    assert_eq!(worker.endpoint_ids().len(), 2);
    worker.retain(|upstream| upstream.id == kept.id);
    assert_eq!(worker.endpoint_ids(), ids(&kept).into_iter().collect());
    assert!(Rc::ptr_eq(&first, &worker.of(&kept)));
}

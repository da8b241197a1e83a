//! When endpoints go out, for how long, and how they come back.

use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::traffic::upstream::Alarm;
use crate::traffic::upstream::local::{Chosen, LocalUpstream, LocalUpstreams};
use crate::traffic::upstream::set::Tried;
use crate::traffic::upstream::settings::Settings;

const SETTINGS: OutlierSettings = OutlierSettings {
    consecutive_failures: 3,
    eject_for: Duration::from_secs(30),
    eject_percent_max: 50,
};

fn upstream(places: &[&str], outlier: Option<OutlierSettings>) -> (Arc<Upstream>, Arc<Alarm>) {
    let alarm = Arc::default();
    let settings = Settings {
        outlier,
        ..Settings::sample(places)
    };
    (Upstream::new("api".into(), settings, &alarm, None), alarm)
}

/// Each endpoint once, in the order of the configuration.
fn each(local: &Rc<LocalUpstream>) -> Vec<Chosen> {
    let mut tried = Tried::default();
    let mut chosen = Vec::new();
    while let Ok(next) = local.choose(1, None, &tried) {
        tried.insert(next.id);
        chosen.push(next);
    }
    chosen.sort_by_key(|chosen| chosen.address);
    chosen
}

fn fail(endpoint: &Chosen, times: u32) {
    for _ in 0..times {
        endpoint.record(Outcome::ConnectFailure);
    }
}

#[test]
fn failures_in_a_row_eject() {
    let check = |outcomes: &[Outcome], is_ejected: bool| {
        let (upstream, _) = upstream(&["127.0.0.1:80", "127.0.0.1:81"], Some(SETTINGS));
        let endpoints = each(&LocalUpstreams::new(0).of(&upstream));
        for outcome in outcomes {
            endpoints[0].record(*outcome);
        }
        assert_eq!(endpoints[0].state.is_ejected(), is_ejected, "{outcomes:?}");
    };
    use Outcome::{Broken, ConnectFailure, Success, Timeout, Unavailable};
    check(&[ConnectFailure, Timeout, Unavailable], true);
    check(&[Broken, Broken], false);
    check(&[Broken, Broken, Success, Broken, Broken], false);
    check(&[Success, Broken, Broken, Broken, Success], true);
}

#[test]
fn statuses_of_a_gateway_are_failures_and_others_are_not() {
    let check = |status: u16, expected: Outcome| {
        assert_eq!(Outcome::from_status(status), expected, "{status}");
    };
    check(200, Outcome::Success);
    check(404, Outcome::Success);
    check(500, Outcome::Success);
    check(501, Outcome::Success);
    check(502, Outcome::Unavailable);
    check(503, Outcome::Unavailable);
    check(504, Outcome::Unavailable);
    check(505, Outcome::Success);
}

#[test]
fn no_more_go_out_than_the_settings_allow() {
    let check = |endpoints: usize, eject_percent_max: u32, out: usize| {
        let places: Vec<String> = (0..endpoints)
            .map(|at| format!("127.0.0.1:{}", at + 1))
            .collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let settings = OutlierSettings {
            eject_percent_max,
            ..SETTINGS
        };
        let (upstream, _) = upstream(&places, Some(settings));
        for endpoint in each(&LocalUpstreams::new(0).of(&upstream)) {
            fail(&endpoint, 10);
        }
        let set = upstream.endpoints();
        let ejected = set
            .endpoints()
            .iter()
            .filter(|it| it.state.is_ejected())
            .count();
        assert_eq!(ejected, out, "{eject_percent_max} per cent of {endpoints}");
    };
    check(1, 50, 0);
    check(2, 50, 1);
    check(3, 50, 1);
    check(4, 50, 2);
    check(4, 0, 0);
    check(2, 100, 2);
}

#[test]
fn without_settings_nothing_is_counted() {
    let (upstream, _) = upstream(&["127.0.0.1:80", "127.0.0.1:81"], None);
    let endpoints = each(&LocalUpstreams::new(0).of(&upstream));
    fail(&endpoints[0], 100);
    assert_eq!(endpoints[0].report().failures, 0);
}

#[tokio::test]
async fn an_ejection_runs_its_course() {
    let (upstream, alarm) = upstream(&["127.0.0.1:80", "127.0.0.1:81"], Some(SETTINGS));
    let local = LocalUpstreams::new(0).of(&upstream);
    let endpoint = each(&local).swap_remove(0);
    let begin = Instant::now();
    assert_eq!(upstream.tend(begin), None);

    fail(&endpoint, 3);
    alarm.heard().await;
    assert!(each(&local).iter().all(|other| other.id != endpoint.id));
    assert_eq!(upstream.tend(begin), Some(begin + SETTINGS.eject_for));
    assert_eq!(
        upstream.tend(begin + Duration::from_secs(29)),
        Some(begin + SETTINGS.eject_for)
    );
    assert!(endpoint.state.is_ejected());

    let back = begin + SETTINGS.eject_for;
    assert_eq!(upstream.tend(back), None);
    assert_eq!(each(&local).len(), 2);
    assert_eq!(endpoint.report().ejections_total, 1);
    assert_eq!(upstream.load.ejections_total.load(Ordering::Relaxed), 1);

    // On probation: the first failure is enough, and costs twice as much.
    fail(&endpoint, 1);
    assert!(endpoint.state.is_ejected());
    assert_eq!(upstream.tend(back), Some(back + 2 * SETTINGS.eject_for));

    let back = back + 2 * SETTINGS.eject_for;
    assert_eq!(upstream.tend(back), None);
    endpoint.record(Outcome::Success);
    fail(&endpoint, 2);
    assert!(
        !endpoint.state.is_ejected(),
        "a success ended the probation"
    );
}

#[test]
fn ejections_grow_while_they_follow_each_other_and_shrink_after() {
    let begin = Instant::now();
    let mut ejections = Ejections::default();
    let mut now = begin;
    let mut lengths = Vec::new();
    for _ in 0..6 {
        let lasts = ejections.begin(&SETTINGS, now);
        lengths.push(lasts.as_secs());
        now += lasts;
        ejections.end(now);
    }
    assert_eq!(lengths, [30, 60, 120, 240, 300, 300]);
    now += 4 * SETTINGS.eject_for;
    assert_eq!(
        ejections.begin(&SETTINGS, now).as_secs(),
        120,
        "four doublings taken back"
    );
    now += Duration::from_secs(120);
    ejections.end(now);
    now += Duration::from_secs(24 * 3600);
    assert_eq!(ejections.begin(&SETTINGS, now).as_secs(), 30);
    assert_eq!(ejections.total, 8);
}

#[test]
fn an_ejection_configured_longer_than_the_limit_is_not_cut() {
    let settings = OutlierSettings {
        eject_for: Duration::from_secs(3600),
        ..SETTINGS
    };
    let mut ejections = Ejections::default();
    let now = Instant::now();
    assert_eq!(ejections.begin(&settings, now), settings.eject_for);
    ejections.end(now);
    assert_eq!(ejections.begin(&settings, now), settings.eject_for);
}

#[test]
fn ejections_end_where_the_settings_no_longer_have_them() {
    let (before, alarm) = upstream(&["127.0.0.1:80", "127.0.0.1:81"], Some(SETTINGS));
    fail(&each(&LocalUpstreams::new(0).of(&before))[0], 3);
    let settings = Settings {
        outlier: None,
        ..before.settings.clone()
    };
    let after = Upstream::new("api".into(), settings, &alarm, Some(&before));
    assert_eq!(each(&LocalUpstreams::new(0).of(&after)).len(), 1);
    assert_eq!(after.tend(Instant::now()), None);
    assert_eq!(each(&LocalUpstreams::new(0).of(&after)).len(), 2);
}

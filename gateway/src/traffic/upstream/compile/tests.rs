//! Documents to upstreams: what each setting becomes, what is refused, what a reload keeps.

use std::time::Duration;

use super::*;

fn document(upstreams: &str) -> Document {
    let text = format!("listeners: [{{ name: web, bind: [\":0\"] }}]\nupstreams:\n{upstreams}");
    match cardea_config::parse(&text, "test.yaml") {
        Ok(loaded) => loaded.document,
        Err(refused) => panic!("{text}\n{refused:?}"),
    }
}

fn compile(previous: Option<&Upstreams>, upstreams: &str) -> Upstreams {
    let (compiled, found) = Upstreams::compile(previous, &document(upstreams));
    assert!(found.is_empty(), "{found:?}");
    compiled.expect("there are no errors")
}

fn settings(upstream: &str) -> Settings {
    let compiled = compile(None, &format!("  api: {upstream}"));
    compiled.find("api").expect("it is there").settings.clone()
}

#[test]
fn a_short_upstream_has_the_defaults() {
    let settings = settings(r#"{ endpoints: ["127.0.0.1:3000"] }"#);
    let place = Settings::sample(&["127.0.0.1:3000"]);
    assert_eq!(settings.sources, place.sources);
    assert_eq!(settings.balance, Balance::RoundRobin);
    assert_eq!(settings.retry, RetrySettings::default());
    assert_eq!(settings.caps, Caps::default());
    assert_eq!((settings.health, settings.tls), (None, None));
    let outlier = settings.outlier.expect("it is on");
    assert_eq!(
        (outlier.consecutive_failures, outlier.eject_percent_max),
        (5, 50)
    );
    assert_eq!(outlier.eject_for, Duration::from_secs(30));
    assert_eq!(settings.pool.idle_per_worker_max, 8192);
}

#[test]
fn endpoints_are_addresses_or_names() {
    let check = |endpoint: &str, expected: &str, weight: u32| {
        let settings = settings(&format!("{{ endpoints: [{endpoint}] }}"));
        let source = settings.sources.first().expect("one");
        assert_eq!(
            (source.target.to_string().as_str(), source.weight),
            (expected, weight)
        );
        assert_eq!(
            source.target.host().is_some(),
            expected.contains("internal")
        );
    };
    check(r#""127.0.0.1:80""#, "127.0.0.1:80", 1);
    check(r#""[::1]:80""#, "[::1]:80", 1);
    check(r#""API.internal:8080""#, "api.internal:8080", 1);
    check(
        r#"{ address: "api.internal:80", weight: 3 }"#,
        "api.internal:80",
        3,
    );
}

#[test]
fn every_balance_compiles() {
    let check = |balance: &str, expected: Balance| {
        let settings = settings(&format!(
            r#"{{ endpoints: ["127.0.0.1:80"], balance: {balance} }}"#
        ));
        assert_eq!(settings.balance, expected);
    };
    check("round_robin", Balance::RoundRobin);
    check("random", Balance::Random);
    check("least_request", Balance::LeastRequest);
    check(
        "{ ring_hash: { by: client_ip } }",
        Balance::RingHash(HashBy::ClientIp),
    );
    check("{ maglev: { by: path } }", Balance::Maglev(HashBy::Path));
    check(
        "{ maglev: { by: { header: X-User } } }",
        Balance::Maglev(HashBy::Header("x-user".into())),
    );
    check(
        "{ ring_hash: { by: { cookie: Session } } }",
        Balance::RingHash(HashBy::Cookie("Session".into())),
    );
}

#[test]
fn the_rest_is_taken_over() {
    let settings = settings(
        r#"{ endpoints: ["127.0.0.1:80"], outlier: off,
             limits: { connections_max: 7, requests_max: 8 },
             retry: { attempts: 2, on: [connect_failure] },
             health: { http: { path: /up, expect: [200, 204-206] }, interval: 1s } }"#,
    );
    assert_eq!(settings.outlier, None);
    assert_eq!(
        settings.caps,
        Caps {
            connections_max: 7,
            requests_max: 8
        }
    );
    let retry = RetrySettings {
        attempts: 2,
        on_connect_failure: true,
        on_idle_reset: false,
    };
    assert_eq!(settings.retry, retry);
    let health = settings.health.expect("it is on");
    let probe = Probe::Http {
        path: "/up".into(),
        host: None,
        expect: [200..=200, 204..=206].into(),
    };
    assert_eq!(health.probe, probe);
    assert_eq!((health.interval, health.timeout).0, Duration::from_secs(1));
}

#[test]
fn what_cannot_be_is_refused_all_at_once() {
    let mut document = document(
        r#"  a: { endpoints: ["127.0.0.1:80"], health: { http: {} } }
  b: { endpoints: ["127.0.0.1:80"], tls: { ca: /no/such/file.pem } }
  c: { endpoints: ["127.0.0.1:80"], health: { http: {} } }
"#,
    );
    // What a file cannot say, another source might.
    let mut health = |name: &str, change: fn(&mut model::Health, &mut model::HttpCheck)| {
        let upstream = document.upstreams.get_mut(&name.parse().expect("a name"));
        let health = upstream.expect("it is there").value.health.as_deref_mut();
        let health = health.expect("it has one");
        let mut http = health.http.take().expect("it is HTTP");
        change(health, &mut http);
        health.http = Some(http);
    };
    health("a", |health, http| {
        http.path = "no path".to_owned();
        health.interval = model::Period::from_secs(0);
    });
    health("c", |health, http| {
        http.host = Some("a b".to_owned());
        health.timeout = model::Period::from_secs(0);
    });
    let (compiled, found) = Upstreams::compile(None, &document);
    assert!(compiled.is_none());
    let codes: Vec<_> = found.iter().map(|diagnostic| diagnostic.code).collect();
    assert_eq!(
        codes,
        [
            "E-health-period",
            "E-health-path",
            "E-upstream-tls",
            "E-health-period",
            "E-health-host"
        ]
    );
    assert!(
        found
            .iter()
            .all(|it| it.origin.is_some_and(|origin| origin.line > 2))
    );
    let tls = &found[2].message;
    assert!(tls.starts_with("upstream `b` cannot speak TLS: cannot read /no/such/file.pem: "));
}

#[test]
fn a_reload_keeps_what_is_configured_as_before() {
    const SAME: &str = r#"  same: { endpoints: ["127.0.0.1:80"] }"#;
    const OTHER: &str = r#"  other: { endpoints: ["127.0.0.1:81"] }"#;
    let before = compile(None, &format!("{SAME}\n{OTHER}"));
    // Moved to another line, in another order, beside a changed one and a new one.
    let after = compile(
        Some(&before),
        &format!(
            "  new: {{ endpoints: [\"127.0.0.1:82\"] }}\n  other: {{ endpoints: [\"127.0.0.1:81\"], \
             balance: random }}\n{SAME}"
        ),
    );
    let same = |name: &str| {
        let (before, after) = (before.find(name), after.find(name));
        before
            .zip(after)
            .is_some_and(|(before, after)| Arc::ptr_eq(before, after))
    };
    assert!(same("same"));
    assert!(!same("other"));
    assert_eq!(after.iter().count(), 3);
    let ids = |upstreams: &Upstreams| {
        let other = upstreams.find("other").expect("it is there");
        other
            .endpoints()
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&before), ids(&after), "its connections stay");
}

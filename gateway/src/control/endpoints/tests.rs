//! Endpoint sets under supervision: names on a real name server, checks and ejections on real
//! time, reloads in between.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::traffic::balance::Balance;
use crate::traffic::upstream::dns::ResolverSettings;
use crate::traffic::upstream::dns::name_server::{NameServer, Reply};
use crate::traffic::upstream::endpoint::{Endpoint, Health};
use crate::traffic::upstream::health::{HealthSettings, Probe};
use crate::traffic::upstream::local::LocalUpstreams;
use crate::traffic::upstream::outlier::{Outcome, OutlierSettings};
use crate::traffic::upstream::set::Tried;
use crate::traffic::upstream::settings::Settings;

/// How long a test waits for what must happen.
const BOUND: Duration = Duration::from_secs(20);

fn resolver(server: SocketAddr) -> ResolverSettings {
    ResolverSettings {
        servers: [server].into(),
        ttl_min: Duration::from_millis(10),
        ttl_max: Duration::from_secs(300),
        timeout: Duration::from_secs(5),
    }
}

/// For upstreams without names.
fn no_resolver() -> ResolverSettings {
    resolver(([127, 0, 0, 1], 1).into())
}

fn upstreams<const N: usize>(
    previous: Option<&Upstreams>,
    settings: [(&str, Settings); N],
    resolver: ResolverSettings,
) -> (Upstreams, [Arc<Upstream>; N]) {
    let names = settings.each_ref().map(|(name, _)| *name);
    let settings = settings.map(|(name, settings)| (Arc::from(name), settings));
    let upstreams = Upstreams::from_settings(previous, settings, resolver);
    let each = names.map(|name| Arc::clone(upstreams.find(name).expect("it was made")));
    (upstreams, each)
}

fn addresses(upstream: &Upstream) -> Vec<String> {
    let set = upstream.endpoints();
    set.endpoints()
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect()
}

/// Waits until a condition holds, asking again whenever anything may have happened.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A supervised upstream `api` at these places, settled.
async fn supervised(
    places: &[&str],
    server: &NameServer,
) -> (EndpointsSupervisor, Upstreams, Arc<Upstream>) {
    let settings = [("api", Settings::sample(places))];
    let (upstreams, [api]) = upstreams(None, settings, resolver(server.address));
    let supervisor = EndpointsSupervisor::start(Handle::current(), &upstreams);
    assert!(supervisor.settled(BOUND).await);
    (supervisor, upstreams, api)
}

#[tokio::test]
async fn names_become_endpoints_and_follow_their_answers() {
    let server = NameServer::start().await;
    server.set("api.test.", Reply::addresses(&["127.0.0.1"], 0));
    let (_supervisor, _, api) = supervised(&["api.test:80", "127.0.0.9:81"], &server).await;
    assert_eq!(addresses(&api), ["127.0.0.1:80", "127.0.0.9:81"]);

    server.set(
        "api.test.",
        Reply::addresses(&["127.0.0.2", "127.0.0.3"], 0),
    );
    let expected = ["127.0.0.2:80", "127.0.0.3:80", "127.0.0.9:81"];
    until("the new answer is in effect", || {
        addresses(&api) == expected
    })
    .await;
}

#[tokio::test]
async fn a_name_that_stops_resolving_keeps_its_addresses() {
    let server = NameServer::start().await;
    server.set("api.test.", Reply::addresses(&["127.0.0.1"], 0));
    let (_supervisor, _, api) = supervised(&["api.test:80"], &server).await;
    for reply in [Reply::NoSuchName, Reply::Failure] {
        server.set("api.test.", reply);
        until("the failure is known", || {
            api.source_reports()[0].error.is_some()
        })
        .await;
        assert_eq!(addresses(&api), ["127.0.0.1:80"]);
        server.set("api.test.", Reply::addresses(&["127.0.0.1"], 0));
        until("the failure is over", || {
            api.source_reports()[0].error.is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn a_name_that_never_resolved_is_no_obstacle() {
    let server = NameServer::start().await;
    server.set("well.test.", Reply::addresses(&["127.0.0.1"], 60));
    let settings = [
        ("gone", Settings::sample(&["gone.test:80"])),
        ("well", Settings::sample(&["well.test:80"])),
    ];
    let (upstreams, [gone, well]) = upstreams(None, settings, resolver(server.address));
    let supervisor = EndpointsSupervisor::start(Handle::current(), &upstreams);
    assert!(supervisor.settled(BOUND).await);
    assert_eq!(addresses(&gone), Vec::<String>::new());
    assert_eq!(
        gone.source_reports()[0].error.as_deref(),
        Some("the name has no address")
    );
    assert_eq!(addresses(&well), ["127.0.0.1:80"]);

    server.set("gone.test.", Reply::addresses(&["127.0.0.2"], 60));
    until("the name resolves after all", || {
        addresses(&gone) == ["127.0.0.2:80"]
    })
    .await;
}

#[tokio::test]
async fn a_family_that_fails_keeps_its_addresses() {
    let server = NameServer::start().await;
    server.set("api.test.", Reply::OnlyIpv4([127, 0, 0, 2].into()));
    let settings = [("api", Settings::sample(&["api.test:80"]))];
    let (upstreams, [api]) = upstreams(None, settings, resolver(server.address));
    // As if an earlier answer had had both.
    let ipv6 = "::1".parse().expect("an address");
    api.set_addresses(0, vec![[127, 0, 0, 1].into(), ipv6]);
    let supervisor = EndpointsSupervisor::start(Handle::current(), &upstreams);
    assert!(supervisor.settled(BOUND).await);
    assert_eq!(addresses(&api), ["127.0.0.2:80", "[::1]:80"]);
}

#[tokio::test]
async fn a_reload_starts_and_stops_what_changed_and_nothing_else() {
    let server = NameServer::start().await;
    server.set("api.test.", Reply::addresses(&["127.0.0.1"], 0));
    server.set("shop.test.", Reply::addresses(&["127.0.0.2"], 0));
    let (mut supervisor, api_only, api) = supervised(&["api.test:80"], &server).await;

    let settings = [("shop", Settings::sample(&["shop.test:80"]))];
    let (shop_only, [shop]) = upstreams(Some(&api_only), settings, resolver(server.address));
    drop(api_only);
    supervisor.apply(&shop_only);
    assert!(supervisor.settled(BOUND).await);
    assert_eq!(addresses(&shop), ["127.0.0.2:80"]);
    assert_eq!(supervisor.tasks.len(), 1);
    until("nobody follows the name of old", || {
        Arc::strong_count(&api) == 1
    })
    .await;

    // Other name servers: everybody asks them.
    let other = NameServer::start().await;
    other.set("shop.test.", Reply::addresses(&["127.0.0.3"], 60));
    let settings = [("shop", shop.settings.clone())];
    let (elsewhere, [same]) = upstreams(Some(&shop_only), settings, resolver(other.address));
    assert!(Arc::ptr_eq(&shop, &same));
    supervisor.apply(&elsewhere);
    until("the other server's answer", || {
        addresses(&shop) == ["127.0.0.3:80"]
    })
    .await;
}

fn checked_often(place: &str, needed: u32) -> [(&'static str, Settings); 1] {
    let health = HealthSettings {
        is_http2: false,
        probe: Probe::Tcp,
        interval: Duration::from_millis(5),
        timeout: Duration::from_secs(5),
        healthy_after: needed,
        unhealthy_after: needed,
    };
    [(
        "api",
        Settings {
            health: Some(health),
            ..Settings::sample(&[place])
        },
    )]
}

#[tokio::test]
async fn checks_follow_an_endpoint_through_illness_and_recovery() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let settings = checked_often(&address.to_string(), 2);
    let (upstreams, [api]) = upstreams(None, settings, no_resolver());
    let state = Arc::clone(&api.endpoints().endpoints()[0].state);
    let supervisor = EndpointsSupervisor::start(Handle::current(), &upstreams);
    until("the first check passed", || {
        state.health() == Health::Healthy
    })
    .await;

    drop(listener);
    until("checks failed", || state.health() == Health::Unhealthy).await;
    assert!(api.endpoints().is_panicking());
    let _listener = TcpListener::bind(address).await.expect("the same port");
    until("checks pass again", || state.health() == Health::Healthy).await;
    assert!(!api.endpoints().is_panicking());

    drop((supervisor, upstreams));
    until("nobody checks", || Arc::strong_count(&api) == 1).await;
}

#[tokio::test]
async fn endpoints_that_come_are_checked_and_those_that_go_are_not() {
    let server = NameServer::start().await;
    server.set("api.test.", Reply::addresses(&["127.0.0.1"], 0));
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let settings = checked_often(&format!("api.test:{port}"), 1);
    let (upstreams, [api]) = upstreams(None, settings, resolver(server.address));
    let _supervisor = EndpointsSupervisor::start(Handle::current(), &upstreams);
    let is_healthy = |ip: &str| {
        let is_it = |endpoint: &Arc<Endpoint>| {
            endpoint.address.ip().to_string() == ip && endpoint.state.health() == Health::Healthy
        };
        let set = api.endpoints();
        set.endpoints().len() == 1 && set.endpoints().iter().all(is_it)
    };
    until("the first is healthy", || is_healthy("127.0.0.1")).await;
    let first = Arc::downgrade(&api.endpoints().endpoints()[0]);
    server.set("api.test.", Reply::addresses(&["127.0.0.2"], 0));
    until("the second is healthy", || is_healthy("127.0.0.2")).await;
    until("the first is checked no more", || first.upgrade().is_none()).await;
}

fn ejecting_soon(balance: Balance) -> [(&'static str, Settings); 1] {
    let outlier = Some(OutlierSettings {
        consecutive_failures: 2,
        eject_for: Duration::from_millis(30),
        eject_percent_max: 50,
    });
    let places = Settings::sample(&["127.0.0.1:80", "127.0.0.1:81"]);
    [(
        "api",
        Settings {
            outlier,
            balance,
            ..places
        },
    )]
}

/// Lets an endpoint fail until it is ejected, and waits until it is back.
async fn eject_and_await(api: &Arc<Upstream>) {
    let chosen = LocalUpstreams::new(0)
        .of(api)
        .choose(0, None, &Tried::default());
    let chosen = chosen.expect("an endpoint");
    chosen.record(Outcome::Timeout);
    chosen.record(Outcome::Broken);
    assert!(chosen.state.is_ejected());
    until("it has come back", || !chosen.state.is_ejected()).await;
    assert_eq!(chosen.report().ejections_total, 1);
}

#[tokio::test]
async fn ejections_end_by_themselves() {
    let (upstreams, [api]) = upstreams(None, ejecting_soon(Balance::Random), no_resolver());
    let _supervisor = EndpointsSupervisor::start(Handle::current(), &upstreams);
    eject_and_await(&api).await;
}

#[tokio::test]
async fn requests_that_began_before_a_reload_eject_after_it() {
    let (first, [before]) = upstreams(None, ejecting_soon(Balance::Random), no_resolver());
    let mut supervisor = EndpointsSupervisor::start(Handle::current(), &first);
    let changed = ejecting_soon(Balance::RoundRobin);
    let (second, [after]) = upstreams(Some(&first), changed, no_resolver());
    assert!(!Arc::ptr_eq(&before, &after));
    supervisor.apply(&second);
    eject_and_await(&before).await;
    assert!(
        after
            .endpoints()
            .endpoints()
            .iter()
            .all(|it| it.state.is_usable())
    );
}

#[test]
fn jitter_stays_within_a_tenth() {
    let second = Duration::from_secs(1);
    let lots: Vec<Duration> = (0..1000).map(|_| jittered(second)).collect();
    assert!(
        lots.iter()
            .all(|lot| (second * 9 / 10..=second * 11 / 10).contains(lot))
    );
    let (least, most) = (lots.iter().min(), lots.iter().max());
    assert!(least < Some(&(second * 95 / 100)) && most > Some(&(second * 105 / 100)));
    assert!(jittered(Duration::MAX) > Duration::MAX / 2, "no overflow");
    assert_eq!(jittered(Duration::ZERO), WAIT_MIN);
}

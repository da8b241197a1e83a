//! Lookups against a name server in the test, and against the hosts file of this host.

use super::*;
use crate::traffic::upstream::dns::name_server::{NameServer, Reply};

fn settings(servers: &[SocketAddr]) -> ResolverSettings {
    ResolverSettings {
        servers: servers.into(),
        ttl_min: Duration::from_secs(1),
        ttl_max: Duration::from_secs(300),
        timeout: Duration::from_secs(5),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[tokio::test]
async fn both_families_become_addresses() {
    let server = NameServer::start().await;
    server.set(
        "api.internal.",
        Reply::addresses(&["127.0.0.2", "127.0.0.1", "::1"], 60),
    );
    let resolver = Resolver::new(settings(&[server.address]));
    for name in ["api.internal", "api.internal.", "API.internal"] {
        let answer = resolver.resolve(name).await.expect("an answer");
        assert!(answer.addresses.contains(&ip("127.0.0.1")), "{answer:?}");
        assert!(answer.addresses.contains(&ip("127.0.0.2")), "{answer:?}");
        assert_eq!(
            answer.addresses.contains(&ip("::1")),
            is_routable(ip("::1")),
            "{answer:?}"
        );
        assert!(!answer.ipv4_failed && !answer.ipv6_failed, "{answer:?}");
    }
}

#[tokio::test]
async fn the_ttl_counts_within_its_bounds() {
    let server = NameServer::start().await;
    let resolver = Resolver::new(settings(&[server.address]));
    for (name, ttl, least, most) in [
        ("a.test.", 0, 1, 1),
        ("b.test.", 60, 58, 60),
        ("c.test.", 86_400, 299, 300),
    ] {
        server.set(name, Reply::addresses(&["127.0.0.1"], ttl));
        let valid_for = resolver.resolve(name).await.expect("an answer").valid_for;
        let bounds = Duration::from_secs(least)..=Duration::from_secs(most);
        assert!(bounds.contains(&valid_for), "{name} {valid_for:?}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let server = NameServer::start().await;
    server.set("gone.test.", Reply::NoSuchName);
    server.set("empty.test.", Reply::addresses(&[], 60));
    server.set("broken.test.", Reply::Failure);
    let resolver = Resolver::new(settings(&[server.address]));
    let check = async |name: &str, expected: &str| {
        let error = resolver.resolve(name).await.expect_err(name);
        assert_eq!(error.to_string(), expected, "{name}");
    };
    check("gone.test", "the name has no address").await;
    check("empty.test", "the name has no address").await;
    check("broken.test", "the lookup failed").await;
    check("not..a..name", "not a domain name").await;
}

#[tokio::test]
async fn a_silent_server_costs_the_timeout_and_no_more() {
    let server = NameServer::start().await;
    server.set("api.test.", Reply::Silence);
    let timeout = Duration::from_millis(200);
    let resolver = Resolver::new(ResolverSettings {
        timeout,
        ..settings(&[server.address])
    });
    let begin = Instant::now();
    let error = resolver.resolve("api.test").await.expect_err("no answer");
    assert!(
        matches!(error, DnsError::Timeout(_) | DnsError::Failed(_)),
        "{error:?}"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn one_family_does_not_wait_long_for_the_other() {
    let server = NameServer::start().await;
    server.set(
        "api.test.",
        Reply::OnlyIpv4("127.0.0.1".parse().expect("an address")),
    );
    let timeout = Duration::from_secs(60);
    let resolver = Resolver::new(ResolverSettings {
        timeout,
        ..settings(&[server.address])
    });
    let begin = Instant::now();
    let answer = resolver.resolve("api.test").await.expect("an answer");
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(answer.addresses, [ip("127.0.0.1")]);
    assert!(answer.ipv6_failed && !answer.ipv4_failed);
}

#[tokio::test]
async fn localhost_needs_no_name_server() {
    let server = NameServer::start().await;
    let resolver = Resolver::new(settings(&[server.address]));
    let answer = resolver.resolve("localhost").await.expect("an answer");
    assert!(answer.addresses.contains(&ip("127.0.0.1")), "{answer:?}");
    assert_eq!(answer.valid_for, Duration::from_secs(300));
    assert_eq!(server.questions(), 0);
}

#[tokio::test]
async fn answers_are_cached_as_long_as_they_are_believed() {
    let server = NameServer::start().await;
    server.set("api.test.", Reply::addresses(&["127.0.0.1", "::1"], 60));
    let resolver = Resolver::new(settings(&[server.address]));
    for _ in 0..3 {
        resolver.resolve("api.test").await.expect("an answer");
    }
    let asked = server.questions();
    assert!(
        (1..=2).contains(&asked),
        "{asked} questions, one for each family at most"
    );
}

#[test]
fn addresses_of_no_use_are_left_out_unless_there_are_no_others() {
    let check = |addresses: &[&str], expected: &[&str]| {
        let mut left: Vec<IpAddr> = addresses.iter().map(|address| ip(address)).collect();
        keep_usable(&mut left, |address| address.is_ipv4());
        let expected: Vec<IpAddr> = expected.iter().map(|address| ip(address)).collect();
        assert_eq!(left, expected);
    };
    check(&["2001:db8::1", "127.0.0.1"], &["127.0.0.1"]);
    check(&["2001:db8::1"], &["2001:db8::1"]);
    check(&[], &[]);
    assert!(is_routable(ip("127.0.0.1")));
}

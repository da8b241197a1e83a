//! Precedence, case, depth and memory of host lookups, and agreement with a scan of all patterns.

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> HostPattern {
    text.parse().expect("a host pattern")
}

fn table(patterns: &[&str], default: Option<u32>) -> HostTable {
    let patterns: Vec<HostPattern> = patterns.iter().map(|text| pattern(text)).collect();
    HostTable::compile(patterns.iter().zip(0..), default)
}

#[test]
fn the_strongest_claim_wins() {
    let hosts = table(
        &[
            "example.com",
            "*.example.com",
            "a.example.com",
            "*.b.example.com",
            "[::1]",
            "10.0.0.1",
        ],
        None,
    );
    let check = |host: &str, expected: Option<u32>| {
        assert_eq!(hosts.find(host.as_bytes()), expected, "{host}");
    };
    check("example.com", Some(0));
    check("EXAMPLE.Com", Some(0));
    check("example.com.", Some(0));
    check("x.example.com", Some(1));
    check("x.example.com.", Some(1));
    check("x.y.z.example.com", Some(1));
    check("a.example.com", Some(2));
    check("x.a.example.com", Some(1));
    check("X.B.EXAMPLE.COM", Some(3));
    check("x.y.b.example.com", Some(3));
    check("b.example.com", Some(1));
    check("[::1]", Some(4));
    check("10.0.0.1", Some(5));
    for nobodys in [
        "",
        ".",
        "com",
        ".com",
        ".example.com",
        "xexample.com",
        "example.com..",
        "example.org",
        "10.0.0.11",
    ] {
        check(nobodys, None);
    }
}

#[test]
fn the_default_takes_what_nobody_claims() {
    let hosts = table(&["example.com", "*.example.org"], Some(9));
    let claim = |host: &str| hosts.claim(host.as_bytes()).map(|it| (it.target, it.rule));
    assert_eq!(
        claim("EXAMPLE.com"),
        Some((0, HostRule::Exact("example.com")))
    );
    assert_eq!(
        claim("a.b.example.org"),
        Some((1, HostRule::Wildcard("example.org")))
    );
    assert_eq!(claim("example.org"), Some((9, HostRule::Default)));
    assert_eq!(hosts.find(b"example.org"), Some(9));
    assert_eq!(hosts.claimed(b"example.org"), None);
    assert_eq!(HostTable::default().claim(b"example.org"), None);
}

#[test]
fn the_first_of_equal_claims_stands() {
    let hosts = table(
        &["a.example", "A.EXAMPLE", "*.a.example", "*.A.example"],
        None,
    );
    assert_eq!(hosts.find(b"a.example"), Some(0));
    assert_eq!(hosts.find(b"b.a.example"), Some(2));
}

#[test]
fn hosts_longer_than_any_pattern_are_not_looked_for() {
    let hosts = table(&["*.example"], Some(7));
    let long = |length: usize| format!("{}.example", "a".repeat(length));
    assert_eq!(hosts.claimed(long(200).as_bytes()), Some(0));
    assert_eq!(hosts.claimed(long(30_000).as_bytes()), None);
    assert_eq!(hosts.find(long(30_000).as_bytes()), Some(7));
}

/// CVE-2026-27588: a matcher that became sensitive to case when its list grew beyond a hundred.
#[test]
fn case_does_not_matter_in_large_tables() {
    let patterns: Vec<HostPattern> = (0..10_000)
        .map(|number| pattern(&format!("host-{number}.example.com")))
        .collect();
    let hosts = HostTable::compile(patterns.iter().zip(0..), None);
    for number in 0..10_000 {
        let host = format!("HOST-{number}.Example.COM");
        assert_eq!(hosts.find(host.as_bytes()), Some(number));
    }
    assert_eq!(hosts.find(b"host-10000.example.com"), None);
}

#[test]
fn a_host_costs_its_length_and_twenty_bytes() {
    let patterns: Vec<HostPattern> = (0..10_000)
        .map(|number| pattern(&format!("customer-{number:05}.example.com")))
        .collect();
    let hosts = HostTable::compile(patterns.iter().zip(0..), None);
    let bytes = hosts.exact.packed.len() + size_of_val(&*hosts.exact.slots);
    let text: usize = patterns.iter().map(|it| it.as_str().len()).sum();
    assert!(
        bytes <= text + 20 * patterns.len(),
        "{bytes} bytes for {text} bytes of hosts"
    );
}

fn host() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec!["a", "b", "A", "ab", "xn--e"]);
    prop::collection::vec(label, 1..5).prop_map(|labels| labels.join("."))
}

fn host_pattern() -> impl Strategy<Value = HostPattern> {
    (any::<bool>(), host())
        .prop_map(|(below, host)| pattern(&if below { format!("*.{host}") } else { host }))
}

/// What the documentation says, by looking at every pattern.
fn scan(patterns: &[HostPattern], host: &str) -> Option<u32> {
    let host = host.to_ascii_lowercase();
    let strength = |pattern: &HostPattern| match pattern.suffix() {
        None => usize::MAX,
        Some(suffix) => suffix.len(),
    };
    let claims = (0..)
        .zip(patterns)
        .filter(|(_, pattern)| pattern.covers(&host));
    // Of equals `max_by_key` takes the last: look from the end.
    let claims: Vec<_> = claims.collect();
    let best = claims
        .into_iter()
        .rev()
        .max_by_key(|(_, pattern)| strength(pattern));
    best.map(|(target, _)| target)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn lookups_agree_with_a_scan(
        patterns in prop::collection::vec(host_pattern(), 0..40),
        hosts in prop::collection::vec(host(), 1..20),
    ) {
        let table = HostTable::compile(patterns.iter().zip(0..), None);
        for host in hosts {
            prop_assert_eq!(table.find(host.as_bytes()), scan(&patterns, &host), "{}", host);
        }
    }
}

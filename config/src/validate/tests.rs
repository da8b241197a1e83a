//! Each relation by itself: what breaks it, and what comes close and does not.

use crate::parse;

const WEB: &str = "listeners: [{ name: web, bind: [':8080'] }]\n";
const APP: &str = "upstreams: { app: { endpoints: ['127.0.0.1:3000'] } }\n";

/// The codes of what is found, warnings included.
fn codes(text: &str) -> Vec<&'static str> {
    let found = match parse(text, "x.yaml") {
        Ok(loaded) => loaded.warnings,
        Err(refused) => refused.diagnostics,
    };
    found.iter().map(|it| it.code).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(codes(text), expected, "{text}");
}

/// Domains with the names of their listeners and their hosts, each with an answer.
fn domains(all: &[(&str, &str)]) -> String {
    let one = |(hosts, more): &(&str, &str)| {
        format!("  - {{ hosts: [{hosts}], {more} policies: {{ respond: {{}} }} }}\n")
    };
    format!("domains:\n{}", all.iter().map(one).collect::<String>())
}

#[test]
fn hosts_are_claimed_once_on_a_listener() {
    let two = "listeners: [{ name: a, bind: [':1'] }, { name: b, bind: [':2'] }]\n";
    let check = |all: &[(&str, &str)], expected: &[&str]| {
        check(&format!("{two}{}", domains(all)), expected);
    };
    check(&[("x", ""), ("y", ""), ("'*.x'", "")], &[]);
    check(&[("x", ""), ("X", "")], &["E-duplicate-host"]);
    check(
        &[("x", "listeners: [a],"), ("x", "name: y, listeners: [b],")],
        &[],
    );
    // A domain is called by its first host, unless it has a name.
    check(
        &[("x", "listeners: [a],"), ("x", "listeners: [b],")],
        &["E-duplicate-name"],
    );
    check(
        &[("x", "listeners: [a],"), ("x", "")],
        &["E-duplicate-host"],
    );
    check(
        &[
            ("x", "listeners: [a],"),
            ("x", "name: y, listeners: [b],"),
            ("x", "name: z, listeners: [a, b],"),
        ],
        &["E-duplicate-host"],
    );
    check(&[("'*.x'", ""), ("'*.x'", "")], &["E-duplicate-host"]);
    check(
        &[("x", "default: true,"), ("y", "default: true,")],
        &["E-duplicate-default"],
    );
    check(
        &[
            ("x", "default: true, listeners: [a],"),
            ("y", "default: true, listeners: [b],"),
        ],
        &[],
    );
    check(&[("", "")], &["E-no-host"]);
    check(&[("", "default: true,")], &[]);
}

#[test]
fn isolated_listeners_keep_to_their_hosts() {
    let check = |own: &str, hosts: &str, expected: &[&str]| {
        let listeners = format!("listeners: [{{ name: a, bind: [':1'], hosts: [{own}] }}]\n");
        check(&format!("{listeners}{}", domains(&[(hosts, "")])), expected);
    };
    check("a.x", "a.x", &[]);
    check("'*.x'", "a.x, b.a.x, '*.x', '*.a.x'", &[]);
    check("a.x", "'*.x'", &[]);
    check("a.x", "b.x", &["W-unreachable-host"]);
    check("'*.x'", "x", &["W-unreachable-host"]);
    check("'*.a.x'", "'*.b.x'", &["W-unreachable-host"]);
}

#[test]
fn addresses_are_listened_on_once() {
    let check = |binds: &[&str], expected: &[&str]| {
        let one = |(place, bind): (usize, &&str)| format!("{{ name: l{place}, bind: [{bind}] }}");
        let all: Vec<_> = binds.iter().enumerate().map(one).collect();
        let domain = domains(&[("x", "")]);
        check(
            &format!("listeners: [{}]\n{domain}", all.join(", ")),
            expected,
        );
    };
    check(&["':1'", "':2'"], &[]);
    check(&["':1'", "'127.0.0.1:1'"], &[]);
    check(&["':1'", "'[::]:1'"], &["E-duplicate-bind"]);
    check(&["':1', ':1'"], &["E-duplicate-bind"]);
    check(&["':0'", "':0'"], &[]);
    check(&[""], &["E-no-bind"]);
    check(&[], &["E-no-listener"]);
}

#[test]
fn routes_answer() {
    let check = |routes: &str, expected: &[&str]| {
        check(
            &format!("{WEB}{APP}domains: [{{ hosts: [x], routes: [{routes}] }}]\n"),
            expected,
        );
    };
    check("{ to: app }", &[]);
    check("{ match: [{}], to: app }", &[]);
    check("{ to: ap }", &["E-unknown-upstream", "W-unused-upstream"]);
    check(
        "{ name: a }, { match: [{ methods: [GET] }], to: app }",
        &["E-no-answer"],
    );
    check(
        "{ to: app, policies: { redirect: { scheme: https } } }",
        &["E-two-answers"],
    );
    check(
        "{ policies: { redirect: { scheme: https }, respond: {} } }, { match: [{ methods: [GET] }], to: app }",
        &["E-two-answers"],
    );
    check("{ to: [{ upstream: app, weight: 0 }] }", &["E-no-weight"]);
    check("{ match: [{ methods: [GET] }], to: app }, { to: app }", &[]);
    check("{ to: app }, { to: app }", &["W-shadowed-route"]);
    check(
        "{ name: route-2, to: app, match: [{ methods: [GET] }] }, { to: app }",
        &["E-duplicate-name"],
    );
    let header = |header: &str| format!("{{ to: app, match: [{{ headers: [{header}] }}] }}");
    check(&header("{ name: x }"), &["E-match"]);
    check(
        &header("{ name: x, exact: a, present: true }"),
        &["E-match"],
    );
    check(&header("{ name: 'x y', exact: a }"), &["E-match"]);
    check(&header("{ name: x, present: false }"), &[]);
}

/// A policy of the domain or the gateway answers for routes that do not.
#[test]
fn answers_are_inherited() {
    let routes = "routes: [{ name: a }]";
    check(
        &format!("{WEB}domains: [{{ hosts: [x], policies: {{ respond: {{}} }}, {routes} }}]\n"),
        &[],
    );
    check(
        &format!("{WEB}policies: {{ respond: {{}} }}\ndomains: [{{ hosts: [x], {routes} }}]\n"),
        &[],
    );
    check(
        &format!("{WEB}domains: [{{ hosts: [x] }}]\n"),
        &["W-no-route"],
    );
    check(WEB, &["W-no-domain"]);
}

#[test]
fn certificates_exist() {
    let check = |tls: &str, certificates: &str, expected: &[&str]| {
        let domain = domains(&[("x", "")]);
        check(
            &format!(
                "listeners: [{{ name: a, bind: [':1'], tls: {{ {tls} }} }}]\n{domain}certificates: [{certificates}]\n"
            ),
            expected,
        );
    };
    let one = "{ name: n, chain: c, key: k }";
    check("", one, &[]);
    check("default_certificate: n", one, &[]);
    check("default_certificate: m", one, &["E-unknown-certificate"]);
    check("", "", &["E-no-certificate"]);
    check("", &format!("{one}, {one}"), &["E-duplicate-name"]);
}

#[test]
fn a_mistake_says_nothing_about_what_may_follow_from_it() {
    // The section may be there under a misspelt name.
    let routes = "domains: [{ hosts: [x], routes: [{ to: app }] }]\n";
    check(
        &format!("{WEB}{routes}upsteams: {{}}\n"),
        &["E-unknown-field"],
    );
    // The broken domain may have had the answer; the other one has none.
    check(
        &format!(
            "{WEB}{APP}domains: [{{ hosts: [x], routs: [] }}, {{ hosts: [x y], routes: [{{ to: a }}] }}]\n"
        ),
        &["E-unknown-field", "E-value", "E-unknown-upstream"],
    );
}

#[test]
fn a_domain_chooses_a_certificate_that_is_there() {
    let certificates = "certificates: [{ name: one, chain: a.pem, key: a.key }]\n";
    let check = |choice: &str, expected: &[&str]| {
        let domain = domains(&[("x", &format!("certificate: {choice},"))]);
        check(&format!("{WEB}{certificates}{domain}"), expected);
    };
    check("one", &[]);
    check("on", &["E-unknown-certificate"]);
}

#[test]
fn proxies_that_are_believed_are_named() {
    let check = |settings: &str, expected: &[&str]| {
        let listener = format!("{{ name: web, bind: [':8080'], proxy_protocol: {settings} }}");
        let app = "domains: [{ hosts: [x], policies: { respond: {} } }]";
        check(&format!("listeners: [{listener}]\n{app}\n"), expected);
    };
    check("{ from: [10.0.0.0/8, '::1'] }", &[]);
    check(
        "{ from: [10.0.0.1], mode: optional, timeout: 1s, header_bytes_max: 232 }",
        &[],
    );
    check("{ from: ['::/0'] }", &["W-proxy-anybody"]);
    check("{ from: [10.0.0.0/8, 0.0.0.0/0] }", &["W-proxy-anybody"]);
    check("{}", &["E-missing-field"]);
    check("{ from: [] }", &["E-no-proxy"]);
    check("{ from: [everybody] }", &["E-value"]);
    check("{ from: [10.0.0.1], mode: maybe }", &["E-value"]);
    check("{ from: [10.0.0.1], timeout: 0s }", &["E-value"]);
    check("{ from: [10.0.0.1], header_bytes_max: 231 }", &["E-value"]);
    check("{ from: [10.0.0.1], header_bytes_max: 9KiB }", &["E-value"]);
    check("{ from: [10.0.0.1], version: 2 }", &["E-unknown-field"]);
}

#[test]
fn a_header_for_endpoints_has_a_version() {
    let check = |version: &str, expected: &[&str]| {
        let upstream = format!("{{ endpoints: ['127.0.0.1:1'], proxy_protocol: {version} }}");
        let app = "domains: [{ hosts: [x], routes: [{ to: app }] }]";
        let text = format!("{WEB}{app}\nupstreams: {{ app: {upstream} }}\n");
        check(&text, expected);
    };
    check("v1", &[]);
    check("v2", &[]);
    check("v3", &["E-value"]);
    check("true", &["E-value"]);
}

#[test]
fn streams_are_where_they_can_be() {
    let listeners = "listeners:
  - { name: web, bind: [':1'] }
  - { name: secure, bind: [':2'], tls: {} }
  - { name: db, bind: [':3'], protocol: tcp }
  - { name: vault, bind: [':4'], protocol: tcp, tls: {} }
  - { name: dns, bind: [':3'], protocol: udp }
certificates: [{ name: n, chain: c, key: k }]
domains: [{ hosts: [a.x, '*.b.x'], policies: { respond: {} } }]
upstreams: { app: { endpoints: ['127.0.0.1:1'] } }
";
    let rest = "{ name: r1, listeners: [db, dns], to: app }";
    let check = |streams: &str, expected: &[&str]| {
        check(
            &format!("{listeners}streams: [{rest}, {streams}]\n"),
            expected,
        );
    };
    let vault = "{ name: r2, listeners: [vault], to: app }";
    check(vault, &[]);
    let also = |stream: &str| format!("{vault}, {{ name: s, to: app, {stream} }}");
    check(
        &also("listeners: [secure], hosts: [c.x], tls: passthrough"),
        &[],
    );
    // What is narrower than a domain's wildcard, or wider than its host, is another host.
    check(
        &also("listeners: [secure], hosts: [c.b.x, '*.x'], tls: passthrough"),
        &[],
    );
    check(
        &also("listeners: [secure], hosts: [a.x], tls: passthrough"),
        &["E-duplicate-host"],
    );
    check(
        &also("listeners: [vault], hosts: [a.x], tls: passthrough"),
        &[],
    );
    check(
        &also("listeners: [vault], tls: terminate"),
        &["E-duplicate-default"],
    );
    check(
        &also("listeners: [secure], hosts: [c.x]"),
        &["E-stream-tls"],
    );
    check(
        &also("listeners: [secure], tls: passthrough"),
        &["E-stream-hosts"],
    );
    check(&also("listeners: [web]"), &["E-stream-protocol"]);
    check(&also("listeners: []"), &["E-no-listener"]);
    check(
        "{ name: r1, listeners: [vault], to: app }",
        &["E-duplicate-name"],
    );
    check("{ name: s, listeners: [vault], to: [] }", &["E-no-answer"]);
}

#[test]
fn datagrams_have_no_header() {
    let check = |listener: &str, upstream: &str, expected: &[&str]| {
        let listener = format!("{{ name: a, bind: [':1'], {listener} }}");
        let upstream = format!("{{ endpoints: ['127.0.0.1:1'], {upstream} }}");
        let text = format!(
            "listeners: [{listener}]\nupstreams: {{ app: {upstream} }}
streams: [{{ name: s, listeners: [a], to: app }}]\n"
        );
        check(&text, expected);
    };
    let from = "proxy_protocol: { from: [10.0.0.1] }";
    check(&format!("protocol: tcp, {from}"), "proxy_protocol: v2", &[]);
    check(
        &format!("protocol: udp, {from}"),
        "",
        &["E-listener-protocol"],
    );
    check("protocol: udp", "", &[]);
    check(
        "protocol: udp",
        "proxy_protocol: v1",
        &["E-stream-upstream"],
    );
}

#[test]
fn who_passes_tls_on_needs_no_certificate() {
    let check = |tls: &str, expected: &[&str]| {
        check(
            &format!(
                "{APP}listeners: [{{ name: a, bind: [':1'], protocol: tcp, tls: {{}} }}]
streams: [{{ name: s, listeners: [a], to: app, tls: {tls} }}]\n"
            ),
            expected,
        );
    };
    check("passthrough", &[]);
    check("terminate", &["E-no-certificate"]);
}

/// What the guide shows is right as a whole, too.
#[test]
fn the_guide_to_streams_is_right() {
    let guide = include_str!("../../../docs/guides/layer4.md");
    let blocks = guide.split("```yaml\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|it| it.split("```").next()).collect();
    assert!(blocks.len() > 1);
    for block in blocks {
        check(block, &[]);
    }
}

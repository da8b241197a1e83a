//! Which domain and route take a request. Each route answers with its own name, so that the test
//! sees the decision and nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cardea_tests::{Gateway, Origin, origin};

use crate::fixture::{assert_refused, get};

/// A gateway with one domain whose routes answer with their own number.
fn numbered(matches: &[&str]) -> Gateway {
    let mut config = "domains:\n  - hosts: [a.test]\n    routes:\n".to_owned();
    for (number, matches) in matches.iter().enumerate() {
        writeln!(
            config,
            "      - {{ match: [{matches}], policies: {{ respond: {{ body: \"{number}\" }} }} }}"
        )
        .expect("writing to a string");
    }
    Gateway::start(&config, &[])
}

/// Asserts which route takes a request, by its number; none answers 404.
#[track_caller]
fn assert_taken(gateway: &Gateway, request: &str, route: Option<usize>) {
    let response = gateway.ask(request);
    match route {
        Some(number) => {
            assert_eq!(
                (response.status, response.text()),
                (200, number.to_string()),
                "{request}"
            );
        }
        None => assert_refused(&response, 404, "route_unknown", request),
    }
}

/// A gateway whose domains answer with their own names.
fn domains(domains: &[(&str, &str)], more: &str) -> Gateway {
    let mut config = format!("{more}domains:\n");
    for (name, settings) in domains {
        writeln!(
            config,
            "  - {{ name: {name}, {settings}, routes: [{{ policies: {{ respond: {{ body: {name} }} }} }}] }}"
        )
        .expect("writing to a string");
    }
    Gateway::start(&config, &[])
}

#[test]
fn hosts_exact_and_wildcard() {
    let gateway = domains(
        &[
            ("exact", "hosts: [www.a.test]"),
            ("wild", "hosts: [\"*.a.test\"]"),
            ("deep", "hosts: [\"*.b.a.test\"]"),
            ("bare", "hosts: [a.test]"),
        ],
        "",
    );
    let check = |host: &str, expected: Option<&str>| {
        let response = gateway.get(host, "/");
        match expected {
            Some(name) => assert_eq!(
                (response.status, response.text().as_str()),
                (200, name),
                "{host}"
            ),
            None => assert_refused(&response, 404, "domain_unknown", host),
        }
    };
    check("www.a.test", Some("exact"));
    check("WWW.A.TEST", Some("exact"));
    check("www.a.test:8080", Some("exact"));
    check("www.a.test.", Some("exact"));
    check("x.a.test", Some("wild"));
    check("x.y.a.test", Some("wild"));
    check("x.b.a.test", Some("deep"));
    check("b.a.test", Some("wild"));
    check("a.test", Some("bare"));
    check("xa.test", None);
    check("test", None);
    check("127.0.0.1", None);
    check("[::1]", None);
}

#[test]
fn a_default_domain_takes_the_rest() {
    let gateway = domains(
        &[
            ("one", "hosts: [a.test]"),
            ("rest", "hosts: [b.test], default: true"),
        ],
        "",
    );
    for (host, name) in [
        ("a.test", "one"),
        ("b.test", "rest"),
        ("c.test", "rest"),
        ("[::1]:80", "rest"),
    ] {
        assert_eq!(gateway.get(host, "/").text(), name, "{host}");
    }
}

#[test]
fn a_host_of_another_listener_is_misdirected() {
    let listeners = r#"
listeners:
  - { name: web, bind: ["127.0.0.1:0"] }
  - { name: inside, bind: ["127.0.0.1:0"] }
  - { name: narrow, bind: ["127.0.0.1:0"], hosts: [a.test, w.b.test] }
"#;
    let gateway = domains(
        &[
            (
                "public",
                "hosts: [a.test, x.test], listeners: [web, narrow]",
            ),
            ("private", "hosts: [p.test], listeners: [inside]"),
            ("all", "hosts: [b.test, '*.b.test']"),
        ],
        listeners,
    );
    let check = |listener: &str, host: &str, expected: Result<&str, (u16, &str)>| {
        let response = cardea_tests::Client::connect(gateway.listener(listener)).get(host, "/");
        match expected {
            Ok(name) => assert_eq!(response.text(), name, "{listener} {host}"),
            Err((status, reason)) => {
                assert_refused(&response, status, reason, &format!("{listener} {host}"))
            }
        }
    };
    check("web", "a.test", Ok("public"));
    check("inside", "p.test", Ok("private"));
    check("web", "b.test", Ok("all"));
    check("inside", "b.test", Ok("all"));
    check("narrow", "a.test", Ok("public"));
    check("web", "p.test", Err((421, "misdirected")));
    check("inside", "a.test", Err((421, "misdirected")));
    check("narrow", "b.test", Err((421, "misdirected")));
    // Only what the listener and the domain have in common.
    check("web", "x.test", Ok("public"));
    check("narrow", "x.test", Err((421, "misdirected")));
    check("web", "v.b.test", Ok("all"));
    check("narrow", "w.b.test", Ok("all"));
    check("narrow", "v.b.test", Err((421, "misdirected")));
    check("web", "nobody.test", Err((404, "domain_unknown")));
}

#[test]
fn paths_exact_and_prefix() {
    let gateway = numbered(&[
        "{ path: { prefix: /api } }",
        "{ path: { exact: /api } }",
        "{ path: { prefix: /api/v1/ } }",
        "{ path: { exact: /api/v1/x } }",
        "{ path: { prefix: / } }",
    ]);
    let check = |path: &str, route| assert_taken(&gateway, &get("a.test", path, ""), Some(route));
    check("/api", 1);
    check("/api/", 0);
    check("/api/x", 0);
    check("/apix", 4);
    check("/API", 4);
    check("/api/v1", 2);
    check("/api/v1/", 2);
    check("/api/v1/y", 2);
    check("/api/v1/x", 3);
    check("/api/v1/x?q", 3);
    check("/api/v12", 0);
    check("/", 4);
    check("/%61pi", 1);
}

#[test]
fn paths_by_regular_expression() {
    let gateway = numbered(&[
        r#"{ path: { regex: "/users/[0-9]+" } }"#,
        r#"{ path: { regex: "/(?i)case" } }"#,
        r#"{ path: { regex: "/any/.*" } }"#,
    ]);
    let check = |path: &str, route| assert_taken(&gateway, &get("a.test", path, ""), route);
    check("/users/7", Some(0));
    // Anchored at both ends.
    check("/users/7/posts", None);
    check("/x/users/7", None);
    check("/users/x", None);
    check("/CASE", Some(1));
    check("/any/thing/%E2%82%AC", Some(2));
}

#[test]
fn methods_headers_and_queries() {
    let gateway = numbered(&[
        "{ methods: [POST, PUT] }",
        "{ headers: [{ name: X-Env, exact: canary }] }",
        "{ headers: [{ name: x-version, regex: \"v[0-9]+\" }] }",
        "{ headers: [{ name: x-debug, present: true }] }",
        "{ query: [{ name: v, exact: \"2\" }] }",
        "{ query: [{ name: tag, regex: \"a+\" }] }",
        "{ headers: [{ name: accept, present: false }], path: { prefix: /bare } }",
    ]);
    let check = |request: &str, route| assert_taken(&gateway, request, route);
    check(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
        Some(0),
    );
    check(&get("a.test", "/", "x-env: canary\r\n"), Some(1));
    check(&get("a.test", "/", "X-ENV: Canary\r\n"), None);
    check(&get("a.test", "/", "X-Version: v12\r\n"), Some(2));
    check(&get("a.test", "/", "X-Version: xv12\r\n"), None);
    check(&get("a.test", "/", "X-Debug:\r\n"), Some(3));
    check(&get("a.test", "/?v=2", ""), Some(4));
    check(&get("a.test", "/?a=1&v=2&b", ""), Some(4));
    check(&get("a.test", "/?v=%32", ""), Some(4));
    check(&get("a.test", "/?v=22", ""), None);
    check(&get("a.test", "/?V=2", ""), None);
    check(&get("a.test", "/?tag=aaa", ""), Some(5));
    check(&get("a.test", "/bare", ""), Some(6));
    check(&get("a.test", "/bare", "Accept: */*\r\n"), None);
}

#[test]
fn all_of_one_match_and_any_of_several() {
    let gateway = numbered(&[
        "{ path: { prefix: /a }, methods: [GET], headers: [{ name: x, exact: \"1\" }, { name: y, exact: \"2\" }] }",
        "{ path: { exact: /b } }, { path: { exact: /c }, methods: [PUT] }",
    ]);
    let check = |request: &str, route| assert_taken(&gateway, request, route);
    check(&get("a.test", "/a", "X: 1\r\nY: 2\r\n"), Some(0));
    check(&get("a.test", "/a", "X: 1\r\n"), None);
    check(
        "DELETE /a HTTP/1.1\r\nHost: a.test\r\nX: 1\r\nY: 2\r\n\r\n",
        None,
    );
    check(&get("a.test", "/b", ""), Some(1));
    check(&get("a.test", "/c", ""), None);
    check("PUT /c HTTP/1.1\r\nHost: a.test\r\n\r\n", Some(1));
}

#[test]
fn precedence_as_in_the_gateway_api() {
    // Exact path, longest prefix, method, most headers, most query parameters, order.
    let gateway = numbered(&[
        "{ path: { prefix: / } }",
        "{ path: { prefix: /p } }",
        "{ path: { prefix: /p }, methods: [GET] }",
        "{ path: { prefix: /p }, headers: [{ name: a, exact: \"1\" }] }",
        "{ path: { prefix: /p }, headers: [{ name: a, exact: \"1\" }, { name: b, exact: \"1\" }] }",
        "{ path: { prefix: /p }, query: [{ name: q, exact: \"1\" }] }",
        "{ path: { prefix: /p/longer } }",
        "{ path: { exact: /p/exact } }",
        "{ path: { prefix: /p/exact }, methods: [GET], headers: [{ name: a, exact: \"1\" }] }",
        "{ path: { prefix: /twice } }",
        "{ path: { prefix: /twice } }",
    ]);
    let check = |request: &str, route| assert_taken(&gateway, request, Some(route));
    check(&get("a.test", "/x", ""), 0);
    check("PUT /p HTTP/1.1\r\nHost: a.test\r\n\r\n", 1);
    check(&get("a.test", "/p", ""), 2);
    check(&get("a.test", "/p", "A: 1\r\n"), 2);
    check("PUT /p HTTP/1.1\r\nHost: a.test\r\nA: 1\r\n\r\n", 3);
    check(
        "PUT /p?q=1 HTTP/1.1\r\nHost: a.test\r\nA: 1\r\nB: 1\r\n\r\n",
        4,
    );
    check("PUT /p?q=1 HTTP/1.1\r\nHost: a.test\r\n\r\n", 5);
    check(&get("a.test", "/p/longer", "A: 1\r\nB: 1\r\n"), 6);
    check(&get("a.test", "/p/exact", "A: 1\r\n"), 7);
    check(&get("a.test", "/p/exact/x", "A: 1\r\n"), 8);
    check(&get("a.test", "/twice", ""), 9);
}

#[test]
fn weights_share_the_requests() {
    let origins: Vec<Origin> = ["a", "b", "c"]
        .map(|name| Origin::serve(origin::saying(name)))
        .into();
    let config = r#"
domains:
  - hosts: [a.test]
    routes:
      - to: [{ upstream: a, weight: 3 }, { upstream: b, weight: 1 }, { upstream: c, weight: 0 }]
upstreams:
  a: { endpoints: ["<a>"] }
  b: { endpoints: ["<b>"] }
  c: { endpoints: ["<c>"] }
"#;
    let [a, b, c] = [0, 1, 2].map(|at| origins[at].address());
    let gateway = Gateway::start(config, &[("a", &a), ("b", &b), ("c", &c)]);
    let mut client = gateway.client();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        *counts.entry(client.get("a.test", "/").text()).or_default() += 1;
    }
    // Three in four, give or take five standard deviations.
    let share = counts.get("a").copied().unwrap_or_default();
    assert!((255..=345).contains(&share), "{counts:?}");
    assert_eq!(counts.get("c"), None);
}

#[test]
fn asterisk_form_goes_where_the_root_goes() {
    let origin = Origin::echo();
    let gateway = crate::fixture::plain(&origin);
    let response = gateway.ask("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(response.status, 200);
    assert_eq!(origin.only_request().target, "*");
}

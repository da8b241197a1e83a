//! Routes as a document has them: what they take, which of them goes first, and what they make of
//! paths that can be read twice.

mod explained;
mod guide;
mod oracle;

use cardea_config::model::{PathMatch, Route};
use cardea_config::origin::Located;

use super::*;
use crate::traffic::headers::HeaderName;

/// The routes of a domain, written as in a document. Lines count from the first route.
pub(super) fn routes(yaml: &str) -> Vec<Located<Route>> {
    let before = "listeners: [{ name: web, bind: [\"127.0.0.1:0\"] }]\n\
        upstreams: { app: { endpoints: [\"127.0.0.1:1\"] } }\n\
        domains:\n- default: true\n  policies: { respond: {} }\n  routes:\n";
    let body: String = yaml.lines().map(|line| format!("  {line}\n")).collect();
    let loaded = cardea_config::parse(&format!("{before}{body}"), "test.yaml");
    let document = loaded
        .unwrap_or_else(|refused| panic!("{}", refused.render(false)))
        .document;
    let mut routes = document
        .domains
        .into_iter()
        .next()
        .expect("a domain")
        .value
        .routes;
    let lines = before.lines().count() as u32;
    for route in &mut routes {
        route.origin.line -= lines;
        for alternative in &mut route.value.matches {
            alternative.origin.line -= lines;
            if let Some(path) = &mut alternative.value.path {
                path.origin.line -= lines;
            }
        }
    }
    routes
}

fn table(yaml: &str) -> RouteTable {
    RouteTable::compile(&routes(yaml)).expect("routes that compile")
}

/// A request, as `METHOD /path?query` and header fields.
pub(super) struct Asked {
    method: String,
    path: String,
    query: Option<String>,
    headers: Headers,
    client: Option<PeerCertificate>,
}

/// The certificate of a client.
pub(super) fn client(subject: &str) -> PeerCertificate {
    PeerCertificate {
        subject: subject.into(),
        common_name: None,
        issuer: "CN=authority".into(),
        serial: "01".into(),
        dns: ["a.example".into()].into(),
        uris: [].into(),
        emails: [].into(),
        fingerprint: "00".repeat(32).into(),
        leaf: Vec::new().into(),
        issuers: [].into(),
    }
}

impl Asked {
    pub(super) fn new(line: &str, headers: &[(&str, &str)]) -> Self {
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let mut asked = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query,
            headers: Headers::default(),
            client: None,
        };
        for (name, value) in headers {
            asked
                .headers
                .append(&HeaderName::new(name), value.as_bytes());
        }
        asked
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: self.method.as_bytes(),
            path: self.path.as_bytes(),
            query: self.query.as_ref().map(String::as_bytes),
            headers: &self.headers,
            client: self.client.as_ref(),
        }
    }
}

fn find(table: &RouteTable, line: &str, headers: &[(&str, &str)]) -> Result<usize, NoRoute> {
    table
        .find(&Asked::new(line, headers).view())
        .map(|found| found.route)
}

const UNMATCHED: Result<usize, NoRoute> = Err(NoRoute::Unmatched);
const AMBIGUOUS: Result<usize, NoRoute> = Err(NoRoute::Ambiguous);

#[test]
fn prefixes_go_by_segment() {
    let table = table(
        "- match: [{ path: { prefix: /api } }]\n\
         - match: [{ path: { prefix: /api/v2/ } }]\n\
         - match: [{ path: { exact: /api/v2 } }]\n\
         - match: [{ path: { prefix: /café } }]\n",
    );
    let check = |path: &str, expected| {
        assert_eq!(
            find(&table, &format!("GET {path}"), &[]),
            expected,
            "{path}"
        );
    };
    check("/api", Ok(0));
    check("/api/", Ok(0));
    check("/api/v1", Ok(0));
    check("/api/v22", Ok(0));
    check("/api/v2", Ok(2));
    check("/api/v2/", Ok(1));
    check("/api/v2/x", Ok(1));
    check("/caf%C3%A9/x", Ok(3));
    check("/apix", UNMATCHED);
    check("/API", UNMATCHED);
    check("/", UNMATCHED);
    check("*", UNMATCHED);
}

#[test]
fn what_matched_is_told() {
    let table = table(
        "- match: [{ path: { prefix: /a } }, { path: { prefix: /a/b }, methods: [PUT] }]\n\
         - match: [{ path: { exact: /a/c } }]\n\
         - match: [{ path: { regex: /x.* } }]\n\
         - {}\n",
    );
    let check = |line: &str, expected: (usize, usize, usize)| {
        let found = table.find(&Asked::new(line, &[]).view()).expect("a route");
        assert_eq!(
            (found.route, found.alternative, found.path_bytes),
            expected,
            "{line}"
        );
    };
    check("GET /a/b/c", (0, 0, 2));
    check("PUT /a/b/c", (0, 1, 4));
    check("GET /a/c", (1, 0, 4));
    check("GET /xyz", (2, 0, 0));
    check("GET /", (3, 0, 0));
    check("OPTIONS *", (3, 0, 0));
}

#[test]
fn precedence() {
    let table = table(
        "- {}\n\
         - match: [{ path: { prefix: /a/b/c } }]\n\
         - match: [{ path: { regex: '/a/.*' } }]\n\
         - match: [{ path: { exact: /a/b/c } }]\n\
         - match: [{ path: { regex: '/a/b.*' }, methods: [PUT] }]\n\
         - match: [{ path: { prefix: /p }, query: [{ name: q, present: true }, { name: r, present: true }] }]\n\
         - match: [{ path: { prefix: /p }, headers: [{ name: h, present: true }] }]\n\
         - match: [{ path: { prefix: /p }, methods: [PUT] }]\n\
         - match: [{ path: { prefix: /p } }]\n\
         - match: [{ path: { prefix: /p } }]\n\
         - match: [{ path: { prefix: /p }, headers: [{ name: h, present: true }, { name: i, present: true }] }]\n",
    );
    let check = |line: &str, headers: &[(&str, &str)], expected: usize| {
        assert_eq!(find(&table, line, headers), Ok(expected), "{line}");
    };
    check("GET /a/b/c", &[], 3);
    check("GET /a/b/c/d", &[], 2);
    check("PUT /a/b/c/d", &[], 4);
    check("GET /b", &[], 0);
    check("GET /p?q&r", &[], 5);
    check("GET /p?q", &[], 8);
    check("GET /p?q&r", &[("h", "")], 6);
    check("GET /p?q&r", &[("h", ""), ("i", "")], 10);
    check("PUT /p?q&r", &[("h", ""), ("i", "")], 7);
}

#[test]
fn conditions() {
    let table = table(
        "- match: [{ headers: [{ name: X-Env, exact: canary }] }]\n\
         - match: [{ headers: [{ name: X-Env, regex: 'beta-[0-9]+(, x)?' }] }]\n\
         - match: [{ headers: [{ name: cookie, exact: 'a=1; b=2' }] }]\n\
         - match: [{ query: [{ name: v, exact: '2 + 2' }] }]\n\
         - match: [{ query: [{ name: v, regex: '[a-z ]*' }] }]\n\
         - match: [{ query: [{ name: w, present: true }, { name: x, present: false }] }]\n\
         - match: [{ headers: [{ name: y, present: false }], methods: [GET, HEAD] }]\n",
    );
    let check = |line: &str, headers: &[(&str, &str)], expected| {
        assert_eq!(find(&table, line, headers), expected, "{line} {headers:?}");
    };
    check("PUT /", &[("x-env", "canary")], Ok(0));
    check("PUT /", &[("X-ENV", "canary")], Ok(0));
    check("PUT /", &[("x-env", "Canary")], UNMATCHED);
    check("PUT /", &[("x-env", "canary2")], UNMATCHED);
    check("PUT /", &[("x-env", "canary"), ("x-env", "x")], UNMATCHED);
    check("PUT /", &[("x-env", "canary"), ("x-env", "")], UNMATCHED);
    check("PUT /", &[("x-env", "beta-12")], Ok(1));
    check("PUT /", &[("x-env", "beta-12x")], UNMATCHED);
    check("PUT /", &[("x-env", "beta-12"), ("x-env", "x")], Ok(1));
    check("PUT /", &[("x-env", "x"), ("x-env", "beta-12")], UNMATCHED);
    check("PUT /", &[("cookie", "a=1"), ("cookie", "b=2")], Ok(2));
    check("PUT /?v=2+%2B+2", &[], Ok(3));
    check("PUT /?v=a%20b", &[], Ok(4));
    check("PUT /?v=a&v=1", &[], Ok(4));
    check("PUT /?v=1&v=a", &[], UNMATCHED);
    check("PUT /?w", &[], Ok(5));
    check("PUT /?w&%78=1", &[], UNMATCHED);
    check("GET /", &[], Ok(6));
    check("HEAD /", &[("y", "")], UNMATCHED);
    check("get /", &[], UNMATCHED);
}

#[test]
fn a_value_split_over_fields_is_one_value() {
    let table = table("- match: [{ headers: [{ name: x, exact: 'a, b' }] }]\n");
    let check = |values: &[(&str, &str)], expected| {
        assert_eq!(find(&table, "GET /", values), expected, "{values:?}");
    };
    check(&[("x", "a, b")], Ok(0));
    check(&[("x", "a"), ("x", "b")], Ok(0));
    check(&[("x", "a")], UNMATCHED);
    check(&[("x", "b"), ("x", "a")], UNMATCHED);
    check(&[("x", "a"), ("x", "b"), ("x", "c")], UNMATCHED);
}

/// A domain whose `/admin` is guarded, while everything else is open.
const GUARDED: &str = "- match: [{ path: { prefix: /admin } }]\n\
     - match: [{ path: { prefix: /shop } }]\n\
     - match: [{ path: { exact: /login } }]\n\
     - {}\n";

/// Envoy chose an unguarded route for `/admin;x`, and the servlet container behind it served
/// `/admin`; its option to ignore parameters cut the path at the first semicolon instead.
#[test]
fn cve_2026_73511_parameters_do_not_lead_past_a_guarded_route() {
    let table = table(GUARDED);
    let check = |path: &str, expected| {
        assert_eq!(
            find(&table, &format!("GET {path}"), &[]),
            expected,
            "{path}"
        );
    };
    check("/admin;x=y", AMBIGUOUS);
    check("/admin;x=y/secret", AMBIGUOUS);
    check("/;x/admin", AMBIGUOUS);
    check("/login;jsessionid=1", AMBIGUOUS);
    check("/admin%3Bx/secret", AMBIGUOUS);
    check("/%3B/admin", AMBIGUOUS);
    // Wherever the parameters are cut off, these stay where they are.
    check("/heroes;id=15;x=y", Ok(3));
    check("/shop/cart;jsessionid=1", Ok(1));
    check("/shop/cart;jsessionid=1/items", Ok(1));
    check("/admin/users;page=2", Ok(0));
}

/// Envoy's router ignored parameters where its access rules did not: one is a reading of the
/// other, and both have to lead to the same route.
#[test]
fn cve_2026_73553_matching_and_authorising_see_one_path() {
    let table = table(
        "- match: [{ path: { exact: /public } }]\n\
         - match: [{ path: { prefix: /private } }]\n",
    );
    assert_eq!(find(&table, "GET /public;x/private", &[]), UNMATCHED);
    assert_eq!(find(&table, "GET /private;x", &[]), UNMATCHED);
    assert_eq!(find(&table, "GET /private/x;/y", &[]), Ok(1));
    assert_eq!(find(&table, "GET /private/..%3B", &[]), AMBIGUOUS);
}

/// Where encoded slashes are kept, they still do not lead anywhere that plain ones would not.
#[test]
fn cve_2021_29492_kept_slashes_do_not_lead_past_a_guarded_route() {
    let table = table(GUARDED);
    let check = |path: &str, expected| {
        assert_eq!(
            find(&table, &format!("GET {path}"), &[]),
            expected,
            "{path}"
        );
    };
    check("/admin%2Fsecret", AMBIGUOUS);
    check("/%2Fadmin", AMBIGUOUS);
    check("/x%5C..%5Cadmin", AMBIGUOUS);
    check("/%61dmin%2f", AMBIGUOUS);
    check("/projects/group%2Fname", Ok(3));
    check("/shop/a%2Fb", Ok(1));
    // Where slashes are not merged.
    check("//admin", AMBIGUOUS);
    check("/shop//cart", Ok(1));
}

/// A reserved character and its escape are one to nearly every origin.
#[test]
fn escapes_of_reserved_characters_do_not_lead_past_a_route() {
    let table = table("- match: [{ path: { prefix: '/a:b' } }]\n- {}\n");
    assert_eq!(find(&table, "GET /a:b/c", &[]), Ok(0));
    assert_eq!(find(&table, "GET /a%3Ab/c", &[]), AMBIGUOUS);
    assert_eq!(find(&table, "GET /x%3Ab/c", &[]), Ok(1));
}

#[test]
fn what_a_route_writes_out_is_meant() {
    let table = table(
        "- match: [{ path: { exact: '/login;v=2' } }]\n\
         - match: [{ path: { prefix: '/files;v=2' } }]\n\
         - match: [{ path: { regex: '/img/[0-9]+;w=[0-9]+' } }]\n\
         - match: [{ path: { exact: /login } }, { path: { prefix: /files } }, { path: { prefix: /img } }]\n\
         - match: [{ path: { exact: /a%2fb } }]\n\
         - {}\n",
    );
    let check = |path: &str, expected| {
        assert_eq!(
            find(&table, &format!("GET {path}"), &[]),
            expected,
            "{path}"
        );
    };
    check("/login;v=2", Ok(0));
    check("/login;v=3", AMBIGUOUS);
    check("/files;v=2/a", Ok(1));
    check("/files;v=2/a;x", AMBIGUOUS);
    check("/files;v=3/a", AMBIGUOUS);
    check("/img/7;w=100", Ok(2));
    check("/img/7;h=100", Ok(3));
    check("/a%2Fb", Ok(4));
}

#[test]
fn one_way_needs_no_second_look() {
    let table = table("- match: [{ path: { prefix: /a } }, {}]\n");
    assert_eq!(find(&table, "GET /b%2F..%2F..%2Fa;x", &[]), Ok(0));
}

#[test]
fn nothing_takes_anything_without_routes() {
    let table = RouteTable::compile(&[]).expect("no routes");
    assert_eq!(find(&table, "GET /", &[]), UNMATCHED);
    assert_eq!(find(&RouteTable::default(), "GET /a;b", &[]), UNMATCHED);
}

#[test]
fn everything_wrong_is_said_at_once() {
    let json = serde_json::json!([
        { "match": [{}, { "path": { "exact": "/a?b" } }] },
        { "match": [{}, { "path": { "prefix": "/%zz" } }] },
        { "match": [{ "headers": [{ "name": "a b", "exact": "x" }, { "name": "x" }] }] },
        { "match": [{ "query": [{ "name": "", "exact": "x" }, { "name": "y", "regex": "y" }] }] },
    ]);
    let mut routes: Vec<Located<Route>> = serde_json::from_value(json).expect("routes");
    // What a file cannot say, another source might.
    routes[0].value.matches[0].value.path =
        Some(Located::built_in(PathMatch::Regex("(".to_owned())));
    routes[1].value.matches[0].value.path =
        Some(Located::built_in(PathMatch::Prefix("*".to_owned())));
    routes[3].value.matches[0].value.query[1].value.regex = Some("[".to_owned());
    let found = RouteTable::compile(&routes).expect_err("mistakes");
    let found: Vec<String> = found
        .iter()
        .map(|it| format!("{} {}", it.code, it.message))
        .collect();
    assert_eq!(
        found,
        [
            "E-regex `(` is no regular expression",
            "E-path `/a?b` is no path that a request can have",
            "E-path `*` is no path that a request can have",
            "E-path `/%zz` is no path that a request can have",
            "E-match `a b` is no name of a header field",
            "E-match how `x` matches is not clear",
            "E-match `` is no name of a query parameter",
            "E-regex `[` is no regular expression",
        ]
    );
}

/// Hundreds of routes are found as one is.
#[test]
fn many_routes() {
    let routes: Vec<Located<Route>> = (0..5000)
        .map(|number| {
            let path = match number % 2 {
                0 => PathMatch::Exact(format!("/shop/{number}/item")),
                _ => PathMatch::Prefix(format!("/shop/{number}")),
            };
            let json = serde_json::json!([{ "match": [{ "path": path }] }]);
            let mut routes: Vec<_> = serde_json::from_value(json).expect("a route");
            routes.remove(0)
        })
        .collect();
    let table = RouteTable::compile(&routes).expect("routes that compile");
    for number in 0..5000 {
        let line = format!("GET /shop/{number}/item");
        assert_eq!(find(&table, &line, &[]), Ok(number));
    }
    assert_eq!(find(&table, "GET /shop/5001/item", &[]), UNMATCHED);
    assert_eq!(find(&table, "GET /shop/4/items", &[]), UNMATCHED);
}

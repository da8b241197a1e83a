//! `cardea explain`: what would happen to a request, and why the other routes lost.

use cardea_tests::gateway::Site;

const CONFIG: &str = r#"listeners:
  - name: web
    bind: ["127.0.0.1:8080"]
domains:
  - name: shop
    hosts: [a.test]
    policies: { rate_limit: { rate: 5 } }
    routes:
      - name: canary
        match: [{ path: { prefix: /api }, headers: [{ name: x-env, exact: canary }] }]
        to: next
      - name: api
        match: [{ path: { prefix: /api } }]
        policies: { rewrite: { path: { replace_prefix: / } } }
        to: app
      - name: rest
        policies: { grpc_web: true }
        to: app
upstreams:
  app: { endpoints: ["127.0.0.1:3000"] }
  next: { endpoints: ["127.0.0.1:3001"] }
"#;

fn explain(arguments: &[&str]) -> (Option<i32>, String) {
    let site = Site::new();
    site.write("cardea.yaml", CONFIG);
    let finished = site.cardea(&[&["explain"], arguments].concat());
    (finished.code, finished.stdout + &finished.stderr)
}

#[track_caller]
fn assert_explained(arguments: &[&str], told: &[&str]) {
    let (_, text) = explain(arguments);
    for part in told {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
}

#[test]
fn the_route_and_why_the_others_lost() {
    assert_explained(
        &["GET", "http://a.test/api/x"],
        &[
            "shop",
            "api",
            "canary",
            "x-env",
            "rate_limit",
            "rewrite",
            "127.0.0.1:3000",
            "cardea.yaml:13:17",
        ],
    );
    assert_explained(
        &["GET", "http://a.test/api/x", "-H", "X-Env: canary"],
        &["canary", "127.0.0.1:3001", "cardea.yaml:10:17"],
    );
    assert_explained(
        &["POST", "http://a.test/other"],
        &["rest", "grpc_web", "127.0.0.1:3000"],
    );
}

#[test]
fn refusals_are_explained_too() {
    assert_explained(&["GET", "http://nobody.test/"], &["domain_unknown", "404"]);
    assert_explained(&["GET", "http://a.test/x%2fy"], &["path_ambiguous"]);
}

#[test]
fn a_url_that_is_none() {
    for url in ["a.test", "ftp://a.test/", "http://", "http://a b/"] {
        let (code, text) = explain(&["GET", url]);
        assert!(code.is_some_and(|code| code != 0), "{url}: {text}");
    }
}

//! Path confusion: a path is normalised once, and what is matched, authorised and forwarded is the
//! same string. What can be read in two ways is refused.

use cardea_tests::{Gateway, Origin};

use crate::fixture::{assert_refused, get, with_routes};

/// `/admin` is for nobody; everything else goes to the origin.
fn guarded(origin: &Origin) -> Gateway {
    with_routes(
        origin,
        &[
            "{ match: [{ path: { prefix: /admin } }], policies: { ip_access: { deny: [\"0.0.0.0/0\"] } }, to: origin }",
            "{ to: origin }",
        ],
    )
}

#[test]
fn path_confusion_what_is_authorised_is_forwarded() {
    let origin = Origin::echo();
    let gateway = guarded(&origin);
    // Every spelling of /admin is recognised as such, or refused.
    for path in [
        "/admin",
        "/admin/",
        "/admin/x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/..//admin",
        "/%61dmin",
        "/%61%64min",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin",
        "/.//admin",
        "/admin/.",
        "/admin/x/..",
    ] {
        let response = gateway.ask(get("a.test", path, ""));
        assert_refused(&response, 403, "address_denied", path);
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn path_confusion_the_ambiguous_is_refused() {
    let origin = Origin::echo();
    let gateway = guarded(&origin);
    for (path, reason) in [
        ("/x%2f..%2fadmin", "path_ambiguous"),
        ("/x%2F", "path_ambiguous"),
        ("/x%5cadmin", "path_ambiguous"),
        ("/x\\admin", "request_line_malformed"),
        ("/x/..;/admin", "path_ambiguous"),
        ("/x/.;a=b/admin", "path_ambiguous"),
        ("/%00", "path_invalid"),
        ("/%0a", "path_invalid"),
        ("/%zz", "path_invalid"),
        ("/%2", "path_invalid"),
        ("/..", "path_ambiguous"),
        ("/x/../../admin", "path_ambiguous"),
    ] {
        assert_refused(&gateway.ask(get("a.test", path, "")), 400, reason, path);
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn path_confusion_the_normal_form_is_forwarded() {
    let origin = Origin::echo();
    let gateway = guarded(&origin);
    let check = |path: &str, forwarded: &str| {
        let response = gateway.ask(get("a.test", path, ""));
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        assert_eq!(origin.last_request().target, forwarded, "{path}");
    };
    check("/", "/");
    check("/a/b/", "/a/b/");
    check("//a///b", "/a/b");
    check("/a/./b", "/a/b");
    check("/a/../b", "/b");
    check("/a/b/..", "/a/");
    check("/%7euser/%41", "/~user/A");
    check("/%e2%82%ac", "/%E2%82%AC");
    check("/a%20b%3f", "/a%20b%3F");
    check("/a;v=1/b", "/a;v=1/b");
    check("/a?b=../c&d=%2f", "/a?b=../c&d=%2f");
    check("/a?b?c", "/a?b?c");
}

#[test]
fn encoded_slashes_and_double_slashes_may_be_kept() {
    let origin = Origin::echo();
    let config = r#"
listeners:
  - name: web
    bind: ["127.0.0.1:0"]
    http: { encoded_slashes: keep, merge_slashes: false }
domains:
  - hosts: [a.test]
    routes:
      - { match: [{ path: { prefix: /a/b } }], to: origin }
      - { match: [{ path: { prefix: /a } }], policies: { header_edits: { request: { set: { x-route: a } } } }, to: origin }
upstreams:
  origin: { endpoints: ["<origin>"] }
"#;
    let gateway = Gateway::start(config, &[("origin", &origin.address())]);
    assert_eq!(gateway.get("a.test", "/a/c%2fd").status, 200);
    assert_eq!(origin.last_request().target, "/a/c%2Fd");
    assert_eq!(gateway.get("a.test", "/a//c").status, 200);
    let seen = origin.last_request();
    assert_eq!(
        (seen.target.as_str(), seen.field("x-route")),
        ("/a//c", Some("a"))
    );
    // An origin that merges slashes, or decodes them, would be asked for what another route guards.
    for path in ["/a//b", "/a/%2fb"] {
        let response = gateway.get("a.test", path);
        assert_refused(&response, 400, "path_ambiguous", path);
    }
    // What no route takes as it stands goes nowhere, however it may be read.
    let response = gateway.get("a.test", "/a%2fb");
    assert_refused(&response, 404, "route_unknown", "/a%2fb");
}

#[test]
fn absolute_form_is_routed_by_its_own_host() {
    let origin = Origin::echo();
    let gateway = guarded(&origin);
    let request = "GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(gateway.ask(request).status, 200);
    let seen = origin.last_request();
    assert_eq!(
        (seen.target.as_str(), seen.field("host")),
        ("/x?y", Some("a.test"))
    );
    let hidden = "GET http://a.test/x/../admin HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_refused(&gateway.ask(hidden), 403, "address_denied", hidden);
}

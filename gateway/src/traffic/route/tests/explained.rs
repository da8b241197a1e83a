//! What `explain` says.

use super::super::explain::{Explanation, Outcome, Verdict};
use super::{Asked, table};

fn told(explanation: &Explanation) -> Vec<String> {
    let line = |outcome: &Outcome| match outcome {
        Outcome::First => "first".to_owned(),
        Outcome::Outranked { by, advantage } => format!("after {by}: {advantage}"),
        Outcome::Lost(mismatches) => {
            let reasons: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
            reasons.join("; ")
        }
    };
    let candidates = explanation.candidates.iter();
    candidates
        .map(|it| {
            format!(
                "{}.{} {}: {}",
                it.route,
                it.alternative,
                it.asks,
                line(&it.outcome)
            )
        })
        .collect()
}

#[test]
fn every_candidate_says_why_it_lost() {
    let table = table(
        "- match: [{ path: { prefix: /api }, methods: [PUT, POST] }]\n\
         - match: [{ path: { regex: '/api/[0-9]+' } }, { path: { exact: /api/x } }]\n\
         - match: [{ path: { prefix: /api }, headers: [{ name: X-Env, exact: beta }, { name: authorization, present: false }] }]\n\
         - match: [{ path: { prefix: /api }, query: [{ name: v, exact: '2' }] }]\n\
         - match: [{ path: { prefix: /api } }]\n\
         - match: [{ path: { prefix: /api/ } }]\n\
         - {}\n",
    );
    let asked = Asked::new(
        "GET /api/7x?v=3",
        &[("x-env", "prod"), ("authorization", "Basic eA==")],
    );
    let explanation = table.explain(&asked.view());
    assert_eq!(
        told(&explanation),
        [
            "1.1 path /api/x: the path is /api/7x",
            "1.0 path ~ /api/[0-9]+: the path is /api/7x",
            "0.0 path /api/…, PUT|POST: the method is GET",
            "2.0 path /api/…, header x-env = `beta`, header authorization absent: \
             the header x-env is `prod`; the header authorization is `(not shown)`",
            "3.0 path /api/…, query v = `2`: the query parameter v is `3`",
            "4.0 path /api/…: first",
            "5.0 path /api/…: after 4: it stands earlier in the document",
            "6.0 any path: after 4: its prefix is longer",
        ]
    );
    let Verdict::Taken(found) = explanation.verdict else {
        panic!("{:?}", explanation.verdict);
    };
    assert_eq!(
        (found.route, found.alternative, found.path_bytes),
        (4, 0, 4)
    );
}

#[test]
fn calls_are_told_by_their_path_and_content_type() {
    let table = table(
        "- match: [{ grpc: {} }]\n\
         - match: [{ grpc: { service: shop.Orders } }]\n\
         - match: [{ grpc: { service: shop.Orders, method: List } }]\n\
         - match: [{ grpc: { regex: 'shop\\.[^/]+/Delete' } }]\n\
         - match: [{ path: { exact: /shop.Orders/List }, methods: [POST] }]\n",
    );
    let check = |line: &str, kind: Option<&str>, expected: &[&str]| {
        let fields: Vec<_> = kind
            .map(|kind| ("content-type", kind))
            .into_iter()
            .collect();
        let told = told(&table.explain(&Asked::new(line, &fields).view()));
        assert_eq!(told, expected, "{line} {kind:?}");
    };
    check(
        "POST /shop.Orders/List",
        Some("application/grpc"),
        &[
            "2.0 path /shop.Orders/List, a call of gRPC: first",
            "4.0 path /shop.Orders/List, POST: after 2: it asks for a call of gRPC",
            "3.0 path ~ /(?:shop\\.[^/]+/Delete), a call of gRPC: the path is /shop.Orders/List",
            "1.0 path /shop.Orders/…, a call of gRPC: after 2: its path is more particular",
            "0.0 any path, a call of gRPC: after 2: its path is more particular",
        ],
    );
    check(
        "POST /shop.Orders/List",
        Some("application/json"),
        &[
            "2.0 path /shop.Orders/List, a call of gRPC: the header content-type is `application/json`",
            "4.0 path /shop.Orders/List, POST: first",
            "3.0 path ~ /(?:shop\\.[^/]+/Delete), a call of gRPC: the path is /shop.Orders/List; \
             the header content-type is `application/json`",
            "1.0 path /shop.Orders/…, a call of gRPC: the header content-type is `application/json`",
            "0.0 any path, a call of gRPC: the header content-type is `application/json`",
        ],
    );
}

#[test]
fn calls_go_by_service_and_method() {
    let table = table(
        "- match: [{ grpc: { service: shop.Orders } }]\n\
         - match: [{ grpc: { service: shop.Orders, method: List } }]\n\
         - match: [{ grpc: { regex: '[^/]+/Delete|shop' } }]\n\
         - match: [{ grpc: {} }]\n\
         - {}\n",
    );
    let check = |line: &str, fields: &[(&str, &str)], expected: usize| {
        let found = table.find(&Asked::new(line, fields).view());
        assert_eq!(
            found.map(|found| found.route),
            Ok(expected),
            "{line} {fields:?}"
        );
    };
    let call = [("content-type", "application/grpc+proto")];
    check("POST /shop.Orders/List", &call, 1);
    check("POST /shop.Orders/list", &call, 0);
    check("POST /shop.Orders/Delete", &call, 2);
    check("POST /shop.Order/List", &call, 3);
    check("POST /shop.OrdersX/List", &call, 3);
    check(
        "POST /shop.Orders/List",
        &[("content-type", "application/grpc-web-text")],
        1,
    );
    check(
        "POST /shop.Orders/List",
        &[("content-type", "text/plain")],
        4,
    );
    check("POST /shop.Orders/List", &[], 4);
    let asks = |method| [("access-control-request-method", method)];
    check("OPTIONS /shop.Orders/List", &asks("POST"), 1);
    check("OPTIONS /shop.Orders/List", &asks("GET"), 4);
    check("GET /shop.Orders/List", &asks("POST"), 4);
}

#[test]
fn what_outranks_is_named() {
    let table = table(
        "- match: [{ path: { prefix: /a } }]\n\
         - match: [{ path: { prefix: /a }, query: [{ name: q, present: true }] }]\n\
         - match: [{ path: { prefix: /a }, headers: [{ name: h, present: true }] }]\n\
         - match: [{ path: { prefix: /a }, methods: [GET] }]\n\
         - match: [{ path: { regex: '/a' } }]\n\
         - match: [{ path: { regex: '/b' } }]\n",
    );
    let check = |line: &str, headers: &[(&str, &str)], expected: &[&str]| {
        let found = table.explain(&Asked::new(line, headers).view());
        let found: Vec<String> = found
            .candidates
            .iter()
            .filter_map(|it| match &it.outcome {
                Outcome::Outranked { by, advantage } => {
                    Some(format!("{}<{by} {advantage}", it.route))
                }
                _ => None,
            })
            .collect();
        assert_eq!(found, expected, "{line}");
    };
    let h = [("h", "1")];
    check(
        "PUT /a/x?q",
        &[],
        &["0<1 it asks for more query parameters"],
    );
    check(
        "PUT /a/x?q",
        &h,
        &[
            "1<2 it asks for more header fields",
            "0<2 it asks for more header fields",
        ],
    );
    check(
        "GET /a/x",
        &h,
        &["2<3 it asks for a method", "0<3 it asks for a method"],
    );
    check("PUT /a", &[], &["0<4 its path is more particular"]);
    check("PUT /c", &[], &[]);
}

#[test]
fn an_ambiguous_path_says_how_it_was_read() {
    let table = table("- match: [{ path: { prefix: /admin } }]\n- {}\n");
    let explanation = table.explain(&Asked::new("GET /admin;x/y", &[]).view());
    let Verdict::Ambiguous { found, conflict } = explanation.verdict else {
        panic!("{:?}", explanation.verdict);
    };
    assert_eq!(found.route, 1);
    assert_eq!(conflict.reading.as_deref(), Some(b"/admin/y".as_slice()));
    assert_eq!(conflict.route, Some(0));
    assert_eq!(
        table.explain(&Asked::new("GET /b;x", &[]).view()).verdict,
        {
            let plain = table.explain(&Asked::new("GET /b", &[]).view()).verdict;
            assert!(matches!(plain, Verdict::Taken(_)));
            plain
        }
    );
}

#[test]
fn bytes_of_a_request_cannot_write_to_a_terminal() {
    let table = table("- match: [{ headers: [{ name: h, exact: x }] }]\n");
    let explanation = table.explain(&Asked::new("GET /", &[("h", "\x1b[2J")]).view());
    assert_eq!(
        told(&explanation),
        ["0.0 any path, header h = `x`: the header h is `\\x1b[2J`"]
    );
    assert_eq!(explanation.verdict, Verdict::Unmatched);
}

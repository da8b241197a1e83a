//! Routing: from a host to a domain among ten thousand, from a path to a route.

use std::fmt::Write;
use std::hint::black_box;

use cardea_config::model::HostPattern;
use cardea_gateway::traffic::headers::{HeaderName, Headers};
use cardea_gateway::traffic::route::{HostTable, PathRules, RequestView, RouteTable, normalise};

use super::config::{LISTENERS, loaded};
use super::{Case, Work};

pub(super) const CASES: [Case; 6] = [
    Case {
        name: "route_host_exact",
        prepare: || host(|number| format!("host-{number}.example.com")),
    },
    Case {
        name: "route_host_wildcard",
        prepare: || host(|number| format!("a.b.tenant-{number}.example.net")),
    },
    Case {
        name: "route_path_exact",
        prepare: || route(routes(50, exact), b"/exact/17", 17),
    },
    Case {
        name: "route_path_prefix",
        prepare: || route(routes(50, prefix), b"/prefix-12/orders/4711/items", 25),
    },
    Case {
        name: "route_path_regex",
        prepare: || route(routes(10, regex), b"/regex-7/4711", 7),
    },
    Case {
        name: "route_normalise_path",
        prepare: path,
    },
];

const HOSTS: u32 = 10_000;

/// Hosts looked up in turn: the table is seeded anew in every process, and where a single name lies
/// in it is chance.
const LOOKUPS: u32 = 250;

fn host(name: fn(u32) -> String) -> Work {
    let patterns = |target| {
        [
            format!("host-{target}.example.com"),
            format!("*.tenant-{target}.example.net"),
        ]
        .map(|text| (text.parse::<HostPattern>().expect("a host"), target))
    };
    let claims: Vec<_> = (0..HOSTS).flat_map(patterns).collect();
    let claims = claims.iter().map(|(pattern, target)| (pattern, *target));
    let table = HostTable::compile(claims, None);
    let names: Vec<String> = (0..LOOKUPS)
        .map(|number| name(number * (HOSTS / LOOKUPS)))
        .collect();
    Box::new(move || {
        for name in &names {
            assert!(black_box(&table).find(black_box(name.as_bytes())).is_some());
        }
    })
}

/// A domain with `count` routes, each with the condition that `condition` writes for its place.
fn routes(count: usize, condition: fn(usize) -> String) -> RouteTable {
    let mut text = LISTENERS.to_owned() + "domains:\n  - hosts: [example.com]\n    routes:\n";
    for index in 0..count {
        let _ = writeln!(
            text,
            "      - {{ match: [{{ {} }}], to: origin }}",
            condition(index)
        );
    }
    text.push_str("upstreams:\n  origin: { endpoints: [\"127.0.0.1:3000\"] }\n");
    let document = loaded(&text);
    let domain = document.domains.first().expect("a domain");
    RouteTable::compile(&domain.routes).expect("valid routes")
}

fn exact(index: usize) -> String {
    format!("path: {{ exact: /exact/{index} }}")
}

/// Pairs of routes for the same prefix, of which the first wants a header as well.
fn prefix(index: usize) -> String {
    let canary = if index.is_multiple_of(2) {
        ", headers: [{ name: x-env, exact: canary }]"
    } else {
        ""
    };
    format!("path: {{ prefix: /prefix-{} }}{canary}", index / 2)
}

fn regex(index: usize) -> String {
    format!("path: {{ regex: \"/regex-{index}/[0-9]+\" }}")
}

fn route(table: RouteTable, path: &'static [u8], expected: usize) -> Work {
    let mut headers = Headers::default();
    for (name, value) in [
        ("host", "example.com"),
        ("accept", "*/*"),
        ("x-env", "production"),
    ] {
        headers.append(&HeaderName::new(name), value.as_bytes());
    }
    Box::new(move || {
        let request = RequestView {
            method: b"GET",
            path: black_box(path),
            query: None,
            client: None,
            headers: &headers,
        };
        let found = black_box(&table).find(&request).expect("a route");
        assert_eq!(found.route, expected);
    })
}

/// A path with something to undo: an encoded letter and a dot segment.
fn path() -> Work {
    let rules = PathRules {
        keep_encoded_slashes: false,
        merge_slashes: true,
    };
    let mut out = Vec::with_capacity(256);
    Box::new(move || {
        let path = black_box(&b"/products/%68inges//brass/../steel/4711"[..]);
        normalise(path, &rules, &mut out).expect("a valid path");
        black_box(&out);
    })
}

//! The document: what a saved file costs before anything is compiled.

use std::fmt::Write;
use std::hint::black_box;

use cardea_config::diff::diff;
use cardea_config::model::Document;

use super::{Case, Work};

pub(super) const CASES: [Case; 2] = [
    Case {
        name: "config_parse_1000_hosts",
        prepare: parse,
    },
    Case {
        name: "config_diff_1000_hosts",
        prepare: compare,
    },
];

const HOSTS: usize = 1000;

/// How a document begins.
pub(super) const LISTENERS: &str = "listeners:\n  - { name: web, bind: [\"127.0.0.1:8080\"] }\n";

/// A document that has to be valid.
pub(super) fn loaded(text: &str) -> Document {
    match cardea_config::parse(text, "bench.yaml") {
        Ok(loaded) => loaded.document,
        Err(refused) => unreachable!("not a valid document:\n{}", refused.render(false)),
    }
}

/// A document with many domains, each with two routes and an upstream of its own.
pub(super) fn document(hosts: usize) -> String {
    let mut text = LISTENERS.to_owned() + "domains:\n";
    for host in 0..hosts {
        let _ = write!(
            text,
            "  - hosts: [\"host-{host}.example.com\"]\n    routes:\n\
             \x20     - match: [{{ path: {{ prefix: /api }}, methods: [GET, POST] }}]\n\
             \x20       policies: {{ timeouts: {{ request: 5s }} }}\n\
             \x20       to: upstream-{host}\n\
             \x20     - to: upstream-{host}\n"
        );
    }
    text.push_str("upstreams:\n");
    for host in 0..hosts {
        let _ = writeln!(
            text,
            "  upstream-{host}: {{ endpoints: [\"127.0.0.1:3000\"] }}"
        );
    }
    text
}

fn parse() -> Work {
    let text = document(HOSTS);
    Box::new(move || {
        let loaded = cardea_config::parse(black_box(&text), "bench.yaml");
        assert!(black_box(loaded).is_ok());
    })
}

/// Finds one added domain, as after a save.
fn compare() -> Work {
    let [before, after] = [HOSTS, HOSTS + 1].map(|hosts| loaded(&document(hosts)));
    Box::new(move || {
        let changes = diff(black_box(&before), black_box(&after));
        assert_eq!(changes.len(), 2, "a domain and its upstream");
    })
}

//! Compiling a snapshot: what stands between a parsed document and traffic that follows it.

use std::hint::black_box;
use std::sync::Arc;

use cardea_gateway::control::compile::compile;
use cardea_gateway::telemetry::metrics::Metrics;

use super::config::{document, loaded};
use super::{Case, Work};

pub(super) const CASES: [Case; 2] = [
    Case {
        name: "snapshot_compile_1000_hosts",
        prepare: from_nothing,
    },
    Case {
        name: "snapshot_add_host_to_1000",
        prepare: beside_another,
    },
];

const HOSTS: usize = 1000;

/// As at the start.
fn from_nothing() -> Work {
    let document = Arc::new(loaded(&document(HOSTS)));
    let metrics = Metrics::new(1);
    Box::new(move || {
        let compiled = compile(Arc::clone(black_box(&document)), 1, None, &metrics);
        assert!(black_box(compiled).is_ok());
    })
}

/// As after a save that added a host: all but one domain is shared with the snapshot in force.
fn beside_another() -> Work {
    let [before, after] = [HOSTS, HOSTS + 1].map(|hosts| Arc::new(loaded(&document(hosts))));
    let metrics = Metrics::new(1);
    let previous = compile(before, 1, None, &metrics)
        .expect("a document that compiles")
        .0;
    Box::new(move || {
        let compiled = compile(Arc::clone(black_box(&after)), 2, Some(&previous), &metrics);
        assert!(black_box(compiled).is_ok());
    })
}

//! TLS handshakes and nothing else: what a connection costs a proxy before it carries anything.
//!
//! Each connection completes its handshake, says `close_notify` and ends; there is no request, so
//! that neither routing nor the origin counts. The client's only key share is X25519: the rivals
//! of Debian know no X25519MLKEM768, which Cardea would choose otherwise.

use std::sync::Arc;

use super::{Bench, Spent};
use crate::certificate::{Certificate, Key};
use crate::client::Plan;
use crate::report::{Bar, Report, Row, Sample};
use crate::running::{Running, Setting};

/// Handshakes under way at once, as connections in the rows that open one for each request.
const AT_ONCE: usize = 32;

/// A row of handshakes of one kind.
struct Handshake {
    row: Row,
    key: Key,
}

const HANDSHAKES: [Handshake; 2] = [
    Handshake {
        row: row("handshake-ecdsa", "handshake: TLS 1.3, X25519, P-256"),
        key: Key::Ecdsa,
    },
    Handshake {
        row: row("handshake-rsa", "handshake: TLS 1.3, X25519, RSA-2048"),
        key: Key::Rsa,
    },
];

const fn row(id: &'static str, title: &'static str) -> Row {
    Row {
        id,
        title,
        unit: "µs CPU",
        bar: Bar::OfBestRival(1.0),
    }
}

/// The rows, in table order.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    HANDSHAKES.iter().map(|handshake| &handshake.row)
}

/// Measures the rows, key by key: everything is started once with its certificate.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    for (key, certificate) in [(Key::Ecdsa, &bench.certificate), (Key::Rsa, &bench.rsa)] {
        let wanted = HANDSHAKES
            .iter()
            .filter(|handshake| handshake.key == key && bench.wants(&handshake.row))
            .collect::<Vec<_>>();
        let Some(first) = wanted.first() else {
            continue;
        };
        let mut started = Vec::new();
        for proxy in &bench.proxies {
            match bench.start_with(proxy, Setting::ONE, certificate) {
                Ok(running) => started.push(running),
                Err(error) => report.failed(&first.row, &proxy.name, &error),
            }
        }
        for handshake in wanted {
            turns(bench, handshake, (certificate, &started), report);
        }
    }
}

fn turns(
    bench: &Bench,
    handshake: &Handshake,
    (certificate, started): (&Certificate, &[Running<'_>]),
    report: &mut Report,
) {
    let (row, rounds) = (&handshake.row, bench.effort.rounds);
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", row.id, round + 1);
        for running in started {
            let plan = plan(bench, running, certificate);
            match bench.spend(running, plan, report) {
                Ok(spent) => report.add(row, running.name(), sample(&spent)),
                Err(error) => report.failed(row, running.name(), &error),
            }
        }
    }
}

fn plan(bench: &Bench, running: &Running<'_>, certificate: &Certificate) -> Plan {
    Plan {
        target: running.https,
        tls: Some(Arc::clone(&certificate.client)),
        keepalive: 0,
        handshakes: AT_ONCE,
        ..bench.plan(running, &Setting::ONE.host_names())
    }
}

fn sample(spent: &Spent) -> Sample {
    let value = spent.per_completed_us();
    let mut notes = spent.notes();
    notes.push(("per_cpu_s", 1e6 / value));
    Sample { value, notes }
}

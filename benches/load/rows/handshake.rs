//! TLS handshakes and nothing else: what a connection costs a proxy before it carries anything.
//!
//! Each connection completes its handshake, says `close_notify` and ends; there is no request, so
//! that neither routing nor the origin counts. The client's only key share is X25519: the rivals
//! of Debian know no X25519MLKEM768, which Cardea would choose otherwise.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rustls::SupportedProtocolVersion;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};

use super::{Bench, Spent};
use crate::certificate::{Certificate, Key};
use crate::client::Plan;
use crate::client::sessions::Sessions;
use crate::report::{Bar, Report, Row, Sample};
use crate::running::{Running, Setting};

/// Handshakes under way at once, as connections in the rows that open one for each request.
const AT_ONCE: usize = 32;
/// A row of resumed handshakes with fewer of them would be about something else.
const RESUMED_MIN: f64 = 0.99;

/// A row of handshakes of one kind.
struct Handshake {
    row: Row,
    key: Key,
    version: &'static SupportedProtocolVersion,
    resumed: bool,
}

const HANDSHAKES: [Handshake; 6] = [
    Handshake {
        row: row("handshake-ecdsa", "handshake: TLS 1.3, X25519, P-256"),
        key: Key::Ecdsa,
        version: &TLS13,
        resumed: false,
    },
    Handshake {
        row: row(
            "handshake-ecdsa-resumed",
            "handshake: TLS 1.3, X25519, P-256, resumed",
        ),
        key: Key::Ecdsa,
        version: &TLS13,
        resumed: true,
    },
    Handshake {
        row: row("handshake-ecdsa-tls12", "handshake: TLS 1.2, X25519, P-256"),
        key: Key::Ecdsa,
        version: &TLS12,
        resumed: false,
    },
    Handshake {
        row: row(
            "handshake-ecdsa-tls12-resumed",
            "handshake: TLS 1.2, P-256, resumed",
        ),
        key: Key::Ecdsa,
        version: &TLS12,
        resumed: true,
    },
    Handshake {
        row: row("handshake-rsa", "handshake: TLS 1.3, X25519, RSA-2048"),
        key: Key::Rsa,
        version: &TLS13,
        resumed: false,
    },
    Handshake {
        row: row(
            "handshake-rsa-resumed",
            "handshake: TLS 1.3, X25519, RSA-2048, resumed",
        ),
        key: Key::Rsa,
        version: &TLS13,
        resumed: true,
    },
];

const fn row(id: &'static str, title: &'static str) -> Row {
    Row {
        id,
        title,
        unit: "µs CPU",
        bar: Bar::OfBestRival(0.85),
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
        let started = bench.start_all(Setting::ONE, certificate, &[&first.row], report);
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
            let measured = plan(bench, handshake, running, certificate)
                .and_then(|plan| bench.spend(running, plan, report))
                .and_then(|spent| sample(handshake, &spent));
            match measured {
                Ok(sample) => report.add(row, running.name(), sample),
                Err(error) => report.failed(row, running.name(), &error),
            }
        }
    }
}

/// A client without sessions: a row that resumes gets its first ones while the proxy warms up.
fn plan(
    bench: &Bench,
    handshake: &Handshake,
    running: &Running<'_>,
    certificate: &Certificate,
) -> Result<Plan> {
    let resumption = if handshake.resumed {
        Resumption::store(Arc::new(Sessions::default()))
    } else {
        Resumption::disabled()
    };
    Ok(Plan {
        target: running.https,
        tls: Some(certificate.client_of(handshake.version, resumption)?),
        keepalive: 0,
        handshakes: AT_ONCE,
        ..bench.plan(running, &Setting::ONE.host_names())
    })
}

fn sample(handshake: &Handshake, spent: &Spent) -> Result<Sample> {
    let resumed = spent.tally.resumed as f64 / spent.tally.completed as f64;
    ensure!(
        !handshake.resumed || resumed >= RESUMED_MIN,
        "only {:.1} % of {} handshakes were resumed",
        resumed * 100.0,
        spent.tally.completed
    );
    let value = spent.per_completed_us();
    let mut notes = spent.notes();
    notes.push(("per_cpu_s", 1e6 / value));
    notes.push(("resumed_percent", resumed * 100.0));
    Ok(Sample { value, notes })
}

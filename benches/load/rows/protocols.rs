//! What is not HTTP between browsers and servers: calls of gRPC, messages of WebSockets, and bytes
//! that are passed on as they are. CPU time for each of them.
//!
//! Each protocol has a configuration of its own, so that no row pays for another's. What is sent
//! as bytes is the requests and replies of the HTTP rows: they are checked as there, and no proxy
//! looks at them.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::{Bench, row};
use crate::client::Plan;
use crate::origin::{LARGE_PATH, SMALL_PATH};
use crate::peer::{self, Callers, Talk, grpc, websocket};
use crate::report::{Bar, Report, Row, Sample};
use crate::running::{Beside, Running, Setting};

/// Connections of gRPC clients and calls under way on each, as in the row of HTTP/2.
const GRPC_CONNECTIONS: usize = 16;
const GRPC_CALLS: usize = 32;
/// Connections as in the rows of HTTP: many that are small, few that are large.
const SMALL_CONNECTIONS: usize = 64;
const LARGE_CONNECTIONS: usize = 16;

/// A kind of load.
struct Load {
    row: Row,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grpc,
    WebSocket,
    Stream,
    StreamLarge,
}

const LOADS: [Load; 4] = [
    Load {
        row: row("grpc", "gRPC over TLS, unary call, 32 streams", 0.8),
        kind: Kind::Grpc,
    },
    Load {
        row: row("websocket", "WebSocket, echo of 128 bytes", 0.9),
        kind: Kind::WebSocket,
    },
    Load {
        row: Row {
            bar: Bar::None,
            ..row("tcp", "TCP stream, small request and reply", 1.0)
        },
        kind: Kind::Stream,
    },
    Load {
        row: row("tcp-1m", "TCP stream, 1 MiB", 1.0),
        kind: Kind::StreamLarge,
    },
];

/// The rows.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    LOADS.iter().map(|load| &load.row)
}

/// Measures them, protocol by protocol.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    for kinds in [
        &[Kind::Grpc][..],
        &[Kind::WebSocket],
        &[Kind::Stream, Kind::StreamLarge],
    ] {
        let is_wanted = |load: &&Load| kinds.contains(&load.kind) && bench.wants(&load.row);
        let loads = LOADS.iter().filter(is_wanted).collect::<Vec<_>>();
        let Some(first) = loads.first() else {
            continue;
        };
        match setting(first.kind) {
            Ok(setting) => turns(bench, setting, &loads, report),
            Err(error) => report.failed(&first.row, "origin", &error),
        }
    }
}

/// The configuration under which a kind is measured; its origin is started, if it has its own.
fn setting(kind: Kind) -> Result<Setting> {
    let beside = match kind {
        Kind::Grpc => Beside::Grpc(peer::serve("grpc", grpc::Answerer::default)?.port()),
        Kind::WebSocket => {
            Beside::WebSocket(peer::serve("websocket", websocket::Answerer::default)?.port())
        }
        Kind::Stream | Kind::StreamLarge => Beside::Stream,
    };
    Ok(Setting {
        beside: Some(beside),
        ..Setting::ONE
    })
}

/// Everything is started once and takes turns.
fn turns(bench: &Bench, setting: Setting, loads: &[&Load], report: &mut Report) {
    let rows: Vec<_> = loads.iter().map(|load| &load.row).collect();
    let started = bench.start_all(setting, &bench.certificate, &rows, report);
    for Load { row, kind } in loads {
        for round in 0..bench.effort.rounds {
            eprintln!("{}: round {} of {}", row.id, round + 1, bench.effort.rounds);
            for running in &started {
                match turn(bench, running, *kind, report) {
                    Ok(sample) => report.add(row, running.name(), sample),
                    Err(error) => report.failed(row, running.name(), &error),
                }
            }
        }
    }
}

fn turn(bench: &Bench, running: &Running<'_>, kind: Kind, report: &mut Report) -> Result<Sample> {
    let bodies = &bench.origin.bodies;
    let (keepalive, path, body) = match kind {
        Kind::Grpc => {
            let tls = bench.certificate.client_of_http2();
            let talk = || grpc::Caller::new(GRPC_CALLS);
            let callers = Callers::start((running.https, Some(tls)), GRPC_CONNECTIONS, talk)?;
            return exchanges(bench, running, callers);
        }
        Kind::WebSocket => {
            let to = (running.http, None);
            let callers = Callers::start(to, SMALL_CONNECTIONS, websocket::Caller::default)?;
            return exchanges(bench, running, callers);
        }
        Kind::Stream => (SMALL_CONNECTIONS, SMALL_PATH, &bodies.small),
        Kind::StreamLarge => (LARGE_CONNECTIONS, LARGE_PATH, &bodies.large),
    };
    let plan = Plan {
        target: running.stream,
        keepalive,
        path,
        body: Arc::clone(body),
        ..bench.plan(running, &Setting::ONE.host_names())
    };
    bench.cpu(running, plan, report)
}

/// CPU microseconds per exchange, all of which have to succeed.
fn exchanges<T: Talk>(
    bench: &Bench,
    running: &Running<'_>,
    mut callers: Callers<T>,
) -> Result<Sample> {
    callers.run(bench.effort.warm_up)?;
    let before = running.process.cpu()?;
    let count = callers.run(bench.effort.window)?;
    let cpu = running.process.cpu()?.since(before);
    callers.finish()?;
    ensure!(count.completed > 0, "nothing was answered");
    let each = cpu.total.as_secs_f64() * 1e6 / count.completed as f64;
    let elapsed = count.elapsed.as_secs_f64();
    Ok(Sample {
        value: each,
        notes: vec![
            ("user_us", each * cpu.user_share()),
            ("exchanges_per_s", count.completed as f64 / elapsed),
            ("connections_reopened", count.reopened as f64),
            ("busy_percent", cpu.total.as_secs_f64() / elapsed * 100.0),
        ],
    })
}

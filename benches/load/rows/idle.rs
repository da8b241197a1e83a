//! Memory per idle TLS connection: how much a proxy grows when clients connect, ask once, and
//! stay.
//!
//! The slope between two numbers of connections, so that what the first connections make a proxy
//! set up does not count. Every connection is used again at the end, to prove that it was kept.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::Bench;
use crate::certificate::DOMAIN;
use crate::client::frames::{self, Method};
use crate::client::response::{Response, Verdict};
use crate::origin::SMALL_PATH;
use crate::process::Process;
use crate::report::{Bar, Report, Row, Sample};
use crate::running::{Running, Setting};

/// The row.
pub(crate) const ROW: Row = Row {
    id: "idle-tls",
    title: "memory per idle TLS connection",
    unit: "KiB",
    bar: Bar::OfBestRival(1.0),
};

/// The same for connections of HTTP/2.
pub(crate) const ROW_HTTP2: Row = Row {
    id: "idle-http2",
    title: "memory per idle HTTP/2 connection",
    ..ROW
};

/// The two numbers of connections that the slope is taken between.
const BASE: usize = 500;
const FULL: usize = 2500;
/// A proxy that answers slower than this is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory is read when it has stopped changing, or after this long.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
const SETTLE_INTERVAL: Duration = Duration::from_millis(200);

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Measures the rows; a fresh process per proxy and round, so that no freed memory is reused.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    for (row, protocol) in [(&ROW, Protocol::Http1), (&ROW_HTTP2, Protocol::Http2)] {
        if bench.wants(row) {
            measure(bench, report, row, protocol);
        }
    }
}

fn measure(bench: &Bench, report: &mut Report, row: &Row, protocol: Protocol) {
    for round in 0..bench.effort.rounds.min(3) {
        eprintln!("{}: round {}", row.id, round + 1);
        for proxy in &bench.proxies {
            let measured = bench
                .start(proxy, Setting::ONE)
                .and_then(|running| kib_per_connection(bench, &running, protocol));
            match measured {
                Ok(value) => report.add(
                    row,
                    &proxy.name,
                    Sample {
                        value,
                        notes: Vec::new(),
                    },
                ),
                Err(error) => report.failed(row, &proxy.name, &error),
            }
        }
    }
}

/// What the connections speak.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// A client's connection.
struct Client {
    stream: Stream,
    protocol: Protocol,
    asked: u32,
}

impl Client {
    fn ask(&mut self, body: &[u8]) -> Result<()> {
        self.asked += 1;
        match self.protocol {
            Protocol::Http1 => ask(&mut self.stream, body),
            Protocol::Http2 => ask_http2(&mut self.stream, self.asked),
        }
    }
}

fn kib_per_connection(bench: &Bench, running: &Running<'_>, protocol: Protocol) -> Result<f64> {
    let mut streams = Vec::with_capacity(FULL);
    let mut resident = [0; 2];
    for (count, bytes) in [BASE, FULL].into_iter().zip(&mut resident) {
        while streams.len() < count {
            let mut client = Client {
                stream: connect(bench, running, protocol)?,
                protocol,
                asked: 0,
            };
            client.ask(&bench.origin.bodies.small)?;
            streams.push(client);
        }
        *bytes = settled(&running.process)?;
    }
    for client in &mut streams {
        let asked = client.ask(&bench.origin.bodies.small);
        asked.context("a connection was not kept")?;
    }
    Ok((resident[1] as f64 - resident[0] as f64) / (FULL - BASE) as f64 / 1024.0)
}

fn connect(bench: &Bench, running: &Running<'_>, protocol: Protocol) -> Result<Stream> {
    let socket = TcpStream::connect(running.https).context("connect")?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let config = match protocol {
        Protocol::Http1 => Arc::clone(&bench.certificate.client),
        Protocol::Http2 => bench.certificate.client_of_http2(),
    };
    let tls = ClientConnection::new(config, ServerName::try_from(DOMAIN)?)?;
    Ok(StreamOwned::new(tls, socket))
}

fn ask(stream: &mut Stream, body: &[u8]) -> Result<()> {
    write!(
        stream,
        "GET {SMALL_PATH} HTTP/1.1\r\nHost: {DOMAIN}\r\nAccept: */*\r\n\r\n"
    )?;
    let mut response = Response::default();
    let mut input = [0; 4096];
    loop {
        let count = stream.read(&mut input)?;
        match response.feed(&input[..count], body) {
            Verdict::Complete { close: false } => return Ok(()),
            Verdict::Pending if count > 0 => {}
            verdict => bail!("{verdict:?} after {count} bytes"),
        }
    }
}

/// Resident bytes once two readings agree to a percent.
pub(crate) fn settled(process: &Process) -> Result<u64> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut last = process.resident_bytes()?;
    loop {
        thread::sleep(SETTLE_INTERVAL);
        let now = process.resident_bytes()?;
        if now.abs_diff(last) < last / 1000 || Instant::now() > deadline {
            return Ok(now);
        }
        last = now;
    }
}

/// Asks over HTTP/2, frame by frame, and waits for the end of the stream.
fn ask_http2(stream: &mut Stream, number: u32) -> Result<()> {
    let mut out = Vec::new();
    if number == 1 {
        frames::greet(&mut out);
    }
    let id = 2 * number - 1;
    frames::request(&mut out, Method::Get, SMALL_PATH, id);
    stream.write_all(&out)?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload)?;
        let of = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        match header[3] {
            frames::RST_STREAM | frames::GOAWAY => bail!("refused: {header:?} {payload:?}"),
            frames::DATA | frames::HEADERS if of == id && header[4] & frames::END_STREAM != 0 => {
                return Ok(());
            }
            _ => {}
        }
    }
}

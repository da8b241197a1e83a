//! An attacker on HTTP/2 beside honest clients: what ten seconds of frames that ask for nothing cost
//! a proxy, and whether anybody else notices.
//!
//! One connection at a time sends 10,000 frames a second, reads what comes back, and is opened anew as
//! soon as the proxy has closed it. The honest clients are those of the other rows, 200 requests a
//! second of them, so that every answer is checked.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::Bench;
use super::background::Background;
use crate::affinity::{self, Core};
use crate::certificate::DOMAIN;
use crate::client::Plan;
use crate::client::frames::{self, Method, frame};
use crate::client::tally::Tally;
use crate::origin::SMALL_PATH;
use crate::report::{Bar, Report, Row, Sample};
use crate::running::{Running, Setting};

/// Frames that the attacker sends, a second, and the fewest in one write.
const FRAMES_PER_S: f64 = 10_000.0;
const BATCH: u64 = 10;
/// What could not be sent in time, while a connection was opened or the proxy did not read, is caught
/// up with as far as this.
const BEHIND_MAX: u64 = 1000;
/// How long the attacker listens between two writes.
const LISTEN: Duration = Duration::from_millis(1);
/// A proxy that reads nothing for so long holds up the attacker, not the end of the turn.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);
/// A proxy that does not answer a handshake by then is tried again.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a refused connection: a dead proxy must not be spun on.
const RETRY_DELAY: Duration = Duration::from_millis(5);
/// Honest clients, and their requests a second.
const HONEST: usize = 8;
const HONEST_PER_S: f64 = 200.0;
/// A turn is long; more of them would tell nothing new.
const ROUNDS_MAX: usize = 3;

/// What the attacker sends.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Requests, each reset at once.
    Reset,
    /// Requests, each followed by an update of its window by nothing, for which the proxy has to
    /// reset it.
    Window,
    /// Pings, each of which is to be answered.
    Ping,
    /// Settings, each of which is to be acknowledged.
    Settings,
    /// Empty pieces of the body of one request, which never ends.
    Data,
}

/// A row.
struct Attack {
    row: Row,
    kind: Kind,
}

const ATTACKS: [Attack; 5] = [
    attack("attack-reset", "attack: requests and resets", Kind::Reset),
    attack(
        "attack-window",
        "attack: requests and window errors",
        Kind::Window,
    ),
    attack("attack-ping", "attack: PING", Kind::Ping),
    attack("attack-settings", "attack: SETTINGS", Kind::Settings),
    attack("attack-data", "attack: empty DATA", Kind::Data),
];

const fn attack(id: &'static str, title: &'static str, kind: Kind) -> Attack {
    let row = Row {
        id,
        title,
        unit: "CPU s in ten",
        bar: Bar::Absolute(1.0),
    };
    Attack { row, kind }
}

/// The rows.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    ATTACKS.iter().map(|attack| &attack.row)
}

/// Measures them: everything is started once and takes turns.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    let wanted = || ATTACKS.iter().filter(|attack| bench.wants(&attack.row));
    let Some(first) = wanted().next() else {
        return;
    };
    let started = bench.start_all(Setting::ONE, &bench.certificate, &[&first.row], report);
    let rounds = bench.effort.rounds.min(ROUNDS_MAX);
    for Attack { row, kind } in wanted() {
        for round in 0..rounds {
            eprintln!("{}: round {} of {rounds}", row.id, round + 1);
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
    const BEFORE: usize = 1;
    const DURING: usize = 2;
    let honest = Background::start(
        Plan {
            target: running.https,
            tls: Some(Arc::clone(&bench.certificate.client)),
            keepalive: HONEST,
            rate: Some(HONEST_PER_S),
            ..bench.plan(running, &Setting::ONE.host_names())
        },
        3,
    )?;
    thread::sleep(bench.effort.warm_up);
    honest.enter(BEFORE);
    thread::sleep(bench.effort.window);
    honest.enter(DURING);
    let (cpu, begin) = (running.process.cpu()?, Instant::now());
    let attacker = Attacker::start(kind, running.https, bench.certificate.client_of_http2())?;
    thread::sleep(bench.effort.attack);
    let attack = attacker.finish()?;
    let cpu = running.process.cpu()?.since(cpu);
    let elapsed = begin.elapsed().as_secs_f64();
    let honest = honest.finish()?;
    let (before, during) = (&honest[BEFORE], &honest[DURING]);
    if during.failed() > 0 {
        let name = running.name();
        report.remark(format!("{name} failed under {kind:?}: {during}"));
    }
    ensure!(attack.frames > 0, "the attacker could not send anything");
    ensure!(during.completed > 0, "no honest request was answered");
    let asked = during.completed + during.failed();
    let failed = honest.iter().map(Tally::failed).sum::<u64>();
    Ok(Sample {
        value: cpu.total.as_secs_f64() / elapsed * 10.0,
        notes: vec![
            (
                "honest_percent",
                during.completed as f64 / asked as f64 * 100.0,
            ),
            ("honest_per_s", during.throughput()),
            ("p99_before_ms", before.latency.quantile_ms(0.99)),
            ("p99_during_ms", during.latency.quantile_ms(0.99)),
            ("max_during_ms", during.latency.quantile_ms(1.0)),
            ("closed_in_ten_s", attack.closed as f64 / elapsed * 10.0),
            ("frames_per_s", attack.frames as f64 / elapsed),
            ("failed", failed as f64),
        ],
    })
}

/// A running attacker.
struct Attacker {
    thread: JoinHandle<Result<Sent>>,
    stop: Arc<AtomicBool>,
}

/// What it came to.
#[derive(Default)]
struct Sent {
    frames: u64,
    /// Connections that the proxy closed.
    closed: u64,
}

impl Attacker {
    fn start(kind: Kind, target: SocketAddr, tls: Arc<ClientConfig>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("attacker".into())
            .spawn(move || {
                affinity::pin(Core::Client)?;
                let mut sent = Sent::default();
                let mut pace = Pace::new(Instant::now());
                while !stopped.load(Ordering::Relaxed) {
                    let Ok(stream) = connect(target, &tls) else {
                        thread::sleep(RETRY_DELAY);
                        continue;
                    };
                    attack_over(stream, kind, (&mut pace, &stopped), &mut sent);
                }
                Ok(sent)
            })?;
        Ok(Self { thread, stop })
    }

    fn finish(self) -> Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.join();
        joined.map_err(|_| anyhow!("the attacker panicked"))?
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(target: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Stream> {
    let socket = TcpStream::connect_timeout(&target, HANDSHAKE_TIMEOUT)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    let tls = ClientConnection::new(Arc::clone(tls), ServerName::try_from(DOMAIN)?)?;
    let mut stream = StreamOwned::new(tls, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.sock.set_read_timeout(Some(LISTEN))?;
    stream.sock.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(stream)
}

/// Attacks over one connection until the proxy closes it or the turn is over.
fn attack_over(
    mut stream: Stream,
    kind: Kind,
    (pace, stop): (&mut Pace, &AtomicBool),
    sent: &mut Sent,
) {
    let mut frames = Frames::of(kind);
    let mut out = Vec::new();
    let mut input = [0; 16 * 1024];
    frames.greet(&mut out);
    while !stop.load(Ordering::Relaxed) {
        let due = pace.due(Instant::now());
        let count = if due < BATCH {
            0
        } else {
            frames.write(&mut out, due)
        };
        pace.sent(count);
        let is_over = match say(&mut stream, &mut out) {
            Said::All => {
                sent.frames += count;
                hear(&mut stream, &mut input)
            }
            Said::Nothing => hear(&mut stream, &mut input),
            Said::Closed => true,
        };
        if is_over {
            sent.closed += 1;
            return;
        }
    }
}

/// What became of a batch.
enum Said {
    All,
    /// The proxy does not read. A batch fits into the TLS layer's buffer, so that it is dropped as a
    /// whole.
    Nothing,
    Closed,
}

fn say(stream: &mut Stream, out: &mut Vec<u8>) -> Said {
    let written = stream.write_all(out);
    out.clear();
    match written {
        Ok(()) => Said::All,
        Err(error) if is_waiting(&error) => Said::Nothing,
        Err(_) => Said::Closed,
    }
}

/// Listens for a moment; whether the proxy has closed.
fn hear(stream: &mut Stream, input: &mut [u8]) -> bool {
    match stream.read(input) {
        Ok(count) => count == 0,
        Err(error) => !is_waiting(&error),
    }
}

fn is_waiting(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// How many frames are due.
struct Pace {
    begin: Instant,
    spent: u64,
}

impl Pace {
    fn new(begin: Instant) -> Self {
        Self { begin, spent: 0 }
    }

    fn due(&mut self, now: Instant) -> u64 {
        let all = ((now - self.begin).as_secs_f64() * FRAMES_PER_S) as u64;
        self.spent = self.spent.max(all.saturating_sub(BEHIND_MAX));
        all.saturating_sub(self.spent)
    }

    fn sent(&mut self, frames: u64) {
        self.spent += frames;
    }
}

/// The frames of one connection.
struct Frames {
    kind: Kind,
    /// The stream of the next request.
    stream: u32,
}

impl Frames {
    fn of(kind: Kind) -> Self {
        Self { kind, stream: 1 }
    }

    fn greet(&mut self, out: &mut Vec<u8>) {
        frames::greet(out);
        if matches!(self.kind, Kind::Data) {
            frames::request(out, Method::Post, SMALL_PATH, 1);
        }
    }

    /// Writes about so many frames; how many that were.
    fn write(&mut self, out: &mut Vec<u8>, count: u64) -> u64 {
        let mut written = 0;
        while written < count {
            written += self.write_one(out);
        }
        written
    }

    /// A request and what breaks it are two frames.
    fn write_one(&mut self, out: &mut Vec<u8>) -> u64 {
        const CANCEL: [u8; 4] = [0, 0, 0, 8];
        const INITIAL_WINDOW_SIZE: [u8; 6] = [0, 4, 0, 0, 0xff, 0xff];
        let (kind, payload) = match self.kind {
            Kind::Ping => {
                frame(out, frames::PING, 0, 0, b"hurry up");
                return 1;
            }
            Kind::Settings => {
                frame(out, frames::SETTINGS, 0, 0, &INITIAL_WINDOW_SIZE);
                return 1;
            }
            Kind::Data => {
                frame(out, frames::DATA, 0, 1, &[]);
                return 1;
            }
            Kind::Reset => (frames::RST_STREAM, CANCEL),
            Kind::Window => (frames::WINDOW_UPDATE, [0; 4]),
        };
        frames::request(out, Method::Get, SMALL_PATH, self.stream);
        frame(out, kind, 0, self.stream, &payload);
        self.stream += 2;
        2
    }
}

#[cfg(test)]
mod tests {
    use cardea_http2::{Connection, ErrorCode, Event, Fault, Limits, Role};

    use super::*;

    #[test]
    fn the_pace_is_kept_and_the_past_forgotten() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(pace.due(at(10)), 100);
        pace.sent(100);
        assert_eq!(pace.due(at(10)), 0);
        assert_eq!(pace.due(at(20)), 100);
        assert_eq!(pace.due(at(10_000)), BEHIND_MAX);
    }

    /// A server that was sent ten frames, fewer than any budget, and how many of its events count.
    fn told(kind: Kind, is_counted: impl Fn(&Event<'_>) -> bool) -> (Connection, usize) {
        let mut frames = Frames::of(kind);
        let mut bytes = Vec::new();
        frames.greet(&mut bytes);
        assert_eq!(frames.write(&mut bytes, 10), 10);
        let mut server = Connection::new(Role::Server, Limits::default());
        let (mut at, mut count) = (0, 0);
        loop {
            let (taken, event) = server
                .receive(&bytes[at..], 0, &mut Vec::new())
                .expect("no fault of the connection");
            at += taken;
            let Some(event) = event else { break };
            count += usize::from(is_counted(&event));
        }
        assert_eq!(at, bytes.len());
        (server, count)
    }

    #[test]
    fn a_server_understands_every_kind() {
        let (_, resets) = told(
            Kind::Reset,
            |event| matches!(event, Event::Reset { code, .. } if *code == ErrorCode::CANCEL),
        );
        let (_, broken) = told(
            Kind::Window,
            |event| matches!(event, Event::Broken { fault, .. } if *fault == Fault::WindowIncrement),
        );
        assert_eq!((resets, broken), (5, 5));
        let is_settings = |event: &Event<'_>| matches!(event, Event::Window { stream: 0 });
        // The greeting has settings as well.
        assert_eq!(told(Kind::Settings, is_settings).1, 11);
        let (server, heads) = told(Kind::Data, |event| matches!(event, Event::Head { .. }));
        assert_eq!((server.stream_count(), heads), (1, 1));
        let (server, _) = told(Kind::Ping, |_| false);
        let answers = server.out.windows(8).filter(|eight| eight == b"hurry up");
        assert_eq!(answers.count(), 10);
    }
}

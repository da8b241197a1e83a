//! The load generator: one epoll loop that keeps a set of slots busy with requests and checks
//! every byte of every response.
//!
//! It runs on the client's core, in the thread that calls it, for as long as it is told, and can
//! be told again: connections stay open in between. It must stay much cheaper than the proxies it
//! loads, and it must not forgive: what is not the expected response is counted as a failure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use rustls::ClientConfig;

pub(crate) mod connection;
pub(crate) mod frames;
pub(crate) mod histogram;
pub(crate) mod response;
pub(crate) mod sessions;
pub(crate) mod tally;

use self::connection::{Connection, Ended, Purpose, Step};
use self::tally::{Failure, Tally};

/// A response that takes longer than this has failed.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often overdue responses are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// After a refused connection a slot waits this long: a dead proxy must not be spun on.
const RETRY_DELAY: Duration = Duration::from_millis(5);
const EVENTS_MAX: usize = 256;
/// The key of the pacing timer's events; slots count from zero.
const PACE: u64 = u64::MAX;
/// One read takes what a proxy has sent of a large body so far.
const INPUT_BYTES: usize = 256 * 1024;

/// What to send, where, and over how many connections.
#[derive(Clone)]
pub(crate) struct Plan {
    /// The proxy's listener.
    pub target: SocketAddr,
    /// Present for HTTPS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Slots that send request after request over one connection.
    pub keepalive: usize,
    /// Slots that open a new connection for each request.
    pub fresh: usize,
    /// Slots that open a new TLS connection, complete the handshake and leave without a request.
    pub handshakes: usize,
    /// The hosts that requests are spread over, evenly and in no order.
    pub hosts: Arc<[String]>,
    /// The path of every request.
    pub path: &'static str,
    /// What every response must hold.
    pub body: Arc<[u8]>,
    /// Requests a second over all slots; without it each slot sends as soon as it may.
    pub rate: Option<f64>,
}

/// A running load generator.
pub(crate) struct Client {
    plan: Plan,
    /// One request per host, for keepalive and for fresh slots.
    requests: [Vec<Box<[u8]>>; 2],
    epoll: OwnedFd,
    /// Wakes the loop for each request that the plan's rate makes due: the timeout of `epoll_wait`
    /// counts milliseconds, which would bunch them.
    _pace: Option<OwnedFd>,
    slots: Vec<Slot>,
    /// Keepalive slots that wait for their turn; only a plan with a rate has any.
    waiting: Vec<usize>,
    /// Slots whose last attempt was refused, and when they may try again.
    refused: Vec<(Instant, usize)>,
    next_due: Instant,
    next_sweep: Instant,
    random: u64,
    connections_begun: u64,
    input: Vec<u8>,
    tally: Tally,
}

struct Slot {
    connection: Option<Connection>,
    purpose: Purpose,
    /// When the outstanding request was due; nothing is outstanding without it.
    since: Option<Instant>,
}

impl Client {
    /// Makes the slots and sends their first requests.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        let requests = ["", "Connection: close\r\n"].map(|extra| {
            plan.hosts
                .iter()
                .map(|host| request(host, plan.path, extra))
                .collect::<Vec<_>>()
        });
        let now = Instant::now();
        let slots = [
            (Purpose::Requests, plan.keepalive),
            (Purpose::OneRequest, plan.fresh),
            (Purpose::Handshake, plan.handshakes),
        ];
        let slots = slots
            .into_iter()
            .flat_map(|(purpose, count)| std::iter::repeat_n(purpose, count))
            .map(|purpose| Slot {
                connection: None,
                purpose,
                since: None,
            })
            .collect::<Vec<_>>();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut client = Self {
            requests,
            _pace: plan.rate.map(|rate| pace(&epoll, rate)).transpose()?,
            epoll,
            waiting: Vec::new(),
            refused: Vec::new(),
            next_due: now,
            next_sweep: now + SWEEP_INTERVAL,
            random: 0x9E37_79B9_7F4A_7C15,
            connections_begun: 0,
            input: vec![0; INPUT_BYTES],
            tally: Tally::default(),
            slots,
            plan,
        };
        for index in 0..client.slots.len() {
            client.ready(index, now)?;
        }
        Ok(client)
    }

    /// Loads the proxy for `window`, then returns with requests still in flight.
    pub(crate) fn run(&mut self, window: Duration) -> Result<()> {
        let begin = Instant::now();
        let deadline = begin + window;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = Instant::now();
            if now >= deadline {
                self.tally.elapsed += now - begin;
                return Ok(());
            }
            self.send_due(now)?;
            self.retry_refused(now)?;
            if now >= self.next_sweep {
                self.sweep(now)?;
            }
            let timeout = Timespec::try_from(self.pause(now, deadline)).expect("under a second");
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &events {
                let key = event.data.u64();
                if key != PACE {
                    let index = usize::try_from(key).expect("a slot's index");
                    self.advance(index, event.flags)?;
                }
            }
        }
    }

    /// What was counted since the last call.
    pub(crate) fn take(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn pause(&self, now: Instant, deadline: Instant) -> Duration {
        let mut wake = deadline.min(self.next_sweep);
        if let Some((at, _)) = self.refused.first() {
            wake = wake.min(*at);
        }
        wake.saturating_duration_since(now)
    }

    /// A slot may send: at once, or when the plan's rate lets it.
    fn ready(&mut self, index: usize, now: Instant) -> Result<()> {
        if self.plan.rate.is_some() {
            self.waiting.push(index);
            return Ok(());
        }
        self.send(index, now)
    }

    /// Sends what the rate has made due. Latency counts from the due time, so that a proxy that
    /// stalls pays for the requests it held up as well.
    fn send_due(&mut self, now: Instant) -> Result<()> {
        let Some(rate) = self.plan.rate else {
            return Ok(());
        };
        while self.next_due <= now {
            let Some(index) = self.waiting.pop() else {
                return Ok(());
            };
            let due = self.next_due;
            self.next_due += Duration::from_secs_f64(1.0 / rate);
            self.send(index, due)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, due: Instant) -> Result<()> {
        self.random = self
            .random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let slot = &mut self.slots[index];
        let requests = &self.requests[usize::from(slot.purpose != Purpose::Requests)];
        let host = usize::try_from(self.random >> 33).expect("31 bits") % requests.len();
        slot.since = Some(due);
        if slot.connection.is_none() {
            self.connections_begun += 1;
            let key = (&self.epoll, index);
            let begun = Connection::begin(&self.plan, slot.purpose, key, self.connections_begun);
            slot.connection = Some(begun.context("open a client connection")?);
            self.tally.connections += 1;
        }
        let connection = slot.connection.as_mut().expect("opened above");
        match connection.request(&requests[host]) {
            Ok(()) => Ok(()),
            Err(ended) => self.fail(index, ended.failure()),
        }
    }

    fn advance(&mut self, index: usize, flags: EventFlags) -> Result<()> {
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        let Some(connection) = slot.connection.as_mut() else {
            return Ok(());
        };
        let step = connection.advance(flags, &mut self.input, &self.plan.body);
        let now = Instant::now();
        match step {
            Ok(Step::Pending) => Ok(()),
            Ok(Step::Answered { reusable }) => {
                if let Some(since) = slot.since.take() {
                    self.tally.completed += 1;
                    self.tally
                        .latency
                        .record(now.saturating_duration_since(since));
                }
                if reusable {
                    return self.ready(index, now);
                }
                self.tally.resumed += u64::from(connection.has_resumed());
                slot.connection = None;
                self.ready(index, now)
            }
            // Between requests the proxy may close, but not say anything. The slot already waits
            // for its turn, and will open a new connection then.
            Err(ended) if slot.since.is_none() => {
                slot.connection = None;
                if ended != Ended::Closed {
                    self.tally.fail(ended.failure());
                }
                Ok(())
            }
            Err(ended) => self.fail(index, ended.failure()),
        }
    }

    fn fail(&mut self, index: usize, failure: Failure) -> Result<()> {
        self.tally.fail(failure);
        let slot = &mut self.slots[index];
        slot.connection = None;
        slot.since = None;
        self.refused.push((Instant::now() + RETRY_DELAY, index));
        Ok(())
    }

    fn retry_refused(&mut self, now: Instant) -> Result<()> {
        while let Some((at, index)) = self.refused.first().copied() {
            if at > now {
                break;
            }
            self.refused.remove(0);
            self.ready(index, now)?;
        }
        Ok(())
    }

    fn sweep(&mut self, now: Instant) -> Result<()> {
        self.next_sweep = now + SWEEP_INTERVAL;
        for index in 0..self.slots.len() {
            let late = |since: Instant| now.saturating_duration_since(since) > RESPONSE_TIMEOUT;
            if self.slots[index].since.is_some_and(late) {
                self.fail(index, Failure::Timeout)?;
            }
        }
        Ok(())
    }
}

/// A timer that makes an event for every request at `rate` a second. Edge-triggered, so nobody has
/// to read it.
fn pace(epoll: &OwnedFd, rate: f64) -> Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let interval = Timespec::try_from(Duration::from_secs_f64(1.0 / rate))?;
    let period = Itimerspec {
        it_interval: interval,
        it_value: interval,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &period)?;
    epoll::add(
        epoll,
        &timer,
        EventData::new_u64(PACE),
        EventFlags::IN | EventFlags::ET,
    )?;
    Ok(timer)
}

/// A request with the fields that an ordinary client sends.
fn request(host: &str, path: &str, extra: &str) -> Box<[u8]> {
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: cardea-bench/1\r\n\
         Accept: */*\r\nAccept-Encoding: gzip, br\r\n{extra}\r\n"
    );
    text.into_bytes().into_boxed_slice()
}

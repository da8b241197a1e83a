//! Bytes both ways between two sockets until both sides have ended: the whole life of a stream's
//! connection. The end of one direction is passed on and leaves the other one open; whoever reads
//! slowly is not read for.
//!
//! Small pieces go through a buffer, which a short read shows to have emptied the socket; where
//! more comes than fits, it goes through a pipe (`splice`) if both sides are plain.
//!
//! Must not: hold a buffer or a pipe while nothing moves, or look at what does.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::buffer::{HEAD_BYTES, Inbound};
use super::socket::Socket;
use super::splice::Pipe;
use super::timer::Direction;
use super::worker::Worker;

/// The two sides, and how long nothing may move.
#[derive(Debug)]
pub struct Ends<'e> {
    /// The client's connection.
    pub client: &'e Socket,
    /// The endpoint's connection.
    pub endpoint: &'e Socket,
    /// The longest silence of both; zero is none.
    pub idle: Duration,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides ended their direction.
    Closed,
    /// Neither moved anything for too long.
    Idle,
    /// The client broke off.
    ClientReset,
    /// The endpoint broke off.
    EndpointReset,
}

/// Counts what moved: bytes from the client, and from the endpoint.
pub trait Count {
    /// Adds to both.
    fn add(&self, from_client: u64, from_endpoint: u64);
}

/// Moves bytes until the end.
pub async fn run(worker: &Worker, ends: &Ends<'_>, count: &impl Count) -> End {
    let (mut from_client, mut from_endpoint) = (Inbound::default(), Inbound::default());
    let up = Flow {
        worker,
        ends,
        from: ends.client,
        to: ends.endpoint,
        count: &|bytes| count.add(bytes, 0),
    };
    let down = Flow {
        worker,
        ends,
        from: ends.endpoint,
        to: ends.client,
        count: &|bytes| count.add(0, bytes),
    };
    let broken = {
        let mut up = pin!(up.run(&mut from_client));
        let mut down = pin!(down.run(&mut from_endpoint));
        both(up.as_mut(), down.as_mut()).await
    };
    from_client.discard(&worker.buffers);
    from_endpoint.discard(&worker.buffers);
    match broken {
        Ok(()) => End::Closed,
        Err((_, Broken { is_idle: true, .. })) => End::Idle,
        Err(
            (Way::Up, Broken { at: At::Source, .. }) | (Way::Down, Broken { at: At::Target, .. }),
        ) => End::ClientReset,
        Err(_) => End::EndpointReset,
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// Which side of a direction failed.
#[derive(Debug, Clone, Copy)]
enum At {
    Source,
    Target,
}

/// Why a direction ended before its time.
#[derive(Debug)]
struct Broken {
    at: At,
    is_idle: bool,
}

impl At {
    fn broken(self, error: &io::Error) -> Broken {
        Broken {
            at: self,
            is_idle: error.kind() == ErrorKind::TimedOut,
        }
    }
}

/// Runs both directions until both are done or one is broken.
async fn both(
    mut up: Pin<&mut impl Future<Output = Result<(), Broken>>>,
    mut down: Pin<&mut impl Future<Output = Result<(), Broken>>>,
) -> Result<(), (Way, Broken)> {
    let is_done = [Cell::new(false), Cell::new(false)];
    poll_fn(|cx| {
        let [up_done, down_done] = &is_done;
        if !up_done.get()
            && let Poll::Ready(end) = up.as_mut().poll(cx)
        {
            up_done.set(true);
            if let Err(broken) = end {
                return Poll::Ready(Err((Way::Up, broken)));
            }
        }
        if !down_done.get()
            && let Poll::Ready(end) = down.as_mut().poll(cx)
        {
            down_done.set(true);
            if let Err(broken) = end {
                return Poll::Ready(Err((Way::Down, broken)));
            }
        }
        if up_done.get() && down_done.get() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// One direction.
struct Flow<'f> {
    worker: &'f Worker,
    ends: &'f Ends<'f>,
    from: &'f Socket,
    to: &'f Socket,
    count: &'f dyn Fn(u64),
}

impl Flow<'_> {
    /// Moves bytes until the source ends, and tells the target so.
    async fn run(&self, inbound: &mut Inbound) -> Result<(), Broken> {
        let buffers = &self.worker.buffers;
        self.keep_alive();
        loop {
            let received = inbound.fill(self.from, buffers).await;
            let received = received.map_err(|error| At::Source.broken(&error))?;
            if received == 0 {
                return self.end().await;
            }
            self.pour(inbound).await?;
            if received < HEAD_BYTES || !self.has_more().await {
                inbound.release(buffers);
            } else if let (Some(_), Some(_)) = (self.from.plain(), self.to.plain())
                && let Some(mut pipe) = self.worker.pipes.take()
            {
                inbound.release(buffers);
                let moved = self.splice(&mut pipe).await;
                self.worker.pipes.give(pipe);
                if moved? == Source::Ended {
                    return self.end().await;
                }
            } else {
                inbound.widen(buffers);
            }
        }
    }

    /// Whether the source has more at once.
    async fn has_more(&self) -> bool {
        let mut more = pin!(self.from.readable());
        poll_fn(|cx| Poll::Ready(more.as_mut().poll(cx).is_ready())).await
    }

    /// Sends what was received.
    async fn pour(&self, inbound: &mut Inbound) -> Result<(), Broken> {
        while !inbound.is_empty() {
            let sent = self.to.write(inbound.bytes(), &[]).await;
            let sent = sent.map_err(|error| At::Target.broken(&error))?;
            inbound.consume(sent);
            self.moved(sent);
        }
        let flushed = self.to.flush().await;
        flushed.map_err(|error| At::Target.broken(&error))
    }

    /// Moves bytes through a pipe until the source has none for now.
    async fn splice(&self, pipe: &mut Pipe) -> Result<Source, Broken> {
        let (Some(from), Some(to)) = (self.from.plain(), self.to.plain()) else {
            return Ok(Source::Waiting);
        };
        loop {
            match pipe.take_in(from, u64::MAX) {
                Ok(0) => return Ok(Source::Ended),
                Ok(count) => self.from.count_spliced(count as u64, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Source::Waiting),
                Err(error) => return Err(At::Source.broken(&error)),
            }
            while !pipe.is_empty() {
                let sent = poll_fn(|cx| {
                    self.to
                        .poll_io(Direction::Write, cx, || pipe.let_out(to, false))
                });
                let sent = sent.await.map_err(|error| At::Target.broken(&error))?;
                self.to.count_spliced(0, sent as u64);
                self.moved(sent);
            }
        }
    }

    async fn end(&self) -> Result<(), Broken> {
        self.keep_alive();
        let ended = self.to.close_write().await;
        ended.map_err(|error| At::Target.broken(&error))
    }

    fn moved(&self, bytes: usize) {
        (self.count)(bytes as u64);
        self.keep_alive();
    }

    /// Whatever moves, either way, keeps both ways alive.
    fn keep_alive(&self) {
        for socket in [self.ends.client, self.ends.endpoint] {
            for direction in [Direction::Read, Direction::Write] {
                socket.set_deadline(direction, self.ends.idle);
            }
        }
    }
}

/// What a source has after a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Nothing for now.
    Waiting,
    /// Nothing more.
    Ended,
}

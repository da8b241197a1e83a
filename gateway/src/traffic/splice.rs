//! Moving a large plain body from socket to socket through a pipe, without its bytes passing
//! through our memory. Linux only, as the kernel allows; the copying path stays correct without it.
//!
//! Must not: leave bytes in a pipe that another body will use.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::body::{BodyReader, Pace};
use super::relay::client_fault;
use super::respond::Reason;
use super::socket::Socket;
use super::timer::Direction;

/// What a pipe is asked to hold, bytes. An unprivileged user may be refused more than 1 MiB in
/// all (`/proc/sys/fs/pipe-user-pages-soft`); then pipes keep the kernel's default.
const PIPE_BYTES: usize = 256 * 1024;

/// Idle pipes a worker keeps.
const SPARE_MAX: usize = 16;

/// A pipe, empty between bodies.
#[derive(Debug)]
pub struct Pipe {
    input: OwnedFd,
    output: OwnedFd,
    capacity: usize,
    held: usize,
}

impl Pipe {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes in what a stream has, as far as it fits; zero is the end of the stream.
    pub fn take_in(&mut self, from: &TcpStream, limit: u64) -> io::Result<usize> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let limit = self.capacity.min(limit);
        let count = from.try_io(Interest::READABLE, || {
            Ok(splice(from, None, &self.input, None, limit, flags())?)
        })?;
        self.held += count;
        Ok(count)
    }

    /// Lets out what a stream takes. With `more` to come, the kernel may wait to fill a packet.
    pub fn let_out(&mut self, to: &TcpStream, more: bool) -> io::Result<usize> {
        let mut flags = flags();
        if more {
            flags |= SpliceFlags::MORE;
        }
        let count = to.try_io(Interest::WRITABLE, || {
            Ok(splice(&self.output, None, to, None, self.held, flags)?)
        })?;
        self.held -= count;
        Ok(count)
    }
}

/// The spare pipes of a worker.
#[derive(Debug, Default)]
pub struct Pipes(RefCell<Vec<Pipe>>);

impl Pipes {
    /// A pipe; `None` when the process has no descriptors left for one.
    pub fn take(&self) -> Option<Pipe> {
        if let Some(pipe) = self.0.borrow_mut().pop() {
            return Some(pipe);
        }
        let (output, input) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        let capacity = fcntl_setpipe_size(&input, PIPE_BYTES).unwrap_or(64 * 1024);
        Some(Pipe {
            input,
            output,
            capacity,
            held: 0,
        })
    }

    /// Takes a pipe back, unless a failed body left bytes in it.
    pub fn give(&self, pipe: Pipe) {
        let mut spare = self.0.borrow_mut();
        if pipe.held == 0 && spare.len() < SPARE_MAX {
            spare.push(pipe);
        }
    }
}

/// The two sockets of a move.
#[derive(Debug)]
pub struct Ends<'e> {
    /// The origin's socket.
    pub source: &'e Socket,
    /// The origin's stream.
    pub source_stream: &'e TcpStream,
    /// The client's socket.
    pub target: &'e Socket,
    /// The client's stream.
    pub target_stream: &'e TcpStream,
}

/// How far a move came.
#[derive(Debug)]
pub struct Moved {
    /// Bytes that reached the client's socket.
    pub bytes: u64,
    /// Whether all of them did.
    pub end: Result<(), Reason>,
}

/// Moves `length` bytes.
pub async fn move_body(
    ends: &Ends<'_>,
    pipe: &mut Pipe,
    length: u64,
    body: &mut BodyReader,
    pace: &mut Pace,
) -> Moved {
    let mut taken = 0;
    let mut bytes = 0;
    while bytes < length {
        if pipe.held == 0 {
            match fill(ends, pipe, length - taken, body).await {
                Ok(count) => taken += count as u64,
                Err(reason) => {
                    return Moved {
                        bytes,
                        end: Err(reason),
                    };
                }
            }
        }
        pace.arm(ends.target.timer(), Direction::Write);
        match drain(ends, pipe, length > taken).await {
            Ok(count) => {
                bytes += count as u64;
                if !pace.keeps_up(ends.target.timer(), count) {
                    return Moved {
                        bytes,
                        end: Err(Reason::ClientTooSlow),
                    };
                }
            }
            Err(error) => {
                return Moved {
                    bytes,
                    end: Err(client_fault(&error)),
                };
            }
        }
    }
    ends.source.count_spliced(bytes, 0);
    ends.target.count_spliced(0, bytes);
    Moved { bytes, end: Ok(()) }
}

async fn fill(
    ends: &Ends<'_>,
    pipe: &mut Pipe,
    left: u64,
    body: &mut BodyReader,
) -> Result<usize, Reason> {
    body.arm(ends.source.timer());
    let step = poll_fn(|cx| {
        ends.source.poll_io(Direction::Read, cx, || {
            pipe.take_in(ends.source_stream, left)
        })
    })
    .await;
    match step {
        Ok(0) => Err(Reason::UpstreamBodyCut),
        Ok(count) => {
            if body.keeps_up(ends.source.timer(), count) {
                Ok(count)
            } else {
                Err(Reason::UpstreamBodyTimeout)
            }
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(Reason::UpstreamBodyTimeout),
        Err(_) => Err(Reason::UpstreamBodyCut),
    }
}

async fn drain(ends: &Ends<'_>, pipe: &mut Pipe, more: bool) -> io::Result<usize> {
    poll_fn(|cx| {
        ends.target.poll_io(Direction::Write, cx, || {
            pipe.let_out(ends.target_stream, more)
        })
    })
    .await
}

fn flags() -> SpliceFlags {
    SpliceFlags::NONBLOCK | SpliceFlags::MOVE
}

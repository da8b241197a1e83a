//! A tunnel after 101 (Switching Protocols): bytes both ways until either side is done, each
//! direction at the pace of whoever reads it.
//!
//! Must not: begin before the origin agreed. What the client sent early waited in its inbound
//! buffer and goes first.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use cardea_http1::write;

use super::body::Pace;
use super::buffer::{Buffers, Inbound};
use super::connection::client::send;
use super::respond::Response;
use super::socket::Socket;
use super::timer::Direction;
use super::upstream::request::stays_here;
use super::worker::Worker;

/// The two sides of a tunnel.
#[derive(Debug)]
pub struct TunnelEnds<'t> {
    /// The client's connection.
    pub client: &'t Socket,
    /// What the client sent and nobody read yet.
    pub from_client: &'t mut Inbound,
    /// The origin's connection.
    pub origin: &'t Socket,
    /// What the origin sent after its head.
    pub from_origin: &'t mut Inbound,
}

/// Bytes that went through a tunnel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TunnelTraffic {
    /// From the client to the origin.
    pub from_client: u64,
    /// From the origin to the client.
    pub from_origin: u64,
}

/// Sends the 101 and moves bytes until both directions ended, one failed, or neither moved
/// anything for `idle`.
pub async fn run(
    worker: &Worker,
    ends: &mut TunnelEnds<'_>,
    response: &Response,
    idle: Duration,
) -> TunnelTraffic {
    let mut head = worker.buffers.take_output();
    write::status_line(&mut head, 101);
    response
        .headers
        .write(&mut head, |known| !stays_here(known));
    head.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n\r\n");
    let sent = send(ends.client, &head, &[], &mut Pace::new(idle, 0)).await;
    worker.buffers.give_output(head);
    if sent.is_err() {
        return TunnelTraffic::default();
    }
    let mut up = Flow {
        from: ends.client,
        to: ends.origin,
        idle,
        moved: 0,
    };
    let mut down = Flow {
        from: ends.origin,
        to: ends.client,
        idle,
        moved: 0,
    };
    {
        let mut uphill = pin!(up.run(ends.from_client, &worker.buffers));
        let mut downhill = pin!(down.run(ends.from_origin, &worker.buffers));
        let (mut up_done, mut down_done) = (false, false);
        poll_fn(|cx| {
            for (flow, done) in [
                (
                    uphill.as_mut() as std::pin::Pin<&mut dyn Future<Output = io::Result<()>>>,
                    &mut up_done,
                ),
                (downhill.as_mut(), &mut down_done),
            ] {
                if !*done && let Poll::Ready(end) = flow.poll(cx) {
                    *done = true;
                    if end.is_err() {
                        return Poll::Ready(());
                    }
                }
            }
            if up_done && down_done {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
    TunnelTraffic {
        from_client: up.moved,
        from_origin: down.moved,
    }
}

struct Flow<'f> {
    from: &'f Socket,
    to: &'f Socket,
    idle: Duration,
    moved: u64,
}

impl Flow<'_> {
    async fn run(&mut self, inbound: &mut Inbound, buffers: &Buffers) -> io::Result<()> {
        loop {
            if !inbound.is_empty() {
                let bytes = inbound.bytes();
                send(self.to, bytes, &[], &mut Pace::new(self.idle, 0)).await?;
                let count = bytes.len();
                self.moved += count as u64;
                inbound.consume(count);
            }
            // An idle tunnel holds no buffer.
            inbound.release(buffers);
            // Either direction's progress keeps the tunnel alive.
            self.from.set_deadline(Direction::Read, self.idle);
            self.to.set_deadline(Direction::Read, self.idle);
            if inbound.fill(self.from, buffers).await? == 0 {
                return self.to.close_write().await;
            }
        }
    }
}

//! Connections of HTTP/2 as both sides of the gateway have them: towards a client (`connection`) and
//! towards an endpoint (`upstream`). One task drives a connection; the exchanges on it run in tasks
//! of their own and meet it in the hub.
//!
//! Must not: know which side it is on.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use super::socket::Socket;
use super::timer::Direction;

mod hub;
mod stream;

pub use hub::Hub;
pub use stream::{Head, Loss, Stream, StreamBody};

/// Sends what the exchanges and the codec write, each piece within `wait`; ends when that fails.
pub async fn write(hub: &Hub, socket: &Socket, wait: Duration) {
    loop {
        poll_fn(|cx| hub.poll_output(cx)).await;
        socket.set_deadline(Direction::Write, wait);
        let written = poll_fn(|cx| {
            let codec = hub.codec();
            socket.poll_write(cx, hub.output(&codec), &[])
        });
        let Ok(written) = written.await else {
            return;
        };
        if hub.note_sent(written) {
            continue;
        }
        if poll_fn(|cx| socket.poll_flush(cx)).await.is_err() {
            return;
        }
    }
}

/// Sends what is left to say, within `wait`.
pub async fn write_rest(hub: &Hub, socket: &Socket, wait: Duration) -> io::Result<()> {
    socket.set_deadline(Direction::Write, wait);
    poll_fn(|cx| {
        while hub.pending() > 0 {
            let codec = hub.codec();
            let written = socket.poll_write(cx, hub.output(&codec), &[]);
            drop(codec);
            match written {
                Poll::Ready(Ok(written)) => hub.note_sent(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
        }
        socket.poll_flush(cx)
    })
    .await
}

//! A tunnel after an upgrade: bytes both ways until either side is done, each direction at the pace
//! of whoever reads it. A client may be at a socket (101) or at a stream (an extended CONNECT, RFC
//! 8441).
//!
//! Must not: begin before the origin agreed. What the client sent early waited where it was received
//! and goes first.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use aws_lc_rs::digest;
use cardea_http1::{Known, write};
use data_encoding::BASE64;

use super::body::{self, Body, Pace};
use super::buffer::{Buffers, Inbound};
use super::connection::client::{ClientEnd, ClientSide, send};
use super::http2::{Stream, StreamBody};
use super::respond::Response;
use super::socket::Socket;
use super::timer::{Direction, Timer};
use super::upstream::OriginEnd;
use super::upstream::request::stays_here;
use super::worker::Worker;

/// The origin's side of a tunnel.
#[derive(Debug)]
pub struct Origin<'t> {
    /// Its connection, or a stream of one.
    pub end: OriginEnd<'t>,
    /// What it sent after its head, on a connection.
    pub inbound: &'t mut Inbound,
    /// The key of the client's upgrade, which an origin at a stream does not answer.
    pub key: Option<&'t [u8]>,
}

/// Bytes that went through a tunnel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TunnelTraffic {
    /// From the client to the origin.
    pub from_client: u64,
    /// From the origin to the client.
    pub from_origin: u64,
}

/// Tells the client that its upgrade was agreed to, and moves bytes until both directions ended, one
/// failed, or neither moved anything for `idle`.
pub async fn run(
    worker: &Worker,
    client: &ClientSide<'_>,
    from_client: &mut Body<'_>,
    origin: Origin<'_>,
    response: &mut Response,
    idle: Duration,
) -> TunnelTraffic {
    if agree(worker, client, &origin, response, idle)
        .await
        .is_err()
    {
        return TunnelTraffic::default();
    }
    let source = match &mut from_client.source {
        body::Source::Http1(body) => Source::Socket(body.socket, body.inbound),
        body::Source::Http2(body) => {
            body.open_tunnel();
            Source::Stream(body)
        }
    };
    let mut from_origin;
    let mut up = Flow {
        source,
        sink: match origin.end {
            OriginEnd::Http1(socket) => Sink::Socket(socket),
            OriginEnd::Http2(stream) => Sink::Stream(stream),
        },
        idle,
        moved: 0,
    };
    let mut down = Flow {
        source: match origin.end {
            OriginEnd::Http1(socket) => Source::Socket(socket, origin.inbound),
            OriginEnd::Http2(stream) => {
                from_origin = StreamBody::new(stream, false, Pace::new(idle, 0));
                from_origin.open_tunnel();
                Source::Stream(&mut from_origin)
            }
        },
        sink: match client.end {
            ClientEnd::Http1(socket, _) => Sink::Socket(socket),
            ClientEnd::Http2(stream) => Sink::Stream(stream),
        },
        idle,
        moved: 0,
    };
    both(&mut up, &mut down, &worker.buffers).await;
    TunnelTraffic {
        from_client: up.moved,
        from_origin: down.moved,
    }
}

async fn agree(
    worker: &Worker,
    client: &ClientSide<'_>,
    origin: &Origin<'_>,
    response: &mut Response,
    idle: Duration,
) -> io::Result<()> {
    if let (OriginEnd::Http2(_), ClientEnd::Http1(..), Some(key)) =
        (origin.end, client.end, origin.key)
    {
        let accept = accepted(key);
        let headers = &mut response.headers;
        headers.append_parts(
            Known::SecWebSocketAccept,
            b"sec-websocket-accept",
            &[accept.as_bytes()],
        );
    }
    match client.end {
        ClientEnd::Http1(socket, _) => {
            let mut head = worker.buffers.take_output();
            write::status_line(&mut head, 101);
            response
                .headers
                .write(&mut head, |known| !stays_here(known));
            head.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n\r\n");
            let sent = send(socket, &head, &[], &mut Pace::new(idle, 0)).await;
            worker.buffers.give_output(head);
            sent
        }
        ClientEnd::Http2(stream) => {
            // There is no key to accept: the stream is proof enough (RFC 8441 section 5.1).
            response.headers.remove_known(Known::SecWebSocketAccept);
            response.status = 200;
            stream.send_head(response, None, false)
        }
    }
}

/// What proves that an upgrade was understood (RFC 6455 section 4.2.2).
fn accepted(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut digest = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(GUID);
    BASE64.encode(digest.finish().as_ref())
}

async fn both(up: &mut Flow<'_>, down: &mut Flow<'_>, buffers: &Buffers) {
    let mut uphill = pin!(up.run(buffers));
    let mut downhill = pin!(down.run(buffers));
    let (mut up_done, mut down_done) = (false, false);
    poll_fn(|cx| {
        for (flow, done) in [
            (
                uphill.as_mut() as Pin<&mut dyn Future<Output = io::Result<()>>>,
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

/// Where bytes come from.
enum Source<'t> {
    Socket(&'t Socket, &'t mut Inbound),
    Stream(&'t mut StreamBody),
}

impl Source<'_> {
    fn timer(&self) -> &Timer {
        match self {
            Self::Socket(socket, _) => socket.timer(),
            Self::Stream(body) => body.stream().timer(),
        }
    }

    /// The next bytes, which count as read when the ones after them are asked for; nothing at the
    /// end. An idle tunnel holds no buffer.
    async fn next(&mut self, read: usize, buffers: &Buffers) -> io::Result<&[u8]> {
        match self {
            Self::Socket(socket, inbound) => {
                inbound.consume(read);
                inbound.release(buffers);
                if inbound.is_empty() {
                    inbound.fill(socket, buffers).await?;
                }
                Ok(inbound.bytes())
            }
            Self::Stream(body) => match body.next().await {
                Ok(piece) => Ok(piece.map_or(&[], |piece| body.piece(piece))),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }
}

/// Where bytes go.
enum Sink<'t> {
    Socket(&'t Socket),
    Stream(&'t Stream),
}

impl Sink<'_> {
    fn timer(&self) -> &Timer {
        match self {
            Self::Socket(socket) => socket.timer(),
            Self::Stream(stream) => stream.timer(),
        }
    }

    async fn send(&self, bytes: &[u8], idle: Duration) -> io::Result<()> {
        let mut pace = Pace::new(idle, 0);
        match self {
            Self::Socket(socket) => send(socket, bytes, &[], &mut pace).await,
            Self::Stream(stream) => stream.send(bytes, false, &mut pace).await,
        }
    }

    async fn close(&self, idle: Duration) -> io::Result<()> {
        match self {
            Self::Socket(socket) => socket.close_write().await,
            Self::Stream(stream) => stream.send(&[], true, &mut Pace::new(idle, 0)).await,
        }
    }
}

struct Flow<'f> {
    source: Source<'f>,
    sink: Sink<'f>,
    idle: Duration,
    moved: u64,
}

impl Flow<'_> {
    async fn run(&mut self, buffers: &Buffers) -> io::Result<()> {
        let mut read = 0;
        loop {
            // Either direction's progress keeps the tunnel alive.
            self.source.timer().set(Direction::Read, self.idle);
            self.sink.timer().set(Direction::Read, self.idle);
            let bytes = self.source.next(read, buffers).await?;
            read = bytes.len();
            if read == 0 {
                return self.sink.close(self.idle).await;
            }
            self.sink.send(bytes, self.idle).await?;
            self.moved += read as u64;
        }
    }
}

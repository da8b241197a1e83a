//! Opening a connection to an endpoint: TCP, the header that says whom it is for (PROXY protocol) and
//! TLS where the upstream asks for them, all within one deadline.
//!
//! Must not: resolve names (an endpoint is an address) or choose the endpoint (`balance` does).

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};

use super::endpoint::Endpoint;
use super::local::Chosen;
use super::pool::Connection;
use super::settings::Protocol;
use crate::traffic::respond::Reason;
use crate::traffic::socket::Socket;
use crate::traffic::timer::{Direction, Wheel};
use crate::traffic::tls::Session;

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The upstream has all the connections it may have.
    #[error("the upstream is at its connection limit")]
    Saturated,
    /// No answer in time, from TCP or TLS.
    #[error("connecting took longer than {0:?}")]
    Timeout(Duration),
    /// TCP was refused or failed.
    #[error("connecting failed")]
    Failed(#[source] io::Error),
    /// The handshake failed: the endpoint's certificate, or its TLS, is not acceptable.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

impl ConnectError {
    /// The reason a client is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Saturated => Reason::UpstreamSaturated,
            Self::Timeout(_) => Reason::UpstreamConnectTimeout,
            Self::Failed(_) => Reason::UpstreamConnectFailed,
            Self::Tls(_) => Reason::UpstreamTlsFailed,
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Any request.
    Requests,
    /// One that has the connection to itself: it is of HTTP/1.1, where the endpoint has a choice.
    Alone,
    /// What clients and endpoints agree on by themselves: no protocol is offered.
    Stream,
}

/// Opens a connection that begins with `header`. `timeout` is absolute over TCP and TLS; zero is none.
pub async fn connect(
    endpoint: &Chosen,
    purpose: Purpose,
    header: Option<&[u8]>,
    timeout: Duration,
    wheel: &Rc<Wheel>,
) -> Result<Connection, ConnectError> {
    let permit = endpoint
        .upstream()
        .admit_connection()
        .map_err(|_| ConnectError::Saturated)?;
    let started = Instant::now();
    let stream = match timeout {
        Duration::ZERO => tcp(endpoint).await,
        _ => tokio::time::timeout(timeout, tcp(endpoint))
            .await
            .map_err(|_| ConnectError::Timeout(timeout))?,
    };
    let mut socket = Socket::new(stream.map_err(ConnectError::Failed)?, wheel);
    if let Some(header) = header {
        introduce(&socket, header)
            .await
            .map_err(ConnectError::Failed)?;
    }
    let settings = &endpoint.upstream().upstream().settings;
    let is_stream = purpose == Purpose::Stream;
    let mut is_http2 = settings.protocol == Protocol::Http2 && !is_stream;
    if let Some(tls) = &settings.tls {
        let server_name = tls
            .server_name_of(endpoint)
            .map_err(|error| ConnectError::Tls(io::Error::new(ErrorKind::InvalidInput, error)))?;
        let config = match (purpose, settings.protocol) {
            (Purpose::Stream, _) => &tls.raw,
            (Purpose::Alone, Protocol::Agreed) => &tls.http1,
            _ => &tls.config,
        };
        let session = Session::connect(config, server_name)
            .map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
        socket.start_session(session);
        if !timeout.is_zero() {
            let left = timeout
                .saturating_sub(started.elapsed())
                .max(Duration::from_millis(1));
            socket.set_deadline(Direction::Read, left);
            socket.set_deadline(Direction::Write, left);
        }
        socket
            .handshake()
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::TimedOut => ConnectError::Timeout(timeout),
                _ => ConnectError::Tls(error),
            })?;
        let agreed = socket.session().is_some_and(|it| it.borrow().is_http2());
        if is_http2 && !agreed {
            let text = "the endpoint does not speak HTTP/2";
            return Err(ConnectError::Tls(io::Error::other(text)));
        }
        is_http2 = agreed;
    }
    Ok(Connection {
        socket,
        is_http2,
        requests: 0,
        is_introduced: header.is_some(),
        permit,
    })
}

/// Sends the first bytes of a connection. They are fewer than any socket takes at once.
async fn introduce(socket: &Socket, header: &[u8]) -> io::Result<()> {
    match socket.write(header, &[]).await? {
        taken if taken == header.len() => Ok(()),
        _ => Err(ErrorKind::WriteZero.into()),
    }
}

async fn tcp(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let socket = match endpoint.address {
        std::net::SocketAddr::V4(_) => TcpSocket::new_v4()?,
        std::net::SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    socket.connect(endpoint.address).await
}

//! The connections of the admin listener: few, short-lived, and none of them for ever.
//!
//! Must not: let a client that is slow, or one of many, keep the others out.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use axum::{Router, body::Body};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_service::Service;

use super::problem;

/// The wait after an accept that failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The largest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections open at once; further ones wait to be accepted.
    pub(super) connections_max: usize,
    /// The wait for a request, or for the rest of its head.
    pub(super) head_timeout: Duration,
    /// From the head of a request to the head of its answer.
    pub(super) request_timeout: Duration,
    /// After this, a connection is closed as soon as its answer is sent.
    pub(super) connection_age_max: Duration,
    /// How long that answer may take to be sent.
    pub(super) close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 32,
            head_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            connection_age_max: Duration::from_secs(60),
            close_timeout: Duration::from_secs(60),
        }
    }
}

/// Serves until it is stopped and the last connection is closed.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let accepted = tokio::select! {
            biased;
            // An error means that the handle is gone: then it serves as long as the process lives.
            Ok(_) = stopped.wait_for(|stopped| *stopped) => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let Some((stream, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let served = connection(stream, router.clone(), limits, stopped.clone());
        tokio::spawn(async move {
            served.await;
            drop(place);
        });
    }
    drop(listener);
    let all = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    // Fails only if the semaphore were closed, which nobody does.
    let _ = connections.acquire_many(all).await;
}

/// Accepts once there is a place for a connection.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "admin_accept_failed");
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        async move {
            let request = request.map(Body::new);
            let Ok(response) = Service::call(&mut router, request).await;
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        () = tokio::time::sleep(limits.connection_age_max) => None,
        Ok(_) = stopped.wait_for(|stopped| *stopped) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            // A reload under way is waited for, a client that does not read is not.
            let Ok(ended) = tokio::time::timeout(limits.close_timeout, served).await else {
                return;
            };
            ended
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin_connection_failed");
    }
}

/// Gives up on an answer that takes too long.
pub(super) async fn limit_time(
    State(timeout): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "this takes too long; try again later",
        ),
    }
}

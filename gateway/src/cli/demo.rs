//! The demo origin of the quick-start mode: answers every request with what it saw, so that a
//! newcomer sees what the gateway told it.
//!
//! Must not: run unless nobody named an origin.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// Starts the origin on a thread of its own, on a free port of the loopback interface.
pub(super) fn start() -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("demo-origin".into())
        .spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, Router::new().fallback(answer)).await
            });
            if let Err(error) = served {
                tracing::error!(%error, "demo_origin_failed");
            }
        })?;
    Ok(address)
}

async fn answer(request: Request) -> impl IntoResponse {
    let mut text = String::from("Hello from the demo origin behind Cardea.\n\n");
    // Writing to a string does not fail.
    let _ = writeln!(text, "{} {}", request.method(), request.uri());
    for (name, value) in request.headers() {
        let _ = writeln!(
            text,
            "{name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        );
    }
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text)
}

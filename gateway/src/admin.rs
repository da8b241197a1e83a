//! The admin listener: health, readiness, metrics, the configuration in force and what became of
//! it. It has a thread and a runtime of its own, so that it answers when traffic saturates the
//! workers.
//!
//! Must not: be reachable by a web page. It has no authentication; it answers only to hosts that
//! are its own, and nothing that a browser sends across origins changes anything.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::control::Control;

/// The longest log directive taken, bytes.
const DIRECTIVE_BYTES_MAX: usize = 1024;

/// Starts the admin listener on a thread of its own; returns its address.
pub fn start(bind: SocketAddr, control: Arc<Control>) -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(bind)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router(control)).await
            });
            if let Err(error) = served {
                tracing::error!(%error, "admin_listener_failed");
            }
        })?;
    Ok(address)
}

fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route(
            "/config",
            get(|State(control): State<Arc<Control>>| async move { Json(control.config()) }),
        )
        .route(
            "/routes",
            get(|State(control): State<Arc<Control>>| async move { Json(control.routes()) }),
        )
        .route(
            "/upstreams",
            get(|State(control): State<Arc<Control>>| async move { Json(control.upstreams()) }),
        )
        .route(
            "/certificates",
            get(|State(control): State<Arc<Control>>| async move { Json(control.certificates()) }),
        )
        .route("/log-level", get(log_level).put(set_log_level))
        .route("/reload", post(reload))
        .fallback(|| async {
            problem(
                StatusCode::NOT_FOUND,
                "there is nothing here; `/` lists what there is",
            )
        })
        .layer(middleware::from_fn(guard))
        .with_state(control)
}

/// Refuses what a web page could send: a host name that somebody else's DNS points here, or a
/// request from another origin.
async fn guard(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let is_literal = name
        .trim_matches(['[', ']'])
        .parse::<std::net::IpAddr>()
        .is_ok();
    if !is_literal && name != "localhost" {
        return problem(
            StatusCode::MISDIRECTED_REQUEST,
            "ask for the admin listener by its address",
        );
    }
    if request.headers().contains_key(header::ORIGIN) {
        return problem(
            StatusCode::FORBIDDEN,
            "requests of web pages are not served here",
        );
    }
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn problem(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

async fn index() -> Json<Value> {
    Json(json!({
        "GET": ["/healthz", "/readyz", "/metrics", "/config", "/routes", "/upstreams", "/certificates", "/log-level"],
        "PUT": ["/log-level"],
        "POST": ["/reload"],
    }))
}

async fn ready(State(control): State<Arc<Control>>) -> Response {
    if control.is_ready() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
}

async fn metrics(State(control): State<Arc<Control>>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, control.metrics_text()).into_response()
}

async fn log_level(State(control): State<Arc<Control>>) -> Json<Value> {
    Json(json!({ "level": control.log_level().current() }))
}

async fn set_log_level(State(control): State<Arc<Control>>, body: String) -> Response {
    let directives = body.trim();
    if directives.len() > DIRECTIVE_BYTES_MAX {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "the directive is too long");
    }
    match control.log_level().set(directives) {
        Ok(()) => {
            tracing::info!(level = directives, "log_level_changed");
            Json(json!({ "level": control.log_level().current() })).into_response()
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// Reads the configuration again and waits for the verdict.
async fn reload(State(control): State<Arc<Control>>) -> Response {
    let reloaded = tokio::task::spawn_blocking(move || control.reload_and_log(true)).await;
    match reloaded {
        Ok(Ok(verdict)) => Json(json!({
            "generation": verdict.generation,
            "changes": verdict.changes,
        }))
        .into_response(),
        Ok(Err(refusal)) => {
            let body = json!({ "diagnostics": refusal.rendered, "findings": refusal.diagnostics });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
        Err(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the reload failed; see the log",
        ),
    }
}

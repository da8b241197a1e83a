//! The admin listener: health, readiness, metrics, the configuration in force and what became of
//! it. It has a thread and a runtime of its own, so that it answers when traffic saturates the
//! workers.
//!
//! Must not: be of use to a web page. It has no authentication; it answers only to hosts that are
//! addresses, and nothing that a browser sends across origins reaches a handler.

mod guard;
mod serve;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use serve::Limits;

/// The longest request body taken, bytes: log directives are the only one.
const BODY_BYTES_MAX: usize = 4096;

/// Requests that are looked up at once, apart from health and readiness. Further ones wait.
const LOOKUPS_MAX: usize = 2;

/// What there is, for `/` and for the documentation.
pub const ENDPOINTS: [(&str, &str, &str); 11] = [
    ("GET", "/", "this list"),
    ("GET", "/healthz", "200 as long as the process answers"),
    (
        "GET",
        "/readyz",
        "200 while new traffic is welcome, else 503",
    ),
    ("GET", "/metrics", "metrics, as Prometheus reads them"),
    ("GET", "/config", "the configuration in force"),
    (
        "GET",
        "/routes",
        "domains and their routes, as they are matched",
    ),
    (
        "GET",
        "/upstreams",
        "upstreams and how their endpoints are doing",
    ),
    (
        "GET",
        "/certs",
        "certificates, where they are from and when they expire",
    ),
    ("GET", "/log-level", "the level of the diagnostics log"),
    ("PUT", "/log-level", "changes the level until the next one"),
    (
        "POST",
        "/reload",
        "reads the configuration again; 422 if it is refused",
    ),
];

/// Whether traffic is welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet: no configuration serves.
    Starting,
    /// It is.
    Ready,
    /// No more: the process is about to end.
    Draining,
}

impl Readiness {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// What the admin listener shows and asks for. Readiness is answered at once; everything else may
/// take its time, and is asked for on a thread that may block.
pub trait Backend: Send + Sync + 'static {
    /// Whether traffic is welcome. Must not wait.
    fn readiness(&self) -> Readiness;

    /// The metrics, in Prometheus' text format.
    fn metrics(&self) -> String;

    /// The configuration in force, secrets redacted.
    fn config(&self) -> Value;

    /// The domains and their routes.
    fn routes(&self) -> Value;

    /// The upstreams and how their endpoints are doing.
    fn upstreams(&self) -> Value;

    /// The certificates and when they expire.
    fn certificates(&self) -> Value;

    /// The level of the diagnostics log.
    fn log_level(&self) -> String;

    /// Changes the level of the diagnostics log.
    ///
    /// # Errors
    ///
    /// What is wrong with the level.
    fn set_log_level(&self, level: &str) -> Result<(), String>;

    /// Reads the configuration again, and says what came of it.
    ///
    /// # Errors
    ///
    /// Why it was refused.
    fn reload(&self) -> Result<Value, Value>;
}

/// The admin listener, as long as it serves.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Admin {
    /// Starts the admin listener on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or the system refuses a thread.
    pub fn start(bind: SocketAddr, backend: Arc<dyn Backend>) -> io::Result<Self> {
        Self::start_limited(bind, backend, Limits::default())
    }

    fn start_limited(
        bind: SocketAddr,
        backend: Arc<dyn Backend>,
        limits: Limits,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(bind)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name("admin-lookup")
            // Lookups, and reloads: one of them at work, others waiting their turn.
            .max_blocking_threads(LOOKUPS_MAX + limits.connections_max)
            .build()?;
        let listener = {
            let _within = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = watch::channel(false);
        let router = router(backend, &limits);
        std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || runtime.block_on(serve::serve(listener, router, limits, stopped)))?;
        Ok(Self { address, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more; what is under way is answered.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// What handlers share.
#[derive(Clone)]
struct Context {
    backend: Arc<dyn Backend>,
    lookups: Arc<Semaphore>,
    reloads: Arc<Semaphore>,
}

fn router(backend: Arc<dyn Backend>, limits: &Limits) -> Router {
    let context = Context {
        backend,
        lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        reloads: Arc::new(Semaphore::new(1)),
    };
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route(
            "/config",
            get(|State(context)| document(context, |it| it.config())),
        )
        .route(
            "/routes",
            get(|State(context)| document(context, |it| it.routes())),
        )
        .route(
            "/upstreams",
            get(|State(context)| document(context, |it| it.upstreams())),
        )
        .route(
            "/certs",
            get(|State(context)| document(context, |it| it.certificates())),
        )
        .route("/log-level", get(log_level).put(set_log_level))
        // A reload takes as long as it takes; everything else has a limit.
        .layer(middleware::from_fn_with_state(
            limits.request_timeout,
            serve::limit_time,
        ))
        .route("/reload", post(reload))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(guard::check))
        .with_state(context)
}

/// An answer that says what is wrong.
fn problem(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

async fn nothing_here() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "there is nothing here; `/` lists what there is",
    )
}

async fn wrong_method() -> Response {
    problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "not with this method; `/` lists what there is",
    )
}

async fn index() -> Json<Value> {
    let endpoints = ENDPOINTS
        .iter()
        .map(|(method, path, what)| json!({ "method": method, "path": path, "what": what }));
    Json(json!({
        "name": "cardea",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoints": endpoints.collect::<Vec<_>>(),
    }))
}

async fn healthy() -> Json<Value> {
    Json(json!({ "status": "healthy" }))
}

async fn ready(State(context): State<Context>) -> Response {
    let readiness = context.backend.readiness();
    let status = match readiness {
        Readiness::Ready => StatusCode::OK,
        Readiness::Starting | Readiness::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(json!({ "status": readiness.as_str() }))).into_response()
}

async fn metrics(State(context): State<Context>) -> Response {
    const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
    match look_up(context, |backend| backend.metrics()).await {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(failed) => failed.into_response(),
    }
}

async fn document(context: Context, what: fn(&dyn Backend) -> Value) -> Response {
    match look_up(context, what).await {
        Ok(document) => Json(document).into_response(),
        Err(failed) => failed.into_response(),
    }
}

async fn log_level(State(context): State<Context>) -> Response {
    document(context, |backend| json!({ "level": backend.log_level() })).await
}

/// Takes the level as it is written in a configuration, as text or as `{"level": "…"}`.
async fn set_log_level(
    State(context): State<Context>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let Some(level) = level_of(&body) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "the body is not a level; send `info`, or {\"level\": \"info\"}",
        );
    };
    let changed = look_up(context, move |backend| {
        backend.set_log_level(&level)?;
        Ok::<_, String>(backend.log_level())
    });
    match changed.await {
        Ok(Ok(level)) => {
            tracing::info!(level, "log_level_changed");
            Json(json!({ "level": level })).into_response()
        }
        Ok(Err(error)) => problem(StatusCode::BAD_REQUEST, &error),
        Err(failed) => failed.into_response(),
    }
}

fn level_of(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    if text.is_empty() {
        return None;
    }
    if !text.starts_with('{') {
        return Some(text.to_owned());
    }
    let document: Value = serde_json::from_str(text).ok()?;
    document.get("level")?.as_str().map(str::to_owned)
}

/// Reads the configuration again and waits for the verdict. Whoever asks while another reload runs
/// gets a reload of their own after it: the files may have changed since that one read them.
async fn reload(State(context): State<Context>) -> Response {
    let Ok(_turn) = Arc::clone(&context.reloads).acquire_owned().await else {
        return Failed.into_response();
    };
    match run(&context.backend, |backend| backend.reload()).await {
        Ok(Ok(applied)) => Json(applied).into_response(),
        Ok(Err(refused)) => (StatusCode::UNPROCESSABLE_ENTITY, Json(refused)).into_response(),
        Err(failed) => failed.into_response(),
    }
}

/// A question that panicked; the panic is in the log.
struct Failed;

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this failed; the log says why",
        )
    }
}

/// Asks the backend what may take a while, a few at once.
async fn look_up<T: Send + 'static>(
    context: Context,
    what: impl FnOnce(&dyn Backend) -> T + Send + 'static,
) -> Result<T, Failed> {
    let place = context.lookups.acquire_owned().await.map_err(|_| Failed)?;
    run(&context.backend, move |backend| {
        // Kept until the answer is there, also when nobody waits for it any more.
        let _place = place;
        what(backend)
    })
    .await
}

async fn run<T: Send + 'static>(
    backend: &Arc<dyn Backend>,
    what: impl FnOnce(&dyn Backend) -> T + Send + 'static,
) -> Result<T, Failed> {
    let backend = Arc::clone(backend);
    let asked = tokio::task::spawn_blocking(move || what(&*backend));
    asked.await.map_err(|_| Failed)
}

#[cfg(test)]
mod tests;

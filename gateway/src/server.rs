//! The process: pingora's `Server` with our services in it, the signals, and the way out. The
//! gateway service owns the workers, the admin service its listener; both end when the drain does.
//!
//! Must not: let pingora's types out. They stay in this file, so that a release of pingora costs
//! an afternoon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{
    ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora_core::services::Service;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::control::Control;

/// How often the drain looks whether the last connection is gone.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Runs the gateway until it was told to stop and has drained; returns when it may exit.
pub fn run(control: Arc<Control>) {
    let configuration = ServerConf {
        threads: 1,
        work_stealing: true,
        // The drain is ours: it counts connections instead of sleeping.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    server.add_service(Gateway {
        control: Arc::clone(&control),
    });
    server.run(RunArgs {
        shutdown_signal: Box::new(Signals { control }),
    });
}

/// The service that keeps the control path: reload on a signal or a changed file, health checks,
/// name resolution. The workers it steers are threads of their own.
struct Gateway {
    control: Arc<Control>,
}

#[async_trait]
impl Service for Gateway {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
    ) {
        let control = Arc::clone(&self.control);
        tokio::select! {
            () = control.run() => {}
            _ = shutdown.changed() => {}
        }
    }

    fn name(&self) -> &str {
        "gateway"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// Waits for a signal to stop, drains, and only then lets pingora end the process.
struct Signals {
    control: Arc<Control>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            tracing::error!("signals_unavailable");
            return ShutdownSignal::FastShutdown;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drain(&self.control, &mut terminate, &mut interrupt).await;
        ShutdownSignal::FastShutdown
    }
}

/// Readiness turns first, then listeners close and idle connections go; what is left has the
/// grace period. A second signal cuts it short.
async fn drain(control: &Control, terminate: &mut Signal, interrupt: &mut Signal) {
    let started = Instant::now();
    let (readiness_delay, grace) = control.shutdown_settings();
    tracing::info!(?grace, "drain_started");
    control.begin_drain();
    let impatient = AtomicBool::new(false);
    let finished = async {
        tokio::time::sleep(readiness_delay).await;
        control.drain_workers();
        while control.open_connections() > 0 && started.elapsed() < grace {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    tokio::select! {
        () = finished => {}
        _ = terminate.recv() => impatient.store(true, Ordering::Relaxed),
        _ = interrupt.recv() => impatient.store(true, Ordering::Relaxed),
    }
    let left = control.open_connections();
    tracing::info!(
        connections_cut = left,
        impatient = impatient.into_inner(),
        took = ?started.elapsed(),
        "drain_finished"
    );
    control.finish();
}

//! The task that gives ejections their length and ends them, for all upstreams.
//!
//! Must not: let workers that eject a great deal keep it running all the time.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::traffic::upstream::compile::Upstreams;

/// The least time between two rounds.
const ROUND_GAP: Duration = Duration::from_millis(10);

/// Tends the ejections of whatever upstreams are current, until there will be no others.
pub(super) async fn keep(mut current: watch::Receiver<Upstreams>) {
    loop {
        let upstreams = current.borrow_and_update().clone();
        let now = Instant::now().into_std();
        let next = upstreams
            .iter()
            .filter_map(|upstream| upstream.tend(now))
            .min();
        tokio::time::sleep(ROUND_GAP).await;
        tokio::select! {
            () = upstreams.alarm().heard() => {}
            () = until(next.map(Instant::from_std)) => {}
            changed = current.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

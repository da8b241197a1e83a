//! Checking the endpoints of an upstream: one loop for each endpoint, begun and ended as the set
//! changes.
//!
//! Must not: check in step. Endpoints that came together are checked at times that drift apart.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::jittered;
use crate::traffic::upstream::Upstream;
use crate::traffic::upstream::endpoint::{Endpoint, EndpointId};
use crate::traffic::upstream::settings::Settings;

/// Checks the endpoints of an upstream until the task is aborted.
pub(super) async fn watch(upstream: Arc<Upstream>, checks: Arc<Semaphore>) {
    let mut loops = JoinSet::new();
    let mut checked: HashMap<EndpointId, AbortHandle> = HashMap::new();
    loop {
        let set = upstream.endpoints();
        checked.retain(|id, handle| {
            let stays = set.contains(*id);
            if !stays {
                handle.abort();
            }
            stays
        });
        for endpoint in set.endpoints() {
            checked.entry(endpoint.id).or_insert_with(|| {
                let (upstream, endpoint) = (Arc::clone(&upstream), Arc::clone(endpoint));
                loops.spawn(check(upstream, endpoint, Arc::clone(&checks)))
            });
        }
        upstream.swapped().await;
        // Ended loops leave their results behind.
        while loops.try_join_next().is_some() {}
    }
}

/// Checks one endpoint, at once and then again and again.
async fn check(upstream: Arc<Upstream>, endpoint: Arc<Endpoint>, checks: Arc<Semaphore>) {
    let Some(settings) = &upstream.settings.health else {
        return;
    };
    loop {
        let result = {
            // The semaphore is never closed; without it the check would only be unbounded.
            let _place = checks.acquire().await;
            let Settings {
                tls,
                proxy_protocol,
                ..
            } = &upstream.settings;
            settings
                .check(&endpoint, tls.as_ref(), *proxy_protocol)
                .await
        };
        upstream.report_check(&endpoint, result);
        tokio::time::sleep(jittered(settings.interval)).await;
    }
}

//! The records that an order has in the DNS. They are written down before they are made, so that
//! whoever goes on with the order, or gives it up, can take them away.
//!
//! Must not: wait for a name server without end.

use serde::{Deserialize, Serialize};

use super::{Job, Underway, path, read};
use crate::error::Error;
use crate::settings::{Challenge, Issuer, Managed};
use crate::solver;
use crate::storage::Storage;

/// A record in the DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    host: String,
    value: String,
}

impl Underway {
    /// Writes down a record that is about to be made.
    pub(super) fn note_record(
        &mut self,
        job: &Job<'_>,
        host: &str,
        value: &str,
    ) -> Result<(), Error> {
        self.records.push(Record {
            host: host.to_owned(),
            value: value.to_owned(),
        });
        job.storage.write_json(&job.path(), self)
    }

    /// Takes the records away, each within the time of its solver.
    pub(super) async fn clear_records(&mut self, job: &Job<'_>) {
        self.clear(job.managed, job.issuer, job.storage).await;
    }

    async fn clear(&mut self, managed: &Managed, issuer: &Issuer, storage: &Storage) {
        let Challenge::Dns01(solver) = &issuer.challenge else {
            return;
        };
        if self.records.is_empty() {
            return;
        }
        for record in self.records.drain(..) {
            // A record that cannot be taken away does no harm: its token is used once.
            let _ = solver::clean_up(solver, &record.host, &record.value).await;
        }
        // Otherwise it is done once more.
        let _ = storage.write_json(&path(managed, issuer, storage), self);
    }
}

/// Takes away what the orders of a certificate have in the DNS: nobody goes on with them here.
pub(crate) async fn clean_up(managed: &Managed, storage: &Storage) {
    let mut issuers = managed.issuers.iter();
    // Thousands stop at once, and few have an order.
    let has_order = issuers.any(|issuer| path(managed, issuer, storage).exists());
    if !has_order {
        return;
    }
    // Whoever has the lock goes on with them.
    let Ok(Some(_lock)) = storage.try_lock(&managed.name) else {
        return;
    };
    for issuer in &managed.issuers {
        // An order that cannot be read is told when it is gone on with.
        if let Ok(Some(mut underway)) = read(&path(managed, issuer, storage), storage) {
            underway.clear(managed, issuer, storage).await;
        }
    }
}

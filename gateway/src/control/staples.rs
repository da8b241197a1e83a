//! What authorities say about the certificates in use, kept stapled while the process runs.
//!
//! Must not: hold up a reload; authorities are asked in the background.

use std::path::PathBuf;
use std::sync::Arc;

use cardea_acme::{StapleEvent, Stapler, Storage};
use cardea_certs::{Calendar, Certificate, LiveCertificates};
use cardea_config::model::Document;
use serde_json::{Value, json};

use crate::telemetry::logs::chain;

/// The staples of the process.
#[derive(Debug)]
pub(super) struct Staples {
    stapler: Arc<Stapler>,
}

impl Staples {
    pub(super) fn new(live: &Arc<LiveCertificates>) -> Self {
        Self {
            stapler: Arc::new(Stapler::new(Arc::clone(live), log)),
        }
    }

    /// Turns to what a configuration wants. What was kept is stapled when this returns.
    pub(super) fn configure(&self, document: &Document) {
        let own = document.ocsp.on().and_then(|ocsp| ocsp.storage.as_ref());
        let acme = document.acme.as_ref().map(|acme| &acme.storage);
        let storage = own.or(acme).map(|path| Storage::new(PathBuf::from(path)));
        self.stapler
            .configure(document.ocsp.on().is_some(), storage);
    }

    /// The certificates in use may be others than before.
    pub(super) fn look(&self) {
        self.stapler.look();
    }

    /// Asks authorities for as long as it is polled.
    pub(super) fn keep(&self) -> impl Future<Output = ()> + Send + 'static {
        let stapler = Arc::clone(&self.stapler);
        async move { stapler.keep().await }
    }

    /// Until when the staples count, by the names of their certificates, Unix time.
    pub(super) fn ends(&self) -> Vec<(String, i64)> {
        let ends = self.stapler.ends().into_iter();
        let seconds = |until: u64| i64::try_from(until).unwrap_or(i64::MAX);
        ends.map(|(name, until)| (name.to_string(), seconds(until.as_secs())))
            .collect()
    }

    /// How the staple of a certificate is doing, as the admin listener shows it.
    pub(super) fn report(&self, certificate: &Certificate) -> Value {
        let Some(status) = self.stapler.status(certificate) else {
            return Value::Null;
        };
        json!({
            "stapled_until": status.until.map(|until| Calendar(until).to_string()),
            "next": Calendar(status.next).to_string(),
            "error": status.error.as_ref().map(|error| chain(&**error)),
            "remedy": status.error.as_ref().map(|error| error.remedy()),
        })
    }
}

fn log(event: StapleEvent) {
    match event {
        StapleEvent::Stapled { certificate, until } => {
            let until = Calendar(until).to_string();
            tracing::info!(certificate = &*certificate, until, "ocsp_stapled");
        }
        StapleEvent::Failed { certificate, error } => tracing::warn!(
            certificate = &*certificate,
            remedy = error.remedy(),
            "ocsp_not_stapled: {}",
            chain(&*error)
        ),
        _ => {}
    }
}

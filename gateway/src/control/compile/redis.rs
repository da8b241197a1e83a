//! The Redis that gateways share, from the document: its files are read, nothing is connected.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cardea_certs::resumption::read_secret;
use cardea_certs::vault::{Vault, VaultSettings};
use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{self, Document};
use cardea_config::origin::Located;

use super::Found;
use crate::telemetry::logs::chain;

/// A Redis, as long as its settings are the same.
#[derive(Debug, Clone)]
pub struct SharedRedis {
    settings: VaultSettings,
    files: Vec<PathBuf>,
    vault: Arc<Vault>,
}

impl SharedRedis {
    /// The Redis of a document, the one before if nothing changed.
    pub fn compile(previous: Option<&Self>, document: &Document) -> Found<Option<Self>> {
        let Some(redis) = &document.redis else {
            return (Some(None), Vec::new());
        };
        let settings = match settings(redis) {
            Ok(settings) => settings,
            Err(problem) => return (None, vec![*problem]),
        };
        if let Some(previous) = previous.filter(|it| it.settings == settings) {
            return (Some(Some(previous.clone())), Vec::new());
        }
        let vault = match Vault::new(&settings) {
            Ok(vault) => vault,
            Err(error) => {
                let problem = Diagnostic::error("E-redis", Some(redis.origin), chain(&error));
                let remedy = "write `url` as `redis://HOST:6379/0`, or `rediss://` for TLS; \
                              `trust` is a PEM file with certificates";
                return (None, vec![problem.remedy(remedy)]);
            }
        };
        let trust = redis.trust.as_ref().map(PathBuf::from);
        let shared = Self {
            settings,
            files: trust
                .into_iter()
                .chain([PathBuf::from(&redis.secret)])
                .collect(),
            vault: Arc::new(vault),
        };
        (Some(Some(shared)), Vec::new())
    }

    /// What is shared by way of it.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The files that its settings are read from.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether a file holds something else by now, or cannot be used any more.
    pub fn is_outdated(&self, document: &Document) -> bool {
        let now = document.redis.as_ref().map(settings);
        !matches!(now, Some(Ok(now)) if now == self.settings)
    }
}

impl PartialEq for SharedRedis {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.vault, &other.vault)
    }
}

fn settings(redis: &Located<model::Redis>) -> Result<VaultSettings, Box<Diagnostic>> {
    let secret = read_secret(Path::new(&redis.secret)).map_err(|error| {
        let message = format!("`redis.secret`: {}", chain(&error));
        Diagnostic::error("E-redis", Some(redis.origin), message).remedy(error.remedy())
    })?;
    let trust = redis.trust.as_ref().map(|path| {
        std::fs::read(path).map_err(|error| {
            let message = format!("`redis.trust`: cannot read {path}: {error}");
            Diagnostic::error("E-redis", Some(redis.origin), message)
                .remedy("name a PEM file that the gateway's user can read")
        })
    });
    Ok(VaultSettings {
        url: redis.url.value().to_owned().into(),
        secret,
        trust: trust.transpose()?,
        prefix: redis.prefix.clone(),
        timeout: redis.timeout.0,
    })
}

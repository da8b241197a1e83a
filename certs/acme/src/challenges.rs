//! What an authority that looks for proof is shown: a file below `/.well-known/acme-challenge/`, or
//! a certificate in a handshake. Read by every worker, without locks; written by whoever orders, and
//! by whoever follows what other gateways put into the shared storage.
//!
//! Must not: know a token that no order of ours has.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use cardea_certs::provider;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::storage::Storage;

/// The protocol in which a handshake is a proof (RFC 8737 section 6.2).
pub(crate) const ALPN: &[u8] = b"acme-tls/1";

/// How long a challenge is answered: no authority takes a day to look.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest token that is looked up. RFC 8555 section 8.3 asks for 128 bits at least.
const TOKEN_BYTES_MAX: usize = 256;

/// Challenges that are answered at once; an order has one for each host.
const CHALLENGES_MAX: usize = 10_000;

/// What is answered at the moment.
#[derive(Debug, Default)]
pub struct Challenges {
    answers: ArcSwap<Answers>,
    /// Held while answers are replaced.
    writing: Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Answers {
    /// Key authorisations by token.
    files: HashMap<Box<str>, Arc<str>>,
    /// TLS configurations by host.
    handshakes: HashMap<Box<str>, Arc<ServerConfig>>,
    /// The challenges that these were made of, by token.
    known: HashMap<Box<str>, Stored>,
}

/// A challenge as it is kept for other gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    pub(crate) token: String,
    pub(crate) host: String,
    pub(crate) kind: Kind,
    /// The key authorisation, or its SHA-256 in hexadecimal for a handshake.
    pub(crate) proof: String,
    /// Until when it is answered, seconds since 1970.
    pub(crate) until: u64,
}

/// How a challenge is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    File,
    Handshake,
}

impl Challenges {
    /// What is below `/.well-known/acme-challenge/` under a token.
    pub fn file(&self, token: &[u8]) -> Option<Arc<str>> {
        let answers = self.answers.load();
        if answers.files.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let token = std::str::from_utf8(token).ok()?;
        answers.files.get(token).map(Arc::clone)
    }

    /// How the handshake is made with an authority that asks for a host under `acme-tls/1`.
    pub fn handshake(&self, host: &str) -> Option<Arc<ServerConfig>> {
        self.answers.load().handshakes.get(host).map(Arc::clone)
    }

    /// Whether a client offers the protocol in which a handshake is a proof.
    pub fn is_asked_in(hello: &ClientHello<'_>) -> bool {
        let mut offered = hello.alpn().into_iter().flatten();
        offered.any(|protocol| protocol == ALPN)
    }

    /// Answers a challenge here and, by way of the storage, at every gateway that shares it.
    pub(crate) fn present(&self, challenge: Stored, storage: &Storage) -> Result<(), Error> {
        storage.write_json(&storage.challenge(&challenge.token), &challenge)?;
        self.change(|answers| answers.add(challenge))
    }

    /// Answers a challenge no more.
    pub(crate) fn withdraw(&self, token: &str, storage: &Storage) -> Result<(), Error> {
        storage.remove(&storage.challenge(token))?;
        self.change(|answers| {
            answers.remove(token);
            Ok(())
        })
    }

    /// Answers what is in the storage, and nothing else.
    pub(crate) fn follow(&self, storage: &Storage) -> Result<(), Error> {
        let paths = storage.list(&storage.challenges())?;
        let now = secs(SystemTime::now());
        let stored = paths.iter().take(CHALLENGES_MAX);
        let stored = stored.filter_map(|path| current(storage, path, now));
        let stored: HashMap<Box<str>, Stored> = stored
            .map(|challenge| (challenge.token.clone().into(), challenge))
            .collect();
        if self.answers.load().known == stored {
            return Ok(());
        }
        self.change(|answers| {
            let gone: Vec<Box<str>> = answers
                .known
                .keys()
                .filter(|token| !stored.contains_key(*token))
                .cloned()
                .collect();
            for token in gone {
                answers.remove(&token);
            }
            for challenge in stored.into_values() {
                if answers.known.get(&*challenge.token) != Some(&challenge) {
                    answers.add(challenge)?;
                }
            }
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Answers) -> Result<(), Error>) -> Result<(), Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = Answers::clone(&self.answers.load());
        change(&mut answers)?;
        self.answers.store(Arc::new(answers));
        Ok(())
    }
}

/// A challenge in the storage that is still to be answered; one that is over is removed.
fn current(storage: &Storage, path: &Path, now: u64) -> Option<Stored> {
    // What another gateway is just removing, or wrote in another version, is none of ours.
    let challenge: Stored = storage.read_json(path).ok()??;
    if challenge.until <= now {
        let _ = storage.remove(path);
        return None;
    }
    Some(challenge)
}

impl Stored {
    pub(crate) fn new(kind: Kind, host: &str, token: &str, proof: String) -> Self {
        Self {
            token: token.to_owned(),
            host: host.to_ascii_lowercase(),
            kind,
            proof,
            until: secs(SystemTime::now() + LIFETIME),
        }
    }
}

impl Answers {
    fn add(&mut self, challenge: Stored) -> Result<(), Error> {
        if !is_token(&challenge.token) {
            return Ok(());
        }
        match challenge.kind {
            Kind::File => {
                let token = challenge.token.clone().into();
                self.files.insert(token, challenge.proof.as_str().into());
            }
            Kind::Handshake => {
                let config = handshake_config(&challenge.host, &challenge.proof)?;
                self.handshakes
                    .insert(challenge.host.clone().into(), config);
            }
        }
        self.known.insert(challenge.token.clone().into(), challenge);
        Ok(())
    }

    fn remove(&mut self, token: &str) {
        let Some(challenge) = self.known.remove(token) else {
            return;
        };
        match challenge.kind {
            Kind::File => {
                self.files.remove(token);
            }
            // A newer challenge for the host may have taken its place.
            Kind::Handshake => {
                let is_replaced = self
                    .known
                    .values()
                    .any(|other| other.kind == Kind::Handshake && other.host == challenge.host);
                if !is_replaced {
                    self.handshakes.remove(&*challenge.host);
                }
            }
        }
    }
}

/// Whether a text can be a token: base64url, as RFC 8555 section 8.1 has it.
pub(crate) fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.len() <= TOKEN_BYTES_MAX && text.bytes().all(fits)
}

/// A handshake with a certificate for the host that has the proof in it (RFC 8737 section 3).
fn handshake_config(host: &str, proof: &str) -> Result<Arc<ServerConfig>, Error> {
    let failed = |source| Error::Make {
        what: "the certificate of a challenge",
        source,
    };
    let digest = data_encoding::HEXLOWER.decode(proof.as_bytes());
    let digest = digest.unwrap_or_default();
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(
        &<[u8; 32]>::try_from(digest).unwrap_or_default(),
    )];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let refused = |source| {
        Error::Tls(cardea_certs::Error::Tls {
            what: "the handshake of a challenge",
            source,
        })
    };
    let provider = provider::provider();
    let signer = provider
        .key_provider
        .load_private_key(key)
        .map_err(refused)?;
    let chain = vec![CertificateDer::from(certificate)];
    let one = One(Arc::new(CertifiedKey::new(chain, signer)));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(one));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nobody comes back to such a session.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn secs(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;

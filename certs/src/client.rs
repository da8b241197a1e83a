//! The rustls configuration for connections to upstreams: whom they trust, and who we are.
//!
//! Built when a configuration is compiled. [`ClientConfigs`] hands the same configuration to
//! everyone with the same settings and the same file contents, and over reloads, because the
//! sessions to resume live in it: a new one would mean full handshakes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientSessionMemoryCache, Resumption, WebPkiServerVerifier};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier as PlatformVerifier;

use crate::error::{Error, Warning};
use crate::files::{self, ContentHash};
use crate::load::{self, Source};
use crate::peer::PeerRule;
use crate::provider;

mod named;
mod unverified;

use named::AcceptsByRule;
use unverified::AcceptsAnyCertificate;

/// Endpoints whose sessions one configuration remembers.
const SERVERS_REMEMBERED_MAX: usize = 1024;

/// How an upstream is spoken to over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ClientSettings {
    /// How much of the endpoint's certificate is verified, and against what.
    pub verify: Verify,
    /// Whose certificates count: whoever one of these rules means, instead of the name that is
    /// asked for. By the name if empty.
    pub allow: Vec<PeerRule>,
    /// Who we are, for endpoints that ask.
    pub identity: Option<ClientIdentity>,
    /// Protocols offered within TLS, the preferred one first.
    pub alpn: Vec<Vec<u8>>,
    /// The versions that may be spoken.
    pub versions: Versions,
}

/// The versions that may be spoken with endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    #[default]
    Both,
    /// TLS 1.2 alone.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// How an endpoint's certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Verify {
    /// Chain, dates and name, against the authorities that the system trusts.
    #[default]
    Platform,
    /// Chain, dates and name, against the authorities of a PEM file and no others.
    Authorities(PathBuf),
    /// **Nothing.** Whoever answers is trusted, whatever certificate they show: anyone between
    /// the gateway and the endpoint can read and change everything. For a network on which plain
    /// HTTP would do as well.
    Off,
}

/// The files of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientIdentity {
    /// The PEM file with the certificate and its issuers.
    pub chain: PathBuf,
    /// The PEM file with its private key.
    pub key: PathBuf,
}

impl ClientIdentity {
    /// What an operator should hear about the key's file.
    pub fn warning(&self) -> Option<Warning> {
        load::key_warning(&self.key, files::mode(&self.key)?)
    }
}

/// The configurations in use, one for each distinct setting.
#[derive(Debug, Default)]
pub struct ClientConfigs {
    cache: Mutex<Cache>,
}

/// Everything is held weakly, so that it goes when the last upstream with it does.
#[derive(Debug, Default)]
struct Cache {
    configs: HashMap<CacheKey, Weak<ClientConfig>>,
    /// The system's authorities: read once, not for each upstream.
    platform: Option<Weak<PlatformVerifier>>,
}

/// Settings and the contents of the files they name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    settings: ClientSettings,
    contents: Vec<ContentHash>,
}

/// What the files of some settings hold.
#[derive(Default)]
struct Contents {
    authorities: Option<files::FileContent>,
    identity: Option<Source>,
}

impl ClientConfigs {
    /// The configuration for some settings: one already in use if its files are as they were.
    /// Whoever keeps it keeps its sessions.
    pub fn config(&self, settings: &ClientSettings) -> Result<Arc<ClientConfig>, Error> {
        let now = UnixTime::now();
        let contents = Contents::read(settings, now)?;
        let key = CacheKey {
            settings: settings.clone(),
            contents: contents.hashes(),
        };
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = cache.configs.get(&key).and_then(Weak::upgrade) {
            return Ok(config);
        }
        let verifier = contents.verifier(settings, &mut cache)?;
        let config = Arc::new(contents.config(settings, verifier)?);
        cache.configs.retain(|_, config| config.strong_count() > 0);
        cache.configs.insert(key, Arc::downgrade(&config));
        Ok(config)
    }

    /// Whether files of these settings hold something else than what the configuration in use was
    /// built from; true also if none is in use, or a file cannot be read.
    pub fn is_outdated(&self, settings: &ClientSettings) -> bool {
        let Ok(contents) = Contents::read(settings, UnixTime::now()) else {
            return true;
        };
        let key = CacheKey {
            settings: settings.clone(),
            contents: contents.hashes(),
        };
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let config = cache.configs.get(&key);
        config.is_none_or(|config| config.strong_count() == 0)
    }
}

/// The name an endpoint has to prove: a DNS name, also sent as SNI, or an address.
pub fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    let invalid = || Error::InvalidName {
        name: name.to_owned(),
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(ServerName::from(address));
    }
    ServerName::try_from(name.to_owned()).map_err(|_| invalid())
}

impl Contents {
    fn read(settings: &ClientSettings, now: UnixTime) -> Result<Self, Error> {
        let authorities = match &settings.verify {
            Verify::Authorities(path) => Some(files::read(path, now)?),
            Verify::Platform | Verify::Off => None,
        };
        let identity = match &settings.identity {
            Some(identity) => Some(Source::read(&identity.chain, &identity.key, now)?),
            None => None,
        };
        Ok(Self {
            authorities,
            identity,
        })
    }

    fn hashes(&self) -> Vec<ContentHash> {
        let authorities = self.authorities.iter();
        authorities
            .map(|content| ContentHash::of(&[&content.bytes]))
            .chain(self.identity.iter().map(|source| source.hash))
            .collect()
    }

    fn config(
        &self,
        settings: &ClientSettings,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<ClientConfig, Error> {
        let versions = match settings.versions {
            Versions::Both => &[&TLS13, &TLS12][..],
            Versions::Tls12 => &[&TLS12],
            Versions::Tls13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider::provider())
            .with_protocol_versions(versions)
            .map_err(refused)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.certified_key(settings)? {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&settings.alpn);
        let memory = ClientSessionMemoryCache::new(SERVERS_REMEMBERED_MAX);
        config.resumption = Resumption::store(Arc::new(memory));
        Ok(config)
    }

    fn verifier(
        &self,
        settings: &ClientSettings,
        cache: &mut Cache,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let chains = self.chain_verifier(settings, cache)?;
        if settings.allow.is_empty() || settings.verify == Verify::Off {
            return Ok(chains);
        }
        let allow = settings.allow.clone();
        Ok(Arc::new(AcceptsByRule { chains, allow }))
    }

    fn chain_verifier(
        &self,
        settings: &ClientSettings,
        cache: &mut Cache,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        match (&settings.verify, &self.authorities) {
            (Verify::Off, _) => Ok(Arc::new(AcceptsAnyCertificate::new(provider::provider()))),
            (Verify::Authorities(path), Some(content)) => {
                let roots = Arc::new(roots(&content.bytes, path)?);
                let builder =
                    WebPkiServerVerifier::builder_with_provider(roots, provider::provider());
                let verifier = builder.build().map_err(|error| {
                    refused(rustls::Error::Other(rustls::OtherError(Arc::new(error))))
                })?;
                Ok(verifier)
            }
            // Without its content a file of authorities is an error before this.
            _ => Ok(cache.platform_verifier()?),
        }
    }

    fn certified_key(&self, settings: &ClientSettings) -> Result<Option<Arc<CertifiedKey>>, Error> {
        let (Some(identity), Some(source)) = (&settings.identity, &self.identity) else {
            return Ok(None);
        };
        let certificate = source.certificate(&identity.chain, &identity.key)?;
        Ok(Some(certificate.certified))
    }
}

impl Cache {
    /// Trust in whatever this system trusts. The one place that knows how systems keep that.
    fn platform_verifier(&mut self) -> Result<Arc<PlatformVerifier>, Error> {
        if let Some(verifier) = self.platform.as_ref().and_then(Weak::upgrade) {
            return Ok(verifier);
        }
        let verifier = PlatformVerifier::new(provider::provider())
            .map_err(|source| Error::NoPlatformRoots { source })?;
        let verifier = Arc::new(verifier);
        self.platform = Some(Arc::downgrade(&verifier));
        Ok(verifier)
    }
}

/// The authorities of a PEM file. All must be usable: to skip one would refuse endpoints later,
/// without a word.
pub(crate) fn roots(bytes: &[u8], path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in load::certificates(bytes, path)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|source| Error::UnusableRoot {
                path: path.to_owned(),
                position: index + 1,
                source,
            })?;
    }
    Ok(roots)
}

fn refused(source: rustls::Error) -> Error {
    Error::Tls {
        what: "TLS to the upstream",
        source,
    }
}

#[cfg(test)]
mod tests;

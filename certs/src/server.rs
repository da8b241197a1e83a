//! How TLS is spoken to clients: one [`ServerPolicy`] for each distinct set of rules, whichever
//! listeners and domains they are of. The gateway chooses among them by the name in each
//! ClientHello, before anything is agreed.
//!
//! Built when a configuration is compiled. Certificates and sessions are not in it: they live
//! longer, and the policy only refers to them.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, NamedGroup, ServerConfig};

use crate::error::Error;
use crate::files::ContentHash;
use crate::peer::PeerCertificate;
use crate::provider;
use crate::resumption::Resumption;

mod clients;

pub use clients::{ClientRules, CrlCheck, Presence};

use clients::Clients;

/// Tickets sent with a TLS 1.3 handshake. One: each is 175 to 195 bytes and two percent of the
/// handshake's CPU on every new connection, and a client that comes back on one connection at a
/// time gets its next ticket then.
const TICKETS_SENT: usize = 1;

/// Tickets sent at most to a client that asks for a number of them (RFC 9149), as it does when it
/// means to open several connections at once.
const TICKETS_ASKED_MAX: usize = 4;

/// The most that a client may send before its handshake is done, bytes: the head of a request.
const EARLY_BYTES_MAX: u32 = 16 * 1024;

/// The oldest TLS version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// How a listener, or a domain of it, speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicySettings {
    /// The oldest version.
    pub min_version: MinVersion,
    /// The only cipher suites that may be agreed on; all that there are if empty.
    pub cipher_suites: Vec<CipherSuite>,
    /// The only key exchanges that may be agreed on, the preferred one first; all if empty.
    pub groups: Vec<NamedGroup>,
    /// Protocols offered within TLS, the preferred one first.
    pub alpn: Vec<Vec<u8>>,
    /// Whether clients have to say who they are, and who may come; none if they are not asked.
    pub clients: Option<ClientRules>,
    /// Whether clients that come back may send a request with their first words (0-RTT). Sessions
    /// are remembered then instead of being handed out as tickets, each for one use, so that what
    /// comes early comes once (RFC 8446 section 8.1).
    pub early_data: bool,
}

/// What tells two policies apart for security: what was agreed and checked under one counts for
/// nothing under another. It holds the contents of the files, not their names, so a stricter list
/// of authorities or revocations begins anew; the protocols are not in it, as they are agreed anew
/// each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PolicyIdentity(ContentHash);

/// A set of rules, compiled.
#[derive(Debug)]
pub struct ServerPolicy {
    /// What rustls is given.
    pub config: Arc<ServerConfig>,
    /// What tells it from other policies.
    pub identity: PolicyIdentity,
    clients: Option<Arc<Clients>>,
}

impl ServerPolicy {
    /// Builds a policy; reads the files it names.
    pub fn compile(
        settings: &PolicySettings,
        certificates: Arc<dyn ResolvesServerCert>,
        resumption: &Resumption,
    ) -> Result<Arc<Self>, Error> {
        let provider = restricted(settings);
        let clients = match &settings.clients {
            Some(rules) => Some(Clients::load(rules, &provider, UnixTime::now())?),
            None => None,
        };
        let identity = identity(settings, clients.as_deref());
        let config = config(
            settings,
            provider,
            clients.clone(),
            certificates,
            resumption,
            identity,
        )?;
        Ok(Arc::new(Self {
            config: Arc::new(config),
            identity,
            clients,
        }))
    }

    /// Whether a client without a certificate gets no connection.
    pub fn demands_client(&self) -> bool {
        let clients = self.clients.as_ref();
        clients.is_some_and(|clients| clients.client_auth_mandatory())
    }

    /// The files that it was built from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.clients.iter().flat_map(|clients| clients.files())
    }

    /// Whether its files hold something else by now, or cannot be read any more.
    pub fn is_outdated(&self) -> bool {
        let now = UnixTime::now();
        let clients = self.clients.as_ref();
        clients.is_some_and(|clients| clients.is_outdated(now))
    }

    /// The client's certificate, as the handshake left it. A resumed session brings the one that
    /// was shown when it began: that is verified again, for it may have expired since.
    pub fn client(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        is_resumed: bool,
    ) -> Result<Option<PeerCertificate>, rustls::Error> {
        let (Some(clients), Some([leaf, issuers @ ..])) = (&self.clients, chain) else {
            return Ok(None);
        };
        if is_resumed {
            clients.verify_client_cert(leaf, issuers, UnixTime::now())?;
        }
        PeerCertificate::parse(leaf, issuers).map(Some)
    }
}

/// The provider with the suites and groups of a policy and no others.
fn restricted(settings: &PolicySettings) -> Arc<CryptoProvider> {
    let whole = provider::provider();
    if settings.cipher_suites.is_empty() && settings.groups.is_empty() {
        return whole;
    }
    let mut provider = whole.as_ref().clone();
    if !settings.cipher_suites.is_empty() {
        let allowed = &settings.cipher_suites;
        provider
            .cipher_suites
            .retain(|suite| allowed.contains(&suite.suite()));
    }
    if !settings.groups.is_empty() {
        provider.kx_groups = groups(&settings.groups, &whole);
    }
    Arc::new(provider)
}

fn groups(names: &[NamedGroup], whole: &CryptoProvider) -> Vec<&'static dyn SupportedKxGroup> {
    let found = |name: &NamedGroup| {
        let mut groups = whole.kx_groups.iter().copied();
        groups.find(|group| group.name() == *name)
    };
    names.iter().filter_map(found).collect()
}

fn identity(settings: &PolicySettings, clients: Option<&Clients>) -> PolicyIdentity {
    let agreed = format!(
        "{:?} {:?} {:?} {:?}",
        settings.min_version, settings.cipher_suites, settings.groups, settings.early_data
    );
    let clients = clients.map_or(&[][..], |clients| clients.identity().as_bytes());
    PolicyIdentity(ContentHash::of(&[agreed.as_bytes(), clients]))
}

fn config(
    settings: &PolicySettings,
    provider: Arc<CryptoProvider>,
    clients: Option<Arc<Clients>>,
    certificates: Arc<dyn ResolvesServerCert>,
    resumption: &Resumption,
    identity: PolicyIdentity,
) -> Result<ServerConfig, Error> {
    let versions = match settings.min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12][..],
        MinVersion::Tls13 => &[&TLS13][..],
    };
    let builder = ServerConfig::builder_with_details(provider, resumption.clock())
        .with_protocol_versions(versions)
        .map_err(|source| Error::Tls {
            what: "the TLS policy",
            source,
        })?;
    let verifier: Arc<dyn ClientCertVerifier> = match clients {
        Some(clients) => clients,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    let scope = resumption.scope(identity.0.as_bytes());
    config.session_storage = scope.sessions;
    config.alpn_protocols.clone_from(&settings.alpn);
    config.send_tls13_tickets = TICKETS_SENT;
    config.max_tls13_tickets = TICKETS_ASKED_MAX;
    if settings.early_data {
        config.max_early_data_size = EARLY_BYTES_MAX;
        // The answer need not wait for the end of the handshake either.
        config.send_half_rtt_data = true;
    } else {
        config.ticketer = scope.tickets;
    }
    // Phones without AES in hardware prefer ChaCha20, and know best.
    config.ignore_client_order = false;
    Ok(config)
}

#[cfg(test)]
mod tests;

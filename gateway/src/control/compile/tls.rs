//! How TLS is spoken on each listener, and for each domain that wants it otherwise. Whoever wants
//! the same shares one policy, whatever the number of domains.
//!
//! Must not: choose certificates, or read a file twice for the same settings.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use cardea_certs::local::{self, LocalNames};
use cardea_certs::server::{
    ClientRules, CrlCheck, MinVersion, PolicySettings, Presence, ServerPolicy,
};
use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{
    self, Alpn, ClientCertificates, ClientMode, Document, TlsGroup, TlsPolicy, TlsSuite,
    TlsVersion, UnknownNames,
};
use cardea_config::origin::{Located, Origin};
use rustls::pki_types::UnixTime;
use rustls::{CipherSuite, NamedGroup};

use super::certificates::Certificates;
use crate::telemetry::logs::chain;
use crate::traffic::peer;
use crate::traffic::tls::ListenerTls;

/// The distinct policies of a configuration.
#[derive(Debug, Default)]
pub struct Policies(Vec<Arc<ServerPolicy>>);

impl Policies {
    /// The files that they were built from.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().flat_map(|policy| policy.files().cloned())
    }

    /// Whether one of those files holds something else by now.
    pub fn is_outdated(&self) -> bool {
        self.0.iter().any(|policy| policy.is_outdated())
    }
}

/// Compiles the TLS sides of listeners.
pub(super) struct Compiler<'c> {
    document: &'c Document,
    certificates: &'c Certificates,
    /// What was compiled so far; nothing for what cannot be.
    known: HashMap<Key, Option<Arc<ServerPolicy>>>,
    local: Option<Arc<LocalNames>>,
    found: Vec<Diagnostic>,
}

/// What makes two policies one: how TLS is spoken, and what is shown for want of a certificate.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    policy: TlsPolicy,
    default: Option<Arc<str>>,
    is_local: bool,
    /// Whether HTTP is spoken in it. What streams pass on nobody looks at: no protocol can be agreed
    /// on, and no request that is safe to repeat be told from others.
    is_http: bool,
}

impl<'c> Compiler<'c> {
    pub(super) fn new(document: &'c Document, certificates: &'c Certificates) -> Self {
        Self {
            document,
            certificates,
            known: HashMap::new(),
            local: None,
            found: Vec::new(),
        }
    }

    /// The TLS side of a listener; none if it cannot be had.
    pub(super) fn listener(
        &mut self,
        settings: &model::ListenerTls,
        listener: &Located<model::Listener>,
    ) -> Option<ListenerTls> {
        let origin = listener.origin;
        let default = settings.default_certificate.as_ref();
        let wide = settings.policy();
        let key = |policy: TlsPolicy| Key {
            policy,
            default: default.map(|name| name.shared()),
            is_local: settings.unknown_names == UnknownNames::Local,
            is_http: listener.protocol.is_http(),
        };
        let policy = self.policy(key(wide.clone()), origin);
        let document = self.document;
        let has_own = document.domains.iter().any(|domain| domain.tls.is_some());
        let has_own = has_own && listener.protocol.is_http();
        let domains = document.domains.iter().take_while(|_| has_own);
        let by_domain = domains.map(|domain| {
            let own = domain.tls.as_deref()?.policy().over(wide.clone());
            self.policy(key(own), domain.origin)
        });
        let by_domain = by_domain.collect();
        Some(ListenerTls {
            certificates: Arc::clone(self.certificates.live()),
            policy: policy?,
            by_domain,
            refuses_unknown: settings.unknown_names == UnknownNames::Refuse,
        })
    }

    /// The policies made, and what was wrong with others.
    pub(super) fn finish(self) -> (Policies, Vec<Diagnostic>) {
        let policies = self.known.into_values().flatten();
        (Policies(policies.collect()), self.found)
    }

    fn policy(&mut self, key: Key, origin: Origin) -> Option<Arc<ServerPolicy>> {
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let compiled = match self.compile(&key) {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                let problem = Diagnostic::error("E-tls", Some(origin), chain(&error));
                self.found.push(problem.remedy(error.remedy()));
                None
            }
        };
        self.known.insert(key, compiled.clone());
        compiled
    }

    fn compile(&mut self, key: &Key) -> Result<Arc<ServerPolicy>, cardea_certs::Error> {
        let local = match key.is_local {
            true => Some(self.local_names()?),
            false => None,
        };
        let resolver = self.certificates.live();
        let resolver = resolver.resolver(key.default.clone(), local);
        let resumption = self.certificates.resumption();
        ServerPolicy::compile(&settings(key), resolver, resumption)
    }

    /// What makes certificates for names of this machine; the same for all listeners.
    fn local_names(&mut self) -> Result<Arc<LocalNames>, cardea_certs::Error> {
        if let Some(local) = &self.local {
            return Ok(Arc::clone(local));
        }
        let opened = LocalNames::open(&local::directory(), UnixTime::now())?;
        self.local = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

fn settings(key: &Key) -> PolicySettings {
    let policy = &key.policy;
    let protocols = policy.protocols().into_iter().filter(|_| key.is_http);
    let alpn = protocols.map(|protocol| match protocol {
        Alpn::Http2 => b"h2".to_vec(),
        Alpn::Http11 => b"http/1.1".to_vec(),
    });
    PolicySettings {
        min_version: match policy.oldest() {
            TlsVersion::V1_2 => MinVersion::Tls12,
            TlsVersion::V1_3 => MinVersion::Tls13,
        },
        cipher_suites: policy.suites().into_iter().map(suite).collect(),
        groups: policy.exchanges().into_iter().map(group).collect(),
        alpn: alpn.collect(),
        clients: policy.clients().map(client_rules),
        early_data: key.is_http && policy.takes_early_data(),
    }
}

fn suite(suite: TlsSuite) -> CipherSuite {
    match suite {
        TlsSuite::Aes256GcmSha384 => CipherSuite::TLS13_AES_256_GCM_SHA384,
        TlsSuite::Aes128GcmSha256 => CipherSuite::TLS13_AES_128_GCM_SHA256,
        TlsSuite::ChaCha20Poly1305Sha256 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        TlsSuite::EcdsaAes256GcmSha384 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TlsSuite::EcdsaAes128GcmSha256 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TlsSuite::EcdsaChaCha20Poly1305 => {
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        TlsSuite::RsaAes256GcmSha384 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        TlsSuite::RsaAes128GcmSha256 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TlsSuite::RsaChaCha20Poly1305 => CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group(group: TlsGroup) -> NamedGroup {
    match group {
        TlsGroup::X25519MlKem768 => NamedGroup::X25519MLKEM768,
        TlsGroup::X25519 => NamedGroup::X25519,
        TlsGroup::Secp256r1 => NamedGroup::secp256r1,
        TlsGroup::Secp384r1 => NamedGroup::secp384r1,
    }
}

fn client_rules(settings: &ClientCertificates) -> ClientRules {
    ClientRules {
        presence: match settings.mode {
            ClientMode::Required => Presence::Required,
            ClientMode::Optional => Presence::Optional,
        },
        authorities: PathBuf::from(&settings.ca),
        crls: settings.crl.iter().map(PathBuf::from).collect(),
        crl_check: match settings.crl_check {
            model::CrlCheck::Chain => CrlCheck::Chain,
            model::CrlCheck::Leaf => CrlCheck::Leaf,
        },
        issuers_max: usize::from(settings.issuers_max),
        allow: settings.allow.iter().map(peer::rule).collect(),
    }
}

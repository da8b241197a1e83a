//! What an ACME agent is told: the certificates that the document has ordered, and from whom.
//!
//! Must not: ask an authority anything, or make a file.

use std::path::PathBuf;
use std::sync::Arc;

use cardea_acme::{
    Challenge, Credentials, DnsHand, DnsSolver, ExternalAccount, Issuer, KeyKind, Managed, Rule,
    Settings, Storage, UpdateAlgorithm, UpdateKey,
};
use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{self, AcmeChallenge, AcmeKey, Document};
use cardea_config::origin::Located;
use data_encoding::{BASE64, BASE64URL_NOPAD};

use super::Found;
use super::redis::SharedRedis;

/// What an agent works on, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Acme {
    /// Where it keeps what it needs.
    pub storage: PathBuf,
    /// What it does.
    pub settings: Settings,
    /// What other gateways share it by, if not by the directory.
    pub redis: Option<SharedRedis>,
}

impl Acme {
    /// Compiles the orders of a document; none if it has no authorities.
    pub fn compile(document: &Document, redis: Option<&SharedRedis>) -> Found<Option<Self>> {
        let Some(acme) = &document.acme else {
            return (Some(None), Vec::new());
        };
        let mut found = Vec::new();
        let issuers: Vec<Arc<Issuer>> = acme
            .issuers
            .iter()
            .filter_map(|issuer| match compile_issuer(issuer) {
                Ok(issuer) => Some(Arc::new(issuer)),
                Err(problem) => {
                    found.push(*problem);
                    None
                }
            })
            .collect();
        let mut settings = Settings::default();
        for certificate in &document.certificates {
            let Some(order) = &certificate.acme else {
                continue;
            };
            let is_asked = |issuer: &&Arc<Issuer>| {
                let mut names = order.issuers.iter();
                order.issuers.is_empty() || names.any(|name| name.as_str() == &*issuer.name)
            };
            let name = certificate.name.shared();
            let issuers = issuers.iter().filter(is_asked).cloned().collect();
            match &order.on_demand {
                Some(on_demand) => settings.on_demand.push(rule(name, on_demand, issuers)),
                None => settings.certificates.push(Managed {
                    name,
                    hosts: hosts(document, certificate),
                    issuers,
                    is_on_demand: false,
                }),
            }
        }
        let compiled = Self {
            storage: PathBuf::from(&acme.storage),
            settings,
            redis: redis.filter(|_| acme.redis).cloned(),
        };
        (Some(Some(compiled)), found)
    }

    /// Where the certificates are.
    pub fn storage(&self) -> Storage {
        let root = self.storage.clone();
        match &self.redis {
            Some(redis) => Storage::shared(root, Arc::clone(redis.vault())),
            None => Storage::new(root),
        }
    }
}

/// A rule for certificates that are ordered when they are asked for.
pub(super) fn rule(name: Arc<str>, on_demand: &model::OnDemand, issuers: Vec<Arc<Issuer>>) -> Rule {
    let allow = on_demand.allow.iter().map(|host| host.as_str().to_owned());
    Rule {
        name,
        allow: allow.collect(),
        ask: on_demand.ask.clone(),
        certificates_max: on_demand.certificates_max as usize,
        orders_max: on_demand.orders_max as usize,
        orders_period: on_demand.orders_period.0,
        issuers,
    }
}

/// The hosts that a certificate is ordered for, in lower case.
pub(super) fn hosts(document: &Document, certificate: &model::Certificate) -> Vec<String> {
    let own = certificate.acme.iter().flat_map(|order| &order.hosts);
    let mut hosts: Vec<String> = own.map(|host| host.as_str().to_owned()).collect();
    if hosts.is_empty() {
        let chosen = document.domains.iter().filter(|domain| {
            let chosen = domain.certificate.as_ref();
            chosen.is_some_and(|name| name.value == certificate.name)
        });
        let names = chosen.flat_map(|domain| &domain.hosts);
        hosts.extend(names.map(|host| host.as_str().to_owned()));
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn compile_issuer(issuer: &Located<model::Issuer>) -> Result<Issuer, Box<Diagnostic>> {
    let external_account = match &issuer.external_account {
        Some(external) => {
            // With padding or without: authorities give both.
            let key = external.hmac_key.value().trim_end_matches('=');
            let key = BASE64URL_NOPAD.decode(key.as_bytes()).map_err(|_| {
                let message = format!("the `hmac_key` of issuer `{}` is no base64url", issuer.name);
                Diagnostic::error("E-hmac-key", Some(issuer.origin), message)
                    .remedy("write it as the authority gives it")
            });
            Some(ExternalAccount {
                key_id: external.key_id.clone(),
                hmac_key: key?.into(),
            })
        }
        None => None,
    };
    Ok(Issuer {
        name: issuer.name.shared(),
        directory: issuer.directory.url().to_owned(),
        contact: issuer.contact.clone(),
        external_account,
        profile: issuer.profile.clone(),
        challenge: challenge(issuer)?,
        key: match issuer.key {
            AcmeKey::P256 => KeyKind::P256,
            AcmeKey::P384 => KeyKind::P384,
            AcmeKey::Rsa2048 => KeyKind::Rsa2048,
        },
        trust: issuer.trust.as_ref().map(PathBuf::from),
        renew_at_percent_left: issuer.renew_at_percent_left,
    })
}

fn challenge(issuer: &Located<model::Issuer>) -> Result<Challenge, Box<Diagnostic>> {
    let solver = match &issuer.challenge {
        AcmeChallenge::Http01 => return Ok(Challenge::Http01),
        AcmeChallenge::TlsAlpn01 => return Ok(Challenge::TlsAlpn01),
        AcmeChallenge::Dns01(solver) => solver,
    };
    let (by, timeout, propagation) = match solver {
        model::DnsSolver::Exec(exec) => {
            let by = DnsHand::Exec(exec.command.clone());
            (by, exec.timeout, exec.propagation)
        }
        model::DnsSolver::Http(http) => {
            let by = DnsHand::Http {
                url: http.url.clone(),
                credentials: http.user.as_ref().map(|user| Credentials {
                    user: user.clone(),
                    password: http
                        .password
                        .as_ref()
                        .map_or_else(Default::default, |secret| secret.value().to_owned().into()),
                }),
            };
            (by, http.timeout, http.propagation)
        }
        model::DnsSolver::Rfc2136(update) => {
            let by = DnsHand::Update {
                server: update.server.clone(),
                zone: update.zone.clone(),
                key: update_key(issuer, update)?,
            };
            (by, update.timeout, update.propagation)
        }
    };
    Ok(Challenge::Dns01(DnsSolver {
        by,
        timeout: timeout.0,
        propagation: propagation.0,
    }))
}

fn update_key(
    issuer: &Located<model::Issuer>,
    update: &model::DnsUpdate,
) -> Result<UpdateKey, Box<Diagnostic>> {
    let secret = BASE64.decode(update.secret.value().trim().as_bytes());
    let secret = secret.ok().filter(|secret| !secret.is_empty());
    let secret = secret.ok_or_else(|| {
        let message = format!("the `secret` of issuer `{}` is no base64", issuer.name);
        Diagnostic::error("E-update-key", Some(issuer.origin), message)
            .remedy("write it as `tsig-keygen` or `keymgr` prints it")
    })?;
    Ok(UpdateKey {
        name: update.key.clone(),
        algorithm: match update.algorithm {
            model::UpdateAlgorithm::HmacSha256 => UpdateAlgorithm::HmacSha256,
            model::UpdateAlgorithm::HmacSha384 => UpdateAlgorithm::HmacSha384,
            model::UpdateAlgorithm::HmacSha512 => UpdateAlgorithm::HmacSha512,
        },
        secret: secret.into(),
    })
}

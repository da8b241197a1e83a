//! One certificate from one authority. Each step that cannot be repeated is written down before the
//! next, so that an order goes on where it stood when its process was killed: an authority counts
//! orders, and patience with those who forget theirs is short.
//!
//! Must not: keep a certificate that it did not check.

use std::path::Path;
use std::time::Duration;

use instant_acme::{
    AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Identifier,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::account::Access;
use crate::agent::CHALLENGES_EVERY;
use crate::challenges::{Challenges, Kind, Stored, is_token};
use crate::error::Error;
use crate::settings::{Challenge, Issuer, KeyKind, Managed};
use crate::solver;
use crate::storage::Storage;

/// How long an authority may take to look for proof, and to issue.
const AUTHORITY_TIME_MAX: Duration = Duration::from_secs(120);

/// How an authority is asked whether it is done.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(AUTHORITY_TIME_MAX);

/// What an order needs.
pub(crate) struct Job<'j> {
    pub(crate) managed: &'j Managed,
    pub(crate) issuer: &'j Issuer,
    pub(crate) storage: &'j Storage,
    pub(crate) challenges: &'j Challenges,
}

/// An order under way, as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Underway {
    url: String,
    directory: String,
    hosts: Vec<String>,
    /// The key, once there is one: the authority may have seen it.
    key: Option<Zeroizing<String>>,
}

/// A proof that was laid out, to be taken away at the end.
enum Laid {
    Token(String),
    Record { host: String, value: String },
}

impl Job<'_> {
    /// Gets a certificate: its bundle, key first. `replaces` is the one that it follows, where the
    /// authority wants to be told (RFC 9773 section 5).
    pub(crate) async fn run(
        &self,
        access: &Access,
        replaces: Option<CertificateIdentifier<'_>>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let result = self.obtain(access, replaces).await;
        match &result {
            // It can go on where it stood.
            Err(error) if is_passing(error) => {}
            // Done, or of no more use: the next one begins anew.
            _ => self.storage.remove(&self.path())?,
        }
        result
    }

    fn path(&self) -> std::path::PathBuf {
        self.storage.order(&self.managed.name)
    }

    async fn obtain(
        &self,
        access: &Access,
        replaces: Option<CertificateIdentifier<'_>>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (mut order, mut underway) = match self.resume(access).await? {
            Some(resumed) => resumed,
            None => self.begin(access, replaces).await?,
        };
        if order.state().status == OrderStatus::Pending {
            self.prove(access, &mut order).await?;
        }
        let key = match underway.key.take() {
            Some(key) => key,
            None => make_key(self.issuer.key)?,
        };
        if order.state().status == OrderStatus::Ready {
            underway.key = Some(key.clone());
            self.storage.write_json(&self.path(), &underway)?;
            let request = request(&self.managed.hosts, &key)?;
            let finalized = order.finalize_csr(&request).await;
            finalized
                .map_err(|source| access.client.failed("asking for the certificate", source))?;
        }
        let chain = order.poll_certificate(&PATIENCE).await;
        let chain =
            chain.map_err(|source| access.client.failed("fetching the certificate", source))?;
        let bundle = Zeroizing::new(format!("{}{chain}", *key).into_bytes());
        check(
            &bundle,
            &self.managed.hosts,
            &self.storage.bundle(&self.managed.name),
        )?;
        Ok(bundle)
    }

    /// The order that was under way, if it is still of use.
    async fn resume(&self, access: &Access) -> Result<Option<(Order, Underway)>, Error> {
        let Ok(Some(underway)) = self.storage.read_json::<Underway>(&self.path()) else {
            return Ok(None);
        };
        let is_same =
            underway.hosts == self.managed.hosts && underway.directory == self.issuer.directory;
        if !is_same {
            return Ok(None);
        }
        match access.account.order(underway.url.clone()).await {
            Ok(mut order) => {
                let state = order.state();
                let is_of_use = match state.status {
                    OrderStatus::Pending | OrderStatus::Ready => state.error.is_none(),
                    // Without the key the certificate is worth nothing.
                    OrderStatus::Processing | OrderStatus::Valid => underway.key.is_some(),
                    OrderStatus::Invalid => false,
                };
                Ok(is_of_use.then_some((order, underway)))
            }
            Err(source) => {
                let error = access.client.failed("looking for the order", source);
                // The authority has forgotten it, so there is nothing to go on with.
                match is_passing(&error) {
                    true => Err(error),
                    false => Ok(None),
                }
            }
        }
    }

    async fn begin(
        &self,
        access: &Access,
        replaces: Option<CertificateIdentifier<'_>>,
    ) -> Result<(Order, Underway), Error> {
        let hosts = self.managed.hosts.iter();
        let hosts: Vec<Identifier> = hosts.map(|host| identifier(host)).collect();
        let mut new = NewOrder::new(&hosts);
        if let Some(profile) = &self.issuer.profile {
            new = new.profile(profile);
        }
        if let Some(replaces) = replaces {
            new = new.replaces(replaces);
        }
        let order = access.account.new_order(&new).await;
        let order = order.map_err(|source| access.client.failed("ordering", source))?;
        let underway = Underway {
            url: order.url().to_owned(),
            directory: self.issuer.directory.clone(),
            hosts: self.managed.hosts.clone(),
            key: None,
        };
        self.storage.write_json(&self.path(), &underway)?;
        Ok((order, underway))
    }

    /// Shows that the hosts are ours, and waits until the authority believes it.
    async fn prove(&self, access: &Access, order: &mut Order) -> Result<(), Error> {
        let mut laid = Vec::new();
        let result = self.prove_with(access, order, &mut laid).await;
        // Whatever came of it, nothing is left lying about; what cannot be taken away is over in
        // a day.
        for proof in laid {
            let _ = self.take_away(proof).await;
        }
        result
    }

    async fn prove_with(
        &self,
        access: &Access,
        order: &mut Order,
        laid: &mut Vec<Laid>,
    ) -> Result<(), Error> {
        self.lay_out(access, order, laid).await?;
        if !laid.is_empty() {
            let seen_after = match &self.issuer.challenge {
                Challenge::Dns01(solver) => solver.propagation,
                // The authority may come to any gateway that shares the storage.
                Challenge::Http01 | Challenge::TlsAlpn01 => CHALLENGES_EVERY.mul_f64(2.5),
            };
            tokio::time::sleep(seen_after).await;
        }
        self.set_ready(access, order).await?;
        let status = order.poll_ready(&PATIENCE).await;
        match status {
            Ok(OrderStatus::Invalid) => Err(why_unproven(access, order).await),
            Ok(_) => Ok(()),
            Err(instant_acme::Error::Api(_)) => Err(why_unproven(access, order).await),
            Err(instant_acme::Error::Timeout(_)) => Err(Error::Slow {
                step: "the authority's search for proof",
                after: AUTHORITY_TIME_MAX,
            }),
            Err(source) => Err(access.client.failed("waiting for the authority", source)),
        }
    }

    /// Lays out the proof for every host that still needs one.
    async fn lay_out(
        &self,
        access: &Access,
        order: &mut Order,
        laid: &mut Vec<Laid>,
    ) -> Result<(), Error> {
        let failed = |source| access.client.failed("reading the authorisations", source);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let host = host_of(&authorization);
            let offered = offered(&authorization);
            let (kind, name) = wanted(&self.issuer.challenge);
            let Some(challenge) = authorization.challenge(kind) else {
                return Err(Error::NoChallenge {
                    host,
                    wanted: name,
                    offered,
                });
            };
            let proof = challenge.key_authorization();
            let token = challenge.token.clone();
            if !is_token(&token) && !matches!(self.issuer.challenge, Challenge::Dns01(_)) {
                return Err(failed(instant_acme::Error::Str("a token")));
            }
            let kept = match &self.issuer.challenge {
                Challenge::Http01 => {
                    let proof = proof.as_str().to_owned();
                    Stored::new(Kind::File, &host, &token, proof)
                }
                Challenge::TlsAlpn01 => {
                    let digest = data_encoding::HEXLOWER.encode(proof.digest().as_ref());
                    Stored::new(Kind::Handshake, &host, &token, digest)
                }
                Challenge::Dns01(solver) => {
                    let value = proof.dns_value();
                    laid.push(Laid::Record {
                        host: host.clone(),
                        value: value.clone(),
                    });
                    solver::present(solver, &host, &value).await?;
                    continue;
                }
            };
            laid.push(Laid::Token(token));
            self.challenges.present(kept, self.storage)?;
        }
        Ok(())
    }

    /// Tells the authority that it may look.
    async fn set_ready(&self, access: &Access, order: &mut Order) -> Result<(), Error> {
        let failed = |source| access.client.failed("asking the authority to look", source);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let (kind, _) = wanted(&self.issuer.challenge);
            if let Some(mut challenge) = authorization.challenge(kind)
                && challenge.status == ChallengeStatus::Pending
            {
                challenge.set_ready().await.map_err(failed)?;
            }
        }
        Ok(())
    }

    async fn take_away(&self, proof: Laid) -> Result<(), Error> {
        match (proof, &self.issuer.challenge) {
            (Laid::Token(token), _) => self.challenges.withdraw(&token, self.storage),
            (Laid::Record { host, value }, Challenge::Dns01(solver)) => {
                solver::clean_up(solver, &host, &value).await
            }
            (Laid::Record { .. }, _) => Ok(()),
        }
    }
}

/// Whether an order can go on after an error, when it is tried again.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Authority { source, .. } => match source {
            instant_acme::Error::Api(problem) => {
                let is_server = problem.status.is_some_and(|status| status >= 500);
                let kind = error.problem();
                is_server || matches!(kind, Some("badNonce" | "rateLimited" | "serverInternal"))
            }
            _ => true,
        },
        Error::Slow { .. } | Error::Storage { .. } => true,
        _ => false,
    }
}

fn identifier(host: &str) -> Identifier {
    match host.parse() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(host.to_owned()),
    }
}

/// The host of an authorisation, without the wildcard that it may be for.
fn host_of(authorization: &instant_acme::AuthorizationState) -> String {
    match authorization.identifier().identifier {
        Identifier::Dns(host) => host.clone(),
        Identifier::Ip(address) => address.to_string(),
        other => format!("{other:?}"),
    }
}

fn wanted(challenge: &Challenge) -> (ChallengeType, &'static str) {
    match challenge {
        Challenge::Http01 => (ChallengeType::Http01, "http-01"),
        Challenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        Challenge::Dns01(_) => (ChallengeType::Dns01, "dns-01"),
    }
}

fn offered(authorization: &instant_acme::AuthorizationState) -> String {
    let kinds = authorization.challenges.iter().map(|it| match &it.r#type {
        ChallengeType::Http01 => "http-01".to_owned(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".to_owned(),
        ChallengeType::Dns01 => "dns-01".to_owned(),
        other => format!("{other:?}"),
    });
    kinds.collect::<Vec<_>>().join(", ")
}

/// What the authority found instead of the proof.
async fn why_unproven(access: &Access, order: &mut Order) -> Error {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        if authorization.refresh().await.is_err() {
            continue;
        }
        let host = host_of(&authorization);
        let mut faults = authorization.challenges.iter();
        if let Some(problem) = faults.find_map(|challenge| challenge.error.as_ref()) {
            let detail = problem.detail.clone();
            return Error::Unproven {
                host,
                detail: detail.unwrap_or_else(|| "it does not say why".to_owned()),
            };
        }
    }
    let source = instant_acme::Error::Str("the reason why the order became invalid");
    access.client.failed("the order", source)
}

fn make_key(kind: KeyKind) -> Result<Zeroizing<String>, Error> {
    let key = match kind {
        KeyKind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyKind::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    };
    let key = key.map_err(|source| Error::Make {
        what: "a key",
        source,
    })?;
    Ok(Zeroizing::new(key.serialize_pem()))
}

fn request(hosts: &[String], key: &str) -> Result<Vec<u8>, Error> {
    let make = || {
        let key = KeyPair::from_pem(key)?;
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&key)
    };
    let request = make().map_err(|source| Error::Make {
        what: "a certificate request",
        source,
    })?;
    Ok(request.der().to_vec())
}

/// Whether a bundle can be served for the hosts.
fn check(bundle: &[u8], hosts: &[String], path: &Path) -> Result<(), Error> {
    let certificate = cardea_certs::parse(bundle, path).map_err(Error::Useless)?;
    let covers = |host: &&String| match host.strip_prefix("*.") {
        Some(_) => certificate
            .details
            .names
            .iter()
            .any(|name| **name == host.to_ascii_lowercase()),
        None => certificate.details.covers(&host.to_ascii_lowercase()),
    };
    match hosts.iter().find(|host| !covers(host)) {
        None => Ok(()),
        Some(missing) => Err(Error::NotCovered {
            host: missing.clone(),
        }),
    }
}

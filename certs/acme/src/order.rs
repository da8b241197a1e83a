//! One certificate from one authority. Each step that cannot be repeated is written down before it
//! is taken, so that an order goes on where it stood when its process was killed: an authority counts
//! orders, and patience with those who forget theirs is short.
//!
//! The file of an order holds the only copy of its key until the bundle with both is on the disk.
//!
//! Must not: keep a certificate that it did not check, or let go of an order before the certificate.

use std::path::Path;
use std::time::Duration;

use instant_acme::{CertificateIdentifier, Identifier, NewOrder, Order, OrderStatus, RetryPolicy};
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::account::Access;
use crate::challenges::Challenges;
use crate::client::last_head;
use crate::error::Error;
use crate::settings::{Issuer, KeyKind, Managed};
use crate::storage::Storage;

mod prove;
mod records;

use records::Record;
pub(crate) use records::clean_up;

/// How long an authority may take to look for proof, and to issue.
const AUTHORITY_TIME_MAX: Duration = Duration::from_secs(120);

/// Attempts in a row after an answer that only wanted another nonce.
pub(crate) const NONCES_MAX: u32 = 50;

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
    /// None until the authority has answered.
    url: Option<String>,
    directory: String,
    profile: Option<String>,
    hosts: Vec<String>,
    key: Zeroizing<String>,
    /// What was, or is about to be, put into the DNS for it.
    records: Vec<Record>,
}

impl Job<'_> {
    /// Gets a certificate, and leaves it in the storage. `replaces` is the one that it follows, where
    /// the authority wants to be told (RFC 9773 section 5).
    pub(crate) async fn run(
        &self,
        access: &Access,
        replaces: Option<CertificateIdentifier<'_>>,
    ) -> Result<(), Error> {
        let result = self.obtain(access, replaces).await;
        match &result {
            // Nobody needs another one. What cannot be removed is known by its key.
            Ok(()) => {
                for issuer in &self.managed.issuers {
                    let _ = self
                        .storage
                        .remove(&path(self.managed, issuer, self.storage));
                }
            }
            Err(error) if is_end(error) => {
                let _ = self.storage.remove(&self.path());
            }
            // It can go on where it stood.
            Err(_) => {}
        }
        result
    }

    fn path(&self) -> std::path::PathBuf {
        path(self.managed, self.issuer, self.storage)
    }

    async fn obtain(
        &self,
        access: &Access,
        replaces: Option<CertificateIdentifier<'_>>,
    ) -> Result<(), Error> {
        let (mut order, mut underway) = match self.resume(access).await? {
            Some(resumed) => resumed,
            None => self.begin(access, replaces).await?,
        };
        if order.state().status == OrderStatus::Pending {
            self.prove(access, &mut order, &mut underway).await?;
        }
        if order.state().status == OrderStatus::Ready {
            let request = request(&self.managed.hosts, &underway.key)?;
            let finalized = order.finalize_csr(&request).await;
            finalized
                .map_err(|source| access.client.failed("asking for the certificate", source))?;
        }
        let chain = order.poll_certificate(&PATIENCE).await;
        let chain =
            chain.map_err(|source| access.client.failed("fetching the certificate", source))?;
        let bundle = Zeroizing::new(format!("{}{chain}", *underway.key).into_bytes());
        let path = self.storage.bundle(&self.managed.name);
        check(&bundle, &self.managed.hosts, &path)?;
        self.storage.write(&path, &bundle)
    }

    /// The order that was under way, if it is still of use.
    async fn resume(&self, access: &Access) -> Result<Option<(Order, Underway)>, Error> {
        let Some(mut underway) = read(&self.path(), self.storage)? else {
            return Ok(None);
        };
        // Whoever put them there was killed before it could take them away.
        underway.clear_records(self).await;
        let bundle = self
            .storage
            .read(&self.storage.bundle(&self.managed.name))?;
        let is_done = bundle.is_some_and(|it| it.starts_with(underway.key.as_bytes()));
        let is_same = underway.hosts == self.managed.hosts
            && underway.directory == self.issuer.directory
            && underway.profile == self.issuer.profile;
        let url = underway.url.clone().filter(|_| is_same && !is_done);
        let Some(url) = url else {
            return Ok(None);
        };
        match access.account.order(url).await {
            Ok(mut order) => {
                let state = order.state();
                let is_of_use = state.status != OrderStatus::Invalid && state.error.is_none();
                Ok(is_of_use.then_some((order, underway)))
            }
            Err(source) => {
                let error = access.client.failed("looking for the order", source);
                // The authority has forgotten it, so there is nothing to go on with.
                match is_end(&error) {
                    true => Ok(None),
                    false => Err(error),
                }
            }
        }
    }

    async fn begin(
        &self,
        access: &Access,
        replaces: Option<CertificateIdentifier<'_>>,
    ) -> Result<(Order, Underway), Error> {
        let mut underway = Underway {
            url: None,
            directory: self.issuer.directory.clone(),
            profile: self.issuer.profile.clone(),
            hosts: self.managed.hosts.clone(),
            key: make_key(self.issuer.key)?,
            records: Vec::new(),
        };
        // An order that cannot be written down would be forgotten, and made again and again.
        self.storage.write_json(&self.path(), &underway)?;
        let order = match replaces {
            None => self.order(access, None).await?,
            Some(replaces) => match self.order(access, Some(replaces)).await {
                // It has a successor by now, or the authority does not know it.
                Err(error) if error.is_of_replacement() => self.order(access, None).await?,
                order => order?,
            },
        };
        underway.url = Some(order.url().to_owned());
        self.storage.write_json(&self.path(), &underway)?;
        Ok((order, underway))
    }

    async fn order(
        &self,
        access: &Access,
        replaces: Option<CertificateIdentifier<'_>>,
    ) -> Result<Order, Error> {
        let failed = |source| access.client.failed("ordering", source);
        let hosts = self.managed.hosts.iter();
        let hosts: Vec<Identifier> = hosts.map(|host| identifier(host)).collect();
        let mut new = NewOrder::new(&hosts);
        if let Some(profile) = &self.issuer.profile {
            new = new.profile(profile);
        }
        if let Some(replaces) = replaces {
            new = new.replaces(replaces);
        }
        let source = match access.account.new_order(&new).await {
            Ok(order) => return Ok(order),
            Err(source) => source,
        };
        let head = last_head();
        match head.location.filter(|_| head.status == Some(201)) {
            // There is one. It does not say what it replaces, as it must (RFC 9773 section 5), but
            // the certificate is what counts.
            Some(url) => access.account.order(url).await.map_err(failed),
            None => Err(failed(source)),
        }
    }
}

fn path(managed: &Managed, issuer: &Issuer, storage: &Storage) -> std::path::PathBuf {
    storage.order(&managed.name, &issuer.name)
}

/// The order in a file. One that is damaged may have a key in it: it is set aside.
fn read(path: &Path, storage: &Storage) -> Result<Option<Underway>, Error> {
    match storage.read_json(path) {
        Err(Error::Damaged { .. }) => storage.set_aside(path).map(|_| None),
        read => read,
    }
}

/// Whether an order is over after an error, and another one has to be made.
fn is_end(error: &Error) -> bool {
    match error {
        Error::Authority {
            source: instant_acme::Error::Api(problem),
            status,
            ..
        } => {
            let is_busy = |status: u16| status >= 500 || status == 429;
            let is_busy = problem.status.is_some_and(is_busy) || status.is_some_and(is_busy);
            let kind = error.problem();
            !is_busy && !matches!(kind, Some("badNonce" | "rateLimited" | "serverInternal"))
        }
        // Whatever else stands in the answer.
        Error::Authority {
            status: Some(404 | 410),
            ..
        }
        | Error::Unproven { .. }
        | Error::Useless(_)
        | Error::NotCovered { .. }
        | Error::Make { .. } => true,
        _ => false,
    }
}

fn identifier(host: &str) -> Identifier {
    match host.parse() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(host.to_owned()),
    }
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

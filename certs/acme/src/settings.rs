//! What an agent is told to do.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

/// Everything an agent does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The certificates to keep.
    pub certificates: Vec<Managed>,
    /// What is ordered when it is asked for.
    pub on_demand: Vec<Rule>,
}

/// Which certificates are ordered when somebody asks for their hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What the names of its certificates begin with.
    pub name: Arc<str>,
    /// The hosts that may have one: whole, or `*.` and what they end in. Empty if `ask` alone says.
    pub allow: Vec<String>,
    /// Who is asked as well.
    pub ask: Option<String>,
    /// The most certificates that it may come to.
    pub certificates_max: usize,
    /// The most orders within a period.
    pub orders_max: usize,
    /// The period.
    pub orders_period: Duration,
    /// Who is asked for certificates.
    pub issuers: Vec<Arc<Issuer>>,
}

impl Rule {
    /// Whether a host, in lower case, may have a certificate by it.
    pub fn allows(&self, host: &str) -> bool {
        if self.allow.is_empty() {
            return self.ask.is_some() && !host.is_empty();
        }
        let mut patterns = self.allow.iter();
        patterns.any(|pattern| match pattern.strip_prefix('*') {
            // At least a letter before the dot.
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => pattern == host,
        })
    }

    /// The certificate for a host.
    pub(crate) fn managed(&self, host: &str) -> Managed {
        Managed {
            name: on_demand_name(&self.name, host),
            hosts: vec![host.to_owned()],
            issuers: self.issuers.clone(),
            is_on_demand: true,
        }
    }
}

/// The name of the certificate that a rule ordered for a host.
pub fn on_demand_name(rule: &str, host: &str) -> Arc<str> {
    format!("{rule}@{host}").into()
}

/// A certificate to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// Its name in configuration and storage.
    pub name: Arc<str>,
    /// The hosts it is for, at least one; wildcards as `*.example.com`.
    pub hosts: Vec<String>,
    /// Who is asked for it, in this order: the next one when one fails.
    pub issuers: Vec<Arc<Issuer>>,
    /// Whether it was ordered because somebody asked for it. It is let go of if it cannot be had, or
    /// not be renewed until it ends.
    pub is_on_demand: bool,
}

/// An authority, and how it is dealt with.
#[derive(Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in configuration and log.
    pub name: Arc<str>,
    /// The URL of its directory.
    pub directory: String,
    /// Mail addresses it may write to, without `mailto:`.
    pub contact: Vec<String>,
    /// The account elsewhere that the one here belongs to, for authorities that ask for it.
    pub external_account: Option<ExternalAccount>,
    /// The profile of its certificates; the authority's default if none.
    pub profile: Option<String>,
    /// How it is shown that the hosts are ours.
    pub challenge: Challenge,
    /// The kind of key to make.
    pub key: KeyKind,
    /// A PEM file with the authorities to trust when talking to it; those of the system if none.
    pub trust: Option<PathBuf>,
    /// The part of a certificate's life, in percent, at whose beginning it is renewed, where the
    /// authority does not say when.
    pub renew_at_percent_left: u8,
}

/// An account elsewhere (RFC 8555 section 7.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its identifier.
    pub key_id: String,
    /// The key that proves it is ours.
    pub hmac_key: Zeroizing<Vec<u8>>,
}

/// How it is shown that a host is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A file on port 80 (RFC 8555 section 8.3).
    Http01,
    /// A certificate in a handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// A record in the DNS (RFC 8555 section 8.4): the only way to wildcards.
    Dns01(DnsSolver),
}

/// Who puts records into the DNS, and how long that takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSolver {
    /// Who does it.
    pub by: DnsHand,
    /// How long it may take.
    pub timeout: Duration,
    /// How long the record takes to be seen everywhere.
    pub propagation: Duration,
}

/// Who puts records into the DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsHand {
    /// A program, with its first arguments: run with `present` or `cleanup`, the record's name and
    /// its value.
    Exec(Vec<String>),
    /// A service that takes what lego's `httpreq` provider sends.
    Http {
        /// Its URL; `/present` and `/cleanup` are below it.
        url: String,
        /// Its user and password.
        credentials: Option<Credentials>,
    },
    /// The name server itself (RFC 2136), told in messages that a key signs (RFC 8945).
    Update {
        /// Its name or address, with the port.
        server: String,
        /// The zone of the records; the server is asked where there is none.
        zone: Option<String>,
        /// The key that the server knows us by.
        key: UpdateKey,
    },
}

/// A key that the gateway and a name server share.
#[derive(Clone, PartialEq, Eq)]
pub struct UpdateKey {
    /// Its name.
    pub name: String,
    /// What it is used for.
    pub algorithm: UpdateAlgorithm,
    /// The key itself.
    pub secret: Zeroizing<Vec<u8>>,
}

/// How messages to a name server are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateAlgorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

impl fmt::Debug for UpdateKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("UpdateKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on P-256: the cheapest to sign with.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 bits, for clients that know nothing else.
    Rsa2048,
}

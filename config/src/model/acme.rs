//! Certificates from authorities that speak ACME: whom to ask, how to show that hosts are ours, and
//! where all of it is kept.
//!
//! Must not: ask anybody anything.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;
use super::value::{HostPattern, Name, Period, text_value};
use super::{FilePath, SecretText};
use crate::origin::Located;

/// How certificates are had from authorities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// The directory for accounts, keys and certificates. Gateways that share it agree on who
    /// orders, and all of them answer what an authority asks.
    pub storage: FilePath,
    /// Whether what is in it, and its locks, are shared by way of `redis` as well, by gateways that
    /// have directories of their own.
    #[serde(default)]
    pub redis: bool,
    /// The authorities.
    pub issuers: Vec<Located<Issuer>>,
}

/// An authority, and how it is dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Its name, for certificates to refer to.
    pub name: Name,
    /// Its directory: a URL, or `letsencrypt`, `letsencrypt_staging`, `zerossl`, `google`.
    pub directory: AcmeDirectory,
    /// Whether you agree to its terms; there is no account without it.
    #[serde(default)]
    pub terms_agreed: bool,
    /// Mail addresses that it may write to.
    #[serde(default)]
    pub contact: Vec<String>,
    /// The account elsewhere that the one here belongs to, for authorities that ask for it.
    #[serde(default)]
    pub external_account: Option<ExternalAccount>,
    /// The profile of its certificates; its default if not set.
    #[serde(default)]
    pub profile: Option<String>,
    /// How it is shown that the hosts are ours.
    #[serde(default = "http_01")]
    pub challenge: AcmeChallenge,
    /// The kind of key.
    #[serde(default = "p256")]
    pub key: AcmeKey,
    /// A PEM file with the authorities to trust when talking to it; those of the system if not
    /// set.
    #[serde(default)]
    pub trust: Option<FilePath>,
    /// The part of a certificate's life, in percent, with which left it is renewed where the
    /// authority does not say when.
    #[serde(default = "third", deserialize_with = "percent")]
    pub renew_at_percent_left: u8,
}

const fn http_01() -> AcmeChallenge {
    AcmeChallenge::Http01
}

const fn p256() -> AcmeKey {
    AcmeKey::P256
}

const fn third() -> u8 {
    33
}

fn percent<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    text::within(deserializer, 1..=90, "part of a life in percent")
}

/// The directory of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeDirectory {
    written: Box<str>,
    url: Box<str>,
}

/// Directories that have a name here.
const KNOWN: [(&str, &str); 4] = [
    (
        "letsencrypt",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "letsencrypt_staging",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
    ("zerossl", "https://acme.zerossl.com/v2/DV90"),
    ("google", "https://dv.acme-v02.api.pki.goog/directory"),
];

impl AcmeDirectory {
    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl FromStr for AcmeDirectory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = KNOWN.iter().find(|(name, _)| *name == text);
        let url = known.map_or(text, |(_, url)| url);
        let is_url = url
            .strip_prefix("https://")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|it| it.is_ascii_graphic()));
        if !is_url {
            let names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "`{text}` is no directory of an authority\nwrite a URL with https, or one of {}",
                names.join(", ")
            ));
        }
        Ok(Self {
            written: text.into(),
            url: url.into(),
        })
    }
}

impl fmt::Display for AcmeDirectory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written)
    }
}

text_value!(
    AcmeDirectory,
    { "type": "string", "minLength": 1 },
    "The directory of an authority: a URL, or letsencrypt, letsencrypt_staging, zerossl, google"
);

/// An account elsewhere (RFC 8555 section 7.3.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// Its identifier.
    pub key_id: String,
    /// The key that proves it is yours, in base64url, as the authority gives it.
    pub hmac_key: SecretText,
}

/// How it is shown that a host is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    /// A file on port 80. The gateway answers on every listener, before anything else.
    #[serde(rename = "http-01")]
    Http01,
    /// A handshake on port 443. The gateway answers on every listener with `tls`.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A record in the DNS: the only way to wildcards.
    #[serde(rename = "dns-01")]
    Dns01(DnsSolver),
}

/// Who puts records into the DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DnsSolver {
    /// A program.
    Exec(DnsExec),
    /// A service that takes what lego's `httpreq` provider sends.
    Http(DnsHttp),
    /// The name server itself, told by dynamic updates (RFC 2136).
    Rfc2136(DnsUpdate),
}

/// A program that puts records into the DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsExec {
    /// The program and its first arguments. `present` or `cleanup`, the record's name and its
    /// value follow.
    pub command: Vec<String>,
    /// How long it may take.
    #[serde(default = "solver_timeout", deserialize_with = "text::positive")]
    pub timeout: Period,
    /// How long a record takes to be seen everywhere.
    #[serde(default = "propagation")]
    pub propagation: Period,
}

/// A service that puts records into the DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsHttp {
    /// Its URL; `/present` and `/cleanup` are below it.
    pub url: String,
    /// Its user.
    #[serde(default)]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<SecretText>,
    /// How long it may take.
    #[serde(default = "solver_timeout", deserialize_with = "text::positive")]
    pub timeout: Period,
    /// How long a record takes to be seen everywhere.
    #[serde(default = "propagation")]
    pub propagation: Period,
}

/// A name server that takes dynamic updates (RFC 2136) which a key signs (TSIG, RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsUpdate {
    /// The primary server of the zone: its name or address, with a port if it is not 53.
    pub server: String,
    /// The zone of the records. The server is asked where there is none.
    #[serde(default)]
    pub zone: Option<String>,
    /// The name of the key, as in the server's configuration.
    pub key: String,
    /// The key's secret, in base64.
    pub secret: SecretText,
    /// What the key is used for.
    #[serde(default)]
    pub algorithm: UpdateAlgorithm,
    /// How long an update may take.
    #[serde(default = "solver_timeout", deserialize_with = "text::positive")]
    pub timeout: Period,
    /// How long a record takes to be seen everywhere: at the zone's other servers.
    #[serde(default = "propagation")]
    pub propagation: Period,
}

/// How updates are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

const fn solver_timeout() -> Period {
    Period::from_secs(120)
}

const fn propagation() -> Period {
    Period::from_secs(30)
}

/// The kind of key of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcmeKey {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 bits.
    Rsa2048,
}

super::section! {
    /// A certificate that an authority is asked for.
    pub struct CertificateOrder {
        /// The hosts it is for; those of the domains that name it as their `certificate` if empty.
        pub hosts: Vec<Located<HostPattern>> = Vec::new(),
        /// Who is asked: the next one when one fails. All issuers in their order if empty.
        pub issuers: Vec<Located<Name>> = Vec::new(),
        /// Orders one certificate for each host that clients ask for, when they first do, instead
        /// of one for `hosts`.
        pub on_demand: Option<OnDemand> = None,
    }
}

/// Certificates that are ordered when a client first asks for a host. Whoever can connect can ask
/// for any name, so it has to be said which ones count, and how many orders there may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnDemand {
    /// The hosts that may have one; `*.example.com` for all below. Whatever `ask` says yes to if
    /// empty.
    #[serde(default)]
    pub allow: Vec<HostPattern>,
    /// A URL that is asked about each host as well, as `?domain=`: 200 means yes. For lists of
    /// customers that live elsewhere.
    #[serde(default)]
    pub ask: Option<String>,
    /// The most certificates that it may come to.
    #[serde(default = "certificates_max", deserialize_with = "text::positive")]
    pub certificates_max: u32,
    /// The most orders within `orders_period`.
    #[serde(default = "orders_max", deserialize_with = "text::positive")]
    pub orders_max: u32,
    /// See `orders_max`.
    #[serde(default = "orders_period", deserialize_with = "text::positive")]
    pub orders_period: Period,
}

const fn certificates_max() -> u32 {
    1000
}

const fn orders_max() -> u32 {
    10
}

const fn orders_period() -> Period {
    Period::from_secs(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_have_names_and_tries_go_elsewhere() {
        let url = |text: &str| AcmeDirectory::from_str(text).map(|it| it.url().to_owned());
        let check = |text: &str, expected: &str| assert_eq!(url(text).as_deref(), Ok(expected));
        check(
            "letsencrypt",
            "https://acme-v02.api.letsencrypt.org/directory",
        );
        check(
            "letsencrypt_staging",
            "https://acme-staging-v02.api.letsencrypt.org/directory",
        );
        check("https://ca.test/dir", "https://ca.test/dir");
        assert!(url("letsencrypt-staging").is_err());
        assert!(url("http://ca.test/dir").is_err());
    }
}

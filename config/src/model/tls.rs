//! How TLS is spoken to clients. A listener sets it, and a domain sets over it what is to be
//! different for its hosts; both have the same fields for it, declared here once.
//!
//! Must not: open a file; paths are paths here.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{self, Sound};
use super::value::{Name, text_value};
use super::{FilePath, Switch};
use crate::origin::Located;

/// Declares a section that has the settings of TLS among its fields, and what it sets of them.
macro_rules! tls_section {
    ($(#[$meta:meta])* pub struct $Name:ident { $($own:tt)* }) => {
        super::section! {
            $(#[$meta])*
            pub struct $Name {
                /// What TLS to speak, in one word, as Mozilla's guideline has it; `intermediate`
                /// if nothing is set. The fields below can make it narrower.
                pub profile: Option<TlsProfile> = None,
                /// The oldest version served.
                pub min_version: Option<TlsVersion> = None,
                /// The only cipher suites that may be agreed on; the profile's if not set.
                pub cipher_suites: Option<Vec<TlsSuite>> = None,
                /// The only key exchanges that may be agreed on, best first; the profile's if not
                /// set.
                pub groups: Option<Vec<TlsGroup>> = None,
                /// The protocols offered, best first; `[http/1.1]` if not set.
                pub alpn: Option<Vec<Alpn>> = None,
                /// Whether clients have to show a certificate, or `off`; they are not asked if
                /// not set.
                #[serde(deserialize_with = "text::sound")]
                pub client_certificates: Option<Switch<ClientCertificates>> = None,
                /// Whether clients that come back may send a request with their first words
                /// (0-RTT); they may not if not set. Such a request is handled at once if its
                /// method is safe, and the origin is told (`Early-Data: 1`); others wait.
                pub early_data: Option<bool> = None,
                $($own)*
            }
        }

        impl $Name {
            /// What it sets of how TLS is spoken.
            pub fn policy(&self) -> TlsPolicy {
                TlsPolicy {
                    profile: self.profile,
                    min_version: self.min_version,
                    cipher_suites: self.cipher_suites.clone(),
                    groups: self.groups.clone(),
                    alpn: self.alpn.clone(),
                    client_certificates: self.client_certificates.clone(),
                    early_data: self.early_data,
                }
            }
        }

        impl Sound for $Name {
            fn check(&self) -> Result<(), String> {
                self.policy().check()
            }
        }
    };
}

tls_section! {
    /// The TLS side of a listener.
    pub struct ListenerTls {
        /// The certificate for clients that name no host, or one that no certificate has. If not
        /// set, the certificate marked `default`, else the first.
        pub default_certificate: Option<Located<Name>> = None,
        /// What becomes of clients that name no host, or one that no certificate has.
        pub unknown_names: UnknownNames = UnknownNames::DefaultCertificate,
        /// Handshakes that wait for their turn to be signed for at once, per worker; beyond,
        /// connections are closed at once.
        #[serde(deserialize_with = "text::positive")]
        pub handshakes_max: u32 = 256,
        /// Clients that have yet to speak in their handshake, or to answer, per worker; beyond, the
        /// one that has been silent longest is let go.
        #[serde(deserialize_with = "text::positive")]
        pub silent_max: u32 = 4096,
    }
}

super::section! {
    /// How sessions of TLS are kept, so that clients that come back need no whole handshake.
    pub struct TlsSessions {
        /// Files of 32 random bytes or more that several gateways share, so that a session made at
        /// one of them is resumed at another. The first one is used, the others still count. Each
        /// gateway keeps to itself, with keys that never leave its memory, if empty.
        pub secrets: Vec<FilePath> = Vec::new(),
        /// Whether gateways agree on secrets by way of `redis` instead: one for each day.
        pub redis: bool = false,
    }
}

super::section! {
    /// How the word of authorities is stapled to handshakes.
    pub struct Ocsp {
        /// The directory where answers are kept over a restart; that of `acme` if not set, and
        /// memory alone without either. Gateways may share it.
        pub storage: Option<FilePath> = None,
    }
}

tls_section! {
    /// How TLS is spoken to clients that ask for a host of the domain. What is not set here is as
    /// the listener has it.
    pub struct DomainTls {}
}

/// What becomes of clients that name no host, or one that no certificate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownNames {
    /// They get the default certificate.
    DefaultCertificate,
    /// Their handshake is refused.
    Refuse,
    /// For names below `localhost` they get a certificate of the user's local authority, made on
    /// the spot, for development; else the default certificate.
    Local,
}

/// How TLS is spoken, as far as it is set somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsPolicy {
    /// The profile.
    pub profile: Option<TlsProfile>,
    /// The oldest version.
    pub min_version: Option<TlsVersion>,
    /// The only cipher suites.
    pub cipher_suites: Option<Vec<TlsSuite>>,
    /// The only key exchanges, best first.
    pub groups: Option<Vec<TlsGroup>>,
    /// The protocols, best first.
    pub alpn: Option<Vec<Alpn>>,
    /// Client certificates.
    pub client_certificates: Option<Switch<ClientCertificates>>,
    /// Early data.
    pub early_data: Option<bool>,
}

impl TlsPolicy {
    /// What is in force where this is set over something wider. A profile set here also stands in
    /// for the versions, suites and groups that the wider one narrowed.
    pub fn over(self, wider: Self) -> Self {
        let wider = match self.profile {
            None => wider,
            Some(_) => Self {
                min_version: None,
                cipher_suites: None,
                groups: None,
                ..wider
            },
        };
        Self {
            profile: self.profile.or(wider.profile),
            min_version: self.min_version.or(wider.min_version),
            cipher_suites: self.cipher_suites.or(wider.cipher_suites),
            groups: self.groups.or(wider.groups),
            alpn: self.alpn.or(wider.alpn),
            client_certificates: self.client_certificates.or(wider.client_certificates),
            early_data: self.early_data.or(wider.early_data),
        }
    }

    /// The oldest version that is spoken.
    pub fn oldest(&self) -> TlsVersion {
        let profile = match self.profile {
            Some(TlsProfile::Modern) => TlsVersion::V1_3,
            Some(TlsProfile::Intermediate) | None => TlsVersion::V1_2,
        };
        self.min_version.unwrap_or(profile)
    }

    /// The cipher suites that may be agreed on.
    pub fn suites(&self) -> Vec<TlsSuite> {
        let is_spoken = |suite: &TlsSuite| suite.version() >= self.oldest();
        match &self.cipher_suites {
            Some(suites) => suites.clone(),
            None => TlsSuite::ALL.iter().copied().filter(is_spoken).collect(),
        }
    }

    /// The key exchanges that may be agreed on, best first.
    pub fn exchanges(&self) -> Vec<TlsGroup> {
        self.groups.clone().unwrap_or(TlsGroup::ALL.to_vec())
    }

    /// The protocols that are offered, best first.
    pub fn protocols(&self) -> Vec<Alpn> {
        let usual = || vec![Alpn::Http2, Alpn::Http11];
        self.alpn.clone().unwrap_or_else(usual)
    }

    /// Whether a request may come with a client's first words. Not where clients are asked who they
    /// are: that is looked at again each time they come, which takes the whole handshake.
    pub fn takes_early_data(&self) -> bool {
        self.early_data == Some(true) && self.clients().is_none()
    }

    /// What clients have to show, if they are asked.
    pub fn clients(&self) -> Option<&ClientCertificates> {
        self.client_certificates.as_ref().and_then(Switch::on)
    }
}

impl Sound for TlsPolicy {
    fn check(&self) -> Result<(), String> {
        if self.profile == Some(TlsProfile::Modern) && self.min_version == Some(TlsVersion::V1_2) {
            return Err(
                "the profile `modern` is TLS 1.3 alone, and `min_version` is older\ntake one of the two out"
                    .to_owned(),
            );
        }
        if self.early_data == Some(true) && self.clients().is_some() {
            return Err(
                "`early_data` is not for clients that have to show a certificate\ntake one of the two out"
                    .to_owned(),
            );
        }
        if let Some(suites) = &self.cipher_suites {
            let has = |version| suites.iter().any(|suite| suite.version() == version);
            if !has(TlsVersion::V1_3) {
                return Err(
                    "no cipher suite of TLS 1.3 is listed, and nobody could speak it\nadd `TLS_AES_128_GCM_SHA256`"
                        .to_owned(),
                );
            }
        }
        if self.groups.as_ref().is_some_and(Vec::is_empty) {
            return Err("no key exchange is listed\nadd `x25519`, or take `groups` out".to_owned());
        }
        Ok(())
    }
}

/// What TLS to speak, as Mozilla's guideline for servers has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3, with forward secrecy and authenticated encryption: for every client of the
    /// last ten years.
    Intermediate,
    /// TLS 1.3 alone.
    Modern,
}

/// A TLS version.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TlsVersion {
    /// TLS 1.2
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    V1_3,
}

/// Declares what has a name in the registry of IANA, with all there is of it.
macro_rules! registered {
    ($(#[$meta:meta])* pub enum $Name:ident { $($(#[$doc:meta])* $Variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $Name {
            $($(#[$doc])* #[serde(rename = $name)] $Variant,)*
        }

        impl $Name {
            /// All of them, best first.
            pub const ALL: &[Self] = &[$(Self::$Variant),*];
        }
    };
}

registered! {
    /// A cipher suite, by the name that IANA gave it.
    pub enum TlsSuite {
        /// TLS 1.3, AES-256-GCM.
        Aes256GcmSha384 = "TLS_AES_256_GCM_SHA384",
        /// TLS 1.3, AES-128-GCM.
        Aes128GcmSha256 = "TLS_AES_128_GCM_SHA256",
        /// TLS 1.3, ChaCha20-Poly1305.
        ChaCha20Poly1305Sha256 = "TLS_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, ECDSA, AES-256-GCM.
        EcdsaAes256GcmSha384 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, ECDSA, AES-128-GCM.
        EcdsaAes128GcmSha256 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, ECDSA, ChaCha20-Poly1305.
        EcdsaChaCha20Poly1305 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, RSA, AES-256-GCM.
        RsaAes256GcmSha384 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, RSA, AES-128-GCM.
        RsaAes128GcmSha256 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, RSA, ChaCha20-Poly1305.
        RsaChaCha20Poly1305 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
}

impl TlsSuite {
    /// The version that it is of.
    pub fn version(self) -> TlsVersion {
        match self {
            Self::Aes256GcmSha384 | Self::Aes128GcmSha256 | Self::ChaCha20Poly1305Sha256 => {
                TlsVersion::V1_3
            }
            _ => TlsVersion::V1_2,
        }
    }
}

registered! {
    /// A key exchange.
    pub enum TlsGroup {
        /// X25519 and ML-KEM-768 together: what is recorded today stays secret from quantum
        /// computers. TLS 1.3 alone.
        X25519MlKem768 = "x25519mlkem768",
        /// X25519.
        X25519 = "x25519",
        /// NIST P-256.
        Secp256r1 = "secp256r1",
        /// NIST P-384.
        Secp384r1 = "secp384r1",
    }
}

/// A protocol offered in ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Alpn {
    /// HTTP/2
    #[serde(rename = "h2")]
    Http2,
    /// HTTP/1.1
    #[serde(rename = "http/1.1")]
    Http11,
}

/// What clients have to show.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificates {
    /// Whether they may come without a certificate.
    #[serde(default = "required")]
    pub mode: ClientMode,
    /// The PEM file of the authorities whose certificates count.
    pub ca: FilePath,
    /// PEM files of revocation lists. With any, a certificate that none of them speaks for is
    /// refused, and so is every certificate of an authority whose list is past its time.
    #[serde(default)]
    pub crl: Vec<FilePath>,
    /// Which certificates of a chain must not be revoked.
    #[serde(default = "chain")]
    pub crl_check: CrlCheck,
    /// Issuers that a client may send beside its own certificate: how deep its chain may be.
    #[serde(default = "issuers_max")]
    pub issuers_max: u8,
    /// Who may come: whoever one of these rules means. Everybody with a certificate that counts
    /// if empty.
    #[serde(default)]
    pub allow: Vec<CertificateRule>,
}

const fn required() -> ClientMode {
    ClientMode::Required
}

const fn chain() -> CrlCheck {
    CrlCheck::Chain
}

const fn issuers_max() -> u8 {
    4
}

impl Sound for ClientCertificates {
    fn check(&self) -> Result<(), String> {
        self.allow.iter().try_for_each(CertificateRule::check)
    }
}

/// Whether clients have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientMode {
    /// Without a good one there is no connection.
    Required,
    /// They may come without one; one that is shown has to be good.
    Optional,
}

/// Which certificates of a chain must not be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CrlCheck {
    /// All of them; there has to be a list of each authority among them.
    Chain,
    /// The client's own.
    Leaf,
}

/// Whom a rule means: all that is set has to hold. In a name, `*` stands for any run of
/// characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CertificateRule {
    /// The subject of the certificate, as RFC 4514 writes it: `CN=web,O=Example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// A host in the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
    /// A URI in the certificate, such as `spiffe://example.org/ns/prod/*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// A mail address in the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The SHA-256 of the certificate in hexadecimal, with colons or without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

impl Sound for CertificateRule {
    fn check(&self) -> Result<(), String> {
        if *self == Self::default() {
            return Err(
                "a rule that says nothing means everybody\nset `subject`, `dns`, `uri`, `email` or `fingerprint`"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// The SHA-256 of a certificate: 64 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(Box<str>);

impl Fingerprint {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|digit| *digit != ':').collect();
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!(
                "`{text}` is no SHA-256\nwrite what `openssl x509 -noout -fingerprint -sha256 -in FILE` prints"
            ));
        }
        Ok(Self(digits.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(
    Fingerprint,
    { "type": "string", "pattern": "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$" },
    "The SHA-256 of a certificate in hexadecimal, with colons or without"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearer_wins_one_by_one() {
        let wide = TlsPolicy {
            min_version: Some(TlsVersion::V1_3),
            groups: Some(vec![TlsGroup::X25519]),
            ..TlsPolicy::default()
        };
        let near = TlsPolicy {
            groups: Some(vec![TlsGroup::Secp256r1]),
            ..TlsPolicy::default()
        };
        let both = near.over(wide.clone());
        assert_eq!(both.oldest(), TlsVersion::V1_3);
        assert_eq!(both.exchanges(), [TlsGroup::Secp256r1]);
        let profile = TlsPolicy {
            profile: Some(TlsProfile::Intermediate),
            ..TlsPolicy::default()
        };
        let both = profile.over(wide);
        assert_eq!(both.oldest(), TlsVersion::V1_2);
        assert_eq!(both.exchanges(), TlsGroup::ALL);
    }

    #[test]
    fn profiles_are_mozillas() {
        let suites = |profile| {
            TlsPolicy {
                profile: Some(profile),
                ..TlsPolicy::default()
            }
            .suites()
        };
        assert_eq!(suites(TlsProfile::Intermediate), TlsSuite::ALL);
        let modern = suites(TlsProfile::Modern);
        assert_eq!(modern, TlsSuite::ALL[..3]);
    }

    #[test]
    fn fingerprints_are_what_openssl_prints() {
        let colons = ["AB"; 32].join(":");
        let fingerprint: Fingerprint = colons.parse().unwrap();
        assert_eq!(fingerprint.as_str(), "ab".repeat(32));
        for wrong in ["", "ab", &"g".repeat(64), &"a".repeat(65)] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}

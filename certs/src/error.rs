//! What can be wrong with certificates, keys and authorities, and what to do about it.
//!
//! Part of the life of a configuration. An [`Error`] keeps a certificate from being served, a
//! [`Warning`] does not. Messages name the file; remedies are complete sentences an operator can
//! follow; causes stay in `source`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::{UnixTime, pem};
use x509_parser::error::X509Error;
use x509_parser::time::ASN1Time;

/// What keeps a certificate, an authority or a TLS configuration from being used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or not readable.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// A path leads to a directory, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// A file is far larger than any certificate chain.
    #[error("{} is larger than {bytes_max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },

    /// A file is being written without end.
    #[error("{} changes while it is read", path.display())]
    Unsteady {
        /// The file.
        path: PathBuf,
    },

    /// A file's PEM sections are damaged.
    #[error("{} is not valid PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is damaged.
        source: pem::Error,
    },

    /// A file that should hold certificates holds none.
    #[error("{} holds no certificate, {found}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        found: Found,
    },

    /// A file that should hold a private key holds none.
    #[error("{} holds no private key, {found}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        found: Found,
    },

    /// A key that needs a passphrase.
    #[error("the private key in {} is encrypted", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },

    /// A certificate whose contents cannot be understood.
    #[error("certificate {position} of {} cannot be parsed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Which certificate of the file, from 1.
        position: usize,
        /// What is wrong.
        source: X509Error,
    },

    /// A key of a kind or size that cannot be used.
    #[error("the private key in {} cannot be used", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },

    /// A key that signs for another certificate.
    #[error(
        "the private key in {} does not belong to the certificate in {}",
        key.display(),
        chain.display()
    )]
    KeyMismatch {
        /// The certificate's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The certificate of the chain, from 1, that the key does belong to.
        belongs_to: Option<usize>,
    },

    /// A new file that is past its time, where the one in use is not.
    #[error("the new certificate in {} expired on {}", path.display(), Calendar(*not_after))]
    Expired {
        /// The file.
        path: PathBuf,
        /// When.
        not_after: UnixTime,
    },

    /// A new file that is ahead of its time, where the one in use is valid.
    #[error("the new certificate in {} is valid only from {}", path.display(), Calendar(*not_before))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// From when on.
        not_before: UnixTime,
    },

    /// A host or a listener is given a certificate that does not exist.
    #[error("there is no certificate `{name}`, which {wanted_by} is given")]
    UnknownCertificate {
        /// The name that nothing has.
        name: Arc<str>,
        /// Who asked for it.
        wanted_by: String,
    },

    /// Two certificates have one name.
    #[error("two certificates have the name `{name}`")]
    DuplicateName {
        /// The name.
        name: Arc<str>,
    },

    /// The system has no roots to verify an endpoint with.
    #[error("the system has no certificate authorities to verify endpoints with")]
    NoPlatformRoots {
        /// What the search said.
        source: rustls::Error,
    },

    /// An authority from a file cannot be trusted.
    #[error("certificate {position} of {} cannot be an authority", path.display())]
    UnusableRoot {
        /// The file.
        path: PathBuf,
        /// Which certificate of the file, from 1.
        position: usize,
        /// Why not.
        source: rustls::Error,
    },

    /// A file that should hold revocation lists holds none.
    #[error("{} holds no certificate revocation list", path.display())]
    NoRevocationList {
        /// The file.
        path: PathBuf,
    },

    /// A revocation list that cannot be understood.
    #[error("a certificate revocation list in {} cannot be parsed", path.display())]
    UnusableRevocationList {
        /// The file.
        path: PathBuf,
    },

    /// A file that is too short to be a secret.
    #[error("{} has {bytes} bytes, and a secret has {bytes_min} or more", path.display())]
    ShortSecret {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The least it could have.
        bytes_min: usize,
    },

    /// A secret that everybody can read.
    #[error("everybody can read {} (mode {mode:04o})", path.display())]
    OpenSecret {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },

    /// A name that is neither a DNS name nor an address.
    #[error("`{name}` is neither a DNS name nor an IP address")]
    InvalidName {
        /// The name.
        name: String,
    },

    /// A wildcard that clients refuse.
    #[error("clients refuse `{name}`: two labels have to follow the wildcard")]
    WideWildcard {
        /// The name.
        name: String,
    },

    /// rustls refuses a configuration.
    #[error("{what} cannot be set up")]
    Tls {
        /// What it was for.
        what: &'static str,
        /// Why not.
        source: rustls::Error,
    },

    /// A file of the local authority cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// A certificate of the local authority cannot be made.
    #[error("cannot make {what}")]
    Issue {
        /// The certificate that was to be made.
        what: &'static str,
        /// Why not.
        source: rcgen::Error,
    },

    /// The system's random generator failed.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

impl Error {
    /// What an operator can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Read { source, .. } => remedy_of_read(source).to_owned(),
            Self::NotAFile { .. } | Self::TooLarge { .. } => "Name the PEM file itself.".to_owned(),
            Self::Unsteady { .. } => "Write it once, or rename a finished file over it.".to_owned(),
            Self::Pem { path, .. } => format!(
                "Copy the file again, or see what `openssl storeutl -text {}` says.",
                path.display()
            ),
            Self::NoCertificate { path, found } => found.remedy_for_certificate(path),
            Self::NoKey { path, found } => found.remedy_for_key(path),
            Self::EncryptedKey { path } => format!(
                "Store it without a passphrase: `openssl pkey -in {} -out NEW`, mode 0600.",
                path.display()
            ),
            Self::Malformed { .. } => "Get the certificate from its issuer again.".to_owned(),
            Self::UnusableKey { .. } => {
                "Use an ECDSA key (P-256, P-384, P-521), Ed25519, or RSA of 2048 to 8192 bits."
                    .to_owned()
            }
            Self::KeyMismatch {
                belongs_to: Some(position),
                ..
            } => format!(
                "It belongs to certificate {position} of the file: put that one first, its \
                 issuers after it."
            ),
            Self::KeyMismatch { .. } => {
                "Name the key that the certificate was requested with, or request a new one."
                    .to_owned()
            }
            Self::Expired { .. } => "Renew it; the one in use stays until then.".to_owned(),
            Self::NotYetValid { .. } => {
                "Check this machine's clock; the certificate in use stays.".to_owned()
            }
            Self::UnknownCertificate { .. } => {
                "Add it under `certificates`, or correct the name.".to_owned()
            }
            Self::DuplicateName { .. } => "Rename one of them.".to_owned(),
            Self::NoPlatformRoots { .. } => {
                "Install the package `ca-certificates`, or set `ca` of the upstream.".to_owned()
            }
            Self::UnusableRoot { .. } => {
                "Name a PEM file with the certificates of the authorities to trust.".to_owned()
            }
            Self::NoRevocationList { .. } => {
                "Name a PEM file; convert DER with `openssl crl -inform der -in FILE -out NEW`."
                    .to_owned()
            }
            Self::UnusableRevocationList { .. } => {
                "Get the list from its authority again.".to_owned()
            }
            Self::ShortSecret { path, .. } => format!(
                "Make it of random bytes: `openssl rand -out {} 48`, mode 0600.",
                path.display()
            ),
            Self::OpenSecret { path, .. } => {
                format!("Make another, and `chmod 0600 {}`.", path.display())
            }
            Self::InvalidName { .. } => {
                "Write a host such as `api.internal`, or an address, without port.".to_owned()
            }
            Self::WideWildcard { .. } => "Give the names one by one.".to_owned(),
            Self::Tls { .. } | Self::Issue { .. } => {
                "Report this with the configuration that led to it.".to_owned()
            }
            Self::Write { .. } => {
                "Check the owner and mode of the directory and the space on the disk.".to_owned()
            }
            Self::NoRandomness => "Check that /dev/urandom can be read.".to_owned(),
        }
    }
}

fn remedy_of_read(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "Check the path; relative ones start at the file naming them.",
        io::ErrorKind::PermissionDenied => {
            "Let the gateway's user read it: the file, and every directory above."
        }
        _ => "Check the file and the disk it is on.",
    }
}

/// What a file holds where something else was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing at all.
    Nothing,
    /// Text without a PEM section.
    NoPem,
    /// Binary DER or PKCS #12.
    Binary,
    /// A certificate.
    Certificate,
    /// A private key.
    PrivateKey,
    /// A certificate request.
    Request,
    /// Other PEM sections.
    OtherSections,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Nothing => "it is empty",
            Self::NoPem => "it is not PEM",
            Self::Binary => "it is binary, not PEM",
            Self::Certificate => "only a certificate",
            Self::PrivateKey => "only a private key",
            Self::Request => "only a certificate request",
            Self::OtherSections => "only other PEM sections",
        })
    }
}

impl Found {
    fn remedy_for_certificate(self, path: &std::path::Path) -> String {
        let path = path.display();
        match self {
            Self::Binary => {
                format!("Convert it: `openssl x509 -inform der -in {path} -out NEW`.")
            }
            Self::PrivateKey => "Chain and key may have been exchanged.".to_owned(),
            Self::Request => "Send the request to an authority and name its answer.".to_owned(),
            _ => "Name a PEM file: the certificate first, then its issuers.".to_owned(),
        }
    }

    fn remedy_for_key(self, path: &std::path::Path) -> String {
        let path = path.display();
        match self {
            Self::Binary => {
                format!("Convert it: `openssl pkey -inform der -in {path} -out NEW`, mode 0600.")
            }
            Self::Certificate => "Chain and key may have been exchanged.".to_owned(),
            _ => "Name a PEM file with a private key: PKCS #8, PKCS #1 or SEC 1.".to_owned(),
        }
    }
}

/// What an operator should hear about a certificate that is served nevertheless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Its time is over: clients refuse it.
    Expired {
        /// Since when.
        not_after: UnixTime,
    },
    /// Its time has not come: clients refuse it.
    NotYetValid {
        /// From when on it is valid.
        not_before: UnixTime,
    },
    /// Its time is over soon.
    ExpiresSoon {
        /// When.
        not_after: UnixTime,
    },
    /// Anyone on the machine can read the key.
    KeyReadableByAll {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Others than the key's owner can replace it.
    KeyWritableByOthers {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Clients refuse it without a staple, and it does not say who could be asked for one.
    CannotBeStapled,
    /// A certificate of the chain was not issued by the next one.
    ChainOrder {
        /// Which one, from 1.
        position: usize,
    },
    /// The issuer is not in the file, and is unlikely to be one that clients have.
    IssuerMissing {
        /// Who issued it.
        issuer: String,
    },
    /// No host or address stands in it: browsers refuse it for every name.
    NoNames,
    /// A name in it that no client matches.
    UnusableName {
        /// The name.
        name: String,
    },
    /// It was issued for other purposes than to prove a server.
    NotForServers,
    /// The authority has yet to issue it, and something that nobody trusts stands in.
    NotIssued,
    /// It was issued, and its file is damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { not_after } => write!(out, "it expired on {}", Calendar(*not_after)),
            Self::NotYetValid { not_before } => {
                write!(out, "it is valid only from {}", Calendar(*not_before))
            }
            Self::ExpiresSoon { not_after } => {
                write!(out, "it expires on {}", Calendar(*not_after))
            }
            Self::KeyReadableByAll { path, mode } => {
                write!(
                    out,
                    "everyone can read {} (mode {mode:04o})",
                    path.display()
                )
            }
            Self::KeyWritableByOthers { path, mode } => {
                write!(
                    out,
                    "others than its owner can write {} (mode {mode:04o})",
                    path.display()
                )
            }
            Self::CannotBeStapled => out.write_str(
                "clients want the word of its authority with it, and it names no responder",
            ),
            Self::ChainOrder { position } => write!(
                out,
                "certificate {position} of the chain was not issued by the one after it"
            ),
            Self::IssuerMissing { issuer } => {
                write!(out, "its issuer, {issuer}, is not in the file")
            }
            Self::NoNames => out.write_str("it names no host and no address"),
            Self::UnusableName { name } => write!(out, "no client matches its name `{name}`"),
            Self::NotForServers => out.write_str("it was not issued for servers"),
            Self::NotIssued => out.write_str("it is not issued yet"),
            Self::Damaged { path, detail } => {
                write!(out, "its file {} is damaged: {detail}", path.display())
            }
        }
    }
}

impl Warning {
    /// What an operator can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Expired { .. } | Self::ExpiresSoon { .. } => {
                "Renew it and replace the files; they are picked up by themselves.".to_owned()
            }
            Self::NotYetValid { .. } => "Check this machine's clock.".to_owned(),
            Self::CannotBeStapled => {
                "Have it issued anew without the TLS feature extension (OCSP must-staple)."
                    .to_owned()
            }
            Self::KeyReadableByAll { path, .. } | Self::KeyWritableByOthers { path, .. } => {
                format!(
                    "`chmod 0600 {}`, owned by the gateway's user.",
                    path.display()
                )
            }
            Self::ChainOrder { .. } => {
                "Order the file: the certificate, its issuer, the issuer's issuer.".to_owned()
            }
            Self::IssuerMissing { .. } => {
                "Append the issuer's certificate: use the authority's `fullchain` file.".to_owned()
            }
            Self::NoNames | Self::UnusableName { .. } => {
                "Have it issued with the hosts as subject alternative names.".to_owned()
            }
            Self::NotIssued => {
                "Nothing: it is ordered while the gateway runs, and served once it is there."
                    .to_owned()
            }
            Self::Damaged { .. } => {
                "Nothing: the running gateway moves the file to `damaged` in the storage and orders \
                 another; look at the disk."
                    .to_owned()
            }
            Self::NotForServers => {
                "Have it issued with the extended key usage `serverAuth`.".to_owned()
            }
        }
    }
}

/// An error and the certificate it concerns.
#[derive(Debug, thiserror::Error)]
#[error("certificate `{certificate}`")]
pub struct Failure {
    /// The certificate's name in the configuration.
    pub certificate: Arc<str>,
    /// What is wrong.
    #[source]
    pub error: Error,
}

/// A warning and the certificate it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The certificate's name in the configuration.
    pub certificate: Arc<str>,
    /// What is worth knowing.
    pub warning: Warning,
}

impl fmt::Display for Notice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "certificate `{}`: {}", self.certificate, self.warning)
    }
}

/// A moment as people write it, in UTC.
#[derive(Debug, Clone, Copy)]
pub struct Calendar(pub UnixTime);

impl fmt::Display for Calendar {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = i64::try_from(self.0.as_secs())
            .ok()
            .and_then(|secs| ASN1Time::from_timestamp(secs).ok());
        let Some(moment) = moment else {
            return out.write_str("a day beyond the calendar");
        };
        let moment = moment.to_datetime();
        write!(
            out,
            "{}-{:02}-{:02} {:02}:{:02} UTC",
            moment.year(),
            u8::from(moment.month()),
            moment.day(),
            moment.hour(),
            moment.minute()
        )
    }
}

//! What can go wrong with a certificate from an authority, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cardea_certs::vault::VaultError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage cannot be read or written.
    #[error("cannot use {}", path.display())]
    Storage {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// What gateways share cannot be read or written.
    #[error("what gateways share cannot be reached")]
    Shared(#[from] VaultError),

    /// Something in the storage is not what was put there.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },

    /// The TLS side of the connection to the authority cannot be set up.
    #[error("cannot speak TLS to the authority")]
    Tls(#[source] cardea_certs::Error),

    /// The authority, or the way to it, failed.
    #[error("{step} failed")]
    Authority {
        /// What was asked of it.
        step: &'static str,
        /// What it said.
        source: instant_acme::Error,
        /// The status of its last answer.
        status: Option<u16>,
        /// Until when it wants to be left alone.
        retry_at: Option<SystemTime>,
    },

    /// The authority took longer than it may.
    #[error("{step} took longer than {} s", after.as_secs())]
    Slow {
        /// What was asked of it.
        step: &'static str,
        /// How long it had.
        after: Duration,
    },

    /// The authority did not find the proof.
    #[error("the authority did not accept that `{host}` is ours: {detail}")]
    Unproven {
        /// The host.
        host: String,
        /// What it said.
        detail: String,
    },

    /// The authority does not take this kind of proof for a host.
    #[error("the authority offers no challenge of the kind {wanted} for `{host}`, but {offered}")]
    NoChallenge {
        /// The host.
        host: String,
        /// The kind that is configured.
        wanted: &'static str,
        /// The kinds it offers.
        offered: String,
    },

    /// A record could not be put into the DNS.
    #[error("the DNS solver failed to {action} the record for `{host}`: {detail}")]
    Solver {
        /// What it should have done.
        action: &'static str,
        /// The host.
        host: String,
        /// What it said.
        detail: String,
    },

    /// A key or a certificate could not be made.
    #[error("cannot make {what}")]
    Make {
        /// What it was.
        what: &'static str,
        /// Why not.
        source: rcgen::Error,
    },

    /// What the authority issued is not what was asked for.
    #[error("the authority issued something that cannot be used")]
    Useless(#[source] cardea_certs::Error),

    /// What the authority issued is for other hosts.
    #[error("the authority issued a certificate that is not for `{host}`")]
    NotCovered {
        /// The host that is missing.
        host: String,
    },
}

impl Error {
    /// What an operator can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Shared(VaultError::Foreign { .. }) => {
                "Give all gateways the same `redis.secret`, or those of another a `prefix` of their \
                 own."
                    .to_owned()
            }
            Self::Shared(_) => {
                "Look whether Redis is up and can be reached from here; nothing is ordered without \
                 its locks."
                    .to_owned()
            }
            Self::Storage { path, .. } => format!(
                "Let the gateway's user write to {}, and look at the space on the disk.",
                path.display()
            ),
            Self::Damaged { path, .. } => {
                format!("Move {} away; it is made anew.", path.display())
            }
            Self::Tls(error) => error.remedy(),
            Self::Authority { source, .. } => remedy_of_authority(source),
            Self::Slow { .. } => {
                "Look at the way to the authority, and at its status page.".to_owned()
            }
            Self::Unproven { host, .. } => format!(
                "`{host}` has to lead to this gateway, from outside, on port 80 for http-01 and \
                 443 for tls-alpn-01; for dns-01 the record has to be seen in the DNS."
            ),
            Self::NoChallenge { .. } => {
                "Use one of those for the issuer; wildcards need dns-01.".to_owned()
            }
            Self::Solver { .. } => "Do the same by hand, as the gateway's user.".to_owned(),
            Self::Make { .. } => "Report this with the configuration that led to it.".to_owned(),
            Self::Useless(_) | Self::NotCovered { .. } => {
                "Ask the authority; the certificate in use stays.".to_owned()
            }
        }
    }

    /// Until when the authority wants to be left alone.
    pub(crate) fn retry_at(&self) -> Option<SystemTime> {
        match self {
            Self::Authority { retry_at, .. } => *retry_at,
            _ => None,
        }
    }

    /// Whether the authority wants to hear of nothing for a while, whatever it is about: neither of
    /// these hosts alone, nor of certificates for just these.
    pub(crate) fn is_of_account(&self, hosts: &[String]) -> bool {
        let Self::Authority {
            source,
            status,
            retry_at,
            ..
        } = self
        else {
            return false;
        };
        // A busy authority says 503, one that counts says 429 (RFC 8555 section 6.6).
        let is_limit = self.problem() == Some("rateLimited")
            || *status == Some(429)
            || (*status == Some(503) && retry_at.is_some());
        let instant_acme::Error::Api(problem) = source else {
            return is_limit;
        };
        let named = problem.subproblems.iter();
        let mut named = named.filter(|problem| problem.identifier.is_some());
        let detail = problem.detail.as_deref().unwrap_or_default();
        is_limit && named.next().is_none() && !is_about(detail, hosts)
    }

    /// Whether an order is refused for the certificate that it says it replaces (RFC 9773
    /// section 5), and might not be without saying so.
    pub(crate) fn is_of_replacement(&self) -> bool {
        let Self::Authority {
            source: instant_acme::Error::Api(problem),
            status,
            ..
        } = self
        else {
            return false;
        };
        let detail = problem.detail.as_deref().unwrap_or_default();
        let detail = detail.to_ascii_lowercase();
        // What is said of a predecessor that the authority does not know is up to it.
        let kinds = ["alreadyReplaced", "malformed", "notFound"];
        kinds.iter().any(|kind| self.problem() == Some(kind))
            || *status == Some(409)
            || detail.contains("replace")
    }

    /// Whether it is ours, and an authority has no part in it.
    pub(crate) fn is_of_storage(&self) -> bool {
        matches!(
            self,
            Self::Storage { .. } | Self::Shared(_) | Self::Damaged { .. }
        )
    }

    /// Whether the authority was not reached, or did not answer.
    pub(crate) fn is_of_the_way(&self) -> bool {
        let Self::Authority { source, status, .. } = self else {
            return false;
        };
        status.is_none()
            && !matches!(
                source,
                instant_acme::Error::Api(_) | instant_acme::Error::Unsupported(_)
            )
    }

    /// Whether it is worth trying again at once: the authority only wanted another nonce.
    pub(crate) fn is_of_nonce(&self) -> bool {
        self.problem() == Some("badNonce")
    }

    /// The kind of problem that the authority has (RFC 8555 section 6.7).
    pub(crate) fn problem(&self) -> Option<&str> {
        match self {
            Self::Authority {
                source: instant_acme::Error::Api(problem),
                ..
            } => kind(problem),
            _ => None,
        }
    }
}

/// Whether a refusal is about some of the hosts, or the domain they belong to, or this set of them.
/// Nothing but its words tells it apart from one of the whole account: authorities name the domain
/// (`too many certificates already issued for "example.com"`), or say as Let's Encrypt does.
fn is_about(detail: &str, hosts: &[String]) -> bool {
    let detail = detail.to_ascii_lowercase();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-._*".contains(c);
    let mut words = detail
        .split(|c| !is_of_name(c))
        .map(|word| word.trim_matches(['.', '*']))
        .filter(|word| word.contains('.'));
    let is_named = words.any(|word| {
        hosts.iter().any(|host| {
            let rest = host.to_ascii_lowercase();
            let rest = rest.strip_suffix(word);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    });
    is_named || detail.contains("exact set of")
}

fn kind(problem: &instant_acme::Problem) -> Option<&str> {
    problem
        .r#type
        .as_deref()?
        .strip_prefix("urn:ietf:params:acme:error:")
}

fn remedy_of_authority(error: &instant_acme::Error) -> String {
    let instant_acme::Error::Api(problem) = error else {
        return "Look at the way to the authority: name resolution, firewall, `trust`.".to_owned();
    };
    match kind(problem) {
        Some("rateLimited") => {
            "Nothing: it is tried again when the authority allows. For tests, use its staging directory."
        }
        Some("externalAccountRequired") => "Set `external_account` of the issuer.",
        Some("rejectedIdentifier" | "malformed" | "unsupportedIdentifier") => {
            "Ask for hosts that the public DNS knows."
        }
        Some("caa") => "Add the authority to the CAA records of the host.",
        Some("userActionRequired") => "Follow what the authority says, and agree to its terms.",
        Some("unauthorized" | "accountDoesNotExist") => {
            "The account may be gone: move its file in the storage away, and a new one is made."
        }
        Some("invalidProfile") => "Use a profile that the authority has, or none.",
        _ => "Read what the authority says; it is tried again by itself.",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &str, detail: &str, status: u16) -> Error {
        let problem = serde_json::json!({
            "type": format!("urn:ietf:params:acme:error:{kind}"),
            "detail": detail,
            "status": status,
        });
        Error::Authority {
            step: "ordering",
            source: instant_acme::Error::Api(serde_json::from_value(problem).unwrap()),
            status: Some(status),
            retry_at: None,
        }
    }

    #[test]
    fn a_limit_of_one_host_is_none_of_the_account() {
        let hosts = ["www.example.co.uk".to_owned(), "*.shop.test".to_owned()];
        let check = |detail: &str, expected: bool| {
            let error = refused("rateLimited", detail, 429);
            assert_eq!(error.is_of_account(&hosts), expected, "{detail}");
        };
        check("too many new orders (300) from this account", true);
        check(
            "Service busy; retry later: see https://letsencrypt.org/docs/",
            true,
        );
        check("", true);
        check("too many certificates issued for other.test", true);
        check("too many certificates issued for ple.co.uk", true);
        check(
            "too many certificates (50) already issued for \"example.co.uk\" in the last 168h0m0s",
            false,
        );
        check("too many failed authorizations for shop.test.", false);
        check(
            "too many certificates (5) for this exact set of identifiers",
            false,
        );
        let other = refused("unauthorized", "no", 403);
        assert!(!other.is_of_account(&hosts));
        let unproven = Error::Unproven {
            host: "shop.test".to_owned(),
            detail: String::new(),
        };
        assert!(!unproven.is_of_account(&hosts));
    }

    #[test]
    fn a_refusal_of_what_is_replaced_is_known() {
        let check = |kind: &str, detail: &str, status: u16, expected: bool| {
            let error = refused(kind, detail, status);
            assert_eq!(error.is_of_replacement(), expected, "{kind} {detail}");
        };
        check("alreadyReplaced", "", 409, true);
        check("conflict", "", 409, true);
        check("malformed", "could not parse it", 400, true);
        check(
            "unauthorized",
            "Certificate replaced by another order",
            403,
            true,
        );
        check("rateLimited", "too many orders", 429, false);
        check("rejectedIdentifier", "not that one", 400, false);
    }
}

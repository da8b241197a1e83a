//! The process's one source of cryptography.
//!
//! Installed before anything else of the process touches TLS: pingora would otherwise install
//! ring, which knows no post-quantum key exchange. Whoever comes second is told so and changes
//! nothing.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};

mod sealing;

/// Key exchange in order of preference. The hybrid comes first, so that what is recorded today
/// cannot be read by a quantum computer later; the rest is for clients without it.
const KEY_EXCHANGES: &[&dyn SupportedKxGroup] = &[
    aws_lc_rs::kx_group::X25519MLKEM768,
    aws_lc_rs::kx_group::X25519,
    aws_lc_rs::kx_group::SECP256R1,
    aws_lc_rs::kx_group::SECP384R1,
];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let provider = aws_lc_rs::default_provider();
    let suites = provider.cipher_suites.iter().copied();
    Arc::new(CryptoProvider {
        kx_groups: KEY_EXCHANGES.to_vec(),
        cipher_suites: suites.map(sealing::sealed_here).collect(),
        ..provider
    })
});

/// Makes aws-lc-rs the process's default. To be called first of all in `main`; further calls do
/// nothing. Returns whether the default is ours: false means that something else was faster.
pub fn install() -> bool {
    // A refusal means that a default exists; whose it is, is asked below.
    let _ = CryptoProvider::install_default(PROVIDER.as_ref().clone());
    CryptoProvider::get_default().is_some_and(|installed| {
        installed
            .kx_groups
            .first()
            .is_some_and(|group| group.name() == rustls::NamedGroup::X25519MLKEM768)
    })
}

/// The provider itself; every configuration of this package is built with it, whatever the
/// process default is.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn prefers_the_hybrid_and_keeps_the_classic_groups() {
        let names: Vec<NamedGroup> = provider().kx_groups.iter().map(|g| g.name()).collect();
        let expected = [
            NamedGroup::X25519MLKEM768,
            NamedGroup::X25519,
            NamedGroup::secp256r1,
            NamedGroup::secp384r1,
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn installs_once_and_says_so() {
        assert!(install());
        assert!(install());
    }
}

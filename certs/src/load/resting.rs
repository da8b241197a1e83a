//! A key that rests: its bytes alone, until somebody first asks for its certificate. Of ten thousand
//! certificates most are never asked for, and a key that can sign takes five times as much memory.
//!
//! Must not: hold bytes that are no key. They were parsed, and compared with the certificate, before.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use zeroize::Zeroizing;

use crate::provider;

/// A key that is made ready when it is first used.
pub(super) struct RestingKey {
    der: Zeroizing<PrivateKeyDer<'static>>,
    algorithm: SignatureAlgorithm,
    ready: OnceLock<Option<Arc<dyn SigningKey>>>,
}

impl RestingKey {
    /// Puts a key to rest that was made of these bytes.
    pub(super) fn new(der: Zeroizing<PrivateKeyDer<'static>>, key: &dyn SigningKey) -> Self {
        Self {
            der,
            algorithm: key.algorithm(),
            ready: OnceLock::new(),
        }
    }

    fn key(&self) -> Option<&Arc<dyn SigningKey>> {
        let make = || {
            let loader = provider::provider().key_provider;
            loader.load_private_key(self.der.clone_key()).ok()
        };
        self.ready.get_or_init(make).as_ref()
    }
}

impl SigningKey for RestingKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.key()?.choose_scheme(offered)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

impl std::fmt::Debug for RestingKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RestingKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

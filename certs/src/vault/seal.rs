//! Values sealed so that only gateways with the secret can read or make them.
//!
//! AES-256-GCM-SIV by aws-lc-rs, as for session tickets: nonces are random, and one that repeats
//! gives nothing away. A value is `nonce | sealed bytes`, bound to its name.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use super::VaultError;

const TAG_BYTES: usize = 16;

/// What seals and opens.
pub(super) struct Seal(RandomizedNonceKey);

impl Seal {
    pub(super) fn new(secret: &[u8]) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"cardea vault");
        let mut key = Zeroizing::new([0; 32]);
        let extracted = salt.extract(secret);
        let expanded = extracted.expand(&[b"values"], hkdf::HKDF_SHA256);
        expanded
            .and_then(|expanded| expanded.fill(&mut *key))
            .expect("HKDF makes 32 bytes of anything");
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, &*key);
        Self(key.expect("32 bytes are a key of AES-256"))
    }

    pub(super) fn seal(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut sealed = Zeroizing::new(Vec::with_capacity(bytes.len() + TAG_BYTES));
        sealed.extend_from_slice(bytes);
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut *sealed)
            .map_err(|_| VaultError::Seal)?;
        Ok([nonce.as_ref(), &sealed[..]].concat())
    }

    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let name = Aad::from(name.as_bytes());
        let length = self.0.open_in_place(nonce, name, &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_and_the_name_open() {
        let seal = Seal::new(&[1; 32]);
        let sealed = seal.seal("a", b"value").unwrap();
        assert_eq!(**seal.open("a", &sealed).unwrap(), *b"value");
        assert!(!sealed.windows(5).any(|it| it == b"value"));
        assert!(seal.open("b", &sealed).is_none());
        assert!(Seal::new(&[2; 32]).open("a", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(seal.open("a", &changed).is_none());
            assert!(seal.open("a", &sealed[..at]).is_none());
        }
        assert_ne!(seal.seal("a", b"value").unwrap(), sealed);
    }
}

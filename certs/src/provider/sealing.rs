//! Sealing of TLS 1.3 records without a copy: the cipher reads the caller's bytes and writes the
//! record, where rustls copies the bytes into the record first and encrypts them there.
//!
//! The copy is dearer than it looks. It lands five bytes into an allocation, behind the record's
//! header, and `rep movsb`, which the C library chooses for copies of this size, crawls to such an
//! address on some processors: a third of all time spent on large bodies (docs/performance.md).
//!
//! Must not: choose anything of the cryptography. Keys, nonces, sequence numbers and the limit of
//! records per key stay rustls'; the cipher stays aws-lc's, with its check that no nonce is used
//! twice.

use std::iter::repeat_n;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, Nonce, TlsProtocolId, TlsRecordSealingKey,
};
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Nonce as RecordNonce, OutboundChunks,
    OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::{
    CipherSuite, CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite, Tls13CipherSuite,
};

/// The suite with its records sealed here, if it is one of those that can be.
pub(super) fn sealed_here(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let SupportedCipherSuite::Tls13(original) = suite else {
        return suite;
    };
    let algorithm = match original.common.suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => &AES_128_GCM,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => &AES_256_GCM,
        _ => return suite,
    };
    // Made once, for as long as the process lives.
    let aead_alg = Box::leak(Box::new(Sealing {
        original: original.aead_alg,
        algorithm,
    }));
    SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: original.common.suite,
            hash_provider: original.common.hash_provider,
            confidentiality_limit: original.common.confidentiality_limit,
        },
        hkdf_provider: original.hkdf_provider,
        aead_alg,
        quic: original.quic,
    })))
}

/// A cipher of rustls', but for sealing.
struct Sealing {
    original: &'static dyn Tls13AeadAlgorithm,
    algorithm: &'static Algorithm,
}

impl Tls13AeadAlgorithm for Sealing {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        let key = TlsRecordSealingKey::new(self.algorithm, TlsProtocolId::TLS13, key.as_ref())
            .expect("rustls makes keys of the length that `key_len` asks for");
        Box::new(Sealer { key, iv })
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.original.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.original.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.original.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.original.fips()
    }
}

/// Seals the records of one key.
struct Sealer {
    key: TlsRecordSealingKey,
    iv: Iv,
}

impl MessageEncrypter for Sealer {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let total = self.encrypted_payload_len(message.payload.len());
        let nonce = Nonce::assume_unique_for_key(RecordNonce::new(&self.iv, sequence).0);
        let aad = Aad::from(make_tls13_aad(total));
        let mut record = PrefixedPayload::with_capacity(total);
        // The type of what is inside goes behind it (RFC 8446 section 5.2).
        let inner_type = message.typ.to_array();
        let sealed = match message.payload {
            OutboundChunks::Single(bytes) => {
                record.extend(repeat_n(&0, total));
                let (sealed, rest) = record.as_mut().split_at_mut(bytes.len());
                self.key
                    .seal_out_of_place_scatter(nonce, aad, bytes, sealed, &inner_type, rest)
            }
            chunks @ OutboundChunks::Multiple { .. } => {
                record.extend_from_chunks(&chunks);
                record.extend_from_slice(&inner_type);
                self.key.seal_in_place_append_tag(nonce, aad, &mut record)
            }
        };
        sealed.map_err(|_| Error::EncryptError)?;
        // All records of TLS 1.3 look like those of TLS 1.2 from outside (RFC 8446 section 5.1).
        let version = ProtocolVersion::TLSv1_2;
        Ok(OutboundOpaqueMessage::new(
            ContentType::ApplicationData,
            version,
            record,
        ))
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + 1 + self.key.algorithm().tag_len()
    }
}

#[cfg(test)]
mod tests;

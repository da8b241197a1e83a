//! A certificate and a key in files of their own for each of many hosts, as a hosting platform has
//! them, and their renewal one by one.
//!
//! Made before the proxies that serve them start. It must not name a file other than by its host:
//! the proxies' configurations do the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Result, anyhow};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SerialNumber};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;

use super::{client, write};
use crate::affinity::{self, Core};

/// The files of all hosts, in one directory.
pub(crate) struct HostCertificates {
    directory: PathBuf,
}

impl HostCertificates {
    /// Where a run keeps them under its scratch directory.
    pub(crate) fn directory(parent: &Path) -> PathBuf {
        parent.join("certificates")
    }

    /// Makes a P-256 key and a certificate for each host that has none yet, on both cores.
    pub(crate) fn create(parent: &Path, hosts: &[String]) -> Result<Self> {
        let made = Self {
            directory: Self::directory(parent),
        };
        fs::create_dir_all(&made.directory)?;
        let (one, other) = hosts.split_at(hosts.len() / 2);
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                affinity::pin(Core::Proxy)?;
                made.create_missing(other)
            });
            made.create_missing(one)?;
            let other = other.join();
            other.map_err(|_| anyhow!("the thread that made certificates panicked"))?
        })?;
        Ok(made)
    }

    fn create_missing(&self, hosts: &[String]) -> Result<()> {
        for host in hosts {
            let [chain, key] = self.files(host);
            if !chain.exists() {
                let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                write(&key, &pair.serialize_pem())?;
                write(&chain, &signed(host, 1, &pair)?)?;
            }
        }
        Ok(())
    }

    /// Renames a new certificate for the same key over the host's.
    pub(crate) fn renew(&self, host: &str, serial: u64) -> Result<()> {
        let [chain, key] = self.files(host);
        let pair = KeyPair::from_pem(&fs::read_to_string(key)?)?;
        let draft = self.directory.join(format!(".{host}.draft"));
        write(&draft, &signed(host, serial, &pair)?)?;
        Ok(fs::rename(draft, chain)?)
    }

    /// A client that accepts only the certificate that the host's file holds now.
    pub(crate) fn client(&self, host: &str) -> Result<Arc<ClientConfig>> {
        let [chain, _] = self.files(host);
        let certificate = CertificateDer::from_pem_file(&chain)
            .map_err(|error| anyhow!("read {}: {error}", chain.display()))?;
        client(certificate, &TLS13, Resumption::disabled())
    }

    /// Chain and key. The names are those by which HAProxy finds the key to a chain.
    fn files(&self, host: &str) -> [PathBuf; 2] {
        [".pem", ".pem.key"].map(|end| self.directory.join(format!("{host}{end}")))
    }
}

fn signed(host: &str, serial: u64, pair: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.serial_number = Some(SerialNumber::from(serial));
    Ok(params.self_signed(pair)?.pem())
}

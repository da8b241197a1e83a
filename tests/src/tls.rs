//! The TLS side of clients and origins: configurations, and a handshake that is complete when the
//! function returns.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use crate::certificate::{Authority, Identity};
use crate::wait::BOUND;

/// What a client offers and whom it trusts.
#[derive(Debug)]
pub struct ClientTls<'a> {
    /// The authority that it trusts.
    pub trust: &'a Authority,
    /// The versions offered; both if empty.
    pub versions: &'a [&'static SupportedProtocolVersion],
    /// The protocols offered in ALPN.
    pub alpn: &'a [&'a str],
    /// Its own certificate.
    pub identity: Option<&'a Identity>,
}

impl<'a> ClientTls<'a> {
    /// TLS 1.2 and 1.3, no ALPN, no certificate.
    pub fn trusting(trust: &'a Authority) -> Self {
        Self {
            trust,
            versions: &[],
            alpn: &[],
            identity: None,
        }
    }

    /// The configuration, with a session store of its own.
    ///
    /// # Panics
    /// If rustls refuses it.
    #[track_caller]
    pub fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = match self.versions {
            [] => builder.with_safe_default_protocol_versions(),
            versions => builder.with_protocol_versions(versions),
        };
        let builder = builder
            .expect("versions the provider has")
            .with_root_certificates(roots(self.trust));
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain(), identity.key())
                .expect("a key that belongs to the certificate"),
        };
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }
}

/// The configuration of an origin. With `clients`, it demands a certificate of that authority.
///
/// # Panics
/// If rustls refuses it.
#[track_caller]
pub fn server_config(identity: &Identity, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions the provider has");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(roots(authority));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            builder.with_client_cert_verifier(verifier.build().expect("one root"))
        }
    };
    let config = builder.with_single_cert(identity.chain(), identity.key());
    Arc::new(config.expect("a key that belongs to the certificate"))
}

/// Handshakes as a client.
///
/// # Errors
/// Why it failed.
pub fn handshake(
    tcp: TcpStream,
    config: &Arc<ClientConfig>,
    name: &str,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    tcp.set_read_timeout(Some(BOUND))?;
    let mut stream = StreamOwned::new(connection, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Handshakes as an origin.
///
/// # Errors
/// Why it failed.
pub fn accept(
    tcp: TcpStream,
    config: &Arc<ServerConfig>,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    tcp.set_read_timeout(Some(BOUND))?;
    let mut stream = StreamOwned::new(connection, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// The cryptography that every client and origin here uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.certificate())
        .expect("a certificate of our own making");
    roots
}

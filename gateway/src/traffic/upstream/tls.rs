//! TLS towards endpoints: from the document's settings to a client configuration. One serves all the
//! upstreams that ask for the same, before and after a reload, so that sessions resume.
//!
//! Must not: run on the data path; it reads files. What it makes is only shared from there.

use cardea_certs::Error;
use cardea_certs::client::{self, ClientConfigs, ClientIdentity, ClientSettings, Versions};
use cardea_config::model::{TlsVersion, UpstreamTls, Verify};

use super::settings::{Protocol, TlsClient};
use crate::traffic::peer;

/// How to speak TLS as the settings say.
pub(super) fn compile(
    settings: &UpstreamTls,
    protocol: Protocol,
    configs: &ClientConfigs,
) -> Result<TlsClient, Error> {
    let server_name = settings.server_name.as_deref().map(client::server_name);
    let verify = match (settings.verify, &settings.ca) {
        (Verify::Off, _) => client::Verify::Off,
        (Verify::Full, Some(ca)) => client::Verify::Authorities(ca.into()),
        (Verify::Full, None) => client::Verify::Platform,
    };
    let mut client = ClientSettings {
        verify,
        allow: settings.allow.iter().map(peer::rule).collect(),
        identity: identity(settings),
        alpn: Vec::new(),
        versions: versions(&settings.versions),
    };
    let raw = configs.config(&client)?;
    client.alpn = vec![b"http/1.1".to_vec()];
    let http1 = configs.config(&client)?;
    client.alpn = match protocol {
        Protocol::Agreed => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    Ok(TlsClient {
        server_name: server_name.transpose()?,
        config: configs.config(&client)?,
        http1,
        raw,
    })
}

/// Who the gateway is to endpoints that ask.
pub(super) fn identity(settings: &UpstreamTls) -> Option<ClientIdentity> {
    match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => Some(ClientIdentity {
            chain: certificate.into(),
            key: key.into(),
        }),
        // Half an identity is refused when the document is read.
        _ => None,
    }
}

fn versions(allowed: &[TlsVersion]) -> Versions {
    let has = |version| allowed.is_empty() || allowed.contains(&version);
    match (has(TlsVersion::V1_2), has(TlsVersion::V1_3)) {
        (true, false) => Versions::Tls12,
        (false, true) => Versions::Tls13,
        _ => Versions::Both,
    }
}

#[cfg(test)]
mod tests;

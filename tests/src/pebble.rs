//! A real certificate authority that speaks ACME: Pebble, with its DNS.

use std::fmt::Display;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::certificate::Authority;
use crate::gateway::free_address;
use crate::process::Process;
use crate::{Client, wait};

/// An authority under way, which looks for proof at addresses given to it.
#[derive(Debug)]
pub struct Pebble {
    /// Where its directory is.
    pub directory: String,
    /// Where records are put into its DNS.
    pub records: SocketAddr,
    management: SocketAddr,
    trust: Authority,
    /// The authority itself.
    pub process: Process,
    _dns: Process,
    _files: TempDir,
}

/// How an authority is to be.
#[derive(Debug)]
pub struct Wishes {
    /// Where it looks for files.
    pub http: SocketAddr,
    /// Where it shakes hands.
    pub tls: SocketAddr,
    /// Good nonces that it refuses, in percent.
    pub nonces_refused: u8,
    /// Authorisations that it takes for done because they were once, in percent.
    pub authorizations_reused: u8,
    /// How long its certificates are good.
    pub lifetime: Duration,
    /// The name server it asks; one of its own if none, which takes records at `records`.
    pub dns: Option<SocketAddr>,
    /// Whether accounts have to belong to another, `kid-1` with the key `zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W`.
    pub external_accounts: bool,
}

impl Pebble {
    /// Starts an authority.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn start(wishes: &Wishes) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let trust = Authority::new("those who trust Pebble");
        trust
            .issue(&["127.0.0.1", "localhost"])
            .save(files.path(), "pebble");
        let (listen, management, dns, records) = (
            free_address(),
            free_address(),
            free_address(),
            free_address(),
        );
        let file = |name: &str| files.path().join(name).display().to_string();
        let mut config = serde_json::json!({ "pebble": {
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": file("pebble.pem"),
            "privateKey": file("pebble.key"),
            "httpPort": wishes.http.port(),
            "tlsPort": wishes.tls.port(),
            "externalAccountBindingRequired": wishes.external_accounts,
            "certificateValidityPeriod": wishes.lifetime.as_secs(),
        }});
        if wishes.external_accounts {
            config["pebble"]["externalAccountMACKeys"] = serde_json::json!({
                "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
            });
        }
        std::fs::write(file("pebble.json"), config.to_string()).expect("write a file");
        let dns_process = Process::start(Command::new("pebble-challtestsrv").args([
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-dns01",
            &dns.to_string(),
            "-management",
            &records.to_string(),
        ]));
        let process = start(wishes, &file("pebble.json"), wishes.dns.unwrap_or(dns));
        for address in [listen, management, records, dns] {
            wait::until_true("the authority listens", || {
                TcpStream::connect(address).is_ok()
            });
        }
        Self {
            directory: format!("https://{listen}/dir"),
            records,
            management,
            trust,
            process,
            _dns: dns_process,
            _files: files,
        }
    }

    /// Writes what its own certificate is trusted by to `pebble-trust.pem` in a directory.
    #[track_caller]
    pub fn save_trust(&self, directory: &std::path::Path) {
        self.trust.save(directory, "pebble-trust");
    }

    /// What its certificates are trusted by, in PEM; another after each start.
    #[track_caller]
    pub fn roots(&self) -> String {
        let config = crate::tls::ClientTls::trusting(&self.trust).config();
        let mut client = Client::try_connect_tls(self.management, &config, "localhost")
            .expect("the authority's management");
        client.get("localhost", "/roots/0").text()
    }
}

/// Starts the authority itself.
fn start(wishes: &Wishes, config: &str, dns: SocketAddr) -> Process {
    let Wishes {
        authorizations_reused,
        nonces_refused,
        ..
    } = wishes;
    Process::start(
        Command::new("pebble")
            .args(["-strict", "-config", config])
            .args(["-dnsserver", &dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", authorizations_reused.to_string())
            .env("PEBBLE_WFE_NONCEREJECT", nonces_refused.to_string()),
    )
}

impl Display for Pebble {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.directory)
    }
}

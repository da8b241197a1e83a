//! A real Redis.

use std::fmt::Display;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::certificate::Authority;
use crate::gateway::free_address;
use crate::process::{Process, run};
use crate::wait;

/// The password of its user `default`.
const PASSWORD: &str = "pass-word";

/// A Redis on an address of its own, which it keeps over restarts.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    /// Its own certificate's authority, if it speaks TLS.
    authority: Option<Authority>,
    process: Option<Process>,
    files: TempDir,
}

impl Redis {
    /// Starts a Redis that keeps nothing on disk.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn start() -> Self {
        let mut redis = Self::absent();
        redis.come_up();
        redis
    }

    /// As `start`, over TLS.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn start_tls() -> Self {
        let mut redis = Self::absent();
        let authority = Authority::new("those who trust Redis");
        authority
            .issue(&["127.0.0.1"])
            .save(redis.files.path(), "redis");
        authority.save(redis.files.path(), "ca");
        redis.authority = Some(authority);
        redis.come_up();
        redis
    }

    /// A Redis that is not there yet.
    ///
    /// # Panics
    /// If there is no place for its files.
    #[track_caller]
    pub fn absent() -> Self {
        Self {
            address: free_address(),
            authority: None,
            process: None,
            files: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// Starts it, empty.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn come_up(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", &self.address.ip().to_string()]);
        command.args(["--save", "", "--appendonly", "no"]);
        command
            .args(["--requirepass", PASSWORD, "--dir"])
            .arg(self.files.path());
        let port = self.address.port().to_string();
        if self.authority.is_some() {
            let file = |name: &str| self.files.path().join(name);
            command.args([
                "--port",
                "0",
                "--tls-port",
                &port,
                "--tls-auth-clients",
                "no",
            ]);
            command.arg("--tls-cert-file").arg(file("redis.pem"));
            command.arg("--tls-key-file").arg(file("redis.key"));
            command.arg("--tls-ca-cert-file").arg(file("ca.pem"));
        } else {
            command.args(["--port", &port]);
        }
        self.process = Some(Process::start(&mut command));
        let address = self.address;
        wait::until_true("Redis listens", || TcpStream::connect(address).is_ok());
    }

    /// Ends it, with all it has.
    pub fn go(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::KILL);
            process.wait();
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a command answers, as `redis-cli` shows it.
    #[track_caller]
    pub fn ask(&self, command: &[&str]) -> String {
        self.ask_by_way_of(self.address, command)
    }

    /// As `ask`, of somebody who passes it on.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ask_by_way_of(&self, address: SocketAddr, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-a", PASSWORD, "--no-auth-warning", "-h"]);
        cli.arg(address.ip().to_string()).arg("-p");
        cli.arg(address.port().to_string());
        if self.authority.is_some() {
            let authority = self.files.path().join("ca.pem");
            cli.args(["--tls", "--cacert"]).arg(authority);
        }
        let asked = run(cli.args(command));
        assert_eq!(asked.code, Some(0), "{asked:?}");
        asked.stdout
    }

    /// Writes what its certificate is trusted by to `redis-ca.pem` in a directory.
    #[track_caller]
    pub fn save_trust(&self, directory: &std::path::Path) {
        if let Some(authority) = &self.authority {
            authority.save(directory, "redis-ca");
        }
    }
}

impl Display for Redis {
    /// Its URL.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.authority.is_some() {
            "rediss"
        } else {
            "redis"
        };
        write!(out, "{scheme}://:{PASSWORD}@{}/0", self.address)
    }
}

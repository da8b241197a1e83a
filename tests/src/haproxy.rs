//! A real HAProxy, in front of the gateway or behind it.

use std::fmt::Display;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::gateway::free_address;
use crate::process::Process;
use crate::wait;

/// What every configuration begins with.
const DEFAULTS: &str = "\
defaults
  mode http
  timeout connect 10s
  timeout client 20s
  timeout server 20s
";

/// A running HAProxy. It ends when it is dropped.
#[derive(Debug)]
pub struct Haproxy {
    address: SocketAddr,
    _process: Process,
    _files: TempDir,
}

impl Haproxy {
    /// Starts one on sections that listen on `<bind>`; `<NAME>` stands for a value, and `<files>`
    /// for a directory that `prepare` puts files into.
    ///
    /// # Panics
    /// If it does not come up; what it printed is part of the message.
    #[track_caller]
    pub fn start(
        sections: &str,
        values: &[(&str, &dyn Display)],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let address = free_address();
        let files = tempfile::tempdir().expect("a temporary directory");
        prepare(files.path());
        let mut text = format!("{DEFAULTS}{sections}").replace("<bind>", &address.to_string());
        text = text.replace("<files>", &files.path().display().to_string());
        for (name, value) in values {
            text = text.replace(&format!("<{name}>"), &value.to_string());
        }
        let config = files.path().join("haproxy.cfg");
        std::fs::write(&config, text).expect("write the configuration");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&config);
        let mut process = Process::start(&mut command);
        wait::until_true("HAProxy listens", || {
            if let Some(status) = process.ended() {
                panic!("HAProxy ended with {status}:\n{}", process.stderr.text());
            }
            TcpStream::connect(address).is_ok()
        });
        Self {
            address,
            _process: process,
            _files: files,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

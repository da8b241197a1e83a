//! A real name server that takes dynamic updates: BIND.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use crate::gateway::free_address;
use crate::process::{Process, run};
use crate::wait;

/// The secret of both keys, in base64.
pub const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTMyYnk=";

/// A name server for the zone `w.test`. The key `may` changes its records, the key `may-not` does
/// not.
#[derive(Debug)]
pub struct Named {
    /// Where it listens, UDP and TCP.
    pub address: SocketAddr,
    _process: Process,
    _files: TempDir,
}

impl Named {
    /// Starts a name server.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn start() -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let address = free_address();
        let home = files.path().display();
        let key = |name: &str| {
            format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n")
        };
        let config = format!(
            r#"{}{}
options {{
    directory "{home}";
    pid-file none;
    session-keyfile "{home}/session.key";
    listen-on port {} {{ {}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
}};
controls {{ }};
zone "w.test" {{
    type primary;
    file "w.test.zone";
    update-policy {{ grant may zonesub TXT; }};
}};
"#,
            key("may"),
            key("may-not"),
            address.port(),
            address.ip(),
        );
        let zone = "$TTL 60\n\
            @ IN SOA ns.w.test. admin.w.test. 1 60 60 60 60\n\
            @ IN NS ns.w.test.\n\
            ns IN A 127.0.0.1\n";
        for (name, text) in [("named.conf", config.as_str()), ("w.test.zone", zone)] {
            std::fs::write(files.path().join(name), text).expect("write a file");
        }
        let file = files.path().join("named.conf");
        // In the foreground, on one thread, with its log on standard error.
        let mut command = Command::new("named");
        let process = Process::start(command.args(["-g", "-n", "1", "-c"]).arg(file));
        wait::until_true("the name server listens", || {
            TcpStream::connect(address).is_ok()
        });
        Self {
            address,
            _process: process,
            _files: files,
        }
    }

    /// The TXT records of a name, a line each.
    ///
    /// # Panics
    /// If it cannot be asked.
    #[track_caller]
    pub fn records(&self, name: &str) -> String {
        let (address, port) = (self.address.ip(), self.address.port());
        let mut dig = Command::new("dig");
        dig.args(["+short", "+tcp", "-p"]).arg(port.to_string());
        let asked = run(dig.arg(format!("@{address}")).args([name, "TXT"]));
        assert_eq!(asked.code, Some(0), "{asked:?}");
        asked.stdout
    }
}

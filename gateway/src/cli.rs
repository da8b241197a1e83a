//! The command line: one verb, one file. It reads arguments, prints for people, and turns a verdict
//! into an exit code: 0 for yes, 1 for no, 2 for a call that makes no sense.
//!
//! Must not: hold logic that the running gateway needs too.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod check;
mod demo;
mod explain;
mod init;
mod reload;
mod renewal;
mod run;
mod schema;
mod trust;

/// Where a configuration is looked for when none is named.
const DEFAULT_PATHS: [&str; 2] = ["cardea.yaml", "/etc/cardea/cardea.yaml"];

/// The gateway that turns without leaving its hinges.
#[derive(Debug, Parser)]
#[command(name = "cardea", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway; without a configuration file, in quick-start mode
    Run(run::Arguments),
    /// Check a configuration and report every problem at once
    #[command(visible_alias = "validate")]
    Check(check::Arguments),
    /// Have a running gateway read its configuration again, and wait for the verdict
    Reload(reload::Arguments),
    /// Say what would happen to a request, and why
    Explain(explain::Arguments),
    /// Write a first configuration
    Init(init::Arguments),
    /// Print the JSON schema of the configuration
    Schema(schema::Arguments),
    /// Show the root of the local authority, or have this system trust it
    Trust(trust::Arguments),
}

/// Runs the verb that the arguments name.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.verb {
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Reload(arguments) => reload::run(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Init(arguments) => init::run(&arguments),
        Verb::Schema(arguments) => schema::run(&arguments),
        Verb::Trust(arguments) => trust::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cardea: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// The configuration file to use: the one named, else the first default that exists.
fn configuration(named: Option<&Path>) -> Option<PathBuf> {
    named.map(Path::to_path_buf).or_else(|| {
        DEFAULT_PATHS
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
    })
}

/// As `configuration`, for verbs that cannot do without one.
fn required_configuration(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    configuration(named).ok_or_else(|| {
        anyhow::anyhow!(
            "no configuration file: looked for {}; name one with --config, or write one with `cardea init`",
            DEFAULT_PATHS.join(" and ")
        )
    })
}

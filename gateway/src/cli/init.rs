//! `cardea init`: a first configuration, a dozen commented lines with a schema modeline.
//!
//! Must not: overwrite a file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to write it
    #[arg(default_value = "cardea.yaml")]
    path: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.path;
    let schema = path.with_file_name("cardea.schema.json");
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists already; name another file", path.display())
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
    };
    file.write_all(cardea_config::init::text().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::write(&schema, cardea_config::schema::text())
        .with_context(|| format!("cannot write {}", schema.display()))?;
    println!("wrote {} and {}", path.display(), schema.display());
    println!(
        "next: cardea check --config {0} && cardea run --config {0}",
        path.display()
    );
    Ok(ExitCode::SUCCESS)
}

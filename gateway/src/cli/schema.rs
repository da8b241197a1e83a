//! `cardea schema`: the JSON schema of the configuration, for editors.

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<ExitCode> {
    print!("{}", cardea_config::schema::text());
    Ok(ExitCode::SUCCESS)
}

//! `cardea check`: everything that is wrong with a configuration, at once, without starting
//! anything: the document, the certificates and keys it names, its expressions and TLS files.
//!
//! Must not: bind an address or resolve a name; what only the running host can say is left to it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use cardea_config::diagnostic::{self, Diagnostic};
use cardea_config::source::Loaded;

use crate::control::compile;
use crate::telemetry::metrics::Metrics;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print what is found
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cardea_certs::provider::install();
    let path = super::required_configuration(arguments.config.as_deref())?;
    let (found, sources) = match cardea_config::load(&path) {
        Err(refused) => (refused.diagnostics, refused.sources),
        Ok(Loaded {
            document,
            mut warnings,
            sources,
            ..
        }) => {
            let compiled = compile::compile(Arc::new(document), 1, None, &Metrics::new(0));
            match compiled {
                Ok((_, more)) | Err(more) => warnings.extend(more),
            }
            (warnings, sources)
        }
    };
    match arguments.output {
        Output::Json => println!("{}", diagnostic::to_json(&found, &sources)),
        Output::Text if found.is_empty() => println!("{} is fine", path.display()),
        Output::Text => {
            eprintln!(
                "{}",
                diagnostic::render(&found, &sources, std::io::stderr().is_terminal())
            );
        }
    }
    let fails = found
        .iter()
        .any(|one| arguments.strict || Diagnostic::is_error(one));
    Ok(if fails {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

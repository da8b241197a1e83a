//! `cardea reload`: asks the admin listener of a running gateway to read its configuration again,
//! waits for the verdict, and makes it the exit code.
//!
//! Must not: decide anything; the gateway does, and this prints what it said.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use cardea_http1::{HeadScan, Limits, ResponseHead};

/// The longest verdict that is read, bytes.
const VERDICT_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration whose admin listener is asked
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin listener to ask, instead of the configuration's
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// How long to wait for the verdict, seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let address = match arguments.admin {
        Some(address) => address,
        None => configured_admin(arguments)?,
    };
    let timeout = Duration::from_secs(arguments.timeout.max(1));
    let (status, body) = post(address, timeout)
        .with_context(|| format!("no verdict from the admin listener at {address}"))?;
    let verdict: serde_json::Value = serde_json::from_slice(&body)
        .with_context(|| format!("the admin listener at {address} answered with no verdict"))?;
    let text = |key: &str| {
        verdict
            .get(key)
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
    };
    if status == 200 {
        let generation = verdict
            .get("generation")
            .and_then(serde_json::Value::as_u64);
        println!("generation {} is in force", generation.unwrap_or_default());
        for change in verdict
            .get("changes")
            .and_then(serde_json::Value::as_array)
            .into_iter()
            .flatten()
        {
            println!("  {}", change.as_str().unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "{}",
        text("diagnostics")
            .or_else(|| text("error"))
            .unwrap_or_default()
    );
    eprintln!("the configuration was refused; the last good one keeps serving");
    Ok(ExitCode::from(1))
}

fn configured_admin(arguments: &Arguments) -> anyhow::Result<SocketAddr> {
    let path = super::required_configuration(arguments.config.as_deref())?;
    // A running gateway may well be asked about a file that is broken now: only its admin address
    // is needed, so every diagnostic is the gateway's to give.
    match cardea_config::load(&path) {
        Ok(loaded) => match loaded.document.admin.on() {
            Some(admin) => Ok(admin.bind),
            None => bail!(
                "{} switches the admin listener off; use SIGHUP",
                path.display()
            ),
        },
        Err(_) => Ok(cardea_config::model::Admin::DEFAULT_ADDRESS),
    }
}

fn post(address: SocketAddr, timeout: Duration) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let request = format!(
        "POST /reload HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    stream.take(VERDICT_BYTES_MAX).read_to_end(&mut received)?;
    let limits = Limits::default();
    let mut head = ResponseHead::default();
    let end = head.receive(&mut HeadScan::response(), &received, &limits)?;
    let Some(end) = end else {
        bail!("the answer was cut short")
    };
    Ok((head.status, received.split_off(end.end as usize)))
}

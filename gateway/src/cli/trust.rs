//! `cardea trust`: the root of the local authority, for browsers and clients to trust. Prints where
//! it is, or puts it into the system's store of authorities and takes it out again.
//!
//! Must not: have anything trusted but an authority of this user's own making.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use cardea_certs::Calendar;
use cardea_certs::local::{self, LocalAuthority};
use rustls::pki_types::UnixTime;

mod store;

use store::{Change, Store};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print the certificate itself, in PEM
    #[arg(long, conflicts_with_all = ["install", "uninstall"])]
    pem: bool,
    /// Have every program of this system trust it that uses the system's store
    #[arg(long, conflicts_with = "uninstall")]
    install: bool,
    /// Have nobody trust it any more
    #[arg(long)]
    uninstall: bool,
    /// Where the authority is kept; below the user's home if not given
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cardea_certs::provider::install();
    let directory = arguments.directory.clone();
    let directory = directory.unwrap_or_else(local::directory);
    let authority = local::authority(&directory, UnixTime::now())
        .context("the local certificate authority cannot be had")?;
    if arguments.pem {
        print!("{}", authority.pem);
    } else if arguments.install {
        let store = Store::of_system()?;
        let change = store.install(&authority);
        let change = change.with_context(|| hint(&authority, "--install"))?;
        println!("{}", told(change, &authority, &store));
    } else if arguments.uninstall {
        let store = Store::of_system()?;
        let change = store.uninstall(&authority);
        let change = change.with_context(|| hint(&authority, "--uninstall"))?;
        println!("{}", told(change, &authority, &store));
    } else {
        describe(&authority);
    }
    Ok(ExitCode::SUCCESS)
}

fn told(change: Change, authority: &LocalAuthority, store: &Store) -> String {
    let (name, place) = (&authority.name, store.place(authority));
    let place = place.display();
    match change {
        Change::Installed => format!("{name} is trusted by this system now ({place})"),
        Change::WasInstalled => format!("{name} was trusted by this system already ({place})"),
        Change::Removed => format!("{name} is no longer trusted by this system"),
        Change::WasAbsent => format!("{name} was not trusted by this system"),
    }
}

fn describe(authority: &LocalAuthority) {
    let store = Store::of_system();
    let is_trusted = store.as_ref().is_ok_and(|store| store.has(authority));
    println!("{}", authority.name);
    println!("  certificate   {}", authority.path.display());
    println!("  SHA-256       {}", authority.fingerprint);
    println!("  valid until   {}", Calendar(authority.not_after));
    println!("  for           localhost, what is below it, and loopback addresses");
    println!("  this system   {}", trusted(is_trusted));
    if !is_trusted {
        println!("\nTo trust it:  {}", command(authority, "--install"));
    }
}

fn trusted(is_trusted: bool) -> &'static str {
    match is_trusted {
        true => "trusts it",
        false => "does not trust it",
    }
}

/// What to run with the rights for it: another user has another home.
fn command(authority: &LocalAuthority, option: &str) -> String {
    let directory = authority.path.parent().unwrap_or_else(|| Path::new("."));
    format!(
        "sudo cardea trust {option} --directory {}",
        directory.display()
    )
}

fn hint(authority: &LocalAuthority, option: &str) -> String {
    format!(
        "the system's store of authorities stays as it was; it is root's: {}",
        command(authority, option)
    )
}

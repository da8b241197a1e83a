//! The tools a user would use: curl, wrk, openssl, sslyze, gRPC for Python. `.ci/setup` installs them.
//!
//! Must not: be skipped when they are missing; the set-up is part of the tests.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::process::{Finished, command, run, run_on};

/// Runs curl, silent, with these arguments.
///
/// # Panics
/// If curl is missing or does not end.
#[track_caller]
pub fn curl(arguments: &[&str]) -> Finished {
    let all = [&["--silent", "--show-error", "--max-time", "20"], arguments].concat();
    // A user's own settings and proxies are no part of the test.
    let mut curl = command(
        "curl",
        &[&["--disable", "--noproxy", "*"], all.as_slice()].concat(),
    );
    run(&mut curl)
}

/// Runs `openssl s_client` against an address and ends it once the handshake is over.
///
/// # Panics
/// If openssl is missing or does not end.
#[track_caller]
pub fn s_client(address: SocketAddr, arguments: &[&str]) -> Finished {
    let connect = address.to_string();
    run(&mut command(
        "openssl",
        &[&["s_client", "-connect", &connect], arguments].concat(),
    ))
}

/// As `s_client`, saying what a file holds; it ends when the server does.
///
/// # Panics
/// If openssl is missing or does not end, or the file is.
#[track_caller]
pub fn s_client_saying(address: SocketAddr, arguments: &[&str], file: &Path) -> Finished {
    let connect = address.to_string();
    let start = ["s_client", "-connect", &connect, "-ign_eof"];
    let input = std::fs::File::open(file).expect("a file with what is said");
    run_on(
        &mut command("openssl", &[&start, arguments].concat()),
        input,
    )
}

/// As `s_client`, with what a file holds typed into it: commands of its own as well. It ends with
/// the file.
///
/// # Panics
/// If openssl is missing or does not end, or the file is.
#[track_caller]
pub fn s_client_told(address: SocketAddr, arguments: &[&str], file: &Path) -> Finished {
    let connect = address.to_string();
    let start = ["s_client", "-connect", &connect];
    let input = std::fs::File::open(file).expect("a file with what is typed");
    run_on(
        &mut command("openssl", &[&start, arguments].concat()),
        input,
    )
}

/// Runs sslyze, which judges TLS servers, with these arguments.
///
/// # Panics
/// If sslyze is missing or does not end.
#[track_caller]
pub fn sslyze(arguments: &[&str]) -> Finished {
    let sslyze = installed("sslyze/bin/sslyze");
    run(&mut command(sslyze, arguments))
}

/// Python with gRPC, to be run with these arguments.
///
/// # Panics
/// If it is missing.
#[track_caller]
pub fn python_with_grpc(arguments: &[&str]) -> Command {
    // It writes nothing beside the scripts.
    command(
        installed("grpcio/bin/python3"),
        &[&["-B"], arguments].concat(),
    )
}

/// Node.js with clients of gRPC-Web: the script is told first where its packages are.
///
/// # Panics
/// If it is missing.
#[track_caller]
pub fn node_with_grpc_web(script: &str, arguments: &[&str]) -> Command {
    let packages = installed("grpc-web");
    command("node", &[&[script, &packages], arguments].concat())
}

/// What `.ci/setup` installed for the tests alone.
#[track_caller]
fn installed(name: &str) -> String {
    let tool = format!("{}/../target/tools/{name}", env!("CARGO_MANIFEST_DIR"));
    assert!(
        Path::new(&tool).exists(),
        "{tool} is missing: run `.ci/setup`"
    );
    tool
}

/// Runs wrk with these arguments.
///
/// # Panics
/// If wrk is missing or does not end.
#[track_caller]
pub fn wrk(arguments: &[&str]) -> Finished {
    run(&mut command("wrk", arguments))
}

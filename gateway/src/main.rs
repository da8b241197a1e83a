//! The `cardea` binary.
//!
//! Must not: do more than hand over to the command line.

use std::process::ExitCode;

/// Chosen for bursts of small short-lived buffers on every worker; see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cardea_gateway::cli::main()
}

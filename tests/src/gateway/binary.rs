//! Where the gateway's binary is: the one named by `CARDEA_BIN`, else the one that belongs to the
//! tree, built in the profile of the tests when the first test asks, so that `cargo test` alone is
//! enough.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The gateway's binary.
///
/// # Panics
/// If it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("CARDEA_BIN") {
        Some(named) => PathBuf::from(named),
        None => build(),
    })
}

fn build() -> PathBuf {
    // target/PROFILE/deps/e2e-HASH
    let test = env::current_exe().expect("a path of this test");
    let mut directories = test.ancestors().skip(2);
    let directory = directories.next().expect("the directory of the profile");
    let target = directories.next().expect("the target directory");
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "cardea-gateway",
            "--bin",
            "cardea",
        ])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the gateway cannot be built: {status}");
    directory.join("cardea")
}

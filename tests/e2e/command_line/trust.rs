//! The local authority, and a system that is to trust it: the real store with its real command, in
//! a view of the file system that nobody else has.

use std::fs;
use std::path::Path;

use cardea_tests::gateway::{Site, binary};
use cardea_tests::process::{self, Finished};

use super::{page, quick_start, urls};

/// What the commands of a test are run with: copies of the store over the real one. Tells curl and
/// OpenSSL to look nowhere else.
const VIEW: &str = r#"
set -e
unset CURL_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR
cp -a /etc/ssl/certs "$HOME/certs"
mkdir -p "$HOME/own" "$HOME/etc"
mount --bind "$HOME/own" /usr/local/share/ca-certificates
mount --bind "$HOME/certs" /etc/ssl/certs
"#;

/// Runs a script with a store of its own, as root of its own view.
#[track_caller]
fn in_view(site: &Site, script: &str) -> Finished {
    let text = format!("{VIEW}{script}");
    let is_root = rustix::process::getuid().is_root();
    let rights = if is_root {
        &[][..]
    } else {
        &["--user", "--map-root-user"]
    };
    let mut command = process::command("unshare", rights);
    command.args(["--mount", "sh", "-c", &text]);
    command.env("HOME", site.path()).env_remove("XDG_DATA_HOME");
    command.env("CARDEA", binary()).current_dir(site.path());
    process::run(&mut command)
}

fn trust(site: &Site, arguments: &[&str]) -> Finished {
    let mut command = process::command(binary(), &[&["trust"], arguments].concat());
    command.env("HOME", site.path()).env_remove("XDG_DATA_HOME");
    process::run(command.current_dir(site.path()))
}

fn own_certificates() -> Vec<std::path::PathBuf> {
    let found = fs::read_dir("/usr/local/share/ca-certificates").expect("the system's store");
    found.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

#[test]
fn the_system_trusts_it_and_then_no_more() {
    let site = Site::new();
    let before = own_certificates();
    let process = quick_start(&site, &[]);
    let urls = urls(&process);
    page(&["--cacert", &urls.authority, &urls.https]);
    let script = format!(
        r#"
curl --silent {url} && exit 90
"$CARDEA" trust --install
"$CARDEA" trust --install
curl --silent {url} || exit 91
"$CARDEA" trust
"$CARDEA" trust --uninstall
"$CARDEA" trust --uninstall
curl --silent {url} && exit 92
exit 0
"#,
        url = urls.https
    );
    let ran = in_view(&site, &script);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains("is trusted by this system now"),
        "{ran:?}"
    );
    assert!(
        ran.stdout.contains("was trusted by this system already"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("demo origin"), "{ran:?}");
    assert!(ran.stdout.contains("this system   trusts it"), "{ran:?}");
    assert!(
        ran.stdout.contains("is no longer trusted by this system"),
        "{ran:?}"
    );
    assert!(
        ran.stdout.contains("was not trusted by this system"),
        "{ran:?}"
    );
    // Nobody else saw any of it.
    assert_eq!(own_certificates(), before);
}

#[test]
fn it_says_what_there_is_and_how_to_trust_it() {
    let site = Site::new();
    let shown = trust(&site, &[]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let path = site.path().join(".local/share/cardea/ca/ca.pem");
    assert!(
        shown.stdout.contains(&path.display().to_string()),
        "{shown:?}"
    );
    assert!(shown.stdout.contains("does not trust it"), "{shown:?}");
    let command = "sudo cardea trust --install --directory ";
    assert!(shown.stdout.contains(command), "{shown:?}");
    let fingerprint = process::run(&mut process::command(
        "openssl",
        &[
            "x509",
            "-noout",
            "-fingerprint",
            "-sha256",
            "-in",
            &path.display().to_string(),
        ],
    ));
    let (_, fingerprint) = fingerprint
        .stdout
        .trim()
        .split_once('=')
        .expect("a fingerprint");
    assert!(shown.stdout.contains(fingerprint), "{shown:?}");
    let pem = trust(&site, &["--pem"]);
    assert_eq!(pem.stdout, fs::read_to_string(path).expect("a certificate"));
}

/// The store is root's, and a user is told how to go on.
#[test]
fn a_user_may_not_and_is_told_who_may() {
    let site = Site::new();
    // Read-only, for root of the view too.
    let script = r#"
mount -o remount,bind,ro /usr/local/share/ca-certificates
"$CARDEA" trust --install
"#;
    let ran = in_view(&site, script);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("stays as it was"), "{ran:?}");
    assert!(
        ran.stderr
            .contains("sudo cardea trust --install --directory"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("cannot write /usr/local/share"),
        "{ran:?}"
    );
    let left = fs::read_dir(Path::new(&site.path().join("own"))).expect("the copy");
    assert_eq!(left.count(), 0);
}

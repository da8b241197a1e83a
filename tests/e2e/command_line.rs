//! The command line as a newcomer meets it: the quick start, a first configuration, and answers
//! that help.

use std::process::Command;

use cardea_tests::gateway::{Site, binary};
use cardea_tests::process::{Finished, Process};
use cardea_tests::{Origin, tool, wait};

mod check;
mod explain;
mod trust;

/// The word that follows `before` in a text.
fn word_after(text: &str, before: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    let word: String = rest
        .chars()
        .take_while(|char| !char.is_whitespace() && *char != ')')
        .collect();
    // The line is there to its end, or the word may be cut.
    (rest.len() > word.len()).then_some(word)
}

/// `cardea run` without a configuration, in an empty home.
fn quick_start(site: &Site, arguments: &[&str]) -> Process {
    let mut command = Command::new(binary());
    command.arg("run").args(arguments).current_dir(site.path());
    command.env("HOME", site.path()).env_remove("XDG_DATA_HOME");
    Process::start(&mut command)
}

struct Urls {
    http: String,
    https: String,
    authority: String,
}

/// What the quick start printed.
#[track_caller]
fn urls(process: &Process) -> Urls {
    let find = |before: &str| {
        process
            .stderr
            .wait_for(before, |text| word_after(text, before))
            .trim()
            .to_owned()
    };
    Urls {
        http: format!("http://localhost:{}", find("http://localhost:")),
        https: format!("https://localhost:{}", find("https://localhost:")),
        authority: find("(authority: "),
    }
}

#[track_caller]
fn page(arguments: &[&str]) -> String {
    let mut finished = tool::curl(arguments);
    wait::until_true("curl gets a page", || {
        if finished.code != Some(0) {
            finished = tool::curl(arguments);
        }
        finished.code == Some(0)
    });
    finished.stdout
}

#[test]
fn the_quick_start_serves_http_and_https() {
    let site = Site::new();
    let process = quick_start(&site, &[]);
    let urls = urls(&process);
    let text = page(&[&urls.http]);
    assert!(text.contains("demo origin"), "{text}");
    // Trusted by its authority, and by nobody else.
    let text = page(&["--cacert", &urls.authority, &urls.https]);
    assert!(text.contains("x-forwarded-proto: https"), "{text}");
    assert_ne!(tool::curl(&[&urls.https]).code, Some(0));
    let said = process.stderr.text();
    assert!(said.contains("cardea init"), "{said}");
}

/// Whatever below `localhost` a developer thinks of.
#[test]
fn the_quick_start_has_a_certificate_for_every_local_name() {
    let site = Site::new();
    let process = quick_start(&site, &[]);
    let urls = urls(&process);
    page(&["--cacert", &urls.authority, &urls.https]);
    let port = urls.https.rsplit_once(':').map_or("", |(_, port)| port);
    for name in ["shop.localhost", "a.b.localhost", "shop.localhost"] {
        let url = format!("https://{name}:{port}/");
        let resolve = format!("{name}:{port}:127.0.0.1");
        let text = page(&["--cacert", &urls.authority, "--resolve", &resolve, &url]);
        assert!(text.contains("demo origin"), "{text}");
    }
    // It is nobody else's.
    let url = format!("https://example.com:{port}/");
    let resolve = format!("example.com:{port}:127.0.0.1");
    let refused = tool::curl(&["--cacert", &urls.authority, "--resolve", &resolve, &url]);
    assert_eq!(refused.code, Some(60), "{refused:?}");
}

#[test]
fn the_quick_start_in_front_of_an_origin() {
    let site = Site::new();
    let origin = Origin::echo();
    let process = quick_start(&site, &["--to", &origin.address().to_string()]);
    let urls = urls(&process);
    let text = page(&["--cacert", &urls.authority, &format!("{}/path", urls.https)]);
    assert!(text.contains("/path"), "{text}");
    assert_eq!(origin.last_request().target, "/path");
    // Two at once take different ports and share an authority.
    let another = quick_start(&site, &["--to", &origin.address().to_string()]);
    let others = self::urls(&another);
    assert_ne!(others.http, urls.http);
    assert_eq!(others.authority, urls.authority);
    page(&["--cacert", &urls.authority, &others.https]);
}

#[test]
fn a_first_configuration_is_written_checked_and_run() {
    let site = Site::new();
    let finished = site.cardea(&["init"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("cardea check"), "{finished:?}");
    let text = std::fs::read_to_string(site.config_path()).expect("a configuration");
    assert!(
        text.starts_with("# yaml-language-server: $schema="),
        "{text}"
    );
    assert!(text.contains("#") && text.lines().count() < 30, "{text}");
    let finished = site.cardea(&["check"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    // A second time it would cost somebody their work.
    let finished = site.cardea(&["init"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("exists"), "{finished:?}");
    assert_eq!(
        std::fs::read_to_string(site.config_path()).expect("a configuration"),
        text
    );
}

#[test]
fn the_schema_is_a_schema() {
    let finished = Site::new().cardea(&["schema"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let schema: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert!(schema["$schema"].is_string());
    for section in ["listeners", "domains", "upstreams", "policies"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

#[test]
fn calls_that_make_no_sense() {
    let site = Site::new();
    let check = |arguments: &[&str], code: i32, told: &str| {
        let Finished {
            code: found,
            stderr,
            stdout,
        } = site.cardea(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {stderr}{stdout}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
    };
    check(&[], 2, "Usage");
    check(&["rum"], 2, "run");
    check(&["run", "--to", "x:1", "--config", "y"], 2, "--config");
    check(&["check"], 1, "cardea init");
    check(&["check", "--config", "gone.yaml"], 1, "gone.yaml");
    check(&["run", "--config", "gone.yaml"], 1, "gone.yaml");
    check(&["explain", "GET", "https://a.test/"], 1, "cardea init");
    check(&["reload", "--admin", "nowhere"], 2, "--admin");
}

#[test]
fn the_version_is_told() {
    let finished = Site::new().cardea(&["--version"]);
    assert_eq!(finished.code, Some(0));
    assert!(finished.stdout.starts_with("cardea "), "{finished:?}");
}

#[test]
fn a_port_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("a bound socket").to_string();
    let site = Site::new();
    let config = format!(
        "admin: off\nlisteners: [{{ name: web, bind: [\"{address}\"] }}]\n{}",
        crate::reload::saying("x")
    );
    site.configure(&config, &[]);
    let finished = site.cardea(&["run"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(&address), "{finished:?}");
    assert!(finished.stderr.contains("in use"), "{finished:?}");
}

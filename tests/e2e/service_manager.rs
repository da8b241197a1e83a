//! What systemd is told, at the socket that it names.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use cardea_tests::gateway::Site;
use cardea_tests::process::{self, Process};
use cardea_tests::{Gateway, Origin, wait};
use rustix::process::Signal;

use crate::fixture::PLAIN;

/// The end that systemd has.
struct Manager(UnixDatagram);

impl Manager {
    /// The next message, as lines.
    #[track_caller]
    fn told(&self) -> Vec<String> {
        let mut message = [0; 1024];
        let length = self.0.recv(&mut message).expect("a message in time");
        let text = std::str::from_utf8(&message[..length]).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    /// Asserts that a reload is told, with the time, and how it ended.
    #[track_caller]
    fn assert_reload(&self, status: &str) {
        let told = self.told();
        assert_eq!(told[0], "RELOADING=1", "{told:?}");
        let time = told[1].strip_prefix("MONOTONIC_USEC=");
        assert!(
            time.is_some_and(|time| time.parse::<u64>().is_ok()),
            "{told:?}"
        );
        assert_eq!(self.told(), ["READY=1", &format!("STATUS={status}")]);
    }
}

fn start(origin: &Origin) -> (Gateway, Manager) {
    let site = Site::new();
    let path = site.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket
        .set_read_timeout(Some(wait::BOUND))
        .expect("a timeout");
    site.configure(PLAIN, &[("origin", &origin.address())]);
    let gateway = site.start_by(|command| Process::start(command.env("NOTIFY_SOCKET", path)));
    (gateway, Manager(socket))
}

#[test]
fn a_life_as_systemd_hears_of_it() {
    let origin = Origin::echo();
    let (mut gateway, manager) = start(&origin);
    assert_eq!(manager.told(), ["READY=1", "STATUS=generation 1 serves"]);
    gateway.signal(Signal::HUP);
    manager.assert_reload("generation 2 serves");
    // The verdict of a command is told as that of the signal is.
    assert_eq!(gateway.reload().code, Some(0));
    manager.assert_reload("generation 3 serves");
    gateway.site().configure("nonsense: true\n", &[]);
    assert_eq!(gateway.reload().code, Some(1));
    let refused = "generation 3 serves; the newest configuration is refused";
    let mut told = manager.told();
    // The file watch may have looked at the file first, which is no reload to systemd.
    if told[0] == format!("STATUS={refused}") {
        told = manager.told();
    }
    assert_eq!(told[0], "RELOADING=1");
    assert_eq!(manager.told(), ["READY=1", &format!("STATUS={refused}")]);
    gateway.signal(Signal::TERM);
    wait::until_true("it is told that the gateway goes", || {
        manager.told()[0] == "STOPPING=1"
    });
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn nobody_listens_at_the_socket() {
    let origin = Origin::echo();
    let site = Site::new();
    site.configure(PLAIN, &[("origin", &origin.address())]);
    let missing = site.path().join("missing");
    let gateway = site.start_by(|command| Process::start(command.env("NOTIFY_SOCKET", missing)));
    gateway.stderr.wait_for_line("service_manager_not_told");
    assert_eq!(gateway.get("a.test", "/").status, 200);
}

/// The unit file, with the binary where it is, as far as there is a systemd to ask.
#[test]
fn the_unit_file_is_understood() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/cardea.service");
    let unit = std::fs::read_to_string(unit).expect("the unit file");
    let binary = cardea_tests::gateway::binary().display().to_string();
    let site = Site::new();
    let path = site.write("cardea.service", &unit.replace("/usr/bin/cardea", &binary));
    let mut analyze = Command::new("systemd-analyze");
    if analyze.arg("--version").output().is_err() {
        return;
    }
    let mut verify = Command::new("systemd-analyze");
    let finished = process::run(verify.args(["--man=no", "verify"]).arg(path));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let complaints = finished
        .stderr
        .lines()
        .filter(|line| line.contains("cardea.service"));
    assert_eq!(complaints.collect::<Vec<_>>(), [""; 0]);
}

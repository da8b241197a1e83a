//! The quick start's certificate is renewed while the gateway runs: a demonstration that is left
//! running must not end with an expired one.
//!
//! Must not: touch a certificate of a configuration file; those belong to whoever put them there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use cardea_certs::local::{self, LocalCertificate};
use rustls::pki_types::UnixTime;

use crate::control::Control;
use crate::control::reload::Cause;

/// The longest sleep. The clock may be set, and stands still for a sleeper while the machine does.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// The shortest sleep, so that a directory that cannot be written to is not tried without end.
const LOOK_EVERY_MIN: Duration = Duration::from_secs(60);

/// Renews a certificate of the local authority for as long as there is a gateway to serve it.
pub(super) fn start(
    directory: PathBuf,
    mut certificate: LocalCertificate,
    control: Weak<Control>,
) -> io::Result<()> {
    let keep_renewed = move || {
        loop {
            thread::sleep(pause(&certificate, UnixTime::now()));
            let Some(control) = control.upgrade() else {
                return;
            };
            // The files are new, the configuration is not. The verdict is in the log.
            let files = [certificate.chain.clone(), certificate.key.clone()];
            let changed = Cause::Changed(files.into());
            let serve = || control.reload_and_log(&changed).is_ok();
            if let Err(error) = renew(&directory, &mut certificate, UnixTime::now(), serve) {
                let error = crate::telemetry::logs::chain(&error);
                tracing::error!(error, "local_certificate_not_renewed");
            }
        }
    };
    let thread = thread::Builder::new().name("local-certificate".to_owned());
    thread.spawn(keep_renewed).map(drop)
}

/// How long nothing has to be done.
fn pause(certificate: &LocalCertificate, now: UnixTime) -> Duration {
    let left = certificate.renew_at.as_secs().saturating_sub(now.as_secs());
    Duration::from_secs(left).clamp(LOOK_EVERY_MIN, LOOK_EVERY)
}

/// Makes a new certificate, if it is time for one, and has it served. What is not served is still
/// due.
fn renew(
    directory: &Path,
    certificate: &mut LocalCertificate,
    now: UnixTime,
    serve: impl FnOnce() -> bool,
) -> Result<(), cardea_certs::Error> {
    if now.as_secs() >= certificate.renew_at.as_secs() {
        let next = local::prepare(directory, &[], now)?;
        if serve() {
            *certificate = next;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_certificate_is_renewed_when_its_time_has_come_and_not_before() {
        cardea_certs::provider::install();
        let directory = tempfile::tempdir().unwrap();
        let now = UnixTime::now();
        let first = local::prepare(directory.path(), &[], now).unwrap();
        let written = std::fs::read(&first.chain).unwrap();
        let due = first.renew_at.as_secs();
        assert!(due > now.as_secs());
        let mut certificate = first.clone();
        // Whether it was to be served after a look at this time, if serving it goes like this.
        let mut look = |seconds: u64, is_served: bool| {
            let mut was_asked = false;
            let serve = || {
                was_asked = true;
                is_served
            };
            renew(directory.path(), &mut certificate, at(seconds), serve).unwrap();
            was_asked
        };
        assert!(!look(due - 1, true));
        assert_eq!(std::fs::read(&first.chain).unwrap(), written);
        assert!(look(due, false));
        assert_ne!(std::fs::read(&first.chain).unwrap(), written);
        assert!(look(due + 1, true), "it was not served the first time");
        assert!(!look(due + 2, true));
        assert!(certificate.renew_at.as_secs() > due);
        assert!(!certificate.authority_is_new, "browsers trust the first");
    }

    #[test]
    fn sleeps_end_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let now = UnixTime::now();
        let certificate = local::prepare(directory.path(), &[], now).unwrap();
        let due = certificate.renew_at.as_secs();
        let check = |now: u64, expected: Duration| {
            assert_eq!(pause(&certificate, at(now)), expected, "{now}");
        };
        check(0, LOOK_EVERY);
        check(due - 1800, Duration::from_secs(1800));
        check(due - 1, LOOK_EVERY_MIN);
        check(due + 1, LOOK_EVERY_MIN);
    }
}

//! The quick start's certificate is renewed while the gateway runs: a demonstration that is left
//! running must not end with an expired one.
//!
//! Must not: touch a certificate of a configuration file; those belong to whoever put them there.

use std::io;
use std::path::PathBuf;
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use cardea_certs::local::{self, LocalCertificate};
use rustls::pki_types::UnixTime;

use crate::control::Control;

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
    let renew = move || {
        loop {
            thread::sleep(pause(&certificate, UnixTime::now()));
            let Some(control) = control.upgrade() else {
                return;
            };
            match renewed(&directory, &certificate, UnixTime::now()) {
                Ok(None) => {}
                Ok(Some(next)) => {
                    certificate = next;
                    // The files are new, the configuration is not: the verdict is in the log.
                    let _ = control.reload_and_log(false);
                }
                Err(error) => {
                    let error = crate::telemetry::logs::chain(&error);
                    tracing::error!(error, "local_certificate_not_renewed");
                }
            }
        }
    };
    let thread = thread::Builder::new().name("local-certificate".to_owned());
    thread.spawn(renew).map(drop)
}

/// How long nothing has to be done.
fn pause(certificate: &LocalCertificate, now: UnixTime) -> Duration {
    let left = certificate.renew_at.as_secs().saturating_sub(now.as_secs());
    Duration::from_secs(left).clamp(LOOK_EVERY_MIN, LOOK_EVERY)
}

/// A new certificate, if it is time for one.
fn renewed(
    directory: &std::path::Path,
    certificate: &LocalCertificate,
    now: UnixTime,
) -> Result<Option<LocalCertificate>, cardea_certs::Error> {
    if now.as_secs() < certificate.renew_at.as_secs() {
        return Ok(None);
    }
    local::prepare(directory, &[], now).map(Some)
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
        assert_eq!(
            renewed(directory.path(), &first, at(due - 1)).unwrap(),
            None
        );
        assert_eq!(std::fs::read(&first.chain).unwrap(), written);
        let second = renewed(directory.path(), &first, at(due)).unwrap().unwrap();
        assert!(second.renew_at.as_secs() > due);
        assert!(!second.authority_is_new, "browsers trust the first one");
        assert_ne!(std::fs::read(&second.chain).unwrap(), written);
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

//! What systemd is told of the process: that it is ready, that it reloads, that it goes, and a line
//! for `systemctl status`. Without a `NOTIFY_SOCKET` nobody is told.
//!
//! Must not: matter to anything else. A manager that cannot be told is a warning.

use sd_notify::NotifyState;

/// Traffic is welcome, for the first time or after a reload.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Something in the status changed.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] has to follow, whatever becomes of it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // `Type=notify-reload` takes no notice without the time.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => failed(&error),
    }
}

/// The process drains and goes.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        failed(&error);
    }
}

fn failed(error: &std::io::Error) {
    tracing::warn!(%error, "service_manager_not_told");
}

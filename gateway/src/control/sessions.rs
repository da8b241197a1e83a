//! Secrets of session tickets that gateways agree on by way of a Redis: one for each day, made by
//! whoever comes first, gone two days later. A thread of its own asks.
//!
//! Must not: leave handshakes without keys. Without Redis the secrets of today and tomorrow are
//! there already; without these each gateway has keys of its own.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cardea_certs::resumption::{Resumption, TicketSecrets};
use cardea_certs::vault::{Vault, VaultError};

use crate::telemetry::logs::chain;

/// How long a secret makes tickets.
const DAY: u64 = 24 * 60 * 60;

/// How long it is kept: yesterday's, today's and tomorrow's are read.
const LIFETIME: Duration = Duration::from_secs(3 * DAY);

/// How often is looked whether it is another day, or Redis is back.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What keeps the gateway's secrets those of the others.
#[derive(Debug, Default)]
pub(super) struct SharedSessions {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    vault: Arc<Vault>,
    /// Goes with it, which the thread sees.
    _stop: Sender<()>,
}

impl SharedSessions {
    /// Turns to the Redis of a configuration, or to none.
    pub(super) fn configure(&self, vault: Option<&Arc<Vault>>, resumption: &Arc<Resumption>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let now = running.as_ref().map(|running| &running.vault);
        if now.map(Arc::as_ptr) == vault.map(Arc::as_ptr) {
            return;
        }
        *running = vault.and_then(|vault| start(vault, resumption));
    }
}

fn start(vault: &Arc<Vault>, resumption: &Arc<Resumption>) -> Option<Running> {
    let (stop, stopped) = channel();
    let (mine, resumption) = (Arc::clone(vault), Arc::clone(resumption));
    let thread = std::thread::Builder::new().name("sessions".to_owned());
    let started = thread.spawn(move || keep(&mine, &resumption, &stopped));
    if let Err(error) = started {
        tracing::error!(%error, "sessions_not_shared");
        return None;
    }
    Some(Running {
        vault: Arc::clone(vault),
        _stop: stop,
    })
}

fn keep(vault: &Vault, resumption: &Resumption, stopped: &Receiver<()>) {
    let mut known = Arc::new(TicketSecrets::default());
    let mut is_failing = false;
    loop {
        match agreed(vault) {
            Ok(secrets) => {
                if std::mem::take(&mut is_failing) {
                    tracing::info!("sessions_shared_again");
                }
                if secrets != *known {
                    known = Arc::new(secrets);
                    if let Err(error) = resumption.use_secrets(Arc::clone(&known)) {
                        tracing::error!(error = %chain(&error), "ticket_key_not_made");
                    }
                }
            }
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::warn!(error = %chain(&error), "sessions_not_shared");
            }
            Err(_) => {}
        }
        if stopped.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// The secrets of today, tomorrow and yesterday: the first one makes tickets.
fn agreed(vault: &Vault) -> Result<TicketSecrets, VaultError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let today = since.map_or(0, |since| since.as_secs()) / DAY;
    let days = [today, today + 1, today.saturating_sub(1)];
    let secret = |day: &u64| vault.agree(&format!("tickets:{day}"), LIFETIME);
    let secrets: Vec<_> = days.iter().map(secret).collect::<Result<_, _>>()?;
    Ok(TicketSecrets::of(&secrets))
}

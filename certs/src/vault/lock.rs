//! A lock that gateways have in Redis: a key with a life, lengthened while the lock is held.
//!
//! One Redis with a copy that takes over may give a lock twice. What is locked here bears that: two
//! gateways order one certificate, and the later one is used.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use aws_lc_rs::rand;
use redis::cmd;

use super::{Vault, VaultError};

/// How long a lock outlives its process.
const LIFE: Duration = Duration::from_secs(30);

/// How often it is lengthened.
const LENGTHEN_EVERY: Duration = Duration::from_secs(10);

/// Lengthens a lock, or ends it, if it is still ours.
const OURS: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
";

/// The right to work on something, until it is dropped.
#[derive(Debug)]
pub struct VaultLock {
    /// Goes with it, which the keeper sees.
    _held: Sender<()>,
}

impl VaultLock {
    pub(super) fn try_take(vault: &Arc<Vault>, name: &str) -> Result<Option<Self>, VaultError> {
        let mut token = [0; 16];
        rand::fill(&mut token).map_err(|_| VaultError::Seal)?;
        let key = vault.key(name);
        let mut take = cmd("SET");
        take.arg(&key).arg(&token).arg("NX");
        take.arg("PX").arg(LIFE.as_millis() as u64);
        let taken: Option<String> = vault.ask(&take)?;
        if taken.is_none() {
            return Ok(None);
        }
        let (held, dropped) = channel();
        let vault = Arc::clone(vault);
        let say = move |life: Duration| -> Result<u64, VaultError> {
            let mut say = cmd("EVAL");
            say.arg(OURS).arg(1).arg(&key).arg(&token);
            vault.ask(say.arg(life.as_millis() as u64))
        };
        thread::Builder::new()
            .name("lock".to_owned())
            .spawn(move || {
                while dropped.recv_timeout(LENGTHEN_EVERY) == Err(RecvTimeoutError::Timeout) {
                    // What fails now may do next time; there are two more before it is over.
                    let _ = say(LIFE);
                }
                // What cannot be said ends by itself.
                let _ = say(Duration::ZERO);
            })
            .map_err(|_| VaultError::Seal)?;
        Ok(Some(Self { _held: held }))
    }
}

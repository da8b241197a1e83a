//! What gateways share by way of a Redis: files, locks, secrets. Every value is sealed with a secret
//! that the gateways have and Redis has not, and bound to its name: who reads Redis, or finds its
//! files on a disk, learns names and sizes; who writes to it can take away, and put nothing in.
//!
//! Calls block, within a deadline. After a failure the next ones fail at once for a while, so that
//! a Redis that is gone holds up nobody for long.
//!
//! Must not: give Redis a byte of a value that is not sealed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use redis::{Client, Cmd, Connection, FromRedisValue, RedisError, TlsCertificates, cmd};
use zeroize::Zeroizing;

mod lock;
mod seal;

pub use lock::VaultLock;
use seal::Seal;

/// How long nothing is tried after a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// Changes that are read at once.
const CHANGES_MAX: usize = 256;

/// How far back changes are known; who was away for longer reads everything.
const CHANGES_KEPT: u64 = 100_000;

/// The length of a secret that gateways agree on.
const SECRET_BYTES: usize = 32;

/// The largest value, bytes: far above any chain.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Puts a value, or takes it away if it is empty, and counts the change; only if there is none, when
/// asked for that.
const CHANGE: &str = r"
if ARGV[3] == 'new' and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
local number = redis.call('INCR', KEYS[3])
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1])
else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
redis.call('ZADD', KEYS[2], number, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', number - tonumber(ARGV[4]))
return number
";

/// How a Redis is reached, and what it shares with nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultSettings {
    /// Where it is: `redis://` or `rediss://`.
    pub url: Zeroizing<String>,
    /// What values are sealed with; the same at all gateways.
    pub secret: Zeroizing<Vec<u8>>,
    /// The authorities to trust, in PEM; those of the system if none.
    pub trust: Option<Vec<u8>>,
    /// What all keys begin with.
    pub prefix: String,
    /// How long a call may take.
    pub timeout: Duration,
}

/// What went wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The settings are of no use.
    #[error("the Redis cannot be used: {0}")]
    Settings(Arc<RedisError>),
    /// It cannot be reached, or did not do what it was asked.
    #[error("{at}: {source}")]
    Redis {
        /// Its address.
        at: String,
        /// What it said.
        source: Arc<RedisError>,
    },
    /// A value was not sealed with our secret for its name.
    #[error("`{name}` in Redis was sealed with another secret, or is damaged")]
    Foreign {
        /// Its name.
        name: String,
    },
    /// There is no randomness, or a value is too large to seal.
    #[error("a value cannot be sealed")]
    Seal,
}

/// A Redis that gateways share.
pub struct Vault {
    client: Client,
    seal: Seal,
    prefix: String,
    timeout: Duration,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    failed: Option<(Instant, VaultError)>,
}

/// How far changes were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// Files that are others than before.
#[derive(Debug)]
pub struct Changes {
    /// How far they go.
    pub mark: Mark,
    /// Whether these are all the files there are, not only what changed.
    pub is_everything: bool,
    /// Whether there is more to read at once.
    pub is_more: bool,
    /// Their names and what is in them; none if they are gone.
    pub files: VecDeque<(String, Option<Zeroizing<Vec<u8>>>)>,
    /// The first that could not be opened.
    pub foreign: Option<VaultError>,
}

impl Vault {
    /// A Redis by these settings. It is reached when it is first needed.
    pub fn new(settings: &VaultSettings) -> Result<Self, VaultError> {
        let refused = |error| VaultError::Settings(Arc::new(error));
        let client = match settings.url.starts_with("rediss://") {
            true => {
                let tls = TlsCertificates {
                    client_tls: None,
                    root_cert: settings.trust.clone(),
                };
                Client::build_with_tls(settings.url.as_str(), tls)
            }
            false => Client::open(settings.url.as_str()),
        };
        Ok(Self {
            client: client.map_err(refused)?,
            seal: Seal::new(&settings.secret),
            prefix: settings.prefix.clone(),
            timeout: settings.timeout,
            link: Mutex::default(),
        })
    }

    /// Puts a file there for others to find.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), VaultError> {
        self.change(name, &self.seal.seal(&file(name), bytes)?, "")
    }

    /// As `write`, unless there is one of that name.
    pub fn publish(&self, name: &str, bytes: &[u8]) -> Result<(), VaultError> {
        self.change(name, &self.seal.seal(&file(name), bytes)?, "new")
    }

    /// Takes a file away.
    pub fn remove(&self, name: &str) -> Result<(), VaultError> {
        self.change(name, &[], "")
    }

    fn change(&self, name: &str, sealed: &[u8], how: &str) -> Result<(), VaultError> {
        if sealed.len() > VALUE_BYTES_MAX {
            return Err(VaultError::Seal);
        }
        let mut change = cmd("EVAL");
        change.arg(CHANGE).arg(3);
        for key in ["files", "changes", "number"] {
            change.arg(self.key(key));
        }
        change.arg(name).arg(sealed).arg(how).arg(CHANGES_KEPT);
        self.ask::<u64>(&change).map(|_| ())
    }

    /// What changed since a mark; everything if there is none, or Redis began anew since.
    pub fn changes(&self, since: Option<Mark>) -> Result<Changes, VaultError> {
        let number: Option<u64> = self.ask(cmd("GET").arg(self.key("number")))?;
        let number = number.unwrap_or(0);
        let known = since.filter(|since| since.0 <= number && since.0 + CHANGES_KEPT > number);
        let (names, mark) = match known {
            Some(since) if since.0 == number => (Vec::new(), since),
            Some(since) => {
                let mut read = cmd("ZRANGEBYSCORE");
                read.arg(self.key("changes")).arg(format!("({}", since.0));
                read.arg("+inf").arg("WITHSCORES");
                read.arg("LIMIT").arg(0).arg(CHANGES_MAX);
                let changed: Vec<(String, f64)> = self.ask(&read)?;
                let last = changed.last().map_or(number, |(_, at)| *at as u64);
                (
                    changed.into_iter().map(|(name, _)| name).collect(),
                    Mark(last),
                )
            }
            None => (self.ask(cmd("HKEYS").arg(self.key("files")))?, Mark(number)),
        };
        let mut changes = Changes {
            mark,
            is_everything: known.is_none(),
            is_more: mark.0 < number,
            files: VecDeque::with_capacity(names.len()),
            foreign: None,
        };
        for name in names {
            let sealed: Option<Vec<u8>> =
                self.ask(cmd("HGET").arg(self.key("files")).arg(&name))?;
            match sealed.map(|sealed| self.open(&file(&name), &sealed)) {
                Some(Ok(bytes)) => changes.files.push_back((name, Some(bytes))),
                Some(Err(error)) => changes.foreign = changes.foreign.or(Some(error)),
                None => changes.files.push_back((name, None)),
            }
        }
        Ok(changes)
    }

    /// The secret that all gateways have under a name: random bytes of whoever came first. It is
    /// gone after `lifetime`.
    pub fn agree(&self, name: &str, lifetime: Duration) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let name = format!("secret:{name}");
        let mut mine = Zeroizing::new([0; SECRET_BYTES]);
        rand::fill(&mut *mine).map_err(|_| VaultError::Seal)?;
        let sealed = self.seal.seal(&name, &*mine)?;
        let key = self.key(&name);
        let mut set = cmd("SET");
        set.arg(&key).arg(sealed).arg("NX");
        set.arg("PX").arg(lifetime.as_millis() as u64);
        let _: Option<String> = self.ask(&set)?;
        let agreed: Vec<u8> = self.ask(cmd("GET").arg(&key))?;
        self.open(&name, &agreed)
    }

    /// The right to work on something, if no gateway has it. It ends when it is dropped, or some
    /// time after the process did.
    pub fn try_lock(self: &Arc<Self>, what: &str) -> Result<Option<VaultLock>, VaultError> {
        VaultLock::try_take(self, &format!("lock:{what}"))
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        self.seal
            .open(name, sealed)
            .ok_or_else(|| VaultError::Foreign {
                name: name.to_owned(),
            })
    }

    /// A key in Redis. The braces keep all keys on one node of a cluster.
    fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.prefix)
    }

    fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, VaultError> {
        let mut link = self.link();
        if let Some((at, error)) = &link.failed
            && at.elapsed() < PAUSE
        {
            return Err(error.clone());
        }
        let had_one = link.connection.is_some();
        let first = self.try_ask(&mut link, command);
        let asked = match first {
            // It may have been closed while nobody looked.
            Err(error) if had_one && error.is_io_error() && !error.is_timeout() => {
                self.try_ask(&mut link, command)
            }
            asked => asked,
        };
        asked.map_err(|error| {
            let is_of_link = error.is_io_error() || error.is_unrecoverable_error();
            let told = VaultError::Redis {
                at: self.client.get_connection_info().addr().to_string(),
                source: Arc::new(error),
            };
            if is_of_link {
                link.failed = Some((Instant::now(), told.clone()));
            }
            told
        })
    }

    fn try_ask<T: FromRedisValue>(&self, link: &mut Link, command: &Cmd) -> Result<T, RedisError> {
        let connection = match &mut link.connection {
            Some(connection) => connection,
            none => {
                let made = self.client.get_connection_with_timeout(self.timeout)?;
                made.set_read_timeout(Some(self.timeout))?;
                made.set_write_timeout(Some(self.timeout))?;
                none.insert(made)
            }
        };
        let asked = command.query(connection);
        match &asked {
            Ok(_) => link.failed = None,
            // What is read next might be the answer to this.
            Err(error) if error.is_io_error() || error.is_unrecoverable_error() => {
                link.connection = None;
            }
            Err(_) => {}
        }
        asked
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the content of a file is bound to.
fn file(name: &str) -> String {
    format!("file:{name}")
}

impl fmt::Debug for Vault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.client.get_connection_info().addr().to_string();
        out.debug_tuple("Vault").field(&address).finish()
    }
}

impl fmt::Debug for VaultSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("VaultSettings")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

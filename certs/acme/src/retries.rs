//! What failed, and until when it is not tried again. Kept in the storage: over restarts, and for
//! all gateways that share it. Each issuer of a certificate has its own wait; an account that its
//! authority has had enough of leaves it alone for all certificates.
//!
//! Must not: let what is wrong with the hosts of one certificate hold up another.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::account;
use crate::client::RETRY_AFTER_MAX;
use crate::error::Error;
use crate::schedule;
use crate::settings::{Issuer, Managed};
use crate::storage::Storage;

/// The longest pause of an account. What an authority counts may be something of one certificate
/// after all, and that one goes on waiting for as long as it was told to; the others ask again.
const PAUSE_MAX: Duration = Duration::from_secs(3 * 60 * 60);

/// How long failures count after their wait is over.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What failed for a certificate, by the account it was asked by.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retries {
    accounts: BTreeMap<String, Failures>,
}

/// Failures in a row. Moments are in seconds since 1970.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failures {
    count: u32,
    /// Until when nothing is tried.
    until: u64,
    /// Until when the authority wants to be left alone; zero if it did not say.
    told: u64,
    /// What was tried: our own waits are over when that is another.
    of: String,
}

/// When an issuer may be asked for a certificate; in the past if it may be now.
pub(crate) fn allowed_at(storage: &Storage, managed: &Managed, issuer: &Issuer) -> SystemTime {
    let retries: Option<Retries> = read(storage, &storage.retries(&managed.name));
    let account = account::key(issuer);
    let own = retries.as_ref().and_then(|it| it.accounts.get(&account));
    let own = own.map_or(0, |failures| match failures.of == what(managed, issuer) {
        true => failures.until,
        false => failures.told,
    });
    let pause: Option<Failures> = read(storage, &storage.pause(&account));
    let pause = pause.map_or(0, |pause| pause.until);
    // A clock that was wrong when it was written must not hold up anything for ever.
    let believed = |secs: &u64| moment(*secs) <= SystemTime::now() + RETRY_AFTER_MAX;
    let until = [own, pause].into_iter().filter(believed).max();
    moment(until.unwrap_or_default())
}

/// When the first of its issuers may be asked for a certificate.
pub(crate) fn first_allowed_at(storage: &Storage, managed: &Managed) -> SystemTime {
    let issuers = managed.issuers.iter();
    let moments = issuers.map(|issuer| allowed_at(storage, managed, issuer));
    moments.min().unwrap_or(UNIX_EPOCH)
}

/// An issuer failed: until when it is not asked again. The error is of writing that down.
pub(crate) fn note_failure(
    storage: &Storage,
    managed: &Managed,
    issuer: &Issuer,
    error: &Error,
) -> (SystemTime, Result<(), Error>) {
    let now = SystemTime::now();
    let account = account::key(issuer);
    let path = storage.retries(&managed.name);
    let mut retries: Retries = read(storage, &path).unwrap_or_default();
    // What was given up or belongs to issuers of the past.
    retries
        .accounts
        .retain(|_, it| moment(it.until) + KEPT > now);
    let failures = retries.accounts.entry(account.clone()).or_default();
    let of = what(managed, issuer);
    if failures.of != of {
        failures.count = 0;
    }
    let until = failures.add(now, error.retry_at(), &managed.name);
    failures.of = of;
    let mut written = storage.write_json(&path, &retries);
    if error.is_of_account(&managed.hosts) {
        let path = storage.pause(&account);
        let mut pause: Failures = read(storage, &path).unwrap_or_default();
        let told = error.retry_at().map(|at| at.min(now + PAUSE_MAX));
        pause.add(now, told, &account);
        pause.until = pause.until.min(secs(now + PAUSE_MAX));
        written = written.and(storage.write_json(&path, &pause));
    }
    (until, written)
}

/// An issuer gave a certificate.
pub(crate) fn note_success(storage: &Storage, managed: &Managed, issuer: &Issuer) {
    // What cannot be removed is over by itself.
    let retries = storage.retries(&managed.name);
    if retries.exists() {
        let _ = storage.remove(&retries);
    }
    let path = storage.pause(&account::key(issuer));
    let pause: Option<Failures> = read(storage, &path);
    // Another certificate may have been refused in the meantime.
    if pause.is_some_and(|pause| moment(pause.until) <= SystemTime::now()) {
        let _ = storage.remove(&path);
    }
}

/// Removes what counts no more: certificates that are ordered on demand fail once and are never
/// heard of again.
pub(crate) fn tidy(storage: &Storage) {
    storage.sweep();
    let now = SystemTime::now();
    // What cannot be listed or removed is looked at again the next time.
    for path in storage.list(&storage.all_retries()).unwrap_or_default() {
        let retries: Retries = read(storage, &path).unwrap_or_default();
        let mut all = retries.accounts.values();
        if all.all(|it| moment(it.until) + KEPT <= now) {
            let _ = storage.remove(&path);
        }
    }
}

impl Failures {
    fn add(&mut self, now: SystemTime, told: Option<SystemTime>, name: &str) -> SystemTime {
        self.count = self.count.saturating_add(1);
        let wait = now + schedule::retry_after(self.count, name);
        let until = told.map_or(wait, |told| told.max(wait));
        self.until = secs(until);
        self.told = told.map_or(0, secs);
        until
    }
}

/// What is damaged, or cannot be read, holds up nobody.
fn read<T: serde::de::DeserializeOwned>(storage: &Storage, path: &Path) -> Option<T> {
    storage.read_json(path).ok().flatten()
}

/// What is tried: whoever changes that does not want to wait for what failed before. Secrets have no
/// part in it.
fn what(managed: &Managed, issuer: &Issuer) -> String {
    let Issuer {
        profile,
        challenge,
        key,
        ..
    } = issuer;
    let text = format!("{:?} {profile:?} {challenge:?} {key:?}", managed.hosts);
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let digits = data_encoding::HEXLOWER.encode(hash.as_ref());
    digits.get(..16).unwrap_or_default().to_owned()
}

fn moment(secs: u64) -> SystemTime {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(secs));
    at.unwrap_or(UNIX_EPOCH)
}

/// Rounded up: nobody is asked a moment too early.
fn secs(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;

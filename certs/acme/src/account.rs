//! Accounts: made once for each authority, kept in the storage, used by every gateway that shares it.
//!
//! Must not: make a second account where there is one.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::Error;
use crate::settings::Issuer;
use crate::storage::Storage;

/// How often is looked whether another gateway has made the account by now.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long another gateway may take to make it.
const OTHERS_TIME_MAX: Duration = Duration::from_secs(60);

/// An account as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    credentials: AccountCredentials,
    /// The mail addresses that the authority was told.
    #[serde(default)]
    contact: Vec<String>,
}

/// An account at an authority, and the client that speaks for it.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) account: Arc<Account>,
    pub(crate) client: Client,
}

impl Access {
    /// The account at an authority, made if there is none.
    pub(crate) async fn open(issuer: &Issuer, storage: &Storage) -> Result<Self, Error> {
        let client = Client::new(issuer.trust.as_deref())?;
        let path = storage.account(&key(issuer));
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(kept) = storage.read_json::<Kept>(&path)? {
                return Self::with(client, kept, issuer, storage).await;
            }
            // One gateway makes it; the others wait for it.
            if let Some(_lock) = storage.try_lock(&format!("account {}", key(issuer)))? {
                if let Some(kept) = storage.read_json::<Kept>(&path)? {
                    return Self::with(client, kept, issuer, storage).await;
                }
                return Self::create(client, issuer, storage).await;
            }
            if begun.elapsed() > OTHERS_TIME_MAX {
                return Err(Error::Slow {
                    step: "another gateway's registration with the authority",
                    after: OTHERS_TIME_MAX,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn with(
        client: Client,
        kept: Kept,
        issuer: &Issuer,
        storage: &Storage,
    ) -> Result<Self, Error> {
        let builder = Account::builder_with_http(Box::new(client.clone()));
        let has_moved = kept.contact != issuer.contact;
        let account = builder.from_credentials(kept.credentials).await;
        let account = account.map_err(|source| client.failed("signing in", source))?;
        let access = Self {
            account: Arc::new(account),
            client,
        };
        if has_moved {
            access.tell_contact(issuer, storage).await?;
        }
        Ok(access)
    }

    /// Tells the authority where it may write to from now on (RFC 8555 section 7.3.2).
    async fn tell_contact(&self, issuer: &Issuer, storage: &Storage) -> Result<(), Error> {
        let contact = addresses(issuer);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let told = self.account.update_contacts(&contact).await;
        told.map_err(|source| {
            self.client
                .failed("telling the authority the contact", source)
        })?;
        let path = storage.account(&key(issuer));
        if let Some(mut kept) = storage.read_json::<Kept>(&path)? {
            kept.contact.clone_from(&issuer.contact);
            storage.write_json(&path, &kept)?;
        }
        Ok(())
    }

    async fn create(client: Client, issuer: &Issuer, storage: &Storage) -> Result<Self, Error> {
        let contact = addresses(issuer);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let external = issuer
            .external_account
            .as_ref()
            .map(|external| ExternalAccountKey::new(external.key_id.clone(), &external.hmac_key));
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let builder = Account::builder_with_http(Box::new(client.clone()));
        let made = builder
            .create(&new, issuer.directory.clone(), external.as_ref())
            .await;
        // Whoever is killed before it is written down makes another one the next time. The key of an
        // account that belongs to another cannot be chosen, and one that nobody uses harms nobody.
        let (account, credentials) =
            made.map_err(|source| client.failed("registering with the authority", source))?;
        let kept = Kept {
            credentials,
            contact: issuer.contact.clone(),
        };
        storage.write_json(&storage.account(&key(issuer)), &kept)?;
        Ok(Self {
            account: Arc::new(account),
            client,
        })
    }
}

fn addresses(issuer: &Issuer) -> Vec<String> {
    let mails = issuer.contact.iter();
    mails.map(|mail| format!("mailto:{mail}")).collect()
}

/// What accounts are kept under: the directory, and the account elsewhere that they belong to.
pub(crate) fn key(issuer: &Issuer) -> String {
    let external = issuer.external_account.as_ref();
    let external = external.map_or("", |external| &external.key_id);
    let identity = format!("{} {external}", issuer.directory);
    let hash = digest::digest(&digest::SHA256, identity.as_bytes());
    let digits = data_encoding::HEXLOWER.encode(hash.as_ref());
    format!("{}-{}", issuer.name, digits.get(..16).unwrap_or_default())
}

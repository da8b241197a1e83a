//! Settings of `ip_access`.
//!
//! Must not: allow a network to be written in two ways that differ in meaning.

use crate::model::Network;
use crate::model::text::Sound;

crate::model::section! {
    /// Who may come, by address.
    pub struct IpAccess {
        /// The networks that may come; everybody if empty.
        pub allow: Vec<Network> = Vec::new(),
        /// The networks that may not; stronger than `allow`.
        pub deny: Vec<Network> = Vec::new(),
    }
}

impl Sound for IpAccess {
    fn check(&self) -> Result<(), String> {
        if self.allow.is_empty() && self.deny.is_empty() {
            return Err(
                "nobody is allowed or denied\nlist networks in `allow` or `deny`, or take the policy out"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

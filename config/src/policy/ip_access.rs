//! Settings of `ip_access`.
//!
//! Must not: allow a network to be written in two ways that differ in meaning.

use crate::model::Network;

crate::model::section! {
    /// Who may come, by address.
    pub struct IpAccess {
        /// The networks that may come; everybody if empty.

        pub allow: Vec<Network> = Vec::new(),
        /// The networks that may not; stronger than `allow`.

        pub deny: Vec<Network> = Vec::new(),
    }
}

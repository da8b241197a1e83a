//! Who may come, by address. Every level that sets it must allow the client; within a level a
//! matching `deny` wins, and an `allow` list refuses whoever is not on it.
//!
//! Must not: look at any address but the client's as established behind trusted proxies.

use std::net::IpAddr;

use cardea_config::model::Network;
use cardea_config::policy::IpAccess as Settings;
use ipnet::IpNet;

use super::{Levels, Verdict};
use crate::traffic::exchange::Exchange;
use crate::traffic::respond::{Reason, Reply, Response};

/// The compiled policy.
#[derive(Debug)]
pub struct IpAccess {
    allow: Box<[IpNet]>,
    deny: Box<[IpNet]>,
}

impl IpAccess {
    /// One for each level: all of them have to allow the client.
    pub fn compile(levels: &mut Levels<'_>) -> Vec<Self> {
        levels
            .each(|level| level.ip_access.as_deref())
            .map(Self::new)
            .collect()
    }

    fn new(settings: &Settings) -> Self {
        let nets = |networks: &[Network]| networks.iter().map(|network| network.0).collect();
        Self {
            allow: nets(&settings.allow),
            deny: nets(&settings.deny),
        }
    }

    /// For `explain`.
    pub fn summary(&self) -> String {
        format!("allow {:?}, deny {:?}", self.allow, self.deny)
    }

    /// Refuses addresses that may not come.
    pub fn on_request(&self, exchange: &mut Exchange<'_>) -> Verdict {
        if self.allows(exchange.client_address) {
            return Ok(());
        }
        Err(Reply::new(Reason::AddressDenied))
    }

    /// Nothing to do.
    pub fn on_response(&self, _: &Exchange<'_>, _: &mut Response) {}

    fn allows(&self, address: IpAddr) -> bool {
        // An IPv4 client on an IPv6 socket is the same client.
        let address = address.to_canonical();
        let listed = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        !listed(&self.deny) && (self.allow.is_empty() || listed(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_wins_and_an_allow_list_is_exhaustive() {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let check = |allow: &[&str], deny: &[&str], address: &str, expected: bool| {
            let policy = IpAccess {
                allow: networks(allow),
                deny: networks(deny),
            };
            let found = policy.allows(address.parse().unwrap());
            assert_eq!(found, expected, "{allow:?} {deny:?} {address}");
        };
        check(&[], &[], "192.0.2.1", true);
        check(&["10.0.0.0/8"], &[], "10.1.2.3", true);
        check(&["10.0.0.0/8"], &[], "192.0.2.1", false);
        check(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", false);
        check(&[], &["2001:db8::/32"], "2001:db8::1", false);
        check(&["10.0.0.0/8"], &[], "::ffff:10.1.2.3", true);
        check(&[], &["10.0.0.0/8"], "::ffff:10.1.2.3", false);
    }
}

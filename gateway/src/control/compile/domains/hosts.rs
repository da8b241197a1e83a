//! Who claims which host on which listener. A listener that is kept to some hosts serves what its
//! own hosts and those of a domain have in common, and the default domain what is left of them.
//!
//! Must not: let a host through to a listener that is kept to others.

use std::cmp::Reverse;

use cardea_config::model::{Document, Domain, HostPattern, Listener};
use cardea_config::origin::Located;

use crate::traffic::route::HostTable;

/// The claims of all domains, wherever they are served.
pub(super) fn all(document: &Document) -> HostTable {
    let domains: Vec<_> = (0..).zip(&document.domains).collect();
    HostTable::compile(claims(&domains), default(&domains))
}

/// The claims of the domains that are served on a listener.
pub(in crate::control::compile) fn of_listener(
    listener: &Listener,
    document: &Document,
) -> HostTable {
    let domains = (0..).zip(&document.domains);
    let served: Vec<_> = domains
        .filter(|(_, domain)| domain.is_on(listener))
        .collect();
    let claims: Vec<_> = claims(&served).collect();
    within(&listener.hosts, &claims, default(&served))
}

/// Claims as far as a listener's own hosts go, and who takes what is left of those.
pub(in crate::control::compile) fn within(
    own: &[HostPattern],
    claims: &[(&HostPattern, u32)],
    default: Option<u32>,
) -> HostTable {
    let claims = || claims.iter().copied();
    if own.is_empty() {
        return HostTable::compile(claims(), default);
    }
    let is_within = |host: &HostPattern| own.iter().any(|own| own == host || covers(own, host));
    let whole = claims().filter(|(host, _)| is_within(host));
    // Of a wildcard that is wider than the listener's host, the longest takes the host.
    let mut wider: Vec<_> = claims()
        .flat_map(|(host, at)| {
            let covered = own.iter().filter(|own| covers(host, own));
            covered.map(move |own| (Reverse(host.as_str().len()), own, at))
        })
        .collect();
    wider.sort_by_key(|(length, ..)| *length);
    let wider = wider.into_iter().map(|(_, own, at)| (own, at));
    let rest = default.into_iter();
    let rest = rest.flat_map(|at| own.iter().map(move |own| (own, at)));
    // Of two equal claims the first stands.
    HostTable::compile(whole.chain(wider).chain(rest), None)
}

type Served<'d> = [(u32, &'d Located<Domain>)];

fn claims<'d>(domains: &Served<'d>) -> impl Iterator<Item = (&'d HostPattern, u32)> {
    domains.iter().flat_map(|(at, domain)| {
        let hosts = domain.hosts.iter();
        hosts.map(|host| (&host.value, *at))
    })
}

fn default(domains: &Served<'_>) -> Option<u32> {
    let default = domains.iter().find(|(_, domain)| domain.default);
    default.map(|(at, _)| *at)
}

/// Whether one pattern takes every host that another takes, and more.
fn covers(wide: &HostPattern, narrow: &HostPattern) -> bool {
    wide != narrow && wide.covers(narrow.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The claim of a host, by the name of the domain that has it.
    fn claim(own: &str, host: &str) -> Option<String> {
        let text = format!(
            "listeners: [{{ name: web, bind: [':0'], hosts: [{own}] }}]
domains:
  - {{ name: wide, hosts: ['*.x'], policies: {{ respond: {{}} }} }}
  - {{ name: long, hosts: ['*.y.x'], policies: {{ respond: {{}} }} }}
  - {{ name: exact, hosts: [a.x, z], policies: {{ respond: {{}} }} }}
  - {{ name: rest, hosts: [r], default: true, policies: {{ respond: {{}} }} }}
"
        );
        let loaded = cardea_config::parse(&text, "x.yaml");
        let document = loaded
            .unwrap_or_else(|no| unreachable!("{}", no.render(false)))
            .document;
        let table = of_listener(document.listeners.first()?, &document);
        let at = table.find(host.as_bytes())?;
        Some(document.domains.get(at as usize)?.label().to_owned())
    }

    #[test]
    fn a_listener_serves_what_its_hosts_and_a_domain_have_in_common() {
        let check = |own: &str, host: &str, expected: Option<&str>| {
            assert_eq!(claim(own, host).as_deref(), expected, "{own} {host}");
        };
        // All that there is.
        check("", "a.x", Some("exact"));
        check("", "b.x", Some("wide"));
        check("", "elsewhere", Some("rest"));
        // A domain within the listener's hosts, and only as far as they go.
        check("a.x", "a.x", Some("exact"));
        check("a.x", "z", None);
        check("a.x", "b.x", None);
        check("a.x", "elsewhere", None);
        // A host within wildcards of domains.
        check("b.x", "b.x", Some("wide"));
        check("b.x", "c.x", None);
        check("b.y.x", "b.y.x", Some("long"));
        check("'*.b.y.x'", "c.b.y.x", Some("long"));
        check("'*.b.y.x'", "c.y.x", None);
        // Wildcards of the listener.
        check("'*.x'", "a.x", Some("exact"));
        check("'*.x'", "b.x", Some("wide"));
        check("'*.x'", "b.y.x", Some("long"));
        check("'*.x'", "z", None);
        // What no domain claims goes to the default one, as far as the listener goes.
        check("q, '*.q'", "q", Some("rest"));
        check("q, '*.q'", "a.q", Some("rest"));
        check("q, '*.q'", "r", None);
    }
}

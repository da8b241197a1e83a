//! Listeners and certificates.
//!
//! Must not: bind an address or open a file.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Names;
use crate::decode::suggestion;
use crate::diagnostic::Diagnostic;
use crate::model::{Document, Listener, Name, Protocol, Stream};
use crate::origin::{Located, Origin};

pub(super) fn check(document: &Document, found: &mut Vec<Diagnostic>) {
    let mut names = Names::of("listener");
    let mut addresses = HashMap::new();
    for listener in &document.listeners {
        found.extend(names.add(listener.name.as_str(), listener.origin));
        bind(listener, &mut addresses, found);
        hosts(listener, found);
        tls(document, listener, found);
        proxy_protocol(listener, found);
    }
    if document.listeners.is_empty() {
        found.push(
            Diagnostic::error("E-no-listener", None, "the gateway would listen nowhere")
                .remedy("add `listeners: [{ name: web, bind: [\":8080\"] }]`"),
        );
    }
}

fn bind(
    listener: &Located<Listener>,
    addresses: &mut HashMap<(bool, SocketAddr), Origin>,
    found: &mut Vec<Diagnostic>,
) {
    if listener.bind.is_empty() {
        let message = format!("listener `{}` has no address", listener.name);
        found.push(
            Diagnostic::error("E-no-bind", Some(listener.origin), message)
                .remedy("add `bind: [\"127.0.0.1:8080\"]`"),
        );
    }
    // Ports of TCP and UDP have nothing to do with one another.
    let is_udp = listener.protocol == Protocol::Udp;
    for bind in &listener.bind {
        let taken = bind.addresses().iter().filter_map(|address| {
            let first = addresses.insert((is_udp, *address), bind.origin)?;
            // Port 0 is another port each time.
            (address.port() != 0).then_some(first)
        });
        // Both families of `:80` are one mistake.
        if let Some(first) = taken.fold(None, |first, other| first.or(Some(other))) {
            let message = format!("`{}` is listened on twice", **bind);
            found.push(
                Diagnostic::error("E-duplicate-bind", Some(bind.origin), message)
                    .label("the second one")
                    .related(first, "the first one")
                    .remedy("listen on each address once; several domains can share a listener"),
            );
        }
    }
}

/// Hosts of a listener whose clients do not say which one they want.
fn hosts(listener: &Located<Listener>, found: &mut Vec<Diagnostic>) {
    let is_told = match listener.protocol {
        Protocol::Http => true,
        Protocol::Tcp => listener.tls.is_some(),
        Protocol::Udp => false,
    };
    if !is_told && !listener.hosts.is_empty() {
        let message = format!(
            "nobody says on listener `{}` which host they want",
            listener.name
        );
        found.push(
            Diagnostic::error("E-listener-protocol", Some(listener.origin), message).remedy(
                "take `hosts` out, or give a listener with `protocol: tcp` a `tls` section",
            ),
        );
    }
}

fn tls(document: &Document, listener: &Located<Listener>, found: &mut Vec<Diagnostic>) {
    let Some(tls) = &listener.tls else { return };
    if listener.protocol == Protocol::Udp {
        let message = format!(
            "listener `{}` has `tls`, and datagrams have none",
            listener.name
        );
        found.push(
            Diagnostic::error("E-listener-protocol", Some(listener.origin), message)
                .remedy("take `tls` out, or set `protocol: tcp`"),
        );
        return;
    }
    // Whoever only passes TLS on needs no certificate.
    let ends_here = |stream: &Located<Stream>| stream.is_on(&listener.name) && !stream.passes_tls();
    let is_needed = listener.protocol.is_http() || document.streams.iter().any(ends_here);
    if document.certificates.is_empty() && is_needed {
        let message = format!(
            "listener `{}` serves TLS, but there is no certificate",
            listener.name
        );
        found.push(
            Diagnostic::error("E-no-certificate", Some(listener.origin), message)
                .remedy("add one under `certificates`"),
        );
        return;
    }
    if let Some(name) = &tls.default_certificate {
        found.extend(unknown_certificate(document, name));
    }
}

/// A header says who the client is; everybody who can send one can be anybody.
fn proxy_protocol(listener: &Located<Listener>, found: &mut Vec<Diagnostic>) {
    let Some(settings) = &listener.proxy_protocol else {
        return;
    };
    if listener.protocol == Protocol::Udp {
        let message = format!(
            "listener `{}` has `proxy_protocol`, and datagrams come without a header",
            listener.name
        );
        found.push(
            Diagnostic::error("E-listener-protocol", Some(listener.origin), message)
                .remedy("take `proxy_protocol` out, or set `protocol: tcp`"),
        );
        return;
    }
    if settings.from.is_empty() {
        let message = format!("listener `{}` takes headers from nobody", listener.name);
        found.push(
            Diagnostic::error("E-no-proxy", Some(listener.origin), message)
                .remedy("list the networks of your proxies in `proxy_protocol.from`"),
        );
    }
    let mut networks = settings.from.iter();
    let Some(all) = networks.find(|it| it.0.prefix_len() == 0) else {
        return;
    };
    let message = format!(
        "listener `{}` believes what anybody says about their address (`{all}`)",
        listener.name
    );
    found.push(
        Diagnostic::warning("W-proxy-anybody", Some(listener.origin), message)
            .remedy("list the networks of your proxies in `proxy_protocol.from`"),
    );
}

/// Says if there is no certificate of a name.
pub(super) fn unknown_certificate(document: &Document, name: &Located<Name>) -> Option<Diagnostic> {
    let mut certificates = document.certificates.iter();
    if certificates.any(|certificate| certificate.name == name.value) {
        return None;
    }
    let names: Vec<&str> = (document.certificates.iter())
        .map(|certificate| certificate.name.as_str())
        .collect();
    let message = format!("there is no certificate `{}`", **name);
    Some(
        Diagnostic::error("E-unknown-certificate", Some(name.origin), message)
            .remedy(suggestion(name.as_str(), &names)),
    )
}

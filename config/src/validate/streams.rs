//! Streams: which listeners they are on, what each takes there, and where it goes.
//!
//! Must not: say again what the section of a listener or an upstream says about itself.

use std::collections::{HashMap, HashSet};

use super::{Names, routes};
use crate::decode::suggestion;
use crate::diagnostic::Diagnostic;
use crate::model::{Document, Domain, HostPattern, Listener, Protocol, Stream};
use crate::origin::{Located, Origin};

/// Checks all streams, and adds the upstreams they lead to.
pub(super) fn check<'d>(
    document: &'d Document,
    used: &mut HashSet<&'d str>,
    found: &mut Vec<Diagnostic>,
) {
    let mut names = Names::of("stream");
    for stream in &document.streams {
        found.extend(names.add(stream.name.as_str(), stream.origin));
        listeners(document, stream, found);
        let what = || format!("stream `{}`", stream.name);
        if stream.to.is_empty() {
            let message = format!("{} leads nowhere", what());
            found.push(
                Diagnostic::error("E-no-answer", Some(stream.origin), message)
                    .remedy("add `to: <upstream>`"),
            );
        }
        routes::backends(document, &stream.to.0, "stream", used, found);
        upstreams(document, stream, found);
    }
    for listener in &document.listeners {
        on_listener(document, listener, found);
    }
}

/// The listeners that a stream names, and whether it can be on each.
fn listeners(document: &Document, stream: &Located<Stream>, found: &mut Vec<Diagnostic>) {
    if stream.listeners.is_empty() {
        let message = format!("stream `{}` is on no listener", stream.name);
        found.push(
            Diagnostic::error("E-no-listener", Some(stream.origin), message)
                .remedy("name the listeners that it takes connections from in `listeners`"),
        );
    }
    for name in &stream.listeners {
        let mut all = document.listeners.iter();
        match all.find(|listener| listener.name == name.value) {
            Some(listener) => found.extend(
                misfit(stream, listener, name.origin)
                    .map(|problem| problem.related(listener.origin, "this listener")),
            ),
            None => {
                let known: Vec<&str> = (document.listeners.iter())
                    .map(|listener| listener.name.as_str())
                    .collect();
                let message = format!("there is no listener `{}`", **name);
                found.push(
                    Diagnostic::error("E-unknown-listener", Some(name.origin), message)
                        .remedy(suggestion(name.as_str(), &known)),
                );
            }
        }
    }
}

/// Why a stream cannot be on a listener, if it cannot.
fn misfit(stream: &Stream, listener: &Listener, origin: Origin) -> Option<Diagnostic> {
    let wrong = |code: &'static str, what: &str, remedy: &str| {
        let message = format!(
            "stream `{}` {what} listener `{}`",
            stream.name, listener.name
        );
        Some(Diagnostic::error(code, Some(origin), message).remedy(remedy))
    };
    let is_secure = listener.tls.is_some() && listener.protocol != Protocol::Udp;
    match listener.protocol {
        Protocol::Http if !is_secure => wrong(
            "E-stream-protocol",
            "cannot tell its connections from requests on",
            "set `protocol: tcp` of the listener; on one for HTTP with `tls` it can take `hosts`",
        ),
        Protocol::Http if !stream.passes_tls() => wrong(
            "E-stream-tls",
            "can only take TLS as it is from",
            "set `tls: passthrough`, or take a listener with `protocol: tcp`",
        ),
        Protocol::Http if stream.hosts.is_empty() => wrong(
            "E-stream-hosts",
            "would leave nothing to the domains of",
            "say in `hosts` what it takes, or set `protocol: tcp` of the listener",
        ),
        Protocol::Tcp | Protocol::Udp if !is_secure && stream.tls.is_some() => wrong(
            "E-stream-tls",
            "says what becomes of TLS, and there is none on",
            "take `tls` out, or give a listener with `protocol: tcp` a `tls` section",
        ),
        Protocol::Tcp | Protocol::Udp if !is_secure && !stream.hosts.is_empty() => wrong(
            "E-stream-hosts",
            "has hosts, and nobody says which one they want on",
            "take `hosts` out, or give a listener with `protocol: tcp` a `tls` section",
        ),
        _ => None,
    }
}

/// Upstreams with TLS or a header of their own, where there is none to be added.
fn upstreams(document: &Document, stream: &Stream, found: &mut Vec<Diagnostic>) {
    let is_udp = |listener: &Located<Listener>| {
        listener.protocol == Protocol::Udp && stream.is_on(&listener.name)
    };
    let has_datagrams = document.listeners.iter().any(is_udp);
    let why = if stream.passes_tls() {
        "passes TLS on as it is"
    } else if has_datagrams {
        "passes datagrams on"
    } else {
        return;
    };
    for backend in &stream.to.0 {
        let Some(upstream) = document.upstreams.get(&backend.upstream) else {
            continue;
        };
        let (what, label) = if upstream.tls.is_some() {
            ("tls", "it would be put into TLS again")
        } else if has_datagrams && upstream.proxy_protocol.is_some() {
            ("proxy_protocol", "datagrams have no header")
        } else {
            continue;
        };
        let message = format!(
            "stream `{}` {why}, and upstream `{}` has `{what}`",
            stream.name, backend.upstream
        );
        found.push(
            Diagnostic::error("E-stream-upstream", Some(backend.origin), message)
                .label(label)
                .related(upstream.origin, "this upstream")
                .remedy(format!("take an upstream without `{what}`")),
        );
    }
}

/// What a listener of streams has, and who claims the same of it.
fn on_listener(document: &Document, listener: &Located<Listener>, found: &mut Vec<Diagnostic>) {
    let streams: Vec<&Located<Stream>> = (document.streams.iter())
        .filter(|stream| stream.is_on(&listener.name))
        .collect();
    if listener.protocol.is_http() {
        let domains = document.domains.iter();
        let domains = domains.filter(|domain| domain.is_on(listener));
        hosts(listener, domains, &streams, found);
        return;
    }
    if streams.is_empty() {
        let message = format!("no stream is on listener `{}`", listener.name);
        found.push(
            Diagnostic::warning("W-no-stream", Some(listener.origin), message)
                .remedy("what comes there is dropped; add one under `streams`"),
        );
    }
    hosts(listener, std::iter::empty(), &streams, found);
    let mut rest = streams.iter().filter(|stream| stream.hosts.is_empty());
    if let Some(first) = rest.next() {
        for second in rest {
            let message = format!(
                "two streams take everything from listener `{}`",
                listener.name
            );
            found.push(
                Diagnostic::error("E-duplicate-default", Some(second.origin), message)
                    .label("the second one")
                    .related(first.origin, "the first one")
                    .remedy(match listener.tls {
                        Some(_) => "say in `hosts` what each takes",
                        None => "keep one of them, or give each a listener of its own",
                    }),
            );
        }
    }
}

/// Hosts that two streams claim on a listener, or a domain and a stream.
fn hosts<'d>(
    listener: &Listener,
    domains: impl Iterator<Item = &'d Located<Domain>>,
    streams: &[&'d Located<Stream>],
    found: &mut Vec<Diagnostic>,
) {
    if streams.is_empty() {
        return;
    }
    let mut claims: HashMap<&HostPattern, (Origin, &str)> = HashMap::new();
    for host in domains.flat_map(|domain| &domain.hosts) {
        claims.insert(&host.value, (host.origin, "a domain claims it here"));
    }
    for host in streams.iter().flat_map(|stream| &stream.hosts) {
        let mine = (host.origin, "another stream claims it here");
        let Some((first, whose)) = claims.insert(&host.value, mine) else {
            continue;
        };
        let message = format!(
            "host `{}` is claimed twice on listener `{}`",
            **host, listener.name
        );
        found.push(
            Diagnostic::error("E-duplicate-host", Some(host.origin), message)
                .label("the second claim")
                .related(first, whose)
                .remedy("keep it at one of them, or put them on different `listeners`"),
        );
    }
}

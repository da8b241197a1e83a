//! Streams: each compiled by itself, and for each listener who takes which host.
//!
//! Must not: know what a listener does with them.

use std::sync::Arc;
use std::time::Duration;

use cardea_config::model::{self, Document, HostPattern};

use super::domains::hosts;
use crate::telemetry::metrics::Metrics;
use crate::traffic::domain::Backend;
use crate::traffic::route::WeightedChoice;
use crate::traffic::stream::{ListenerStreams, Stream};
use crate::traffic::upstream::compile::Upstreams;

/// The longest silence of a connection where nothing is set: that of tunnels.
const CONNECTION_IDLE: Duration = Duration::from_secs(3600);

/// The longest silence of a session of UDP where nothing is set: whoever waits for a reply waits
/// less.
const SESSION_IDLE: Duration = Duration::from_secs(60);

/// The streams of a configuration, in the order of its document.
#[derive(Debug)]
pub struct Streams(Box<[Arc<Stream>]>);

impl Streams {
    /// Compiles the streams.
    pub fn compile(document: &Document, upstreams: &Upstreams, metrics: &Metrics) -> Self {
        let streams = document.streams.iter();
        Self(
            streams
                .map(|settings| Arc::new(stream(settings, upstreams, metrics)))
                .collect(),
        )
    }

    /// What a listener has of them; nothing for one that only serves domains.
    pub fn of_listener(
        &self,
        listener: &model::Listener,
        document: &Document,
    ) -> Option<Box<ListenerStreams>> {
        let all = document.streams.iter().zip(&self.0);
        let here: Vec<_> = all
            .filter(|(settings, _)| settings.is_on(&listener.name))
            .collect();
        if here.is_empty() && listener.protocol.is_http() {
            return None;
        }
        let claims = (0..).zip(&here).flat_map(|(at, (settings, _))| {
            let hosts = settings.hosts.iter();
            hosts.map(move |host| (&host.value, at))
        });
        let claims: Vec<(&HostPattern, u32)> = claims.collect();
        let mut rest = (0..).zip(&here);
        let rest = rest.find(|(_, (settings, _))| settings.hosts.is_empty());
        let udp = &listener.udp;
        Some(Box::new(ListenerStreams {
            protocol: listener.protocol,
            pass_tls: here.iter().any(|(settings, _)| settings.passes_tls()),
            sessions_max: u64::from(udp.sessions_max),
            datagram_bytes_max: usize::try_from(udp.datagram_bytes_max.0).unwrap_or(usize::MAX),
            hosts: hosts::within(&listener.hosts, &claims, rest.map(|(at, _)| at)),
            streams: here.iter().map(|(_, stream)| Arc::clone(stream)).collect(),
        }))
    }
}

fn stream(settings: &model::Stream, upstreams: &Upstreams, metrics: &Metrics) -> Stream {
    // That there are upstreams of these names was checked when the document was.
    let backends = settings.to.0.iter().filter_map(|backend| {
        let upstream = upstreams.find(backend.upstream.as_str())?;
        Some(Backend {
            upstream: Arc::clone(upstream),
            slot: metrics.upstream_slot(&upstream.name),
        })
    });
    let idle = settings.timeouts.idle.map(|idle| idle.0);
    Stream {
        name: settings.name.shared(),
        passes_tls: settings.passes_tls(),
        backends: backends.collect(),
        weights: WeightedChoice::new(settings.to.0.iter().map(|backend| backend.weight)),
        connect: settings.timeouts.connect.0,
        connection_idle: idle.unwrap_or(CONNECTION_IDLE),
        session_idle: idle.unwrap_or(SESSION_IDLE),
        slot: metrics.stream_slot(&settings.name.shared()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::route::HostTable;

    /// Who has a host on a listener: a stream by its name, else a domain, else nobody.
    fn taker(listener: &str, host: Option<&str>) -> String {
        let text = "listeners:
  - { name: secure, bind: [':1'], tls: {} }
  - { name: vault, bind: [':2'], protocol: tcp, tls: {}, hosts: ['*.x', v] }
  - { name: plain, bind: [':3'], protocol: tcp }
  - { name: other, bind: [':4'], tls: {} }
certificates: [{ name: n, chain: c, key: k }]
domains: [{ hosts: [a.x, '*.b.x'], policies: { respond: {} } }]
streams:
  - { name: wide, listeners: [secure], tls: passthrough, hosts: ['*.x', c.b.x], to: app }
  - { name: some, listeners: [vault], hosts: [a.x, v, w], to: app }
  - { name: rest, listeners: [vault, plain], to: app }
upstreams: { app: { endpoints: ['127.0.0.1:1'] } }
";
        let loaded = cardea_config::parse(text, "x.yaml");
        let document = loaded
            .unwrap_or_else(|no| unreachable!("{}", no.render(false)))
            .document;
        let (upstreams, _) = Upstreams::compile(None, &document);
        let streams = Streams::compile(&document, &upstreams.unwrap(), &Metrics::new(1));
        let mut listeners = document.listeners.iter();
        let settings = listeners.find(|it| it.name.as_str() == listener).unwrap();
        let domains = hosts::of_listener(settings, &document);
        let domains = if settings.protocol.is_http() {
            domains
        } else {
            HostTable::default()
        };
        let here = streams.of_listener(settings, &document);
        if let Some(stream) = here.as_ref().and_then(|it| it.find(host, &domains)) {
            return stream.name.to_string();
        }
        let domain = domains.find(host.unwrap_or_default().as_bytes());
        domain.map_or("nobody", |_| "domain").to_owned()
    }

    #[test]
    fn whoever_claims_a_host_more_closely_has_it() {
        let check = |listener: &str, host: &str, expected: &str| {
            let host = (!host.is_empty()).then_some(host);
            assert_eq!(taker(listener, host), expected, "{listener} {host:?}");
        };
        check("secure", "a.x", "domain");
        check("secure", "A.X", "domain");
        check("secure", "q.x", "wide");
        check("secure", "q.b.x", "domain");
        check("secure", "c.b.x", "wide");
        check("secure", "b.x", "wide");
        check("secure", "x", "nobody");
        check("secure", "", "nobody");
        check("other", "q.x", "nobody");
        check("other", "a.x", "domain");
        // As far as the listener's own hosts go.
        check("vault", "a.x", "some");
        check("vault", "v", "some");
        check("vault", "w", "nobody");
        check("vault", "q.x", "rest");
        check("vault", "", "nobody");
        check("plain", "", "rest");
    }

    #[test]
    fn a_listener_for_domains_has_nothing_of_them() {
        let text = "listeners: [{ name: web, bind: [':1'] }]\n\
                    domains: [{ hosts: [a.x], policies: { respond: {} } }]\n";
        let loaded = cardea_config::parse(text, "x.yaml").unwrap();
        let document = loaded.document;
        let (upstreams, _) = Upstreams::compile(None, &document);
        let streams = Streams::compile(&document, &upstreams.unwrap(), &Metrics::new(1));
        let listener = &document.listeners[0];
        assert!(streams.of_listener(listener, &document).is_none());
    }
}

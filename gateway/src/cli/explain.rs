//! `cardea explain`: what would happen to a request, and why, offline against a file: the
//! listener, the certificate, the domain, every candidate route and why it lost, the policies, the
//! upstream and its endpoints, each with the place it was written.
//!
//! Must not: send anything, or decide by other code than traffic does.

use std::borrow::Cow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use cardea_config::model::{self, Document};
use cardea_config::origin::Sources;
use cardea_config::source::Loaded;

use crate::control::compile::{self, Compiled};
use crate::snapshot::ListenerPlan;
use crate::telemetry::metrics::Metrics;
use crate::traffic::domain::{Domain, Route};
use crate::traffic::headers::{HeaderName, Headers};
use crate::traffic::respond::Reason;
use crate::traffic::route::explain::{Candidate, Outcome, Verdict};
use crate::traffic::route::table::Conflict;
use crate::traffic::route::{RequestView, normalise};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The method
    method: String,
    /// The URL, scheme included
    url: String,
    /// A header field of the request, as `name: value`
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A URL, taken apart.
struct Url<'u> {
    secure: bool,
    host: String,
    port: Option<u16>,
    path: &'u str,
    query: Option<&'u str>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cardea_certs::provider::install();
    let path = super::required_configuration(arguments.config.as_deref())?;
    let Loaded {
        document, sources, ..
    } = match cardea_config::load(&path) {
        Ok(loaded) => loaded,
        Err(refused) => {
            eprintln!("{}", refused.render(false));
            return Ok(ExitCode::from(1));
        }
    };
    let document = Arc::new(document);
    let compiled = compile::compile(Arc::clone(&document), 1, None, &Metrics::new(0));
    let compiled = match compiled {
        Ok((compiled, _)) => compiled,
        Err(found) => {
            eprintln!(
                "{}",
                cardea_config::diagnostic::render(&found, &sources, false)
            );
            return Ok(ExitCode::from(1));
        }
    };
    let url = Url::parse(&arguments.url)?;
    let mut headers = Headers::default();
    for field in &arguments.headers {
        let (name, value) = field
            .split_once(':')
            .with_context(|| format!("`{field}` is no `name: value`"))?;
        headers.append(&HeaderName::new(name.trim()), value.trim().as_bytes());
    }
    let explanation = Explanation {
        document: &document,
        sources: &sources,
        compiled: &compiled,
    };
    let served = explanation.print(&arguments.method, &url, &headers);
    Ok(if served {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

impl<'u> Url<'u> {
    fn parse(url: &'u str) -> anyhow::Result<Self> {
        let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            _ => bail!("`{url}` is no URL: write http://host/path or https://host/path"),
        };
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(split);
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let parsed = cardea_http1::parse_authority(authority.as_bytes())
            .ok()
            .with_context(|| format!("`{authority}` is no host"))?;
        let host = parsed.host.of(authority.as_bytes()).to_ascii_lowercase();
        Ok(Self {
            secure,
            host: String::from_utf8_lossy(&host).into_owned(),
            port: parsed.port,
            path: if path.is_empty() { "/" } else { path },
            query,
        })
    }
}

struct Explanation<'e> {
    document: &'e Document,
    sources: &'e Sources,
    compiled: &'e Compiled,
}

impl Explanation<'_> {
    /// Prints what happens; false if the request is not served.
    fn print(&self, method: &str, url: &Url<'_>, headers: &Headers) -> bool {
        let Some(listener) = self.listener(url) else {
            println!(
                "listener   none serves {} here",
                if url.secure { "HTTPS" } else { "HTTP" }
            );
            return false;
        };
        let origin = self
            .document
            .listeners
            .iter()
            .find(|one| one.name.as_str() == &*listener.name);
        println!(
            "listener   {}{}",
            listener.name,
            self.place(origin.map(|one| one.origin))
        );
        if let Some(stream) = listener.stream_of(Some(&url.host)).filter(|_| url.secure) {
            println!("stream     {} takes the host, TLS and all", stream.name);
            return true;
        }
        if url.secure {
            match self.compiled.certificates.name_for(&url.host) {
                Some(name) => println!("certificate {name}"),
                None => println!("certificate the default: none names {}", url.host),
            }
        }
        let Some(index) = listener.hosts.find(url.host.as_bytes()) else {
            println!(
                "domain     none claims {} here: 404 domain_unknown",
                url.host
            );
            return false;
        };
        let (Some(domain), Some(settings)) = (
            self.compiled.snapshot.domains.get(index as usize),
            self.document.domains.get(index as usize),
        ) else {
            return false;
        };
        println!(
            "domain     {}{}",
            domain.name,
            self.place(Some(settings.origin))
        );
        let mut path = Vec::new();
        if let Err(error) = normalise(url.path.as_bytes(), &listener.paths, &mut path) {
            let reason = Reason::of_path(error);
            println!("path       refused: {error}");
            println!("result     {} {}", reason.status(), reason.code());
            return false;
        }
        println!("path       {}", String::from_utf8_lossy(&path));
        let view = RequestView {
            method: method.as_bytes(),
            path: &path,
            query: url.query.map(str::as_bytes),
            headers,
            client: None,
        };
        match self.print_routes(domain, settings, &view) {
            Ok(route) => {
                self.print_way(route);
                true
            }
            Err(result) => {
                println!("result     {result}");
                false
            }
        }
    }

    /// Prints every candidate, and returns the route that takes the request, or what is answered
    /// if none does.
    fn print_routes<'d>(
        &self,
        domain: &'d Domain,
        settings: &model::Domain,
        request: &RequestView<'_>,
    ) -> Result<&'d Route, String> {
        println!("routes     in order of precedence:");
        let routing = domain.table.explain(request);
        for candidate in &routing.candidates {
            println!("  {}", self.candidate(settings, candidate));
        }
        let unknown = || "404 route_unknown".to_owned();
        match routing.verdict {
            Verdict::Taken(found) => domain.routes.get(found.route).ok_or_else(unknown),
            Verdict::Unmatched => Err(unknown()),
            Verdict::Ambiguous { conflict, .. } => Err(format!(
                "400 path_ambiguous: {}",
                reading(settings, &conflict)
            )),
        }
    }

    /// A line about one alternative of a route.
    fn candidate(&self, domain: &model::Domain, candidate: &Candidate) -> String {
        let (mark, outcome) = match &candidate.outcome {
            Outcome::First => ("→", "the first that matches".to_owned()),
            Outcome::Outranked { by, advantage } => {
                let other = label(domain, *by);
                (
                    "✗",
                    format!("matches too, but {other} goes first: {advantage}"),
                )
            }
            Outcome::Lost(mismatches) => {
                let reasons: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
                ("✗", reasons.join("; "))
            }
        };
        let origin = domain.routes.get(candidate.route).map(|route| {
            let alternative = route.matches.get(candidate.alternative);
            alternative.map_or(route.origin, |alternative| alternative.origin)
        });
        let (label, asks) = (label(domain, candidate.route), &candidate.asks);
        format!("{mark} {label} ({asks}): {outcome}{}", self.place(origin))
    }

    /// Prints what happens to a request of a route.
    fn print_way(&self, route: &Route) {
        println!("policies   in the order they run:");
        for policy in route.chain.iter() {
            println!("  {}: {}", policy.name(), policy.summary());
        }
        if route.grpc_web {
            println!("  grpc_web: a call of gRPC-Web goes on as one of gRPC");
        }
        for backend in &route.backends {
            let name = &backend.upstream.name;
            let settings = self
                .document
                .upstreams
                .iter()
                .find(|(known, _)| known.as_str() == &**name);
            println!(
                "upstream   {name}{}",
                self.place(settings.map(|(_, one)| one.origin))
            );
            for source in &*backend.upstream.settings.sources {
                println!("  endpoint {} (weight {})", source.target, source.weight);
            }
        }
    }

    /// The listener that would take the request: by port if the URL names one, else the first of
    /// its kind.
    fn listener(&self, url: &Url<'_>) -> Option<&ListenerPlan> {
        let plans = self.compiled.snapshot.listeners.iter().map(AsRef::as_ref);
        let is_of_kind =
            |plan: &&ListenerPlan| plan.serves_http() && plan.tls.is_some() == url.secure;
        let mut of_kind = plans.filter(is_of_kind);
        let Some(port) = url.port else {
            return of_kind.next();
        };
        of_kind.find(|plan| {
            let wanted = self.compiled.listeners.wanted().iter();
            wanted
                .filter(|key| key.id == plan.id)
                .any(|key| key.address.port() == port)
        })
    }

    fn place(&self, origin: Option<cardea_config::origin::Origin>) -> String {
        origin
            .map(|origin| format!("   {}", self.sources.describe(origin)))
            .unwrap_or_default()
    }
}

fn label(domain: &model::Domain, at: usize) -> Cow<'_, str> {
    domain
        .routes
        .get(at)
        .map(|route| route.label(at))
        .unwrap_or_default()
}

/// How the path could be read, and where that would lead.
fn reading(domain: &model::Domain, conflict: &Conflict) -> String {
    let Some(path) = &conflict.reading else {
        return "an origin may find no sense in the path".to_owned();
    };
    let path = String::from_utf8_lossy(path);
    let route = match conflict.route {
        Some(at) => format!("which {} takes", label(domain, at)),
        None => "which no route takes".to_owned(),
    };
    format!("an origin may read the path as {path}, {route}")
}

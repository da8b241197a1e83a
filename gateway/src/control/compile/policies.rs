//! Policies of all levels, compiled into the chain of a route. Whether the most specific level
//! wins or all apply is decided here, once, as the configuration's documentation says.
//!
//! Must not: order them; the list in `policy` does.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{Match, PathMatch};
use cardea_config::origin::{Located, Origin};
use cardea_config::policy::{self as settings, Policies, RateLimit, RedirectStatus, Scheme};

use crate::policy::body_limit::BodyLimit;
use crate::policy::cors::Cors;
use crate::policy::header_edits::HeaderEdits;
use crate::policy::ip_access::IpAccess;
use crate::policy::rate_limit::{self, Limiter};
use crate::policy::redirect::Redirect;
use crate::policy::respond::Respond;
use crate::policy::rewrite::{PathRewrite, Rewrite};
use crate::policy::{Chain, Policy};

/// A level's place in the document: what a limiter is remembered by across reloads.
#[derive(Debug, Clone)]
pub struct Place {
    path: String,
    origin: Origin,
}

impl Place {
    /// The gateway itself.
    pub fn gateway() -> Self {
        Self {
            path: String::new(),
            origin: Origin::default(),
        }
    }

    /// A domain, or a route of one.
    pub fn new(path: String, origin: Origin) -> Self {
        Self { path, origin }
    }
}

/// The rate limiters of a configuration, shared with the one before where nothing changed.
#[derive(Debug, Default)]
pub struct Limiters {
    /// In order, so that all of a domain's are found together.
    previous: BTreeMap<String, (RateLimit, Arc<Limiter>)>,
    current: BTreeMap<String, (RateLimit, Arc<Limiter>)>,
}

impl Limiters {
    /// Limiters that go on where those before stood.
    pub fn new(previous: Option<&Self>) -> Self {
        Self {
            previous: previous
                .map(|before| before.current.clone())
                .unwrap_or_default(),
            current: BTreeMap::new(),
        }
    }

    /// Keeps the limiters of a domain that is taken over as it was.
    pub fn keep(&mut self, prefix: &str) {
        let after = self.previous.range(prefix.to_owned()..);
        let kept = after.take_while(|(path, _)| path.starts_with(prefix));
        self.current
            .extend(kept.map(|(path, limiter)| (path.clone(), limiter.clone())));
    }

    /// Whether any limiter stands below a place.
    pub fn is_empty(&self) -> bool {
        self.previous.is_empty()
    }

    fn limiter(&mut self, path: String, settings: &RateLimit) -> Arc<Limiter> {
        if let Some((_, limiter)) = self.current.get(&path) {
            return Arc::clone(limiter);
        }
        let limiter = match self.previous.get(&path) {
            Some((before, limiter)) if before == settings => Arc::clone(limiter),
            _ => Arc::new(Limiter::new(
                u64::from(settings.rate),
                settings.per.0,
                u64::from(settings.burst.unwrap_or(settings.rate)),
                settings.entries_max as usize,
            )),
        };
        self.current
            .insert(path, (settings.clone(), Arc::clone(&limiter)));
        limiter
    }
}

/// The levels that apply to something, the gateway first.
#[derive(Debug)]
pub struct Levels<'p> {
    levels: Vec<(&'p Policies, Option<Place>)>,
    /// The paths a route matches, for prefix rewrites.
    matches: &'p [Located<Match>],
}

impl<'p> Levels<'p> {
    /// The gateway's level alone.
    pub fn gateway(policies: &'p Policies) -> Self {
        Self {
            levels: vec![(policies, Some(Place::gateway()))],
            matches: &[],
        }
    }

    /// With a more specific level.
    #[must_use]
    pub fn with(mut self, policies: &'p Policies, place: Place) -> Self {
        self.levels.push((policies, Some(place)));
        self
    }

    /// With what the route matches.
    #[must_use]
    pub fn matching(mut self, matches: &'p [Located<Match>]) -> Self {
        self.matches = matches;
        self
    }

    /// The whole chain.
    pub fn chain(&self, limiters: &mut Limiters, place: &Place) -> (Chain, Vec<Diagnostic>) {
        let (mut policies, mut found) = self.stacking(limiters);
        if let Some(limit) = self.specific(|level| level.body_limit.as_ref()) {
            policies.push(Policy::BodyLimit(BodyLimit::new(
                limit.on().map(|size| size.0),
            )));
        }
        if let Some(respond) = self.specific(|level| level.respond.as_deref()) {
            policies.push(Policy::Respond(Respond::compile(respond)));
        }
        let mut fail = |error: regex::Error| {
            found.push(
                Diagnostic::error(
                    "E-rewrite",
                    Some(place.origin),
                    "a rewrite cannot be compiled",
                )
                .label(error.to_string()),
            );
        };
        if let Some(redirect) = self.specific(|level| level.redirect.as_deref()) {
            match self.redirect(redirect) {
                Ok(redirect) => policies.push(Policy::Redirect(redirect)),
                Err(error) => fail(error),
            }
        }
        if let Some(rewrite) = self.specific(|level| level.rewrite.as_deref()) {
            match rewrite
                .path
                .as_ref()
                .map(|path| self.path_rewrite(path))
                .transpose()
            {
                Ok(path) => {
                    let host = rewrite.host.as_deref().map(Into::into);
                    policies.push(Policy::Rewrite(Rewrite::new(path, host)));
                }
                Err(error) => fail(error),
            }
        }
        (Chain::new(policies), found)
    }

    /// The chain of requests that no route takes: those policies that may refuse a request, count
    /// it, or dress the response.
    pub fn refusing_chain(
        &self,
        limiters: &mut Limiters,
        place: &Place,
    ) -> (Chain, Vec<Diagnostic>) {
        let answers = self.specific(|level| level.redirect.as_ref()).is_some()
            || self.specific(|level| level.respond.as_ref()).is_some();
        if answers {
            return self.chain(limiters, place);
        }
        let (policies, found) = self.stacking(limiters);
        (Chain::new(policies), found)
    }

    /// What every level adds to, and CORS.
    fn stacking(&self, limiters: &mut Limiters) -> (Vec<Policy>, Vec<Diagnostic>) {
        let mut policies = Vec::new();
        for (level, place) in &self.levels {
            if let Some(access) = &level.ip_access {
                policies.push(Policy::IpAccess(IpAccess::compile(access)));
            }
            if let Some(edits) = &level.header_edits {
                policies.push(Policy::HeaderEdits(HeaderEdits::compile(edits)));
            }
            let limits = level.rate_limit.iter().flat_map(|limits| &limits.0);
            for (number, settings) in limits.enumerate() {
                let path = place.as_ref().map_or("", |place| place.path.as_str());
                let limiter = limiters.limiter(format!("{path}#{number}"), settings);
                policies.push(Policy::RateLimit(rate_limit::RateLimit::new(
                    settings, limiter,
                )));
            }
        }
        if let Some(cors) = self.specific(|level| level.cors.as_deref()) {
            policies.push(Policy::Cors(Cors::compile(cors)));
        }
        (policies, Vec::new())
    }

    /// The setting of the most specific level that has one.
    fn specific<'s, T>(&'s self, setting: impl Fn(&'s Policies) -> Option<T>) -> Option<T> {
        self.levels
            .iter()
            .rev()
            .find_map(|(level, _)| setting(level))
    }

    fn redirect(&self, redirect: &settings::Redirect) -> Result<Redirect, regex::Error> {
        Ok(Redirect {
            scheme: redirect.scheme.map(|scheme| match scheme {
                Scheme::Http => "http".into(),
                Scheme::Https => "https".into(),
            }),
            host: redirect.host.as_deref().map(Into::into),
            port: redirect.port,
            path: redirect
                .path
                .as_ref()
                .map(|path| self.path_rewrite(path))
                .transpose()?,
            status: match redirect.status {
                RedirectStatus::MovedPermanently => 301,
                RedirectStatus::Found => 302,
                RedirectStatus::SeeOther => 303,
                RedirectStatus::TemporaryRedirect => 307,
                RedirectStatus::PermanentRedirect => 308,
            },
        })
    }

    fn path_rewrite(&self, rewrite: &settings::PathRewrite) -> Result<PathRewrite, regex::Error> {
        Ok(match rewrite {
            settings::PathRewrite::ReplaceFull(path) => PathRewrite::Full(path.as_str().into()),
            settings::PathRewrite::ReplacePrefix(with) => PathRewrite::Prefix {
                matched: self.prefixes(),
                with: with.as_str().into(),
            },
            settings::PathRewrite::Regex(pattern) => PathRewrite::Pattern {
                pattern: regex::bytes::RegexBuilder::new(&pattern.pattern)
                    .size_limit(1 << 20)
                    .build()?,
                replacement: pattern.replacement.as_bytes().into(),
            },
        })
    }

    /// The prefixes that the route's alternatives match; everything if one has none.
    fn prefixes(&self) -> Box<[Box<str>]> {
        let prefixes = self
            .matches
            .iter()
            .map(|alternative| match &alternative.path {
                Some(path) => match &path.value {
                    PathMatch::Prefix(prefix) | PathMatch::Exact(prefix) => prefix.as_str().into(),
                    PathMatch::Regex(_) => "/".into(),
                },
                None => "/".into(),
            });
        let prefixes: Box<[Box<str>]> = prefixes.collect();
        if prefixes.is_empty() {
            [Box::from("/")].into()
        } else {
            prefixes
        }
    }
}

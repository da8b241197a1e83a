//! The routes of a domain, compiled: which of them takes a request. It comes after the path is
//! normalised and before the route's policies are asked.
//!
//! A route has alternatives; of all alternatives that match, the one wins that has, in this order:
//! an exact path, else a regular expression, else the longest prefix; that it is about calls of
//! gRPC; a method; more header fields; more query parameters; a rule about the client's certificate;
//! the earlier place in the document. This is the order of the
//! Gateway API, which leaves open where regular expressions stand. Here they stand before
//! prefixes, of any length: whoever writes one wants to pick requests out of what a prefix takes,
//! and a prefix that is to win can be put as an expression, but not the other way round.
//!
//! Must not: depend on how it is laid out. The order is total, and a naive router that knows only
//! the rules above has to agree with every answer (`tests/oracle.rs`).

use std::cmp::Reverse;
use std::ops::Range;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{Match, PathMatch, Route, ValueMatch};
use cardea_config::origin::Located;

use super::matcher::{Conditions, Expected, HeaderTest, QueryTest};
use super::normalise::{PathRules, normalise_written};
use super::pattern::{Pattern, describe};
use super::reading;
use super::tree::{Growing, PathTree};
use super::{Found, NoRoute, RequestView};
use crate::traffic::headers::HeaderName;
use crate::traffic::peer;

/// The routes of a domain.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Every alternative of every route, in order of precedence.
    pub(super) alternatives: Box<[Alternative]>,
    /// The exact paths and prefixes among them.
    tree: PathTree,
    /// The regular expressions among them.
    patterns: Range<usize>,
    /// Whether one route takes every request, so that no reading of a path could lead elsewhere.
    has_one_way: bool,
    /// The answer to every request, if there is only one. Many domains have one route, and what
    /// they are laid out in need not be looked at.
    only: Option<Found>,
}

/// One alternative of a route.
#[derive(Debug)]
pub(super) struct Alternative {
    /// The route's place in the document.
    pub(super) route: u32,
    /// The alternative's place in the route.
    pub(super) place: u32,
    pub(super) path: PathTest,
    /// What it asks besides; most ask nothing.
    pub(super) conditions: Option<Box<Conditions>>,
}

/// What an alternative asks of the path.
#[derive(Debug)]
pub(super) enum PathTest {
    Exact(Box<[u8]>),
    Pattern(Box<Pattern>),
    /// Without a slash at its end; empty takes every path.
    Prefix(Box<[u8]>),
}

/// A reading of the path that leads elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path as an origin may read it; none if it makes no sense.
    pub reading: Option<Vec<u8>>,
    /// The route that would take it, if any.
    pub route: Option<usize>,
}

impl RouteTable {
    /// Compiles the routes of a domain.
    ///
    /// # Errors
    /// Says everything that is wrong with them.
    pub fn compile(routes: &[Located<Route>]) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let mut alternatives = Vec::new();
        for (route, settings) in (0..).zip(routes) {
            if settings.matches.is_empty() {
                alternatives.push(Alternative::everything(route));
            }
            for (place, alternative) in (0..).zip(&settings.matches) {
                alternatives.extend(Alternative::compile(route, place, alternative, &mut found));
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        // Stable: what ranks the same stays in the order of the document.
        alternatives.sort_by_key(Alternative::rank);
        Ok(Self::lay_out(alternatives))
    }

    fn lay_out(alternatives: Vec<Alternative>) -> Self {
        let mut tree = Growing::new();
        for (member, alternative) in (0..).zip(&alternatives) {
            match &alternative.path {
                PathTest::Exact(path) => tree.add_exact(path, member),
                PathTest::Prefix(path) => tree.add_prefix(path, member),
                PathTest::Pattern(_) => {}
            }
        }
        let kind = |alternative: &Alternative| alternative.path.kind();
        let start = alternatives.partition_point(|it| kind(it) < Kind::Pattern);
        let end = alternatives.partition_point(|it| kind(it) <= Kind::Pattern);
        let first = alternatives.first().map(|it| it.route);
        let only = match &*alternatives {
            [only] if only.is_everything() => Some(only.found(b"")),
            _ => None,
        };
        Self {
            only,
            tree: tree.finish(),
            patterns: start..end,
            has_one_way: alternatives.iter().all(|it| Some(it.route) == first)
                && alternatives.last().is_some_and(Alternative::is_everything),
            alternatives: alternatives.into(),
        }
    }

    /// The route that takes a request.
    ///
    /// # Errors
    /// No route takes it, or which one does depends on how the path is read.
    #[inline]
    pub fn find(&self, request: &RequestView<'_>) -> Result<Found, NoRoute> {
        if let Some(only) = self.only {
            return Ok(only);
        }
        let alternative = self.best(request).ok_or(NoRoute::Unmatched)?;
        if self.may_conflict(alternative, request.path)
            && self.conflict(alternative, request).is_some()
        {
            return Err(NoRoute::Ambiguous);
        }
        Ok(alternative.found(request.path))
    }

    /// The best alternative that matches a request, its path read as it stands.
    #[inline]
    pub(super) fn best(&self, request: &RequestView<'_>) -> Option<&Alternative> {
        let walk = self.tree.walk(request.path);
        let member = |at: u32| {
            let alternative = self.alternatives.get(at as usize)?;
            alternative.conditions_hold(request).then_some(alternative)
        };
        if let Some(alternative) = walk.exact.iter().copied().find_map(member) {
            return Some(alternative);
        }
        let patterns = self
            .alternatives
            .get(self.patterns.clone())
            .unwrap_or_default();
        let matching = patterns
            .iter()
            .find(|it| it.conditions_hold(request) && it.path.matches(request.path));
        matching.or_else(|| walk.prefixes().find_map(member))
    }

    /// Whether the path could be read in a way that leads elsewhere than to this alternative.
    #[inline]
    fn may_conflict(&self, alternative: &Alternative, path: &[u8]) -> bool {
        !self.has_one_way && reading::has_others(alternative.path.left_open(path))
    }

    /// The first reading of the path that does not lead to the route of this alternative.
    #[cold]
    pub(super) fn conflict(
        &self,
        alternative: &Alternative,
        request: &RequestView<'_>,
    ) -> Option<Conflict> {
        if !self.may_conflict(alternative, request.path) {
            return None;
        }
        reading::all(request.path).find_map(|reading| {
            let route = reading.as_deref().and_then(|path| {
                let request = RequestView { path, ..*request };
                self.best(&request).map(|other| other.route)
            });
            (route != Some(alternative.route)).then(|| Conflict {
                reading,
                route: route.map(|route| route as usize),
            })
        })
    }
}

/// How a path is matched, the most particular way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Exact,
    Pattern,
    Prefix,
}

/// What precedence goes by, in this order; less is better. Places in the document come last and
/// are left to the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) kind: Kind,
    pub(super) prefix_bytes: Reverse<usize>,
    pub(super) call: Reverse<bool>,
    pub(super) method: Reverse<bool>,
    pub(super) headers: Reverse<usize>,
    pub(super) query: Reverse<usize>,
    pub(super) client: Reverse<bool>,
}

impl Alternative {
    fn everything(route: u32) -> Self {
        Self {
            route,
            place: 0,
            path: PathTest::Prefix(Box::default()),
            conditions: None,
        }
    }

    fn compile(
        route: u32,
        place: u32,
        settings: &Match,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let path = match settings.asked_path() {
            Some(path) => PathTest::compile(&path, found),
            None => Some(PathTest::Prefix(Box::default())),
        };
        let conditions = Conditions::compile(settings, found);
        Some(Self {
            route,
            place,
            path: path?,
            conditions: Some(conditions?).filter(|it| !it.is_empty()).map(Box::new),
        })
    }

    pub(super) fn rank(&self) -> Rank {
        let conditions = self.conditions.as_deref();
        Rank {
            kind: self.path.kind(),
            prefix_bytes: Reverse(match &self.path {
                PathTest::Prefix(prefix) => prefix.len(),
                PathTest::Exact(_) | PathTest::Pattern(_) => 0,
            }),
            call: Reverse(conditions.is_some_and(|it| it.is_call)),
            method: Reverse(conditions.is_some_and(|it| !it.methods.is_empty())),
            headers: Reverse(conditions.map_or(0, |it| it.headers.len())),
            query: Reverse(conditions.map_or(0, |it| it.query.len())),
            client: Reverse(conditions.is_some_and(|it| it.client.is_some())),
        }
    }

    fn is_everything(&self) -> bool {
        self.conditions.is_none() && matches!(&self.path, PathTest::Prefix(path) if path.is_empty())
    }

    #[inline]
    pub(super) fn conditions_hold(&self, request: &RequestView<'_>) -> bool {
        self.conditions
            .as_ref()
            .is_none_or(|conditions| conditions.hold(request))
    }

    pub(super) fn found(&self, path: &[u8]) -> Found {
        Found {
            route: self.route as usize,
            alternative: self.place as usize,
            path_bytes: match &self.path {
                PathTest::Exact(_) => path.len(),
                PathTest::Pattern(_) => 0,
                PathTest::Prefix(prefix) => prefix.len(),
            },
        }
    }
}

impl PathTest {
    fn compile(path: &Located<PathMatch>, found: &mut Vec<Diagnostic>) -> Option<Self> {
        match &path.value {
            PathMatch::Exact(text) => {
                let exact = compile_path(text, path, found)?;
                Some(Self::Exact(exact.into()))
            }
            PathMatch::Prefix(text) => {
                let mut prefix = compile_path(text, path, found)?;
                if prefix.ends_with(b"/") {
                    prefix.pop();
                }
                Some(Self::Prefix(prefix.into()))
            }
            PathMatch::Regex(text) => match Pattern::compile(text) {
                Ok(pattern) => Some(Self::Pattern(Box::new(pattern))),
                Err(error) => {
                    let message = format!("`{text}` is no regular expression");
                    found.push(
                        Diagnostic::error("E-regex", Some(path.origin), message)
                            .label(describe(&error)),
                    );
                    None
                }
            },
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Exact(_) => Kind::Exact,
            Self::Pattern(_) => Kind::Pattern,
            Self::Prefix(_) => Kind::Prefix,
        }
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Pattern(pattern) => pattern.is_match(path),
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| prefix.is_empty() || matches!(rest, [] | [b'/', ..])),
        }
    }

    /// The part of a matching path that whoever wrote the test left open. What they wrote out,
    /// parameters and escapes included, is meant as it stands.
    fn left_open<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        match self {
            Self::Exact(_) => &[],
            Self::Pattern(pattern) if pattern.as_str().contains([';', '%']) => &[],
            Self::Pattern(_) => path,
            Self::Prefix(prefix) => path.get(prefix.len()..).unwrap_or_default(),
        }
    }
}

/// The normal form of a path in the document.
fn compile_path(
    text: &str,
    path: &Located<PathMatch>,
    found: &mut Vec<Diagnostic>,
) -> Option<Vec<u8>> {
    let mut wrong = |label: String, remedy: &str| {
        let message = format!("`{text}` is no path that a request can have");
        let diagnostic = Diagnostic::error("E-path", Some(path.origin), message);
        found.push(diagnostic.label(label).remedy(remedy));
    };
    if text.contains(['?', '#']) {
        wrong(
            "a path ends before `?` and `#`".to_owned(),
            "match parameters with `query`; write `%3F` or `%23` for the characters themselves",
        );
        return None;
    }
    // Which listeners serve the domain is not known here: as much is kept as any of them keeps.
    let rules = PathRules {
        keep_encoded_slashes: true,
        merge_slashes: false,
    };
    match normalise_written(text, &rules) {
        Ok(path) => Some(path),
        Err(error) => {
            wrong(error.to_string(), "requests with such a path are refused");
            None
        }
    }
}

impl Conditions {
    fn compile(settings: &Match, found: &mut Vec<Diagnostic>) -> Option<Self> {
        let before = found.len();
        let mut headers = Vec::new();
        for test in &settings.headers {
            if is_token(&test.name) {
                headers.extend(Expected::compile(test, found).map(|expected| HeaderTest {
                    name: HeaderName::new(&test.name),
                    expected,
                }));
            } else {
                found.push(bad_name(test, "header field"));
            }
        }
        let mut query = Vec::new();
        for test in &settings.query {
            if test.name.is_empty() {
                found.push(bad_name(test, "query parameter"));
            } else {
                query.extend(Expected::compile(test, found).map(|expected| QueryTest {
                    name: test.name.as_bytes().into(),
                    expected,
                }));
            }
        }
        let methods = settings.methods.iter();
        (found.len() == before).then(|| Self {
            is_call: settings.grpc.is_some(),
            methods: methods.map(|it| it.as_str().as_bytes().into()).collect(),
            headers: headers.into(),
            query: query.into(),
            client: settings.client.as_deref().map(peer::rule).map(Box::new),
        })
    }
}

fn bad_name(test: &Located<ValueMatch>, what: &str) -> Diagnostic {
    let message = format!("`{}` is no name of a {what}", test.name);
    Diagnostic::error("E-match", Some(test.origin), message)
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

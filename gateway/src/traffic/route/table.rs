//! The routes of a domain, ordered by precedence. Of the routes that match, the one wins whose
//! matching alternative has, in this order: an exact path, else a regular expression, else the
//! longest prefix, else any path; a method; more header fields; more query parameters; the earlier
//! place in the document. (The Gateway API's order; it leaves open where expressions stand. Here
//! they stand before prefixes, because whoever writes one means something more particular.)
//!
//! Must not: depend on how the table is laid out. The order is total, and the oracle checks it.

use std::collections::HashMap;

use cardea_config::model::{Match, PathMatch, Route};
use cardea_config::origin::{Located, Origin};
use regex::bytes::Regex;

use super::RequestView;
use super::value::{Expected, HeaderTest, QueryTest, whole};
use crate::traffic::headers::HeaderName;

/// The routes of a domain.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Every alternative of every route, in order of precedence.
    alternatives: Box<[Alternative]>,
    /// The alternatives with an exact path, by path; each list in order of precedence.
    exact: HashMap<Box<[u8]>, Box<[u32]>>,
    /// The first alternative that has no exact path: from here on they are tried in order.
    rest: u32,
}

/// One alternative of a route.
#[derive(Debug)]
struct Alternative {
    route: u32,
    path: PathTest,
    methods: Box<[Box<[u8]>]>,
    headers: Box<[HeaderTest]>,
    query: Box<[QueryTest]>,
}

#[derive(Debug)]
enum PathTest {
    Exact(Box<[u8]>),
    Pattern(Regex),
    /// Without a trailing slash; empty takes every path.
    Prefix(Box<[u8]>),
}

/// A route that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("the regular expression cannot be compiled")]
pub struct RouteTableError {
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong with it.
    #[source]
    pub source: regex::Error,
}

/// An alternative that was tried, for `explain`.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The route's place in the document.
    pub route: usize,
    /// What it wants, in words.
    pub wants: String,
    /// Why it lost; `None` if it matches.
    pub loss: Option<Loss>,
}

/// Why an alternative does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The path differs.
    Path,
    /// The method is none of its own.
    Method,
    /// A header field differs.
    Header(String),
    /// A query parameter differs.
    Query(String),
    /// It matches, but one that matches stands before it.
    Precedence,
}

impl RouteTable {
    /// Compiles the routes of a domain.
    pub fn compile(routes: &[Located<Route>]) -> Result<Self, Vec<RouteTableError>> {
        let mut alternatives = Vec::new();
        let mut errors = Vec::new();
        for (place, route) in routes.iter().enumerate() {
            let everything = [Located {
                value: Match::default(),
                origin: route.origin,
            }];
            let matches: &[_] = if route.matches.is_empty() {
                &everything
            } else {
                &route.matches
            };
            for alternative in matches {
                match Alternative::compile(place as u32, alternative) {
                    Ok(alternative) => alternatives.push(alternative),
                    Err(error) => errors.push(error),
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        // Stable: equals stay in the order of the document.
        alternatives.sort_by_key(Alternative::rank);
        let rest = alternatives.partition_point(|one| matches!(one.path, PathTest::Exact(_)));
        let mut exact: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
        for (at, alternative) in alternatives.iter().enumerate().take(rest) {
            if let PathTest::Exact(path) = &alternative.path {
                exact.entry(path.clone()).or_default().push(at as u32);
            }
        }
        let exact = exact
            .into_iter()
            .map(|(path, list)| (path, list.into()))
            .collect();
        Ok(Self {
            alternatives: alternatives.into(),
            exact,
            rest: rest as u32,
        })
    }

    /// The route that takes a request, by its place in the document.
    pub fn find(&self, request: &RequestView<'_>) -> Option<usize> {
        let matches = |at: &u32| {
            let alternative = self.alternatives.get(*at as usize)?;
            alternative
                .matches_rest(request)
                .then_some(alternative.route as usize)
        };
        if self.rest > 0
            && let Some(list) = self.exact.get(request.path)
            && let Some(route) = list.iter().find_map(matches)
        {
            return Some(route);
        }
        self.alternatives
            .get(self.rest as usize..)?
            .iter()
            .find(|one| one.path.matches(request.path) && one.matches_rest(request))
            .map(|one| one.route as usize)
    }

    /// Every alternative in order of precedence, and why it lost.
    pub fn explain(&self, request: &RequestView<'_>) -> Vec<Candidate> {
        let mut won = false;
        self.alternatives
            .iter()
            .map(|alternative| {
                let loss = alternative.loss(request).or_else(|| {
                    let is_late = won;
                    won = true;
                    is_late.then_some(Loss::Precedence)
                });
                Candidate {
                    route: alternative.route as usize,
                    wants: alternative.describe(),
                    loss,
                }
            })
            .collect()
    }
}

impl Alternative {
    fn compile(route: u32, settings: &Located<Match>) -> Result<Self, RouteTableError> {
        let fail = |origin: Origin| move |source| RouteTableError { origin, source };
        let path = match &settings.path {
            None => PathTest::Prefix(Box::default()),
            Some(path) => match &path.value {
                PathMatch::Exact(text) => PathTest::Exact(text.as_bytes().into()),
                PathMatch::Prefix(text) => {
                    PathTest::Prefix(text.trim_end_matches('/').as_bytes().into())
                }
                PathMatch::Regex(pattern) => {
                    PathTest::Pattern(whole(pattern).map_err(fail(path.origin))?)
                }
            },
        };
        let headers = settings.headers.iter().map(|header| {
            let expected = Expected::new(header).map_err(fail(header.origin))?;
            Ok(HeaderTest {
                name: HeaderName::new(&header.name),
                expected,
            })
        });
        let query = settings.query.iter().map(|parameter| {
            let expected = Expected::new(parameter).map_err(fail(parameter.origin))?;
            Ok(QueryTest {
                name: parameter.name.as_bytes().into(),
                expected,
            })
        });
        Ok(Self {
            route,
            path,
            methods: settings
                .methods
                .iter()
                .map(|m| m.as_str().as_bytes().into())
                .collect(),
            headers: headers.collect::<Result<_, _>>()?,
            query: query.collect::<Result<_, _>>()?,
        })
    }

    /// Sorts by precedence, the best first.
    fn rank(
        &self,
    ) -> (
        u8,
        std::cmp::Reverse<usize>,
        bool,
        [std::cmp::Reverse<usize>; 2],
    ) {
        let (kind, length) = match &self.path {
            PathTest::Exact(_) => (0, 0),
            PathTest::Pattern(_) => (1, 0),
            PathTest::Prefix(prefix) => (2, prefix.len()),
        };
        let counts = [self.headers.len(), self.query.len()].map(std::cmp::Reverse);
        (
            kind,
            std::cmp::Reverse(length),
            self.methods.is_empty(),
            counts,
        )
    }

    fn matches_rest(&self, request: &RequestView<'_>) -> bool {
        (self.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|method| **method == *request.method))
            && self.headers.iter().all(|header| header.holds(request))
            && self.query.iter().all(|parameter| parameter.holds(request))
    }

    fn loss(&self, request: &RequestView<'_>) -> Option<Loss> {
        if !self.path.matches(request.path) {
            return Some(Loss::Path);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|m| **m == *request.method) {
            return Some(Loss::Method);
        }
        if let Some(header) = self.headers.iter().find(|header| !header.holds(request)) {
            return Some(Loss::Header(header.name.as_str().to_owned()));
        }
        let parameter = self
            .query
            .iter()
            .find(|parameter| !parameter.holds(request))?;
        Some(Loss::Query(
            String::from_utf8_lossy(&parameter.name).into_owned(),
        ))
    }

    fn describe(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut words = vec![match &self.path {
            PathTest::Exact(path) => format!("path = {}", text(path)),
            PathTest::Pattern(pattern) => format!("path ~ {pattern}"),
            PathTest::Prefix(prefix) => format!("path {}/*", text(prefix)),
        }];
        if !self.methods.is_empty() {
            let methods: Vec<_> = self.methods.iter().map(|method| text(method)).collect();
            words.push(methods.join("|"));
        }
        words.extend(
            self.headers
                .iter()
                .map(|header| format!("header {}", header.name.as_str())),
        );
        words.extend(
            self.query
                .iter()
                .map(|one| format!("query {}", text(&one.name))),
        );
        words.join(", ")
    }
}

impl PathTest {
    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Pattern(pattern) => pattern.is_match(path),
            Self::Prefix(prefix) => match path.strip_prefix(&**prefix) {
                Some(rest) => rest.is_empty() || rest.first() == Some(&b'/'),
                None => false,
            },
        }
    }
}

//! A naive router, written from docs/guides/routing.md and not from the table: it tries every
//! alternative of every route and keeps the better of each two. The table has to agree with it,
//! whatever the routes and whatever the request.
//!
//! Must not: share code with what it checks. Regular expressions are the exception, in which it
//! uses the crate another way.

use cardea_config::model::{CertificateRule, GrpcMatch, Match, PathMatch, ValueMatch};
use proptest::prelude::*;

use super::super::explain::{Outcome, Verdict};
use super::*;

/// A request before it is one.
#[derive(Debug, Clone)]
struct Plain {
    method: &'static str,
    path: String,
    query: Vec<(&'static str, &'static str)>,
    headers: Vec<(&'static str, &'static str)>,
    /// Its content type.
    kind: Option<&'static str>,
    /// Whom the client's certificate names.
    client: Option<&'static str>,
}

impl Plain {
    fn asked(&self) -> Asked {
        let query: Vec<String> = self
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let line = format!("{} {}?{}", self.method, self.path, query.join("&"));
        let kind = self.kind.map(|kind| ("content-type", kind));
        let headers: Vec<_> = self.headers.iter().copied().chain(kind).collect();
        Asked {
            client: self.client.map(client),
            ..Asked::new(&line, &headers)
        }
    }
}

/// What a route without alternatives takes.
const EVERYTHING: &Match = &Match {
    path: None,
    grpc: None,
    methods: Vec::new(),
    headers: Vec::new(),
    query: Vec::new(),
    client: None,
};

/// The best alternative that matches: its route's place, and itself.
fn naive<'d>(routes: &'d [Located<Route>], request: &Plain) -> Option<(usize, &'d Match)> {
    let mut best: Option<(usize, &Match)> = None;
    for (place, route) in routes.iter().enumerate() {
        let mut alternatives: Vec<&Match> = route.matches.iter().map(|it| &it.value).collect();
        if alternatives.is_empty() {
            alternatives.push(EVERYTHING);
        }
        for alternative in alternatives {
            let wins = best.is_none_or(|(_, held)| is_better(alternative, held));
            if wins && fits(alternative, request) {
                best = Some((place, alternative));
            }
        }
    }
    best
}

fn fits(alternative: &Match, request: &Plain) -> bool {
    let path = match &path_of(alternative) {
        None => true,
        Some(PathMatch::Exact(path)) => *path == request.path,
        Some(PathMatch::Prefix(prefix)) => {
            let bare = prefix.trim_end_matches('/');
            request.path == bare || request.path.starts_with(&format!("{bare}/"))
        }
        Some(PathMatch::Regex(pattern)) => covers_all(pattern, &request.path),
    };
    let methods = &alternative.methods;
    let method = methods.is_empty() || methods.iter().any(|it| it.as_str() == request.method);
    let headers = alternative.headers.iter().all(|test| {
        let lines = request
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(&test.name));
        let lines: Vec<&str> = lines.map(|(_, value)| *value).collect();
        holds(test, (!lines.is_empty()).then(|| lines.join(", ")))
    });
    let query = alternative.query.iter().all(|test| {
        let first = request.query.iter().find(|(name, _)| *name == test.name);
        holds(test, first.map(|(_, value)| value.replace('+', " ")))
    });
    let subject = alternative.client.as_ref().map(|rule| &rule.subject);
    let client = subject.is_none_or(|subject| subject.as_deref() == request.client);
    let is_call = request
        .kind
        .is_some_and(|kind| kind.starts_with("application/grpc"));
    let call = alternative.grpc.is_none() || is_call;
    path && call && method && headers && query && client
}

fn holds(test: &ValueMatch, value: Option<String>) -> bool {
    match (test, value) {
        (
            ValueMatch {
                exact: Some(exact), ..
            },
            Some(value),
        ) => *exact == value,
        (
            ValueMatch {
                regex: Some(pattern),
                ..
            },
            Some(value),
        ) => covers_all(pattern, &value),
        (
            ValueMatch {
                present: Some(present),
                ..
            },
            value,
        ) => *present == value.is_some(),
        (_, None) => false,
        (test, _) => panic!("{test:?}"),
    }
}

/// Whether a pattern can match all of a text: it can if it matches the text with its ends marked.
fn covers_all(pattern: &str, text: &str) -> bool {
    let marked = format!("<{text}>");
    regex::Regex::new(&format!("<({pattern})>"))
        .expect("a pattern")
        .find(&marked)
        .is_some_and(|found| found.len() == marked.len())
}

/// Whether the first, which stands later in the document, still goes before the second.
fn is_better(one: &Match, other: &Match) -> bool {
    let path = |of: &Match| match &path_of(of) {
        Some(PathMatch::Exact(_)) => (2, 0),
        Some(PathMatch::Regex(_)) => (1, 0),
        Some(PathMatch::Prefix(prefix)) => (0, prefix.trim_end_matches('/').len()),
        None => (0, 0),
    };
    if path(one) != path(other) {
        return path(one) > path(other);
    }
    if one.grpc.is_some() != other.grpc.is_some() {
        return one.grpc.is_some();
    }
    if one.methods.is_empty() != other.methods.is_empty() {
        return !one.methods.is_empty();
    }
    if one.headers.len() != other.headers.len() {
        return one.headers.len() > other.headers.len();
    }
    if one.query.len() != other.query.len() {
        return one.query.len() > other.query.len();
    }
    one.client.is_some() && other.client.is_none()
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "ab", "c", "a.b"]);
    let segments = prop::collection::vec(segment, 0..4);
    (segments, any::<bool>()).prop_map(|(segments, slash)| {
        let path = format!("/{}", segments.join("/"));
        if slash && path != "/" {
            format!("{path}/")
        } else {
            path
        }
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["x", "Y", "y", "accept"])
}

fn value_match() -> impl Strategy<Value = Located<ValueMatch>> {
    let regex = prop::sample::select(vec!["1|2", "[0-9]+", "1, .*", ".*", ""]);
    let exact = prop::sample::select(vec!["1", "2", "1, 2", "a b", ""]);
    (name(), regex, exact, 0..4_u8).prop_map(|(name, regex, exact, kind)| {
        Located::built_in(ValueMatch {
            name: name.to_owned(),
            exact: (kind == 0).then(|| exact.to_owned()),
            regex: (kind == 1).then(|| regex.to_owned()),
            present: (kind >= 2).then_some(kind == 2),
        })
    })
}

fn alternative() -> impl Strategy<Value = Located<Match>> {
    let patterns = vec![
        "/a.*",
        "/[ab]/?",
        "/a|/b",
        "/(a|b)/c",
        ".*",
        "/a/b",
        "/(a|ab)(/.*)?",
    ];
    let path = prop_oneof![
        Just(None),
        path().prop_map(|path| Some(PathMatch::Exact(path))),
        path().prop_map(|path| Some(PathMatch::Prefix(path))),
        prop::sample::select(patterns).prop_map(|text| Some(PathMatch::Regex(text.to_owned()))),
    ];
    let methods = prop::collection::vec(prop::sample::select(vec!["GET", "POST"]), 0..2);
    let values = || prop::collection::vec(value_match(), 0..3);
    let call = prop::option::weighted(0.3, call());
    let alternative = (path, call, methods, values(), values(), subject());
    alternative.prop_map(|(path, call, methods, headers, query, subject)| {
        Located::built_in(Match {
            path: path.filter(|_| call.is_none()).map(Located::built_in),
            grpc: call.map(|call| Box::new(Located::built_in(call))),
            methods: methods
                .into_iter()
                .map(|it| it.parse().expect("a method"))
                .collect(),
            headers,
            query,
            client: subject.map(|subject| {
                Box::new(CertificateRule {
                    subject: Some(subject.to_owned()),
                    ..CertificateRule::default()
                })
            }),
        })
    })
}

fn call() -> impl Strategy<Value = GrpcMatch> {
    let name = || prop::sample::select(vec!["a", "b", "ab", "c", "a.b"]);
    (name(), name(), 0..4_u8).prop_map(|(service, method, kind)| GrpcMatch {
        service: matches!(kind, 1 | 2).then(|| service.to_owned()),
        method: (kind == 2).then(|| method.to_owned()),
        regex: (kind == 3).then(|| format!("{service}/.*|{method}")),
    })
}

/// The path that calls have, in the words of a route without `grpc`.
fn path_of(alternative: &Match) -> Option<PathMatch> {
    let Some(call) = &alternative.grpc else {
        return alternative.path.as_ref().map(|path| path.value.clone());
    };
    let service = call.service.as_ref();
    match (service, &call.method, &call.regex) {
        (Some(service), Some(method), _) => Some(PathMatch::Exact(format!("/{service}/{method}"))),
        (Some(service), None, _) => Some(PathMatch::Prefix(format!("/{service}/"))),
        (None, _, Some(regex)) => Some(PathMatch::Regex(format!("/({regex})"))),
        (None, _, None) => None,
    }
}

fn subject() -> impl Strategy<Value = Option<&'static str>> {
    prop::option::of(prop::sample::select(vec!["CN=a", "CN=b"]))
}

fn routes() -> impl Strategy<Value = Vec<Located<Route>>> {
    let route = prop::collection::vec(alternative(), 0..4).prop_map(|matches| {
        Located::built_in(Route {
            name: None,
            matches,
            policies: Default::default(),
            to: Default::default(),
        })
    });
    prop::collection::vec(route, 0..12)
}

fn request() -> impl Strategy<Value = Plain> {
    let pairs = || {
        let value = prop::sample::select(vec!["1", "2", "a+b", ""]);
        prop::collection::vec((name(), value), 0..4)
    };
    let method = prop::sample::select(vec!["GET", "POST", "PUT"]);
    let kinds = vec!["application/grpc", "application/grpc+proto", "text/plain"];
    let kind = prop::option::of(prop::sample::select(kinds));
    let request = (method, path(), pairs(), pairs(), kind, subject());
    request.prop_map(|(method, path, query, headers, kind, client)| Plain {
        method,
        path,
        query,
        headers,
        kind,
        client,
    })
}

/// Paths that may be read twice.
fn odd_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/a", "/b", "a", ";", ";a", "%2F", "%3B", "%5C", "%3A", ":", "/.a",
    ]);
    prop::collection::vec(piece, 1..7).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_table_agrees_with_the_rules(
        routes in routes(),
        requests in prop::collection::vec(request(), 1..8),
    ) {
        let table = RouteTable::compile(&routes).expect("routes that compile");
        for request in requests {
            let asked = request.asked();
            let found = table.find(&asked.view());
            let expected = naive(&routes, &request);
            prop_assert_eq!(found.map(|it| it.route).ok(), expected.map(|(place, _)| place));
            if let (Ok(found), Some((_, expected))) = (found, expected) {
                let matches = &routes[found.route].matches;
                prop_assert_eq!(matches.get(found.alternative).map_or(EVERYTHING, |it| &it.value), expected);
            }
        }
    }

    /// `explain` tells what the lookup does, also of paths that may be read twice.
    #[test]
    fn the_explanation_is_of_the_verdict(
        routes in routes(),
        request in request(),
        odd in prop::option::of(odd_path()),
    ) {
        let table = RouteTable::compile(&routes).expect("routes that compile");
        let request = Plain { path: odd.unwrap_or(request.path), ..request };
        let asked = request.asked();
        let explanation = table.explain(&asked.view());
        let firsts: Vec<_> = explanation
            .candidates
            .iter()
            .filter(|it| it.outcome == Outcome::First)
            .map(|it| (it.route, it.alternative))
            .collect();
        let first_match = explanation
            .candidates
            .iter()
            .find(|it| !matches!(it.outcome, Outcome::Lost(_)))
            .map(|it| (it.route, it.alternative));
        prop_assert_eq!(first_match, firsts.first().copied());
        prop_assert!(firsts.len() <= 1);
        match (table.find(&asked.view()), explanation.verdict) {
            (Ok(found), Verdict::Taken(told)) => {
                prop_assert_eq!(found, told);
                prop_assert_eq!(firsts, vec![(found.route, found.alternative)]);
            }
            (Err(NoRoute::Unmatched), Verdict::Unmatched) => prop_assert!(firsts.is_empty()),
            (Err(NoRoute::Ambiguous), Verdict::Ambiguous { found, conflict }) => {
                prop_assert!(conflict.route != Some(found.route));
            }
            (found, told) => prop_assert!(false, "{found:?} but {told:?}"),
        }
    }

    /// A path that is forwarded leads to the same route when its parameters are cut off, and when
    /// its escapes are decoded.
    #[test]
    fn what_is_forwarded_cannot_be_read_otherwise(routes in routes(), path in odd_path()) {
        let table = RouteTable::compile(&routes).expect("routes that compile");
        let plain = |path: String| Plain { method: "GET", path, query: Vec::new(), headers: Vec::new(), kind: None, client: None };
        let taken = |path: &str| naive(&routes, &plain(path.to_owned())).map(|(place, _)| place);
        if let Ok(found) = table.find(&plain(path.clone()).asked().view()) {
            // No route of this test writes out a semicolon or an escape.
            let segments: Vec<&str> = path.split('/').map(|it| it.split(';').next().unwrap_or(it)).collect();
            prop_assert_eq!(taken(&segments.join("/")), Some(found.route));
            let decoded = path.replace("%2F", "/").replace("%5C", "/").replace("%3B", ";").replace("%3A", ":");
            prop_assert_eq!(taken(&decoded), Some(found.route));
        }
    }
}

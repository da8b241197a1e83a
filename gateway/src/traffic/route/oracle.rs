//! A naive router, written from the documented rules and not from the table: every alternative is
//! tried and the best is picked by comparing pairs. The table has to agree with it.
//!
//! Must not: share code with what it checks.

use cardea_config::model::{Match, PathMatch, Route, ValueMatch};
use cardea_config::origin::Located;
use proptest::prelude::*;

use super::{RequestView, RouteTable};
use crate::traffic::headers::{HeaderName, Headers};

/// A request as plain text.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

fn naive(routes: &[Located<Route>], asked: &Asked) -> Option<usize> {
    let mut best: Option<(usize, Match)> = None;
    for (place, route) in routes.iter().enumerate() {
        let alternatives: Vec<Match> = match route.matches.as_slice() {
            [] => vec![Match::default()],
            some => some.iter().map(|one| one.value.clone()).collect(),
        };
        for alternative in alternatives {
            let better = |held: &(usize, Match)| beats(&alternative, &held.1);
            if fits(&alternative, asked) && best.as_ref().is_none_or(better) {
                best = Some((place, alternative));
            }
        }
    }
    best.map(|(place, _)| place)
}

fn fits(alternative: &Match, asked: &Asked) -> bool {
    let path = match alternative.path.as_ref().map(|path| &path.value) {
        None => true,
        Some(PathMatch::Exact(text)) => *text == asked.path,
        Some(PathMatch::Prefix(text)) => {
            let segments = |path: &str| -> Vec<String> {
                path.trim_matches('/')
                    .split('/')
                    .filter(|s| !s.is_empty())
                    .map(str::to_owned)
                    .collect()
            };
            segments(&asked.path).starts_with(&segments(text))
        }
        Some(PathMatch::Regex(pattern)) => {
            let found = regex::Regex::new(pattern).unwrap();
            found
                .find_iter(&asked.path)
                .any(|all| all.len() == asked.path.len())
        }
    };
    let method = alternative.methods.is_empty()
        || alternative
            .methods
            .iter()
            .any(|method| method.as_str() == asked.method);
    let holds = |test: &ValueMatch, values: Vec<&String>| match (&test.exact, test.present) {
        (Some(exact), _) => values.into_iter().any(|value| value == exact),
        (None, Some(false)) => values.is_empty(),
        _ => !values.is_empty(),
    };
    let headers = alternative.headers.iter().all(|test| {
        let named = asked
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(&test.name));
        holds(test, named.map(|(_, value)| value).collect())
    });
    let query = alternative.query.iter().all(|test| {
        let named = asked.query.iter().find(|(name, _)| *name == test.name);
        holds(test, named.map(|(_, value)| value).into_iter().collect())
    });
    path && method && headers && query
}

/// Whether the first is strictly better than the second.
fn beats(one: &Match, other: &Match) -> bool {
    let kind = |of: &Match| match of.path.as_ref().map(|path| &path.value) {
        Some(PathMatch::Exact(_)) => (3, 0),
        Some(PathMatch::Regex(_)) => (2, 0),
        Some(PathMatch::Prefix(prefix)) => (1, prefix.trim_end_matches('/').len()),
        None => (1, 0),
    };
    let key = |of: &Match| {
        (
            kind(of),
            !of.methods.is_empty(),
            of.headers.len(),
            of.query.len(),
        )
    };
    key(one) > key(other)
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "c"]), 0..4)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

fn value_match() -> impl Strategy<Value = Located<ValueMatch>> {
    let name = prop::sample::select(vec!["x", "y"]);
    (name, 0..3_u8).prop_map(|(name, kind)| {
        Located::built_in(ValueMatch {
            name: name.to_owned(),
            exact: (kind == 0).then(|| "1".to_owned()),
            regex: None,
            present: (kind > 0).then_some(kind == 1),
        })
    })
}

fn alternative() -> impl Strategy<Value = Located<Match>> {
    let path = prop_oneof![
        Just(None),
        path().prop_map(|path| Some(PathMatch::Exact(path))),
        path().prop_map(|path| Some(PathMatch::Prefix(path))),
        prop::sample::select(vec!["/a.*", "/[ab]/?", "/a|/b", "/(a|b)/c"])
            .prop_map(|pattern| Some(PathMatch::Regex(pattern.to_owned()))),
    ];
    let methods = prop::collection::vec(prop::sample::select(vec!["GET", "POST"]), 0..2);
    let values = || prop::collection::vec(value_match(), 0..2);
    (path, methods, values(), values()).prop_map(|(path, methods, headers, query)| {
        Located::built_in(Match {
            path: path.map(Located::built_in),
            methods: methods
                .into_iter()
                .map(|method| method.parse().unwrap())
                .collect(),
            headers,
            query,
        })
    })
}

fn routes() -> impl Strategy<Value = Vec<Located<Route>>> {
    let route = prop::collection::vec(alternative(), 0..3).prop_map(|matches| {
        Located::built_in(Route {
            name: None,
            matches,
            policies: Box::default(),
            to: Default::default(),
        })
    });
    prop::collection::vec(route, 0..8)
}

fn asked() -> impl Strategy<Value = Asked> {
    let pairs = || {
        let name = prop::sample::select(vec!["x", "y"]);
        let value = prop::sample::select(vec!["1", "2"]);
        prop::collection::vec((name, value), 0..3).prop_map(|pairs| {
            pairs
                .into_iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect::<Vec<_>>()
        })
    };
    let method = prop::sample::select(vec!["GET", "POST", "PUT"]);
    (method, path(), any::<bool>(), pairs(), pairs()).prop_map(
        |(method, path, slash, query, headers)| {
            let path = if slash && path != "/" {
                format!("{path}/")
            } else {
                path
            };
            Asked {
                method: method.to_owned(),
                path,
                query,
                headers,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_table_agrees_with_the_rules(routes in routes(), asked in asked()) {
        let table = RouteTable::compile(&routes).unwrap();
        let mut headers = Headers::default();
        for (name, value) in &asked.headers {
            headers.append(&HeaderName::new(name), value.as_bytes());
        }
        let query: Vec<_> = asked.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = query.join("&");
        let view = RequestView {
            method: asked.method.as_bytes(),
            path: asked.path.as_bytes(),
            query: (!query.is_empty()).then_some(query.as_bytes()),
            headers: &headers,
        };
        let found = table.find(&view);
        prop_assert_eq!(found, naive(&routes, &asked));
        let explained = table.explain(&view);
        let winner = explained.iter().find(|candidate| candidate.loss.is_none());
        prop_assert_eq!(winner.map(|candidate| candidate.route), found);
    }
}

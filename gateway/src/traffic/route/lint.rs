//! What is allowed in a domain's routes and still a mistake: routes that no request reaches. Part
//! of `cardea check`, not of serving.
//!
//! Must not: refuse anything, or guess. What is warned of is certain; what is not found may be.

use std::collections::HashMap;

use cardea_config::diagnostic::Diagnostic;
use cardea_config::model::{Match, PathMatch, Route};
use cardea_config::origin::Located;

use super::normalise::{PathRules, normalise_written, normalised};

/// Alternatives of one path that are compared with each other; a domain with more is not worth
/// the time it would take.
const COMPARED_MAX: usize = 64;

/// Warns of alternatives that no request reaches, given how the listeners that serve the domain
/// normalise paths.
pub fn unreachable(routes: &[Located<Route>], listeners: &[PathRules]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut seen: HashMap<PathKey, Vec<Seen<'_>>> = HashMap::new();
    for (place, route) in routes.iter().enumerate() {
        for alternative in &route.matches {
            let Some(path) = PathKey::of(alternative) else {
                continue;
            };
            if !path.is_asked_for(listeners) {
                found.push(never_asked_for(alternative));
                continue;
            }
            let before = seen.entry(path).or_default();
            if let Some(first) = before.iter().find(|it| covers(it.alternative, alternative)) {
                // Routes that take everything are the document's own check to find.
                if **alternative != Match::default() {
                    found.push(shadowed(route, place, alternative, first));
                }
            } else if before.len() < COMPARED_MAX {
                before.push(Seen {
                    route: route.label(place).into_owned(),
                    alternative,
                });
            }
        }
    }
    found
}

/// An alternative that stands earlier.
struct Seen<'d> {
    route: String,
    alternative: &'d Located<Match>,
}

/// What alternatives for the same path have in common.
#[derive(PartialEq, Eq, Hash)]
enum PathKey {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Pattern(String),
}

impl PathKey {
    /// None for a path that does not compile.
    fn of(alternative: &Match) -> Option<Self> {
        let rules = PathRules {
            keep_encoded_slashes: true,
            merge_slashes: false,
        };
        let normal = |text: &str| normalise_written(text, &rules).ok();
        Some(
            match alternative.asked_path().as_deref().map(|path| &path.value) {
                None => Self::Prefix(Vec::new()),
                Some(PathMatch::Exact(text)) => Self::Exact(normal(text)?),
                Some(PathMatch::Prefix(text)) => {
                    let mut path = normal(text)?;
                    if path.ends_with(b"/") {
                        path.pop();
                    }
                    Self::Prefix(path)
                }
                Some(PathMatch::Regex(text)) => Self::Pattern(text.clone()),
            },
        )
    }

    /// Whether some listener lets a request with this path through as it is.
    fn is_asked_for(&self, listeners: &[PathRules]) -> bool {
        let path = match self {
            Self::Exact(path) => path,
            Self::Prefix(path) if !path.is_empty() => path,
            Self::Prefix(_) | Self::Pattern(_) => return true,
        };
        let stays = |rules: &PathRules| {
            let mut room = Vec::new();
            normalised(path, rules, &mut room).is_ok_and(|normal| normal == path)
        };
        listeners.is_empty() || listeners.iter().any(stays)
    }
}

/// Whether every request that the second takes is taken by the first, which stands earlier and
/// has the same path. One that ranks after the second does not count, however much it takes.
fn covers(first: &Match, second: &Match) -> bool {
    first.grpc.is_some() == second.grpc.is_some()
        && first.headers == second.headers
        && first.client == second.client
        && first.query == second.query
        && first.methods.is_empty() == second.methods.is_empty()
        && second
            .methods
            .iter()
            .all(|method| first.methods.contains(method))
}

fn shadowed(
    route: &Route,
    place: usize,
    alternative: &Located<Match>,
    first: &Seen<'_>,
) -> Diagnostic {
    let message = format!(
        "route `{}` is never reached by this match",
        route.label(place)
    );
    let remedy = format!(
        "route `{}`, line {}, takes these requests first",
        first.route, first.alternative.origin.line
    );
    Diagnostic::warning("W-shadowed-route", Some(alternative.origin), message).remedy(remedy)
}

fn never_asked_for(alternative: &Located<Match>) -> Diagnostic {
    let path = alternative.asked_path();
    let origin = path.map_or(alternative.origin, |path| path.origin);
    Diagnostic::warning(
        "W-unreachable-path",
        Some(origin),
        "no request has such a path",
    )
    .label("the listeners merge repeated slashes and refuse encoded ones")
    .remedy("write the path as it is after that, or change the listeners' `http` settings")
}

#[cfg(test)]
mod tests {
    use super::super::tests::routes;
    use super::*;

    #[test]
    fn routes_that_nobody_reaches_are_found() {
        let check = |yaml: &str, expected: &[&str]| {
            let found = unreachable(&routes(yaml), &[PathRules::default()]);
            let found: Vec<String> = found
                .iter()
                .map(|it| format!("{} {}", it.code, it.origin.map_or(0, |origin| origin.line)))
                .collect();
            assert_eq!(found, expected, "{yaml}");
        };
        check(
            "- match: [{ path: { prefix: /a } }]\n\
             - match: [{ path: { prefix: /a/ } }]\n\
             - match: [{ path: { exact: /a } }]\n\
             - match: [{ path: { prefix: /a }, methods: [GET] }]\n\
             - match: [{ path: { prefix: /a }, methods: [GET] }]\n\
             - match: [{ path: { prefix: /a }, methods: [GET, PUT] }]\n",
            &["W-shadowed-route 2", "W-shadowed-route 5"],
        );
        check(
            "- match: [{ path: { prefix: /a }, headers: [{ name: x, present: true }] }]\n\
             - match: [{ path: { prefix: /a }, headers: [{ name: x, exact: y }] }]\n\
             - match: [{ path: { prefix: /a }, headers: [{ name: x, present: true }] }]\n",
            &["W-shadowed-route 3"],
        );
        check(
            "- match: [{ path: { regex: /a } }, { path: { regex: /a } }]\n\
             - match: [{ path: { exact: /%7Ea } }]\n\
             - match: [{ path: { exact: /~a } }]\n\
             - match: [{ path: { exact: /é } }, { path: { exact: /%c3%a9 } }]\n",
            &[
                "W-shadowed-route 1",
                "W-shadowed-route 3",
                "W-shadowed-route 4",
            ],
        );
        check(
            "- match: [{ grpc: {} }, { grpc: { service: a.B } }, { grpc: { service: a.B, method: C } }]\n\
             - match: [{ path: { prefix: /a.B } }, { path: { exact: /a.B/C } }]\n\
             - match: [{ grpc: { service: a.B } }]\n\
             - match: [{ grpc: { service: a.B, method: C }, methods: [POST] }]\n\
             - match: [{ grpc: { service: a.B, method: C } }]\n\
             - match: [{ grpc: {} }, { grpc: { service: a.b } }]\n\
             - match: [{ grpc: { regex: 'a' } }, { grpc: { regex: 'a' } }]\n",
            &[
                "W-shadowed-route 3",
                "W-shadowed-route 5",
                "W-shadowed-route 6",
                "W-shadowed-route 7",
            ],
        );
        check(
            "- match: [{ path: { exact: /a//b } }]\n\
             - match: [{ path: { prefix: /a%2Fb } }]\n\
             - match: [{ path: { prefix: // } }]\n\
             - match: [{ path: { prefix: / } }]\n",
            &["W-unreachable-path 1", "W-unreachable-path 2"],
        );
    }

    #[test]
    fn listeners_decide_what_is_asked_for() {
        let routes = routes("- match: [{ path: { exact: /a//b } }, { path: { exact: /a%2Fb } }]\n");
        let lenient = PathRules {
            keep_encoded_slashes: true,
            merge_slashes: false,
        };
        assert_eq!(unreachable(&routes, &[PathRules::default()]).len(), 2);
        assert_eq!(
            unreachable(&routes, &[PathRules::default(), lenient]).len(),
            0
        );
    }
}

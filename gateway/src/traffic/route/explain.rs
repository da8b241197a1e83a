//! Why a request takes the route it takes: every alternative in order of precedence, and what it
//! lost by. For `cardea explain`, and for whoever asks why a request got a 404.
//!
//! Must not: decide anything. The verdict is the table's; the tests that were lost are the ones
//! that the table asks.

use std::fmt;

use cardea_http1::Known;

use super::matcher::{self, Expected};
use super::table::{Alternative, Conflict, PathTest, Rank, RouteTable};
use super::{Found, RequestView};
use crate::traffic::peer;

/// What became of a request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// Every alternative of every route, in order of precedence.
    pub candidates: Vec<Candidate>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A route takes it.
    Taken(Found),
    /// No route takes it.
    Unmatched,
    /// The route depends on how the path is read.
    Ambiguous {
        /// The route that takes the path as it stands.
        found: Found,
        /// A reading that leads elsewhere.
        conflict: Conflict,
    },
}

/// An alternative and how it fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The route's place in the document.
    pub route: usize,
    /// The alternative's place in the route.
    pub alternative: usize,
    /// What it asks for.
    pub asks: String,
    /// How it fared.
    pub outcome: Outcome,
}

/// How an alternative fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is the first that matches.
    First,
    /// It matches, but another goes before it.
    Outranked {
        /// The route of the other.
        by: usize,
        /// What the other has over it.
        advantage: Advantage,
    },
    /// It does not match.
    Lost(Vec<Mismatch>),
}

/// What one matching alternative has over another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advantage {
    /// An exact path, or a regular expression against a prefix.
    Path,
    /// A longer prefix.
    LongerPrefix,
    /// That it is about calls of gRPC.
    Call,
    /// A method.
    Method,
    /// More header fields.
    MoreHeaders,
    /// More query parameters.
    MoreQuery,
    /// A rule about the client's certificate.
    Client,
    /// An earlier place in the document.
    Earlier,
}

/// A test that an alternative lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The path is another.
    Path {
        /// The path that was asked for.
        path: String,
    },
    /// The method is none of its own.
    Method {
        /// The method that was used.
        method: String,
    },
    /// A header field is not as it has to be.
    Header {
        /// Its name.
        name: String,
        /// Its value; none if it was not sent.
        value: Option<String>,
    },
    /// The client's certificate is none of those meant.
    Client {
        /// Whom it names; none if there is no certificate.
        subject: Option<String>,
    },
    /// A query parameter is not as it has to be.
    Query {
        /// Its name.
        name: String,
        /// Its value; none if it was not sent.
        value: Option<String>,
    },
}

impl RouteTable {
    /// Says which route takes a request, and why the others do not.
    pub fn explain(&self, request: &RequestView<'_>) -> Explanation {
        let best = self.best(request);
        let candidates = self.alternatives.iter().map(|alternative| Candidate {
            route: alternative.route as usize,
            alternative: alternative.place as usize,
            asks: alternative.to_string(),
            outcome: alternative.outcome(best, request),
        });
        let verdict = best.map_or(Verdict::Unmatched, |alternative| {
            let found = alternative.found(request.path);
            match self.conflict(alternative, request) {
                None => Verdict::Taken(found),
                Some(conflict) => Verdict::Ambiguous { found, conflict },
            }
        });
        Explanation {
            verdict,
            candidates: candidates.collect(),
        }
    }
}

impl Alternative {
    fn outcome(&self, best: Option<&Self>, request: &RequestView<'_>) -> Outcome {
        let mismatches = self.mismatches(request);
        match best {
            _ if !mismatches.is_empty() => Outcome::Lost(mismatches),
            Some(best) if (best.route, best.place) != (self.route, self.place) => {
                Outcome::Outranked {
                    by: best.route as usize,
                    advantage: Advantage::of(best.rank(), self.rank()),
                }
            }
            _ => Outcome::First,
        }
    }

    fn mismatches(&self, request: &RequestView<'_>) -> Vec<Mismatch> {
        let mut lost = Vec::new();
        if !self.path.matches(request.path) {
            lost.push(Mismatch::Path {
                path: text(request.path),
            });
        }
        let Some(conditions) = self.conditions.as_deref() else {
            return lost;
        };
        if conditions.is_call && !matcher::is_call(request) {
            lost.push(Mismatch::Header {
                name: "content-type".to_owned(),
                value: request.headers.known(Known::ContentType).map(text),
            });
        }
        if !conditions.takes_method(request) {
            lost.push(Mismatch::Method {
                method: text(request.method),
            });
        }
        let headers = conditions
            .headers
            .iter()
            .filter(|test| !test.holds(request));
        lost.extend(headers.map(|test| {
            Mismatch::Header {
                name: test.name.as_str().to_owned(),
                value: test
                    .value(request)
                    .map(|value| match is_secret(test.name.known()) {
                        true => "(not shown)".to_owned(),
                        false => text(&value),
                    }),
            }
        }));
        let query = conditions.query.iter().filter(|test| !test.holds(request));
        lost.extend(query.map(|test| Mismatch::Query {
            name: text(&test.name),
            value: test.value(request).map(|value| text(&value)),
        }));
        if !conditions.takes_client(request) {
            lost.push(Mismatch::Client {
                subject: request.client.map(|client| client.subject.to_string()),
            });
        }
        lost
    }
}

/// Whether values of a field are nobody else's business.
fn is_secret(name: Known) -> bool {
    matches!(
        name,
        Known::Authorization | Known::ProxyAuthorization | Known::Cookie | Known::XApiKey
    )
}

impl Advantage {
    /// What the first, which goes before the second, has over it.
    fn of(first: Rank, second: Rank) -> Self {
        if first.kind != second.kind {
            Self::Path
        } else if first.prefix_bytes != second.prefix_bytes {
            Self::LongerPrefix
        } else if first.call != second.call {
            Self::Call
        } else if first.method != second.method {
            Self::Method
        } else if first.headers != second.headers {
            Self::MoreHeaders
        } else if first.query != second.query {
            Self::MoreQuery
        } else if first.client != second.client {
            Self::Client
        } else {
            Self::Earlier
        }
    }
}

impl fmt::Display for Advantage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Path => "its path is more particular",
            Self::LongerPrefix => "its prefix is longer",
            Self::Call => "it asks for a call of gRPC",
            Self::Method => "it asks for a method",
            Self::MoreHeaders => "it asks for more header fields",
            Self::MoreQuery => "it asks for more query parameters",
            Self::Client => "it asks for a client certificate",
            Self::Earlier => "it stands earlier in the document",
        })
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name, value) = match self {
            Self::Path { path } => return write!(formatter, "the path is {path}"),
            Self::Method { method } => return write!(formatter, "the method is {method}"),
            Self::Client {
                subject: Some(subject),
            } => {
                return write!(formatter, "the client certificate is of {subject}");
            }
            Self::Client { subject: None } => {
                return write!(formatter, "there is no client certificate");
            }
            Self::Header { name, value } => ("header", name, value),
            Self::Query { name, value } => ("query parameter", name, value),
        };
        match value {
            Some(value) => write!(formatter, "the {what} {name} is `{value}`"),
            None => write!(formatter, "there is no {what} {name}"),
        }
    }
}

/// What it asks for, in a line.
impl fmt::Display for Alternative {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            PathTest::Exact(path) => write!(formatter, "path {}", text(path))?,
            PathTest::Pattern(pattern) => write!(formatter, "path ~ {}", pattern.as_str())?,
            PathTest::Prefix(prefix) if prefix.is_empty() => write!(formatter, "any path")?,
            PathTest::Prefix(prefix) => write!(formatter, "path {}/…", text(prefix))?,
        }
        let Some(conditions) = self.conditions.as_deref() else {
            return Ok(());
        };
        if conditions.is_call {
            write!(formatter, ", a call of gRPC")?;
        }
        for (at, method) in conditions.methods.iter().enumerate() {
            let separator = if at == 0 { ", " } else { "|" };
            write!(formatter, "{separator}{}", text(method))?;
        }
        for test in &conditions.headers {
            write!(
                formatter,
                ", header {}{}",
                test.name.as_str(),
                test.expected
            )?;
        }
        for test in &conditions.query {
            write!(formatter, ", query {}{}", text(&test.name), test.expected)?;
        }
        if let Some(rule) = &conditions.client {
            write!(formatter, ", client {}", peer::describe(rule))?;
        }
        Ok(())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => write!(formatter, " = `{}`", text(value)),
            Self::Pattern(pattern) => write!(formatter, " ~ `{}`", pattern.as_str()),
            Self::Present => write!(formatter, " present"),
            Self::Absent => write!(formatter, " absent"),
        }
    }
}

/// Text for people, in which no byte of a request can do anything to a terminal.
fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

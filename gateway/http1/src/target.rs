//! The request target: which of its four forms it has and where its parts lie. It is checked and
//! split here; decoding and normalising the path belongs to routing.

use crate::class::{PATH, QUERY, end_of};
use crate::{Authority, HeadError, HeadFault, Method, Span, parse_authority};

/// A request target (RFC 9112 section 3.2).
///
/// Paths hold the characters of RFC 3986 and, because the URL Standard has browsers send them
/// unescaped, `[`, `]` and `|`. Queries hold `?`, `\`, `^`, `` ` ``, `{` and `}` besides, for the
/// same reason: nobody gives them a meaning there. Refused in both are controls, space, `"`, `<`,
/// `>`, `#` (some recipients cut there, some do not), DEL and everything beyond ASCII; in paths
/// also `\`, which some recipients take for a slash. Percent-encodings are not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target {
    /// Which form it has.
    pub form: Form,
    /// All of it, as received.
    pub whole: Span,
    /// The authority of the absolute and authority forms, with its port.
    pub authority: Span,
    /// The path, beginning with a slash; empty in the other forms and in an absolute form such as
    /// `http://example.com?q`, which means `/`.
    pub path: Span,
    /// The query without its question mark.
    pub query: Option<Span>,
}

/// The forms of a request target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Form {
    /// `/path?query`: what clients send to servers.
    #[default]
    Origin,
    /// `http://host/path?query`: what clients send to proxies, and what servers must understand.
    Absolute(Scheme),
    /// `host:port`: CONNECT, and nothing else.
    Authority,
    /// `*`: OPTIONS of the server as a whole, and nothing else.
    Asterisk,
}

/// The scheme of an absolute target. Others are refused: no domain here has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// The port of an authority that names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Target {
    /// The path and query together, as they lie in the head.
    pub fn path_and_query(&self) -> Span {
        Span {
            start: self.path.start,
            end: self.query.map_or(self.path.end, |query| query.end),
        }
    }
}

/// A target and, for the forms that have one, its parsed authority; spans count from the head.
pub(crate) struct Parsed {
    pub(crate) target: Target,
    pub(crate) authority: Option<Authority>,
}

impl Parsed {
    /// From the target that starts at `start` and ends before a space, which is for the caller to
    /// see to.
    #[inline]
    pub(crate) fn from_head(head: &[u8], start: usize, method: Method) -> Result<Self, HeadError> {
        if head.get(start) == Some(&b'/') && method != Method::Connect {
            let (path, query, end) = path_and_query(head, start);
            let whole = Span::new(start, end);
            let target = Target {
                form: Form::Origin,
                whole,
                path,
                query,
                ..Target::default()
            };
            return Ok(Self {
                target,
                authority: None,
            });
        }
        Self::of_rare_form(head, start, method)
    }

    #[cold]
    fn of_rare_form(head: &[u8], start: usize, method: Method) -> Result<Self, HeadError> {
        if method == Method::Connect {
            // An authority has no space, and a colon before its port.
            let end = start + memchr::memchr(b' ', rest(head, start)).unwrap_or_default();
            let whole = Span::new(start, end);
            let target = Target {
                form: Form::Authority,
                whole,
                authority: whole,
                ..Target::default()
            };
            return Ok(Self {
                target,
                authority: Some(authority(head, whole)?),
            });
        }
        if let Some([b'*', b' ']) = head.get(start..start + 2) {
            let whole = Span::new(start, start + 1);
            let target = Target {
                form: Form::Asterisk,
                whole,
                ..Target::default()
            };
            return Ok(Self {
                target,
                authority: None,
            });
        }
        let (scheme, from) = scheme(head, start)?;
        // The first byte that ends an authority, or that no authority holds, ends it; the latter
        // is refused below or by the caller, who expects a space.
        let length = rest(head, from)
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b' ' | b'\r'))
            .unwrap_or_default();
        let span = Span::new(from, from + length);
        let (path, query, end) = path_and_query(head, from + length);
        let target = Target {
            form: Form::Absolute(scheme),
            whole: Span::new(start, end),
            authority: span,
            path,
            query,
        };
        Ok(Self {
            target,
            authority: Some(authority(head, span)?),
        })
    }
}

fn rest(head: &[u8], start: usize) -> &[u8] {
    head.get(start..).unwrap_or_default()
}

/// An authority within a head.
pub(crate) fn authority(head: &[u8], span: Span) -> Result<Authority, HeadError> {
    match parse_authority(span.of(head)) {
        Ok(Authority { host, port }) => Ok(Authority {
            host: host.shifted(span.start),
            port,
        }),
        Err(error) => Err(error.shifted(span.start)),
    }
}

fn scheme(head: &[u8], start: usize) -> Result<(Scheme, usize), HeadError> {
    const HTTP: &[u8] = b"http://";
    const HTTPS: &[u8] = b"https://";
    let begins = |scheme: &[u8]| {
        head.get(start..start + scheme.len())
            .is_some_and(|bytes| bytes.eq_ignore_ascii_case(scheme))
    };
    if begins(HTTP) {
        Ok((Scheme::Http, start + HTTP.len()))
    } else if begins(HTTPS) {
        Ok((Scheme::Https, start + HTTPS.len()))
    } else {
        Err(HeadError::new(HeadFault::TargetForm, start))
    }
}

/// Path and query from `start` on, and where they end: at the first byte that is neither's.
#[inline]
fn path_and_query(head: &[u8], start: usize) -> (Span, Option<Span>, usize) {
    let path_end = end_of(head, start, PATH);
    let path = Span::new(start, path_end);
    if head.get(path_end) != Some(&b'?') {
        return (path, None, path_end);
    }
    let query_end = end_of(head, path_end + 1, QUERY);
    (path, Some(Span::new(path_end + 1, query_end)), query_end)
}

/// Why the target that was read up to `at` does not end in the space that follows a target.
#[cold]
pub(crate) fn fault_at(head: &[u8], at: usize) -> HeadError {
    let fault = match head.get(at) {
        // The line ends after the target: what HTTP/0.9 called a request.
        Some(b'\r') => HeadFault::BadVersion,
        Some(_) => HeadFault::TargetCharacter,
        None => HeadFault::Incomplete,
    };
    HeadError::new(fault, at)
}

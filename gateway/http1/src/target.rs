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

impl Target {
    /// Reads the target that starts at `start`, up to a byte that should be the space after it,
    /// which is for the caller to see to. Says what authority it holds, in the forms that do.
    #[inline(always)]
    pub(crate) fn read(
        &mut self,
        head: &[u8],
        start: usize,
        method: Method,
    ) -> Result<Option<Authority>, HeadError> {
        if head.get(start) == Some(&b'/') && method != Method::Connect {
            self.form = Form::Origin;
            self.authority = Span::EMPTY;
            let end = self.read_path_and_query(head, start);
            self.whole = Span::new(start, end);
            return Ok(None);
        }
        self.read_rare_form(head, start, method)
    }

    #[cold]
    fn read_rare_form(
        &mut self,
        head: &[u8],
        start: usize,
        method: Method,
    ) -> Result<Option<Authority>, HeadError> {
        *self = Self::default();
        if method == Method::Connect {
            // An authority has no space in it.
            let end = start + memchr::memchr(b' ', rest(head, start)).unwrap_or_default();
            self.form = Form::Authority;
            self.whole = Span::new(start, end);
            self.authority = self.whole;
            return authority(head, self.authority).map(Some);
        }
        if head.get(start..start + 2) == Some(b"* ") {
            self.form = Form::Asterisk;
            self.whole = Span::new(start, start + 1);
            return Ok(None);
        }
        let (scheme, from) = scheme(head, start)?;
        self.form = Form::Absolute(scheme);
        // What no authority holds is refused as part of one, or by the caller.
        let length = rest(head, from)
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b' ' | b'\r'))
            .unwrap_or_default();
        self.authority = Span::new(from, from + length);
        let end = self.read_path_and_query(head, from + length);
        self.whole = Span::new(start, end);
        authority(head, self.authority).map(Some)
    }

    /// Reads path and query from `start` on; says where they end, at the first byte that is
    /// neither's.
    #[inline(always)]
    fn read_path_and_query(&mut self, head: &[u8], start: usize) -> usize {
        let path_end = end_of(head, start, PATH);
        self.path = Span::new(start, path_end);
        self.query = None;
        if head.get(path_end) != Some(&b'?') {
            return path_end;
        }
        let query_end = end_of(head, path_end + 1, QUERY);
        self.query = Some(Span::new(path_end + 1, query_end));
        query_end
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

#[cfg(test)]
mod tests;

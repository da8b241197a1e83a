//! The head of a request.

use crate::class::{TOKEN, end_of};
use crate::field::{Decisions, Role, Section, not_a_line_end};
use crate::target;
use crate::{
    Authority, Field, Form, Framing, HeadError, HeadFault, HeadScan, Limits, Nominated, Span,
    Target, Upgrade,
};

/// The methods that anything here treats specially.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Method {
    /// `GET`
    #[default]
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `CONNECT`
    Connect,
    /// `TRACE`
    Trace,
    /// Any other token. Methods are case-sensitive: `get` is one of these.
    Other,
}

impl Method {
    /// Whether a request with it asks for nothing to be changed (RFC 9110 §9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// The method of this name.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }
}

/// The version a message is read by. A minor version above 1 is read as 1.1, the highest that is
/// understood here (RFC 9110 section 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// The head of a request, parsed. All spans count from its first byte.
///
/// Kept and reused, it does not allocate once it has seen as many fields as a message has. After
/// an error its contents mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as received.
    pub method_span: Span,
    /// The request target.
    pub target: Target,
    /// The version.
    pub version: Version,
    /// The fields in the order received, without those that [`Limits::underscores`] drops.
    pub fields: Vec<Field>,
    /// How the body is delimited. Never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client lets the connection serve another request.
    pub persistent: bool,
    /// Whether the client waits for `100 Continue` before it sends the body. Never without a body
    /// and never in HTTP/1.0.
    pub expect_continue: bool,
    /// Whether the client takes trailers (`TE: trailers`).
    pub te_trailers: bool,
    /// What the client asks to upgrade to.
    pub upgrade: Upgrade,
    /// Host and port as received: of the target if it has them, else of the Host field. Empty only
    /// in HTTP/1.0.
    pub authority: Span,
    /// The host alone, an IPv6 address with its brackets.
    pub host: Span,
    /// The port, if one is given.
    pub port: Option<u16>,
    /// What `Connection` nominates for removal.
    pub nominated: Nominated,
}

impl RequestHead {
    /// Finds and parses the head at the start of a growing buffer; `None` until it is complete.
    ///
    /// The same as [`HeadScan::advance`] followed by [`parse`](Self::parse), in one pass when the
    /// head arrives in one piece. Spans count from the start of the span returned.
    ///
    /// # Errors
    /// As soon as no continuation of `buffer` is a head within the limits, and when the head is
    /// complete but malformed.
    pub fn receive(
        &mut self,
        scan: &mut HeadScan,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<Span>, HeadError> {
        if scan.is_fresh() {
            let Some(start) = scan.start_of(buffer) else {
                return Ok(None);
            };
            let head = buffer.get(start as usize..).unwrap_or_default();
            // No complete head goes beyond its limit.
            let head = head.get(..limits.head_bytes_max as usize).unwrap_or(head);
            if let Ok(end) = self.parse_start(head, limits) {
                return Ok(Some(Span::new(0, end).shifted(start)));
            }
        }
        let Some(span) = scan.advance(buffer, limits)? else {
            return Ok(None);
        };
        self.parse(span.of(buffer), limits)?;
        Ok(Some(span))
    }

    /// Parses a whole head, from the first byte of its first line to its empty line.
    ///
    /// # Errors
    /// What a [`HeadScan`] would have refused is refused for that reason, whatever else is wrong.
    pub fn parse(&mut self, head: &[u8], limits: &Limits) -> Result<(), HeadError> {
        match self.parse_start(head, limits) {
            Ok(end) if end == head.len() => Ok(()),
            Ok(end) => Err(HeadError::new(HeadFault::Surplus, end)),
            Err(error) => Err(HeadScan::request().overrule(error, head, limits)),
        }
    }

    /// Parses the head that `bytes` start with; says where it ends.
    fn parse_start(&mut self, bytes: &[u8], limits: &Limits) -> Result<usize, HeadError> {
        let at = self.parse_method(bytes, limits)?;
        let authority = self.target.read(bytes, at, self.method)?;
        let end = self.target.whole.end as usize;
        if bytes.get(end) != Some(&b' ') {
            return Err(target::fault_at(bytes, end));
        }
        if end - at > limits.target_bytes_max as usize {
            return Err(HeadError::new(HeadFault::TargetTooLong, at));
        }
        self.version = version(bytes, end + 1)?;
        let line_end = end + 1 + VERSION_BYTES;
        if bytes.get(line_end..line_end + 2) != Some(b"\r\n") {
            return Err(not_a_version_end(bytes, line_end));
        }
        if self.target.form == Form::Asterisk && self.method != Method::Options {
            return Err(HeadError::new(HeadFault::TargetForm, at));
        }
        let mut section = Section {
            role: Role::Request,
            limits,
            fields: &mut self.fields,
            nominated: &mut self.nominated,
        };
        let mut decisions = Decisions::default();
        let end = section.parse(bytes, line_end + 2, &mut decisions)?;
        if end > limits.head_bytes_max as usize {
            return Err(HeadError::new(
                HeadFault::HeadTooLong,
                limits.head_bytes_max as usize,
            ));
        }
        self.decide_host(bytes, &decisions, authority, end)?;
        self.decide(&decisions)?;
        Ok(end)
    }

    /// The method; says where the target begins.
    #[inline]
    fn parse_method(&mut self, bytes: &[u8], limits: &Limits) -> Result<usize, HeadError> {
        let end = if bytes.starts_with(b"GET ") {
            self.method = Method::Get;
            3
        } else {
            let end = end_of(bytes, 0, TOKEN);
            self.method = Method::of(Span::new(0, end).of(bytes));
            end
        };
        self.method_span = Span::new(0, end);
        if end > limits.method_bytes_max as usize {
            return Err(HeadError::new(HeadFault::MethodTooLong, 0));
        }
        match bytes.get(end) {
            Some(b' ') if end > 0 => Ok(end + 1),
            Some(_) => Err(HeadError::new(HeadFault::BadMethod, end)),
            None => Err(HeadError::new(HeadFault::Incomplete, end)),
        }
    }

    /// RFC 9112 sections 3.2 and 3.2.2: exactly one Host in HTTP/1.1; an authority in the target
    /// takes its place, and has to agree with it.
    fn decide_host(
        &mut self,
        bytes: &[u8],
        decisions: &Decisions,
        of_target: Option<Authority>,
        end: usize,
    ) -> Result<(), HeadError> {
        let of_field = match decisions.host {
            Some(span) => Some(target::authority(bytes, span)?),
            None if self.version == Version::Http10 => None,
            None => return Err(HeadError::new(HeadFault::MissingHost, end)),
        };
        if let (Some(asked), Some(field)) = (of_target, of_field) {
            let default_port = match self.target.form {
                Form::Absolute(scheme) => Some(scheme.default_port()),
                _ => asked.port,
            };
            let same_host = asked
                .host
                .of(bytes)
                .eq_ignore_ascii_case(field.host.of(bytes));
            if !same_host || asked.port.or(default_port) != field.port.or(default_port) {
                let at = decisions.host.unwrap_or_default().start as usize;
                return Err(HeadError::new(HeadFault::HostMismatch, at));
            }
        }
        let authority = of_target.or(of_field).unwrap_or_default();
        self.host = authority.host;
        self.port = authority.port;
        self.authority = match of_target {
            Some(_) => self.target.authority,
            None => decisions.host.unwrap_or_default(),
        };
        if self.target.form == Form::Authority && self.port.is_none() {
            return Err(HeadError::new(
                HeadFault::TargetForm,
                self.target.whole.start as usize,
            ));
        }
        Ok(())
    }

    /// What the fields come to in this version.
    fn decide(&mut self, decisions: &Decisions) -> Result<(), HeadError> {
        let modern = self.version == Version::Http11;
        self.framing = decisions.framing(self.version, Framing::None)?;
        let has_body = !matches!(self.framing, Framing::None | Framing::Length(0));
        self.persistent = decisions.persistent(self.version);
        self.expect_continue = modern && has_body && decisions.expect_continue;
        self.te_trailers = modern && decisions.te_trailers;
        self.upgrade = decisions.upgrade(self.version);
        Ok(())
    }
}

/// Bytes of `HTTP/1.1`.
pub(crate) const VERSION_BYTES: usize = 8;

/// The version that starts at `at` and has [`VERSION_BYTES`].
#[inline]
pub(crate) fn version(bytes: &[u8], at: usize) -> Result<Version, HeadError> {
    match bytes.get(at..at + VERSION_BYTES) {
        Some(version) if version == b"HTTP/1.1" => Ok(Version::Http11),
        Some(version) if version == b"HTTP/1.0" => Ok(Version::Http10),
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            match major {
                b'1' => Ok(Version::Http11),
                _ => Err(HeadError::new(HeadFault::UnsupportedVersion, at)),
            }
        }
        Some(_) => Err(HeadError::new(HeadFault::BadVersion, at)),
        None => Err(HeadError::new(HeadFault::Incomplete, bytes.len())),
    }
}

/// Why no line ends at `at`, after a version.
#[cold]
fn not_a_version_end(bytes: &[u8], at: usize) -> HeadError {
    match bytes.get(at) {
        Some(b'\r' | b'\n') | None => not_a_line_end(bytes, at),
        Some(_) => HeadError::new(HeadFault::BadVersion, at),
    }
}

#[cfg(test)]
mod tests;

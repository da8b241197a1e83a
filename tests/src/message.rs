//! HTTP/1 messages as a test sees them, and a parser of heads that forgives nothing: what it
//! accepts is canonical, so a test that reads an origin's record need not check the grammar again.
//!
//! Must not: share code with the gateway's codec.

/// Header fields in the order received, names as received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The only value of a field.
    ///
    /// # Panics
    /// If the field is there more than once: a test that asks for one value means one value.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands {} times: {all:?}", all.len());
        all.first().copied()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        self.0
            .iter()
            .filter(named)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Whether a field is there.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Whether a field that is a list names `token`, whatever its case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .iter()
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }
}

/// A request as an origin received it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The version, such as `HTTP/1.1`.
    pub version: String,
    /// The header fields.
    pub fields: Fields,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Fields,
    /// The head as received, byte for byte.
    pub head: String,
    /// The sizes of the chunks the body came in; none unless it was chunked.
    pub chunks: Vec<usize>,
    /// Whether the body came to its end.
    pub is_whole: bool,
}

impl Request {
    /// The only value of a header field.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        latin1(&self.body)
    }
}

/// A response as a client received it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// The version, such as `HTTP/1.1`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub phrase: String,
    /// The header fields.
    pub fields: Fields,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Fields,
    /// The interim (1xx) responses before it.
    pub interim: Vec<Response>,
}

impl Response {
    /// The only value of a header field.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.text()))
    }

    /// The reason code of a response that the gateway made itself.
    #[track_caller]
    pub fn reason(&self) -> Option<&str> {
        self.field("x-cardea-reason")
    }

    /// Whether the sender keeps the connection open after this response.
    pub fn keeps_open(&self) -> bool {
        !self.fields.lists("connection", "close") && self.version == "HTTP/1.1"
    }
}

/// How the body of a message is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(usize),
    /// Chunks and trailers.
    Chunked,
    /// Everything until the end of the connection.
    UntilClose,
}

/// Bytes as text, one character a byte, so that nothing is lost or refused.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// Parses the head of a request.
///
/// # Errors
/// What is not canonical about it.
pub fn parse_request(head: &[u8]) -> Result<(Request, Framing), String> {
    let (first, fields) = parse_head(head)?;
    let mut parts = first.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(format!("not a request line: {first:?}"));
    };
    if !is_token(method) || target.is_empty() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(format!("not a request line: {first:?}"));
    }
    let framing = match framing(&fields)? {
        Framing::UntilClose => Framing::None,
        framing => framing,
    };
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        version: version.to_owned(),
        fields,
        head: latin1(head),
        ..Request::default()
    };
    Ok((request, framing))
}

/// Parses the head of a response to a request with `method`.
///
/// # Errors
/// What is not canonical about it.
pub fn parse_response(head: &[u8], method: &str) -> Result<(Response, Framing), String> {
    let (first, fields) = parse_head(head)?;
    let wrong = || format!("not a status line: {first:?}");
    let (version, rest) = first.split_once(' ').ok_or_else(wrong)?;
    let (code, phrase) = rest.split_once(' ').ok_or_else(wrong)?;
    let status: u16 = code.parse().map_err(|_| wrong())?;
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || code.len() != 3 {
        return Err(wrong());
    }
    let framing = match status {
        100..=199 | 204 | 304 => Framing::None,
        _ if method == "HEAD" => Framing::None,
        _ => framing(&fields)?,
    };
    let response = Response {
        version: version.to_owned(),
        status,
        phrase: phrase.to_owned(),
        fields,
        ..Response::default()
    };
    Ok((response, framing))
}

/// Parses fields, each in a line that ends in CRLF.
///
/// # Errors
/// What is not canonical about them.
pub fn parse_fields(text: &str) -> Result<Fields, String> {
    let mut fields = Vec::new();
    for line in text.split_terminator("\r\n") {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("a field without a colon: {line:?}"))?;
        let value = value.trim_matches([' ', '\t']);
        let is_control = |char: char| char.is_ascii_control() && char != '\t';
        if !is_token(name) || value.contains(is_control) {
            return Err(format!("a malformed field: {line:?}"));
        }
        fields.push((name.to_owned(), value.to_owned()));
    }
    Ok(Fields(fields))
}

fn parse_head(head: &[u8]) -> Result<(String, Fields), String> {
    let text = latin1(head);
    let text = text
        .strip_suffix("\r\n\r\n")
        .map(|text| format!("{text}\r\n"))
        .ok_or_else(|| format!("a head that does not end in an empty line: {text:?}"))?;
    let (first, rest) = text.split_once("\r\n").unwrap_or((&text, ""));
    Ok((first.to_owned(), parse_fields(rest)?))
}

fn framing(fields: &Fields) -> Result<Framing, String> {
    let lengths = fields.all("content-length");
    let encodings = fields.all("transfer-encoding");
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(Framing::UntilClose),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => length
            .parse()
            .map(Framing::Length)
            .map_err(|error| format!("content-length {length:?}: {error}")),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        _ => Err(format!(
            "framing in doubt: content-length {lengths:?}, transfer-encoding {encodings:?}"
        )),
    }
}

/// Whether `text` is a token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

//! How a line looks: JSON, the Common and Combined Log Formats, or a template, compiled when the
//! configuration is.
//!
//! Must not: take a template that logs a credential, or more than one line.

use cardea_config::model::ProxyValue;
use cardea_http1::Known;

use super::field::Field;
use crate::traffic::headers::HeaderName;

/// A compiled format.
#[derive(Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// The Common Log Format.
    Common,
    /// The Combined Log Format.
    Combined,
    /// Text with fields in it.
    Template(Box<[Piece]>),
}

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Text(Box<str>),
    /// `{time}`: when the request began, as RFC 3339 has it.
    Time,
    /// `{time_common}`: when the request began, as the Common Log Format has it.
    TimeCommon,
    /// `{target}`: path and query.
    Target,
    /// A field.
    Field(Field),
    /// `{header:name}`: a field of the request's head.
    Header(HeaderName),
    /// `{proxy_tlv:0xea}`: what a proxy in front said, by number or name (PROXY protocol).
    ProxyValue(ProxyValue),
}

/// A template that cannot be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A brace without its partner.
    #[error("a `{{` without its `}}`; write `{{{{` for a brace")]
    Unclosed,
    /// A brace without its partner.
    #[error("a `}}` without its `{{`; write `}}}}` for a brace")]
    Unopened,
    /// No such field.
    #[error(
        "there is no field `{0}`; there is: {all}, header:<name>, proxy_tlv:<number or name>",
        all = names()
    )]
    Unknown(String),
    /// Not a name of a header field.
    #[error("`{0}` is not the name of a header field")]
    HeaderName(String),
    /// Neither a number nor a name of a value.
    #[error("{}", .0.replace('\n', "; "))]
    ProxyValue(String),
    /// A header field that lets whoever reads the log act as the client.
    #[error("`{0}` holds credentials, which do not belong in a log")]
    Credential(String),
    /// A control character.
    #[error("a control character; an entry is one line")]
    Control,
}

/// The fields of a request that hold credentials.
const CREDENTIALS: [Known; 4] = [
    Known::Authorization,
    Known::ProxyAuthorization,
    Known::Cookie,
    Known::XApiKey,
];

/// Every name that a template can have in braces, header fields aside.
fn names() -> String {
    let fields = Field::ALL.iter().map(|field| field.name());
    let names: Vec<_> = ["time", "time_common", "target"]
        .into_iter()
        .chain(fields)
        .collect();
    names.join(", ")
}

impl Format {
    /// Compiles a template: `{client} {method} {target} {status}`; `{{` and `}}` stand for braces.
    pub fn template(text: &str) -> Result<Self, FormatError> {
        if text.chars().any(char::is_control) {
            return Err(FormatError::Control);
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else {
                let inside = brace.strip_prefix('{').ok_or(FormatError::Unopened)?;
                let (name, after) = inside.split_once('}').ok_or(FormatError::Unclosed)?;
                push_text(&mut pieces, &mut plain);
                pieces.push(piece(name)?);
                rest = after;
            }
        }
        plain.push_str(rest);
        push_text(&mut pieces, &mut plain);
        Ok(Self::Template(pieces.into()))
    }
}

fn push_text(pieces: &mut Vec<Piece>, plain: &mut String) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(std::mem::take(plain).into()));
    }
}

fn piece(name: &str) -> Result<Piece, FormatError> {
    match name {
        "time" => return Ok(Piece::Time),
        "time_common" => return Ok(Piece::TimeCommon),
        "target" => return Ok(Piece::Target),
        _ => {}
    }
    if let Some(header) = name.strip_prefix("header:") {
        return header_piece(header);
    }
    if let Some(value) = name.strip_prefix("proxy_tlv:") {
        let value = value.parse().map_err(FormatError::ProxyValue)?;
        return Ok(Piece::ProxyValue(value));
    }
    let field = Field::ALL.iter().find(|field| field.name() == name);
    field
        .map(|field| Piece::Field(*field))
        .ok_or_else(|| FormatError::Unknown(name.to_owned()))
}

fn header_piece(name: &str) -> Result<Piece, FormatError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(FormatError::HeaderName(name.to_owned()));
    }
    let header = HeaderName::new(name);
    if CREDENTIALS.contains(&header.known()) {
        return Err(FormatError::Credential(name.to_owned()));
    }
    Ok(Piece::Header(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_compile_or_say_why_not() {
        let check = |template: &str, expected: FormatError| {
            assert_eq!(Format::template(template), Err(expected), "{template}");
        };
        check("{status", FormatError::Unclosed);
        check("{", FormatError::Unclosed);
        check("a } b", FormatError::Unopened);
        check("{}", FormatError::Unknown(String::new()));
        check("{stat}", FormatError::Unknown("stat".into()));
        check("{header:}", FormatError::HeaderName(String::new()));
        check("{header:a b}", FormatError::HeaderName("a b".into()));
        check("{header:Cookie}", FormatError::Credential("Cookie".into()));
        for wrong in ["", "256", "0x+1", "ea", "AUTHORITY"] {
            let template = format!("{{proxy_tlv:{wrong}}}");
            let told = Format::template(&template).expect_err(wrong).to_string();
            assert!(told.starts_with(&format!("`{wrong}` is nothing")), "{told}");
            assert!(told.contains("; write one of authority,"), "{told}");
        }
        check("a\nb", FormatError::Control);
        let text = |text: &str| Piece::Text(text.into());
        let compiled = Format::template("{{{status}}} {header:X-Env}{time}");
        let pieces = [
            text("{"),
            Piece::Field(Field::Status),
            text("} "),
            Piece::Header(HeaderName::new("x-env")),
            Piece::Time,
        ];
        assert_eq!(compiled, Ok(Format::Template(pieces.into())));
        for (text, value) in [
            ("0xea", ProxyValue::Number(0xea)),
            ("234", ProxyValue::Number(0xea)),
            ("aws_vpc_endpoint", ProxyValue::AwsVpcEndpoint),
        ] {
            let compiled = Format::template(&format!("{{proxy_tlv:{text}}}"));
            let pieces = [Piece::ProxyValue(value)];
            assert_eq!(compiled, Ok(Format::Template(pieces.into())), "{text}");
        }
        assert_eq!(Format::template(""), Ok(Format::Template([].into())));
    }

    #[test]
    fn an_unknown_field_is_told_the_known_ones() {
        let message = FormatError::Unknown("stat".into()).to_string();
        assert!(message.contains("`stat`"), "{message}");
        assert!(message.contains("status, reason"), "{message}");
    }
}

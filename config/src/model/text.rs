//! Rules for text that stays text: names of header fields, paths, patterns. A field names its rule
//! where it is declared, so that a mistake is found where it stands.
//!
//! Must not: need anything but the text itself.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::Switch;
use super::value::{HostPattern, Period};
use crate::origin::Located;

/// What a text has to be like.
pub(crate) trait Rule {
    /// Says what is wrong with a text, and after a line break how to mend it.
    fn check(text: &str) -> Result<(), String>;
}

/// Settings that have to make sense as a whole.
pub(crate) trait Sound {
    /// Says what does not, and after a line break how to mend it.
    fn check(&self) -> Result<(), String>;
}

impl<T: Sound> Sound for Option<T> {
    fn check(&self) -> Result<(), String> {
        self.as_ref().map_or(Ok(()), Sound::check)
    }
}

impl<T: Sound> Sound for Box<T> {
    fn check(&self) -> Result<(), String> {
        T::check(self)
    }
}

impl<T: Sound> Sound for Located<T> {
    fn check(&self) -> Result<(), String> {
        self.value.check()
    }
}

impl<T: Sound> Sound for Switch<T> {
    fn check(&self) -> Result<(), String> {
        self.on().map_or(Ok(()), Sound::check)
    }
}

/// Reads settings and checks them as a whole.
pub(crate) fn sound<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Sound,
    D: Deserializer<'de>,
{
    let value = T::deserialize(deserializer)?;
    match value.check() {
        Ok(()) => Ok(value),
        Err(wrong) => Err(D::Error::custom(wrong)),
    }
}

/// Settings that were checked as a whole.
pub(crate) struct Checked<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + Sound> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sound(deserializer).map(Self)
    }
}

/// What may be nothing, and must not be everywhere.
pub(crate) trait Amount {
    /// Says what is wrong with nothing, and after a line break how to mend it.
    const WRONG: &str = "zero refuses everything\nuse 1 or more";

    /// Whether it is nothing.
    fn is_zero(&self) -> bool;
}

impl Amount for u16 {
    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl Amount for u32 {
    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl Amount for Period {
    const WRONG: &str = "this is no time at all\nuse `1ms` or more";

    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

impl<T: Amount> Amount for Option<T> {
    const WRONG: &str = T::WRONG;

    fn is_zero(&self) -> bool {
        self.as_ref().is_some_and(T::is_zero)
    }
}

/// Reads a number or a time above zero.
pub(crate) fn positive<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Amount,
    D: Deserializer<'de>,
{
    let amount = T::deserialize(deserializer)?;
    if amount.is_zero() {
        return Err(D::Error::custom(T::WRONG));
    }
    Ok(amount)
}

/// Reads a number that lies in a range.
pub(crate) fn within<'de, T, D>(
    deserializer: D,
    range: RangeInclusive<T>,
    what: &str,
) -> Result<T, D::Error>
where
    T: Deserialize<'de> + PartialOrd + fmt::Display,
    D: Deserializer<'de>,
{
    let number = T::deserialize(deserializer)?;
    if range.contains(&number) {
        return Ok(number);
    }
    let (first, last) = range.into_inner();
    let wrong = format!("{number} is no {what}\nuse {first} to {last}");
    Err(D::Error::custom(wrong))
}

/// Reads the address and port of a socket.
pub(crate) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    Address::deserialize(deserializer).map(|address| address.0)
}

/// Reads a list of addresses and ports.
pub(crate) fn addresses<'de, D>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error>
where
    D: Deserializer<'de>,
{
    let addresses = Vec::<Address>::deserialize(deserializer)?;
    Ok(addresses.into_iter().map(|address| address.0).collect())
}

/// An address and a port, with an error that says so.
struct Address(SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!("`{text}` is no address with a port\nwrite `127.0.0.1:9180` or `[::1]:9180`")
        })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::decode::parsed(deserializer)
    }
}

/// A text that follows a rule.
struct Ruled<R>(String, PhantomData<R>);

impl<R> PartialEq for Ruled<R> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<R> Eq for Ruled<R> {}

impl<R> PartialOrd for Ruled<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for Ruled<R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<R: Rule> FromStr for Ruled<R> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        R::check(text)?;
        Ok(Self(text.to_owned(), PhantomData))
    }
}

impl<'de, R: Rule> Deserialize<'de> for Ruled<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::decode::parsed(deserializer)
    }
}

/// Reads one text.
pub(crate) fn one<'de, R: Rule, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ruled::<R>::deserialize(deserializer).map(|text| text.0)
}

/// Reads one text, or none.
pub(crate) fn maybe<'de, R: Rule, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Option::<Ruled<R>>::deserialize(deserializer).map(|text| text.map(|text| text.0))
}

/// Reads a list of texts.
pub(crate) fn many<'de, R: Rule, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<Ruled<R>>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(|text| text.0).collect())
}

/// Reads a text that can be switched off, or none.
pub(crate) fn switched<'de, R: Rule, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Switch<String>>, D::Error> {
    let text = Option::<Switch<Ruled<R>>>::deserialize(deserializer)?;
    Ok(text.map(|switch| match switch {
        Switch::On(text) => Switch::On(text.0),
        Switch::Off => Switch::Off,
    }))
}

/// Reads a map whose keys follow a rule.
pub(crate) fn keys<'de, R, V, D>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    R: Rule,
    V: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let map = BTreeMap::<Ruled<R>, V>::deserialize(deserializer)?;
    Ok(map.into_iter().map(|(key, value)| (key.0, value)).collect())
}

/// Reads a map whose keys follow one rule and whose values another.
pub(crate) fn pairs<'de, R, V, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    R: Rule,
    V: Rule,
    D: Deserializer<'de>,
{
    let map: BTreeMap<String, Ruled<V>> = keys::<R, Ruled<V>, D>(deserializer)?;
    Ok(map.into_iter().map(|(key, value)| (key, value.0)).collect())
}

/// The name of a header field (RFC 9110 §5.1).
pub(crate) struct FieldName;

impl Rule for FieldName {
    fn check(text: &str) -> Result<(), String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || !text.bytes().all(fits) {
            return Err(format!(
                "`{text}` is no name of a header field\nuse letters, digits and `-`"
            ));
        }
        Ok(())
    }
}

/// The name of a header field that may be set, added or removed.
pub(crate) struct EditableField;

/// Fields that the gateway writes itself: an edit of them would break framing or routing.
const GUARDED: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Rule for EditableField {
    fn check(text: &str) -> Result<(), String> {
        FieldName::check(text)?;
        let lower = text.to_ascii_lowercase();
        if !GUARDED.contains(&&*lower) {
            return Ok(());
        }
        let remedy = match &*lower {
            "host" => "use the policy `rewrite: { host: … }`",
            _ => "take it out; the gateway writes this field itself",
        };
        Err(format!("`{text}` cannot be edited\n{remedy}"))
    }
}

/// The value of a header field (RFC 9110 §5.5).
pub(crate) struct FieldValue;

impl Rule for FieldValue {
    fn check(text: &str) -> Result<(), String> {
        match text.chars().find(|c| c.is_control() && *c != '\t') {
            Some(control) => Err(format!(
                "a header field cannot have `{}` in its value\nkeep it to one line of text",
                control.escape_debug()
            )),
            None => Ok(()),
        }
    }
}

/// A token, such as a method (RFC 9110 §5.6.2).
pub(crate) struct Token;

impl Rule for Token {
    fn check(text: &str) -> Result<(), String> {
        FieldName::check(text).map_err(|_| format!("`{text}` is no token\nuse letters and `-`"))
    }
}

/// A path to compare with, or to ask for.
pub(crate) struct PathText;

impl Rule for PathText {
    fn check(text: &str) -> Result<(), String> {
        if text.starts_with('/') {
            return Ok(());
        }
        Err(format!(
            "the path `{text}` does not begin with `/`\nwrite `/{text}`"
        ))
    }
}

/// A service of gRPC with its package, as its description names it.
pub(crate) struct GrpcService;

impl Rule for GrpcService {
    fn check(text: &str) -> Result<(), String> {
        if text.split('.').all(is_identifier) {
            return Ok(());
        }
        Err(format!(
            "`{text}` is no service\nwrite its package and its name, such as `shop.Orders`"
        ))
    }
}

/// A method of a service of gRPC.
pub(crate) struct GrpcMethod;

impl Rule for GrpcMethod {
    fn check(text: &str) -> Result<(), String> {
        if is_identifier(text) {
            return Ok(());
        }
        Err(format!(
            "`{text}` is no method\nwrite its name alone, such as `List`"
        ))
    }
}

/// An identifier of Protocol Buffers.
fn is_identifier(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(fits) && text.starts_with(|first: char| !first.is_ascii_digit())
}

/// What a request asks for: a path, and perhaps a query.
pub(crate) struct Target;

impl Rule for Target {
    fn check(text: &str) -> Result<(), String> {
        PathText::check(text)?;
        match text.chars().find(|character| !character.is_ascii_graphic()) {
            Some(character) => Err(format!(
                "the path `{text}` has `{}` in it\nwrite it percent-encoded, or take it out",
                character.escape_debug()
            )),
            None => Ok(()),
        }
    }
}

/// A path that is put into a request target or a `Location`.
pub(crate) struct NewPath;

impl Rule for NewPath {
    fn check(text: &str) -> Result<(), String> {
        PathText::check(text)?;
        let wrong = |character: char| {
            character.is_control() || character == ' ' || matches!(character, '?' | '#')
        };
        match text.chars().find(|character| wrong(*character)) {
            Some(character) => Err(format!(
                "the path `{text}` has `{}` in it\nwrite it percent-encoded, or take it out",
                character.escape_debug()
            )),
            None => Ok(()),
        }
    }
}

/// What stands in place of a prefix: a path, or nothing.
pub(crate) struct NewPrefix;

impl Rule for NewPrefix {
    fn check(text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        NewPath::check(text)
    }
}

/// A regular expression.
pub(crate) struct Pattern;

impl Rule for Pattern {
    fn check(text: &str) -> Result<(), String> {
        regex::bytes::Regex::new(text).map(drop).map_err(|error| {
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            format!("`{text}` is no regular expression: {why}\na `\\` before a character takes it literally")
        })
    }
}

/// A host without a wildcard.
pub(crate) struct Host;

impl Rule for Host {
    fn check(text: &str) -> Result<(), String> {
        let host: HostPattern = text.parse()?;
        match host.suffix() {
            None => Ok(()),
            Some(suffix) => Err(format!(
                "`{text}` is no single host\nwrite one such as `www.{suffix}`"
            )),
        }
    }
}

/// A host, with a port or without.
pub(crate) struct Authority;

impl Rule for Authority {
    fn check(text: &str) -> Result<(), String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(format!(
                "`{text}` has no port after its `:`\nwrite a number from 1 to 65535, or leave it out"
            ));
        }
        Host::check(host)
    }
}

/// What a page of responses is for.
pub(crate) struct PageKey;

impl Rule for PageKey {
    fn check(text: &str) -> Result<(), String> {
        let bytes = text.as_bytes();
        let is_error = |first: u8| matches!(first, b'4' | b'5');
        let is_reason = text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let fits = match bytes {
            [first, b'x', b'x'] => is_error(*first),
            [first, rest @ ..] if first.is_ascii_digit() => {
                is_error(*first) && rest.len() == 2 && rest.iter().all(u8::is_ascii_digit)
            }
            [_, ..] => is_reason,
            [] => false,
        };
        if fits {
            return Ok(());
        }
        Err(format!(
            "`{text}` is nothing that has a page\nwrite a status such as `404`, a class such as `5xx`, or a reason such as `rate_limited`"
        ))
    }
}

impl<R> fmt::Debug for Ruled<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<R: Rule>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(R::check(text), Ok(()), "{text}");
        }
        for text in bad {
            let wrong = R::check(text).expect_err(text);
            assert!(wrong.contains('\n'), "{text}: {wrong} has no remedy");
        }
    }

    #[test]
    fn header_fields() {
        check::<FieldName>(&["x-a", "X_1"], &["", "a b", "a:", "ä", "a\n"]);
        check::<EditableField>(&["x-a"], &["Host", "content-length", ""]);
        check::<FieldValue>(&["", "a\tb", "ü"], &["a\nb", "\0", "\u{7f}"]);
        check::<Token>(&["GET", "m-search"], &["", "a b"]);
    }

    #[test]
    fn paths() {
        check::<PathText>(&["/", "/a?b"], &["", "a"]);
        check::<NewPath>(&["/", "/ä/%20"], &["", "a", "/a b", "/a?b", "/#", "/\n"]);
        check::<Target>(&["/", "/up?full=1"], &["", "up", "/a b", "/ä"]);
        check::<NewPrefix>(&["", "/v2"], &["v2"]);
        check::<Pattern>(&["", "a+", "(?-u)\\xff"], &["(", "a{9999999}", "\\p{Nope}"]);
    }

    #[test]
    fn calls() {
        check::<GrpcService>(
            &["Orders", "shop.v1.Orders", "_a.B_2"],
            &[
                "",
                ".Orders",
                "shop.",
                "/shop.Orders",
                "shop/Orders",
                "shop.Örders",
                "1.A",
            ],
        );
        check::<GrpcMethod>(&["List", "list_2"], &["", "a.b", "/List", "List/", "2"]);
    }

    #[test]
    fn hosts() {
        check::<Host>(
            &["a.example", "127.0.0.1", "[::1]"],
            &["*.a.example", "a:80", ""],
        );
        check::<Authority>(
            &["a.example", "a.example:80", "[::1]", "[::1]:80"],
            &["a:", "a:0", "a:x", ":80", "*.a:80"],
        );
    }

    #[test]
    fn pages() {
        check::<PageKey>(
            &["404", "4xx", "5xx", "rate_limited"],
            &["", "200", "3xx", "4x", "40", "4040", "Rate", "x-y"],
        );
    }
}

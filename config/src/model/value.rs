//! Values: times, sizes, names, hosts, addresses. Each parses into something valid or says what
//! would have been.
//!
//! Must not: accept two spellings where one is enough, or keep anything unchecked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Implements a value that is written as text: serde, schema, display of the parsed form.
macro_rules! text_value {
    ($Value:ident, { $($schema:tt)* }, $description:expr) => {
        impl<'de> serde::Deserialize<'de> for $Value {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::decode::parsed(deserializer)
            }
        }

        impl serde::Serialize for $Value {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $Value {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Value).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "description": $description, $($schema)* })
            }
        }
    };
}
pub(super) use text_value;

/// A span of time: `500ms`, `30s`, `5m`, `2h`, `1d`; `0s` switches a limit off where that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// A whole number of seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A whole number of milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

/// The longest span of time that makes sense anywhere: a year.
const PERIOD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no span of time\nwrite a number and a unit: 500ms, 30s, 5m, 2h, 1d"
            )
        };
        let digits = text
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let period = number
            .checked_mul(millis)
            .map(Duration::from_millis)
            .ok_or_else(wrong)?;
        if period > PERIOD_MAX {
            return Err(format!(
                "`{text}` is longer than a year\nno time here has to be"
            ));
        }
        Ok(Self(period))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => write!(formatter, "0s"),
            _ if !millis.is_multiple_of(1000) => write!(formatter, "{millis}ms"),
            _ if millis.is_multiple_of(3_600_000) => write!(formatter, "{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => write!(formatter, "{}m", millis / 60_000),
            _ => write!(formatter, "{}s", millis / 1000),
        }
    }
}

text_value!(
    Period,
    { "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" },
    "A span of time: 500ms, 30s, 5m, 2h, 1d"
);

/// A number of bytes: `512`, `64KiB`, `10MiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no number of bytes\nwrite a number, alone or with KiB, MiB or GiB")
        };
        let digits = text
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let shift = match unit.trim_start() {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(wrong()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(formatter, "{}{unit}", self.0 >> shift);
            }
        }
        write!(formatter, "{}", self.0)
    }
}

text_value!(
    ByteSize,
    { "type": ["string", "integer"], "minimum": 0, "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)?$" },
    "A number of bytes: 512, 64KiB, 10MiB"
);

/// A name that other parts of the document use: letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name's text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > 253 || !text.bytes().all(fits) {
            return Err(format!(
                "`{text}` is no name\nuse letters, digits, `-`, `_` and `.`"
            ));
        }
        Ok(Self(crate::decode::intern(text)))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(
    Name,
    { "type": "string", "pattern": "^[A-Za-z0-9._-]+$" },
    "A name: letters, digits, '-', '_' and '.'"
);

/// A host: `example.com`, or `*.example.com` for every name below it. In lower case; names of
/// other scripts as `xn--…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern(Box<str>);

impl HostPattern {
    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after `*.`, if it is a wildcard.
    pub fn suffix(&self) -> Option<&str> {
        self.0.strip_prefix("*.")
    }

    /// Whether a host, in lower case, fits.
    pub fn covers(&self, host: &str) -> bool {
        match self.suffix() {
            Some(suffix) => host
                .strip_suffix(suffix)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => *self.0 == *host,
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let bare = lower.strip_prefix("*.").unwrap_or(&lower);
        let is_label = |label: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(fits)
        };
        let is_address = bare.parse::<Ipv4Addr>().is_ok()
            || bare
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok());
        if is_address && bare.len() == lower.len() {
            return Ok(Self(lower.into()));
        }
        if bare.len() > 253 || !bare.split('.').all(is_label) {
            let hint = if text.contains(':') || text.contains('/') {
                "write the host alone: no scheme, port or path"
            } else if !text.is_ascii() {
                "write names of other scripts in their `xn--` form"
            } else {
                "write a name such as `example.com` or `*.example.com`"
            };
            return Err(format!("`{text}` is no host\n{hint}"));
        }
        Ok(Self(lower.into()))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(
    HostPattern,
    { "type": "string", "pattern": r"^(\*\.)?[A-Za-z0-9._\[\]:-]+$" },
    "A host: example.com, or *.example.com"
);

/// An address to listen on: `127.0.0.1:8080`, `[::1]:8080`, or `:8080` for every address of both
/// families.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bind(Box<str>, Box<[SocketAddr]>);

impl Bind {
    /// The socket addresses it stands for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.1
    }
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
            let any = [
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            ];
            return Ok(Self(text.into(), any.into()));
        }
        match text.parse() {
            Ok(address) => Ok(Self(text.into(), [address].into())),
            Err(_) => Err(format!(
                "`{text}` is no address to listen on\nwrite `127.0.0.1:8080`, `[::1]:8080`, or `:8080` for every address"
            )),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(
    Bind,
    { "type": "string", "pattern": "^.*:[0-9]+$" },
    "An address to listen on: 127.0.0.1:8080, [::1]:8080, :8080"
);

/// A network: `10.0.0.0/8`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(pub ipnet::IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(ipnet::IpNet::from);
        text.parse().or(address).map(Self).map_err(|_| {
            format!("`{text}` is no network\nwrite `10.0.0.0/8`, `2001:db8::/32`, or one address")
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

text_value!(
    Network,
    { "type": "string", "pattern": "^[0-9A-Fa-f.:]+(/[0-9]+)?$" },
    "A network: 10.0.0.0/8, or one address"
);

/// A request method: an upper-case token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(Box<str>);

impl Method {
    /// The method's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_uppercase() || b"-_".contains(&byte);
        if text.is_empty() || text.len() > 32 || !text.bytes().all(fits) {
            let upper = text.to_ascii_uppercase();
            return Err(format!(
                "`{text}` is no method\nmethods are upper-case words: did you mean `{upper}`?"
            ));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(
    Method,
    { "type": "string", "pattern": "^[A-Z_-]+$" },
    "A request method, in upper case"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods() {
        let check = |text: &str, expected: Option<u64>| {
            let found = text
                .parse::<Period>()
                .ok()
                .map(|period| period.0.as_millis() as u64);
            assert_eq!(found, expected, "{text}");
        };
        check("500ms", Some(500));
        check("30s", Some(30_000));
        check("2h", Some(7_200_000));
        check("0s", Some(0));
        for bad in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "30 s",
            "999999999999999999999s",
            "400d",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn values_print_as_they_are_written() {
        for text in ["500ms", "30s", "5m", "2h", "0s"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in ["64KiB", "10MiB", "1GiB", "7", "0"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn hosts() {
        let check = |text: &str, expected: Option<&str>| {
            let found = text.parse::<HostPattern>().ok();
            assert_eq!(found.as_ref().map(HostPattern::as_str), expected, "{text}");
        };
        check("Example.COM", Some("example.com"));
        check("*.example.com", Some("*.example.com"));
        check("127.0.0.1", Some("127.0.0.1"));
        check("[::1]", Some("[::1]"));
        for bad in [
            "",
            "*",
            "a.*.b",
            "example.com:80",
            "http://x",
            "a..b",
            "-a.b",
            "ä.example",
            "*.[::1]",
        ] {
            check(bad, None);
        }
        let wildcard: HostPattern = "*.example.com".parse().unwrap();
        assert!(wildcard.covers("a.b.example.com") && !wildcard.covers("example.com"));
        assert!(!wildcard.covers(".example.com") && !wildcard.covers("aexample.com"));
    }
}

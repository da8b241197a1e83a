//! The PROXY protocol: who may say at a listener where a connection comes from, and what an upstream
//! is told of it.
//!
//! Must not: read or write a header.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::text;
use super::text::EditableField;
use super::value::{ByteSize, Network, Period, text_value};

/// How proxies in front of a listener say where connections come from: by a header of the PROXY
/// protocol, version 1 or 2, before anything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerProxyProtocol {
    /// The proxies: peers whose header is read and believed. Anybody else is served as if there
    /// were no such setting, so that a header is no request (400) and no TLS.
    pub from: Vec<Network>,
    /// Whether a connection from there has to begin with a header.
    #[serde(default = "required")]
    pub mode: HeaderMode,
    /// How long a whole header may take from accept, absolute.
    #[serde(default = "timeout", deserialize_with = "text::positive")]
    pub timeout: Period,
    /// Bytes of a header of version 2. One of version 1 has 107 at most.
    #[serde(default = "header_bytes_max", deserialize_with = "length")]
    pub header_bytes_max: ByteSize,
    /// Fields that requests carry to policies, routes and origins, by name, and what a header of
    /// version 2 said that is their value. A field of such a name that the client sends is removed,
    /// whoever the client is.
    #[serde(
        default,
        deserialize_with = "fields",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub request_headers: BTreeMap<String, ProxyValue>,
}

/// Something that a proxy says in a header of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyValue {
    /// The host that the client named.
    Authority,
    /// The protocol agreed on.
    Alpn,
    /// The id of the connection.
    UniqueId,
    /// The version of the TLS that the proxy took off.
    TlsVersion,
    /// Its cipher suite.
    TlsCipher,
    /// The algorithm that signed the certificate.
    TlsSignature,
    /// The algorithm of the certificate's key.
    TlsKey,
    /// The common name of the client's certificate, which the proxy verified.
    TlsName,
    /// The network namespace that the connection came through.
    Namespace,
    /// The id of an endpoint in a network of AWS.
    AwsVpcEndpoint,
    /// The id of a private endpoint of Azure.
    AzurePrivateEndpoint,
    /// The id of a private connection of Google Cloud.
    GcpConnection,
    /// The value of a number, as it is.
    Number(u8),
}

/// The names of what a proxy says.
const PROXY_VALUES: [(&str, ProxyValue); 12] = [
    ("authority", ProxyValue::Authority),
    ("alpn", ProxyValue::Alpn),
    ("unique_id", ProxyValue::UniqueId),
    ("tls_version", ProxyValue::TlsVersion),
    ("tls_cipher", ProxyValue::TlsCipher),
    ("tls_signature", ProxyValue::TlsSignature),
    ("tls_key", ProxyValue::TlsKey),
    ("tls_name", ProxyValue::TlsName),
    ("namespace", ProxyValue::Namespace),
    ("aws_vpc_endpoint", ProxyValue::AwsVpcEndpoint),
    ("azure_private_endpoint", ProxyValue::AzurePrivateEndpoint),
    ("gcp_connection", ProxyValue::GcpConnection),
];

impl FromStr for ProxyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, value)) = PROXY_VALUES.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let number = match digits {
            Some(digits) => u8::from_str_radix(digits, 16),
            None => text.parse(),
        };
        let number = number.ok().filter(|_| !text.contains('+'));
        number.map(Self::Number).ok_or_else(|| {
            let names = PROXY_VALUES.map(|(name, _)| name).join(", ");
            format!("`{text}` is nothing that a proxy says\nwrite one of {names}, or a number such as `0xea`")
        })
    }
}

impl fmt::Display for ProxyValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, PROXY_VALUES.iter().find(|(_, value)| value == self)) {
            (_, Some((name, _))) => formatter.write_str(name),
            (Self::Number(number), None) => write!(formatter, "{number:#04x}"),
            (_, None) => Err(fmt::Error),
        }
    }
}

text_value!(
    ProxyValue,
    {
        "anyOf": [
            { "type": "string", "enum": PROXY_VALUES.map(|(name, _)| name) },
            { "type": "string", "pattern": "^(0[xX][0-9A-Fa-f]{1,2}|[0-9]{1,3})$" },
            { "type": "integer", "minimum": 0, "maximum": 255 },
        ]
    },
    "Something that a proxy says in a header of version 2: a name, or a number such as `0xea`"
);

/// Reads names of fields, each once whatever its case, and what their values are.
fn fields<'de, D>(deserializer: D) -> Result<BTreeMap<String, ProxyValue>, D::Error>
where
    D: Deserializer<'de>,
{
    let fields = text::keys::<EditableField, ProxyValue, D>(deserializer)?;
    let mut seen = BTreeMap::new();
    for name in fields.keys() {
        if let Some(other) = seen.insert(name.to_ascii_lowercase(), name) {
            let wrong = format!("`{other}` and `{name}` are one field\nkeep one of them");
            return Err(D::Error::custom(wrong));
        }
    }
    Ok(fields)
}

/// Whether a connection from a proxy has to begin with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeaderMode {
    /// It is closed if it does not.
    Required,
    /// Without one it is served as what it is: the proxy's own.
    Optional,
}

/// The header that a connection to an endpoint begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProxyProtocol {
    /// A line of text: the addresses.
    V1,
    /// A binary block: the addresses, the request id, and of clients that speak TLS the version,
    /// the host they asked for and whom their certificate names.
    V2,
}

fn required() -> HeaderMode {
    HeaderMode::Required
}

fn timeout() -> Period {
    Period::from_secs(3)
}

fn header_bytes_max() -> ByteSize {
    ByteSize(4 * 1024)
}

/// The longest header without values, that of `AF_UNIX`, bytes.
const LENGTH_LEAST: ByteSize = ByteSize(232);

/// What the gateway reads a header into, bytes.
const LENGTH_MOST: ByteSize = ByteSize(8 * 1024);

fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    text::within(deserializer, LENGTH_LEAST..=LENGTH_MOST, "useful limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_says_has_a_name_or_a_number() {
        for (name, value) in PROXY_VALUES {
            assert_eq!(name.parse(), Ok(value));
            assert_eq!(value.to_string(), name);
        }
        for number in ["0xea", "0XEA", "234"] {
            assert_eq!(number.parse(), Ok(ProxyValue::Number(0xea)), "{number}");
        }
        assert_eq!(ProxyValue::Number(5).to_string(), "0x05");
        for wrong in ["", "256", "0x+1", "ea", "Authority", "0x100"] {
            let why = wrong.parse::<ProxyValue>().expect_err(wrong);
            assert!(why.contains('\n'), "{why} has no remedy");
        }
    }
}

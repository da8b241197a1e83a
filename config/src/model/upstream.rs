//! Upstreams: the servers behind the gateway, how requests are spread over them, and what happens
//! when they fail.
//!
//! Must not: resolve names; an endpoint may be a name here.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::proxy_protocol::UpstreamProxyProtocol;
use super::text::{self, Sound};
use super::value::Period;
use super::{CertificateRule, FilePath, Switch, TlsVersion};
use crate::origin::Located;

super::section! {
    /// An upstream.
    pub struct Upstream {
        /// Its endpoints: addresses or names, with ports.
        pub endpoints: Vec<Located<Endpoint>> = Vec::new(),
        /// How requests are spread over them.
        pub balance: Balance = Balance::RoundRobin,
        /// The protocol that they are spoken to in.
        pub protocol: UpstreamProtocol = UpstreamProtocol::Auto,
        /// TLS towards the endpoints; plain HTTP if not set.
        #[serde(deserialize_with = "text::sound")]
        pub tls: Option<Box<UpstreamTls>> = None,
        /// The header of the PROXY protocol that connections begin with, before TLS; none if not
        /// set. Such a connection is about one client: it carries one request, or one of a stream.
        pub proxy_protocol: Option<UpstreamProxyProtocol> = None,
        /// Idle connections.
        pub pool: Pool = Pool::default(),
        /// Caps.
        pub limits: UpstreamLimits = UpstreamLimits::default(),
        /// The limit that each worker finds by itself while the upstream gets more than it can do,
        /// or `off`.
        pub adaptive_concurrency: Switch<AdaptiveConcurrency> =
            Switch::On(AdaptiveConcurrency::default()),
        /// Attempts after a failure.
        pub retry: Retry = Retry::default(),
        /// Active health checks; none if not set.
        #[serde(deserialize_with = "text::sound")]
        pub health: Option<Box<Health>> = None,
        /// Passive ejection of endpoints that fail, or `off`.
        pub outlier: Switch<Outlier> = Switch::On(Outlier::default()),
    }
}

/// The protocol that endpoints are spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// With `tls`, the best that the endpoint offers: HTTP/2, else HTTP/1.1. Without, HTTP/1.1.
    Auto,
    /// HTTP/1.1
    Http1,
    /// HTTP/2, without `tls` as well (h2c).
    Http2,
}

/// An endpoint: an address or a name, with its port, and its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an IP address, without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// Its share, relative to the other weights; zero for none.
    pub weight: u32,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no endpoint\nwrite a host and its port: 127.0.0.1:3000, [::1]:3000, api.internal:8080"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= 253
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let host = match bare {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            None if is_name(host) => host,
            _ => return Err(wrong()),
        };
        if port == 0 {
            return Err(wrong());
        }
        Ok(Self {
            host: host.into(),
            port,
            weight: 1,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// The long form of an endpoint.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WeightedEndpoint {
    /// The address or name, with its port.
    address: String,
    /// Its share, relative to the other weights; zero for none.
    #[serde(default = "one")]
    weight: u32,
}

fn one() -> u32 {
    1
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.weight {
            1 => serializer.collect_str(self),
            weight => WeightedEndpoint {
                address: self.to_string(),
                weight,
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShortOrLong;
        impl<'de> Visitor<'de> for ShortOrLong {
            type Value = Endpoint;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an address with a port, or `{ address, weight }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                let long = WeightedEndpoint::deserialize(MapAccessDeserializer::new(map))?;
                let short: Endpoint = long.address.parse().map_err(de::Error::custom)?;
                Ok(Endpoint {
                    weight: long.weight,
                    ..short
                })
            }
        }
        deserializer.deserialize_any(ShortOrLong)
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<WeightedEndpoint>();
        json_schema!({ "anyOf": [
            { "type": "string", "pattern": "^.+:[0-9]+$", "description": "127.0.0.1:3000, [::1]:3000, api.internal:8080" },
            long,
        ] })
    }
}

/// How requests are spread over endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn, smoothly by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// The less busy of two chosen at random (P2C).
    LeastRequest,
    /// By a hash of the request on a ring: the same key goes to the same endpoint.
    RingHash(HashBy),
    /// By a hash of the request through a Maglev table: as a ring, more even and faster to look up.
    Maglev(HashBy),
}

/// What is hashed. Where a request does not have it, its client's address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashBy {
    /// The part of the request.
    pub by: HashKey,
}

/// The part of a request that is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// A header field.
    Header(#[serde(deserialize_with = "text::one::<text::FieldName, _>")] String),
    /// A cookie.
    Cookie(#[serde(deserialize_with = "text::one::<text::Token, _>")] String),
    /// The path.
    Path,
}

super::section! {
    /// TLS towards endpoints.
    pub struct UpstreamTls {
        /// A PEM file with the authorities to trust; the system's if not set.
        pub ca: Option<FilePath> = None,
        /// A PEM file with the gateway's own certificate, for endpoints that ask for one.
        pub certificate: Option<FilePath> = None,
        /// The PEM file with its key.
        pub key: Option<FilePath> = None,
        /// The name asked for and expected; the endpoint's own if not set.
        #[serde(deserialize_with = "text::maybe::<text::Host, _>")]
        pub server_name: Option<String> = None,
        /// Whose certificates count: whoever one of these rules means, instead of the name. For
        /// identities without a host, such as `spiffe://example.org/ns/prod/sa/api`.
        pub allow: Vec<CertificateRule> = Vec::new(),
        /// The versions that may be spoken; both if empty.
        pub versions: Vec<TlsVersion> = Vec::new(),
        /// How much of the endpoint's certificate is verified.
        pub verify: Verify = Verify::Full,
    }
}

impl Sound for UpstreamTls {
    fn check(&self) -> Result<(), String> {
        self.allow.iter().try_for_each(CertificateRule::check)?;
        if self.verify == Verify::Off && !self.allow.is_empty() {
            return Err(
                "with `verify: off` nobody looks at `allow`\ntake one of the two out".to_owned(),
            );
        }
        let (has, lacks) = match (&self.certificate, &self.key) {
            (Some(_), None) => ("a certificate", "key"),
            (None, Some(_)) => ("a key", "certificate"),
            _ => return Ok(()),
        };
        Err(format!(
            "there is {has} without its `{lacks}`\nset both, or none"
        ))
    }
}

/// How much of an endpoint's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Its chain, its dates and its name.
    Full,
    /// Nothing: anybody between the gateway and the endpoint can read and change everything.
    Off,
}

super::section! {
    /// Idle connections to endpoints.
    pub struct Pool {
        /// How many each worker keeps to an endpoint.
        pub idle_per_worker_max: u32 = 8192,
        /// How long one is kept.
        pub idle_timeout: Period = Period::from_secs(60),
        /// Requests on one connection before it is closed; zero for no limit.
        pub requests_per_connection_max: u32 = 0,
    }
}

super::section! {
    /// Caps of an upstream, over all workers. Beyond, requests are answered 503.
    pub struct UpstreamLimits {
        /// Connections; zero for no cap.
        pub connections_max: u32 = 0,
        /// Requests under way; zero for no cap.
        pub requests_max: u32 = 0,
    }
}

super::section! {
    /// A limit that follows what the upstream can do. While even its fastest answers take longer than
    /// twice their usual time and `delay_max`, fewer and fewer requests may wait for an answer there.
    /// The others wait for their turn here, and are answered 503 when that takes too long. Switch it off
    /// for an upstream whose requests wait for something to happen (long polling).
    pub struct AdaptiveConcurrency {
        /// Requests of each worker that may always wait for an answer.
        pub waiting_per_worker_min: u32 = 16,
        /// How much longer than twice their usual time the fastest answers may take.
        pub delay_max: Period = Period::from_millis(25),
        /// How long a request may wait for its turn.
        pub queue_time_max: Period = Period::from_millis(50),
        /// How many may wait for their turn on each worker; further ones are answered at once.
        pub queue_per_worker_max: u32 = 10_000,
    }
}

super::section! {
    /// Attempts after a failure. A request is sent again only where that cannot do harm.
    pub struct Retry {
        /// Attempts after the first; zero for none.
        pub attempts: u32 = 1,
        /// The failures that allow another attempt.
        pub on: Vec<RetryOn> = vec![RetryOn::ConnectFailure, RetryOn::IdleReset],
    }
}

/// A failure that allows another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// No connection could be opened: nothing was sent.
    ConnectFailure,
    /// A pooled connection turned out to be dead: it ended before a byte of a response.
    IdleReset,
}

/// Active health checks. Exactly one of `http`, `grpc` and `tcp`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// A request that has to be answered as expected.
    #[serde(default)]
    pub http: Option<HttpCheck>,
    /// A question in gRPC's health protocol, over HTTP/2.
    #[serde(default)]
    pub grpc: Option<GrpcCheck>,
    /// Whether it is enough that a connection can be opened.
    #[serde(default)]
    pub tcp: bool,
    /// Between two checks of an endpoint.
    #[serde(default = "interval", deserialize_with = "text::positive")]
    pub interval: Period,
    /// How long one check may take.
    #[serde(default = "timeout", deserialize_with = "text::positive")]
    pub timeout: Period,
    /// Checks in a row that make an endpoint healthy.
    #[serde(default = "healthy_after", deserialize_with = "text::positive")]
    pub healthy_after: u32,
    /// Checks in a row that make it unhealthy.
    #[serde(default = "unhealthy_after", deserialize_with = "text::positive")]
    pub unhealthy_after: u32,
}

impl Sound for Health {
    fn check(&self) -> Result<(), String> {
        let ways = usize::from(self.http.is_some())
            + usize::from(self.grpc.is_some())
            + usize::from(self.tcp);
        let wrong = match (&self.http, ways) {
            (_, 2..) => "there are two ways of checking\nkeep one of `http`, `grpc` and `tcp`",
            (_, 0) => "there is no way of checking\nadd `http: {}`, `grpc: {}` or `tcp: true`",
            (Some(http), _) if http.expect.is_empty() => {
                "no status is expected\nwrite `expect: [200-399]`, or leave it out"
            }
            _ => return Ok(()),
        };
        Err(wrong.to_owned())
    }
}

fn interval() -> Period {
    Period::from_secs(5)
}

fn timeout() -> Period {
    Period::from_secs(2)
}

fn healthy_after() -> u32 {
    2
}

fn unhealthy_after() -> u32 {
    3
}

super::section! {
    /// A question in gRPC's health protocol.
    pub struct GrpcCheck {
        /// The service that is asked about; the endpoint as a whole if not set.
        #[serde(deserialize_with = "service")]
        pub service: String = String::new(),
        /// The authority asked for; the endpoint's own if not set.
        #[serde(deserialize_with = "text::maybe::<text::Authority, _>")]
        pub host: Option<String> = None,
    }
}

/// Bytes of a service's name: as many as fit into the shortest form of a message.
const SERVICE_BYTES_MAX: usize = 100;

fn service<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.len() > SERVICE_BYTES_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(de::Error::custom(format!(
            "`{name}` is no service\nwrite its full name, at most {SERVICE_BYTES_MAX} characters: shop.Orders"
        )));
    }
    Ok(name)
}

super::section! {
    /// A request that has to be answered as expected.
    pub struct HttpCheck {
        /// The path asked for.
        #[serde(deserialize_with = "text::one::<text::Target, _>")]
        pub path: String = "/".to_owned(),
        /// The host asked for; the endpoint's own if not set.
        #[serde(deserialize_with = "text::maybe::<text::Authority, _>")]
        pub host: Option<String> = None,
        /// The statuses that are well: `200` or `200-399`.
        pub expect: Vec<StatusRange> = vec![StatusRange { first: 200, last: 399 }],
    }
}

/// Statuses: `204`, or `200-399`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    /// The first.
    pub first: u16,
    /// The last, itself included.
    pub last: u16,
}

impl FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no range of statuses\nwrite `204` or `200-399`");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self {
            first: first.parse().map_err(|_| wrong())?,
            last: last.parse().map_err(|_| wrong())?,
        };
        let fits = (100..600).contains(&range.first) && (range.first..600).contains(&range.last);
        if fits { Ok(range) } else { Err(wrong()) }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}", self.first)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::decode::parsed(deserializer)
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for StatusRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" })
    }
}

super::section! {
    /// Passive ejection: an endpoint that keeps failing gets no requests for a while.
    pub struct Outlier {
        /// Failures in a row that eject an endpoint.
        #[serde(deserialize_with = "text::positive")]
        pub consecutive_failures: u32 = 5,
        /// For how long, the first time; longer each time it happens again.
        #[serde(deserialize_with = "text::positive")]
        pub eject_for: Period = Period::from_secs(30),
        /// The most endpoints ejected at once, percent.
        #[serde(deserialize_with = "percent")]
        pub eject_percent_max: u8 = 50,
    }
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    text::within(deserializer, 0..=100, "percentage")
}

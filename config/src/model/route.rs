//! Domains and routes: which request goes where.
//!
//! Must not: say how matching is done; docs/guides/routing.md does.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::Sound;
use super::value::{HostPattern, Method, Name};
use super::{CertificateRule, DomainTls, Listener, Rare, Responses, text};
use crate::origin::{Located, Origin};
use crate::policy::Policies;

/// A domain: hosts that belong together, and their routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its name, in logs and metrics; its first host if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The hosts it claims.
    #[serde(default)]
    pub hosts: Vec<Located<HostPattern>>,
    /// Whether it takes requests for hosts that no domain claims.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// The certificate that its clients get, whatever names it has. If not set, the one that names
    /// the host they ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Located<Name>>,
    /// How TLS is spoken to clients that ask for its hosts; as the listener has it if not set.
    #[serde(
        default,
        deserialize_with = "text::sound",
        skip_serializing_if = "Option::is_none"
    )]
    pub tls: Option<Box<DomainTls>>,
    /// The listeners it is served on; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Located<Name>>,
    /// How the gateway's own responses look here.
    #[serde(default, skip_serializing_if = "Rare::is_default")]
    pub responses: Rare<Responses>,
    /// Policies for every request of the domain.
    #[serde(default, skip_serializing_if = "Rare::is_default")]
    pub policies: Rare<Policies>,
    /// The routes.
    #[serde(default)]
    pub routes: Vec<Located<Route>>,
}

impl Domain {
    /// The name that logs and metrics carry.
    pub fn label(&self) -> &str {
        match (&self.name, self.hosts.first()) {
            (Some(name), _) => name.as_str(),
            (None, Some(host)) => host.as_str(),
            (None, None) => "default",
        }
    }

    /// Whether it is served on a listener.
    pub fn is_on(&self, listener: &Listener) -> bool {
        let mut names = self.listeners.iter();
        listener.protocol.is_http()
            && (self.listeners.is_empty() || names.any(|name| name.value == listener.name))
    }
}

/// A route: requests that match go to its upstreams, or are answered by its policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name, in logs and metrics; `route-N` by its place if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// What it takes: any of these. Everything if not set.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Located<Match>>,
    /// Policies for its requests.
    #[serde(default, skip_serializing_if = "Rare::is_default")]
    pub policies: Rare<Policies>,
    /// Where its requests go: an upstream, or several with weights. Not set when a policy answers.
    #[serde(default, skip_serializing_if = "Backends::is_empty")]
    pub to: Backends,
}

impl Route {
    /// The name that logs and metrics carry, for the route at a place counted from zero.
    pub fn label(&self, place: usize) -> Cow<'_, str> {
        match &self.name {
            Some(name) => Cow::Borrowed(name.as_str()),
            None => Cow::Owned(format!("route-{}", place + 1)),
        }
    }
}

/// One way to match: all that is set has to hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Located<PathMatch>>,
    /// It is a call of gRPC, of these. In place of `path`.
    #[serde(
        deserialize_with = "text::sound",
        skip_serializing_if = "Option::is_none"
    )]
    pub grpc: Option<Box<Located<GrpcMatch>>>,
    /// The method is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// Header fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Located<ValueMatch>>,
    /// Query parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<Located<ValueMatch>>,
    /// The client showed a certificate that this rule means.
    #[serde(
        deserialize_with = "text::sound",
        skip_serializing_if = "Option::is_none"
    )]
    pub client: Option<Box<CertificateRule>>,
}

impl Match {
    /// What it asks of the path, by itself or as the path of a call.
    pub fn asked_path(&self) -> Option<Cow<'_, Located<PathMatch>>> {
        match (&self.path, &self.grpc) {
            (Some(path), _) => Some(Cow::Borrowed(path)),
            (None, Some(call)) => call.path().map(|value| {
                Cow::Owned(Located {
                    value,
                    origin: call.origin,
                })
            }),
            (None, None) => None,
        }
    }
}

/// Which calls of gRPC match; all of them if nothing is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcMatch {
    /// The service, with its package: `shop.Orders`.
    #[serde(
        deserialize_with = "text::maybe::<text::GrpcService, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub service: Option<String>,
    /// The method of the service; every one if not set.
    #[serde(
        deserialize_with = "text::maybe::<text::GrpcMethod, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub method: Option<String>,
    /// In place of both: a regular expression for all of `service/method`, in linear time.
    #[serde(
        deserialize_with = "text::maybe::<text::Pattern, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub regex: Option<String>,
}

impl GrpcMatch {
    /// The path that these calls have (gRPC over HTTP/2, "Requests"); none for any.
    fn path(&self) -> Option<PathMatch> {
        let asked = (&self.service, &self.method, &self.regex);
        match asked {
            (Some(service), Some(method), _) => {
                Some(PathMatch::Exact(format!("/{service}/{method}")))
            }
            (Some(service), None, _) => Some(PathMatch::Prefix(format!("/{service}"))),
            (None, _, Some(regex)) => Some(PathMatch::Regex(format!("/(?:{regex})"))),
            (None, _, None) => None,
        }
    }
}

impl Sound for GrpcMatch {
    fn check(&self) -> Result<(), String> {
        if self.regex.is_some() && (self.service.is_some() || self.method.is_some()) {
            return Err(
                "`regex` is about service and method already\nkeep `regex`, or `service` and `method`"
                    .to_owned(),
            );
        }
        match (&self.service, &self.method) {
            (None, Some(method)) => Err(format!(
                "`{method}` is a method of no service\nadd `service`; `regex: '[^/]+/{method}'` takes it of every one"
            )),
            _ => Ok(()),
        }
    }
}

/// How a path matches. Paths are compared after normalisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path.
    Exact(#[serde(deserialize_with = "text::one::<text::PathText, _>")] String),
    /// Whole leading segments: `/api` takes `/api` and `/api/x`, not `/apix`.
    Prefix(#[serde(deserialize_with = "text::one::<text::PathText, _>")] String),
    /// A regular expression for the whole path, in linear time.
    Regex(#[serde(deserialize_with = "text::one::<text::Pattern, _>")] String),
}

/// How a header field or query parameter matches: exactly one of `exact`, `regex` and `present`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueMatch {
    /// The name; of a header field, whatever its case.
    pub name: String,
    /// The whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// A regular expression for the whole value, in linear time.
    #[serde(
        default,
        deserialize_with = "text::maybe::<text::Pattern, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub regex: Option<String>,
    /// Whether it has to be there, or must not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

/// Where a route's requests go.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Backends(pub Vec<Located<Backend>>);

/// An upstream with its share of a route's requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// The upstream.
    pub upstream: Name,
    /// Its share, relative to the other weights; zero for none.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

impl Backends {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Backends {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] if only.weight == 1 => only.upstream.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Backends {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Located::<OneOrMany>::deserialize(deserializer)?;
        let origin = written.origin;
        Ok(written.value.into_backends(origin))
    }
}

enum OneOrMany {
    One(Name),
    Many(Vec<Located<Backend>>),
}

impl OneOrMany {
    fn into_backends(self, origin: Origin) -> Backends {
        match self {
            Self::One(upstream) => Backends(vec![Located {
                value: Backend {
                    upstream,
                    weight: 1,
                },
                origin,
            }]),
            Self::Many(backends) => Backends(backends),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrList;
        impl<'de> Visitor<'de> for NameOrList {
            type Value = OneOrMany;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of an upstream, or a list of upstreams with weights")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                text.parse().map(OneOrMany::One).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<OneOrMany, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(NameOrList)
    }
}

impl JsonSchema for Backends {
    fn schema_name() -> Cow<'static, str> {
        "Backends".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<Name>();
        let list = generator.subschema_for::<Vec<Backend>>();
        json_schema!({ "anyOf": [name, list] })
    }
}

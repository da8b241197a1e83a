//! Settings of `rate_limit`.
//!
//! Must not: allow a limit whose memory is unbounded.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Period;

crate::model::section! {
    /// How many requests pass, and what happens to the others.
    pub struct RateLimit {
        /// Requests per `per`.
        pub rate: u32 = 0,
        /// The time that `rate` is about.
        pub per: Period = Period::from_secs(1),
        /// Requests that may come at once; as many as `rate` if not set.
        pub burst: Option<u32> = None,
        /// What is counted separately.
        pub by: RateLimitKey = RateLimitKey::ClientIp,
        /// Keys that are remembered; beyond, the one nearest to recovery is forgotten.
        pub entries_max: u32 = 65_536,
        /// The status of a refusal.
        pub status: u16 = 429,
    }
}

/// What a rate limit counts separately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitKey {
    /// Each client address; an IPv6 client by its /64.
    ClientIp,
    /// Each value of a header field.
    Header(String),
    /// Nothing: all requests of the level together.
    Route,
}

/// One rate limit, or several that all have to be met.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RateLimits(pub Vec<RateLimit>);

impl Serialize for RateLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => only.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RateLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = RateLimits;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a rate limit, or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateLimits, A::Error> {
                let one = RateLimit::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RateLimits(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RateLimits, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(RateLimits)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for RateLimits {
    fn schema_name() -> Cow<'static, str> {
        "RateLimits".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<RateLimit>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

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
use crate::model::text::{self, Checked, FieldName, Sound};

/// The longest time a whole burst may take to come back, seconds.
const BURST_SECONDS_MAX: f64 = 24.0 * 3600.0;

crate::model::section! {
    /// How many requests pass, and what happens to the others.
    pub struct RateLimit {
        /// Requests per `per`.
        #[serde(deserialize_with = "text::positive")]
        pub rate: u32 = 0,
        /// The time that `rate` is about.
        #[serde(deserialize_with = "text::positive")]
        pub per: Period = Period::from_secs(1),
        /// Requests that may come at once; as many as `rate` if not set.
        #[serde(deserialize_with = "text::positive")]
        pub burst: Option<u32> = None,
        /// What is counted separately.
        pub by: RateLimitKey = RateLimitKey::ClientIp,
        /// Keys that are remembered; beyond, the one nearest to recovery is forgotten.
        #[serde(deserialize_with = "text::positive")]
        pub entries_max: u32 = 65_536,
        /// The status of a refusal.
        #[serde(deserialize_with = "refusal")]
        pub status: u16 = 429,
    }
}

impl Sound for RateLimit {
    fn check(&self) -> Result<(), String> {
        if self.rate == 0 {
            return Err(
                "there is no rate\nadd `rate: 100` for a hundred requests a second".to_owned(),
            );
        }
        let burst = self.burst.unwrap_or(self.rate);
        let seconds = f64::from(burst) / f64::from(self.rate) * self.per.0.as_secs_f64();
        if seconds > BURST_SECONDS_MAX {
            return Err(
                "the burst would take more than a day to come back\nmake `burst` smaller or `rate` higher"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn refusal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    text::within(deserializer, 400..=599, "status of a refusal")
}

/// What a rate limit counts separately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitKey {
    /// Each client address; an IPv6 client by its /64.
    ClientIp,
    /// Each value of a header field.
    Header(#[serde(deserialize_with = "text::one::<FieldName, _>")] String),
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
                let one = text::sound(MapAccessDeserializer::new(map))?;
                Ok(RateLimits(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RateLimits, A::Error> {
                let all: Vec<Checked<RateLimit>> =
                    Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(RateLimits(all.into_iter().map(|limit| limit.0).collect()))
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

//! Settings that are rarely set: where they are not, they take a pointer.
//!
//! Must not: differ in any other way from the settings themselves.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Settings that all who did not set them share.
pub trait Shared: Default + PartialEq + 'static {
    /// What is shared.
    fn shared() -> &'static Self;
}

/// Implements `Shared`.
macro_rules! shared {
    ($($Settings:ty),*) => {
        $(impl crate::model::Shared for $Settings {
            fn shared() -> &'static Self {
                static SHARED: std::sync::LazyLock<$Settings> =
                    std::sync::LazyLock::new(Default::default);
                &SHARED
            }
        })*
    };
}
pub(crate) use shared;

/// Settings that are rarely set. It reads, prints and compares as the settings themselves.
#[derive(Clone)]
pub struct Rare<T>(Option<Box<T>>);

impl<T: Shared> Rare<T> {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        self.0.is_none()
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Shared> From<T> for Rare<T> {
    fn from(settings: T) -> Self {
        Self((settings != *T::shared()).then(|| Box::new(settings)))
    }
}

impl<T: Shared> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(settings) => settings,
            None => T::shared(),
        }
    }
}

impl<T: Shared> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Shared + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, formatter)
    }
}

impl<T: Shared + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(self, serializer)
    }
}

impl<'de, T: Shared + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

impl<T: JsonSchema> JsonSchema for Rare<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

//! What stands in for a value that is wrong or missing, so that reading goes on and finds the next
//! mistake.
//!
//! Must not: end up in a document that takes effect; there is a mistake wherever there is one.

use serde::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::Error;

/// What between them reads as whatever an item of a list or a value of a map may be.
pub(super) const CANDIDATES: &[Placeholder] = &[
    Placeholder::new("x", Contents::Nothing),
    Placeholder::new("x", Contents::EveryField),
    Placeholder::new("127.0.0.1:1", Contents::Nothing),
    Placeholder::new("/", Contents::EveryField),
];

/// A text where text will do, nothing where nothing will, and else the least there can be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placeholder {
    text: &'static str,
    contents: Contents,
}

/// What a struct is filled with.
#[derive(Debug, Clone, Copy)]
enum Contents {
    /// Its defaults, if it has them.
    Nothing,
    /// Something for each of its fields. Structs in it have their defaults.
    EveryField,
}

impl Placeholder {
    const fn new(text: &'static str, contents: Contents) -> Self {
        Self { text, contents }
    }
}

macro_rules! ones {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_u64(1)
        })*
    };
}

impl<'de> Deserializer<'de> for Placeholder {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text)
    }

    ones! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let empty: [Self; 0] = [];
        visitor.visit_seq(de::value::SeqDeserializer::new(empty.into_iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let empty: [(Self, Self); 0] = [];
        visitor.visit_map(MapDeserializer::new(empty.into_iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let fields = match self.contents {
            Contents::Nothing => &[],
            Contents::EveryField => fields,
        };
        let inside = Self::new(self.text, Contents::Nothing);
        let all = fields
            .iter()
            .map(|field| (Self::new(field, Contents::Nothing), inside));
        visitor.visit_map(MapDeserializer::new(all))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match variants.first() {
            Some(name) => visitor.visit_enum(First(name, self)),
            None => Err(Error::silent()),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Placeholder {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The first variant of an enum.
struct First(&'static str, Placeholder);

impl<'de> de::EnumAccess<'de> for First {
    type Error = Error;
    type Variant = Placeholder;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Placeholder), Error> {
        let name = BorrowedStrDeserializer::<Error>::new(self.0);
        Ok((seed.deserialize(name)?, self.1))
    }
}

impl<'de> de::VariantAccess<'de> for Placeholder {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_struct("", fields, visitor)
    }
}
